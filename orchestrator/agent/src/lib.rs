//! `causeway agent`: owns QEMU, its monitors and the VM's port on one host.
//!
//! The life of an order: [`control`] admits the caller by its role -> [`vm`] queues it, one at a
//! time for each VM -> [`executor`] looks at the facts, has `placement`'s rules decide, writes the
//! record and carries out the plan -> [`qemu`] acts on processes, disks ([`folders`]) and the
//! [`port`], which tells the site's own proxy of each hold. The [`copy`] of a move runs beside that, in phases which orders begin and end.
//!
//! QEMU outlives the agent: [`run`] finds each process again, and gives up copies that nobody drives
//! any more.

pub mod check;
pub mod config;
mod control;
pub mod copy;
pub mod executor;
pub mod folders;
mod own_proxy;
pub mod port;
pub mod qemu;
pub mod run;
pub mod survey;
mod vm;
