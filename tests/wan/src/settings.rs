//! What one direction of a link is like: written as a [`Change`], checked into [`Settings`].
//!
//! A `Change` is what operators and tests write, on the command line or over the control socket; it
//! names only the fields that it changes. `Settings` cannot be out of range.

use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest delay, and longest jitter, of a link: ten seconds.
pub const DELAY_US_MAX: u64 = 10_000_000;
/// The loss that leaves nothing over, in parts per million.
pub const LOSS_PPM_ALL: u32 = 1_000_000;
/// Highest rate that can be asked for: 100 Gbit/s. It keeps a packet's sending time well within
/// 64 bits.
pub const RATE_BITS_PER_S_MAX: u64 = 100_000_000_000;
/// Longest queue before the bottleneck.
pub const QUEUE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The queue of a link for which none is written: 20 ms at 1 Gbit/s.
pub const QUEUE_BYTES_DEFAULT: u64 = 2_500_000;

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number beyond what its field can be.
    #[error("{field} is {value}; write at most {max}")]
    OutOfRange {
        /// The field as it is written.
        field: &'static str,
        /// What was written.
        value: u64,
        /// The most that it can be.
        max: u64,
    },
    /// A part of a text that is not `field=number`.
    #[error("'{0}' is not a setting; write field=number, for example delay_us=10000")]
    NotASetting(String),
    /// A field that links do not have.
    #[error(
        "there is no setting '{0}'; there are delay_us, jitter_us, loss_ppm, rate_bits_per_s and \
         queue_bytes_max"
    )]
    UnknownField(String),
}

/// A change of settings as it is written; a field that is absent stays as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Time that the line takes to carry a packet, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// Each packet takes up to this much longer, evenly distributed, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u64>,
    /// How many of a million packets are lost on the line, independently of one another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ppm: Option<u32>,
    /// Rate of the bottleneck in bits of IP packets per second; 0 for no bottleneck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bits_per_s: Option<u64>,
    /// How many bytes may wait before the bottleneck; a packet that does not fit is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_bytes_max: Option<u64>,
}

impl FromStr for Change {
    type Err = SettingsError;

    /// Reads `field=number,field=number`.
    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut change = Self::default();
        for part in text.split(',') {
            let not_a_setting = || SettingsError::NotASetting(part.to_owned());
            let (field, number) = part.split_once('=').ok_or_else(not_a_setting)?;
            let number: u64 = number.parse().map_err(|_| not_a_setting())?;
            match field {
                "delay_us" => change.delay_us = Some(number),
                "jitter_us" => change.jitter_us = Some(number),
                "loss_ppm" => {
                    // Beyond 32 bits it is out of range in any case; the check says so.
                    change.loss_ppm = Some(u32::try_from(number).unwrap_or(u32::MAX));
                }
                "rate_bits_per_s" => change.rate_bits_per_s = Some(number),
                "queue_bytes_max" => change.queue_bytes_max = Some(number),
                other => return Err(SettingsError::UnknownField(other.to_owned())),
            }
        }
        Ok(change)
    }
}

/// What one direction of a link is like, checked.
///
/// The default is a perfect line: no delay, no loss, no bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Change", into = "Change")]
pub struct Settings {
    delay_us: u64,
    jitter_us: u64,
    loss_ppm: u32,
    rate_bits_per_s: Option<NonZeroU64>,
    queue_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay_us: 0,
            jitter_us: 0,
            loss_ppm: 0,
            rate_bits_per_s: None,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
        }
    }
}

