//! The randomness of the emulator: SplitMix64, whole in one screen and the same for ever.
//!
//! The k-th draw of a seed is `mix(seed + k * GAMMA)`, so that what becomes of the k-th packet of a
//! direction depends on the seed, on k and on the settings in force, and on nothing that happened
//! to the packets before it. A stored seed therefore means the same in every version; a library's
//! "small" generator makes no such promise.

/// The golden ratio in 64 bits: SplitMix64's step.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded sequence of draws.
#[derive(Debug, Clone)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The sequence of one part (a direction, by its number) of what a seed decides.
    #[must_use]
    pub fn of_part(seed: u64, part: u64) -> Self {
        Self::new(mix(seed ^ mix(part.wrapping_add(1).wrapping_mul(GAMMA))))
    }

    /// The next draw: 64 evenly distributed bits.
    pub fn next_bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }
}

/// A draw as a number below `bound`, evenly but for at most `bound` in 2^64.
#[must_use]
pub(crate) fn below(bits: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(bits) * u128::from(bound)) >> 64).expect("the product is below 2^128")
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut draws = Draws::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| draws.next_bits()).collect();
        // The published reference values of SplitMix64 for this seed.
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn parts_of_one_seed_differ() {
        let first = |part| Draws::of_part(7, part).next_bits();
        assert_ne!(first(0), first(1));
        assert_ne!(Draws::of_part(7, 0).next_bits(), Draws::of_part(8, 0).next_bits());
    }

    #[test]
    fn a_number_below_a_bound_reaches_both_ends() {
        assert_eq!(below(0, 10), 0);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(u64::MAX, 1), 0);
    }
}
