//! Moves there, called off, back, and with ends that die.

use tunnel::protocol::packets::{Dropped, Stand};

use crate::packet::{TCP, UDP, packet};
use crate::world::{DELAY_MS, World, leg, proxy, talks, vm, vm_ip};

const FLOWS: u16 = 5;

/// Clients of each site, each with a number that grows with every packet.
struct Clients {
    sent: [u32; 3],
    /// The sites whose kernel sends what is for the VM into the tunnel.
    diverted: [bool; 3],
}

impl Clients {
    fn new() -> Clients {
        Clients { sent: [0; 3], diverted: [false; 3] }
    }

    /// Every client at `site` sends one packet, half of them TCP's.
    fn send(&mut self, world: &mut World, site: usize) {
        let number = self.sent[site];
        self.sent[site] += 1;
        for at in 0..FLOWS {
            let flow = u16::try_from(site * 1_000).unwrap() + at;
            let protocol = if at % 2 == 0 { TCP } else { UDP };
            let packet = packet(protocol, leg(site), vm_ip(), flow, number);
            match self.diverted[site] {
                true => world.kernel_sends(site, &packet),
                false => world.at_port(site, packet),
            }
        }
    }

    fn send_for(&mut self, world: &mut World, sites: &[usize], ms: u64) {
        for _ in 0..ms {
            for site in sites {
                self.send(world, *site);
            }
            world.pass();
        }
    }
}

/// Holds at `from`, stops the VM, ships what is left in its port, and starts it at `to`.
fn hold_and_stop(world: &mut World, clients: &mut Clients, (from, to): (usize, usize), epoch: u64) {
    let elsewhere: Vec<usize> =
        (0..2).filter(|site| *site != from && clients.diverted[*site]).collect();
    let sites: Vec<usize> = elsewhere.iter().copied().chain([from]).collect();
    // The VM reads no more a little before its port is turned round.
    (world.runs_at, world.port_at) = (None, Some(from));
    clients.send_for(world, &sites, 1);
    world.set(from, epoch, Some(Stand::Holding { to: proxy(to), talks: talks(&elsewhere) }));
    clients.diverted[from] = true;
    clients.send_for(world, &sites, 20);
    let unread = std::mem::take(&mut world.unread);
    world.port_at = None;
    let half = unread.len() / 2;
    for (part, packets) in (0..).zip([&unread[..half], &unread[half..]]) {
        assert_eq!(world.leftovers(from, epoch, part, packets), packets.len() as u64);
        assert_eq!(world.leftovers(from, epoch, part, &[]), packets.len() as u64, "said again");
    }
}

fn there(world: &mut World, clients: &mut Clients) {
    world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
    clients.send_for(world, &[0], 5);
    hold_and_stop(world, clients, (0, 1), 2);
    let pause = 1 + world.dice.below(60);
    clients.send_for(world, &[0], pause);
    world.runs_at = Some(1);
    world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
    let until_redirect = world.dice.below(40);
    clients.send_for(world, &[0], until_redirect);
    world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
    clients.send_for(world, &[0], 50);
}

fn back(world: &mut World, clients: &mut Clients) {
    let staged = Stand::Staged { from: proxy(1), away: Some(proxy(1)), talks: talks(&[1]) };
    world.set(0, 3, Some(staged));
    clients.send_for(world, &[0, 1], 15);
    hold_and_stop(world, clients, (1, 0), 3);
    // At least a round trip from the hold on, which a copy's end takes: what a sent last before it
    // heard of the hold is back by then.
    let pause = 2 * DELAY_MS + world.dice.below(60);
    clients.send_for(world, &[0, 1], pause);
    world.runs_at = Some(0);
    world.set(0, 3, Some(Stand::Here { talks: talks(&[1]) }));
    clients.send_for(world, &[0, 1], 5);
    // The route goes when nothing waits any more.
    while !world.ways[0].flows(&vm()) {
        clients.send_for(world, &[0, 1], 1);
    }
    clients.diverted[0] = false;
    world.set(1, 3, Some(Stand::Away { to: proxy(0), next: None }));
    clients.send_for(world, &[0, 1], 50);
}

/// Every packet has come once and in order; of datagrams, all that the network has not lost.
fn check(world: &World, clients: &Clients, sites: &[usize], seed: u64) {
    assert!(world.dead.is_empty(), "seed {seed}: {} at a dead port", world.dead.len());
    let mut missing = 0;
    for site in sites {
        for at in 0..FLOWS {
            let flow = u16::try_from(site * 1_000).unwrap() + at;
            let protocol = if at % 2 == 0 { TCP } else { UDP };
            let seen = &world.seen[&(protocol, flow)];
            assert!(seen.is_sorted_by(|a, b| a < b), "seed {seed}, flow {flow}: {seen:?}");
            missing += u64::from(clients.sent[*site]) - seen.len() as u64;
            let answered = &world.answered[*site][&(protocol, flow)];
            assert!(
                answered.is_sorted_by(|a, b| a < b),
                "seed {seed}, answers {flow}: {answered:?}"
            );
            missing += seen.len() as u64 - answered.len() as u64;
        }
    }
    assert_eq!(missing, world.lost, "seed {seed}");
    for ways in &world.ways {
        let dropped: Vec<_> = ways.dropped().into_iter().filter(|(_, count)| *count > 0).collect();
        assert!(dropped.is_empty(), "seed {seed}: {dropped:?}");
    }
}

