//! The format: headers, attributes, and what the kernel says to a request. Reading is total: bytes
//! that make no sense are an error or are passed over, whatever they are.

use std::io;
use std::net::IpAddr;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
/// What of an attribute's kind is its number.
const NLA_TYPE_MASK: u16 = 0x3fff;

const HEADER_BYTES: usize = 16;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const AF_BRIDGE: u8 = 7;

/// How a thing is to come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// It must not be there.
    New,
    /// It may be there, and is made so.
    OrReplace,
}

pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request that changes or takes something that is there.
    pub(super) fn change(kind: u16) -> Message {
        Message::new(kind, NLM_F_REQUEST | NLM_F_ACK)
    }

    /// A request that makes something.
    pub(super) fn make(kind: u16, how: Make) -> Message {
        let how = match how {
            Make::New => NLM_F_EXCL,
            Make::OrReplace => NLM_F_REPLACE,
        };
        Message::new(kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how)
    }

    /// A request for a list.
    pub(super) fn list(kind: u16) -> Message {
        Message::new(kind, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        Message(bytes)
    }

    pub(super) fn body(mut self, bytes: &[u8]) -> Message {
        self.0.extend(bytes);
        self
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.extend(attribute(kind, value));
        self
    }

    pub(super) fn with_nested(self, kind: u16, value: &[u8]) -> Message {
        self.with(kind | NLA_F_NESTED, value)
    }

    pub(super) fn with_address(self, kind: u16, address: IpAddr) -> Message {
        match address {
            IpAddr::V4(v4) => self.with(kind, &v4.octets()),
            IpAddr::V6(v6) => self.with(kind, &v6.octets()),
        }
    }

    pub(super) fn with_number(self, kind: u16, number: u32) -> Message {
        self.with(kind, &number.to_ne_bytes())
    }

    pub(super) fn done(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.0.splice(..4, length);
        self.0.splice(8..12, sequence.to_ne_bytes());
        self.0
    }
}

/// Length, kind, value, and nothing up to the next multiple of four.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// As [`attribute`], of attributes.
pub(super) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, &parts.concat())
}

/// Names end with a zero there.
pub(super) fn zero_ended(name: &str) -> Vec<u8> {
    let mut bytes = Vec::from(name.as_bytes());
    bytes.push(0);
    bytes
}

/// The family's number.
pub(super) fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// What the kernel says.
pub(super) enum Answer<'b> {
    /// A request was carried out, or was not.
    Outcome(io::Result<()>),
    /// One of a list.
    Object {
        /// All after the header.
        body: &'b [u8],
        /// The list changed while it was told.
        was_interrupted: bool,
    },
    /// No more of a list.
    End,
}

/// The answers in one piece, each with the number of its request.
pub(super) fn answers(piece: &[u8]) -> impl Iterator<Item = io::Result<(u32, Answer<'_>)>> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let one = first(rest);
        let length = one.as_ref().map_or(rest.len(), |(length, ..)| length.next_multiple_of(4));
        rest = rest.get(length..).unwrap_or_default();
        Some(one.map(|(_, number, answer)| (number, answer)))
    })
}

fn first(bytes: &[u8]) -> io::Result<(usize, u32, Answer<'_>)> {
    let length = number_at(bytes, 0).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length >= HEADER_BYTES).ok_or_else(nonsense)?;
    let message = bytes.get(..length).ok_or_else(nonsense)?;
    let (Some(kind), Some(flags), Some(sequence)) =
        (half_at(message, 4), half_at(message, 6), number_at(message, 8))
    else {
        return Err(nonsense());
    };
    let body = message.get(HEADER_BYTES..).unwrap_or_default();
    let answer = match kind {
        NLMSG_ERROR => Answer::Outcome(outcome(body)),
        NLMSG_DONE => match number_at(body, 0).map(u32::cast_signed) {
            Some(code) if code < 0 => Answer::Outcome(Err(from_code(code))),
            _ => Answer::End,
        },
        _ => Answer::Object { body, was_interrupted: flags & NLM_F_DUMP_INTR != 0 },
    };
    Ok((length, sequence, answer))
}

/// The error's number, 0 for none.
fn outcome(body: &[u8]) -> io::Result<()> {
    match number_at(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(from_code(code)),
        None => Err(nonsense()),
    }
}

fn from_code(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.checked_neg().unwrap_or(i32::MAX))
}

/// The attributes of an object, in order. Where their lengths make no sense, there are no more.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half_at(rest, 0)?);
        let kind = half_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of this kind.
pub(super) fn value_of(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub(super) fn text_of(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

pub(super) fn number_of(value: &[u8]) -> Option<u32> {
    number_at(value, 0)
}

pub(super) fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

pub(super) fn half_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "rtnetlink answered nonsense")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acknowledged(code: i32) -> Vec<u8> {
        Message::new(NLMSG_ERROR, 0).body(&code.to_ne_bytes()).done(7)
    }

    fn only(piece: &[u8]) -> io::Result<(u32, Answer<'_>)> {
        answers(piece).next().expect("there is one")
    }

    #[test]
    fn an_attribute_is_padded_and_its_length_is_not() {
        assert_eq!(attribute(20, b"abcde").len(), 12);
        assert_eq!(attribute(20, b"abcde").first_chunk::<2>(), Some(&9_u16.to_ne_bytes()));
        let two = [attribute(20, b"abcde"), attribute(21, b"x")].concat();
        let read: Vec<_> = attributes(&two).collect();
        assert_eq!(read, [(20, &b"abcde"[..]), (21, &b"x"[..])]);
    }

    #[test]
    fn an_error_is_told_by_its_number_and_nonsense_as_such() {
        assert!(matches!(only(&acknowledged(0)), Ok((7, Answer::Outcome(Ok(()))))));
        let refused = acknowledged(-19);
        let Ok((7, Answer::Outcome(Err(error)))) = only(&refused) else { panic!("no outcome") };
        assert_eq!(error.raw_os_error(), Some(19));
        assert!(only(&[0; 3]).is_err());
        assert!(only(&acknowledged(0)[..17]).is_err());
    }

    #[test]
    fn a_list_is_read_to_its_end_and_an_interruption_is_seen() {
        let object = Message::new(24, NLM_F_DUMP_INTR).body(b"body").done(1);
        let end = Message::new(NLMSG_DONE, 0).body(&[0; 4]).done(1);
        let piece = [object, end].concat();
        let told: Vec<_> = answers(&piece).map(Result::unwrap).collect();
        assert!(matches!(
            told[..],
            [(1, Answer::Object { body: b"body", was_interrupted: true }), (1, Answer::End)]
        ));
    }

    proptest! {
        #[test]
        fn whatever_comes_reading_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(answers(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn an_answer_with_one_byte_changed_is_read_to_its_end(at in 0_usize..60, to in any::<u8>()) {
            let object = Message::new(24, 0).with(1, b"abcd").with(2, b"e").done(1);
            let mut piece = [object, acknowledged(0)].concat();
            let at = at % piece.len();
            piece[at] = to;
            prop_assert!(answers(&piece).count() <= piece.len());
            for answer in answers(&piece).flatten() {
                if let Answer::Object { body, .. } = answer.1 {
                    prop_assert!(attributes(body).count() <= body.len());
                }
            }
        }
    }
}
