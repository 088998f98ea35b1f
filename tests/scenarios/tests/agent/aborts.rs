//! A move of a real VM, called off on its way while users and neighbours go on: nobody loses a packet
//! for it, nothing is left where it would have gone, and the same move succeeds when it is ordered
//! again. From the pivot on it cannot be called off any more.

use std::thread;

use guest::flows::Report;
use lab::snapshot::Snapshot;
use lab::world::{Site, World};
use orchestrator_api::Doing;
use orchestrator_api::operator::{MoveState, MoveView};

use crate::crew::{Crew, until};
use crate::ground::{Ground, slows_down, speeds_up, two_sites};
use crate::lookout::Lookout;
use crate::names::NameServer;
use crate::neighbour::{Neighbour, Serving, guest_with_neighbour};
use crate::placed::{arrived, nothing_left, start_as};
use crate::service::Service;
use crate::users::Users;

const MOVE: [&str; 5] = ["move", "web", "--to", "b", "--no-wait"];
/// At so slow a pace memory is on its way for many seconds.
const SLOW_PACE: [&str; 2] = ["--rate-mbit", "20"];
/// Packets that must have been kept back before a hold is called off.
const HELD_MIN: u64 = 20;
/// What an abort says that comes too late.
const TOO_LATE: [&str; 2] = ["too late", "move the VM back with `causeway move`"];

#[test]
fn a_move_that_is_called_off_costs_nobody_a_packet_and_succeeds_when_it_is_ordered_again() {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let crews = [a, b].map(|site| ground.crew(site));
    let servers = [a, b].map(|site| NameServer::start(world, site, papers));
    let service = Service::start_with_names(world, papers);
    let untouched = Snapshot::take(b.place()).unwrap();
    let lookout = Lookout::begin(world);
    let serving = Serving::at(a);
    start_as(&service, a, &guest_with_neighbour(a));
    let neighbour = serving.connects();
    let users = Users::start(world, a);
    let mut scene = Scene { a, b, world, crews, servers, service, users, neighbour };

    scene.called_off_in_the_storage_phase("web.1");
    scene.goes_on_as_if_nothing_had_been("web.1", &untouched);
    scene.called_off_in_the_memory_phase("web.2");
    scene.goes_on_as_if_nothing_had_been("web.2", &untouched);
    // The VM runs, and nothing reaches it.
    scene.called_off_when_done("web.3", "hold");
    scene.goes_on_as_if_nothing_had_been("web.3", &untouched);
    // It stands still, and is not at its source any more by the source's own word.
    scene.called_off_when_done("web.4", "release");
    scene.goes_on_as_if_nothing_had_been("web.4", &untouched);

    scene.too_late_from_the_pivot_on("web.5");
    arrived(b);
    scene.everybody_goes_on();
    let Scene { users, neighbour, .. } = scene;
    nothing_was_lost(&users.stop());
    neighbour.ends();
    let ran = lookout.end();
    // No target of those that were called off ever ran.
    assert_eq!(ran.iter().filter(|watched| !watched.runs.is_empty()).count(), 2, "{ran:?}");
}

