//! Numbers as people read them: with their unit, and no more digits than mean something.

use std::fmt::{self, Display};

/// A length of time in microseconds: `212 ms`, `1.24 s`, `2 min 3 s`.
#[derive(Debug, Clone, Copy)]
pub struct Micros(pub u64);

/// A length of time in milliseconds, told alike.
#[must_use]
pub fn millis(ms: u64) -> Micros {
    Micros(ms.saturating_mul(1_000))
}

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        match us {
            0 => f.write_str("0 ms"),
            1..10_000 => write!(f, "{}.{} ms", us / 1_000, us % 1_000 / 100),
            10_000..1_000_000 => write!(f, "{} ms", us / 1_000),
            1_000_000..10_000_000 => {
                write!(f, "{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000)
            }
            10_000_000..60_000_000 => {
                write!(f, "{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000)
            }
            _ => {
                let s = us / 1_000_000;
                match s {
                    0..3_600 => write!(f, "{} min {} s", s / 60, s % 60),
                    3_600..86_400 => write!(f, "{} h {} min", s / 3_600, s % 3_600 / 60),
                    _ => write!(f, "{} d {} h", s / 86_400, s % 86_400 / 3_600),
                }
            }
        }
    }
}

/// A moment, as the time since the move began: `+2 min 03.105 s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since {
    /// The move's begin.
    pub(crate) start_ms: u64,
    /// The moment.
    pub(crate) at_ms: u64,
}

impl Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.at_ms < self.start_ms { '−' } else { '+' };
        let ms = self.at_ms.abs_diff(self.start_ms);
        let (s, rest) = (ms / 1_000, ms % 1_000);
        match s {
            0..60 => write!(f, "{sign}{s}.{rest:03} s"),
            60..3_600 => write!(f, "{sign}{} min {:02}.{rest:03} s", s / 60, s % 60),
            3_600..86_400 => {
                write!(f, "{sign}{} h {:02} min {:02} s", s / 3_600, s % 3_600 / 60, s % 60)
            }
            _ => write!(f, "{sign}{} d {} h", s / 86_400, s % 86_400 / 3_600),
        }
    }
}

/// Bytes, by powers of 1,000: `4.29 GB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
    }
}

/// Bits in a second: `870 Mbit/s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitRate(pub(crate) u64);

impl Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"])
    }
}

/// Three digits and the unit.
fn scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[&str]) -> fmt::Result {
    let mut unit = 0;
    let mut whole = value;
    let mut scale = 1_u64;
    while whole >= 1_000 && unit + 1 < units.len() {
        (whole, scale, unit) = (whole / 1_000, scale * 1_000, unit + 1);
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let rest = value % scale;
    match whole {
        _ if unit == 0 => write!(f, "{whole} {name}"),
        0..10 => write!(f, "{whole}.{:02} {name}", rest / (scale / 100)),
        10..100 => write!(f, "{whole}.{} {name}", rest / (scale / 10)),
        _ => write!(f, "{whole} {name}"),
    }
}

/// A count: `10,000`.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A count with its noun: `1 flow`, `2 flows`.
pub(crate) fn counted(count: u64, noun: &'static str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", Count(count))
}

/// A moment by the calendar, in milliseconds since 1970: `2026-09-21 04:46:28 UTC`.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub u64);

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0 / 1_000;
        let (year, month, day) = date(s / 86_400);
        let (hour, minute, second) = (s / 3_600 % 24, s / 60 % 60, s % 60);
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Year, month and day, so many days after 1970 began. Counts in years that begin in March, so that
/// the day that leap years add comes last.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days_since_1970 + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_few_digits() {
        let told = [0, 420, 9_999, 212_345, 1_249_000, 42_150_000, 123_000_000, 7_500_000_000]
            .map(|us| Micros(us).to_string());
        let expected =
            ["0 ms", "0.4 ms", "9.9 ms", "212 ms", "1.24 s", "42.1 s", "2 min 3 s", "2 h 5 min"];
        assert_eq!(told, expected);
        assert_eq!(Micros(u64::MAX).to_string(), "213503982 d 8 h");
        assert_eq!(millis(u64::MAX).to_string(), "213503982 d 8 h");
    }

    #[test]
    fn moments_count_from_the_start() {
        let since = |at_ms| Since { start_ms: 1_000_000, at_ms }.to_string();
        assert_eq!(since(1_000_000), "+0.000 s");
        assert_eq!(since(1_123_105), "+2 min 03.105 s");
        assert_eq!(since(999_880), "−0.120 s");
        assert_eq!(since(4_723_000), "+1 h 02 min 03 s");
    }

    #[test]
    fn sizes_have_three_digits() {
        let told = [0, 999, 1_000, 34_560_000, 999_999, 4_294_967_296, u64::MAX]
            .map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["0 B", "999 B", "1.00 kB", "34.5 MB", "999 kB", "4.29 GB", "18.4 EB"]);
        assert_eq!(BitRate(870_400_000).to_string(), "870 Mbit/s");
        assert_eq!(Count(1_234_567).to_string(), "1,234,567");
        assert_eq!(Count(123).to_string(), "123");
        assert_eq!(format!("{}", counted(1, "flow")), "1 flow");
        assert_eq!(format!("{}", counted(1_000, "flow")), "1,000 flows");
    }

    #[test]
    fn the_calendar_knows_leap_years() {
        assert_eq!(Utc(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(Utc(951_782_400_000).to_string(), "2000-02-29 00:00:00 UTC");
        assert_eq!(Utc(1_709_251_199_000).to_string(), "2024-02-29 23:59:59 UTC");
        assert_eq!(Utc(1_790_000_100_000).to_string(), "2026-09-21 14:15:00 UTC");
    }
}
