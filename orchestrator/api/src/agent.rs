//! What is said to an agent about a VM, and what it shows.

use std::net::IpAddr;

use placement::{Authority, Command, Epoch, Owner, PartName, Record, Release, VmName};
use serde::{Deserialize, Serialize};

use crate::definition::{Mac, VmDefinition};

/// Where each call goes; the agent's table and the client read them here.
pub mod path {
    /// `GET`, viewer and up: [`VmList`](super::VmList).
    pub const VMS: &str = "/v1/vms";
    /// `GET`, viewer and up, and the agent that the VM's record names as the other end:
    /// [`VmView`](super::VmView).
    pub const VM: &str = "/v1/vms/{vm}";
    /// `GET`, viewer and up: [`WatchView`](super::WatchView).
    pub const WATCH: &str = "/v1/vms/{vm}/watch";
    /// `POST` of a [`PortRequest`](super::PortRequest), orchestrator: [`PortChanged`](super::PortChanged).
    pub const PORT: &str = "/v1/vms/{vm}/port";
    /// `POST` of an [`OrderRequest`](super::OrderRequest), orchestrator; the other end's agent for
    /// a refusal: [`Answer`](placement::Answer).
    pub const ORDERS: &str = "/v1/vms/{vm}/orders";
    /// `POST` of a [`CopyRequest`](super::CopyRequest), orchestrator: [`Progress`](super::Progress).
    pub const COPY: &str = "/v1/vms/{vm}/copy";
}

/// What tells one command from another: the same key is the same command, said again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderKey {
    /// Of which VM.
    pub vm: VmName,
    /// Under which epoch; 1 for the first placement.
    pub epoch: Epoch,
    /// Who drives it; nobody where an agent asks for a refusal.
    pub owner: Option<Owner>,
    /// The step of the move.
    pub step: PartName,
    /// Which try of that step, from 1.
    pub attempt: u32,
}

/// A command of *Fencing*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// A repetition gets the same answer.
    pub key: OrderKey,
    /// What is asked.
    pub command: Command,
    /// What the VM is; with `place` and `reserve`, which make a process of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<VmDefinition>>,
}

impl OrderRequest {
    /// Whether key and command speak of the same move and owner.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let same = |authority: &Authority| {
            authority.epoch == self.key.epoch && Some(&authority.owner) == self.key.owner.as_ref()
        };
        match &self.command {
            Command::Place { owner } => self.key.owner.as_ref() == Some(owner),
            Command::Claim { authority, .. }
            | Command::GiveBack { authority }
            | Command::Reserve { authority }
            | Command::Hold { authority }
            | Command::Stop { authority }
            | Command::Release { authority }
            | Command::Start { authority, .. }
            | Command::Run { authority, .. }
            | Command::Forget { authority, .. }
            | Command::Arm { authority, .. }
            | Command::Refuse { authority: Some(authority), .. } => same(authority),
            Command::Refuse { authority: None, .. } => self.key.owner.is_none(),
            Command::Reclaim { .. } => true,
        }
    }
}

/// What the source's agent does about the copy, under the standing claim. Each begins something and
/// answers at once; how far it is, [`VmView::progress`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "copy", deny_unknown_fields)]
pub enum CopyCommand {
    /// Mirror the disks, while the VM runs.
    MirrorStart,
    /// Copy memory, while the VM runs and the mirror is in step.
    MemoryStart {
        /// The pace. Where the VM switches over by itself, the copy is given up and the VM runs on:
        /// reserve anew, and begin again at half of it.
        bytes_per_s: u64,
        /// So little may remain for the copy to count as ready: pace times the pause budget.
        remaining_bytes_max: u64,
    },
    /// After the VM was stopped by order: the rest of memory, the mirror's end, device state.
    Finish,
    /// Give the copy up, whatever it is doing. A VM that an order stopped stays so.
    Cancel,
}

/// A command about the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyRequest {
    /// A repetition gets the same answer. Its epoch and owner are the claim acted under.
    pub key: OrderKey,
    /// What is asked.
    pub command: CopyCommand,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Disks are being mirrored.
    Mirroring,
    /// Every disk's mirror follows.
    InStep,
    /// Memory is being copied.
    Copying,
    /// So little remains that the VM may be stopped; the copy waits for that.
    Ready,
    /// The VM was stopped, and the rest is on its way.
    Finishing,
    /// All of it is at the target, the mirrors' last blocks included.
    Completed,
    /// It was given up by order.
    Cancelled,
    /// It ended by itself.
    Failed,
}

