//! A VM at home: those that it spoke with elsewhere are spoken with no more, and it finds its own
//! neighbours, though it knew others by their addresses.

use std::net::IpAddr;

use lab::world::{APPLICATION_BITS, Gateway, Site, Station};
use proxy_api::{AtHome, WayKind};
use scenarios::flows::{Flows, Server};
use scenarios::site::eventually;

use crate::calls::code;
use crate::rig::{A, B, Ends, Rig};

/// A neighbour at one site that is known by one address of each family, and another at the other.
struct Twins {
    addresses: Vec<IpAddr>,
    _servers: [Server; 2],
}

impl Twins {
    /// The first neighbour of b has the addresses of a's instead of its own.
    fn of(rig: &Rig) -> Twins {
        let addresses = rig.site(A).neighbour_station(1).ip;
        let at_b = rig.site(B).neighbour(1);
        let ((v4_bits, v6_bits), own) = (APPLICATION_BITS, rig.site(B).neighbour_station(1).ip);
        let lines = [
            format!("addr del {}/{v4_bits} dev eth0", own.v4),
            format!("addr del {}/{v6_bits} dev eth0", own.v6),
            format!("addr add {}/{v4_bits} dev eth0", addresses.v4),
            format!("addr add {}/{v6_bits} dev eth0 nodad", addresses.v6),
        ];
        at_b.ip_batch(&(lines.join("\n") + "\n")).unwrap();
        let servers = [Server::on(&rig.site(A).neighbour(1)), Server::on(&at_b)];
        Twins { addresses: addresses.each().to_vec(), _servers: servers }
    }

    /// By what the VM itself believes, they are the one of this site.
    fn are_at(&self, rig: &Rig, site: &Site) {
        let mac = site.neighbour_station(1).mac.to_string();
        for ip in &self.addresses {
            eventually(|| {
                let words = ["ip", "neigh", "show", "to", &ip.to_string()];
                let told = rig.vm.host().succeed(&words).unwrap();
                if told.contains(&format!("lladdr {mac} ")) { Ok(()) } else { Err(told) }
            });
        }
    }

    fn talked_to(&self, rig: &Rig) -> Flows {
        let mut flows = Flows::without_bulk_on(rig.vm.host(), "to a twin", &self.addresses);
        flows.answered_again();
        flows
    }
}

/// Told of by these addresses and this MAC; a router or not.
fn knows(told: &AtHome, station: Station, is_gateway: bool) {
    for ip in station.ip.each() {
        let known = told.neighbours.iter().find(|neighbour| neighbour.address == ip);
        let known = known.unwrap_or_else(|| panic!("no {ip} in {told:?}"));
        let mac = proxy_api::Mac(station.mac.0);
        assert_eq!((known.mac, known.is_gateway), (Some(mac), is_gateway), "{ip}");
    }
}

/// As an orchestrator does: asked again while something is under way, and answered the same again
/// by a proxy that has died since.
fn comes_home(rig: &mut Rig, at: usize) {
    let told = eventually(|| match rig.home(at) {
        Ok(told) => Ok(told),
        refused => Err(code(refused)),
    });
    assert_eq!(rig.way(at), None);
    rig.proxy(at).kill();
    rig.proxy(at).start();
    let again = rig.home(at).unwrap();
    assert_eq!((rig.way(at), again.neighbours.len()), (None, told.neighbours.len()));
    let twin = rig.site(A).neighbour_station(1);
    knows(&again, Station { mac: rig.site(at).neighbour_station(1).mac, ..twin }, false);
    knows(&again, rig.site(at).gateway(), true);
    rig.lift(at, &again);
}

#[test]
fn a_vm_that_came_home_finds_its_own_neighbours_by_addresses_that_others_had() {
    let mut rig = Rig::new(Gateway::Own);
    let twins = Twins::of(&rig);
    let mut flows = twins.talked_to(&rig);
    twins.are_at(&rig, rig.site(A));
    rig.go(A, B, Ends::AtTarget);
    // It still speaks with a's, and so it is not at home.
    flows.answered_again();
    assert_eq!(code(rig.home(B)), "still_comes");
    assert_eq!(code(rig.home_by(B, 1)), "not_here");
    assert_eq!(code(rig.home(A)), "not_here");
    assert_eq!(rig.way(B).unwrap().kind, WayKind::Hosting);
    flows.answered_again();
    flows.finish(0);
    rig.reclaim(A);
    comes_home(&mut rig, B);
    twins.are_at(&rig, rig.site(B));
    let mut flows = twins.talked_to(&rig);

    // And back: what it spoke about with b's goes on with b's, until it is at home.
    rig.stage(B, A);
    assert_eq!(code(rig.home(B)), "under_way");
    rig.hold_and_stop(B);
    rig.start(A);
    rig.leave(B, A);
    rig.give_back();
    flows.answered_again();
    flows.finish(16);
    rig.reclaim(B);
    comes_home(&mut rig, A);
    twins.are_at(&rig, rig.site(A));
    twins.talked_to(&rig).finish(0);
}
