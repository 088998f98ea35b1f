//! Who ends a flow, and how, is passed on as it was and told as it was.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use placement::Role;
use proxy_api::{CallError, CloseReason, FlowState, Side};
use rustix::net::sockopt::set_socket_linger;
use scenarios::running::SOON;
use scenarios::site::{Proxy, Site, eventually, service};

/// More than every buffer on the way takes at once.
const LONG: usize = 3_000_000;

/// A backend that the test plays, of one family, and the VIP that leads to it.
fn played(site: &Site, family: usize) -> (TcpListener, SocketAddr) {
    let listener = site.listener(family);
    let vip = site.vips(80)[family];
    let backend = listener.local_addr().unwrap();
    site.configure(&service("web", "tcp", &[vip], "", &[&[backend]]));
    (listener, vip)
}

/// Both ends of a new flow: the client's and the server's.
fn flow(site: &Site, listener: &TcpListener, vip: SocketAddr) -> (TcpStream, TcpStream) {
    let client = site.connect(vip);
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    server.set_write_timeout(Some(SOON)).unwrap();
    (client, server)
}

fn bytes(seed: u8) -> Vec<u8> {
    (0..LONG).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// What reading until the end comes to.
fn ending(stream: &mut TcpStream) -> Option<ErrorKind> {
    stream.read_to_end(&mut Vec::new()).err().map(|error| error.kind())
}

fn check_half_close(family: usize, first: Side) {
    let site = Site::new();
    let (listener, vip) = played(&site, family);
    let proxy = site.start();
    let (client, server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    let (mut early, mut late) = match first {
        Side::Client => (client, server),
        Side::Server => (server, client),
    };
    // All of the first direction, and its end, before a byte of the second.
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            early.write_all(&bytes(1)).unwrap();
            early.shutdown(Shutdown::Write).unwrap();
        });
        late.read_to_end(&mut heard).unwrap();
    });
    assert!(heard == bytes(1), "{} bytes, or others", heard.len());
    assert_eq!(proxy.flow_of(address).state, FlowState::HalfClosed { by: first });

    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            late.write_all(&bytes(2)).unwrap();
            late.shutdown(Shutdown::Write).unwrap();
        });
        early.read_to_end(&mut heard).unwrap();
    });
    assert!(heard == bytes(2), "{} bytes, or others", heard.len());
    let reason = match first {
        Side::Client => CloseReason::ClientFin,
        Side::Server => CloseReason::ServerFin,
    };
    let flow = proxy.closed(address, reason);
    assert_eq!((flow.up.given, flow.down.given), (LONG as u64, LONG as u64));
    assert_eq!(flow.owed_since_ms, None);
}

#[test]
fn a_client_that_ends_first_still_gets_everything() {
    check_half_close(0, Side::Client);
}

#[test]
fn a_server_that_ends_first_still_gets_everything() {
    check_half_close(1, Side::Server);
}

#[test]
fn a_reset_is_passed_on_as_a_reset_and_told_by_whose_it_was() {
    let site = Site::new();
    let (listener, vip) = played(&site, 0);
    let proxy = site.start();

    let (mut client, mut server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    reset(client);
    assert_eq!(ending(&mut server), Some(ErrorKind::ConnectionReset));
    let _ = proxy.closed(address, CloseReason::ClientRst);

    let (mut client, mut server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    server.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    reset(server);
    assert_eq!(ending(&mut client), Some(ErrorKind::ConnectionReset));
    let _ = proxy.closed(address, CloseReason::ServerRst);
}

/// Fills every buffer towards `reader`, which reads nothing.
fn fill(writer: &mut TcpStream) {
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = vec![7; 1 << 20];
    while writer.write_all(&piece).is_ok() {}
}

#[test]
fn a_reset_is_seen_though_nobody_reads_what_was_sent_before_it() {
    let site = Site::new();
    let (listener, vip) = played(&site, 0);
    let proxy = site.start();
    let (mut client, mut server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    fill(&mut client);
    assert!(proxy.flow_of(address).up.owed > 0);
    reset(client);
    let flow = proxy.closed(address, CloseReason::ClientRst);
    assert!(flow.stall_us_max > 0, "{flow:#?}");
    assert_eq!(ending(&mut server), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_half_closed_client_that_breaks_off_is_seen_though_the_server_is_silent() {
    let site = Site::new();
    let (listener, vip) = played(&site, 1);
    let proxy = site.start();
    let (client, mut server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ending(&mut server), None);
    reset(client);
    let _ = proxy.closed(address, CloseReason::ClientRst);
}

fn kill(proxy: &Proxy<'_>, client: SocketAddr, role: Role) -> Result<(), CallError> {
    let id = proxy.flow_of(client).id;
    proxy.call(role, async |client| client.kill(id).await).map(|killed| assert_eq!(killed.id, id))
}

#[test]
fn a_flow_that_an_operator_kills_is_told_so_and_both_peers_see_a_reset() {
    let site = Site::new();
    let (listener, vip) = played(&site, 0);
    let proxy = site.start();
    let (mut client, mut server) = flow(&site, &listener, vip);
    let (mut other, mut others) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();

    let refused = kill(&proxy, address, Role::Viewer).unwrap_err();
    assert!(matches!(refused, CallError::Refused { status: 403, .. }), "{refused}");
    kill(&proxy, address, Role::Operator).unwrap();
    for end in [&mut client, &mut server] {
        assert_eq!(ending(end), Some(ErrorKind::ConnectionReset));
    }
    let flow = proxy.closed(address, CloseReason::Killed);
    let again = proxy.call(Role::Operator, async |client| client.kill(flow.id).await).unwrap_err();
    assert!(matches!(again, CallError::Refused { status: 404, .. }), "{again}");
    let told = proxy.call(Role::Viewer, async |client| client.flow(flow.id).await).unwrap();
    assert_eq!(told, flow, "the history knows it by its id");

    other.write_all(b"on").unwrap();
    let mut heard = [0; 2];
    others.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"on", "nobody else was touched");
}

#[test]
fn what_is_owed_and_for_how_long_is_told_while_it_lasts() {
    let site = Site::new();
    let (listener, vip) = played(&site, 0);
    let proxy = site.start();
    let (mut client, mut server) = flow(&site, &listener, vip);
    let address = client.local_addr().unwrap();
    fill(&mut client);
    let owing = eventually(|| {
        let flow = proxy.flow_of(address);
        let long = flow.stall_us_max > 400_000 && flow.owed_since_ms.is_some();
        if long { Ok(flow) } else { Err(format!("{flow:#?}")) }
    });
    assert!(owing.up.owed > 0 && owing.down.owed == 0, "{owing:#?}");
    assert!(owing.up.given <= owing.up.taken);

    // Once it is read, nothing is owed, and the longest time stays known.
    let mut left = owing.up.taken;
    let mut buffer = vec![0; 1 << 20];
    client.shutdown(Shutdown::Write).unwrap();
    loop {
        match server.read(&mut buffer).unwrap() {
            0 => break,
            length => left = left.saturating_sub(length as u64),
        }
    }
    assert_eq!(left, 0);
    drop(server);
    let flow = proxy.closed(address, CloseReason::ClientFin);
    assert_eq!((flow.up.owed, flow.owed_since_ms), (0, None), "{flow:#?}");
    assert!(flow.stall_us_max >= owing.stall_us_max, "{flow:#?}");
}
