//! VMs that move: what an orchestrator tells this proxy of them, and what it says.

use std::sync::Arc;

use daemon::control::{Answer, Refusal, Reply, Request, StatusCode};
use placement::{Epoch, VmName};
use proxy_api::{
    AtPort, Claim, Claimed, Home, Leftovers, OfMove, Reclaim, Reclaimed, Redirect, Stage,
    VM_PEERS_MAX,
};

use super::channels::refused_epoch;
use crate::running::Proxy;
use crate::vms::VmError;
use crate::vms::record::NotNow;

pub(super) async fn claim(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let Claim { authority, pair } = request.json()?;
    let (of, by) = (vm.clone(), authority.clone());
    let mark = whole(async move { proxy.vms().claim(&of, &by, &pair).await }).await?;
    tracing::info!(caller = %request.caller(), %vm, %authority, "claimed");
    Reply::json(&Claimed { epoch: mark.epoch(), ended: mark.ended() })
}

pub(super) async fn give_back(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let OfMove { authority } = request.json()?;
    let (of, by) = (vm.clone(), authority.clone());
    let mark = whole(async move { proxy.vms().give_back(&of, &by).await }).await?;
    tracing::info!(caller = %request.caller(), %vm, %authority, "given back");
    Reply::json(&Claimed { epoch: mark.epoch(), ended: mark.ended() })
}

pub(super) async fn stage(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let stage: Stage = request.json()?;
    let (authority, to) = (stage.authority.clone(), stage.to.site.clone());
    let of = vm.clone();
    let told = whole(async move { proxy.vms().stage(&of, stage).await }).await?;
    tracing::info!(caller = %request.caller(), %vm, %authority, %to, "staged");
    Reply::json(&told)
}

pub(super) async fn unstage(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let OfMove { authority } = request.json()?;
    let (of, by) = (vm.clone(), authority.clone());
    let told = whole(async move { proxy.vms().unstage(&of, &by).await }).await?;
    tracing::info!(caller = %request.caller(), %vm, %authority, "unstaged");
    Reply::json(&told)
}

pub(super) async fn redirect(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let redirect: Redirect = request.json()?;
    let (authority, to) = (redirect.authority.clone(), redirect.placement.site.clone());
    let of = vm.clone();
    let told = whole(async move { proxy.redirect(&of, &redirect).await }).await?;
    tracing::info!(caller = %request.caller(), %vm, %authority, %to, "redirected");
    Reply::json(&told)
}

pub(super) async fn divert(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let (AtPort { authority }, caller) = (request.json()?, request.caller().clone());
    let diverted = whole(async move { proxy.divert(&vm, &authority, &caller).await });
    Reply::json(&diverted.await?)
}

pub(super) async fn stand_in(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let (AtPort { authority }, caller) = (request.json()?, request.caller().clone());
    let stands = whole(async move { proxy.vms().stand_in(&vm, &authority, &caller).await });
    Reply::json(&stands.await?)
}

pub(super) async fn leftovers(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let caller = request.caller().clone();
    let leftovers = Leftovers::decode(request.body()).map_err(|error| {
        let remedy = "send the parts as this version has them";
        Refusal::caused(StatusCode::BAD_REQUEST, "bad_leftovers", &error, remedy)
    })?;
    let taken = whole(async move { proxy.vms().leftovers(&vm, leftovers, &caller).await });
    Reply::json(&taken.await?)
}

pub(super) async fn release(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let (AtPort { authority }, caller) = (request.json()?, request.caller().clone());
    let (of, by) = (vm.clone(), authority.clone());
    let released = whole(async move { proxy.vms().release(&of, &by, &caller).await }).await?;
    let packets = released.packets;
    tracing::info!(caller = %request.caller(), %vm, %authority, packets, "released");
    Reply::json(&released)
}

pub(super) async fn reclaim(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let Reclaim { release, force } = request.json()?;
    let of = vm.clone();
    let broken_off = whole(async move { proxy.reclaim(&of, release, force).await }).await?;
    let count = broken_off.len();
    tracing::info!(caller = %request.caller(), %vm, %release, broken_off = count, "reclaimed");
    Reply::json(&Reclaimed { broken_off })
}

pub(super) async fn home(proxy: Arc<Proxy>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let home: Home = request.json()?;
    if home.peers.len() > VM_PEERS_MAX {
        let message = format!("{} peers are more than {VM_PEERS_MAX}", home.peers.len());
        let remedy = "name those that it spoke with last";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "too_many", message, remedy));
    }
    let (of, epoch) = (vm.clone(), home.epoch);
    let at_home = whole(async move { proxy.vms().home(&of, &home).await }).await?;
    let neighbours = at_home.neighbours.len();
    tracing::info!(caller = %request.caller(), %vm, %epoch, neighbours, "at home");
    Reply::json(&at_home)
}

