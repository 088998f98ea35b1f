//! One direction of a connection, made and checked piece by piece as a socket hands it out.
//!
//! Neither half keeps payload: [`Outgoing`] computes what comes next, [`Incoming`] compares what came.
//! A thousand flows cost a thousand times a few hundred bytes.

use super::content::{Content, PLACE_BYTES};
use super::frame::{HEADER_BYTES, Header, Kind};
use super::hello::{HELLO_BYTES, HELLO_MAGIC, Hello};
use super::{Direction, Fault, Token, Where};

/// The direction that we send.
#[derive(Debug)]
pub struct Outgoing {
    content: Content,
    token: Token,
    number: u64,
    payload_offset: u64,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    header: [u8; HEADER_BYTES],
    length: u32,
    /// Bytes of header and payload that were sent.
    sent: u64,
}

impl Outgoing {
    /// The start of `direction` of the connection that `token` names.
    #[must_use]
    pub fn new(token: Token, direction: Direction) -> Self {
        let content = Content::new(token, direction);
        Self { content, token, number: 0, payload_offset: 0, current: None }
    }

    /// Begins the next frame. Only between frames: see [`Outgoing::busy`].
    pub fn begin(&mut self, kind: Kind, length: u32, want: u32, verified: u64) {
        debug_assert!(!self.busy(), "a frame is still on its way");
        let (number, payload_offset) = (self.number, self.payload_offset);
        let header = Header { kind, number, payload_offset, length, want, verified };
        self.current = Some(Current { header: header.encode(self.token), length, sent: 0 });
    }

    /// Whether bytes of a frame that was begun are still to be sent.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.current.is_some()
    }

    /// Writes the next bytes into `bytes` and says how many; they count as sent once
    /// [`Outgoing::advance`] is told so.
    #[must_use]
    pub fn fill(&self, bytes: &mut [u8]) -> usize {
        let Some(current) = &self.current else { return 0 };
        let header_sent = current.sent.min(HEADER_BYTES as u64) as usize;
        let header = &current.header[header_sent..];
        let headed = header.len().min(bytes.len());
        bytes[..headed].copy_from_slice(&header[..headed]);
        let payload_sent = current.sent - header_sent as u64;
        let payload_left = u64::from(current.length) - payload_sent;
        let room = bytes.len() - headed;
        let payload = payload_left.min(room as u64) as usize;
        self.content.fill(self.payload_offset + payload_sent, &mut bytes[headed..headed + payload]);
        headed + payload
    }

    /// Counts `sent` more bytes of the current frame as sent.
    pub fn advance(&mut self, sent: usize) {
        let Some(current) = &mut self.current else { return };
        current.sent += sent as u64;
        if current.sent == HEADER_BYTES as u64 + u64::from(current.length) {
            self.payload_offset += u64::from(current.length);
            self.number += 1;
            self.current = None;
        }
    }

    /// Payload bytes of all frames that were sent whole.
    #[must_use]
    pub fn payload_sent(&self) -> u64 {
        self.payload_offset
    }
}

/// The direction that we receive.
#[derive(Debug)]
pub struct Incoming {
    content: Content,
    token: Token,
    stream_offset: u64,
    number: u64,
    payload_offset: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HELLO_BYTES], have: usize },
    Payload { header: Header, left: u32 },
    Ended,
}

const FRESH: State = State::Header { bytes: [0; HELLO_BYTES], have: 0 };

/// What [`Incoming::feed`] made of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes used; the rest is to be fed again.
    pub consumed: usize,
    /// The frame that these bytes completed.
    pub frame: Option<Header>,
}

impl Incoming {
    /// The start of `direction` of the connection that `token` names; a server's comes after its
    /// hello.
    #[must_use]
    pub fn new(token: Token, direction: Direction) -> Self {
        let stream_offset = match direction {
            Direction::Up => 0,
            Direction::Down => HELLO_BYTES as u64,
        };
        let content = Content::new(token, direction);
        Self { content, token, stream_offset, number: 0, payload_offset: 0, state: FRESH }
    }

