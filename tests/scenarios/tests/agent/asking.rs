//! Papers, and calls to an agent with them.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use daemon::identity::{self, Credentials, IdentityPaths};
use lab::programs;
use orchestrator_api::agent::{PortChanged, PortRequest, WatchView};
use orchestrator_api::{
    AgentClient, CallError, CopyCommand, CopyRequest, OrderKey, OrderRequest, Progress, Refusal,
    VmDefinition, VmView,
};
use placement::{Answer, Authority, Command, Epoch, Identity, Owner, VmName};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Longest wait for an answer; a boot is among them.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(120);

/// A CA, and the bundles it has issued.
pub(crate) struct Papers {
    folder: TempDir,
}

impl Papers {
    pub(crate) fn new() -> Papers {
        let papers = Papers { folder: tempfile::tempdir().unwrap() };
        papers.causeway(&["pki", "init", "--out", "pki"]);
        papers
    }

    /// The folder of one bundle, issued when it is first asked for.
    pub(crate) fn bundle(&self, site: &str, role: &str, name: &str) -> PathBuf {
        let out = format!("{site}-{role}-{name}");
        let path = self.folder.path().join(&out);
        if !path.exists() {
            let what = ["--site", site, "--role", role, "--name", name, "--out", &out];
            self.causeway(&[&["pki", "issue", "--pki", "pki"], &what[..]].concat());
        }
        path
    }

    pub(crate) fn credentials(&self, site: &str, role: &str, name: &str) -> Credentials {
        let folder = self.bundle(site, role, name);
        Credentials::load(&IdentityPaths {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            authority: folder.join("ca.pem"),
        })
        .unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn causeway(&self, arguments: &[&str]) {
        let mut program = Program::new(programs::path("causeway").unwrap());
        let ended = program.args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// Calls `agent` over a connection that the test opens where it likes.
pub(crate) fn call<T>(
    credentials: &Credentials,
    agent: &Identity,
    stream: TcpStream,
    asked: impl AsyncFnOnce(&mut AgentClient) -> Result<T, CallError>,
) -> Result<T, CallError> {
    secured(credentials, agent, stream, async |stream| {
        let (mut client, connection) = AgentClient::over(stream).await?;
        tokio::select! {
            answer = asked(&mut client) => answer,
            Err(error) = connection => Err(error),
        }
    })
}

/// Calls `who` over a connection that it has secured.
pub(crate) fn secured<T>(
    credentials: &Credentials,
    who: &Identity,
    stream: TcpStream,
    calling: impl AsyncFnOnce(TlsStream<tokio::net::TcpStream>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    stream.set_nonblocking(true).unwrap();
    let called = async {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let config = credentials.client_config(who.clone());
        calling(identity::connect(config, who, stream).await.unwrap()).await
    };
    runtime.block_on(async { timeout(ANSWER_MAX, called).await }).expect("it answers")
}

/// Who drives the move.
pub(crate) fn owner(incarnation: u64) -> Owner {
    Owner { name: "serve".parse().unwrap(), incarnation }
}

pub(crate) fn authority(epoch: u64) -> Authority {
    Authority { epoch: Epoch::new(epoch), owner: owner(7) }
}

pub(crate) fn vm() -> VmName {
    "web".parse().unwrap()
}

/// An order under its own authority.
pub(crate) fn order(
    step: &str,
    authority: &Authority,
    command: Command,
    definition: Option<&VmDefinition>,
) -> OrderRequest {
    let definition = definition.cloned().map(Box::new);
    OrderRequest { key: key(step, authority), command, definition }
}

pub(crate) fn copy(step: &str, authority: &Authority, command: CopyCommand) -> CopyRequest {
    CopyRequest { key: key(step, authority), command }
}

fn key(step: &str, authority: &Authority) -> OrderKey {
    let Authority { epoch, owner } = authority.clone();
    OrderKey { vm: vm(), epoch, owner: Some(owner), step: step.parse().unwrap(), attempt: 1 }
}

/// The lab's guest, as data.
pub(crate) fn definition(words: &[String]) -> VmDefinition {
    serde_json::from_value(json!({
        "name": "web", "uuid": "6f1c7f2e-5f0a-4d5e-9a57-000000000001",
        "machine": "pc-q35-7.2", "memory_kib": lab::qemu_args::MEMORY_KIB, "processors": 1,
        "disks": [{ "bytes": 64 << 20 }],
        "cards": [{ "mac": lab::world::addresses::vm(1).mac.to_string(), "network": "app",
                    "addresses": lab::world::addresses::vm(1).ip.each() }],
        "boot": { "image": "guest", "words": words },
    }))
    .unwrap()
}

/// The refusal that this call must have met.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> (u16, Refusal) {
    match outcome {
        Err(CallError::Refused { status, refusal }) => (status, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

/// One agent, and how it is reached.
pub(crate) trait Asked {
    fn connect(&self) -> TcpStream;
    fn identity(&self) -> Identity;
    fn papers(&self) -> &Credentials;

    fn order(&self, order: &OrderRequest) -> Result<Answer, CallError> {
        self.order_as(self.papers(), order)
    }

    fn order_as(&self, papers: &Credentials, order: &OrderRequest) -> Result<Answer, CallError> {
        call(papers, &self.identity(), self.connect(), async |client| client.order(order).await)
    }

    fn copy(&self, copy: &CopyRequest) -> Result<Progress, CallError> {
        call(self.papers(), &self.identity(), self.connect(), async |client| {
            client.copy(copy).await
        })
    }

    fn change_port(&self, asked: &PortRequest) -> Result<PortChanged, CallError> {
        call(self.papers(), &self.identity(), self.connect(), async |client| {
            client.change_port(&vm(), asked).await
        })
    }

    fn watch(&self) -> Result<WatchView, CallError> {
        call(self.papers(), &self.identity(), self.connect(), async |client| {
            client.watch(&vm()).await
        })
    }

    fn vm(&self) -> Result<VmView, CallError> {
        self.vm_as(self.papers())
    }

    fn vm_as(&self, papers: &Credentials) -> Result<VmView, CallError> {
        call(papers, &self.identity(), self.connect(), async |client| client.vm(&vm()).await)
    }
}

/// Where an agent listens, in every configuration here.
pub(crate) fn configuration(site: &str, listen: SocketAddr, rest: &str) -> String {
    format!(
        "site = \"{site}\"\nname = \"hv1\"\n[control]\nlisten = \"{listen}\"\n\
         [identity]\ncertificate = \"hv1/certificate.pem\"\nkey = \"hv1/key.pem\"\n\
         authority = \"hv1/ca.pem\"\n{rest}\n\
         [[network]]\nname = \"app\"\nbridge = \"br0\"\nproxy = \"p1\"\n"
    )
}
