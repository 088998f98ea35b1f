//! Flows that were alive when a VM moved, kept beyond their end until the ledger has collected them,
//! and those that began too late at the place that it left.
//!
//! A move is listed when its hold begins; where there is no hold, when the new placement is told.
//! From then until the placement the flows that begin are listed too; after it, where the VM has
//! left, they are stragglers. Touched when a flow towards a VM begins or ends, never while bytes pass.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::counter;
use placement::{Epoch, VmName};
use proxy_api::{Flow, FlowId, PINNED_PER_PAGE_MAX, Passed, PinnedFlow, PinnedPage, Straggler};

/// Flows listed for one move.
pub const LISTED_MAX: usize = 100_000;
/// Stragglers kept for one move: of more, the number tells enough.
pub const STRAGGLERS_MAX: usize = 10_000;
/// Moves of one VM that are kept: the oldest makes room.
const MOVES_PER_VM_MAX: usize = 4;

/// All moves, by VM.
#[derive(Debug, Default)]
pub struct Pinned {
    moves: Mutex<BTreeMap<VmName, VecDeque<Move>>>,
    /// Set once there was a move: before it, flows begin and end without a look at the others.
    is_used: AtomicBool,
}

/// A flow as its worker tells it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As it is told.
    pub flow: Flow,
    /// Longest time that bytes were owed, of those that reach beyond its listing.
    pub stall_us: u64,
}

/// What a flow that begins is to a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing.
    Usual,
    /// It is listed.
    Listed,
}

#[derive(Debug)]
struct Move {
    /// Under which its hold began, or its placement was told.
    epoch: Epoch,
    /// Under which its placement was told, by another service than the one that had it held.
    taken_over: Option<Epoch>,
    begun_at_ms: u64,
    stage: Stage,
    listed: BTreeMap<FlowId, Listed>,
    stragglers: VecDeque<Straggler>,
    left_out: u64,
}

/// Where a move is, for flows that begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The VM is held.
    Held,
    /// It runs elsewhere.
    Left,
    /// It runs here, or again here.
    Over,
}

#[derive(Debug)]
struct Listed {
    at_ms: u64,
    at_listing: Passed,
    at_pivot: Option<Passed>,
    ended: Option<Seen>,
}

impl Pinned {
    /// The hold of a move begins, or its placement is told: flows that begin or end from now on are
    /// noted. False for a move that was noted before, or an older one.
    pub fn begin(&self, vm: &VmName, epoch: Epoch, now_ms: u64) -> bool {
        self.is_used.store(true, Ordering::Relaxed);
        let mut all = self.all();
        let moves = all.entry(vm.clone()).or_default();
        if moves.iter().any(|earlier| earlier.last_epoch() >= epoch) {
            return false;
        }
        if moves.len() >= MOVES_PER_VM_MAX {
            moves.pop_front();
        }
        moves.push_back(Move::of(epoch, now_ms));
        true
    }

    /// A placement is to be told under `epoch`, and all moves up to `ended` are over: what is held under
    /// one between them was taken over, and is noted of the same move.
    pub fn goes_on(&self, vm: &VmName, epoch: Epoch, ended: Epoch) {
        let mut all = self.all();
        if let Some(of) = all.get_mut(vm).and_then(VecDeque::back_mut)
            && of.stage == Stage::Held
            && of.epoch > ended
            && of.last_epoch() < epoch
        {
            of.taken_over = Some(epoch);
        }
    }

    /// These were alive when it began.
    pub fn list(&self, vm: &VmName, epoch: Epoch, live: &[Seen]) {
        if let Some(of) = find(&mut self.all(), vm, epoch) {
            live.iter().for_each(|seen| of.add(seen.flow.id, of.begun_at_ms, seen.flow.passed()));
        }
    }

    /// The VM runs nowhere just now; `live` are in the order of their ids, here as below.
    pub fn pivot(&self, vm: &VmName, epoch: Epoch, live: &[Seen]) {
        let mut all = self.all();
        let Some(of) = find(&mut all, vm, epoch) else { return };
        for (id, listed) in &mut of.listed {
            let now = find_in(live, *id).map(|seen| seen.flow.passed());
            let ended = listed.ended.as_ref().map(|seen| seen.flow.passed());
            listed.at_pivot = listed.at_pivot.or(ended).or(now);
        }
    }

    /// The VM has its place: `left` where it left from here.
    pub fn placed(&self, vm: &VmName, epoch: Epoch, left: bool) {
        if let Some(of) = find(&mut self.all(), vm, epoch) {
            of.stage = if left { Stage::Left } else { Stage::Over };
        }
    }

