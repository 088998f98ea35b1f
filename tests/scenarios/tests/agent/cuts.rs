//! The WAN fails while a real VM moves: nobody is told, and nothing comes through until it is back.
//! It costs time, not the move, and no connection.

use std::thread;
use std::time::Duration;

use lab::world::World;
use orchestrator_api::Doing;
use orchestrator_api::operator::MoveState;

use crate::crew::until;
use crate::ground::{Ground, slows_down, speeds_up, two_sites};
use crate::lookout::Lookout;
use crate::neighbour::{Neighbour, Serving, guest_with_neighbour};
use crate::placed::{arrived, start_as};
use crate::service::Service;
use crate::users::Users;

/// How long nothing comes through: longer than the tunnel takes to give its connections up.
const CUT: Duration = Duration::from_secs(5);

#[test]
fn a_wan_that_fails_while_disks_are_copied_and_after_the_cutover_costs_time_and_no_connection() {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let _crews = [a, b].map(|site| ground.crew(site));
    let service = Service::start(world, papers);
    let lookout = Lookout::begin(world);
    let serving = Serving::at(a);
    start_as(&service, a, &guest_with_neighbour(a));
    let mut neighbour = serving.connects();
    let mut users = Users::start(world, a);
    neighbour.all_go_on(false);

    service.close_gate("web.mirror.started");
    service.close_gate("web.arrive.started");
    service.says(&["move", "web", "--to", "b", "--no-wait"], 0);
    service.waits_at("web.1", "web.mirror.started");
    while_the_disk_is_on_its_way(world, &service);
    users.all_go_on();
    // The VM runs at its new place, and some of what was kept back for it has just come.
    service.waits_at("web.1", "web.arrive.started");
    fails(world, || service.open_gate("web.arrive.started"));
    let ended = service.end_of("web.1");
    assert_eq!((ended.state, ended.attempt), (MoveState::Completed, 1));
    everybody_goes_on(&mut users, &mut neighbour);

    // What had come back before the first word of the new place was lost, on the return.
    service.close_gate("web.start.done");
    service.says(&["move", "web", "--to", "a", "--no-wait"], 0);
    service.waits_at("web.2", "web.start.done");
    fails(world, || service.open_gate("web.start.done"));
    let ended = service.end_of("web.2");
    assert_eq!((ended.state, ended.attempt), (MoveState::Completed, 1));
    everybody_goes_on(&mut users, &mut neighbour);
    arrived(a);
    for id in ["web.1", "web.2"] {
        service.says(&["report", id, "--strict"], 0);
    }
    lookout.end();
}

/// A part of it is at the target: nothing more comes there for a while, and then the rest does.
fn while_the_disk_is_on_its_way(world: &World, service: &Service) {
    slows_down(world);
    service.open_gate("web.mirror.started");
    let carried = || {
        let progress = service.view("web.1")?.progress?;
        assert_eq!(progress.doing, Doing::Mirroring, "{progress:?}");
        Some((progress.disk_done_bytes, progress.disk_bytes))
    };
    until("a part of the disk is there", || carried().filter(|(done, _)| *done > 0));
    fails(world, || {});
    let (done, all) = carried().unwrap();
    assert!(done < all, "all of the disk came over a WAN that carries nothing");
    speeds_up(world);
}

/// Cuts the WAN, and heals it when its time is over.
fn fails(world: &World, meanwhile: impl FnOnce()) {
    world.wan().cut("a", "b").unwrap();
    meanwhile();
    thread::sleep(CUT);
    world.wan().heal("a", "b").unwrap();
}

fn everybody_goes_on(users: &mut Users, neighbour: &mut Neighbour) {
    users.all_go_on();
    neighbour.all_go_on(false);
}
