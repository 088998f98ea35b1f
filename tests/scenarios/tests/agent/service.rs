//! `causeway serve` at the management desk, and an operator who types.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lab::host::Host;
use lab::programs;
use lab::sandbox::{Launch, Process};
use lab::world::{World, addresses};
use orchestrator_api::VmDefinition;
use orchestrator_api::operator::{MoveState, MoveView};
use rustix::process::Signal;

use crate::asking::Papers;
use crate::crew::{WAIT_MAX, until};

const CONFIG: &str = "/etc/causeway/serve.toml";
const OPERATOR: &str = "/etc/causeway/operator.toml";
const GATES: &str = "/run/causeway/gates";
/// Longest command: a whole move is among them.
const COMMAND_MAX: Duration = Duration::from_secs(180);

/// The service, and everything that an operator needs to ask it.
pub(crate) struct Service {
    desk: Host,
    process: Option<Process>,
}

impl Service {
    /// Writes what it needs, and starts it.
    pub(crate) fn start(world: &World, papers: &Papers) -> Service {
        Service::start_as(world, papers, &configuration(world, false))
    }

    /// The same, which knows a name server at each site, too.
    pub(crate) fn start_with_names(world: &World, papers: &Papers) -> Service {
        Service::start_as(world, papers, &configuration(world, true))
    }

    fn start_as(world: &World, papers: &Papers, configuration: &str) -> Service {
        let desk = world.desk();
        for (role, name) in [("orchestrator", "serve"), ("operator", "ada")] {
            let bundle = papers.bundle("a", role, name);
            for file in ["certificate.pem", "key.pem", "ca.pem"] {
                let bytes = fs::read(bundle.join(file)).unwrap();
                put(&desk, &format!("/etc/causeway/{name}/{file}"), &bytes);
            }
        }
        put(&desk, CONFIG, configuration.as_bytes());
        let address = addresses::desk().v4;
        let operator = format!(
            "[server]\naddress = \"{address}:7400\"\nsite = \"a\"\nname = \"serve\"\n{}",
            identity("ada")
        );
        put(&desk, OPERATOR, operator.as_bytes());
        fs::create_dir_all(desk.place().path(Path::new(GATES))).unwrap();
        let mut service = Service { desk, process: None };
        service.begin();
        service
    }

    pub(crate) fn begin(&mut self) {
        let words = ["serve", "run", "--config", CONFIG];
        let launch = Launch::ours("causeway").unwrap().args(words).log("serve");
        self.process = Some(self.desk.spawn(&launch).unwrap());
        until("the service answers", || self.types(&["status"]).status.success().then_some(()));
    }

    /// As a power cut would.
    pub(crate) fn killed(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL).unwrap();
        process.wait(WAIT_MAX).unwrap();
    }

    /// `causeway` with these words, typed at the desk.
    pub(crate) fn types(&self, words: &[&str]) -> Output {
        let program = programs::path("causeway").unwrap();
        let program = program.to_str().unwrap();
        let command = [&[program], words, &["--config", OPERATOR]].concat();
        self.desk.run_with(&command, &[], COMMAND_MAX).unwrap()
    }

    /// The same, which must end with this code; gives what it said on both outputs.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str], code: i32) -> String {
        said(words, &self.types(words), code)
    }

    /// The same without the operator's file: it asks nobody.
    #[track_caller]
    pub(crate) fn says_without_file(&self, words: &[&str], code: i32) -> String {
        let program = programs::path("causeway").unwrap();
        let command = [&[program.to_str().unwrap()], words].concat();
        said(words, &self.desk.run_with(&command, &[], COMMAND_MAX).unwrap(), code)
    }

    /// A file at the desk that a command has written.
    pub(crate) fn written(&self, path: &str) -> String {
        fs::read_to_string(self.desk.place().path(Path::new(path))).unwrap()
    }

    /// The definition, as an operator has it in a file.
    pub(crate) fn file_of(&self, definition: &VmDefinition) -> String {
        let path = "/etc/causeway/web.toml".to_owned();
        put(&self.desk, &path, toml::to_string(definition).unwrap().as_bytes());
        path
    }

    pub(crate) fn close_gate(&self, gate: &str) {
        put(&self.desk, &format!("{GATES}/{gate}"), b"");
    }

    pub(crate) fn open_gate(&self, gate: &str) {
        fs::remove_file(self.desk.place().path(&Path::new(GATES).join(gate))).unwrap();
    }

    /// A move, as it is told.
    pub(crate) fn view(&self, id: &str) -> Option<MoveView> {
        let output = self.types(&["status", id, "--json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// Waits until a move waits at this gate.
    #[track_caller]
    pub(crate) fn waits_at(&self, id: &str, gate: &str) {
        until(&format!("{id} at {gate}"), || {
            let view = self.view(id)?;
            assert!(!view.state.has_ended(), "{view:?}");
            (view.waits_at_gate.as_deref() == Some(gate)).then_some(())
        });
    }

    /// Waits until a move has ended.
    #[track_caller]
    pub(crate) fn end_of(&self, id: &str) -> MoveView {
        until(&format!("the end of {id}"), || {
            let view = self.view(id)?;
            assert!(!matches!(view.state, MoveState::Stuck { .. }), "{view:?}");
            view.state.has_ended().then_some(view)
        })
    }
}

/// What a command said on both outputs; it must have ended with this code.
#[track_caller]
fn said(words: &[&str], output: &Output, code: i32) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    said
}

fn configuration(world: &World, has_names: bool) -> String {
    let mut text = format!(
        "site = \"a\"\nname = \"serve\"\n[control]\nlisten = \"{}:7400\"\n{}\
         [state]\nfolder = \"/var/lib/causeway/serve\"\n[gates]\nfolder = \"{GATES}\"\n",
        addresses::desk().v4,
        identity("serve")
    );
    for site in world.sites() {
        let (name, proxy) = (site.name(), site.proxy_address().v4);
        let agent = site.hypervisor_address().v4;
        text += &format!(
            "[[sites]]\nname = \"{name}\"\n\
             [[sites.proxy]]\nname = \"p1\"\naddress = \"{proxy}:7401\"\n\
             [[sites.agent]]\nname = \"hv1\"\naddress = \"{agent}:7402\"\n"
        );
        if has_names {
            text += &format!("[[sites.name_server]]\nname = \"ns1\"\naddress = \"{proxy}:7404\"\n");
        }
    }
    text
}

fn identity(name: &str) -> String {
    format!(
        "[identity]\ncertificate = \"{name}/certificate.pem\"\nkey = \"{name}/key.pem\"\n\
         authority = \"{name}/ca.pem\"\n"
    )
}

/// A file at the desk that is nobody else's: keys are among them.
fn put(desk: &Host, to: &str, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    desk.place().write_file(Path::new(to), bytes).unwrap();
    let path = desk.place().path(Path::new(to));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
