//! An agent's configuration: its folders, what VMs boot, and what they are connected to.

use std::net::SocketAddr;

use placement::{PartName, Role, SiteName};
use serde::Serialize;

use super::{Control, Papers, State, TextError, basics};
use crate::init::description::{Description, HypervisorHost, Image, Site};

#[derive(Serialize)]
struct Text<'d> {
    site: &'d SiteName,
    name: &'d PartName,
    control: Control,
    identity: Papers,
    state: State,
    qemu: Qemu<'d>,
    folders: Folders<'d>,
    #[serde(skip_serializing_if = "is_empty")]
    image: &'d [Image],
    network: Vec<Network<'d>>,
}

#[derive(Serialize)]
struct Qemu<'d> {
    user: &'d str,
    accelerator: &'d str,
}

#[derive(Serialize)]
struct Folders<'d> {
    disks: &'d str,
    sockets: &'d str,
}

#[derive(Serialize)]
struct Network<'d> {
    name: &'d PartName,
    bridge: &'d str,
    proxy: &'d PartName,
    proxy_address: SocketAddr,
}

pub(super) fn text(
    description: &Description,
    site: &Site,
    host: &HypervisorHost,
) -> Result<String, TextError> {
    let (control, identity, state) = basics(host.address, &site.identity(Role::Agent, &host.name));
    let proxy = site.proxy(&host.proxy).expect("a host names a proxy of its site");
    let network = Network {
        name: &proxy.network,
        bridge: &host.bridge,
        proxy: &proxy.name,
        proxy_address: proxy.control,
    };
    toml::to_string(&Text {
        site: &site.name,
        name: &host.name,
        control,
        identity,
        state,
        qemu: Qemu { user: &host.user, accelerator: &host.accelerator },
        folders: Folders { disks: &host.disks, sockets: &proxy.sockets },
        image: &description.images,
        network: vec![network],
    })
}

fn is_empty(images: &&[Image]) -> bool {
    images.is_empty()
}
