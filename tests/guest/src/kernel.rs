//! What the kernel under us has dropped: where to look when datagrams are missing that reached it.

use std::fs;

use serde::{Deserialize, Serialize};

/// Since the machine's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDrops {
    /// Datagrams for which a socket had no room.
    pub socket_full: u64,
    /// Packets for which a processor's backlog had no room.
    pub backlog_full: u64,
    /// Packets that devices have dropped.
    pub by_devices: u64,
}

impl KernelDrops {
    /// As of now; what cannot be read counts as nothing.
    #[must_use]
    pub fn read() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        Self {
            socket_full: of_ipv4(&text("snmp")) + of_ipv6(&text("snmp6")),
            backlog_full: of_backlogs(&text("softnet_stat")),
            by_devices: of_devices(&text("dev")),
        }
    }
}

/// A line of names, then one of numbers.
fn of_ipv4(snmp: &str) -> u64 {
    let mut udp = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (Some(names), Some(numbers)) = (udp.next(), udp.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    let found = pairs.find(|(name, _)| *name == "RcvbufErrors");
    found.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn of_ipv6(snmp6: &str) -> u64 {
    let found = snmp6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors"));
    found.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// A line for each processor; the second number is what was dropped.
fn of_backlogs(softnet: &str) -> u64 {
    let dropped = softnet.lines().filter_map(|line| line.split_whitespace().nth(1));
    dropped.filter_map(|number| u64::from_str_radix(number, 16).ok()).sum()
}

/// A line for each device behind two of titles: received bytes, packets, errors, drops, overruns, and
/// so on.
fn of_devices(dev: &str) -> u64 {
    let devices = dev.lines().filter_map(|line| line.split_once(':')).map(|(_, numbers)| numbers);
    let dropped =
        devices.filter_map(|numbers| numbers.split_whitespace().nth(3)?.parse::<u64>().ok());
    dropped.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_as_the_kernel_writes_them() {
        let snmp = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\n\
                    Udp: 10 1 5 9 4\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert_eq!(of_ipv4(snmp), 4);
        assert_eq!(of_ipv6("Udp6InErrors    \t9\nUdp6RcvbufErrors                \t7\n"), 7);
        assert_eq!(of_backlogs("0000 0000000a 0 0\n0000 00000001 0 0\n"), 11);
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop\n\
                   lo: 1 2 0 0 0\n  eth0: 100 10 0 3 0 0 0 0 9 9 0 0\n";
        assert_eq!(of_devices(dev), 3);
        for torn in ["", "Udp:", "Udp: z\n", ":", "Udp6RcvbufErrors x"] {
            let read = [of_ipv4(torn), of_ipv6(torn), of_backlogs(torn), of_devices(torn)];
            assert_eq!(read, [0; 4], "{torn}");
        }
    }
}
