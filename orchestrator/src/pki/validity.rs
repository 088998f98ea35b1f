//! Times in certificates: from when to when, and how people read them. Pure.

use std::time::{Duration, SystemTime};

use daemon::unix_s;
use rcgen::{CertificateParams, date_time_ymd};

use super::BACKDATED_S;

const DAY_S: u64 = 86_400;

/// When what is made `now` for so many days ends.
pub(super) fn end(now: SystemTime, days: u32) -> SystemTime {
    now + Duration::from_secs(u64::from(days) * DAY_S)
}

/// Makes `params` valid from a little before `now` until `end`, which lies within a CA's life:
/// certificates know no year beyond 9999.
pub(super) fn limit(params: &mut CertificateParams, now: SystemTime, end: SystemTime) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(unix_s(now).saturating_sub(BACKDATED_S));
    params.not_after = epoch + Duration::from_secs(unix_s(end));
}

/// Whole days from `now` until `end`.
pub(super) fn days_between(now: SystemTime, end: SystemTime) -> u64 {
    unix_s(end).saturating_sub(unix_s(now)) / DAY_S
}

/// `2027-01-31 08:05 UTC`.
pub(super) fn text(time: SystemTime) -> String {
    let time = date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_s(time));
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", time.hour(), time.minute())
}