pub(super) async fn elsewhere(proxy: &Proxy, request: &Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    match proxy.vms().elsewhere(&vm).await {
        Some(places) => Reply::json(&places),
        None => Err(unknown(&vm)),
    }
}

pub(super) async fn told(proxy: &Proxy, request: &Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    match proxy.vms().told_of(&vm).await {
        Some(told) => Reply::json(&told),
        None => Err(unknown(&vm)),
    }
}

fn unknown(vm: &VmName) -> Refusal {
    let message = format!("nothing is known of vm '{vm}' here");
    let remedy = "see `GET /v1/vms` for those that are known";
    Refusal::new(StatusCode::NOT_FOUND, "unknown_vm", message, remedy)
}

pub(super) async fn cutover(proxy: &Proxy, request: &Request) -> Answer {
    let (vm, epoch): (VmName, u64) = (request.param("vm")?, request.param("epoch")?);
    let epoch = Epoch::new(epoch);
    let [after] = request.query(["after"])?;
    let after = after.map(|after| after.parse()).transpose()?;
    match proxy.traffic().noted(&vm, epoch, after).await {
        Some(page) => Reply::json(&page),
        None => {
            let message = format!("of move {epoch} of vm '{vm}', no flow was noted here");
            let remedy = "ask after its hold and before its reclaim, at a proxy that served it";
            Err(Refusal::new(StatusCode::NOT_FOUND, "not_noted", message, remedy))
        }
    }
}

/// Carries a change out whole, whether or not its caller waits for the end of it.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, VmError>> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::spawn(change).await.map_err(VmError::Ending);
    done.and_then(|changed| changed).map_err(|error| refused(&error))
}

pub(super) fn refused(error: &VmError) -> Refusal {
    let (status, code, remedy) = match error {
        VmError::Epoch(error) => return refused_epoch(error),
        VmError::NotNow(error) => return refused_now(error),
        VmError::NotTheAgent { .. } => (
            StatusCode::FORBIDDEN,
            "not_the_agent",
            "call with the agent that the standing claim names at this proxy's site",
        ),
        VmError::NoPacketPath { .. } => (
            StatusCode::CONFLICT,
            "no_packet_path",
            "see to the tunnel between the two proxies; a move without a hold breaks connections",
        ),
        VmError::NoLeg => {
            (StatusCode::CONFLICT, "no_leg", "configure [[network]] and restart the proxy")
        }
        VmError::FlowsLive { .. } => (
            StatusCode::CONFLICT,
            "flows_live",
            "wait until they have ended, or force it, which breaks them off",
        ),
        VmError::StillComes { .. } => (
            StatusCode::CONFLICT,
            "still_comes",
            "give back every place that it left, or force it, which breaks off what comes",
        ),
        VmError::Network(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "kernel",
            "see to it on the proxy's host, and say the same again",
        ),
        VmError::State(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_kept",
            "see to the state folder, and try again",
        ),
        VmError::Ending(_) => (StatusCode::SERVICE_UNAVAILABLE, "ending", "try again later"),
    };
    Refusal::caused(status, code, error, remedy)
}

fn refused_now(error: &NotNow) -> Refusal {
    let (status, code) = match error {
        NotNow::NotAnEnd { .. } => (StatusCode::CONFLICT, "not_an_end"),
        NotNow::SameProxy => (StatusCode::UNPROCESSABLE_ENTITY, "same_proxy"),
        NotNow::NoNetwork(_) => (StatusCode::CONFLICT, "no_network"),
        NotNow::Unfit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unfit_stage"),
        NotNow::NotStaged(_) => (StatusCode::CONFLICT, "not_staged"),
        NotNow::UnderWay { .. } => (StatusCode::CONFLICT, "under_way"),
        NotNow::OtherEnd(_) => (StatusCode::CONFLICT, "other_end"),
        NotNow::NotDiverted => (StatusCode::CONFLICT, "not_diverted"),
        NotNow::NotHere(_) => (StatusCode::CONFLICT, "not_here"),
        NotNow::Later { .. } => (StatusCode::CONFLICT, "later_move"),
    };
    Refusal::caused(
        status,
        code,
        error,
        "keep to the order of a move; `GET /v1/vms` says how far it is",
    )
}
