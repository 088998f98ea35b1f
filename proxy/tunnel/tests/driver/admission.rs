//! Who is let in, and what may be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tunnel::driver::{ChannelOptions, Credentials, PeerPlan, Reach, Tunnel, TunnelEvent};
use tunnel::protocol::bounds::{Limits, PROTOCOL_VERSION};
use tunnel::protocol::grants::Wanted;
use tunnel::protocol::permits::{Permit, Permits};
use tunnel::protocol::refusal::{Refusal, Rejection};
use tunnel::protocol::session::Ending;
use tunnel::protocol::wire::Answer;

use crate::pki::Authority;
use crate::sites::{Sites, grant, identity, listener, owner, plan, proxy, seen, soon};

fn refused(event: &TunnelEvent) -> Option<Refusal> {
    match event {
        TunnelEvent::ChannelRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

#[tokio::test]
async fn a_dial_that_the_site_does_not_list_is_refused_and_nothing_is_connected() {
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let tempting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let its_address = format!("tcp:{}", tempting.local_addr().unwrap());
    let target = sites.target("mirror");
    for wanted in ["tcp:127.0.0.1:22", &its_address, "unix:/run/docker.sock"] {
        let wanted = Wanted::new(wanted.to_owned());
        let entrance = sites.granted("mirror", &ChannelOptions { compress: false, wanted });
        let mut near = UnixStream::connect(entrance).await.unwrap();
        assert_eq!(soon(near.read(&mut [0])).await.unwrap_or(0), 0);
        for events in [&mut sites.at_a, &mut sites.at_b] {
            let event = seen(events, |event| refused(event).is_some()).await;
            assert_eq!(refused(&event), Some(Refusal::NotPermitted));
        }
        sites.a.revoke(&grant("mirror"));
    }
    let reason = Refusal::NotPermitted.to_string();
    assert!(reason.contains("list channel and target in its permits"), "{reason}");
    let nobody = tokio::time::timeout(Duration::ZERO, tempting.accept()).await;
    assert!(nobody.is_err(), "somebody was connected");
    let nobody = tokio::time::timeout(Duration::ZERO, target.accept()).await;
    assert!(nobody.is_err(), "somebody was connected");
}

#[tokio::test]
async fn a_refusal_names_what_is_missing() {
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let plain = ChannelOptions::default();
    let entrance = sites.a.grant(&grant("mirror"), &owner(), &plain).unwrap().unwrap();
    let connect = async |entrance: &std::path::Path| UnixStream::connect(entrance).await.unwrap();
    let near = connect(&entrance).await;
    let event = seen(&mut sites.at_a, |event| refused(event).is_some()).await;
    assert_eq!(refused(&event), Some(Refusal::NoGrant));
    sites.b.grant(&grant("mirror"), &owner(), &plain).unwrap();
    let again = connect(&entrance).await;
    let event = seen(&mut sites.at_a, |event| refused(event).is_some()).await;
    assert_eq!(refused(&event), Some(Refusal::Unreachable), "nobody listens there");
    let mut later = grant("mirror");
    later.epoch = later.epoch.next();
    sites.b.grant(&later, &owner(), &plain).unwrap();
    let stale = connect(&entrance).await;
    let event = seen(&mut sites.at_a, |event| refused(event).is_some()).await;
    assert_eq!(refused(&event), Some(Refusal::Stale { seen: later.epoch }));
    for mut program in [near, again, stale] {
        assert_eq!(soon(program.read(&mut [0])).await.unwrap_or(0), 0);
    }
    let older = sites.b.grant(&grant("mirror"), &owner(), &plain).unwrap_err();
    assert!(older.to_string().contains("epoch 2 is over"), "{older}");
}

#[tokio::test]
async fn a_folder_that_is_open_to_others_is_not_dialled() {
    use std::os::unix::fs::PermissionsExt;
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let _target = sites.target("mirror");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sites.folder.path(), open).unwrap();
    let entrance = sites.granted("mirror", &ChannelOptions::default());
    let _near = UnixStream::connect(entrance).await.unwrap();
    let event = seen(&mut sites.at_a, |event| refused(event).is_some()).await;
    assert_eq!(refused(&event), Some(Refusal::Unreachable));
}

#[tokio::test]
async fn a_channel_ends_with_its_grant_whichever_end_takes_it_back() {
    for by_dialling_end in [false, true] {
        let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
        let (mut near, mut far) = sites.joined("mirror", &ChannelOptions::default()).await;
        near.write_all(b"x").await.unwrap();
        soon(far.read_exact(&mut [0])).await.unwrap();
        let end = if by_dialling_end { &sites.b } else { &sites.a };
        assert!(end.revoke(&grant("mirror")));
        assert_eq!(soon(near.read(&mut [0])).await.unwrap_or(0), 0);
        assert_eq!(soon(far.read(&mut [0])).await.unwrap_or(0), 0);
        for events in [&mut sites.at_a, &mut sites.at_b] {
            let ended = |event: &TunnelEvent| matches!(event, TunnelEvent::ChannelEnded { .. });
            let TunnelEvent::ChannelEnded { ending, .. } = seen(events, ended).await else {
                unreachable!()
            };
            assert!(matches!(ending, Ending::Reset { .. }), "{ending:?}");
        }
        if !by_dialling_end {
            let entrance = sites.folder.path().join("a/web.2.mirror");
            assert!(!entrance.exists(), "its socket goes too");
        }
    }
}

#[tokio::test]
async fn a_channel_may_end_on_loopback_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    let (listening, address) = listener().await;
    let (target, exit) = listener().await;
    let at_b = PeerPlan { identity: proxy("a"), reach: Reach::Await };
    let mut plan_b = plan(&folder, &proxy("b"), vec![at_b], ca.issue(&proxy("b")));
    let channel = "sql".parse().unwrap();
    let permit = Permit { channel, vm: None, target: format!("tcp:{exit}").parse().unwrap() };
    plan_b.permits = Permits::new(vec![permit]);
    let b = Tunnel::start(plan_b, Some(listening), []).unwrap();
    let at_a = PeerPlan { identity: proxy("b"), reach: Reach::Dial(address) };
    let plan_a = plan(&folder, &proxy("a"), vec![at_a], ca.issue(&proxy("a")));
    let a = Tunnel::start(plan_a, None, []).unwrap();
    let mut events = a.subscribe();
    seen(&mut events, |event| matches!(event, TunnelEvent::Connected { .. })).await;
    let plain = ChannelOptions::default();
    b.grant(&grant("sql"), &owner(), &plain).unwrap();
    let entrance = a.grant(&grant("sql"), &owner(), &plain).unwrap().unwrap();
    let mut near = UnixStream::connect(entrance).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    near.write_all(b"half").await.unwrap();
    near.shutdown().await.unwrap();
    let mut asked = String::new();
    soon(far.read_to_string(&mut asked)).await.unwrap();
    far.write_all(b"closed").await.unwrap();
    drop(far);
    let mut answered = String::new();
    soon(near.read_to_string(&mut answered)).await.unwrap();
    assert_eq!((asked.as_str(), answered.as_str()), ("half", "closed"));
    a.stop().await;
    b.stop().await;
}