/// Two sites, a VM at the first, and whoever uses it.
struct Scene<'w> {
    a: &'w Site,
    b: &'w Site,
    world: &'w World,
    crews: [Crew<'w>; 2],
    servers: [NameServer<'w>; 2],
    service: Service,
    users: Users,
    neighbour: Neighbour,
}

impl Scene<'_> {
    /// While a part of the disk is at the target, a part on its way, and the WAN has just failed.
    fn called_off_in_the_storage_phase(&self, id: &str) {
        self.orders_up_to(id, "web.mirror.started");
        let wan = self.world.wan();
        slows_down(self.world);
        self.service.open_gate("web.mirror.started");
        self.until_it(id, "mirrors", |view| {
            let progress = view.progress.as_ref()?;
            let done = progress.disk_done_bytes;
            (progress.doing == Doing::Mirroring && done > 0).then_some(())
        });
        wan.cut("a", "b").unwrap();
        self.calls_off(id);
        self.ended_undone_in(id, "mirror");
        speeds_up(self.world);
        wan.heal("a", "b").unwrap();
        until("the tunnel stands again", || {
            let plan = self.service.types(&["plan", "web", "--to", "b"]);
            plan.status.success().then_some(())
        });
    }

    fn called_off_in_the_memory_phase(&self, id: &str) {
        self.service.says(&[&MOVE[..], &SLOW_PACE].concat(), 0);
        self.until_it(id, "copies memory", |view| {
            let progress = view.progress.as_ref()?;
            let done = progress.memory_done_bytes;
            (progress.doing == Doing::Copying && done > 0).then_some(())
        });
        self.calls_off(id);
        self.ended_undone_in(id, "memory");
    }

    /// During the hold: packets are kept back that the VM has to get where it is.
    fn called_off_when_done(&self, id: &str, step: &str) {
        let gate = &format!("web.{step}.done");
        self.orders_up_to(id, gate);
        until("packets are kept back", || {
            (self.crews[0].proxy.packets()?.held >= HELD_MIN).then_some(())
        });
        thread::scope(|scope| {
            // It answers once the step has been left, which the gate holds up.
            let abort = scope.spawn(|| self.calls_off(id));
            self.until_it(id, "is asked", |view| {
                view.told.iter().any(|told| told.contains("abort asked")).then_some(())
            });
            self.service.open_gate(gate);
            abort.join().unwrap();
        });
        self.ended_undone_in(id, step);
    }

    /// Before the order to start is sent, and once the VM runs at its target.
    fn too_late_from_the_pivot_on(&self, id: &str) {
        let gates = ["web.start.started", "web.arrive.started"];
        gates.iter().for_each(|gate| self.service.close_gate(gate));
        self.service.says(&MOVE, 0);
        for gate in gates {
            self.service.waits_at(id, gate);
            let refused = self.service.says(&["abort", id], 2);
            assert!(TOO_LATE.iter().all(|words| refused.contains(words)), "{refused}");
            self.service.open_gate(gate);
        }
        let ended = self.service.end_of(id);
        assert_eq!((ended.state, ended.attempt), (MoveState::Completed, 1));
        self.service.says(&["report", id, "--strict"], 0);
    }

    fn orders_up_to(&self, id: &str, gate: &str) {
        self.service.close_gate(gate);
        self.service.says(&MOVE, 0);
        self.service.waits_at(id, gate);
    }

    fn until_it(&self, id: &str, does: &str, is_there: impl Fn(&MoveView) -> Option<()>) {
        until(&format!("{id} {does}"), || {
            let view = self.service.view(id)?;
            assert!(!view.state.has_ended(), "{view:?}");
            is_there(&view)
        });
    }

    fn calls_off(&self, id: &str) {
        self.service.says(&["abort", id, "--reason", "a test"], 0);
    }

    /// It got as far as this step, and no further.
    fn ended_undone_in(&self, id: &str, step: &str) {
        let ended = self.service.end_of(id);
        let MoveState::Undone { why } = &ended.state else { panic!("{ended:?}") };
        assert!(why.contains("a test"), "{why}");
        let last = ended.steps.last().map(|last| last.step.as_str());
        assert_eq!((last, ended.attempt), (Some(step), 1), "{ended:?}");
    }

    /// Nothing of the move is left at the target, or in anybody's way.
    fn goes_on_as_if_nothing_had_been(&mut self, id: &str, untouched: &Snapshot) {
        println!("{id} was called off");
        nothing_left(self.b, untouched, false);
        for crew in &self.crews {
            assert_eq!(crew.proxy.packets(), None, "a way stands at {}", crew.site.name());
        }
        self.servers.iter().for_each(|server| server.answers(self.a, false));
        self.everybody_goes_on();
    }

    fn everybody_goes_on(&mut self) {
        self.users.all_go_on();
        self.neighbour.all_go_on(false);
    }
}

/// The WAN lost nothing of theirs.
fn nothing_was_lost(told: &Report) {
    let wrong = told.flows.iter().filter(|flow| flow.verified_up != flow.sent);
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let wrong = told.sessions.iter().filter(|session| {
        let doubled = session.at_server.duplicates + session.answers.duplicates;
        !session.settled || session.lost_up() + session.lost_down() + doubled > 0
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
