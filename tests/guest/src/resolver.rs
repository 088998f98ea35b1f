//! Clients' way to an address: names asked of one name server, as caches that honour TTLs do it, and
//! as programs do that ask once and never again.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Longest name, as it is written in a question.
const NAME_BYTES_MAX: usize = 253;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1_232;
/// What an answer begins with.
const HEADER_BYTES: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Which address of a name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn kind(self) -> u16 {
        match self {
            Family::V4 => TYPE_A,
            Family::V6 => TYPE_AAAA,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Family::V4 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            Family::V6 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The first address.
    pub address: IpAddr,
    /// How long it may be believed.
    pub ttl_s: u32,
}

/// Believes an answer until its TTL has run out, and asks again then.
#[derive(Debug, Default)]
pub struct Honouring(Option<(IpAddr, Instant)>);

impl Honouring {
    /// The address at `now`.
    ///
    /// # Errors
    /// What `ask` says; an answer that has run out is not believed any longer.
    pub fn address(
        &mut self,
        now: Instant,
        ask: impl FnOnce() -> Result<Answer>,
    ) -> Result<IpAddr> {
        match self.0 {
            Some((address, until)) if now < until => Ok(address),
            _ => {
                self.0 = None;
                let Answer { address, ttl_s } = ask()?;
                self.0 = Some((address, now + Duration::from_secs(ttl_s.into())));
                Ok(address)
            }
        }
    }
}

/// Believes its first answer for ever.
#[derive(Debug, Default)]
pub struct Ignoring(Option<IpAddr>);

impl Ignoring {
    /// The address.
    ///
    /// # Errors
    /// What `ask` says, as long as there was no answer.
    pub fn address(&mut self, ask: impl FnOnce() -> Result<Answer>) -> Result<IpAddr> {
        if let Some(address) = self.0 {
            return Ok(address);
        }
        Ok(*self.0.insert(ask()?.address))
    }
}

/// Asks `server` for the IPv4 address of `name`.
///
/// # Errors
/// It does not answer within `wait`, or says that there is none.
pub fn ask(server: SocketAddr, name: &str, id: u16, wait: Duration) -> Result<Answer> {
    ask_for(Family::V4, server, name, id, wait)
}

/// Asks `server` for an address of `name`.
///
/// # Errors
/// It does not answer within `wait`, or says that there is none.
pub fn ask_for(
    family: Family,
    server: SocketAddr,
    name: &str,
    id: u16,
    wait: Duration,
) -> Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(wait))?;
    let question = question(family, id, name)?;
    socket.send(&question)?;
    let mut bytes = [0; ANSWER_BYTES_MAX];
    let length = socket.recv(&mut bytes)?;
    read(family, &question, bytes.get(..length).unwrap_or_default())
}

/// A question for a name's addresses of one family.
fn question(family: Family, id: u16, name: &str) -> Result<Vec<u8>> {
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid("it is too long for a name"));
    }
    let mut bytes = id.to_be_bytes().to_vec();
    // One question, and a wish for recursion that an authoritative server passes over.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        bytes.push(length.ok_or_else(|| invalid("a label of it is none"))?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(family.kind().to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Ok(bytes)
}

/// The first address in the answer to `question`, which it must repeat.
fn read(family: Family, question: &[u8], bytes: &[u8]) -> Result<Answer> {
    let header =
        bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| invalid("an answer without a header"))?;
    if question.get(..2) != Some(&header[..2]) {
        return Err(invalid("an answer to another question"));
    }
    if header[2] & 0x80 == 0 || header[3] & 0x0f != 0 {
        return Err(invalid("no answer, or one that says no"));
    }
    let asked = question.get(HEADER_BYTES..).unwrap_or_default();
    let rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut rest =
        rest.strip_prefix(asked).ok_or_else(|| invalid("it repeats another question"))?;
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        rest = past_name(rest).ok_or_else(|| invalid("a name without an end"))?;
        let (fields, more) =
            rest.split_first_chunk::<10>().ok_or_else(|| invalid("a record cut short"))?;
        let length = usize::from(u16::from_be_bytes([fields[8], fields[9]]));
        let (data, more) =
            more.split_at_checked(length).ok_or_else(|| invalid("data cut short"))?;
        let kind = u16::from_be_bytes([fields[0], fields[1]]);
        let address = family.address(data).filter(|_| kind == family.kind());
        if let Some(address) = address {
            let ttl_s = u32::from_be_bytes([fields[4], fields[5], fields[6], fields[7]]);
            return Ok(Answer { address, ttl_s });
        }
        rest = more;
    }
    Err(invalid("no address in it"))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

