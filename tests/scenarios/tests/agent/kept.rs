//! What a hold is for: the same check, of users who go on sending while a real VM moves, passes with
//! it and fails without.

use std::thread;
use std::time::{Duration, Instant};

use lab::world::{Site, World};
use orchestrator_api::operator::MoveState;

use crate::crew::{Crew, until};
use crate::ground::{Ground, two_sites};
use crate::lookout::Lookout;
use crate::placed::{arrived, start};
use crate::service::Service;
use crate::users::Users;

/// While the VM stands still each session sends so many datagrams at least.
const DATAGRAMS_MIN: u64 = 5;
/// What was kept back has come long before.
const ANSWERED_MAX: Duration = Duration::from_secs(8);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[test]
fn packets_are_held_and_none_is_lost_and_without_a_hold_that_is_not_so() {
    let ground = Ground::of(&two_sites());
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let [at_a, at_b] = [a, b].map(|site| ground.crew(site));
    let service = Service::start(world, papers);
    let lookout = Lookout::begin(world);
    start(&service, a);

    let (kept, mut users) = moved_under_users(world, &service, ("web.1", &at_a, b), &[]);
    println!("with a hold: {kept:?}");
    kept.all().unwrap();
    users.all_go_on();
    service.says(&["report", "web.1", "--strict"], 0);
    drop(users);

    let (kept, _) = moved_under_users(world, &service, ("web.2", &at_b, a), &["--no-hold"]);
    println!("without: {kept:?}");
    let lost = kept.all().expect_err("nothing kept them back");
    assert!(kept.held == 0 && kept.lost > 0, "{lost}");
    arrived(a);
    lookout.end();
}

/// What became of packets for a VM that moved.
#[derive(Debug)]
struct Kept {
    /// By the proxy of the site that it left.
    held: u64,
    lost: u64,
}

impl Kept {
    /// What is promised of a move.
    fn all(&self) -> Result<(), String> {
        match (self.held, self.lost) {
            (0, lost) => Err(format!("nothing was held, and {lost} were lost")),
            (_, 0) => Ok(()),
            (held, lost) => Err(format!("{held} were held, and {lost} were lost all the same")),
        }
    }
}

/// Moves the VM while users at the site that it leaves go on, and counts what they have lost.
fn moved_under_users(
    world: &World,
    service: &Service,
    (id, from, to): (&str, &Crew<'_>, &Site),
    options: &[&str],
) -> (Kept, Users) {
    let mut users = Users::start(world, from.site);
    let held = || from.proxy.packets().map_or(0, |packets| packets.held);
    let held_before = held();
    let gate = "web.release.done";
    service.close_gate(gate);
    service.says(&[&["move", "web", "--to", to.name(), "--no-wait"], options].concat(), 0);
    service.waits_at(id, gate);
    all_send(&mut users);
    service.open_gate(gate);
    assert_eq!(service.end_of(id).state, MoveState::Completed);
    let held = held().saturating_sub(held_before);
    (Kept { held, lost: lost(&mut users) }, users)
}

/// Waits until every session has sent while the VM stands still.
fn all_send(users: &mut Users) {
    let before = users.report().sessions;
    until("every session sends", || {
        let now = users.report().sessions;
        let mut all = now.iter().zip(&before);
        all.all(|(now, before)| now.sent >= before.sent + DATAGRAMS_MIN).then_some(())
    });
}

/// Datagrams, by what both ends have counted, that nobody brings any more. Sessions go on meanwhile, so
/// that one or another is always under way: what counts is how few are missed at a time.
fn lost(users: &mut Users) -> u64 {
    let end = Instant::now() + ANSWERED_MAX;
    let mut least = u64::MAX;
    while least > 0 && Instant::now() < end {
        let sessions = users.report().sessions;
        let missed = sessions.iter().map(|session| session.lost_up() + session.lost_down());
        least = least.min(missed.sum());
        thread::sleep(LOOK_INTERVAL);
    }
    least
}
