//! What was counted: per direction what became of every packet, per port what never got a direction.
//!
//! Bytes are those of the IP packets, headers included. For every direction and at any time,
//! `offered = delivered + refused + lost + dropped + cut + overflowed + held`; and for every port,
//! what its device has sent is what its directions were offered plus `unroutable` and `oversize`.
//! An audit of traffic against these counters is therefore exact, not an estimate.

use serde::{Deserialize, Serialize};

use crate::plan::PortName;
use crate::settings::Settings;

/// A number of packets and of their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes of these packets, IP headers included.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(bytes);
    }

    pub(crate) fn remove(&mut self, bytes: u32) {
        self.packets -= 1;
        self.bytes -= u64::from(bytes);
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// What became of the packets of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// All that came for this direction.
    pub offered: Tally,
    /// Handed to the other site's device, which took them.
    pub delivered: Tally,
    /// Was due, but the other site's device did not take it: it was down, or out of memory.
    pub refused: Tally,
    /// Lost on the line by chance, as the settings ask.
    pub lost: Tally,
    /// Found the bottleneck's queue full.
    pub dropped: Tally,
    /// Came while the link was cut, or was under way when the cut came.
    pub cut: Tally,
    /// Came when the emulator held as much as it may ([`crate::PACKETS_HELD_MAX`]). This is the
    /// emulator's own limit and no property of the link: a run in which it is not zero has not
    /// measured what its settings say.
    pub overflowed: Tally,
    /// Still under way: waiting before the bottleneck, or on the line.
    pub held: Tally,
}

/// One direction: from which port to which, what it is like now, and what it has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionCounters {
    /// The port that the packets come from.
    pub from: PortName,
    /// The port that they go to.
    pub to: PortName,
    /// Settings in force.
    pub settings: Settings,
    /// Whether it is cut now.
    pub is_cut: bool,
    /// What became of the packets.
    pub delivery: Delivery,
    /// Sum over the delivered packets of how much later than due they were written.
    pub late_ns_sum: u64,
    /// The most that one of them was late.
    pub late_ns_max: u64,
}

/// What the kernel counts at a port's device, in the kernel's view: `tx` is what the site sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounters {
    /// Sent by the site into the emulator.
    pub tx: Tally,
    /// Sent by the site, but dropped by the device because the emulator had not read in time: loss
    /// that no setting asked for. A run in which it is not zero has not measured what it says.
    pub tx_dropped_packets: u64,
    /// Received by the site from the emulator.
    pub rx: Tally,
    /// Received, but dropped by the site's kernel.
    pub rx_dropped_packets: u64,
}

/// What was counted at one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// The port.
    pub port: PortName,
    /// Packets from it to no other port's prefix: multicast, link-local noise, strangers; and what
    /// was no IP packet at all.
    pub unroutable: Tally,
    /// Packets from it that are longer than its MTU was when the emulator began; dropped. Their
    /// bytes are counted up to one beyond that MTU.
    pub oversize: Tally,
    /// What the kernel counts at its device; none in a fabric that has no devices.
    pub device: Option<DeviceCounters>,
}

/// Everything that the emulator has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The seed that decided every loss and jitter.
    pub seed: u64,
    /// Every direction.
    pub directions: Vec<DirectionCounters>,
    /// Every port.
    pub ports: Vec<PortCounters>,
}

impl Counters {
    /// One direction by the names of its ports.
    #[must_use]
    pub fn direction(&self, from: &str, to: &str) -> Option<&DirectionCounters> {
        self.directions.iter().find(|d| d.from.as_str() == from && d.to.as_str() == to)
    }

    /// One port by its name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&PortCounters> {
        self.ports.iter().find(|p| p.port.as_str() == name)
    }
}
