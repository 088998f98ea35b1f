//! A client over one stream: one call at a time, in order.

use exchange::{CallError, Connection, Exchange, filled};
use placement::VmName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Names, Reloaded, Restore, Shorten, Status, Steer, Taken, path};

/// Asks one name server over one stream.
#[derive(Debug)]
pub struct Client(Exchange);

impl Client {
    /// A client over `stream`, which must be secured and lead to the name server that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(Client, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (exchange, connection) = Exchange::over(stream).await?;
        Ok((Client(exchange), connection))
    }

    /// How the name server is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn status(&mut self) -> Result<Status, CallError> {
        self.0.get(path::STATUS).await
    }

    /// Has it read its configuration and certificates again.
    ///
    /// # Errors
    /// See [`CallError`]; where it refused, it runs on unchanged.
    pub async fn reload(&mut self) -> Result<Reloaded, CallError> {
        self.0.post(path::RELOAD).await
    }

    /// Its metrics, as text for Prometheus.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn metrics(&mut self) -> Result<String, CallError> {
        self.0.get_text(path::METRICS).await
    }

    /// All names that follow VMs, and where each points.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn names(&mut self) -> Result<Names, CallError> {
        self.0.get(path::NAMES).await
    }

    /// Shortens the TTL of a VM's names.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the epoch is over or somebody else's.
    pub async fn shorten(&mut self, vm: &VmName, order: &Shorten) -> Result<Taken, CallError> {
        self.0.say(&filled(path::VM_SHORTEN, &[vm]), order).await
    }

    /// Says where a VM runs from now on.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that a name of the VM has no address there.
    pub async fn steer(&mut self, vm: &VmName, order: &Steer) -> Result<Taken, CallError> {
        self.0.say(&filled(path::VM_STEER, &[vm]), order).await
    }

    /// Restores the TTL of a VM's names.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn restore(&mut self, vm: &VmName, order: &Restore) -> Result<Taken, CallError> {
        self.0.say(&filled(path::VM_RESTORE, &[vm]), order).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_vm() {
        let vm: VmName = "web-1".parse().unwrap();
        assert_eq!(filled(path::VM_STEER, &[&vm]), "/v1/vms/web-1/steer");
    }

    #[test]
    fn an_order_with_more_in_it_than_known_is_refused() {
        let sound = r#"{"authority":{"epoch":2,"owner":"s.0000000000000001"},"to":"b"}"#;
        let steer: Steer = serde_json::from_str(sound).unwrap();
        assert_eq!(steer.to.as_str(), "b");
        let more = sound.replace("\"to\"", "\"via\":\"c\",\"to\"");
        assert!(serde_json::from_str::<Steer>(&more).is_err());
    }
}
