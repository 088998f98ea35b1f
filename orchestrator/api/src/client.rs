//! Asks one agent over one stream: one call at a time, in order. Spawns nothing: the caller polls
//! the connection beside the call, and decides how long to wait.

use exchange::{CallError, Connection, Exchange, filled};
use placement::{Answer, VmName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent::{
    CopyRequest, OrderRequest, PortChanged, PortRequest, Progress, VmList, VmView, WatchView, path,
};
use crate::host::{HOST_PATH, HostView};

/// Asks one agent over one stream.
#[derive(Debug)]
pub struct AgentClient(Exchange);

impl AgentClient {
    /// A client over `stream`, which must be secured and lead to the agent that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(AgentClient, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (exchange, connection) = Exchange::over(stream).await?;
        Ok((AgentClient(exchange), connection))
    }

    /// The machine that the agent stands on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn host(&mut self) -> Result<HostView, CallError> {
        self.0.get(HOST_PATH).await
    }

    /// Every VM that the agent has a record of.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn vms(&mut self) -> Result<VmList, CallError> {
        self.0.get(path::VMS).await
    }

    /// One VM.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the agent has no record of it.
    pub async fn vm(&mut self, vm: &VmName) -> Result<VmView, CallError> {
        self.0.get(&filled(path::VM, &[vm])).await
    }

    /// With whom the VM has spoken at the agent's port.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the agent has no record of it.
    pub async fn watch(&mut self, vm: &VmName) -> Result<WatchView, CallError> {
        self.0.get(&filled(path::WATCH, &[vm])).await
    }

    /// Changes what stands at a VM's port, once a move has ended.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the VM does not run there by that move.
    pub async fn change_port(
        &mut self,
        vm: &VmName,
        asked: &PortRequest,
    ) -> Result<PortChanged, CallError> {
        self.0.say(&filled(path::PORT, &[vm]), asked).await
    }

    /// Gives a command of *Fencing*.
    ///
    /// # Errors
    /// See [`CallError`]. Where the agent refused, nothing changed, but for `effect_failed`: then
    /// the same order may be given again.
    pub async fn order(&mut self, order: &OrderRequest) -> Result<Answer, CallError> {
        self.0.say(&filled(path::ORDERS, &[&order.key.vm]), order).await
    }

    /// Gives a command about the copy.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn copy(&mut self, copy: &CopyRequest) -> Result<Progress, CallError> {
        self.0.say(&filled(path::COPY, &[&copy.key.vm]), copy).await
    }
}
