//! Keys of the datagrams. Each control connection gives its two ends one key per direction, by its
//! TLS session's exporter: one connection, one key, and no number is used twice with it.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::protocol::Moment;
use crate::protocol::bounds::OLD_KEYS_MS_MAX;
use crate::protocol::session::Side;

use super::datagram::{Replays, Unopened};

/// What the exporter is asked for, at both ends.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-causeway-datagrams";
const KEY_BYTES: usize = 16;
const WAY_BYTES: usize = KEY_BYTES + NONCE_LEN;

/// What a control connection's exporter gives both ends.
#[derive(Clone)]
pub struct Secret([u8; Secret::BYTES]);

impl Secret {
    /// How many bytes are asked for: key and first nonce of each direction, and the keys' name.
    pub const BYTES: usize = 2 * WAY_BYTES + 8;

    /// Over what the exporter gave.
    #[must_use]
    pub fn new(bytes: [u8; Secret::BYTES]) -> Secret {
        Secret(bytes)
    }

    fn id(&self) -> KeyId {
        let name = self.0.last_chunk().expect("longer than a name");
        KeyId(u64::from_be_bytes(*name))
    }

    /// The key for what the caller says, or for what the called one does.
    fn key(&self, sayer: Side) -> Key {
        let at = if sayer == Side::Caller { 0 } else { WAY_BYTES };
        let (key, iv) = self.0[at..at + WAY_BYTES].split_at(KEY_BYTES);
        let key = UnboundKey::new(&AES_128_GCM, key).expect("16 bytes are a key");
        Key { key: LessSafeKey::new(key), iv: iv.try_into().expect("as long as a nonce") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// By which a receiver finds the key: the same for both directions, and no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u64);

struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Key {
    fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, of) in nonce[NONCE_LEN - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= of;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Every number of a key has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("every number of the key has been used; it takes a new control connection")]
pub struct Exhausted;

/// One end's key for what it sends.
pub struct Sealing {
    id: KeyId,
    key: Key,
    next: u64,
}

impl Sealing {
    /// The key of this `side`.
    #[must_use]
    pub fn new(secret: &Secret, side: Side) -> Sealing {
        Sealing { id: secret.id(), key: secret.key(side), next: 0 }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The number of the next datagram; it is used up.
    pub(super) fn number(&mut self) -> Result<u64, Exhausted> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Exhausted)?;
        Ok(number)
    }

    /// Encrypts `body` where it is, and gives its tag.
    pub(super) fn seal(
        &self,
        number: u64,
        head: &[u8],
        body: &mut [u8],
    ) -> [u8; super::datagram::TAG_BYTES] {
        let sealed =
            self.key.key.seal_in_place_separate_tag(self.key.nonce(number), Aad::from(head), body);
        let tag = sealed.expect("a datagram is far below what one nonce encrypts");
        tag.as_ref().try_into().expect("AES-GCM's tags are 16 bytes")
    }
}

/// One end's key for what it receives.
pub struct Opening {
    id: KeyId,
    key: Key,
    replays: Replays,
}

impl Opening {
    /// The key of the other side, as this `side` needs it.
    #[must_use]
    pub fn new(secret: &Secret, side: Side) -> Opening {
        let other = if side == Side::Caller { Side::Called } else { Side::Caller };
        Opening { id: secret.id(), key: secret.key(other), replays: Replays::default() }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn open<'a>(
        &mut self,
        number: u64,
        head: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Unopened> {
        if !self.replays.is_new(number) {
            return Err(Unopened::Replayed);
        }
        let opened = self.key.key.open_in_place(self.key.nonce(number), Aad::from(head), sealed);
        let opened = opened.map_err(|_| Unopened::Forged)?;
        // Only what is authentic counts: a forger could else make the true one a repetition.
        self.replays.mark(number);
        Ok(opened)
    }
}

/// The keys by which one peer's datagrams are opened: the newest, and for a while the one before.
#[derive(Default)]
pub struct Openers {
    newest: Option<Opening>,
    before: Option<(Opening, Moment)>,
}

impl Openers {
    /// A new control connection's key. The one before is good until the first datagram under this
    /// one, and no longer than [`OLD_KEYS_MS_MAX`].
    pub fn install(&mut self, opening: Opening, now: Moment) {
        let until = now.after_ms(OLD_KEYS_MS_MAX);
        self.before = self.newest.replace(opening).map(|before| (before, until));
    }

    /// Whether something has come under the newest key, or there never was another.
    #[must_use]
    pub fn is_newest_heard(&self) -> bool {
        self.before.is_none()
    }

    /// The names of the keys that open.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.newest.iter().map(Opening::id).chain(self.before.iter().map(|(it, _)| it.id()))
    }

    pub(super) fn open<'a>(
        &mut self,
        id: KeyId,
        number: u64,
        head: &[u8],
        sealed: &'a mut [u8],
        now: Moment,
    ) -> Result<&'a [u8], Unopened> {
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.id == id) {
            let opened = newest.open(number, head, sealed)?;
            self.before = None;
            return Ok(opened);
        }
        match &mut self.before {
            Some((before, until)) if before.id == id && now <= *until => {
                before.open(number, head, sealed)
            }
            _ => Err(Unopened::UnknownKey),
        }
    }
}

#[cfg(test)]
impl Sealing {
    pub(super) fn at(mut self, next: u64) -> Sealing {
        self.next = next;
        self
    }
}
