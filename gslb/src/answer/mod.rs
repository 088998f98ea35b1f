//! What is said to one message: a pure function of its bytes, the view and the way it came.
//!
//! Here is the message's form: header, EDNS, length. [`lookup`] is what the question comes to.
//!
//! What is no question is not answered at all (a response, or fewer bytes than a header: two servers
//! could otherwise talk to each other for ever). All else is, if only with a code.

mod lookup;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::view::View;
use lookup::Resolved;

/// Longest answer over UDP: what crosses every network in one piece.
pub const UDP_BYTES_MAX: u16 = 1_232;
/// Longest answer over UDP to those who do not say what they can take.
const UDP_BYTES_PLAIN: u16 = 512;
/// The only version of EDNS there is.
const EDNS_VERSION: u8 = 0;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What becomes of a message, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With records.
    Answered,
    /// The name exists, and has nothing of the type.
    NoData,
    /// There is no such name.
    NoName,
    /// It is none of ours.
    Refused,
    /// It cannot be read.
    Malformed,
    /// It is something else than a question.
    NotImplemented,
    /// A version of EDNS that does not exist.
    BadVersion,
    /// An answer that we cannot write.
    Failed,
    /// Nothing is said to it.
    Ignored,
}

/// What is said to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The bytes; none where nothing is said.
    pub bytes: Option<Vec<u8>>,
    /// What kind of answer it is.
    pub outcome: Outcome,
    /// What was asked for, where that could be read.
    pub kind: Option<RecordType>,
    /// It did not fit, and the asker is sent to TCP.
    pub truncated: bool,
}

/// Answers one message.
#[must_use]
pub fn answer(message: &[u8], view: &View, transport: Transport) -> Answer {
    let Some(header) = question_header(message) else {
        return Answer { bytes: None, outcome: Outcome::Ignored, kind: None, truncated: false };
    };
    if header.op_code != OpCode::Query {
        return coded(&header, ResponseCode::NotImp, Outcome::NotImplemented);
    }
    let asked = match header.counts.queries {
        1 => Message::from_vec(message).ok(),
        _ => None,
    };
    let Some((query, asked)) =
        asked.and_then(|asked| Some((asked.queries.first()?.clone(), asked)))
    else {
        return coded(&header, ResponseCode::FormErr, Outcome::Malformed);
    };

    let mut reply = Message::new(header.id, MessageType::Response, OpCode::Query);
    reply.metadata = reply_to(&header);
    reply.add_query(query.clone());
    reply.edns = asked.edns.as_ref().map(own_edns);
    let is_version_known = asked.edns.as_ref().is_none_or(|edns| edns.version() == EDNS_VERSION);
    let resolved = match is_version_known {
        true => lookup::resolve(&query, view),
        false => Resolved::coded(ResponseCode::BADVERS, Outcome::BadVersion),
    };
    let outcome = resolved.outcome;
    reply.metadata.response_code = resolved.code;
    reply.metadata.authoritative = resolved.is_authoritative;
    reply.answers = resolved.answers;
    reply.authorities = resolved.authorities;
    reply.additionals = resolved.additionals;

    let bytes_max = match (transport, &asked.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_BYTES_PLAIN,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX),
    };
    match fitted(reply, usize::from(bytes_max)) {
        Some((bytes, truncated)) => {
            Answer { bytes: Some(bytes), outcome, kind: Some(query.query_type()), truncated }
        }
        None => coded(&header, ResponseCode::ServFail, Outcome::Failed),
    }
}

/// The header, if this is something to be answered.
fn question_header(message: &[u8]) -> Option<Header> {
    let header = Header::read(&mut BinDecoder::new(message)).ok()?;
    (header.message_type == MessageType::Query).then_some(header)
}

/// Of the asker's flags only its wish for recursion is repeated; it is not fulfilled.
fn reply_to(header: &Header) -> Metadata {
    let mut metadata = Metadata::new(header.id, MessageType::Response, header.op_code);
    metadata.recursion_desired = header.recursion_desired;
    metadata
}

fn own_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(EDNS_VERSION).set_max_payload(UDP_BYTES_MAX);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// A header and no more.
fn coded(header: &Header, code: ResponseCode, outcome: Outcome) -> Answer {
    let mut reply = Message::new(header.id, MessageType::Response, header.op_code);
    reply.metadata = reply_to(header);
    reply.metadata.response_code = code;
    Answer { bytes: reply.to_vec().ok(), outcome, kind: None, truncated: false }
}

/// As bytes, and whether something that was asked for is missing. What nobody asked for goes first;
/// then everything, and the asker comes again over TCP.
fn fitted(mut reply: Message, bytes_max: usize) -> Option<(Vec<u8>, bool)> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= bytes_max {
        return Some((bytes, false));
    }
    reply.additionals.clear();
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= bytes_max {
        return Some((bytes, false));
    }
    Some((reply.truncate().to_vec().ok()?, true))
}

#[cfg(test)]
mod tests;
