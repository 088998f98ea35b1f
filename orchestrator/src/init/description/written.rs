//! The description as in the file. [`super`] says what each part means.

use orchestrator_api::VmDefinition;
use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;
pub(super) type Texts = Spanned<Vec<Text>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) serve: WrittenServe,
    pub(super) site: Spanned<Vec<WrittenSite>>,
    #[serde(default)]
    pub(super) image: Vec<WrittenImage>,
    #[serde(default)]
    pub(super) vm: Vec<WrittenVm>,
    #[serde(default)]
    pub(super) service: Vec<WrittenService>,
    #[serde(default)]
    pub(super) zone: Vec<WrittenZone>,
    #[serde(default)]
    pub(super) steered: Vec<WrittenSteered>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenServe {
    pub(super) site: Text,
    pub(super) name: Text,
    pub(super) address: Text,
    pub(super) operators: Texts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSite {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) proxy: Vec<WrittenProxy>,
    #[serde(default)]
    pub(super) host: Vec<WrittenHost>,
    #[serde(default)]
    pub(super) name_server: Vec<WrittenNameServer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenProxy {
    pub(super) name: Text,
    pub(super) control: Text,
    pub(super) tunnel: Option<Text>,
    pub(super) tunnel_listen: Option<Text>,
    pub(super) network: Text,
    pub(super) leg: Text,
    #[serde(default)]
    pub(super) gateway: Vec<Text>,
    pub(super) sockets: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHost {
    pub(super) name: Text,
    pub(super) address: Text,
    pub(super) bridge: Text,
    pub(super) proxy: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) accelerator: Option<Text>,
    pub(super) disks: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNameServer {
    pub(super) name: Text,
    pub(super) control: Text,
    pub(super) host: Text,
    pub(super) dns: Texts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenImage {
    pub(super) name: Text,
    pub(super) kernel: Text,
    pub(super) initramfs: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenVm {
    pub(super) site: Text,
    pub(super) definition: Spanned<VmDefinition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenService {
    pub(super) name: Text,
    pub(super) protocol: Text,
    #[serde(default)]
    pub(super) vms: Vec<Text>,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) health_port: Option<Spanned<u16>>,
    pub(super) idle_timeout_ms: Option<Spanned<u64>>,
    pub(super) at: Spanned<Vec<WrittenServiceAt>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenServiceAt {
    pub(super) site: Text,
    pub(super) proxy: Option<Text>,
    pub(super) listen: Texts,
    #[serde(default)]
    pub(super) backend: Vec<WrittenBackend>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBackend {
    pub(super) name: Text,
    pub(super) address: Texts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenZone {
    pub(super) name: Text,
    pub(super) contact: Text,
    pub(super) ttl_s: Option<u32>,
    pub(super) negative_ttl_s: Option<u32>,
    #[serde(default)]
    pub(super) record: Vec<WrittenRecord>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRecord {
    pub(super) name: Text,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: Vec<String>,
    pub(super) ttl_s: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSteered {
    pub(super) name: Text,
    pub(super) services: Texts,
    pub(super) ttl_s: Option<u32>,
    pub(super) ttl_moving_s: Option<u32>,
}
