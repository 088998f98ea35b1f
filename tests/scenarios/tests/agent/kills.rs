//! The service that drives a move of a real VM is killed, at each of its steps, while users go on:
//! before the source has released the VM, the next attempt of the same move completes; after it, the
//! same attempt does.

use lab::world::Site;
use orchestrator_api::operator::MoveState;

use crate::ground::{Ground, two_sites};
use crate::lookout::Lookout;
use crate::names::NameServer;
use crate::placed::{arrived, start};
use crate::service::Service;
use crate::users::Users;

/// Where the service is killed in each move: before a step's effect, and in those that matter most
/// behind it, too. Each time the next attempt comes further.
const BEFORE_THE_RELEASE: [&[&str]; 4] = [
    &["claim.started", "reserve.started", "channels.started"],
    &["shorten.started", "mirror.started", "mirror.done"],
    &["stage.started", "stage.done", "memory.started"],
    &["hold.started", "hold.done", "release.started"],
];

/// The same, of one attempt that goes on.
const AFTER_THE_RELEASE: [&str; 12] = [
    "release.done",
    "start.started",
    "start.done",
    "arrive.started",
    "redirect.started",
    "health.started",
    "steer.started",
    "forget.started",
    "arm.started",
    "restore.started",
    "give-back.started",
    "give-back.done",
];

#[test]
fn a_move_whose_service_is_killed_before_the_release_completes_with_its_next_attempt() {
    let gates = BEFORE_THE_RELEASE.iter().map(|gates| (*gates, gates.len()));
    moved_under_kills(&gates.collect::<Vec<_>>());
}

#[test]
fn a_move_whose_service_is_killed_after_the_release_completes_with_the_same_attempt() {
    // There, and back again to where the users' connections are.
    moved_under_kills(&[(&AFTER_THE_RELEASE, 0), (&AFTER_THE_RELEASE, 0)]);
}

/// Moves a VM to the other site once for each row: where its service is killed, and how many attempts
/// of the move that ends.
fn moved_under_kills(moves: &[(&[&str], usize)]) {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let mut at = [world.site("a"), world.site("b")];
    let _crews = at.map(|site| ground.crew(site));
    let servers = at.map(|site| NameServer::start(world, site, papers));
    let mut service = Service::start_with_names(world, papers);
    let lookout = Lookout::begin(world);
    start(&service, at[0]);
    let mut users = Users::start(world, at[0]);
    for (number, (gates, ended)) in (1..).zip(moves) {
        let id = format!("web.{number}");
        moved(&mut service, &id, at[1], gates, *ended);
        servers.iter().for_each(|server| server.answers(at[1], false));
        arrived(at[1]);
        users.all_go_on();
        service.says(&["report", &id, "--strict"], 0);
        at.swap(0, 1);
    }
    lookout.end();
}

/// One move, whose service is killed at each of these gates.
fn moved(service: &mut Service, id: &str, to: &Site, gates: &[&str], attempts_ended: usize) {
    let gates: Vec<String> = gates.iter().map(|gate| format!("web.{gate}")).collect();
    gates.iter().for_each(|gate| service.close_gate(gate));
    service.says(&["move", "web", "--to", to.name(), "--no-wait"], 0);
    for gate in &gates {
        service.waits_at(id, gate);
        service.killed();
        service.open_gate(gate);
        service.begin();
    }
    let ended = service.end_of(id);
    assert_eq!(ended.state, MoveState::Completed, "{ended:?}");
    assert_eq!(ended.attempt as usize, attempts_ended + 1, "{ended:?}");
    println!("{id}, killed at {gates:?}: epoch {:?}, earlier {:?}", ended.epoch, ended.earlier);
}
