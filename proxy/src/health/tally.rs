//! Up or down, by checks in a row: pure.

use proxy_api::Health;

use crate::config::HealthConfig;

/// What the checks of one address have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    health: Health,
    /// Checks in a row that contradict `health`.
    against: u32,
}

impl Tally {
    /// Before the next check, `health` being what is known.
    #[must_use]
    pub(super) fn of(health: Health) -> Tally {
        Tally { health, against: 0 }
    }

    /// What is known.
    #[must_use]
    pub(super) fn health(self) -> Health {
        self.health
    }

    /// After a check that went well, or did not. The first ever decides at once: `rise` and `fall`
    /// are there to tell a change from a hiccup, and there is nothing yet to change.
    #[must_use]
    pub(super) fn after(self, is_good: bool, config: &HealthConfig) -> Tally {
        let (said, needed) = match is_good {
            true => (Health::Up, config.rise),
            false => (Health::Down, config.fall),
        };
        let against = if self.health == said { 0 } else { self.against + 1 };
        let decides = !matches!(self.health, Health::Up | Health::Down) || against >= needed;
        if decides { Tally::of(said) } else { Tally { against, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn config(rise: u32, fall: u32) -> HealthConfig {
        let second = Duration::from_secs(1);
        HealthConfig { interval: second, timeout: second, rise, fall, port: None }
    }

    fn after(health: Health, checks: &str) -> Health {
        let config = config(2, 3);
        checks.chars().fold(Tally::of(health), |tally, c| tally.after(c == '+', &config)).health()
    }

    #[test]
    fn the_first_check_decides_and_later_ones_in_a_row() {
        for (before, checks, health) in [
            (Health::Unknown, "", Health::Unknown),
            (Health::Unknown, "+", Health::Up),
            (Health::Unknown, "-", Health::Down),
            (Health::Up, "--", Health::Up),
            (Health::Up, "---", Health::Down),
            (Health::Up, "--+--", Health::Up),
            (Health::Down, "+", Health::Down),
            (Health::Down, "+-+", Health::Down),
            (Health::Down, "++", Health::Up),
        ] {
            assert_eq!(after(before, checks), health, "{before:?} {checks}");
        }
    }

    proptest! {
        #[test]
        fn it_changes_only_after_as_many_in_a_row_as_configured(
            rise in 1_u32..5, fall in 1_u32..5, checks in prop::collection::vec(any::<bool>(), 1..64)
        ) {
            let config = config(rise, fall);
            let mut tally = Tally::of(Health::Up);
            for (index, check) in checks.iter().enumerate() {
                let next = tally.after(*check, &config);
                if next.health() != tally.health() {
                    let needed = if *check { rise } else { fall } as usize;
                    let row = checks[..=index].iter().rev().take_while(|c| *c == check).count();
                    prop_assert!(row >= needed);
                }
                tally = next;
            }
        }
    }
}
