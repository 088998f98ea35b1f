//! From a signal to an exit code.

use std::os::unix::net::UnixDatagram;

use placement::Role;
use rustix::process::Signal;
use scenarios::house::House;
use scenarios::running::{Running, SOON, bound_to_the_test, program, read_to_end};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// A call whose body does not come: it is being answered for as long as the proxy lets it.
const UNFINISHED: &[u8] = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
    content-length: 2\r\n\r\n{";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn a_signal_ends_the_proxy_in_an_orderly_way() {
    let house = House::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Running::start(&house).await;
        let mut idle = proxy.connected(Role::Viewer).await;
        proxy.signal(signal);
        let (status, rest) = proxy.ended().await;
        assert_eq!(status.code(), Some(0), "{rest}");
        assert!(rest.contains("\"stopped\""), "{rest}");
        assert_eq!(read_to_end(&mut idle).await, "");
    }
}

#[tokio::test]
async fn a_call_that_is_being_answered_is_finished_first() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let mut calling = begun(&proxy).await;
    proxy.signal(Signal::TERM);
    proxy.event("stopping").await;
    calling.write_all(b"}").await.unwrap();
    // In full, though the answer is that a proxy which ends takes nothing new.
    let heard = read_to_end(&mut calling).await;
    assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains("\"ending\""), "{heard}");
    assert_eq!(proxy.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_call_that_never_ends_is_cut_off_at_the_bound() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let mut calling = begun(&proxy).await;
    proxy.signal(Signal::TERM);
    let (status, rest) = proxy.ended().await;
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(rest.contains("calls cut off"), "{rest}");
    assert_eq!(read_to_end(&mut calling).await, "");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let _calling = begun(&proxy).await;
    proxy.signal(Signal::TERM);
    proxy.event("stopping").await;
    proxy.signal(Signal::INT);
    let (status, rest) = proxy.ended().await;
    assert_eq!(status.code(), Some(1), "{rest}");
    assert!(rest.contains("Hurried") && !rest.contains("calls cut off"), "{rest}");
}

#[tokio::test]
async fn the_service_manager_is_told_how_far_it_is() {
    let house = House::new();
    let manager = UnixDatagram::bind(house.path("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let heard = || {
        let mut word = [0; 128];
        let length = manager.recv(&mut word).unwrap();
        String::from_utf8_lossy(&word[..length]).into_owned()
    };
    let mut command = bound_to_the_test(program());
    command.env("NOTIFY_SOCKET", house.path("notify"));
    let mut proxy = Running::start_as(&house, command).await;
    assert_eq!(heard(), "READY=1");
    proxy.signal(Signal::HUP);
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1");
    proxy.signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(proxy.ended().await.0.code(), Some(0));
}

/// A connection on which the proxy has taken the head of a call, and waits for its body.
async fn begun(proxy: &Running<'_>) -> TlsStream<TcpStream> {
    let mut calling = proxy.connected(Role::Operator).await;
    calling.write_all(UNFINISHED).await.expect("the proxy reads");
    // It asks for the rest of the body only once it has begun to answer.
    let mut asked = vec![0; CONTINUE.len()];
    let read = timeout(SOON, calling.read_exact(&mut asked)).await;
    read.expect("it asks in time").expect("it asks at all");
    assert_eq!(asked, CONTINUE);
    calling
}
