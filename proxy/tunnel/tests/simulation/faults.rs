//! What goes wrong.

use tunnel::protocol::refusal::ResetReason;
use tunnel::protocol::session::Ending;

use crate::world::{Happening, World};

impl World {
    pub(crate) fn tear(&mut self, wire: usize) {
        self.wires[wire].torn = true;
        for side in [0, 1] {
            self.wires[wire].in_flight[side].clear();
            let delay = self.dice.below(50_000);
            self.at(delay, Happening::TellBroken { wire, side });
        }
    }

    pub(crate) fn fault(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        let live: Vec<usize> =
            (0..self.wires.len()).filter(|wire| !self.wires[*wire].is_dead()).collect();
        let links: Vec<(usize, usize)> =
            self.ends.keys().copied().filter(|(site, peer)| site < peer).collect();
        let link = links[self.dice.below(links.len() as u64) as usize];
        match self.dice.below(if self.restarts { 7 } else { 6 }) {
            0 | 1 => {
                *self.silent.entry(link).or_default() += 1;
                self.counts.cuts += 1;
                let length = self.dice.skewed(8_000_000);
                self.at(length, Happening::Heal { link });
            }
            2 | 3 if !live.is_empty() => {
                self.counts.torn += 1;
                let pick = live[self.dice.below(live.len() as u64) as usize];
                self.tear(pick);
            }
            6 => {
                let pick = if self.dice.one_in(2) { link.0 } else { link.1 };
                self.restart(pick);
            }
            _ => {
                self.counts.redialled += 1;
                let lane = self.dice.below(3) as usize;
                self.at(0, Happening::Dial { site: link.0, peer: link.1, lane, again: true });
            }
        }
        let delay = self.dice.skewed(2_000_000);
        self.at(delay, Happening::Fault);
    }

    pub(crate) fn heal(&mut self, link: (usize, usize)) {
        let cuts = self.silent.get_mut(&link).unwrap();
        *cuts -= 1;
        if *cuts > 0 {
            return;
        }
        self.silent.remove(&link);
        for wire in 0..self.wires.len() {
            if self.wires[wire].sites == [link.0, link.1] {
                self.schedule_delivery(wire, 0);
                self.schedule_delivery(wire, 1);
            }
        }
    }

    /// A site's proxy dies and comes again, knowing nothing.
    pub(crate) fn restart(&mut self, site: usize) {
        self.counts.restarts += 1;
        self.restarted = true;
        for wire in 0..self.wires.len() {
            if self.wires[wire].sites.contains(&site) && !self.wires[wire].is_dead() {
                let side = self.wires[wire].side_of(site);
                self.wires[wire].closed[side] = true;
                self.wires[wire].in_flight[side].clear();
                self.at(self.delay_us, Happening::TellBroken { wire, side: 1 - side });
            }
        }
        let peers: Vec<usize> =
            self.ends.keys().filter(|(own, _)| *own == site).map(|(_, peer)| *peer).collect();
        for peer in peers {
            let end = self.ends.remove(&(site, peer)).unwrap();
            for program in end.programs.values() {
                let reset = Ending::Reset { reason: ResetReason::PeerRestarted, by_peer: false };
                self.scripts[program.script].outcome[program.end].ending = Some(reset);
            }
            self.begin_end(site, peer);
        }
    }
}
