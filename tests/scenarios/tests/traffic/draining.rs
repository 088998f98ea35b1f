//! A drain takes nothing new and leaves what lives alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use placement::Role;
use proxy_api::{CallError, RefusedFor};
use scenarios::running::SOON;
use scenarios::site::{Proxy, Site, service};

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

fn drain_service(proxy: &Proxy<'_>, draining: bool) -> u64 {
    let name = "web".parse().unwrap();
    let call = async |client: &mut proxy_api::Client| client.drain_service(&name, draining).await;
    let drained = proxy.call(Role::Operator, call).unwrap();
    assert_eq!(drained.draining, draining);
    drained.flows_active
}

#[test]
fn a_service_that_drains_takes_no_flow_until_it_is_resumed() {
    let site = Site::new();
    let (listener, vip) = (site.listener(1), site.vips(80)[1]);
    site.configure(&service("web", "tcp", &[vip], "", &[&[listener.local_addr().unwrap()]]));
    let proxy = site.start();
    let mut living = flow(&site, &listener, vip);
    assert_eq!((drain_service(&proxy, true), drain_service(&proxy, true)), (1, 1));
    assert!(site.is_reset(vip));
    passes(&mut living);
    let service = proxy.service("web");
    assert!(service.draining && service.refused[&RefusedFor::Draining] == 1);
    // A reload is no end of it.
    assert_eq!(proxy.reload().unwrap(), 2);
    assert!(proxy.service("web").draining);

    assert_eq!(drain_service(&proxy, false), 1);
    passes(&mut flow(&site, &listener, vip));
    passes(&mut living);

    let unknown = "nobody".parse().unwrap();
    let call = async |client: &mut proxy_api::Client| client.drain_service(&unknown, true).await;
    let refused = proxy.call(Role::Operator, call).unwrap_err();
    assert!(matches!(refused, CallError::Refused { status: 404, .. }), "{refused}");
    let name = "web".parse().unwrap();
    let call = async |client: &mut proxy_api::Client| client.drain_service(&name, true).await;
    let refused = proxy.call(Role::Viewer, call).unwrap_err();
    assert!(matches!(refused, CallError::Refused { status: 403, .. }), "{refused}");
}

#[test]
fn a_backend_that_drains_gets_no_new_flow_and_keeps_its_own() {
    let site = Site::new();
    let (first, second, vip) = (site.listener(0), site.listener(0), site.vips(80)[0]);
    let backends = [&first, &second].map(|listener| listener.local_addr().unwrap());
    site.configure(&service("web", "tcp", &[vip], "", &[&[backends[0]], &[backends[1]]]));
    let proxy = site.start();
    let mut living = flow(&site, &first, vip);
    let (name, backend) = ("web".parse().unwrap(), "b0".parse().unwrap());
    let drain = |draining: bool| {
        let call = async |client: &mut proxy_api::Client| {
            client.drain_backend(&name, &backend, draining).await
        };
        proxy.call(Role::Orchestrator, call).unwrap()
    };
    assert_eq!((drain(true).flows_active, proxy.service("web").backends[0].draining), (1, true));
    for _ in 0..3 {
        passes(&mut flow(&site, &second, vip));
    }
    passes(&mut living);
    assert!(!drain(false).draining);
    // Its turn comes again.
    let _clients = [site.connect(vip), site.connect(vip)];
    first.accept().unwrap();
    second.accept().unwrap();
}
