//! The first bytes of a connection.
//!
//! Magic, version and kind stand at the same place in every version, and so do a rejection's
//! fields: two ends of different versions can at least tell each other so.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Resume, WireError, enveloped, nothing_left, take_body};
use crate::protocol::bounds::{
    BULK_LANES_MAX, CHUNK_BYTES_MAX, GREETING_BYTES_MAX, Limits, PROTOCOL_VERSION, STREAMS_CEILING,
    WINDOW_BYTES_CEILING,
};
use crate::protocol::refusal::Rejection;

const MAGIC: u32 = 0x4341_5553; // "CAUS"
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REJECTED: u8 = 3;

/// What a connection carries. Nothing else distinguishes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Numbered messages, acknowledgements, held packets; and the keys of the datagrams.
    Control,
    /// The bytes of streams.
    Bulk(u8),
}

impl Lane {
    /// Its place among a session's lanes.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Lane::Control => 0,
            Lane::Bulk(number) => 1 + usize::from(number),
        }
    }
}

/// One life of one end of a session: it knows all that its life has seen, and nothing before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

/// What one end grants the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Bytes of a stream that may be under way or unread.
    pub window_bytes: u32,
    /// Streams that may be asked for at once.
    pub streams_max: u16,
    /// Bulk connections.
    pub bulk_lanes: u8,
    /// Bits for what both must have; bits that an end does not know it ignores.
    pub features: u32,
}

impl Offer {
    /// The bit of an end that carries packets.
    pub const PACKETS: u32 = 1;

    pub(in crate::protocol) fn of(limits: &Limits, packets: bool) -> Offer {
        Offer {
            window_bytes: limits.window_bytes,
            streams_max: limits.streams_max,
            bulk_lanes: limits.bulk_lanes,
            features: if packets { Offer::PACKETS } else { 0 },
        }
    }
}

/// The caller's first word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub lane: Lane,
    /// Grows with every connection that this incarnation dials.
    pub attempt: u64,
    /// The caller's life.
    pub own: Incarnation,
    /// The called one's, as the caller knows it; none before the first welcome.
    pub peer: Option<Incarnation>,
    /// What the caller grants.
    pub offer: Offer,
}

/// The called one's first word, if it agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The called one's life.
    pub own: Incarnation,
    /// What the called one grants.
    pub offer: Offer,
    /// What it has of this lane.
    pub resume: Resume,
}

/// What a caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Welcome(Welcome),
    /// Go away.
    Rejected(Rejection),
}

/// What a called end makes of the first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeted {
    /// A caller of this version.
    Hello(Hello),
    /// A caller of another version; it is to be told.
    OtherVersion(u16),
}

/// Takes a caller's greeting from the front of `buffer`, once all of it is there.
///
/// # Errors
/// It is none.
pub fn take_hello(buffer: &mut BytesMut) -> Result<Option<Greeted>, WireError> {
    let Some(mut body) = take_body(buffer, GREETING_BYTES_MAX)? else { return Ok(None) };
    let (version, kind) = take_prefix(&mut body)?;
    if version != PROTOCOL_VERSION {
        return Ok(Some(Greeted::OtherVersion(version)));
    }
    if kind != HELLO {
        return Err(WireError::Unknown { what: "greeting", value: kind.into() });
    }
    let lane = take_lane(&mut body)?;
    let attempt = body.try_get_u64()?;
    let own = Incarnation(body.try_get_u64()?);
    let peer = Some(body.try_get_u64()?).filter(|number| *number != 0).map(Incarnation);
    let offer = take_offer(&mut body)?;
    nothing_left(&body)?;
    Ok(Some(Greeted::Hello(Hello { lane, attempt, own, peer, offer })))
}

impl Hello {
    /// As bytes.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        let out = enveloped(|out| {
            put_prefix(out, HELLO);
            out.put_u8(u8::try_from(self.lane.index()).expect("lanes are few"));
            out.put_u64(self.attempt);
            out.put_u64(self.own.0);
            out.put_u64(self.peer.map_or(0, |peer| peer.0));
            put_offer(out, self.offer);
        });
        out.freeze()
    }
}

