//! Silence has its bounds: of a backend that does not answer, and of a flow where it may not be.

use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use proxy_api::CloseReason;
use scenarios::running::SOON;
use scenarios::site::{Site, eventually, service};

#[test]
fn a_backend_that_never_answers_costs_a_client_the_connect_timeout_and_no_more() {
    let site = Site::new();
    // Nobody has this address, and no router says so: frames for it leave and are not heard of.
    let hole = "10.10.99.99:80".parse().unwrap();
    let mac =
        ["ip", "neigh", "replace", "10.10.99.99", "lladdr", "02:00:00:00:00:99", "dev", "leg"];
    site.proxy_host().succeed(&mac).unwrap();
    let vip = site.vips(80)[0];
    site.configure(&service("web", "tcp", &[vip], "connect_timeout_ms = 300", &[&[hole]]));
    let proxy = site.start();
    let begun = Instant::now();
    let mut client = site.connect(vip);
    let address = client.local_addr().unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let flow = proxy.closed(address, CloseReason::ConnectTimeout);
    assert_eq!((flow.up.taken, flow.source), (0, None));
}

#[test]
fn an_idle_flow_is_ended_where_the_service_says_so_and_a_busy_one_is_not() {
    let site = Site::new();
    let listener = site.listener(0);
    let vip = site.vips(80)[0];
    let backend = listener.local_addr().unwrap();
    site.configure(&service("web", "tcp", &[vip], "idle_timeout_ms = 500", &[&[backend]]));
    let proxy = site.start();
    let mut idle = site.connect(vip);
    let (mut server, _) = listener.accept().unwrap();
    let mut busy = site.connect(vip);
    let (mut other, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let (idle_address, busy_address) = (idle.local_addr().unwrap(), busy.local_addr().unwrap());

    // The busy one speaks for three times as long as it may be silent.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        busy.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    for end in [&mut idle, &mut server] {
        assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let flow = proxy.closed(idle_address, CloseReason::IdleTimeout);
    assert!(flow.closed_at_ms.unwrap() - flow.opened_at_ms >= 500, "{flow:#?}");
    let lived = proxy.flow_of(busy_address);
    assert!(lived.up.given > 10, "{lived:#?}");
    let until = lived.closed_at_ms.unwrap_or(u64::MAX);
    assert!(until - lived.opened_at_ms >= 1_500, "{lived:#?}");
}

#[test]
fn a_session_ends_when_it_is_left_alone_and_a_new_one_begins() {
    let site = Site::new();
    let ip = site.backend_ips()[1];
    let backend = site.backend_host().inside(|| UdpSocket::bind((ip, 0))).unwrap().unwrap();
    backend.set_read_timeout(Some(SOON)).unwrap();
    let vip = site.vips(53)[1];
    let address = backend.local_addr().unwrap();
    site.configure(&service("names", "udp", &[vip], "idle_timeout_ms = 300", &[&[address]]));
    let proxy = site.start();
    let client = site.client().inside(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
    client.connect(vip).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();

    let mut sources = Vec::new();
    for round in 1..=2 {
        client.send(b"ask").unwrap();
        let mut heard = [0; 16];
        let (length, source) = backend.recv_from(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"ask");
        backend.send_to(b"answer", source).unwrap();
        // It is heard from the VIP: the client's socket hears nobody else.
        assert_eq!(client.recv(&mut heard).unwrap(), 6);
        sources.push(source);
        eventually(|| {
            let service = proxy.service("names");
            let done = service.flows_active == 0 && service.flows_opened == round;
            if done { Ok(()) } else { Err(format!("{service:#?}")) }
        });
    }
    assert_ne!(sources[0], sources[1], "each session has a socket of its own");
    let ends: Vec<_> = proxy
        .flows()
        .iter()
        .map(|flow| (flow.state.as_str(), flow.up.given, flow.down.given))
        .collect();
    assert_eq!(ends, [("closed", 3, 6), ("closed", 3, 6)]);
    let expired = [("service", "names"), ("reason", "idle_timeout")];
    assert_eq!(proxy.metric("causeway_flows_closed_total", &expired), 2.0);
}
