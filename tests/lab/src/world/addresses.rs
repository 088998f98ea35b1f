//! The plan of addresses: the same for every run, so that a capture can be read without a map.
//!
//! i is the number of a site, k of a VIP or neighbour, j of a VM, c of a client, all from 1. In
//! IPv6, numbers are written with the same digits as in IPv4.
//!
//! | what | IPv4 | IPv6 | MAC |
//! |---|---|---|---|
//! | application subnet, the same at every site | 10.10.0.0/16 | fd10:10::/64 | |
//! | its gateway, `Gateway::Same` | 10.10.0.1 | fd10:10::1, fe80::1 | 02:10:10:00:00:01 |
//! | its gateway, `Gateway::Own` | 10.10.0.i | fd10:10::i, fe80::i | 02:10:10:00:00:i |
//! | leg of proxy i on it | 10.10.1.i | fd10:10::1:i | 02:10:10:00:01:i |
//! | VM j on it | 10.10.2.j | fd10:10::2:j | 02:10:10:00:02:j |
//! | neighbour k of site i on it | 10.10.(20+i).k | fd10:10::(20+i):k | 02:10:10:00:(20+i):k |
//! | host subnet of site i: router | 10.(100+i).0.1/24 | fd10:(100+i)::1/64 | |
//! | - proxy host | 10.(100+i).0.2 | fd10:(100+i)::2 | |
//! | - hypervisor host | 10.(100+i).0.3 | fd10:(100+i)::3 | |
//! | VIP k of site i | 198.18.i.k | 2001:db8:i::k | |
//! | client c | 192.0.2.c | 2001:db8:ffff::c | |
//! | link of client c to site i: router, client | 10.(150+c).i.1, .2 (/24) | fd10:(150+c):i::1, ::2 (/64) | |
//! | router i on the WAN | 10.254.0.i | fd10:254::i | |
//! | router i towards management | 10.253.1.i | fd10:253::1:i | |
//! | management's desk | 10.253.0.1 | fd10:253::1 | |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::plan::Gateway;

/// An address of each family for one and the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dual {
    /// By IPv4.
    pub v4: Ipv4Addr,
    /// By IPv6.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// Both, IPv4 first.
    pub fn each(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A subnet of each family for one and the same purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DualSubnet {
    /// The address with no host part.
    pub base: Dual,
    /// Prefix length in IPv4.
    pub v4_bits: u8,
    /// Prefix length in IPv6.
    pub v6_bits: u8,
}

impl DualSubnet {
    /// Both in prefix notation, IPv4 first.
    pub fn each(self) -> [String; 2] {
        [format!("{}/{}", self.base.v4, self.v4_bits), format!("{}/{}", self.base.v6, self.v6_bits)]
    }

    pub(super) const fn only(address: Dual) -> Self {
        Self { base: address, v4_bits: 32, v6_bits: 128 }
    }
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A machine's part of the application subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its addresses.
    pub ip: Dual,
    /// Its MAC.
    pub mac: Mac,
}

/// Prefix lengths of the application subnet.
pub const APPLICATION_BITS: (u8, u8) = (16, 64);
/// Prefix lengths of all others.
pub(super) const LINK_BITS: (u8, u8) = (24, 64);

/// The application subnet.
pub fn application() -> DualSubnet {
    DualSubnet {
        base: on_application(0, 0),
        v4_bits: APPLICATION_BITS.0,
        v6_bits: APPLICATION_BITS.1,
    }
}

/// A site's gateway on the application subnet.
pub fn gateway(kind: Gateway, site: u8) -> Station {
    let number = match kind {
        Gateway::Same => 1,
        Gateway::Own => site,
    };
    station(0, number)
}

/// The gateway's link-local address.
pub fn gateway_link_local(kind: Gateway, site: u8) -> Ipv6Addr {
    let number = match kind {
        Gateway::Same => 1,
        Gateway::Own => site,
    };
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, as_written(number))
}

/// A proxy's leg on the application subnet.
pub fn leg(site: u8) -> Station {
    station(1, site)
}

/// A VM on the application subnet, wherever it runs.
pub fn vm(number: u8) -> Station {
    station(2, number)
}

/// A VM's neighbour on the application subnet.
pub fn neighbour(site: u8, number: u8) -> Station {
    station(20 + site, number)
}

/// The subnet of a site's hosts.
pub fn hosts(site: u8) -> DualSubnet {
    subnet(in_hosts(site, 0))
}