impl Settings {
    /// These settings with a change made, or what is wrong with the change.
    pub fn changed(self, change: Change) -> Result<Self, SettingsError> {
        let loss_ppm = change.loss_ppm.unwrap_or(self.loss_ppm);
        within("loss_ppm", loss_ppm.into(), LOSS_PPM_ALL.into())?;
        let rate = change.rate_bits_per_s.map_or(self.rate_bits_per_s, NonZeroU64::new);
        within("rate_bits_per_s", rate.map_or(0, NonZeroU64::get), RATE_BITS_PER_S_MAX)?;
        Ok(Self {
            delay_us: within("delay_us", change.delay_us.unwrap_or(self.delay_us), DELAY_US_MAX)?,
            jitter_us: within(
                "jitter_us",
                change.jitter_us.unwrap_or(self.jitter_us),
                DELAY_US_MAX,
            )?,
            loss_ppm,
            rate_bits_per_s: rate,
            queue_bytes_max: within(
                "queue_bytes_max",
                change.queue_bytes_max.unwrap_or(self.queue_bytes_max),
                QUEUE_BYTES_MAX,
            )?,
        })
    }

    /// Time on the line, in nanoseconds.
    #[must_use]
    pub fn delay_ns(&self) -> u64 {
        self.delay_us * 1000
    }

    /// The most that jitter adds, in nanoseconds.
    #[must_use]
    pub fn jitter_ns(&self) -> u64 {
        self.jitter_us * 1000
    }

    /// How many of a million packets are lost.
    #[must_use]
    pub fn loss_ppm(&self) -> u32 {
        self.loss_ppm
    }

    /// Rate of the bottleneck; none where there is no bottleneck.
    #[must_use]
    pub fn rate_bits_per_s(&self) -> Option<NonZeroU64> {
        self.rate_bits_per_s
    }

    /// How many bytes may wait before the bottleneck.
    #[must_use]
    pub fn queue_bytes_max(&self) -> u64 {
        self.queue_bytes_max
    }
}

impl TryFrom<Change> for Settings {
    type Error = SettingsError;

    fn try_from(change: Change) -> Result<Self, SettingsError> {
        Self::default().changed(change)
    }
}

impl From<Settings> for Change {
    fn from(settings: Settings) -> Self {
        Self {
            delay_us: Some(settings.delay_us),
            jitter_us: Some(settings.jitter_us),
            loss_ppm: Some(settings.loss_ppm),
            rate_bits_per_s: Some(settings.rate_bits_per_s.map_or(0, NonZeroU64::get)),
            queue_bytes_max: Some(settings.queue_bytes_max),
        }
    }
}

fn within(field: &'static str, value: u64, max: u64) -> Result<u64, SettingsError> {
    if value > max {
        return Err(SettingsError::OutOfRange { field, value, max });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let first = Settings::default().changed("delay_us=5,loss_ppm=7".parse().unwrap()).unwrap();
        let second = first.changed("loss_ppm=8,rate_bits_per_s=1000".parse().unwrap()).unwrap();
        assert_eq!(second.delay_ns(), 5_000);
        assert_eq!(second.loss_ppm(), 8);
        assert_eq!(second.rate_bits_per_s(), NonZeroU64::new(1000));
        let unlimited = second.changed("rate_bits_per_s=0".parse().unwrap()).unwrap();
        assert_eq!(unlimited.rate_bits_per_s(), None);
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (text, named) in [
            ("loss_ppm=1000001", "loss_ppm"),
            ("loss_ppm=99999999999", "loss_ppm"),
            ("delay_us=10000001", "delay_us"),
            ("jitter_us=10000001", "jitter_us"),
            ("rate_bits_per_s=100000000001", "rate_bits_per_s"),
            ("queue_bytes_max=268435457", "queue_bytes_max"),
        ] {
            let refused = Settings::default().changed(text.parse().unwrap()).unwrap_err();
            assert!(refused.to_string().contains(named), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_not_a_setting_is_refused() {
        for text in ["", "delay_us", "delay_us=", "delay_us=-1", "delay_us=1,", "speed=3"] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }

    #[test]
    fn settings_survive_their_written_form() {
        let text = "delay_us=1,jitter_us=2,loss_ppm=3,rate_bits_per_s=4,queue_bytes_max=5";
        let settings = Settings::default().changed(text.parse().unwrap()).unwrap();
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&written).unwrap(), settings);
        assert!(serde_json::from_str::<Settings>(r#"{"loss_ppm":2000000}"#).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"loss":2}"#).is_err());
    }
}
