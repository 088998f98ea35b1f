//! A reload changes what it says and touches no flow; a bad one changes nothing and says why.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use proxy_api::{CallError, FlowState};
use scenarios::running::SOON;
use scenarios::site::{Site, eventually, service};

fn flow(site: &Site, listener: &TcpListener, vip: SocketAddr) -> (TcpStream, TcpStream) {
    let client = site.connect(vip);
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    (client, server)
}

fn passes((client, server): &mut (TcpStream, TcpStream)) {
    client.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
}

#[test]
fn services_come_change_and_go_and_their_flows_live_on() {
    let site = Site::new();
    let listeners = [site.listener(0), site.listener(0)];
    let backends = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap());
    let (stays, goes, comes) = (site.vips(80)[0], site.vips(81)[0], site.other_vips(80)[0]);
    let staying = |backend| service("stays", "tcp", &[stays], "", &[&[backend]]);
    let going = service("goes", "tcp", &[goes], "", &[&[backends[0]]]);
    site.configure(&format!("{}{going}", staying(backends[0])));
    let proxy = site.start();
    let mut of_staying = flow(&site, &listeners[0], stays);
    let mut of_going = flow(&site, &listeners[0], goes);
    assert!(site.try_connect(comes).is_err());

    // One service has another backend, one is gone, one is new.
    let coming = service("comes", "tcp", &[comes], "", &[&[backends[1]]]);
    site.configure(&format!("{}{coming}", staying(backends[1])));
    assert_eq!(proxy.reload().unwrap(), 2);
    passes(&mut of_staying);
    passes(&mut of_going);
    passes(&mut flow(&site, &listeners[1], stays));
    passes(&mut flow(&site, &listeners[1], comes));
    eventually(|| match site.try_connect(goes) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let address = of_going.0.local_addr().unwrap();
    assert_eq!(proxy.flow_of(address).state, FlowState::Open);
    assert_eq!(proxy.flow_of(address).service.as_str(), "goes");

    // What is gone can come back, and what came can go: to the first state again.
    site.configure(&format!("{}{going}", staying(backends[0])));
    assert_eq!(proxy.reload().unwrap(), 3);
    passes(&mut flow(&site, &listeners[0], goes));
    passes(&mut of_going);
}

#[test]
fn sessions_of_a_service_that_went_live_on_and_it_may_come_back() {
    let site = Site::new();
    let ip = site.backend_ips()[0];
    let backend = site.backend_host().inside(|| UdpSocket::bind((ip, 0))).unwrap().unwrap();
    backend.set_read_timeout(Some(SOON)).unwrap();
    let vip = site.vips(53)[0];
    let names = service("names", "udp", &[vip], "", &[&[backend.local_addr().unwrap()]]);
    site.configure(&names);
    let proxy = site.start();
    let socket = || site.client().inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let (old, new) = (socket(), socket());
    let mut heard = [0; 4];
    old.send_to(b"1", vip).unwrap();
    backend.recv(&mut heard).unwrap();

    site.configure("");
    assert_eq!(proxy.reload().unwrap(), 2);
    new.send_to(b"2", vip).unwrap();
    old.send_to(b"3", vip).unwrap();
    assert_eq!((backend.recv(&mut heard).unwrap(), heard[0]), (1, b'3'), "the old one alone");

    site.configure(&names);
    assert_eq!(proxy.reload().unwrap(), 3);
    new.send_to(b"4", vip).unwrap();
    assert_eq!((backend.recv(&mut heard).unwrap(), heard[0]), (1, b'4'));
    old.send_to(b"5", vip).unwrap();
    assert_eq!((backend.recv(&mut heard).unwrap(), heard[0]), (1, b'5'));
    assert_eq!(proxy.flows().len(), 2);
}

#[test]
fn a_bad_reload_changes_nothing_and_says_why() {
    let site = Site::new();
    let listener = site.listener(0);
    let backend = listener.local_addr().unwrap();
    let (vip, free, taken) = (site.vips(80)[0], site.vips(81)[0], site.other_vips(80)[0]);
    let web = service("web", "tcp", &[vip], "", &[&[backend]]);
    site.configure(&web);
    let proxy = site.start();
    let mut living = flow(&site, &listener, vip);
    let stranger = site.proxy_host().inside(|| TcpListener::bind(taken)).unwrap().unwrap();
    let strange = "198.51.100.1:80".parse().unwrap();

    let new = service("new", "tcp", &[free], "", &[&[backend]]);
    for (services, status, why) in [
        ("[[service]\n".to_owned(), 422, "is not TOML"),
        (web.replace("listen", "listem"), 422, "unknown field 'listem'"),
        (service("web", "tcp", &["0.0.0.0:80".parse().unwrap()], "", &[&[backend]]), 422, "listen"),
        (
            format!("{new}{}", service("b", "tcp", &[taken], "", &[&[backend]])),
            409,
            "Address already in use",
        ),
        (
            format!("{new}{}", service("b", "tcp", &[strange], "", &[&[backend]])),
            409,
            "198.51.100.1:80",
        ),
    ] {
        site.configure(&services);
        let refused = proxy.reload().unwrap_err();
        let CallError::Refused { status: answered, refusal } = refused else {
            panic!("{refused}");
        };
        assert_eq!(answered, status, "{}", refusal.message);
        assert!(refusal.message.contains(why), "no '{why}' in {}", refusal.message);
        // Neither the good part of a bad file, nor the loss of what was there before.
        let connecting = site.try_connect(free);
        assert!(connecting.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
        let service = proxy.service("web");
        assert_eq!((service.flows_active, &service.listen[..]), (1, &[vip][..]));
        passes(&mut living);
    }
    passes(&mut flow(&site, &listener, vip));
    drop(stranger);

    site.configure(&format!("{web}{}", service("b", "tcp", &[taken], "", &[&[backend]])));
    assert_eq!(proxy.reload().unwrap(), 2, "the refused ones count as none");
    passes(&mut flow(&site, &listener, taken));
    passes(&mut living);
}