/// A site's router on the subnet of hosts.
pub fn router(site: u8) -> Dual {
    in_hosts(site, 1)
}

/// A site's proxy host on the subnet of hosts; also the tunnel's end.
pub fn proxy(site: u8) -> Dual {
    in_hosts(site, 2)
}

/// A site's hypervisor host on the subnet of hosts.
pub fn hypervisor(site: u8) -> Dual {
    in_hosts(site, 3)
}

/// One of the addresses at which clients reach a site's services.
pub fn vip(site: u8, number: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(198, 18, site, number),
        v6: Ipv6Addr::new(0x2001, 0xdb8, as_written(site), 0, 0, 0, 0, as_written(number)),
    }
}

/// All VIPs of a site.
pub fn vips(site: u8) -> DualSubnet {
    subnet(vip(site, 0))
}

/// A client machine, the same towards every site.
pub fn client(number: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(192, 0, 2, number),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, as_written(number)),
    }
}

/// The link of a client to a site: the router's end and the client's.
pub(super) fn client_link(client: u8, site: u8) -> (Dual, Dual) {
    let end = |host| Dual {
        v4: Ipv4Addr::new(10, 150 + client, site, host),
        v6: Ipv6Addr::new(
            0xfd10,
            as_written(150 + client),
            as_written(site),
            0,
            0,
            0,
            0,
            as_written(host),
        ),
    };
    (end(1), end(2))
}

/// A site's router on the WAN.
pub fn wan_end(site: u8) -> Dual {
    around(254, 0, site)
}

/// A site's router towards management.
pub(super) fn management_end(site: u8) -> Dual {
    around(253, 1, site)
}

/// Where management works from.
pub fn desk() -> Dual {
    around(253, 0, 1)
}

fn station(group: u8, number: u8) -> Station {
    Station {
        ip: on_application(group, number),
        mac: Mac([0x02, 0x10, 0x10, 0x00, digits(group), digits(number)]),
    }
}

fn on_application(group: u8, number: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(10, 10, group, number),
        v6: Ipv6Addr::new(0xfd10, 0x10, 0, 0, 0, 0, as_written(group), as_written(number)),
    }
}

fn in_hosts(site: u8, host: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(10, 100 + site, 0, host),
        v6: Ipv6Addr::new(0xfd10, as_written(100 + site), 0, 0, 0, 0, 0, as_written(host)),
    }
}

fn around(group: u8, part: u8, number: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(10, group, part, number),
        v6: Ipv6Addr::new(
            0xfd10,
            as_written(group),
            0,
            0,
            0,
            0,
            as_written(part),
            as_written(number),
        ),
    }
}

fn subnet(base: Dual) -> DualSubnet {
    DualSubnet { base, v4_bits: LINK_BITS.0, v6_bits: LINK_BITS.1 }
}

/// 21 becomes 0x21, so that the group reads "21".
fn as_written(number: u8) -> u16 {
    let number = u16::from(number);
    ((number / 100) << 8) | ((number / 10 % 10) << 4) | (number % 10)
}

/// As [`as_written`], for a byte; numbers from 100 on have no two digits and stay as they are.
fn digits(number: u8) -> u8 {
    u8::try_from(as_written(number)).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_written_with_the_same_digits() {
        assert_eq!(neighbour(1, 3).ip.v4.to_string(), "10.10.21.3");
        assert_eq!(neighbour(1, 3).ip.v6.to_string(), "fd10:10::21:3");
        assert_eq!(neighbour(1, 3).mac.to_string(), "02:10:10:00:21:03");
        assert_eq!(proxy(2).v6.to_string(), "fd10:102::2");
        assert_eq!(client_link(50, 15).1.v6.to_string(), "fd10:200:15::2");
        assert_eq!(hosts(2).each(), ["10.102.0.0/24", "fd10:102::/64"]);
        assert_eq!(application().each(), ["10.10.0.0/16", "fd10:10::/64"]);
    }

    #[test]
    fn the_same_gateway_is_the_same_at_every_site_and_legs_never_are() {
        assert_eq!(gateway(Gateway::Same, 1), gateway(Gateway::Same, 2));
        assert_ne!(gateway(Gateway::Own, 1), gateway(Gateway::Own, 2));
        assert_ne!(leg(1), leg(2));
        assert_ne!(gateway_link_local(Gateway::Own, 1), gateway_link_local(Gateway::Own, 2));
    }
}
