//! Strangers that send nonsense, too much or nothing, and everybody else who notices nothing.

use std::io::ErrorKind;

use placement::Role;
use scenarios::running::{SOON, bound_to_the_test};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{AT_A, AT_B, NameServer, address_in, asker, house, program, question};

/// As the name server has it; see `gslb::listen`.
const CONNECTIONS_PER_CLIENT_MAX: usize = 32;

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let length = timeout(SOON, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; usize::from(length)];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    answer
}

/// Reads until the other end closes, one way or the other.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it closes") {
        Ok(_) => assert!(rest.is_empty(), "{rest:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn nonsense_is_answered_with_a_code_or_not_at_all_and_ends_nothing() {
    let house = house();
    let server = NameServer::start(&house).await;
    let socket = asker(server.dns[0]);
    let mut response = question();
    response[2] |= 0x80;
    for nonsense in [&b""[..], b"\0", &[0xff; 11], &[0x80; 600], &[0; 9_000], &response] {
        socket.send(nonsense).unwrap();
    }
    let mut broken = question();
    broken.truncate(20);
    socket.send(&broken).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!((length, answer[3] & 0xf), (12, 1), "the first word is on the broken question");
    socket.send(&question()).unwrap();
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(address_in(&answer[..length]), AT_A);

    for nonsense in [framed(b""), framed(&[0xff; 11]), framed(&[0; 5_000]), framed(&response)] {
        let mut stream = TcpStream::connect(server.dns[0]).await.unwrap();
        // The server may have closed before all of it is said.
        let _ = stream.write_all(&nonsense).await;
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn questions_over_one_connection_are_answered_in_their_order() {
    let house = house();
    let server = NameServer::start(&house).await;
    let mut stream = TcpStream::connect(server.dns[1]).await.unwrap();
    let mut said = Vec::new();
    for id in 0..100_u8 {
        let mut question = question();
        question[1] = id;
        said.extend(framed(&question));
    }
    // In two pieces, that end in the middle of a message.
    let (first, second) = said.split_at(said.len() / 2 + 7);
    stream.write_all(first).await.unwrap();
    for id in 0..40_u8 {
        assert_eq!(heard(&mut stream).await[1], id);
    }
    stream.write_all(second).await.unwrap();
    for id in 40..100_u8 {
        let answer = heard(&mut stream).await;
        assert_eq!((answer[1], address_in(&answer).as_str()), (id, AT_A));
    }
}

#[tokio::test]
async fn one_client_cannot_take_all_connections_and_silent_ones_are_ended() {
    let house = house();
    let server = NameServer::start(&house).await;
    let mut silent = Vec::new();
    for number in 0..CONNECTIONS_PER_CLIENT_MAX {
        let mut stream = TcpStream::connect(server.dns[0]).await.unwrap();
        // Answered once, so that it is known to be admitted; then silent, or half a question.
        stream.write_all(&framed(&question())).await.unwrap();
        assert_eq!(address_in(&heard(&mut stream).await), AT_A);
        if number % 2 == 0 {
            stream.write_all(&[0]).await.unwrap();
        }
        silent.push(stream);
    }
    let mut late = TcpStream::connect(server.dns[0]).await.unwrap();
    closed(&mut late).await;
    // Another client, and other ways, are served.
    assert_eq!(server.dig(&["+short", "+notcp", "shop.example.net"]).await.trim(), AT_A);
    let mut other = TcpStream::connect(server.dns[1]).await.unwrap();
    other.write_all(&framed(&question())).await.unwrap();
    assert_eq!(address_in(&heard(&mut other).await), AT_A);

    for mut stream in silent {
        closed(&mut stream).await;
    }
    assert_eq!(server.dig(&["+short", "+tcp", "shop.example.net"]).await.trim(), AT_A);
    let metrics = server.asked(Role::Viewer, async |client| client.metrics().await).await.unwrap();
    assert!(metrics.contains("causeway_dns_connections_refused_total 1"), "{metrics}");
}

#[tokio::test]
async fn one_that_takes_no_answers_holds_up_no_order() {
    let house = house();
    let server = NameServer::start(&house).await;
    let mut stream = TcpStream::connect(server.dns[0]).await.unwrap();
    // Questions until both ways are full: the server waits for room for an answer.
    let many = framed(&question()).repeat(1_000);
    let full = std::time::Duration::from_secs(1);
    while let Ok(written) = timeout(full, stream.write_all(&many)).await {
        written.unwrap();
    }
    server.steer(2, "b").await.unwrap();
    assert_eq!(server.dig(&["+short", "shop.example.net"]).await.trim(), AT_B);
}

#[tokio::test]
async fn running_out_of_descriptors_ends_with_those_who_took_them_and_datagrams_are_answered() {
    const DESCRIPTORS: usize = 30;
    let house = house();
    let mut command = bound_to_the_test("sh");
    let limit = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    command.args(["-c", &limit]).arg(program());
    let mut server = NameServer::start_as(&house, command).await;
    let mut strangers = Vec::new();
    for _ in 0..DESCRIPTORS {
        strangers.push(TcpStream::connect(server.dns[0]).await.unwrap());
    }
    server.running.event("no connection accepted").await;
    assert_eq!(server.dig(&["+short", "+notcp", "shop.example.net"]).await.trim(), AT_A);
    drop(strangers);
    assert_eq!(server.dig(&["+short", "+tcp", "shop.example.net"]).await.trim(), AT_A);
}
