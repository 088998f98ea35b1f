//! What is too much, too long or too slow ends there, and nobody else notices.

use placement::Role;
use rustix::process::Signal;
use scenarios::house::House;
use scenarios::running::{Running, SOON, bound_to_the_test, program, read_to_end};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// As the proxy's control server has them; see `daemon::control::Bounds`.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const HANDSHAKES_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 256;

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let get = |headers: &str| {
        format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
    };
    let long = get(&format!("x: {}\r\n", "a".repeat(HEAD_BYTES_MAX)));
    let many: String = (0..100).map(|n| format!("x{n}: a\r\n")).collect();
    for request in [long, get(&many)] {
        let heard = proxy.said(Role::Viewer, request.as_bytes()).await;
        assert!(heard.starts_with("HTTP/1.1 431 "), "{heard}");
    }
    let near = get(&format!("x: {}\r\n", "a".repeat(HEAD_BYTES_MAX - 200)));
    let heard = proxy.said(Role::Viewer, near.as_bytes()).await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let length = BODY_BYTES_MAX + 1;
    let declared =
        format!("POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let chunk = "a".repeat(64 * 1024);
    let mut chunked =
        "POST /v1/reload HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for _ in 0..=(BODY_BYTES_MAX / chunk.len()) {
        chunked.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    for request in [declared + &"a".repeat(length), chunked] {
        let heard = proxy.said(Role::Operator, request.as_bytes()).await;
        assert!(heard.starts_with("HTTP/1.1 413 "), "{heard}");
        assert!(heard.contains("\"code\":\"body_too_long\""), "{heard}");
    }
    assert_eq!(proxy.status(Role::Viewer).await.unwrap().generation, 1, "no reload took place");
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    for nonsense in ["\0\0\0\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET\r\n\r\n"] {
        let heard = proxy.said(Role::Viewer, nonsense.as_bytes()).await;
        assert!(!heard.contains(" 200 "), "{nonsense:?}: {heard}");
    }
    proxy.status(Role::Viewer).await.unwrap();
}

#[tokio::test]
async fn strangers_that_never_shake_hands_are_cut_off_and_crowd_out_nobody() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let mut strangers = Vec::new();
    for number in 0..HANDSHAKES_MAX + 8 {
        let mut stranger = TcpStream::connect(proxy.address).await.unwrap();
        if number % 2 == 0 {
            // The first byte of a handshake, and then nothing.
            stranger.write_all(&[0x16]).await.unwrap();
        }
        strangers.push(stranger);
    }
    // Whoever comes after them waits for their time to run out, and is served then.
    proxy.status(Role::Viewer).await.unwrap();
    let refused = proxy.event("caller refused").await;
    assert_eq!(refused["why"], "the handshake took too long");
    for mut stranger in strangers {
        assert_eq!(read_to_end(&mut stranger).await, "");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_stay() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        connections.push(proxy.connected(Role::Viewer).await);
    }
    let mut late = proxy.connected(Role::Viewer).await;
    assert_eq!(read_to_end(&mut late).await, "");
    let refused = proxy.event("caller refused").await;
    assert_eq!(refused["why"], "there are too many connections");

    let mut first = connections.swap_remove(0);
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    first.write_all(request).await.unwrap();
    assert!(read_to_end(&mut first).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn running_out_of_descriptors_ends_with_the_callers_that_took_them() {
    const DESCRIPTORS: usize = 40;
    let house = House::new();
    let mut command = bound_to_the_test("sh");
    let limit = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    command.args(["-c", &limit]).arg(program());
    let mut proxy = Running::start_as(&house, command).await;
    let mut strangers = Vec::new();
    for _ in 0..DESCRIPTORS {
        strangers.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    proxy.event("no connection accepted").await;
    drop(strangers);
    let metrics = proxy.metrics(Role::Viewer).await.unwrap();
    assert!(metrics.contains("causeway_control_accept_failures_total"), "{metrics}");
    proxy.signal(Signal::TERM);
    let (status, _) = proxy.ended().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let request = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    let mut stream = proxy.connected(Role::Operator).await;
    stream.write_all(request).await.unwrap();
    let heard = timeout(SOON, read_to_end(&mut stream)).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert_eq!(proxy.status(Role::Viewer).await.unwrap().generation, 1);
}
