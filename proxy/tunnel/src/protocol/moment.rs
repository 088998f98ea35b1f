//! Time, as pure code receives it.

/// A point in time: microseconds since an instant of the driver's choice. It never goes backward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment so many microseconds after the driver's instant.
    #[must_use]
    pub const fn from_micros(us: u64) -> Moment {
        Moment(us)
    }

    /// Microseconds since the driver's instant.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1_000)))
    }
}
