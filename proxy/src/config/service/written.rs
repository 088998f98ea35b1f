//! `[[service]]` as in the file.

use serde::Deserialize;
use toml::Spanned;

use super::WhenAllDown;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrittenService {
    pub(super) name: Spanned<String>,
    pub(super) protocol: WrittenProtocol,
    pub(super) listen: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) source: Vec<Spanned<String>>,
    pub(super) connect_timeout_ms: Option<Spanned<u64>>,
    pub(super) idle_timeout_ms: Option<Spanned<u64>>,
    pub(super) flows_max: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) when_all_down: WhenAllDown,
    pub(super) health: Option<Spanned<WrittenHealth>>,
    #[serde(default)]
    pub(super) backend: Vec<WrittenBackend>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WrittenProtocol {
    Tcp,
    Udp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHealth {
    pub(super) interval_ms: Option<Spanned<u64>>,
    pub(super) timeout_ms: Option<Spanned<u64>>,
    pub(super) rise: Option<Spanned<u64>>,
    pub(super) fall: Option<Spanned<u64>>,
    pub(super) port: Option<Spanned<u16>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBackend {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<Vec<Spanned<String>>>,
    pub(super) vm: Option<Spanned<String>>,
}
