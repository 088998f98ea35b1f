//! The wires of a world: every veth pair is made with its ends in the two machines that it joins,
//! so that nothing of the lab ever shows on the machine itself.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::addresses::Mac;
use crate::LabError;
use crate::host::Host;

/// One end of a wire.
pub(super) struct End {
    netns: PathBuf,
    name: String,
    mac: Option<Mac>,
}

impl End {
    pub(super) fn new(host: &Host, name: impl Into<String>) -> Self {
        Self { netns: host.netns_path(), name: name.into(), mac: None }
    }

    pub(super) fn with_mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    fn text(&self) -> String {
        let mut text = self.name.clone();
        if let Some(mac) = self.mac {
            let _ = write!(text, " address {mac}");
        }
        let _ = write!(text, " netns {}", self.netns.display());
        text
    }
}

/// Makes all wires in one go.
pub(super) fn connect(wires: &[(End, End)]) -> Result<(), LabError> {
    let lines: String = wires
        .iter()
        .map(|(one, other)| {
            let (one, other) = (one.text(), other.text());
            format!("link add {one} type veth peer name {other}\n")
        })
        .collect();
    let failed = |cause| LabError::refused("run `ip -batch`", cause);
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(lines.as_bytes()).map_err(failed)?;
    }
    let output = ip.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::CommandFailed {
        command: "ip -batch, for the wires of a world".to_owned(),
        place: "the machine's own namespace".to_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
