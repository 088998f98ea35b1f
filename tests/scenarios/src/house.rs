//! A folder with all that a proxy needs: a CA and bundles from `causeway pki`, a configuration.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use daemon::identity::{Credentials, IdentityPaths};
use placement::{Identity, Role};
use tempfile::TempDir;

use crate::running::SOON;

/// Between two looks at whether a program has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where [`House::configure`] begins.
pub const CONFIG: &str = r#"site = "a"

[control]
listen = "127.0.0.1:0"

[identity]
certificate = "p1/certificate.pem"
key = "p1/key.pem"
authority = "p1/ca.pem"

[state]
folder = "state"

[log]
level = "info"
"#;

/// One site's worth of files, gone with the value.
#[derive(Debug)]
pub struct House {
    folder: TempDir,
}

impl House {
    /// A CA, the bundle of proxy p1 of site a, and its configuration.
    ///
    /// # Panics
    /// `causeway pki` does not work.
    #[must_use]
    pub fn new() -> House {
        let house = House { folder: tempfile::tempdir().expect("a folder for a test") };
        house.causeway(&["pki", "init", "--out", "pki"]).sound();
        house.issue("p1", Role::Proxy, "p1", 30);
        house.configure(CONFIG);
        house
    }

    /// A path in the house.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The identity of its proxy.
    ///
    /// # Panics
    /// Never: the text is one.
    #[must_use]
    pub fn proxy(&self) -> Identity {
        "causeway://site/a/role/proxy/name/p1".parse().expect("an identity")
    }

    /// Writes the proxy's configuration anew.
    ///
    /// # Panics
    /// The disk is full.
    pub fn configure(&self, text: &str) {
        self.configure_as("proxy.toml", text);
    }

    /// Writes the configuration of another proxy in this house.
    ///
    /// # Panics
    /// The disk is full.
    pub fn configure_as(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("a configuration on disk");
    }

    /// Runs `causeway` in the house, to its end.
    ///
    /// # Panics
    /// It cannot be started, or does not end.
    #[must_use]
    pub fn causeway(&self, arguments: &[&str]) -> Ended {
        self.ended("causeway", arguments)
    }

    /// Runs `causeway-proxy` in the house, to its end.
    ///
    /// # Panics
    /// It cannot be started, or does not end.
    #[must_use]
    pub fn causeway_proxy(&self, arguments: &[&str]) -> Ended {
        self.ended("causeway-proxy", arguments)
    }

    /// Has `causeway pki` make a bundle in a new folder.
    ///
    /// # Panics
    /// It refused.
    pub fn issue(&self, out: &str, role: Role, name: &str, days: u32) {
        self.issue_at("a", out, role, name, days);
    }

    /// Has `causeway pki` make a bundle for another site in a new folder.
    ///
    /// # Panics
    /// It refused.
    pub fn issue_at(&self, site: &str, out: &str, role: Role, name: &str, days: u32) {
        let (role, days) = (role.as_str(), days.to_string());
        let what = ["--site", site, "--role", role, "--name", name, "--days", &days];
        let where_to = ["pki", "issue", "--pki", "pki", "--out", out];
        self.causeway(&[&where_to[..], &what[..]].concat()).sound();
    }

    /// The papers of a caller with this role, fresh from `causeway pki`.
    ///
    /// # Panics
    /// They are not in order.
    #[must_use]
    pub fn papers(&self, role: Role) -> Credentials {
        let folder = format!("caller-{role}");
        if !self.path(&folder).exists() {
            self.issue(&folder, role, "caller", 30);
        }
        Credentials::load(&IdentityPaths {
            certificate: self.path(&folder).join("certificate.pem"),
            key: self.path(&folder).join("key.pem"),
            authority: self.path(&folder).join("ca.pem"),
        })
        .expect("papers from `causeway pki` are in order")
    }

    fn ended(&self, name: &str, arguments: &[&str]) -> Ended {
        let program = lab::programs::path(name).expect("a program of the workspace");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let started = Instant::now();
        while child.try_wait().expect("a child can be waited for").is_none() {
            if started.elapsed() > SOON {
                child.kill().expect("a child can be killed");
                let said = child.wait_with_output().expect("it said something");
                panic!("{name} {arguments:?} does not end: {:?}", Ended(said).stderr());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ended(child.wait_with_output().expect("it said something"))
    }
}

impl Default for House {
    fn default() -> House {
        House::new()
    }
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ended(Output);

impl Ended {
    /// Its exit code.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    /// Its standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Its standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Insists that it did what it was asked.
    ///
    /// # Panics
    /// It did not.
    pub fn sound(&self) {
        assert_eq!(self.code(), Some(0), "{}", self.stderr());
    }
}