/// A tunnel end at b that waits for a's proxy, and what happens when `caller` dials it, meaning
/// `meant`, with a certificate of `ca` or of another.
async fn turned_away(
    shown: &placement::Identity,
    meant: &placement::Identity,
    foreign: bool,
) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    let (listening, address) = listener().await;
    let at_b = PeerPlan { identity: proxy("a"), reach: Reach::Await };
    let plan_b = plan(&folder, &proxy("b"), vec![at_b], ca.issue(&proxy("b")));
    let b = Tunnel::start(plan_b, Some(listening), []).unwrap();
    let mut at_b = b.subscribe();
    let its_ca = if foreign { Authority::new() } else { ca };
    let peer = PeerPlan { identity: meant.clone(), reach: Reach::Dial(address) };
    let caller = plan(&folder, &proxy("a"), vec![peer], its_ca.issue(shown));
    let a = Tunnel::start(caller, None, []).unwrap();
    let mut at_a = a.subscribe();
    let away = seen(&mut at_b, |event| matches!(event, TunnelEvent::TurnedAway { .. })).await;
    let unreachable = |event: &TunnelEvent| matches!(event, TunnelEvent::Unreachable { .. });
    let (TunnelEvent::TurnedAway { reason: away, .. }, TunnelEvent::Unreachable { reason, .. }) =
        (away, seen(&mut at_a, unreachable).await)
    else {
        unreachable!()
    };
    let connected = |tunnel: &Tunnel| tunnel.status().peers.iter().any(|peer| peer.is_connected);
    assert!(!connected(&a) && !connected(&b));
    (reason, away)
}

