//! Flows go where somebody serves them.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use proxy_api::{CloseReason, FlowState, Health, RefusedFor};
use scenarios::site::{Proxy, Site, eventually, service};

const CHECKED: &str = "[service.health]\ninterval_ms = 50\ntimeout_ms = 1000\nrise = 1\nfall = 2\n";

fn healths(proxy: &Proxy<'_>) -> Vec<Health> {
    let service = proxy.service("web");
    service.backends.iter().flat_map(|b| b.addresses.iter().map(|a| a.health)).collect()
}

fn until(proxy: &Proxy<'_>, wanted: &[Health]) {
    eventually(|| {
        let now = healths(proxy);
        if now == wanted { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// Who serves a new flow, by the address of the backend.
fn served_by(site: &Site, proxy: &Proxy<'_>, vip: SocketAddr) -> SocketAddr {
    let client = site.connect(vip);
    let address = client.local_addr().unwrap();
    eventually(|| {
        let flow = proxy.flow_of(address);
        if flow.source.is_some() { Ok(flow.server) } else { Err(format!("{flow:#?}")) }
    })
}

#[test]
fn a_backend_that_dies_falls_and_new_flows_go_to_the_other() {
    let site = Site::new();
    let guests = [site.guest(), site.guest()];
    let (vip, [dead, alive]) = (site.vips(80)[1], [&guests[0], &guests[1]].map(|g| g.addresses[1]));
    site.configure(&service("web", "tcp", &[vip], CHECKED, &[&[dead], &[alive]]));
    let proxy = site.start();
    // Known before the first connection.
    assert_eq!(healths(&proxy), [Health::Up, Health::Up]);
    guests[0].kill();
    // Before it has fallen, a client is handed on; afterwards nobody asks it.
    assert_eq!([(); 2].map(|()| served_by(&site, &proxy, vip)), [alive; 2]);
    until(&proxy, &[Health::Down, Health::Up]);
    assert_eq!([(); 3].map(|()| served_by(&site, &proxy, vip)), [alive; 3]);
    let down = [("service", "web"), ("backend", "b0")];
    assert_eq!(proxy.metric("causeway_backend_up", &down), 0.0);
    let up = [("service", "web"), ("backend", "b1")];
    assert_eq!(proxy.metric("causeway_backend_up", &up), 1.0);
    assert_eq!(proxy.events("backend is down").len(), 1);
}

#[test]
fn all_down_is_refused_or_tried_as_configured_until_one_is_back() {
    let site = Site::new();
    let listener = site.listener(0);
    let backend = listener.local_addr().unwrap();
    let (refusing, trying) = (site.vips(80)[0], site.vips(81)[0]);
    let web = service("web", "tcp", &[refusing], CHECKED, &[&[backend]]);
    let tried = format!("when_all_down = \"try_all\"\n{CHECKED}");
    let tried = service("tried", "tcp", &[trying], &tried, &[&[backend]]);
    site.configure(&format!("{web}{tried}"));
    drop(listener);
    let proxy = site.start();
    assert_eq!(healths(&proxy), [Health::Down]);
    assert_eq!(proxy.service("tried").backends[0].addresses[0].health, Health::Down);

    assert!(site.is_reset(refusing));
    assert_eq!(proxy.service("web").refused[&RefusedFor::NoBackend], 1);
    assert!(site.is_reset(trying));
    let [flow] = &proxy.flows()[..] else { panic!("{:#?}", proxy.flows()) };
    assert_eq!(flow.state, FlowState::Closed { reason: CloseReason::ConnectFailed });

    let back = site.backend_host().inside(|| TcpListener::bind(backend)).unwrap().unwrap();
    until(&proxy, &[Health::Up]);
    assert_eq!(served_by(&site, &proxy, refusing), backend);
    drop(back);
}

#[test]
fn a_session_whose_backend_is_not_there_ends_so_that_the_next_may_find_another() {
    let site = Site::new();
    let ip = site.backend_ips()[0];
    let bind = || site.backend_host().inside(|| UdpSocket::bind((ip, 0))).unwrap().unwrap();
    let (gone, there) = (bind(), bind());
    there.set_read_timeout(Some(scenarios::running::SOON)).unwrap();
    let backends = [&gone, &there].map(|socket| socket.local_addr().unwrap());
    drop(gone);
    let vip = site.vips(53)[0];
    site.configure(&service("web", "udp", &[vip], "", &[&[backends[0]], &[backends[1]]]));
    let proxy = site.start();
    let client = site.client().inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    client.send_to(b"1", vip).unwrap();
    eventually(|| match &proxy.flows()[..] {
        [flow] if flow.state.as_str() == "closed" => Ok(()),
        flows => Err(format!("{flows:#?}")),
    });
    client.send_to(b"2", vip).unwrap();
    let mut heard = [0; 4];
    assert_eq!((there.recv(&mut heard).unwrap(), heard[0]), (1, b'2'));
}
