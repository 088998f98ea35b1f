//! Nothing is written for exactly two sites.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use placement::Epoch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tunnel::driver::{ChannelError, ChannelOptions, PeerPlan, Reach, Tunnel, TunnelEvent};
use tunnel::protocol::channel::Grant;
use tunnel::protocol::permits::{Permit, Permits};

use crate::pki::Authority;
use crate::sites::{listener, owner, plan, proxy, seen, soon};

fn grant(vm: &str, from: &str, to: &str) -> Grant {
    Grant {
        vm: vm.parse().unwrap(),
        epoch: Epoch::new(5),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        channel: "mirror".parse().unwrap(),
    }
}

#[tokio::test]
async fn three_sites_reach_each_other_and_keep_their_channels_apart() {
    let closed = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(closed).tempdir().unwrap();
    let ca = Authority::new();
    let (listening_b, address_b) = listener().await;
    let (listening_c, address_c) = listener().await;
    let dials = |site, address| PeerPlan { identity: proxy(site), reach: Reach::Dial(address) };
    let awaits = |site| PeerPlan { identity: proxy(site), reach: Reach::Await };
    let start = |site, peers, listening| {
        let mut plan = plan(&folder, &proxy(site), peers, ca.issue(&proxy(site)));
        let target = format!("unix:{}/{{vm}}.at-{site}", folder.path().display());
        let target = target.parse().unwrap();
        plan.permits =
            Permits::new(vec![Permit { channel: "mirror".parse().unwrap(), vm: None, target }]);
        Tunnel::start(plan, listening, []).unwrap()
    };
    let c = start("c", vec![awaits("a"), awaits("b")], Some(listening_c));
    let b = start("b", vec![awaits("a"), dials("c", address_c)], Some(listening_b));
    let mut at_b = b.subscribe();
    let a = start("a", vec![dials("b", address_b), dials("c", address_c)], None);
    let mut at_a = a.subscribe();
    for events in [&mut at_a, &mut at_b] {
        for _ in 0..2 {
            seen(events, |event| matches!(event, TunnelEvent::Connected { .. })).await;
        }
    }
    let moves = [("web", "a", "c", &a, &c), ("sql", "b", "c", &b, &c), ("dns", "b", "a", &b, &a)];
    for (vm, from, to, at_from, at_to) in moves {
        let target = UnixListener::bind(folder.path().join(format!("{vm}.at-{to}"))).unwrap();
        let options = ChannelOptions::default();
        assert_eq!(at_to.grant(&grant(vm, from, to), &owner(), &options).unwrap(), None);
        let entrance = at_from.grant(&grant(vm, from, to), &owner(), &options).unwrap().unwrap();
        let mut near = UnixStream::connect(entrance).await.unwrap();
        let (mut far, _) = soon(target.accept()).await.unwrap();
        near.write_all(vm.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        let mut read = String::new();
        soon(far.read_to_string(&mut read)).await.unwrap();
        assert_eq!(read, vm);
    }
    let none = a.grant(&grant("web", "a", "d"), &owner(), &ChannelOptions::default());
    assert!(matches!(none, Err(ChannelError::NoPeer(_))), "{none:?}");
    let theirs = a.grant(&grant("web", "b", "c"), &owner(), &ChannelOptions::default());
    assert!(matches!(theirs, Err(ChannelError::Grant(_))), "{theirs:?}");
}
