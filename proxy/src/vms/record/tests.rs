//! Moves there, back and on, as each end's record sees them.

use network::leg::{Away as KernelAway, Otherwise};
use placement::{End, Owner};
use proxy_api::{Neighbour, WayKind};
use tunnel::protocol::packets::Stand;

use super::*;

fn here(site: &str) -> Here {
    let leg = if site == "a" { "10.9.1.1" } else { "10.9.1.2" };
    Here {
        site: site.parse().unwrap(),
        proxy: "p1".parse().unwrap(),
        network: Some("apps".parse().unwrap()),
        leg: vec![(leg.parse().unwrap(), 16)],
        gateways: vec!["10.9.0.9".parse().unwrap()],
    }
}

fn place(site: &str) -> Place {
    let [proxy, network] = ["p1", "apps"].map(|name| name.parse().unwrap());
    Place { site: site.parse().unwrap(), proxy, network }
}

fn authority(epoch: u64) -> Authority {
    let owner = Owner { name: "serve".parse().unwrap(), incarnation: 7 };
    Authority { epoch: Epoch::new(epoch), owner }
}

fn stage(epoch: u64, from: &str, to: &str) -> Stage {
    let neighbour = Neighbour {
        address: format!("10.9.2{}.1", if from == "a" { 1 } else { 2 }).parse().unwrap(),
        mac: Some(proxy_api::Mac([2, 0, 0, 0, 0, 9])),
        is_gateway: false,
        is_there_too: false,
    };
    let elsewhere = Elsewhere {
        place: place(from),
        leg: here(from).leg.into_iter().map(|(ip, _)| ip).collect(),
        gateways: vec![],
        neighbours: vec![neighbour],
        conversations: vec![],
    };
    Stage {
        authority: authority(epoch),
        from: place(from),
        to: place(to),
        card: Card {
            mac: proxy_api::Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec!["10.9.2.1".parse().unwrap(), "fd10::2:1".parse().unwrap()],
        },
        elsewhere: vec![elsewhere],
    }
}

fn redirect(epoch: u64, to: &str) -> Redirect {
    Redirect { authority: authority(epoch), placement: place(to) }
}

/// The record at `at` of a VM that has moved from a to b.
fn moved(at: &str) -> Record {
    let (here, record) = (here(at), Record::default());
    let record = record.staged(&here, stage(2, "a", "b")).unwrap();
    let record = match at {
        "a" => {
            let record = record.diverted(&here, &authority(2)).unwrap();
            record.stands_in(&here, &authority(2)).unwrap()
        }
        _ => record.released(&here),
    };
    record.redirected(&here, &redirect(2, "b")).unwrap()
}

#[test]
fn the_tunnels_way_follows_the_record() {
    let (a, b) = (here("a"), here("b"));
    let stand = |record: &Record, here: &Here| record.way(here).map(|way| way.stand);
    let proxy = |site: &str| Identity {
        site: site.parse().unwrap(),
        role: Role::Proxy,
        name: "p1".parse().unwrap(),
    };
    let leaving = Record::default().staged(&a, stage(2, "a", "b")).unwrap();
    assert_eq!(stand(&leaving, &a), None, "nothing has changed yet");
    let holding = leaving.diverted(&a, &authority(2)).unwrap();
    assert_eq!(stand(&holding, &a), Some(Stand::Holding { to: proxy("b"), talks: vec![] }));
    assert_eq!(holding.goes_to(&a), Some(proxy("b")));
    assert_eq!(stand(&holding.released(&a), &a), None, "called off");

    let staged = Record::default().staged(&b, stage(2, "a", "b")).unwrap();
    let Some(Stand::Staged { from, away: None, talks }) = stand(&staged, &b) else { panic!() };
    let [with_a] = &talks[..] else { panic!("{talks:?}") };
    assert_eq!((&from, &with_a.peer), (&proxy("a"), &proxy("a")));
    let known: Vec<String> = with_a.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(known, ["10.9.1.1", "10.9.21.1"], "the leg and the neighbour");
    let here_now = Some(Stand::Here { talks });
    assert_eq!(stand(&staged.released(&b), &b), here_now);
    assert_eq!(stand(&moved("b"), &b), here_now);
    assert_eq!(stand(&moved("a"), &a), Some(Stand::Away { to: proxy("b"), next: None }));

    let back = moved("a").staged(&a, stage(3, "b", "a")).unwrap();
    let Some(Stand::Staged { from, away, .. }) = stand(&back, &a) else { panic!() };
    assert_eq!((from, away), (proxy("b"), Some(proxy("b"))));
    let back = moved("b").staged(&b, stage(3, "b", "a")).unwrap();
    let held = back.diverted(&b, &authority(3)).unwrap();
    let Some(Stand::Holding { to, talks }) = stand(&held, &b) else { panic!() };
    assert_eq!((to, talks.len()), (proxy("a"), 1), "what a sends meanwhile is for the vm too");
}

