//! What the parts of a configuration have in common: names, numbers, lists; and `[dns]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use daemon::config::{Problems, Told};
use hickory_proto::rr::{LowerName, Name};
use serde::Deserialize;
use toml::Spanned;

use super::{DnsConfig, LISTED_MAX};

/// How long an answer may be configured to live: a week.
pub(super) const TTL_S: RangeInclusive<u32> = 0..=604_800;

const TCP_CONNECTIONS_MAX_DEFAULT: u32 = 512;
const TCP_CONNECTIONS_MAX: RangeInclusive<u32> = 1..=65_536;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDns {
    listen: Spanned<Vec<Spanned<String>>>,
    tcp_connections_max: Option<Spanned<u32>>,
}

pub(super) fn check_dns(
    written: &WrittenDns,
    problems: &mut Problems<'_>,
) -> Result<DnsConfig, Told> {
    let mut listen: Vec<SocketAddr> = Vec::new();
    let mut told = counted("dns.listen", &written.listen, problems).err();
    for address in written.listen.get_ref() {
        match place(address, &listen) {
            Ok(address) => listen.push(address),
            Err(message) => told = Some(problems.at(address.span(), "dns.listen", message)),
        }
    }
    let bound = written.tcp_connections_max.as_ref();
    let bound = bounded("dns.tcp_connections_max", bound, &TCP_CONNECTIONS_MAX, problems);
    if let Some(told) = told {
        return Err(told);
    }
    let tcp_connections_max = bound?.unwrap_or(TCP_CONNECTIONS_MAX_DEFAULT) as usize;
    Ok(DnsConfig { listen, tcp_connections_max })
}

/// Where to listen: one host's address, so that an answer comes from the address that was asked.
fn place(written: &Spanned<String>, earlier: &[SocketAddr]) -> Result<SocketAddr, &'static str> {
    let Ok(address) = written.get_ref().parse::<SocketAddr>() else {
        return Err("is no address with a port; write 192.0.2.10:53 or [2001:db8::10]:53");
    };
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err("is no address of one host; write each address, or answers could come from \
                    another one than was asked");
    }
    if address.port() != 0 && earlier.contains(&address) {
        return Err("is there twice; write it once");
    }
    Ok(address)
}

/// A list with something in it, and not too much.
pub(super) fn counted<T>(
    field: &str,
    list: &Spanned<Vec<T>>,
    problems: &mut Problems<'_>,
) -> Result<(), Told> {
    let count = list.get_ref().len();
    if (1..=LISTED_MAX).contains(&count) {
        return Ok(());
    }
    let message = format!("has {count} entries; write 1 to {LISTED_MAX}");
    Err(problems.at(list.span(), field, message))
}

/// A number that is not written, or one within bounds.
pub(super) fn bounded(
    field: &str,
    written: Option<&Spanned<u32>>,
    allowed: &RangeInclusive<u32>,
    problems: &mut Problems<'_>,
) -> Result<Option<u32>, Told> {
    let Some(written) = written else { return Ok(None) };
    let value = *written.get_ref();
    if allowed.contains(&value) {
        return Ok(Some(value));
    }
    let message = format!("is {value}; write {} to {}", allowed.start(), allowed.end());
    Err(problems.at(written.span(), field, message))
}

/// A whole name of the DNS.
pub(super) fn domain(
    field: &str,
    written: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Result<Name, Told> {
    whole(written.get_ref()).ok_or_else(|| {
        let message = "is no name; write a whole one, as in 'shop.example.net'";
        problems.at(written.span(), field, message)
    })
}

/// The text as a name from the root on, in small letters.
pub(super) fn whole(text: &str) -> Option<Name> {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_sound) {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?.to_lowercase();
    name.set_fqdn(true);
    Some(name)
}

/// The name as operators write it: without the dot that stands for the root.
pub(crate) fn plain(name: &LowerName) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => text,
    }
}