    /// A flow towards the VM begins.
    pub fn begun(&self, vm: &VmName, told: impl FnOnce() -> Flow) -> Begun {
        if !self.is_used.load(Ordering::Relaxed) {
            return Begun::Usual;
        }
        let mut all = self.all();
        let Some(of) = all.get_mut(vm).and_then(VecDeque::back_mut) else { return Begun::Usual };
        if of.stage == Stage::Over {
            return Begun::Usual;
        }
        let flow = told();
        match of.stage {
            Stage::Held => {
                of.add(flow.id, flow.opened_at_ms, Passed::default());
                Begun::Listed
            }
            Stage::Left => {
                counter!("causeway_stragglers_total", "vm" => vm.to_string()).increment(1);
                if of.stragglers.len() >= STRAGGLERS_MAX {
                    of.stragglers.pop_front();
                }
                of.stragglers.push_back(Straggler {
                    flow: flow.id,
                    service: flow.service,
                    client: flow.client,
                    vip: flow.vip,
                    opened_at_ms: flow.opened_at_ms,
                });
                Begun::Usual
            }
            Stage::Over => Begun::Usual,
        }
    }

    /// A flow towards the VM has ended.
    pub fn ended(&self, vm: &VmName, seen: &Seen) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let mut all = self.all();
        for of in all.get_mut(vm).into_iter().flatten() {
            if of.stage == Stage::Held {
                // It may end before it is listed with the others.
                of.add(seen.flow.id, of.begun_at_ms, seen.flow.passed());
            }
            if let Some(listed) = of.listed.get_mut(&seen.flow.id) {
                listed.ended = Some(seen.clone());
            }
        }
    }

    /// What was noted for one move, from `after` on; `live` are the flows towards the VM.
    #[must_use]
    pub fn page(
        &self,
        vm: &VmName,
        epoch: Epoch,
        after: Option<FlowId>,
        now_ms: u64,
        live: &[Seen],
    ) -> Option<PinnedPage> {
        let mut all = self.all();
        let of = find(&mut all, vm, epoch)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = of.listed.range((from, Bound::Unbounded));
        let mut flows = Vec::new();
        let mut last = None;
        for (id, listed) in rest.by_ref().take(PINNED_PER_PAGE_MAX) {
            last = Some(*id);
            let now = find_in(live, *id);
            flows.extend(listed.ended.as_ref().or(now).map(|seen| listed.told(seen)));
        }
        let more_after = last.filter(|_| rest.next().is_some());
        Some(PinnedPage {
            epoch,
            as_of_ms: now_ms,
            flows,
            // Told once, with the first page.
            stragglers: after.map_or_else(|| of.stragglers.iter().cloned().collect(), |_| vec![]),
            left_out: of.left_out,
            more_after,
        })
    }

    /// The moves of a VM up to `release` are reclaimed: nothing of them is kept.
    pub fn forget(&self, vm: &VmName, release: Epoch) {
        let mut all = self.all();
        if let Some(moves) = all.get_mut(vm) {
            moves.retain(|of| of.epoch > release);
            if moves.is_empty() {
                all.remove(vm);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<VmName, VecDeque<Move>>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_in(live: &[Seen], id: FlowId) -> Option<&Seen> {
    let place = live.binary_search_by_key(&id, |seen| seen.flow.id).ok()?;
    live.get(place)
}

fn find<'m>(
    all: &'m mut BTreeMap<VmName, VecDeque<Move>>,
    vm: &VmName,
    epoch: Epoch,
) -> Option<&'m mut Move> {
    let is_of = |of: &&mut Move| of.epoch == epoch || of.taken_over == Some(epoch);
    all.get_mut(vm)?.iter_mut().find(is_of)
}

impl Move {
    fn of(epoch: Epoch, begun_at_ms: u64) -> Move {
        Move {
            epoch,
            taken_over: None,
            begun_at_ms,
            stage: Stage::Held,
            listed: BTreeMap::new(),
            stragglers: VecDeque::new(),
            left_out: 0,
        }
    }

    fn last_epoch(&self) -> Epoch {
        self.taken_over.unwrap_or(self.epoch)
    }

    fn add(&mut self, id: FlowId, at_ms: u64, at_listing: Passed) {
        if self.listed.contains_key(&id) {
            return;
        }
        if self.listed.len() >= LISTED_MAX {
            self.left_out += 1;
            return;
        }
        self.listed.insert(id, Listed { at_ms, at_listing, at_pivot: None, ended: None });
    }
}

impl Listed {
    fn told(&self, seen: &Seen) -> PinnedFlow {
        PinnedFlow {
            flow: seen.flow.clone(),
            listed_at_ms: self.at_ms,
            passed_at_listing: self.at_listing,
            passed_at_pivot: self.at_pivot,
            stall_us_since_listing: seen.stall_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy_api::{CloseReason, FlowState, Protocol, WayBytes};

    use super::*;

    fn flow(number: u64, passed: u64) -> Seen {
        let way = WayBytes { taken: passed, given: passed, owed: 0 };
        let address = "192.0.2.1:80".parse().unwrap();
        let flow = Flow {
            id: FlowId { boot_us: 1, number },
            service: "web".parse().unwrap(),
            protocol: Protocol::Tcp,
            client: address,
            vip: address,
            backend: "b1".parse().unwrap(),
            vm: Some(vm()),
            server: address,
            source: None,
            state: FlowState::Open,
            up: way,
            down: way,
            opened_at_ms: 5,
            last_bytes_at_ms: None,
            closed_at_ms: None,
            owed_since_ms: None,
            stall_us_max: 0,
        };
        Seen { flow, stall_us: 7 }
    }

    fn vm() -> VmName {
        "web".parse().unwrap()
    }

    const MOVE: Epoch = Epoch::new(2);

    #[test]
    fn flows_of_before_and_of_the_hold_are_listed_and_later_ones_are_stragglers() {
        let pinned = Pinned::default();
        assert_eq!(pinned.begun(&vm(), || flow(1, 0).flow), Begun::Usual);
        assert!(pinned.begin(&vm(), MOVE, 100));
        assert!(!pinned.begin(&vm(), MOVE, 200));
        pinned.ended(&vm(), &flow(0, 4));
        pinned.list(&vm(), MOVE, &[flow(0, 4), flow(1, 10)]);
        assert_eq!(pinned.begun(&vm(), || flow(2, 0).flow), Begun::Listed);
        pinned.pivot(&vm(), MOVE, &[flow(1, 20), flow(2, 1)]);
        pinned.pivot(&vm(), MOVE, &[flow(1, 77)]);
        pinned.placed(&vm(), MOVE, true);
        assert_eq!(pinned.begun(&vm(), || flow(3, 0).flow), Begun::Usual);
        let mut over = flow(1, 30);
        over.flow.state = FlowState::Closed { reason: CloseReason::ClientFin };
        pinned.ended(&vm(), &over);
        pinned.ended(&vm(), &flow(9, 1));

        let page = pinned.page(&vm(), MOVE, None, 900, &[flow(2, 5), flow(3, 5)]).unwrap();
        let [early, first, second] = &page.flows[..] else { panic!("{page:#?}") };
        assert_eq!(early.passed_at_pivot.unwrap().up, 4);
        assert_eq!((first.listed_at_ms, first.passed_at_listing.up), (100, 10));
        assert_eq!((first.passed_at_pivot.unwrap().up, first.flow.up.taken), (20, 30));
        assert_eq!((second.passed_at_listing, second.flow.up.taken), (Passed::default(), 5));
        assert_eq!((page.stragglers.len(), page.more_after), (1, None));
        pinned.forget(&vm(), MOVE);
        assert_eq!(pinned.page(&vm(), MOVE, None, 900, &[]), None);
    }

    #[test]
    fn a_move_that_is_taken_over_in_its_hold_is_noted_as_one_and_one_that_was_undone_is_not() {
        let [held, placed, next] = [2, 5, 7].map(Epoch::new);
        let pinned = Pinned::default();
        assert!(pinned.begin(&vm(), held, 100));
        pinned.list(&vm(), held, &[flow(1, 10)]);
        pinned.goes_on(&vm(), placed, Epoch::new(1));
        assert!(!pinned.begin(&vm(), placed, 200));
        pinned.pivot(&vm(), placed, &[flow(1, 20)]);
        pinned.placed(&vm(), placed, true);
        pinned.begun(&vm(), || flow(2, 0).flow);
        for epoch in [held, placed] {
            let page = pinned.page(&vm(), epoch, None, 900, &[flow(1, 30)]).unwrap();
            assert_eq!((page.flows.len(), page.stragglers.len()), (1, 1));
            assert_eq!(page.flows[0].passed_at_pivot.unwrap().up, 20);
        }
        // Said again under yet another epoch, it is no hold any more.
        pinned.goes_on(&vm(), next, Epoch::new(1));
        assert!(pinned.begin(&vm(), next, 300));

        let pinned = Pinned::default();
        assert!(pinned.begin(&vm(), held, 100));
        pinned.goes_on(&vm(), placed, held);
        assert!(pinned.begin(&vm(), placed, 200));
    }

    #[test]
    fn pages_follow_one_another_and_what_is_too_much_is_counted() {
        let pinned = Pinned::default();
        let live: Vec<Seen> = (0..2_500).map(|number| flow(number, 1)).collect();
        assert!(pinned.begin(&vm(), MOVE, 1));
        pinned.list(&vm(), MOVE, &live);
        let (mut after, mut told) = (None, 0);
        loop {
            let page = pinned.page(&vm(), MOVE, after, 2, &live).unwrap();
            told += page.flows.len();
            after = page.more_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(told, 2_500);
        for number in 2_500..=LISTED_MAX as u64 {
            pinned.begun(&vm(), || flow(number, 0).flow);
        }
        assert_eq!(pinned.page(&vm(), MOVE, None, 2, &[]).unwrap().left_out, 1);
    }

    #[test]
    fn later_moves_make_the_oldest_go() {
        let pinned = Pinned::default();
        for epoch in 2..=6 {
            assert!(pinned.begin(&vm(), Epoch::new(epoch), 1));
        }
        assert_eq!(pinned.page(&vm(), MOVE, None, 2, &[]), None);
        assert!(pinned.page(&vm(), Epoch::new(6), None, 2, &[]).is_some());
    }
}
