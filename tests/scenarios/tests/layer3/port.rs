//! What is done at the VM's own port, one thing at a time.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use lab::host::Host;
use lab::world::{Gateway, addresses};
use network::port::Protocol;
use network::{Mac, TapQueue};
use rustix::fd::AsFd;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::rig::{A, B, Ends, Rig, guest};

const PORT: u16 = 9000;
const DATAGRAMS: u8 = 50;
/// A bound that is reached.
const SHORT: Duration = Duration::from_millis(1);

fn udp(host: &Host, ip: IpAddr, port: u16) -> UdpSocket {
    host.inside(|| UdpSocket::bind((ip, port))).unwrap().unwrap()
}

#[test]
fn with_whom_the_vm_speaks_is_seen_with_their_macs_and_outsiders_with_the_gateways() {
    let rig = Rig::new(Gateway::Own);
    let neighbour = rig.site(A).neighbour_station(1);
    let outside = addresses::client(1);
    for (vm, (peer, outside)) in
        guest().addresses.into_iter().zip(neighbour.ip.each().into_iter().zip(outside.each()))
    {
        let listener = rig.site(A).neighbour(1).inside(|| TcpListener::bind((peer, PORT)));
        let listener = listener.unwrap().unwrap();
        let there = listener.local_addr().unwrap();
        let _stream = rig.vm.host().inside(|| TcpStream::connect(there)).unwrap().unwrap();
        let speaks = udp(rig.vm.host(), vm, PORT);
        speaks.send_to(b"x", SocketAddr::new(outside, PORT)).unwrap();
        let macs = [
            (Protocol::Tcp, peer, neighbour.mac),
            (Protocol::Udp, outside, rig.site(A).gateway().mac),
        ];
        for (protocol, peer, mac) in macs {
            scenarios::site::eventually(|| {
                let seen = rig.seen(A);
                let is_it = seen.iter().any(|one| {
                    (one.protocol, one.tuple.vm, one.tuple.peer, one.tuple.peer_port)
                        == (protocol, vm, peer, PORT)
                        && one.mac == Some(Mac(mac.0))
                });
                if is_it { Ok(()) } else { Err(format!("{peer} is not in {seen:#?}")) }
            });
        }
    }
}

#[test]
fn where_a_vm_came_by_a_move_it_is_told_when_a_conversation_first_and_last_passed() {
    let mut rig = Rig::new(Gateway::Own);
    let (vm, to) = (guest().addresses[0], addresses::client(1).v4);
    let speaks = udp(rig.vm.host(), vm, PORT);
    let told = |rig: &Rig, at| {
        speaks.send_to(b"x", (to, PORT)).unwrap();
        let seen = rig.seen(at);
        let it = seen.iter().find(|one| one.tuple.peer == IpAddr::from(to));
        it.map(|one| (one.first_s_ago, one.last_s_ago)).ok_or("not seen".to_owned())
    };
    // At home nobody asks when it began.
    let (first, last) = scenarios::site::eventually(|| told(&rig, A));
    assert!(first.is_none() && last.is_some_and(|ago| ago < 3_600), "{first:?} {last:?}");
    rig.go(A, B, Ends::AtTarget);
    let (first, last) = scenarios::site::eventually(|| told(&rig, B));
    assert!(first >= last && last.is_some() && first < Some(3_600), "{first:?} {last:?}");
    // What passes later leaves the first as it was.
    scenarios::site::eventually(|| match told(&rig, B)? {
        (Some(first), Some(last)) if first > last + 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn what_comes_for_a_stopped_vm_is_left_in_its_tap_in_order_also_for_another_process() {
    let rig = Rig::new(Gateway::Own);
    let vm = guest().addresses[0];
    let from = udp(&rig.site(A).neighbour(1), rig.site(A).neighbour_station(1).ip.v4.into(), 0);
    // The neighbour knows where it is.
    let heard = udp(rig.vm.host(), vm, PORT);
    from.send_to(b"?", (vm, PORT)).unwrap();
    heard.recv(&mut [0; 1]).unwrap();
    assert!(rig.queue(A).wait_until_empty(Duration::from_secs(10)).unwrap());
    rig.vm.stop();
    for number in 0..DATAGRAMS {
        from.send_to(&[number], (vm, PORT)).unwrap();
    }
    assert!(!rig.queue(A).wait_until_empty(SHORT).unwrap());
    // As an agent finds it that was not there when the tap was opened.
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let queue = TapQueue::of_process(process.as_fd(), std::process::id(), rig.tap(A)).unwrap();
    let mut left = Vec::new();
    scenarios::site::eventually(|| {
        left.extend(queue.leftovers(guest().mac).unwrap());
        let count = left.len();
        if count >= DATAGRAMS.into() { Ok(()) } else { Err(format!("{count} are left")) }
    });
    // Of IPv4 20 bytes, of UDP 8.
    let numbers: Vec<u8> = left.iter().filter_map(|packet| packet.get(28).copied()).collect();
    assert_eq!(numbers, (0..DATAGRAMS).collect::<Vec<u8>>());
    assert!(rig.queue(A).leftovers(guest().mac).unwrap().is_empty());
    let other = TapQueue::of_process(process.as_fd(), std::process::id(), "cwtap99");
    assert!(other.is_err(), "{other:?}");
}

#[test]
fn whoever_stands_in_for_the_vm_does_not_tell_the_vm_itself() {
    let mut rig = Rig::new(Gateway::Own);
    rig.stand_in(A);
    assert!(!found_a_duplicate(&rig), "the guards do not hold");
    // Without them it would be told.
    let flush = format!("netdev causeway_web to_{}", rig.tap(A));
    let command: Vec<&str> =
        ["nft", "flush", "chain"].into_iter().chain(flush.split(' ')).collect();
    rig.site(A).hypervisor().succeed(&command).unwrap();
    assert!(found_a_duplicate(&rig), "nobody stands in");
}

/// Whether the VM finds that somebody else has its address, as after a boot.
fn found_a_duplicate(rig: &Rig) -> bool {
    let vm = addresses::vm(1).ip.v6;
    let host = rig.vm.host();
    host.ip_batch(&format!("addr del {vm}/64 dev eth0\naddr add {vm}/64 dev eth0\n")).unwrap();
    scenarios::site::eventually(|| {
        let told =
            host.succeed(&["ip", "-6", "addr", "show", "dev", "eth0", "to", &vm.to_string()]);
        let told = told.unwrap();
        if told.contains("dadfailed") {
            return Ok(true);
        }
        if told.contains("tentative") { Err(told) } else { Ok(false) }
    })
}
