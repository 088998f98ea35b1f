//! Where a worker keeps its flows: places that stay where they are, and are used again.

/// Things by place.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Where the next thing will be put.
    #[must_use]
    pub fn next_place(&self) -> usize {
        self.free.last().copied().unwrap_or(self.places.len())
    }

    /// Puts `thing` at [`Slab::next_place`].
    pub fn insert(&mut self, thing: T) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        if let Some(slot) = self.places.get_mut(place) {
            *slot = Some(thing);
        }
        place
    }

    /// What is at `place`.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.places.get(place)?.as_ref()
    }

    /// Takes what is at `place` away.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let thing = self.places.get_mut(place)?.take();
        if thing.is_some() {
            self.free.push(place);
        }
        thing
    }

    /// Everything, by place.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_once_it_is_free() {
        let mut slab = Slab::default();
        let places: Vec<usize> = (0..4).map(|thing| slab.insert(thing)).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!((slab.remove(1), slab.remove(1), slab.remove(9)), (Some(1), None, None));
        assert_eq!((slab.len(), slab.get(1), slab.next_place()), (3, None, 1));
        assert_eq!(slab.insert(7), 1);
        assert_eq!(slab.iter().copied().collect::<Vec<i32>>(), [0, 7, 2, 3]);
    }
}
