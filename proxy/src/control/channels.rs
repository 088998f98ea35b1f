//! Channels: what a move may carry through the tunnel.

use daemon::control::{Answer, Refusal, Reply, Request, StatusCode};
use placement::Role;
use proxy_api::{ChannelGranted, ChannelRevoked, GrantChannel};
use tunnel::driver::ChannelError;
use tunnel::protocol::channel::Grant;

use super::vms;
use crate::epochs::EpochError;
use crate::inter_site::GrantError;
use crate::running::Proxy;

const CLAIM_ANEW: &str = "claim the vm with a later epoch, at both ends";

pub(super) fn grant(proxy: &Proxy, request: &Request) -> Answer {
    let (grant, asked) = asked(request)?;
    let granted = proxy.inter_site().grant(&grant, &asked.authority.owner, asked.compress);
    let entrance = granted.map_err(|error| refused(&error))?;
    tracing::info!(caller = %request.caller(), %grant, "channel granted");
    Reply::json(&ChannelGranted { entrance })
}

pub(super) async fn revoke(proxy: &Proxy, request: &Request) -> Answer {
    let (grant, asked) = asked(request)?;
    if request.caller().role == Role::Agent {
        let admitted = proxy.vms().admit_agent(&grant.vm, &asked.authority, request.caller()).await;
        admitted.map_err(|error| vms::refused(&error))?;
    }
    let revoked = proxy.inter_site().revoke(&grant, &asked.authority.owner);
    let was_granted = revoked.map_err(|error| refused(&error))?;
    tracing::info!(caller = %request.caller(), %grant, was_granted, "channel revoked");
    Reply::json(&ChannelRevoked { was_granted })
}

fn asked(request: &Request) -> Result<(Grant, GrantChannel), Refusal> {
    let (vm, channel) = (request.param("vm")?, request.param("channel")?);
    let asked: GrantChannel = request.json()?;
    let (from, to) = (asked.from.clone(), asked.to.clone());
    Ok((Grant { vm, epoch: asked.authority.epoch, from, to, channel }, asked))
}

fn refused(error: &GrantError) -> Refusal {
    let (status, code, remedy) = match error {
        GrantError::NoTunnel => {
            (StatusCode::CONFLICT, "no_tunnel", "configure [tunnel] and restart the proxy")
        }
        GrantError::Epoch(error) => return refused_epoch(error),
        GrantError::Channel(ChannelError::NoPeer(_)) => {
            (StatusCode::CONFLICT, "no_peer", "name a site of [[tunnel.peer]]")
        }
        GrantError::Channel(ChannelError::Entrance(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "no_entrance", "see to the folder tunnel.entrances")
        }
        GrantError::Channel(ChannelError::Grant(_)) => (
            StatusCode::CONFLICT,
            "not_granted",
            "grant it at its two ends, under a standing claim",
        ),
    };
    Refusal::caused(status, code, error, remedy)
}

pub(super) fn refused_epoch(error: &EpochError) -> Refusal {
    let (status, code, remedy) = match error {
        EpochError::Stale(_) => (StatusCode::CONFLICT, "stale_epoch", CLAIM_ANEW),
        EpochError::Full => {
            (StatusCode::INSUFFICIENT_STORAGE, "too_many_vms", "use another proxy for some of them")
        }
        EpochError::State(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_kept",
            "see to the state folder, and try again",
        ),
        EpochError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending", "try again later"),
    };
    Refusal::caused(status, code, error, remedy)
}
