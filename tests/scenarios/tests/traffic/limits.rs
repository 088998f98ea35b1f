//! What is too much is refused with a RST, and counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use proxy_api::RefusedFor;
use scenarios::running::SOON;
use scenarios::site::{Site, eventually, service};

#[test]
fn a_service_and_the_proxy_have_as_many_flows_as_they_may() {
    let site = Site::new();
    let listener = site.listener(0);
    let backend: SocketAddr = listener.local_addr().unwrap();
    let (one, two) = (site.vips(80)[0], site.vips(81)[0]);
    let limits = "[limits]\nflows_max = 3\n";
    let first = service("one", "tcp", &[one], "flows_max = 2", &[&[backend]]);
    let second = service("two", "tcp", &[two], "", &[&[backend]]);
    site.configure(&format!("{limits}{first}{second}"));
    let proxy = site.start();

    let mut kept = Vec::new();
    for vip in [one, one, two] {
        let client = site.connect(vip);
        kept.push((client, listener.accept().unwrap().0));
    }
    assert!(site.is_reset(one) && site.is_reset(two));
    assert_eq!(proxy.service("one").refused[&RefusedFor::ServiceLimit], 1);
    assert_eq!(proxy.service("two").refused[&RefusedFor::ProxyLimit], 1);
    let labels = [("service", "one"), ("reason", "service_limit")];
    assert_eq!(proxy.metric("causeway_clients_refused_total", &labels), 1.0);
    assert_eq!(proxy.flows().len(), 3, "who is refused is no flow");

    // A place that was given back is free again.
    drop(kept.remove(0));
    eventually(|| match proxy.service("one").flows_active {
        1 => Ok(()),
        active => Err(format!("{active} flows")),
    });
    let mut client = site.connect(one);
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

#[test]
fn sessions_have_the_same_bounds_and_their_datagrams_are_counted() {
    let site = Site::new();
    let ip = site.backend_ips()[0];
    let backend = site.backend_host().inside(|| UdpSocket::bind((ip, 0))).unwrap().unwrap();
    backend.set_read_timeout(Some(SOON)).unwrap();
    let vip = site.vips(53)[0];
    let address = backend.local_addr().unwrap();
    site.configure(&service("names", "udp", &[vip], "flows_max = 1", &[&[address]]));
    let proxy = site.start();
    let socket = || site.client().inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let (first, second) = (socket(), socket());
    first.send_to(b"1", vip).unwrap();
    backend.recv(&mut [0; 4]).unwrap();
    second.send_to(b"2", vip).unwrap();
    eventually(|| match proxy.service("names").refused.get(&RefusedFor::ServiceLimit) {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let labels = [("service", "names"), ("reason", "refused")];
    assert_eq!(proxy.metric("causeway_datagrams_dropped_total", &labels), 1.0);
    first.send_to(b"3", vip).unwrap();
    let mut heard = [0; 4];
    assert_eq!((backend.recv(&mut heard).unwrap(), heard[0]), (1, b'3'));
}