#[test]
fn a_move_there_diverts_stands_in_and_stays_away_until_it_is_reclaimed() {
    let a = here("a");
    let staged = Record::default().staged(&a, stage(2, "a", "b")).unwrap();
    assert_eq!((staged.kind(&a), staged.wanted(&a)), (Some(WayKind::Leaving), None));
    let diverted = staged.diverted(&a, &authority(2)).unwrap();
    let away = |record: &Record| record.wanted(&a).and_then(|wanted| wanted.away);
    assert_eq!(away(&diverted), Some(KernelAway { diverts: true, stands_in: false }));
    let stands_in = diverted.stands_in(&a, &authority(2)).unwrap();
    assert_eq!(away(&stands_in), Some(KernelAway { diverts: true, stands_in: true }));
    // Said again, the one before takes nothing back.
    let stands_in = stands_in.diverted(&a, &authority(2)).unwrap();
    let left = stands_in.redirected(&a, &redirect(2, "b")).unwrap();
    assert_eq!(left.kind(&a), Some(WayKind::Away));
    assert_eq!(away(&left), Some(KernelAway { diverts: true, stands_in: true }));
    assert_eq!(left.clone().redirected(&a, &redirect(2, "b")).unwrap(), left);
    let gone = left.reclaimed(Epoch::new(2)).unwrap();
    assert_eq!((gone.kind(&a), gone.wanted(&a)), (None, None));
}

#[test]
fn a_placement_told_by_a_takeover_ends_the_hold_of_the_move_that_it_took_over() {
    let (a, b) = (here("a"), here("b"));
    let staged = Record::default().staged(&a, stage(2, "a", "b")).unwrap();
    let held = staged.diverted(&a, &authority(2)).unwrap().stands_in(&a, &authority(2)).unwrap();
    let left = held.clone().redirected(&a, &redirect(5, "b")).unwrap();
    assert_eq!(left.kind(&a), Some(WayKind::Away));
    assert_eq!(left.clone().redirected(&a, &redirect(6, "b")).unwrap(), left);
    // It comes back, and is asked back by the epoch under which it left.
    left.clone().staged(&a, stage(7, "b", "a")).unwrap();
    assert_eq!(left.reclaimed(Epoch::new(2)).unwrap().kind(&a), None);
    // An older one, and one that sends it elsewhere, end no hold.
    for other in [redirect(1, "b"), redirect(5, "c")] {
        assert_eq!(held.clone().redirected(&a, &other).unwrap().kind(&a), Some(WayKind::Holding));
    }
    let staged = Record::default().staged(&b, stage(2, "a", "b")).unwrap();
    let came = staged.released(&b).redirected(&b, &redirect(5, "b")).unwrap();
    assert_eq!(came.kind(&b), Some(WayKind::Hosting));
}

#[test]
fn the_target_answers_for_those_that_the_vm_left_behind() {
    let b = here("b");
    let staged = Record::default().staged(&b, stage(2, "a", "b")).unwrap();
    let hosting = staged.wanted(&b).unwrap().hosting.unwrap();
    let peers: Vec<String> = hosting.peers.iter().map(|peer| peer.address.to_string()).collect();
    assert_eq!(peers, ["10.9.1.1", "10.9.21.1"]);
    assert_eq!(hosting.otherwise, Otherwise::There);
    let early = staged.clone().redirected(&b, &redirect(2, "b"));
    assert!(matches!(early, Err(NotNow::UnderWay { .. })), "{early:?}");
    let released = staged.released(&b);
    assert_eq!(released.clone().released(&b), released);
    let here = released.redirected(&b, &redirect(2, "b")).unwrap();
    assert_eq!(here.kind(&b), Some(WayKind::Hosting));
    assert_eq!(here.wanted(&b).unwrap().hosting.unwrap(), hosting);
    assert_eq!(here.peers(&b)[0].to_string(), "causeway://site/a/role/proxy/name/p1");
}