/// What follows a name: its labels to their end, or to a pointer to others.
fn past_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            0xc0.. => return rest.get(1..),
            _ => bytes = rest.get(usize::from(*length)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "shop.example.net";

    /// An answer to `question`, as a server writes it.
    fn answered(question: &[u8], records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        (bytes[2], bytes[3]) = (0x84, 0);
        bytes[7] = u8::try_from(records.len()).unwrap();
        for (kind, ttl_s, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(CLASS_IN.to_be_bytes());
            bytes.extend(ttl_s.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn the_first_address_is_taken_with_its_ttl() {
        let question = question(Family::V4, 7, NAME).unwrap();
        let bytes = answered(&question, &[(5, 9, b"\x01x\0"), (1, 300, &[192, 0, 2, 80])]);
        let told = read(Family::V4, &question, &bytes).unwrap();
        assert_eq!(told, Answer { address: [192, 0, 2, 80].into(), ttl_s: 300 });
        let other = super::question(Family::V4, 8, NAME).unwrap();
        assert!(
            read(Family::V4, &other, &bytes).is_err(),
            "an answer to another question was taken"
        );
        assert!(read(Family::V4, &question, &answered(&question, &[])).is_err());
        let question = super::question(Family::V6, 7, NAME).unwrap();
        let mut address = [0; 16];
        address[15] = 80;
        let bytes = answered(&question, &[(1, 300, &[192, 0, 2, 80]), (28, 300, &address)]);
        let told = read(Family::V6, &question, &bytes).unwrap();
        assert_eq!(told, Answer { address: address.into(), ttl_s: 300 });
    }

    #[test]
    fn an_answer_that_is_cut_short_or_changed_is_no_panic() {
        let question = question(Family::V4, 7, NAME).unwrap();
        let sound = answered(&question, &[(1, 300, &[192, 0, 2, 80])]);
        for length in 0..sound.len() {
            assert!(
                read(Family::V4, &question, &sound[..length]).is_err(),
                "{length} bytes were enough"
            );
        }
        for at in 0..sound.len() {
            for value in 0..=u8::MAX {
                let mut bytes = sound.clone();
                bytes[at] = value;
                let _ = read(Family::V4, &question, &bytes);
            }
        }
    }

    #[test]
    fn one_asks_again_when_its_answer_has_run_out_and_the_other_never() {
        let (begun, mut honouring, mut ignoring) =
            (Instant::now(), Honouring::default(), Ignoring::default());
        let told = |last, ttl_s| Ok(Answer { address: [192, 0, 2, last].into(), ttl_s });
        for (at_s, site, honoured) in [(0, 1, 1), (4, 2, 1), (5, 2, 2), (9, 3, 2)] {
            let now = begun + Duration::from_secs(at_s);
            let address = honouring.address(now, || told(site, 5)).unwrap();
            assert_eq!(address, IpAddr::from([192, 0, 2, honoured]), "after {at_s} s");
            let ignored = ignoring.address(|| told(site, 5)).unwrap();
            assert_eq!(ignored, IpAddr::from([192, 0, 2, 1]));
        }
        let silent = honouring.address(begun + Duration::from_secs(60), || Err(invalid("silence")));
        assert!(silent.is_err(), "what had run out was believed");
    }
}
