//! When wires are finished: the kernel tells links' states up to a second late, and until it has,
//! routes count as dead and addresses of bridges are missing.

use std::thread;
use std::time::{Duration, Instant};

use crate::LabError;
use crate::host::Host;

/// How long the kernel may take to notice that both ends of every wire are up.
const UP_MS_MAX: u64 = 20_000;
/// How often a host is asked.
const POLL_MS: u64 = 20;

/// Waits until every link of a host carries.
pub(super) fn wait(host: &Host) -> Result<(), LabError> {
    let bound = Duration::from_millis(UP_MS_MAX);
    let deadline = Instant::now() + bound;
    loop {
        let links = host.succeed(&["ip", "-br", "link"])?;
        let waiting: Vec<&str> = links.lines().filter_map(waits).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(LabError::TookTooLong {
                what: format!("the carrier of {} on {host}", waiting.join(", ")),
                bound,
            });
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// The name of a link that is up and not known to carry yet. A loopback and a TUN device never say
/// that they do, and a link that nobody brought up is not waited for.
fn waits(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let (name, state) = (words.next()?, words.next()?);
    let flags = line.split_once('<')?.1.trim_end_matches('>');
    let has = |flag: &str| flags.split(',').any(|word| word == flag);
    let tells = has("UP") && !has("LOOPBACK") && !has("POINTOPOINT");
    (tells && state != "UP").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_are_up_and_do_not_carry_are_waited_for() {
        assert_eq!(waits("hosts DOWN 02:10:10:00:fe:01 <NO-CARRIER,BROADCAST,UP>"), Some("hosts"));
        assert_eq!(waits("br0 UNKNOWN 02:10:10:00:ff:01 <BROADCAST,UP,LOWER_UP>"), Some("br0"));
        assert_eq!(waits("leg@if3 UP 02:10:10:00:01:01 <BROADCAST,UP,LOWER_UP>"), None);
        assert_eq!(waits("lo UNKNOWN 00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP>"), None);
        assert_eq!(waits("wan UNKNOWN <POINTOPOINT,NOARP,UP,LOWER_UP>"), None);
        assert_eq!(waits("spare DOWN 02:10:10:00:00:09 <BROADCAST,MULTICAST>"), None);
    }
}