#[test]
fn a_move_that_is_called_off_leaves_all_as_it_was() {
    let (a, b) = (here("a"), here("b"));
    let staged = Record::default().staged(&a, stage(2, "a", "b")).unwrap();
    let held = staged.diverted(&a, &authority(2)).unwrap();
    let refused = held.clone().unstaged();
    assert!(matches!(refused, Err(NotNow::UnderWay { .. })), "{refused:?}");
    let back = held.released(&a).unstaged().unwrap();
    assert_eq!((back.kind(&a), back.wanted(&a)), (None, None));
    let staged = Record::default().staged(&b, stage(2, "a", "b")).unwrap();
    assert_eq!(staged.unstaged().unwrap().wanted(&b), None);
}

#[test]
fn on_the_way_back_pinned_flows_go_on_until_the_release_and_what_began_there_goes_on_after() {
    let (a, b) = (here("a"), here("b"));
    let staged = moved("a").staged(&a, stage(3, "b", "a")).unwrap();
    let wanted = staged.wanted(&a).unwrap();
    assert!(wanted.away.is_some_and(|away| away.diverts));
    assert_eq!(wanted.hosting.unwrap().otherwise, Otherwise::Here);
    let home = staged.released(&a).redirected(&a, &redirect(3, "a")).unwrap();
    let wanted = home.wanted(&a).unwrap();
    assert_eq!((wanted.away, home.is_away()), (None, false));
    assert_eq!(wanted.hosting.unwrap().otherwise, Otherwise::Here);

    let staged = moved("b").staged(&b, stage(3, "b", "a")).unwrap();
    let held = staged.diverted(&b, &authority(3)).unwrap();
    // Until it has left, the VM still speaks through here.
    assert!(held.wanted(&b).unwrap().hosting.is_some());
    let called_off = held.clone().released(&b);
    assert_eq!(called_off.wanted(&b), moved("b").wanted(&b));
    let left = held.redirected(&b, &redirect(3, "a")).unwrap();
    let wanted = left.wanted(&b).unwrap();
    assert!(wanted.away.is_some() && wanted.hosting.is_none());
}

#[test]
fn a_proxy_that_the_vm_left_earlier_follows_it_to_a_third_site() {
    let a = here("a");
    let on = moved("a").redirected(&a, &redirect(3, "c")).unwrap();
    assert_eq!(on.peers(&a)[0].site.as_str(), "c");
    // What it left is of the move by which it left.
    let gone = on.reclaimed(Epoch::new(2)).unwrap();
    assert_eq!((gone.kind(&a), gone.wanted(&a)), (None, None));
    let back = moved("a").staged(&a, stage(3, "b", "a")).unwrap().released(&a);
    let back = back.redirected(&a, &redirect(3, "a")).unwrap();
    let again = back.staged(&a, stage(4, "a", "b")).unwrap();
    let again = again.diverted(&a, &authority(4)).unwrap();
    let again = again.redirected(&a, &redirect(4, "b")).unwrap();
    let early = again.reclaimed(Epoch::new(2));
    assert_eq!(early, Err(NotNow::Later { of: Epoch::new(4), asked: Epoch::new(2) }));
}

#[test]
fn a_vm_that_is_to_go_on_may_speak_from_there_until_it_stays_or_has_gone() {
    let a = here("a");
    let next = |record: &Record| match record.way(&a).map(|way| way.stand) {
        Some(Stand::Away { to, next }) => (to.site.to_string(), next.map(|it| it.site.to_string())),
        other => panic!("{other:?}"),
    };
    let on = stage(3, "b", "c");
    let stranger = Record::default().goes_on(&on);
    assert!(matches!(stranger, Err(NotNow::NotAnEnd { .. })), "{stranger:?}");
    let away = moved("a");
    let goes = away.clone().goes_on(&on).unwrap();
    assert_eq!(next(&goes), ("b".to_owned(), Some("c".to_owned())));
    assert_eq!(goes.wanted(&a), away.wanted(&a), "what is here for it goes where it runs");
    assert_eq!(goes.clone().goes_on(&on).unwrap(), goes);
    assert_eq!(goes.stays(&authority(2)), None, "another move's word");
    assert_eq!(goes.stays(&authority(3)), Some(away));
    let gone = goes.redirected(&a, &redirect(3, "c")).unwrap();
    assert_eq!(next(&gone), ("c".to_owned(), None));
}