/// A copy, as last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Of which move.
    pub epoch: Epoch,
    /// How far.
    pub phase: Phase,
    /// What the mirrors have to carry, as known so far.
    pub disk_bytes: u64,
    /// Of it, carried.
    pub disk_done_bytes: u64,
    /// Memory carried, repeats included.
    pub memory_done_bytes: u64,
    /// Memory that is still to be carried.
    pub memory_remaining_bytes: u64,
    /// Why it failed.
    pub failure: Option<String>,
    /// It failed because the VM switched over by itself; it runs on, and may be copied anew.
    #[serde(default)]
    pub has_switched_over: bool,
}

/// What one process of a VM does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessDoes {
    /// It runs the VM.
    Runs,
    /// It has not answered: it may run.
    Unsure,
    /// The VM stands still.
    Stopped,
    /// It stands still, and all of it is at the target.
    Completed,
    /// It waits to receive.
    Waits,
    /// It has received everything, and stands still.
    Loaded,
}

/// One process of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessView {
    /// What made it.
    pub made_by: Release,
    /// Its number on the host.
    pub pid: u32,
    /// What it does.
    pub does: ProcessDoes,
}

/// What an agent knows of one VM. The record is as it lies on the disk; processes are as last
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmView {
    /// What is remembered.
    pub record: Record,
    /// What the VM is.
    pub definition: Option<VmDefinition>,
    /// Every process of it here.
    pub processes: Vec<ProcessView>,
    /// The copy of the move under way, or of the last.
    pub progress: Option<Progress>,
}

/// Conversations, and peers, that are shown of one VM.
pub const WATCHED_MAX: usize = 65_536;

/// With whom a VM has spoken at this agent's port, as the port itself saw: its neighbours, and whom
/// it reached through its gateway. Of what was silent for an hour nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchView {
    /// Since when it is watched, in seconds since 1970: what is older and silent is not here.
    pub since_s: Option<u64>,
    /// Each conversation once; at most [`WATCHED_MAX`].
    pub conversations: Vec<Spoken>,
    /// Each peer once; at most [`WATCHED_MAX`].
    pub peers: Vec<WatchedPeer>,
    /// Nothing was left out for the bounds.
    pub is_whole: bool,
}

/// Both ends of a conversation, the VM's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spoken {
    /// By which protocol.
    pub by: Transport,
    /// The VM's address.
    pub vm: IpAddr,
    /// Its port.
    pub vm_port: u16,
    /// The other's address.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// When its first frame passed the port, in milliseconds since 1970 and to the second; told where
    /// the VM came by a move, of what began to pass since then.
    #[serde(default)]
    pub first_at_ms: Option<u64>,
    /// When its last frame did, likewise.
    #[serde(default)]
    pub last_at_ms: Option<u64>,
}

/// What a conversation is held by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Somebody that the VM has spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedPeer {
    /// Its address.
    pub address: IpAddr,
    /// Where the VM sent what was for it: its own MAC, or its gateway's. Not known where the proxy
    /// stood between, or where it was seen at several.
    pub mac: Option<Mac>,
}

/// What is to become of the port of a VM that runs here and came by a move. It names that move, and is
/// bound to no epoch: the next one may be under way, of which nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRequest {
    /// The release by which the VM came.
    pub release: Release,
    /// What is asked. A repetition finds it done.
    pub command: PortCommand,
}

/// What may be asked of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "port", deny_unknown_fields)]
pub enum PortCommand {
    /// The VM is back where its flows began, and what was kept back is released: what is for it goes
    /// to it by itself.
    ComeHome,
    /// Nothing of it is left elsewhere: it is told where these machines are, and speaks to them
    /// itself again.
    LiftTakeOver {
        /// Those of whom the VM may believe something else; at most [`ANNOUNCED_MAX`].
        announced: Vec<Announced>,
    },
}

/// Machines that a VM is told of in one go.
pub const ANNOUNCED_MAX: usize = 4_096;

/// A machine, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// It is a router.
    #[serde(default)]
    pub is_router: bool,
}

/// The port is as it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortChanged {}

/// Every VM that an agent has a record of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmList {
    /// By name.
    pub vms: Vec<VmView>,
}