impl Answer {
    /// Takes an answer from the front of `buffer`, once all of it is there. A called end of another
    /// version has rejected, or this end rejects it.
    ///
    /// # Errors
    /// It is none.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Answer>, WireError> {
        let Some(mut body) = take_body(buffer, GREETING_BYTES_MAX)? else { return Ok(None) };
        let (version, kind) = take_prefix(&mut body)?;
        if kind == REJECTED {
            let code = body.try_get_u8()?;
            let unknown = WireError::Unknown { what: "rejection", value: code.into() };
            let rejection = Rejection::from_wire(code, version).ok_or(unknown)?;
            return Ok(Some(Answer::Rejected(rejection)));
        }
        if version != PROTOCOL_VERSION {
            return Ok(Some(Answer::Rejected(Rejection::Version { theirs: version })));
        }
        if kind != WELCOME {
            return Err(WireError::Unknown { what: "greeting", value: kind.into() });
        }
        let own = Incarnation(body.try_get_u64()?);
        let offer = take_offer(&mut body)?;
        let resume = Resume::take(&mut body)?;
        nothing_left(&body)?;
        Ok(Some(Answer::Welcome(Welcome { own, offer, resume })))
    }

    /// As bytes.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        let out = enveloped(|out| match self {
            Answer::Welcome(Welcome { own, offer, resume }) => {
                put_prefix(out, WELCOME);
                out.put_u64(own.0);
                put_offer(out, *offer);
                resume.put(out);
            }
            Answer::Rejected(rejection) => {
                put_prefix(out, REJECTED);
                out.put_u8(rejection.to_wire());
            }
        });
        out.freeze()
    }
}

fn put_prefix(out: &mut BytesMut, kind: u8) {
    out.put_u32(MAGIC);
    out.put_u16(PROTOCOL_VERSION);
    out.put_u8(kind);
}

fn take_prefix(body: &mut Bytes) -> Result<(u16, u8), WireError> {
    if body.try_get_u32()? != MAGIC {
        return Err(WireError::Foreign);
    }
    Ok((body.try_get_u16()?, body.try_get_u8()?))
}

fn take_lane(body: &mut Bytes) -> Result<Lane, WireError> {
    match body.try_get_u8()? {
        0 => Ok(Lane::Control),
        index if usize::from(index) <= BULK_LANES_MAX => Ok(Lane::Bulk(index - 1)),
        index => Err(WireError::Unknown { what: "lane", value: index.into() }),
    }
}

fn put_offer(out: &mut BytesMut, offer: Offer) {
    out.put_u32(offer.window_bytes);
    out.put_u16(offer.streams_max);
    out.put_u8(offer.bulk_lanes);
    out.put_u32(offer.features);
}

fn take_offer(body: &mut Bytes) -> Result<Offer, WireError> {
    let window_bytes = body.try_get_u32()?;
    let streams_max = body.try_get_u16()?;
    let bulk_lanes = body.try_get_u8()?;
    let features = body.try_get_u32()?;
    let least = u32::try_from(CHUNK_BYTES_MAX).expect("a chunk is small");
    let within = |what, value: u64, fits: bool| {
        if fits { Ok(()) } else { Err(WireError::Unknown { what, value }) }
    };
    let window = (least..=WINDOW_BYTES_CEILING).contains(&window_bytes);
    within("window", window_bytes.into(), window)?;
    within("number of streams", streams_max.into(), (1..=STREAMS_CEILING).contains(&streams_max))?;
    let lanes = (1..=BULK_LANES_MAX).contains(&usize::from(bulk_lanes));
    within("number of lanes", bulk_lanes.into(), lanes)?;
    Ok(Offer { window_bytes, streams_max, bulk_lanes, features })
}
