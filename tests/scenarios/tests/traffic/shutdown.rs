//! The end of a proxy that has flows: bounded, and told to their peers as what it is.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scenarios::running::SOON;
use scenarios::site::{Site, eventually, service};

#[test]
fn flows_that_do_not_end_are_broken_off_at_the_bound() {
    let site = Site::new();
    let (listener, vip) = (site.listener(0), site.vips(80)[0]);
    let web = service("web", "tcp", &[vip], "", &[&[listener.local_addr().unwrap()]]);
    site.configure(&format!("[limits]\nshutdown_drain_ms = 400\n{web}"));
    let proxy = site.start();
    let mut client = site.connect(vip);
    let address = client.local_addr().unwrap().to_string();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    // Nobody new, while the flow still passes bytes.
    eventually(|| match site.try_connect(vip) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for end in [&mut client, &mut server] {
        assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(proxy.ended(SOON).code(), Some(0));
    let entries = proxy.events("flow ended");
    let entry = entries.iter().find(|entry| entry["client"] == address.as_str()).unwrap();
    assert_eq!(entry["reason"], "proxy_shutdown");
    let left = "flows broken off: they did not end within limits.shutdown_drain_ms";
    assert!(proxy.events(left)[0]["left"].as_u64() >= Some(1));
}

#[test]
fn a_proxy_waits_for_flows_that_end_by_themselves() {
    let site = Site::new();
    let (listener, vip) = (site.listener(0), site.vips(80)[0]);
    let web = service("web", "tcp", &[vip], "", &[&[listener.local_addr().unwrap()]]);
    // Far longer than the flow will take.
    site.configure(&format!("[limits]\nshutdown_drain_ms = 600000\n{web}"));
    let proxy = site.start();
    let mut client = site.connect(vip);
    let (mut server, _) = listener.accept().unwrap();
    proxy.signal(Signal::TERM);
    let _ = proxy.event("stopping");
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "last words");
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(proxy.ended(SOON).code(), Some(0));
    assert_eq!(proxy.events("flow ended")[0]["reason"], "client_fin");
}

#[test]
fn a_second_signal_ends_the_wait_and_the_flows_at_once() {
    let site = Site::new();
    let (listener, vip) = (site.listener(0), site.vips(80)[0]);
    let web = service("web", "tcp", &[vip], "", &[&[listener.local_addr().unwrap()]]);
    site.configure(&format!("[limits]\nshutdown_drain_ms = 600000\n{web}"));
    let proxy = site.start();
    let mut client = site.connect(vip);
    let _server = listener.accept().unwrap();
    proxy.signal(Signal::TERM);
    let _ = proxy.event("stopping");
    proxy.signal(Signal::TERM);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.ended(SOON).code(), Some(1));
}