#[test]
fn nothing_is_lost_there_and_back_but_what_the_network_loses() {
    let (mut held, mut lost) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(2, seed);
        world.loss_percent = seed % 3;
        let mut clients = Clients::new();
        clients.send_for(&mut world, &[0], 5);
        there(&mut world, &mut clients);
        held += world.counts(1).released;
        clients.diverted[1] = false;
        back(&mut world, &mut clients);
        world.pass_ms(5 * DELAY_MS);
        check(&world, &clients, &[0, 1], seed);
        lost += world.lost;
    }
    assert!(held > 10_000 && lost > 100, "held {held}, lost {lost}");
}

#[test]
fn a_hold_that_is_called_off_gives_everything_back_in_order() {
    for seed in 0..50 {
        let mut world = World::new(2, seed);
        let mut clients = Clients::new();
        world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
        clients.send_for(&mut world, &[0], 5);
        hold_and_stop(&mut world, &mut clients, (0, 1), 2);
        clients.send_for(&mut world, &[0], 100);
        world.runs_at = Some(0);
        let none = if seed % 2 == 0 { None } else { Some(Stand::Here { talks: vec![] }) };
        world.set(0, 2, none);
        // The route goes only now.
        clients.send_for(&mut world, &[0], 3);
        clients.diverted[0] = false;
        clients.send_for(&mut world, &[0], 30);
        assert!(world.counts(0).released > 500, "{:?}", world.counts(0));
        let sent_ahead = world.counts(1).dropped_other;
        assert!(sent_ahead > 0, "what was sent ahead is void");
        assert_eq!(world.counts(1).held_bytes_now, 0);
        world.set(1, 2, None);
        world.ways.pop();
        check(&world, &clients, &[0], seed);
    }
}

#[test]
fn a_return_that_is_called_off_costs_neither_sites_clients_a_packet() {
    for seed in 0..50 {
        let mut world = World::new(2, seed);
        let mut clients = Clients::new();
        clients.send_for(&mut world, &[0], 5);
        there(&mut world, &mut clients);
        let staged = Stand::Staged { from: proxy(1), away: Some(proxy(1)), talks: talks(&[1]) };
        world.set(0, 3, Some(staged));
        clients.send_for(&mut world, &[0, 1], 15);
        hold_and_stop(&mut world, &mut clients, (1, 0), 3);
        clients.send_for(&mut world, &[0, 1], 40);
        world.runs_at = Some(1);
        world.set(1, 3, Some(Stand::Here { talks: talks(&[0]) }));
        clients.send_for(&mut world, &[0, 1], 3);
        clients.diverted[1] = false;
        clients.send_for(&mut world, &[0, 1], 40);
        world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
        clients.send_for(&mut world, &[0, 1], 40);
        world.pass_ms(5 * DELAY_MS);
        let void = world.ways[0].dropped()[Dropped::Void as usize].1;
        assert!(void > 0, "what was sent ahead is void");
        assert_eq!((&world.dead[..], world.lost), (&[][..], 0));
        for site in [0, 1] {
            for (key, seen) in world.seen.iter().filter(|(key, _)| key.1 / 1_000 == site) {
                let sent = clients.sent[usize::from(site)];
                assert_eq!(*seen, (0..sent).collect::<Vec<_>>(), "seed {seed}, {key:?}");
            }
        }
    }
}

#[test]
fn a_wan_that_is_cut_while_packets_are_held_costs_none() {
    for seed in 0..20 {
        let mut world = World::new(2, seed);
        let mut clients = Clients::new();
        world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
        world.is_cut = true;
        hold_and_stop(&mut world, &mut clients, (0, 1), 2);
        clients.send_for(&mut world, &[0], 500);
        world.is_cut = false;
        clients.send_for(&mut world, &[0], 30);
        world.runs_at = Some(1);
        world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
        clients.send_for(&mut world, &[0], 200);
        world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
        clients.send_for(&mut world, &[0], 50);
        world.pass_ms(500);
        check(&world, &clients, &[0], seed);
    }
}

#[test]
fn a_target_that_forgets_what_it_was_sent_is_sent_it_again() {
    for seed in 0..40 {
        let mut world = World::new(2, seed);
        let mut clients = Clients::new();
        let staged = Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) };
        world.set(1, 2, Some(staged.clone()));
        hold_and_stop(&mut world, &mut clients, (0, 1), 2);
        let before = 1 + world.dice.below(60);
        clients.send_for(&mut world, &[0], before);
        match seed % 2 {
            // Only the connection begins anew: what has come is known.
            0 => world.forget(0, 1),
            _ => world.restart(1, 2, staged),
        }
        let after = 1 + world.dice.below(60);
        clients.send_for(&mut world, &[0], after);
        world.runs_at = Some(1);
        world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
        if seed % 4 == 2 {
            clients.send_for(&mut world, &[0], DELAY_MS + 1);
            world.forget(0, 1);
        }
        clients.send_for(&mut world, &[0], 60);
        world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
        clients.send_for(&mut world, &[0], 60);
        world.pass_ms(200);
        check(&world, &clients, &[0], seed);
    }
}

