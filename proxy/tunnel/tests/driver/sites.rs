//! Sites a and b with a tunnel between them, and programs at its ends.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use placement::{Epoch, Identity, Owner};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tunnel::driver::{
    ChannelOptions, Credentials, PacketPlan, PeerPlan, PeerStatus, Reach, Tunnel, TunnelEvent,
    TunnelPlan,
};
use tunnel::protocol::bounds::Limits;
use tunnel::protocol::channel::Grant;
use tunnel::protocol::permits::{Permit, Permits};

use crate::pki::Authority;
use crate::wan::Wan;

/// Longest that anything here may take, beside compilers and other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn identity(site: &str, role: &str) -> Identity {
    format!("causeway://site/{site}/role/{role}/name/p1").parse().unwrap()
}

pub(crate) fn proxy(site: &str) -> Identity {
    identity(site, "proxy")
}

pub(crate) fn owner() -> Owner {
    Owner { name: "serve".parse().unwrap(), incarnation: 1 }
}

pub(crate) fn grant(channel: &str) -> Grant {
    Grant {
        vm: "web".parse().unwrap(),
        epoch: Epoch::new(2),
        from: "a".parse().unwrap(),
        to: "b".parse().unwrap(),
        channel: channel.parse().unwrap(),
    }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it took too long")
}

/// Waits until `wanted` is true, looking whenever the peer has had time to speak.
pub(crate) async fn until(mut wanted: impl FnMut() -> bool) {
    let looking = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(looking).await;
}

/// Waits for an event.
pub(crate) async fn seen(
    events: &mut Receiver<TunnelEvent>,
    mut wanted: impl FnMut(&TunnelEvent) -> bool,
) -> TunnelEvent {
    let looking = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return event,
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => panic!("{missed} events were missed"),
                Err(RecvError::Closed) => panic!("the tunnel ended"),
            }
        }
    };
    soon(looking).await
}

pub(crate) fn plan(
    folder: &TempDir,
    own: &Identity,
    peers: Vec<PeerPlan>,
    credentials: Arc<dyn Credentials>,
) -> TunnelPlan {
    TunnelPlan {
        own: own.clone(),
        peers,
        permits: Permits::default(),
        entrances: folder.path().join(own.site.as_str()),
        limits: Limits::default(),
        credentials,
        packets: None,
    }
}

fn start_b(
    folder: &TempDir,
    ca: &Authority,
    limits: Limits,
    permits: &Permits,
    packets: Option<PacketPlan>,
    listening: TcpListener,
) -> Tunnel {
    let own = proxy("b");
    let at_b = PeerPlan { identity: proxy("a"), reach: Reach::Await };
    let mut plan = plan(folder, &own, vec![at_b], ca.issue(&own));
    (plan.limits, plan.permits, plan.packets) = (limits, permits.clone(), packets);
    Tunnel::start(plan, Some(listening), []).unwrap()
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) struct Sites {
    pub(crate) folder: TempDir,
    pub(crate) a: Tunnel,
    pub(crate) b: Tunnel,
    pub(crate) at_a: Receiver<TunnelEvent>,
    pub(crate) at_b: Receiver<TunnelEvent>,
    pub(crate) wan: Wan,
    ca: Authority,
    permits: Permits,
    packets_b: Option<PacketPlan>,
    address: SocketAddr,
}

impl Sites {
    pub(crate) async fn new(limits: Limits, channels: &[&str]) -> Sites {
        Sites::with_packets(limits, channels, [None, None]).await
    }

    /// With what packets need, at a and at b.
    pub(crate) async fn with_packets(
        limits: Limits,
        channels: &[&str],
        [packets_a, packets_b]: [Option<PacketPlan>; 2],
    ) -> Sites {
        let closed = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(closed).tempdir().unwrap();
        let ca = Authority::new();
        let (listening, address) = listener().await;
        let wan = Wan::new(address).await;
        let (own_a, own_b) = (proxy("a"), proxy("b"));
        let permit = |channel: &&str| Permit {
            channel: channel.parse().unwrap(),
            vm: None,
            target: format!("unix:{}/{{vm}}.{channel}", folder.path().display()).parse().unwrap(),
        };
        let permits = Permits::new(channels.iter().map(permit).collect());
        let b = start_b(&folder, &ca, limits, &permits, packets_b.clone(), listening);
        let at_b = b.subscribe();
        let at_a = PeerPlan { identity: own_b, reach: Reach::Dial(wan.address) };
        let mut plan_a = plan(&folder, &own_a, vec![at_a], ca.issue(&own_a));
        (plan_a.limits, plan_a.packets) = (limits, packets_a);
        let a = Tunnel::start(plan_a, None, []).unwrap();
        let at_a = a.subscribe();
        // Not an event: it may have come before there was anybody to listen.
        until(|| a.status().peers[0].is_connected).await;
        Sites { folder, a, b, at_a, at_b, wan, ca, permits, packets_b, address }
    }

    /// Site b's proxy dies and comes again, at the same address and without memory.
    pub(crate) async fn restart_b(&mut self) {
        let nothing = plan(&self.folder, &proxy("c"), vec![], self.ca.issue(&proxy("c")));
        drop(std::mem::replace(&mut self.b, Tunnel::start(nothing, None, []).unwrap()));
        let rebound = async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let listening = soon(rebound).await;
        self.b = start_b(
            &self.folder,
            &self.ca,
            Limits::default(),
            &self.permits,
            self.packets_b.clone(),
            listening,
        );
        self.at_b = self.b.subscribe();
    }

    /// Grants a channel at both ends; returns where programs at a connect.
    pub(crate) fn granted(&self, channel: &str, options: &ChannelOptions) -> PathBuf {
        let grant = grant(channel);
        assert_eq!(self.b.grant(&grant, &owner(), options).unwrap(), None);
        self.a.grant(&grant, &owner(), options).unwrap().unwrap()
    }

    /// What listens at b for a channel.
    pub(crate) fn target(&self, channel: &str) -> UnixListener {
        UnixListener::bind(self.folder.path().join(format!("web.{channel}"))).unwrap()
    }

    /// A program at each end of a channel, connected through it.
    pub(crate) async fn joined(
        &self,
        channel: &str,
        options: &ChannelOptions,
    ) -> (UnixStream, UnixStream) {
        let target = self.target(channel);
        let entrance = self.granted(channel, options);
        let near = UnixStream::connect(entrance).await.unwrap();
        let (far, _) = soon(target.accept()).await.unwrap();
        (near, far)
    }

    pub(crate) fn peer_of_a(&self) -> PeerStatus {
        self.a.status().peers.remove(0)
    }

    pub(crate) fn peer_of_b(&self) -> PeerStatus {
        self.b.status().peers.remove(0)
    }
}
