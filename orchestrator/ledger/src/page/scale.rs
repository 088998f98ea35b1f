//! From values to places in a picture, and the values that an axis names.

/// Most ticks on one axis.
const TICKS_MAX: usize = 9;

/// A straight axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// The value at `from`.
    pub(crate) low: f64,
    /// The value at `to`.
    pub(crate) high: f64,
    /// Where the lowest value is drawn.
    pub(crate) from: f64,
    /// Where the highest is.
    pub(crate) to: f64,
}

impl Scale {
    /// Where `value` is drawn; values outside at the end that is nearer.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        let share = if span > 0.0 { ((value - self.low) / span).clamp(0.0, 1.0) } else { 0.0 };
        self.from + share * (self.to - self.from)
    }
}

/// Round values from `low` to `high`, in steps that are the first of `steps` to give few enough.
pub(crate) fn ticks(low: f64, high: f64, steps: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let fits = |step: &f64| (high - low) / step <= (TICKS_MAX - 1) as f64;
    let Some(step) = steps.into_iter().filter(|step| *step > 0.0).find(fits) else {
        return vec![low];
    };
    let first = (low / step).ceil();
    (0..TICKS_MAX)
        .map(|count| (first + count as f64) * step)
        .take_while(|tick| *tick <= high + step * 1e-6)
        .collect()
}

/// 1, 2, 5 times the powers of ten.
pub(crate) fn round_steps() -> impl Iterator<Item = f64> {
    (0..19).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// Steps of time in milliseconds, as clocks have them.
pub(crate) fn time_steps() -> impl Iterator<Item = f64> {
    const S: f64 = 1_000.0;
    const MIN: f64 = 60.0 * S;
    const H: f64 = 60.0 * MIN;
    let fine = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
    let clock = [S, 2.0 * S, 5.0 * S, 10.0 * S, 15.0 * S, 30.0 * S];
    let long = [MIN, 2.0 * MIN, 5.0 * MIN, 10.0 * MIN, 15.0 * MIN, 30.0 * MIN];
    let days = [H, 2.0 * H, 6.0 * H, 12.0 * H];
    let more = round_steps().map(|days| days * 24.0 * H);
    fine.into_iter().chain(clock).chain(long).chain(days).chain(more)
}

/// A time on an axis, in the unit that the axis has, by its span.
pub(crate) fn time_label(ms: f64, span_ms: f64) -> String {
    let (unit, name) = match span_ms {
        span if span < 1_500.0 => (1.0, "ms"),
        span if span < 240_000.0 => (1_000.0, "s"),
        span if span < 14_400_000.0 => (60_000.0, "min"),
        span if span < 345_600_000.0 => (3_600_000.0, "h"),
        _ => (86_400_000.0, "d"),
    };
    let value = ms / unit;
    let value = if value == 0.0 { 0.0 } else { value };
    let sign = if value < 0.0 { "−" } else { "" };
    let digits = format!("{:.1}", value.abs());
    format!("{sign}{} {name}", digits.strip_suffix(".0").unwrap_or(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_inside() {
        assert_eq!(ticks(0.0, 100.0, round_steps()), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(-40.0, 260.0, time_steps()), [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]);
        for power in 0..60 {
            let high = 1.7_f64.powi(power);
            let ticks = ticks(0.0, high, time_steps());
            assert!(!ticks.is_empty() && ticks.len() <= TICKS_MAX, "{high}: {ticks:?}");
            assert!(ticks.iter().all(|tick| *tick <= high * 1.001), "{high}: {ticks:?}");
        }
    }

    #[test]
    fn no_value_is_drawn_outside() {
        let scale = Scale { low: 10.0, high: 20.0, from: 100.0, to: 0.0 };
        let places = [f64::MIN, 10.0, 15.0, 20.0, f64::INFINITY].map(|value| scale.at(value));
        assert_eq!(places, [100.0, 100.0, 50.0, 0.0, 0.0]);
        let flat = Scale { low: 3.0, high: 3.0, from: 7.0, to: 9.0 };
        assert_eq!(flat.at(3.0), 7.0);
    }

    #[test]
    fn labels_have_the_unit_of_their_axis() {
        assert_eq!(time_label(250.0, 300.0), "250 ms");
        assert_eq!(time_label(-50.0, 300.0), "−50 ms");
        assert_eq!(time_label(0.0, 300.0), "0 ms");
        assert_eq!(time_label(90_000.0, 120_000.0), "90 s");
        assert_eq!(time_label(90_000.0, 600_000.0), "1.5 min");
    }
}
