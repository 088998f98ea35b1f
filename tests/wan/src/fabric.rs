//! Ports, and a link from each to each other: where a packet goes, in virtual time.

use crate::counters::{Counters, DirectionCounters, PortCounters, Tally};
use crate::link::{Discarded, Due, Link};
use crate::plan::{PlanError, PortName, WanPlan};
use crate::prefix::{Prefix, destination};
use crate::protocol::Pair;
use crate::random::Draws;
use crate::settings::{Change, SettingsError};

/// A port of one fabric, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortId(usize);

impl PortId {
    /// Its place in the plan's list of ports.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// Why the fabric did not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes to no other port's prefix, or is no IP packet.
    Unroutable,
    /// The link that it would have taken discarded it.
    Discarded(Discarded),
}

/// A packet to be delivered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival<P> {
    /// The port that it came from.
    pub from: PortId,
    /// The port that it goes to.
    pub to: PortId,
    /// When it was due, its counted bytes, and the packet.
    pub due: Due<P>,
}

/// Ports and links; `P` is an IP packet.
///
/// The times given to one fabric must not go back.
#[derive(Debug)]
pub struct Fabric<P> {
    seed: u64,
    ports: Vec<Port>,
    directions: Vec<Direction<P>>,
}

#[derive(Debug)]
struct Port {
    name: PortName,
    prefixes: Vec<Prefix>,
    unroutable: Tally,
    oversize: Tally,
}

#[derive(Debug)]
struct Direction<P> {
    from: PortId,
    to: PortId,
    link: Link<P>,
    late_ns_sum: u64,
    late_ns_max: u64,
}

impl<P: AsRef<[u8]>> Fabric<P> {
    /// A fabric that no packet has entered.
    pub fn new(plan: &WanPlan) -> Result<Self, PlanError> {
        plan.check()?;
        let port = |port: &crate::plan::PortPlan| Port {
            name: port.name.clone(),
            prefixes: port.prefixes.clone(),
            unroutable: Tally::default(),
            oversize: Tally::default(),
        };
        let ports: Vec<Port> = plan.ports.iter().map(port).collect();
        let pairs = (0..ports.len()).flat_map(|from| (0..ports.len()).map(move |to| (from, to)));
        let direction = |(number, (from, to)): (u64, (usize, usize))| Direction {
            from: PortId(from),
            to: PortId(to),
            link: Link::new(plan.settings, Draws::of_part(plan.seed, number)),
            late_ns_sum: 0,
            late_ns_max: 0,
        };
        let pairs = pairs.filter(|(from, to)| from != to);
        let directions = (0..).zip(pairs).map(direction).collect();
        let mut fabric = Self { seed: plan.seed, ports, directions };
        for link in &plan.links {
            let pair = Pair { from: link.from.clone(), to: link.to.clone(), both: false };
            fabric.set(0, &pair, link.change)?;
        }
        Ok(fabric)
    }

    /// Takes in a packet that a port's site has sent, or says what became of it and gives it back.
    pub fn offer(&mut self, now_ns: u64, from: PortId, packet: P) -> Result<(), (Fate, P)> {
        let bytes = bytes_of(packet.as_ref());
        let Some(to) = self.route(packet.as_ref()).filter(|to| *to != from) else {
            self.ports[from.0].unroutable.add(bytes);
            return Err((Fate::Unroutable, packet));
        };
        let link = &mut self.direction_mut(from, to).link;
        link.offer(now_ns, bytes, packet).map_err(|(why, packet)| (Fate::Discarded(why), packet))
    }

    /// Counts a packet that was longer than its port's MTU, of which `bytes` were read.
    pub fn was_oversize(&mut self, from: PortId, bytes: u32) {
        self.ports[from.0].oversize.add(bytes);
    }

