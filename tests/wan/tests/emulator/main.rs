//! The emulator's program between real network namespaces. Needs root and iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod life;
mod packets;
mod sandbox;
mod streams;
mod talk;
mod world;
