//! A proxy dies while a real VM moves, and is there again a moment later, as its host's supervisor
//! sees to. While memory is copied that costs the copy: the move is undone, and the same one succeeds
//! later. During the hold, and once the VM is at its new place, the move goes on. Connections that
//! the dead one did not carry itself live on.

use std::sync::Arc;

use lab::snapshot::Snapshot;
use lab::world::Site;
use orchestrator_api::Doing;
use orchestrator_api::operator::MoveState;

use crate::crew::{Crew, until};
use crate::ground::{Ground, two_sites};
use crate::lookout::Lookout;
use crate::neighbour::{Serving, guest_with_neighbour};
use crate::placed::{arrived, nothing_left, start_as};
use crate::service::Service;
use crate::users::Users;

/// While a proxy lies dead in the hold and after the start. In the first, the VM is at neither place.
const DIES_AT: [&str; 2] = ["web.release.done", "web.arrive.started"];

#[test]
fn a_targets_proxy_that_dies_in_mid_move_costs_the_copy_at_most_and_no_connection() {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let mut crews = [a, b].map(|site| ground.crew(site));
    let service = Service::start(world, papers);
    let lookout = Lookout::begin(world);
    let serving = Serving::at(a);
    start_as(&service, a, &guest_with_neighbour(a));
    let mut neighbour = serving.connects();
    let mut users = Users::start(world, a);
    let untouched = Snapshot::take(b.place()).unwrap();

    undone_by_the_death_of(&mut crews[1], &service);
    nothing_left(b, &untouched, false);
    users.all_go_on();
    neighbour.all_go_on(false);

    moved_over_deaths_of(&mut crews[1], &service, b);
    users.all_go_on();
    neighbour.all_go_on(false);
    service.says(&["report", "web.2", "--strict"], 0);
    lookout.end();
}

#[test]
fn a_sources_proxy_that_dies_in_mid_move_costs_what_it_carried_and_no_move_and_no_neighbour() {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let mut crews = [a, b].map(|site| ground.crew(site));
    let service = Service::start(world, papers);
    let untouched = Snapshot::take(b.place()).unwrap();
    let lookout = Lookout::begin(world);
    let serving = Serving::at(a);
    start_as(&service, a, &guest_with_neighbour(a));
    let mut neighbour = serving.connects();

    undone_by_the_death_of(&mut crews[0], &service);
    nothing_left(b, &untouched, false);
    neighbour.all_go_on(false);

    moved_over_deaths_of(&mut crews[0], &service, b);
    neighbour.all_go_on(false);
    // Who comes to the old place now is served.
    Users::start(world, a).all_go_on();
    lookout.end();
}

/// While memory is on its way.
fn undone_by_the_death_of(crew: &mut Crew<'_>, service: &Service) {
    service.says(&["move", "web", "--to", "b", "--rate-mbit", "20", "--no-wait"], 0);
    until("memory is on its way", || {
        let progress = service.view("web.1")?.progress?;
        (progress.doing == Doing::Copying && progress.memory_done_bytes > 0).then_some(())
    });
    dies(crew);
    let ended = service.end_of("web.1");
    let MoveState::Undone { why } = &ended.state else { panic!("{ended:?}") };
    println!("{} lost its proxy: {why}", crew.site.name());
    until("the tunnel stands again", || {
        service.types(&["plan", "web", "--to", "b"]).status.success().then_some(())
    });
}

/// During the hold, and once the VM is there.
fn moved_over_deaths_of(crew: &mut Crew<'_>, service: &Service, to: &Site) {
    DIES_AT.iter().for_each(|gate| service.close_gate(gate));
    service.says(&["move", "web", "--to", to.name(), "--no-wait"], 0);
    for gate in DIES_AT {
        service.waits_at("web.2", gate);
        dies(crew);
        service.open_gate(gate);
    }
    let ended = service.end_of("web.2");
    assert_eq!((&ended.state, ended.attempt), (&MoveState::Completed, 1), "{ended:?}");
    arrived(to);
}

fn dies(crew: &mut Crew<'_>) {
    let proxy = Arc::get_mut(&mut crew.proxy).expect("nobody else has it");
    proxy.killed();
    proxy.begin();
}