    /// When to call [`Self::take_due`] next; none while nothing is under way.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.directions.iter().filter_map(|direction| direction.link.next_due_ns()).min()
    }

    /// The packet that is due first, if it is due by now.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Arrival<P>> {
        // A link whose next event is not a delivery moves on by being asked; then another link, or
        // nobody, may be next.
        loop {
            let next_due_ns =
                |direction: &&mut Direction<P>| direction.link.next_due_ns().unwrap_or(u64::MAX);
            let first = self.directions.iter_mut().min_by_key(next_due_ns)?;
            if first.link.next_due_ns()? > now_ns {
                return None;
            }
            if let Some(due) = first.link.take_due(now_ns) {
                return Some(Arrival { from: first.from, to: first.to, due });
            }
        }
    }

    /// Notes how late a taken packet was written.
    pub fn was_late(&mut self, from: PortId, to: PortId, late_ns: u64) {
        let direction = self.direction_mut(from, to);
        direction.late_ns_sum += late_ns;
        direction.late_ns_max = direction.late_ns_max.max(late_ns);
    }

    /// Corrects the count of a taken packet that the port's device refused.
    pub fn was_refused(&mut self, from: PortId, to: PortId, bytes: u32) {
        self.direction_mut(from, to).link.was_refused(bytes);
    }

    /// Changes settings: of all that the pair names, or on an error of nothing.
    pub fn set(&mut self, now_ns: u64, pair: &Pair, change: Change) -> Result<(), PlanError> {
        let (from, to) = self.resolve(pair)?;
        let checked = |fabric: &mut Self, from: PortId, to: PortId| {
            let settings = fabric.direction_mut(from, to).link.settings();
            settings.changed(change).map_err(|source| fabric.wrong(from, to, source))
        };
        let forth = checked(self, from, to)?;
        let back = if pair.both { Some(checked(self, to, from)?) } else { None };
        self.direction_mut(from, to).link.set(now_ns, forth);
        if let Some(back) = back {
            self.direction_mut(to, from).link.set(now_ns, back);
        }
        Ok(())
    }

    /// Cuts what the pair names.
    pub fn cut(&mut self, now_ns: u64, pair: &Pair) -> Result<(), PlanError> {
        self.each_link(pair, |link| link.cut(now_ns))
    }

    /// Heals what the pair names.
    pub fn heal(&mut self, pair: &Pair) -> Result<(), PlanError> {
        self.each_link(pair, Link::heal)
    }

    /// Everything counted so far; what a device counts is not known here.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let direction = |direction: &Direction<P>| DirectionCounters {
            from: self.ports[direction.from.0].name.clone(),
            to: self.ports[direction.to.0].name.clone(),
            settings: direction.link.settings(),
            is_cut: direction.link.is_cut(),
            delivery: direction.link.delivery(),
            late_ns_sum: direction.late_ns_sum,
            late_ns_max: direction.late_ns_max,
        };
        let port = |port: &Port| PortCounters {
            port: port.name.clone(),
            unroutable: port.unroutable,
            oversize: port.oversize,
            device: None,
        };
        Counters {
            seed: self.seed,
            directions: self.directions.iter().map(direction).collect(),
            ports: self.ports.iter().map(port).collect(),
        }
    }

    /// All ports, in the plan's order.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + use<P> {
        (0..self.ports.len()).map(PortId)
    }

    fn route(&self, packet: &[u8]) -> Option<PortId> {
        let destination = destination(packet)?;
        let claims = self.ports.iter().enumerate().flat_map(|(index, port)| {
            let fitting = port.prefixes.iter().filter(|prefix| prefix.contains(destination));
            fitting.map(move |prefix| (prefix.length_bits(), PortId(index)))
        });
        claims.max_by_key(|(length_bits, _)| *length_bits).map(|(_, port)| port)
    }

    fn each_link(&mut self, pair: &Pair, act: impl Fn(&mut Link<P>)) -> Result<(), PlanError> {
        let (from, to) = self.resolve(pair)?;
        act(&mut self.direction_mut(from, to).link);
        if pair.both {
            act(&mut self.direction_mut(to, from).link);
        }
        Ok(())
    }

    fn resolve(&self, pair: &Pair) -> Result<(PortId, PortId), PlanError> {
        let (from, to) = (self.find(&pair.from)?, self.find(&pair.to)?);
        if from == to {
            return Err(PlanError::SamePort(pair.from.clone()));
        }
        Ok((from, to))
    }

    fn find(&self, name: &PortName) -> Result<PortId, PlanError> {
        let names = || self.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>();
        let index = self.ports.iter().position(|port| port.name == *name);
        index.map(PortId).ok_or_else(|| PlanError::UnknownPort(name.clone(), names().join(", ")))
    }

    /// `from` and `to` differ, and are ports of this fabric.
    fn direction_mut(&mut self, from: PortId, to: PortId) -> &mut Direction<P> {
        // Row by row without the diagonal: the order in which `new` made them.
        let column = to.0 - usize::from(to.0 > from.0);
        &mut self.directions[from.0 * (self.ports.len() - 1) + column]
    }

    fn wrong(&self, from: PortId, to: PortId, source: SettingsError) -> PlanError {
        let name = |port: PortId| self.ports[port.0].name.clone();
        PlanError::Settings { from: name(from), to: name(to), source }
    }
}

fn bytes_of(packet: &[u8]) -> u32 {
    u32::try_from(packet.len()).expect("an IP packet has at most 65,575 bytes")
}

#[cfg(test)]
#[path = "fabric_tests.rs"]
mod tests;
