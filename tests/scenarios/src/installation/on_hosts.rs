//! An installation on the lab's machines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::host::Host;
use lab::sandbox::{Launch, Process};
use lab::world::World;
use placement::{Identity, Role};

use super::{Installation, InstallationError, Part};

/// Where a host has the folders of its parts.
pub const ON_HOST: &str = "/etc/causeway";

/// Copies every part's folder to its host and starts the daemons, all at once: they wait for each
/// other. Each writes a log that is called as its folder, and ends with its handle.
///
/// # Errors
/// A folder cannot be copied, or a program not be started.
pub fn start(
    world: &World,
    installation: &Installation,
) -> Result<Vec<Process>, InstallationError> {
    let mut daemons = Vec::new();
    for part in installation.parts() {
        let host = host_of(world, part.identity());
        copy(&host, part)?;
        if let Some(launch) = launch(part)? {
            daemons.push(host.spawn(&launch)?);
        }
    }
    Ok(daemons)
}

/// The machine of the lab that a part stands on.
#[must_use]
pub fn host_of(world: &World, identity: &Identity) -> Host {
    match identity.role {
        Role::Proxy | Role::Gslb => world.site(identity.site.as_str()).proxy(),
        Role::Agent => world.site(identity.site.as_str()).hypervisor(),
        Role::Orchestrator | Role::Operator | Role::Viewer => world.desk(),
    }
}

/// Where a part's host has one of its files.
#[must_use]
pub fn on_host(part: &Part, file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!("{ON_HOST}/{}/{name}", part.name())
}

/// How a daemon is started; nothing for who only types.
fn launch(part: &Part) -> Result<Option<Launch>, InstallationError> {
    let (program, words): (&str, &[&str]) = match part.identity().role {
        Role::Proxy => ("causeway-proxy", &["run"]),
        Role::Gslb => ("causeway-gslb", &["run"]),
        Role::Agent => ("causeway", &["agent", "run"]),
        Role::Orchestrator => ("causeway", &["serve", "run"]),
        Role::Operator | Role::Viewer => return Ok(None),
    };
    let config = on_host(part, &part.configuration());
    let launch = Launch::ours(program)?.args(words.iter().copied());
    Ok(Some(launch.args(["--config", &config]).log(part.name())))
}

/// A part's folder to its host, with the permissions that it has.
fn copy(host: &Host, part: &Part) -> Result<(), InstallationError> {
    for file in part.files()? {
        let unreadable = |cause| InstallationError::Unreadable { path: file.clone(), cause };
        let bytes = fs::read(&file).map_err(unreadable)?;
        let mode = fs::metadata(&file).map_err(unreadable)?.permissions().mode();
        let to = on_host(part, &file);
        host.place().write_file(Path::new(&to), bytes)?;
        let seen = host.place().path(Path::new(&to));
        fs::set_permissions(&seen, fs::Permissions::from_mode(mode)).map_err(unreadable)?;
    }
    Ok(())
}
