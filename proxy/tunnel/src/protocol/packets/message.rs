//! What two proxies tell each other of a VM's packets over the reliable control stream.
//!
//! ```text
//! the one that holds                 the one that the VM comes to
//! Begin, Held, Held, ...   ------->  waits
//! Leftovers, Tuples, Stopped ----->  (before all that was held)
//!                          <-------  Released: the VM runs; datagrams from now on
//! Held ..., End            ------->  what came by datagram meanwhile follows
//!                          <-------  Done: nothing need be kept any more
//!      or CalledOff        ------->  it stays after all: what was sent is void
//! ```

use std::net::IpAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{Epoch, VmName};

use super::plan::Tuple;
use crate::protocol::bounds::PACKET_BYTES_MAX;
use crate::protocol::wire::WireError;
use crate::protocol::wire::fields::{put_text, take_flag, take_name};

const BEGIN: u8 = 16;
const HELD: u8 = 17;
const LEFTOVERS: u8 = 18;
const TUPLES: u8 = 19;
const END: u8 = 20;
const RELEASED: u8 = 21;
const CALLED_OFF: u8 = 22;
const STOPPED: u8 = 23;
const DONE: u8 = 24;

/// Tuples in one message.
pub(super) const TUPLES_MAX: usize = 256;

/// One VM's, of one move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketMessage {
    /// Whose packets.
    pub vm: VmName,
    /// The move.
    pub epoch: Epoch,
    /// What is told.
    pub told: Told,
}

/// What is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Packets are held here from now on, and sent ahead. Said again, they are all sent again.
    Begin {
        /// This life of the queue: what another life has sent is not sent again.
        queue: u64,
    },
    /// Packets that were held, in order.
    Held {
        /// The first one's place in the queue; the others follow without a gap.
        first: u64,
        /// They themselves.
        packets: Vec<Bytes>,
    },
    /// Packets that were left in the VM's port, older than all that was held.
    Leftovers {
        /// As for those held.
        first: u64,
        /// They themselves.
        packets: Vec<Bytes>,
    },
    /// Conversations that the VM's port saw.
    Tuples(Vec<Tuple>),
    /// The VM has stopped, and nothing more was left in its port.
    Stopped,
    /// No more of this move comes over the stream: what comes by datagram is newer than all of it.
    End,
    /// The VM runs at the teller's, and has got what was held.
    Released,
    /// All up to the end has come.
    Done,
    /// The VM stays where it was, and has got there what was held.
    CalledOff,
}

impl PacketMessage {
    pub(in crate::protocol) fn put(&self, out: &mut BytesMut) {
        let mut head = |kind: u8| {
            out.put_u8(kind);
            put_text(out, self.vm.as_str());
            out.put_u64(self.epoch.get());
        };
        match &self.told {
            Told::Begin { queue } => {
                head(BEGIN);
                out.put_u64(*queue);
            }
            Told::Held { first, packets } => {
                head(HELD);
                put_packets(out, *first, packets);
            }
            Told::Leftovers { first, packets } => {
                head(LEFTOVERS);
                put_packets(out, *first, packets);
            }
            Told::Tuples(tuples) => {
                head(TUPLES);
                out.put_u16(u16::try_from(tuples.len()).expect("a message's tuples are bounded"));
                for tuple in tuples {
                    put_tuple(out, tuple);
                }
            }
            Told::End => head(END),
            Told::Released => head(RELEASED),
            Told::CalledOff => head(CALLED_OFF),
            Told::Stopped => head(STOPPED),
            Told::Done => head(DONE),
        }
    }

    /// None: `kind` is no message of packets.
    pub(in crate::protocol) fn take(
        kind: u8,
        body: &mut Bytes,
    ) -> Result<Option<PacketMessage>, WireError> {
        if !(BEGIN..=DONE).contains(&kind) {
            return Ok(None);
        }
        let vm: VmName = take_name(body, "vm name")?;
        let epoch = Epoch::new(body.try_get_u64()?);
        let told = match kind {
            BEGIN => Told::Begin { queue: body.try_get_u64()? },
            HELD => {
                let (first, packets) = take_packets(body)?;
                Told::Held { first, packets }
            }
            LEFTOVERS => {
                let (first, packets) = take_packets(body)?;
                Told::Leftovers { first, packets }
            }
            TUPLES => Told::Tuples(take_tuples(body)?),
            END => Told::End,
            RELEASED => Told::Released,
            STOPPED => Told::Stopped,
            DONE => Told::Done,
            _ => Told::CalledOff,
        };
        Ok(Some(PacketMessage { vm, epoch, told }))
    }
}

fn put_packets(out: &mut BytesMut, first: u64, packets: &[Bytes]) {
    out.put_u64(first);
    out.put_u16(u16::try_from(packets.len()).expect("a message's packets are bounded"));
    for packet in packets {
        out.put_u16(u16::try_from(packet.len()).expect("packets are bounded"));
        out.put_slice(packet);
    }
}

fn take_packets(body: &mut Bytes) -> Result<(u64, Vec<Bytes>), WireError> {
    let first = body.try_get_u64()?;
    let count = body.try_get_u16()?;
    // Their number is not believed, only walked to: nothing is allocated by it.
    let mut packets = Vec::new();
    for _ in 0..count {
        let length = usize::from(body.try_get_u16()?);
        if length == 0 || length > PACKET_BYTES_MAX {
            return Err(WireError::Length { length, most: PACKET_BYTES_MAX });
        }
        if body.len() < length {
            return Err(WireError::Short);
        }
        packets.push(body.split_to(length));
    }
    Ok((first, packets))
}

fn put_tuple(out: &mut BytesMut, tuple: &Tuple) {
    out.put_u8(u8::from(tuple.is_tcp));
    put_address(out, tuple.vm);
    out.put_u16(tuple.vm_port);
    put_address(out, tuple.peer);
    out.put_u16(tuple.peer_port);
}

fn take_tuples(body: &mut Bytes) -> Result<Vec<Tuple>, WireError> {
    let count = usize::from(body.try_get_u16()?);
    if count > TUPLES_MAX {
        return Err(WireError::Length { length: count, most: TUPLES_MAX });
    }
    let mut tuples = Vec::with_capacity(count);
    for _ in 0..count {
        let is_tcp = take_flag(body, "transport")?;
        let (vm, vm_port) = (take_address(body)?, body.try_get_u16()?);
        let (peer, peer_port) = (take_address(body)?, body.try_get_u16()?);
        tuples.push(Tuple { is_tcp, vm, vm_port, peer, peer_port });
    }
    Ok(tuples)
}

fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.put_u8(4);
            out.put_u32(v4.to_bits());
        }
        IpAddr::V6(v6) => {
            out.put_u8(6);
            out.put_u128(v6.to_bits());
        }
    }
}

fn take_address(body: &mut Bytes) -> Result<IpAddr, WireError> {
    match body.try_get_u8()? {
        4 => Ok(IpAddr::V4(body.try_get_u32()?.into())),
        6 => Ok(IpAddr::V6(body.try_get_u128()?.into())),
        other => Err(WireError::Unknown { what: "address family", value: other.into() }),
    }
}
