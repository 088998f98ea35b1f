//! Where an event loop finds the thing an event is for.
//!
//! A socket that was closed may still have an event in the batch being handled, and its place may
//! already hold another: each place counts its tenants, and the token of an earlier one finds nothing.

use mio::Token;

/// What kind of thing a token belongs to; each has slots of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A TCP listener of the checked service.
    Listener,
    /// A UDP socket of the checked service.
    Datagrams,
    /// An accepted connection of the checked service.
    Accepted,
    /// A TCP flow that we opened.
    Flow,
    /// A UDP session that we opened.
    Session,
    /// The listener of the control port.
    ControlListener,
    /// A connection to the control port.
    Control,
    /// Another thread's call.
    Waker,
}

const PARTS: [Part; 8] = [
    Part::Listener,
    Part::Datagrams,
    Part::Accepted,
    Part::Flow,
    Part::Session,
    Part::ControlListener,
    Part::Control,
    Part::Waker,
];

const INDEX_BITS: u32 = 32;
const TENANT_BITS: u32 = 28;

impl Part {
    /// The token of the thing at `index`, of the part's `tenant`-th one there.
    #[must_use]
    pub(crate) fn token(self, index: usize, tenant: u32) -> Token {
        let tenant = tenant as usize & ((1 << TENANT_BITS) - 1);
        Token((self as usize) << (INDEX_BITS + TENANT_BITS) | tenant << INDEX_BITS | index)
    }

    /// The part and index that a token names.
    #[must_use]
    pub(crate) fn of(token: Token) -> (Self, usize) {
        let part = token.0 >> (INDEX_BITS + TENANT_BITS);
        (PARTS[part % PARTS.len()], token.0 & ((1 << INDEX_BITS) - 1))
    }
}

/// Places for the things of one part.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    part: Part,
    places: Vec<(u32, Option<T>)>,
    free: Vec<usize>,
    count_max: usize,
}

impl<T> Slots<T> {
    /// Room for at most `count_max` things.
    #[must_use]
    pub(crate) fn new(part: Part, count_max: usize) -> Self {
        Self { part, places: Vec::new(), free: Vec::new(), count_max }
    }

    /// Puts in what `make` returns for the token it will have; `Ok(None)` when all places are taken.
    ///
    /// # Errors
    /// What `make` says; then nothing was put in.
    pub(crate) fn insert_with<E>(
        &mut self,
        make: impl FnOnce(Token) -> Result<T, E>,
    ) -> Result<Option<Token>, E> {
        if self.len() == self.count_max {
            return Ok(None);
        }
        let index = self.free.last().copied().unwrap_or(self.places.len());
        let tenant = self.places.get(index).map_or(0, |place| place.0);
        let token = self.part.token(index, tenant);
        let thing = make(token)?;
        if self.free.pop().is_none() {
            self.places.push((tenant, None));
        }
        self.places[index].1 = Some(thing);
        Ok(Some(token))
    }

    /// The thing that `token` was given for, if it is still there.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (part, index) = Part::of(token);
        let (tenant, thing) = self.places.get_mut(index)?;
        if part.token(index, *tenant) != token {
            return None;
        }
        thing.as_mut()
    }

    /// Takes the thing out.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        let (_, index) = Part::of(token);
        let (tenant, thing) = &mut self.places[index];
        *tenant = tenant.wrapping_add(1) & ((1 << TENANT_BITS) - 1);
        self.free.push(index);
        thing.take()
    }

    /// Every thing with its token.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        let part = self.part;
        self.places.iter().enumerate().filter_map(move |(index, (tenant, thing))| {
            thing.as_ref().map(|thing| (part.token(index, *tenant), thing))
        })
    }

    /// How many things there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slots: &mut Slots<&'static str>, thing: &'static str) -> Option<Token> {
        slots.insert_with(|_| Ok::<_, ()>(thing)).unwrap()
    }

    #[test]
    fn a_token_of_an_earlier_tenant_finds_nothing() {
        let mut slots = Slots::new(Part::Accepted, 2);
        let first = insert(&mut slots, "first").unwrap();
        assert_eq!(slots.remove(first), Some("first"));
        let second = insert(&mut slots, "second").unwrap();
        assert_eq!(Part::of(first), Part::of(second));
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_full_house_takes_nobody_and_a_failure_takes_no_place() {
        let mut slots = Slots::new(Part::Flow, 1);
        assert_eq!(slots.insert_with(|_| Err::<&str, _>("no")), Err("no"));
        assert!(insert(&mut slots, "one").is_some());
        assert!(insert(&mut slots, "two").is_none());
        assert_eq!(slots.iter().count(), 1);
    }

    #[test]
    fn every_part_comes_back_from_its_token() {
        for part in PARTS {
            assert_eq!(Part::of(part.token(77, u32::MAX)), (part, 77));
        }
    }
}