#[test]
fn a_source_that_dies_loses_what_it_held_and_nothing_comes_twice() {
    for seed in 0..20 {
        let mut world = World::new(2, seed);
        let mut clients = Clients::new();
        world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
        hold_and_stop(&mut world, &mut clients, (0, 1), 2);
        let before = 1 + world.dice.below(60);
        clients.send_for(&mut world, &[0], before);
        world.restart(0, 2, Stand::Holding { to: proxy(1), talks: vec![] });
        clients.send_for(&mut world, &[0], 30);
        world.runs_at = Some(1);
        world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
        clients.send_for(&mut world, &[0], 60);
        world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
        clients.send_for(&mut world, &[0], 60);
        world.pass_ms(200);
        for (key, seen) in &world.seen {
            assert!(seen.is_sorted_by(|a, b| a < b), "seed {seed}, {key:?}: {seen:?}");
            assert_eq!(seen.last(), Some(&(clients.sent[0] - 1)), "seed {seed}, {key:?}");
        }
    }
}

#[test]
fn what_a_third_site_sends_during_a_hold_is_held_too_and_answered_from_where_the_vm_comes_to() {
    let mut world = World::new(3, 1);
    // It runs at b; a's flows follow it, and now it moves on to c.
    world.runs_at = Some(1);
    world.set(0, 2, Some(Stand::Away { to: proxy(1), next: None }));
    world.set(1, 2, Some(Stand::Here { talks: talks(&[0]) }));
    world.set(2, 3, Some(Stand::Staged { from: proxy(1), away: None, talks: talks(&[0, 1]) }));
    let mut clients = Clients::new();
    clients.diverted[0] = true;
    clients.send_for(&mut world, &[0], 30);
    // Nobody but b speaks for it at a, until a has heard of c.
    let early = packet(UDP, vm_ip(), leg(0), 0, 0);
    world.datagram(2, 0, &early);
    assert_eq!(world.ways[0].dropped()[Dropped::NotItsPeer as usize].1, 1);
    world.set(0, 2, Some(Stand::Away { to: proxy(1), next: Some(proxy(2)) }));
    world.runs_at = None;
    world.set(1, 3, Some(Stand::Holding { to: proxy(2), talks: talks(&[0]) }));
    clients.send_for(&mut world, &[0], 30);
    // Only the relay is looked at: what it holds is admitted in the name of b, whose list has a's leg.
    assert_eq!(world.leftovers(1, 3, 1, &[]), 0);
    assert!(world.counts(1).held >= 20 * u64::from(FLOWS), "{:?}", world.counts(1));
    world.runs_at = Some(2);
    world.set(2, 3, Some(Stand::Here { talks: talks(&[0, 1]) }));
    clients.send_for(&mut world, &[0], 40);
    assert!(world.counts(0).received > 0);
    world.set(0, 3, Some(Stand::Away { to: proxy(2), next: None }));
    world.set(1, 3, Some(Stand::Away { to: proxy(2), next: None }));
    clients.send_for(&mut world, &[0], 40);
    world.pass_ms(5 * DELAY_MS);
    assert!(world.dead.is_empty());
    // A way that becomes shorter lets the later overtake the earlier; none is lost or comes twice.
    let answered = std::mem::take(&mut world.answered[0]);
    assert_eq!(world.seen.len(), answered.len());
    for (key, mut seen) in world.seen.into_iter().chain(answered) {
        seen.sort_unstable();
        assert_eq!(seen, (0..clients.sent[0]).collect::<Vec<_>>(), "{key:?}");
    }
    assert_eq!(world.ways[0].dropped()[Dropped::NotItsPeer as usize].1, 1);
    assert!(world.ways[2].heard(&vm()).is_some() && world.ways[0].heard(&vm()).is_none());
}

#[test]
fn a_hold_without_room_drops_counts_and_says_so() {
    let mut world = World::new(2, 1);
    world.set(1, 2, Some(Stand::Staged { from: proxy(0), away: None, talks: talks(&[0]) }));
    world.set(0, 2, Some(Stand::Holding { to: proxy(1), talks: vec![] }));
    world.is_cut = true;
    for number in 0..800_000 {
        world.kernel_sends(0, &packet(TCP, leg(0), vm_ip(), 1, number));
    }
    let counts = world.counts(0);
    assert!(counts.dropped_overflow > 0 && counts.held_bytes_now <= 64 * 1024 * 1024, "{counts:?}");
    assert_eq!(counts.held + counts.dropped_overflow, 800_000);
    let overflow = world.ways[0].dropped()[Dropped::Overflow as usize].1;
    assert_eq!(overflow, counts.dropped_overflow);
}