#[test]
fn at_home_nobody_elsewhere_is_known_any_more_but_to_be_found_here() {
    let b = here("b");
    let came = moved("b");
    assert_eq!(came.kind(&b), Some(WayKind::Hosting));
    let home = came.at_home(&b, Epoch::new(2)).unwrap();
    assert_eq!((home.kind(&b), home.wanted(&b), home.way(&b)), (None, None, None));
    assert_eq!(home.elsewhere(), []);
    let peers = ["10.9.21.7", "192.0.2.1", "10.9.2.1", "10.9.1.2"].map(|ip| ip.parse().unwrap());
    let told = |record: &Record| -> Vec<String> {
        record.to_find(&b, &peers).iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(&home), ["10.9.0.9", "10.9.1.1", "10.9.21.1", "10.9.21.7"]);
    // Said again it is the same, and they are still known.
    let again = home.clone().at_home(&b, Epoch::new(2)).unwrap();
    assert_eq!((told(&again), &again), (told(&home), &home));
    // It may go on from there as any other.
    let on = again.staged(&b, stage(3, "b", "a")).unwrap();
    assert_eq!(on.kind(&b), Some(WayKind::Leaving));
}

#[test]
fn only_a_vm_that_runs_here_by_that_move_and_is_in_no_other_comes_home() {
    let (a, b) = (here("a"), here("b"));
    let not_here = |epoch| Err(NotNow::NotHere(Epoch::new(epoch)));
    assert_eq!(Record::default().at_home(&b, Epoch::new(2)), not_here(2));
    assert_eq!(moved("a").at_home(&a, Epoch::new(2)), not_here(2), "it has left");
    assert_eq!(moved("b").at_home(&b, Epoch::new(1)), not_here(1), "an older move");
    let staged = moved("b").staged(&b, stage(3, "b", "a")).unwrap();
    let refused = staged.at_home(&b, Epoch::new(2));
    assert!(matches!(refused, Err(NotNow::UnderWay { .. })), "{refused:?}");
    // There, back and there again: a late word of the first stay takes nothing from the second.
    let again = moved("b").staged(&b, stage(3, "b", "a")).unwrap();
    let again = again.diverted(&b, &authority(3)).unwrap();
    let again = again.redirected(&b, &redirect(3, "a")).unwrap();
    let again = again.staged(&b, stage(4, "a", "b")).unwrap().released(&b);
    let again = again.redirected(&b, &redirect(4, "b")).unwrap();
    assert_eq!(again.clone().at_home(&b, Epoch::new(2)), not_here(2));
    assert_eq!(again.at_home(&b, Epoch::new(4)).unwrap().kind(&b), None);
}

#[test]
fn calls_out_of_order_and_of_the_wrong_end_are_refused() {
    let (a, b) = (here("a"), here("b"));
    let at_a = Record::default().staged(&a, stage(2, "a", "b")).unwrap();
    let at_b = Record::default().staged(&b, stage(2, "a", "b")).unwrap();
    let not_staged = Record::default().diverted(&a, &authority(2));
    assert_eq!(not_staged, Err(NotNow::NotStaged(authority(2))));
    assert_eq!(at_a.clone().diverted(&a, &authority(1)), Err(NotNow::NotStaged(authority(1))));
    assert_eq!(at_a.clone().stands_in(&a, &authority(2)), Err(NotNow::NotDiverted));
    assert_eq!(at_a.takes_leftovers(&a, &authority(2)), Err(NotNow::NotDiverted));
    assert_eq!(at_b.diverted(&b, &authority(2)), Err(NotNow::OtherEnd("arriving")));
    assert_eq!(at_a.clone().redirected(&a, &redirect(2, "a")), Err(NotNow::OtherEnd("leaving")));
    let held = at_a.diverted(&a, &authority(2)).unwrap();
    let next = held.staged(&a, stage(3, "a", "b"));
    assert!(matches!(next, Err(NotNow::UnderWay { .. })), "{next:?}");
}