    /// Checks the next bytes, up to the end of a frame.
    ///
    /// # Errors
    /// The first fault of the stream. Whatever is fed after it means nothing.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Fault> {
        let mut consumed = 0;
        loop {
            let rest = &bytes[consumed..];
            let (used, frame) = match &self.state {
                State::Header { .. } => self.feed_header(rest)?,
                State::Payload { header, left } => self.feed_payload(*header, *left, rest)?,
                State::Ended if rest.is_empty() => (0, None),
                State::Ended => return Err(Fault::Header { at: self.place() }),
            };
            consumed += used;
            if frame.is_some() || consumed == bytes.len() {
                return Ok(Fed { consumed, frame });
            }
        }
    }

    /// The peer's FIN has come.
    ///
    /// # Errors
    /// [`Fault::Cut`] inside a frame, or, where `end_due`, without the frame that ends the direction.
    pub fn finish(&self, end_due: bool) -> Result<(), Fault> {
        let whole = match self.state {
            State::Ended => true,
            State::Header { have, .. } => have == 0 && !end_due,
            State::Payload { .. } => false,
        };
        if whole { Ok(()) } else { Err(Fault::Cut { at: self.place() }) }
    }

    /// Payload bytes that came and were right.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.payload_offset
    }

    /// Whether the frame that ends the direction has come.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn feed_header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Fault> {
        let State::Header { bytes: held, have } = &mut self.state else { return Ok((0, None)) };
        // A foreign hello is longer than a header: wait for all of it, to name its token.
        let foreign = *have >= HELLO_MAGIC.len() && held.starts_with(&HELLO_MAGIC);
        let goal = match *have {
            have if have < HELLO_MAGIC.len() => HELLO_MAGIC.len(),
            _ if foreign => HELLO_BYTES,
            _ => HEADER_BYTES,
        };
        let used = bytes.len().min(goal - *have);
        held[*have..*have + used].copy_from_slice(&bytes[..used]);
        *have += used;
        if *have < goal || goal == HELLO_MAGIC.len() {
            return Ok((used, None));
        }
        let held = *held;
        let header = self.due_header(&held[..goal])?;
        self.stream_offset += HEADER_BYTES as u64;
        self.state = State::Payload { header, left: header.length };
        if header.length == 0 { Ok((used, Some(self.complete(header)))) } else { Ok((used, None)) }
    }

    fn due_header(&self, bytes: &[u8]) -> Result<Header, Fault> {
        let header = bytes.first_chunk().and_then(|head| Header::decode(head, self.token));
        match header {
            Some(header)
                if header.number == self.number && header.payload_offset == self.payload_offset =>
            {
                Ok(header)
            }
            _ => Err(self.diagnose(bytes).unwrap_or(Fault::Header { at: self.place() })),
        }
    }

    fn feed_payload(
        &mut self,
        header: Header,
        left: u32,
        bytes: &[u8],
    ) -> Result<(usize, Option<Header>), Fault> {
        let used = bytes.len().min(left as usize);
        let wrong = self.content.first_difference(self.payload_offset, &bytes[..used]);
        let right = wrong.unwrap_or(used);
        self.payload_offset += right as u64;
        self.stream_offset += right as u64;
        if let Some(wrong) = wrong {
            let expected = self.content.byte(self.payload_offset);
            let altered = Fault::Altered { at: self.place(), expected, found: bytes[wrong] };
            return Err(self.diagnose(&bytes[wrong..]).unwrap_or(altered));
        }
        let left = left - used as u32;
        self.state = State::Payload { header, left };
        Ok((used, (left == 0).then(|| self.complete(header))))
    }

    fn complete(&mut self, header: Header) -> Header {
        self.number += 1;
        self.state = match header.kind {
            Kind::End | Kind::Leave => State::Ended,
            Kind::Ask | Kind::Answer => FRESH,
        };
        header
    }

    /// What foreign bytes at the present place are, if they are something of ours.
    fn diagnose(&self, bytes: &[u8]) -> Option<Fault> {
        let at = self.place();
        if let Some(Ok(hello)) = bytes.first_chunk().map(Hello::decode) {
            return Some(Fault::Reestablished { at, token: hello.token });
        }
        if let Some(header) = bytes.first_chunk().and_then(|h| Header::decode(h, self.token)) {
            let shifted = self.shifted(header.payload_offset);
            return Some(shifted.unwrap_or(Fault::Sequence { at, found: header.number }));
        }
        let place = self.content.place_of(&bytes[..bytes.len().min(PLACE_BYTES)])?;
        self.shifted(place)
    }

    fn shifted(&self, place: u64) -> Option<Fault> {
        let at = self.place();
        match place.cmp(&self.payload_offset) {
            std::cmp::Ordering::Less => {
                Some(Fault::Repeated { at, bytes: self.payload_offset - place })
            }
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => {
                Some(Fault::Lost { at, bytes: place - self.payload_offset })
            }
        }
    }

    /// The place of the next byte.
    #[must_use]
    pub fn place(&self) -> Where {
        Where {
            stream_offset: self.stream_offset,
            frame: self.number,
            payload_offset: self.payload_offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Token = Token([9; 16]);
    const FRAME: u32 = 300;
    const WHOLE: usize = HEADER_BYTES + FRAME as usize;

    /// `frames` frames of [`FRAME`] bytes and an end frame, sent in pieces of `piece`.
    fn sent(frames: u32, piece: usize) -> Vec<u8> {
        let mut outgoing = Outgoing::new(TOKEN, Direction::Up);
        let mut stream = Vec::new();
        let mut scratch = vec![0; piece];
        for number in 0..=frames {
            let (kind, length) = if number < frames { (Kind::Ask, FRAME) } else { (Kind::End, 0) };
            outgoing.begin(kind, length, 5, 0);
            while outgoing.busy() {
                let filled = outgoing.fill(&mut scratch);
                stream.extend_from_slice(&scratch[..filled]);
                outgoing.advance(filled);
            }
        }
        assert_eq!(outgoing.payload_sent(), u64::from(frames * FRAME));
        stream
    }

    fn receive(stream: &[u8], piece: usize) -> Result<(Incoming, u64), Fault> {
        let mut incoming = Incoming::new(TOKEN, Direction::Up);
        let mut frames = 0;
        for mut bytes in stream.chunks(piece) {
            while !bytes.is_empty() {
                let fed = incoming.feed(bytes)?;
                frames += u64::from(fed.frame.is_some());
                bytes = &bytes[fed.consumed..];
            }
        }
        incoming.finish(true)?;
        Ok((incoming, frames))
    }

    #[test]
    fn a_lost_stretch_is_named_with_its_length() {
        let mut stream = sent(10, 1000);
        let cut = 2 * WHOLE + HEADER_BYTES + 100;
        stream.drain(cut..cut + 80);
        let fault = receive(&stream, 4096).unwrap_err();
        let at = Where { stream_offset: cut as u64, frame: 2, payload_offset: 700 };
        assert_eq!(fault, Fault::Lost { at, bytes: 80 });
    }

    #[test]
    fn a_lost_frame_is_named_with_its_length() {
        let mut stream = sent(10, 1000);
        stream.drain(3 * WHOLE..4 * WHOLE);
        let at = Where { stream_offset: 3 * WHOLE as u64, frame: 3, payload_offset: 900 };
        assert_eq!(receive(&stream, 4096).unwrap_err(), Fault::Lost { at, bytes: 300 });
    }

    #[test]
    fn a_repeated_stretch_is_named_with_its_place() {
        let mut stream = sent(10, 1000);
        let from = 2 * WHOLE + HEADER_BYTES + 100;
        let again = stream[from..from + 64].to_vec();
        stream.splice(from + 64..from + 64, again);
        let fault = receive(&stream, 4096).unwrap_err();
        let at = Where { stream_offset: from as u64 + 64, frame: 2, payload_offset: 764 };
        assert_eq!(fault, Fault::Repeated { at, bytes: 64 });
    }

    #[test]
    fn frames_in_another_order_are_found() {
        let mut stream = sent(4, 1000);
        let second = stream[WHOLE..2 * WHOLE].to_vec();
        stream.drain(WHOLE..2 * WHOLE);
        stream.splice(2 * WHOLE..2 * WHOLE, second);
        let at = Where { stream_offset: WHOLE as u64, frame: 1, payload_offset: 300 };
        assert_eq!(receive(&stream, 4096).unwrap_err(), Fault::Lost { at, bytes: 300 });
    }

    #[test]
    fn a_connection_opened_anew_is_told_by_its_token() {
        let mut stream = sent(3, 1000);
        stream.truncate(2 * WHOLE);
        let token = Token([1; 16]);
        let seen = "192.0.2.1:9".parse().unwrap();
        stream.extend(Hello { token, seen }.encode());
        for piece in [1, 7, 4096] {
            let fault = receive(&stream, piece).unwrap_err();
            assert!(matches!(fault, Fault::Reestablished { token: found, .. } if found == token));
        }
    }

    #[test]
    fn an_end_without_its_frame_is_a_cut() {
        let stream = sent(3, 1000);
        for length in [2 * WHOLE, 2 * WHOLE + 1, 3 * WHOLE - 1, 3 * WHOLE] {
            let fault = receive(&stream[..length], 4096).unwrap_err();
            assert!(matches!(fault, Fault::Cut { at } if at.stream_offset <= length as u64));
        }
    }

    #[test]
    fn nothing_may_follow_the_end() {
        let mut stream = sent(1, 1000);
        stream.push(0);
        assert!(matches!(receive(&stream, 4096), Err(Fault::Header { .. })));
    }

    proptest! {
        #[test]
        fn a_true_stream_passes_in_pieces_of_any_size(frames in 0_u32..6, out in 1_usize..800, into in 1_usize..800) {
            let (incoming, count) = receive(&sent(frames, out), into).unwrap();
            prop_assert_eq!(incoming.verified(), u64::from(frames * FRAME));
            prop_assert_eq!(count, u64::from(frames) + 1);
        }

        #[test]
        fn any_altered_bit_is_found_at_its_place(at in 0..5 * WHOLE, bit in 0_u32..8, piece in 1_usize..800) {
            let mut stream = sent(5, 1000);
            stream[at] ^= 1 << bit;
            let fault = receive(&stream, piece).unwrap_err();
            let (frame, within) = (at / WHOLE, at % WHOLE);
            let place = match fault {
                Fault::Altered { at: place, .. } => {
                    prop_assert_eq!(place.stream_offset, at as u64);
                    place
                }
                // A header is whole or none: its fault names its first byte.
                Fault::Header { at: place } => {
                    prop_assert!(within < HEADER_BYTES);
                    prop_assert_eq!(place.stream_offset, (frame * WHOLE) as u64);
                    place
                }
                // The end frame's header, or the next one, decodes: then nothing was altered.
                other => return Err(TestCaseError::fail(format!("{other}"))),
            };
            prop_assert_eq!(place.frame, frame as u64);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..90) {
            let _ = receive(&bytes, piece);
            let mut stream = sent(1, 1000);
            stream.extend(bytes);
            let _ = receive(&stream, piece);
        }
    }
}
