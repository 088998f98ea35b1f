//! `causeway agent check`: says what an agent would understand and be, and changes nothing.

use std::fmt::Write;
use std::path::Path;

use crate::config::{Accelerator, Network};
use crate::run::Loaded;

/// What was understood, for people.
#[must_use]
pub fn told(path: &Path, loaded: &Loaded) -> String {
    let config = &loaded.config;
    let accelerator = match config.qemu.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let mut text = format!("{}: sound\n\n", path.display());
    let mut say = |what: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {what:<12} {value}");
    };
    say("identity", loaded.credentials.identity().to_string());
    say("control", format!("listens on {}", config.basics.listen));
    say("state", config.basics.state_folder.display().to_string());
    let (program, user) = (config.qemu.program.display(), &config.qemu.user);
    say("qemu", format!("{program} as {} (uid {}), {accelerator}", user.name, user.uid));
    say("disks", config.folders.disks.display().to_string());
    say("sockets", config.folders.sockets.display().to_string());
    for image in &config.images {
        say("image", format!("{}: {}", image.name, image.kernel.display()));
    }
    for network in &config.networks {
        let Network { name, bridge, proxy, proxy_address } = network;
        let asked = proxy_address.map_or_else(
            || "which is not asked to keep packets back".to_owned(),
            |address| format!("asked at {address}"),
        );
        say("network", format!("{name}: bridge {bridge}, leg {proxy}, {asked}"));
    }
    text
}
