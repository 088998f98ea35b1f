//! What lies between the sites: a network emulator in user space.
//!
//! Sites live in network namespaces, and every packet between them passes through here. The life of
//! a packet:
//!
//! 1. A site's router sends it into its **port**, a TUN device; [`Emulator`] reads it.
//! 2. The [`Fabric`] finds the port that its destination belongs to, and with it the **direction**:
//!    one [`Link`] per ordered pair of ports.
//! 3. The link decides its fate from settings, seed and time: cut off, dropped by the full queue of
//!    the bottleneck, lost on the line, or delivered when its last bit has been sent at the link's
//!    rate and has travelled the link's delay.
//! 4. When it is due, the emulator writes it to the other site's device.
//!
//! Steps 2 and 3 are pure: no clock, no socket, no thread; time comes in as nanoseconds, and a seed
//! decides all randomness. [`Client`] changes settings, cuts, heals and counts while packets flow.
//! Nothing here is written for exactly two ports.

mod client;
mod control;
mod counters;
mod device;
mod emulator;
mod fabric;
mod kernel;
mod link;
mod plan;
mod pool;
mod prefix;
mod protocol;
mod random;
mod settings;

pub use client::{Client, ClientError};
pub use control::ControlError;
pub use counters::{Counters, Delivery, DeviceCounters, DirectionCounters, PortCounters, Tally};
pub use device::DeviceError;
pub use emulator::{Emulator, OpenError, Quitter, RunError};
pub use fabric::{Arrival, Fabric, Fate, PortId};
pub use link::{Discarded, Due, Link, PACKETS_HELD_MAX};
pub use plan::{LinkPlan, PORTS_MAX, PlanError, PortName, PortPlan, Site, WanPlan};
pub use prefix::{Prefix, PrefixError};
pub use protocol::{LINE_BYTES_MAX, Pair, Reply, Request};
pub use random::Draws;
pub use settings::{
    Change, DELAY_US_MAX, LOSS_PPM_ALL, QUEUE_BYTES_DEFAULT, QUEUE_BYTES_MAX, RATE_BITS_PER_S_MAX,
    Settings, SettingsError,
};