#[tokio::test]
async fn a_caller_of_a_foreign_ca_is_turned_away() {
    let (at_a, at_b) = turned_away(&proxy("a"), &proxy("b"), true).await;
    assert!(at_a.contains("check that both certificates come from one CA"), "{at_a}");
    assert!(at_b.contains("check that the caller's certificate comes from our CA"), "{at_b}");
}

#[tokio::test]
async fn the_right_ca_with_another_site_or_role_is_turned_away() {
    for shown in [proxy("c"), identity("a", "agent"), identity("a", "orchestrator")] {
        let (at_a, at_b) = turned_away(&shown, &proxy("b"), false).await;
        assert!(at_a.contains("does not expect this caller"), "{at_a}");
        assert!(at_b.contains(&shown.to_string()), "{at_b}");
    }
}

#[tokio::test]
async fn a_called_end_that_is_not_the_one_that_was_meant_is_not_spoken_to() {
    let (at_a, _) = turned_away(&proxy("a"), &proxy("c"), false).await;
    assert!(at_a.contains("check address and name"), "{at_a}");
}

#[tokio::test]
async fn ends_of_different_versions_tell_each_other_so() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    let (listening, address) = listener().await;
    let at_b = PeerPlan { identity: proxy("a"), reach: Reach::Await };
    let plan_b = plan(&folder, &proxy("b"), vec![at_b], ca.issue(&proxy("b")));
    let b = Tunnel::start(plan_b, Some(listening), []).unwrap();
    let mut at_b = b.subscribe();
    let connector = TlsConnector::from(ca.issue(&proxy("a")).client(&proxy("b")));
    let tcp = TcpStream::connect(address).await.unwrap();
    let nobody = std::net::Ipv4Addr::UNSPECIFIED.into();
    let mut tls = connector.connect(nobody, tcp).await.unwrap();
    let theirs = PROTOCOL_VERSION + 1;
    let mut hello = vec![0, 0, 0, 9];
    hello.extend_from_slice(b"CAUS");
    hello.extend_from_slice(&theirs.to_be_bytes());
    hello.extend_from_slice(&[1, 0xaa, 0xbb]);
    tls.write_all(&hello).await.unwrap();
    let mut answer = bytes::BytesMut::new();
    while soon(tls.read_buf(&mut answer)).await.unwrap_or(0) > 0 {}
    let told = Answer::take(&mut answer).unwrap().unwrap();
    assert_eq!(told, Answer::Rejected(Rejection::Version { theirs: PROTOCOL_VERSION }));
    let away = seen(&mut at_b, |event| matches!(event, TunnelEvent::TurnedAway { .. })).await;
    let words = format!("{away:?}");
    assert!(words.contains("run the same release at both ends"), "{words}");
}

#[tokio::test]
async fn an_end_that_is_dialled_and_dials_says_that_one_must_wait() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Arc::new(Authority::new());
    let (listening, address) = listener().await;
    let (_other, elsewhere) = listener().await;
    let at_b = PeerPlan { identity: proxy("a"), reach: Reach::Dial(elsewhere) };
    let plan_b = plan(&folder, &proxy("b"), vec![at_b], ca.issue(&proxy("b")));
    let _b = Tunnel::start(plan_b, Some(listening), []).unwrap();
    let at_a = PeerPlan { identity: proxy("b"), reach: Reach::Dial(address) };
    let a = Tunnel::start(plan(&folder, &proxy("a"), vec![at_a], ca.issue(&proxy("a"))), None, []);
    let mut at_a = a.as_ref().unwrap().subscribe();
    let unreachable = |event: &TunnelEvent| matches!(event, TunnelEvent::Unreachable { .. });
    let words = format!("{:?}", seen(&mut at_a, unreachable).await);
    assert!(words.contains("dial from one end only"), "{words}");
}