#[test]
fn a_stage_that_would_harm_is_refused() {
    let (b, good) = (here("b"), stage(2, "a", "b"));
    let refused = |change: &dyn Fn(&mut Stage)| {
        let mut stage = good.clone();
        change(&mut stage);
        Record::default().staged(&b, stage).unwrap_err().to_string()
    };
    for (change, message) in [
        (&(|s: &mut Stage| s.to = s.from.clone()) as &dyn Fn(&mut Stage), "the same proxy"),
        (&|s| s.to.network = "dmz".parse().unwrap(), "no leg on network 'dmz'"),
        (&|s| s.to.site = "c".parse().unwrap(), "does not touch this proxy"),
        (&|s| s.elsewhere.clear(), "lacks the place"),
        (&|s| s.card.addresses.clear(), "no address"),
        (&|s| s.card.addresses.push("10.9.1.2".parse().unwrap()), "this proxy's own leg"),
        (&|s| s.card.addresses.push("fe80::1".parse().unwrap()), "can follow a vm"),
        (&|s| s.card.addresses.push("ff02::1".parse().unwrap()), "can follow a vm"),
        (&|s| s.card.addresses = vec!["10.9.2.1".parse().unwrap(); 65], "65 addresses"),
    ] {
        let said = refused(change);
        assert!(said.contains(message), "no '{message}' in: {said}");
    }
}

#[test]
fn of_all_that_a_port_has_seen_only_machines_on_the_subnet_and_gateways_are_answered_for() {
    let (b, mut stage) = (here("b"), stage(2, "a", "b"));
    let seen = |address: &str, is_gateway| Neighbour {
        address: address.parse().unwrap(),
        is_gateway,
        ..stage.elsewhere[0].neighbours[0]
    };
    let more = [
        ("192.0.2.9", false),
        ("224.0.0.251", false),
        ("255.255.255.255", false),
        ("fe80::5", false),
        ("10.9.1.2", false),
        ("10.9.2.1", false),
        ("fe80::1", true),
        ("10.9.0.1", true),
        ("10.9.0.1", false),
    ];
    let more: Vec<Neighbour> = more.map(|(address, gateway)| seen(address, gateway)).to_vec();
    stage.elsewhere[0].neighbours.extend(more);
    // The one of these that stands here too is this site's own.
    stage.elsewhere[0].gateways = ["10.9.0.9", "fe80::9"].map(|ip| ip.parse().unwrap()).to_vec();
    let staged = Record::default().staged(&b, stage).unwrap();
    let peers = staged.wanted(&b).unwrap().hosting.unwrap().peers;
    let told: Vec<(String, bool)> =
        peers.iter().map(|peer| (peer.address.to_string(), peer.is_router)).collect();
    let wanted = [
        ("10.9.1.1", false),
        ("fe80::9", true),
        ("10.9.21.1", false),
        ("fe80::1", true),
        ("10.9.0.1", true),
    ];
    assert_eq!(told, wanted.map(|(address, router)| (address.to_owned(), router)));
}

#[test]
fn only_the_agent_that_the_claim_names_here_may_speak_for_the_port() {
    let end = |site: &str, agent: &str| End {
        site: site.parse().unwrap(),
        agent: agent.parse().unwrap(),
        address: "192.0.2.1:7401".parse().unwrap(),
        proxy: "p1".parse().unwrap(),
    };
    let pair = Pair { from: end("a", "hv1"), to: end("b", "hv2") };
    let record = Record::default().claimed(&authority(2), &pair);
    let caller = |text: &str| format!("causeway://site/{text}").parse::<Identity>().unwrap();
    let may = |at: &str, epoch: u64, who: &str| {
        record.names_agent(&here(at), &authority(epoch), &caller(who))
    };
    assert!(may("a", 2, "a/role/agent/name/hv1") && may("b", 2, "b/role/agent/name/hv2"));
    for (at, epoch, who) in [
        ("a", 3, "a/role/agent/name/hv1"),
        ("a", 2, "a/role/agent/name/hv2"),
        ("a", 2, "b/role/agent/name/hv2"),
        ("b", 2, "a/role/agent/name/hv1"),
        ("a", 2, "a/role/operator/name/hv1"),
    ] {
        assert!(!may(at, epoch, who), "{at} {epoch} {who}");
    }
}

#[test]
fn a_return_without_a_hold_ends_what_led_the_vms_packets_away() {
    let a = here("a");
    let back = moved("a").redirected(&a, &redirect(3, "a")).unwrap();
    assert_eq!((back.kind(&a), back.wanted(&a), back.way(&a)), (None, None, None));
    assert!(!back.is_away());
}
