//! The proxy's control API: who may call what, and what then happens.

mod channels;
mod vms;

use std::sync::Arc;

use daemon::control::{
    Answer, Lines, Method, Refusal, Reply, Request, RouteTable, StatusCode, TableError,
    VIEWER_AND_UP,
};
use daemon::telemetry::METRICS_TYPE;
use placement::{Identity, PartName, Role};
use proxy_api::{FLOWS_PER_PAGE_MAX, FlowId, FlowQuery, Killed, Reloaded, Status, path};

use crate::running::{LoadError, Proxy, ReloadError};

/// Who may change something.
const CHANGERS: &[Role] = &[Role::Operator, Role::Orchestrator];

/// Who may look, and the agents, which send frames to the leg.
const VIEWERS_AND_AGENTS: &[Role] =
    &[Role::Viewer, Role::Operator, Role::Orchestrator, Role::Agent];

/// Who drives moves.
const ORCHESTRATOR: &[Role] = &[Role::Orchestrator];

/// The agent that the claim names, which the handler sees to.
const AGENT: &[Role] = &[Role::Agent];

/// Who drives moves, and the agent that the claim names.
const ORCHESTRATOR_AND_AGENT: &[Role] = &[Role::Orchestrator, Role::Agent];

/// The table.
///
/// # Errors
/// The routes below contradict each other.
pub fn routes(proxy: &Arc<Proxy>) -> Result<RouteTable, TableError> {
    of_ports(of_moves(of_traffic(Lines::of(proxy)))).table()
}

/// What there is, and whom it serves.
fn of_traffic(lines: Lines<Proxy>) -> Lines<Proxy> {
    lines
        .at(Method::GET, path::STATUS, VIEWER_AND_UP, |proxy, _| async move { status(&proxy) })
        .at(Method::GET, path::METRICS, VIEWER_AND_UP, |proxy, _| async move {
            proxy.inter_site().measure();
            Ok(Reply::text(METRICS_TYPE, proxy.telemetry().render()))
        })
        .at(Method::POST, path::RELOAD, CHANGERS, |proxy, request| async move {
            reload(&proxy, request.caller()).await
        })
        .at(Method::GET, path::SERVICES, VIEWER_AND_UP, |proxy, _| async move {
            Reply::json(&proxy.traffic().services())
        })
        .at(Method::POST, path::SERVICE_DRAIN, CHANGERS, |proxy, request| async move {
            drain_service(&proxy, &request, true)
        })
        .at(Method::POST, path::SERVICE_RESUME, CHANGERS, |proxy, request| async move {
            drain_service(&proxy, &request, false)
        })
        .at(Method::POST, path::BACKEND_DRAIN, CHANGERS, |proxy, request| async move {
            drain_backend(&proxy, &request, true)
        })
        .at(Method::POST, path::BACKEND_RESUME, CHANGERS, |proxy, request| async move {
            drain_backend(&proxy, &request, false)
        })
        .at(Method::GET, path::FLOWS, VIEWER_AND_UP, |proxy, request| async move {
            flows(&proxy, &request).await
        })
        .at(Method::GET, path::FLOW, VIEWER_AND_UP, |proxy, request| async move {
            flow(&proxy, &request).await
        })
        .at(Method::POST, path::FLOW_KILL, CHANGERS, |proxy, request| async move {
            kill(&proxy, &request).await
        })
}

/// VMs that move, and the tunnel.
fn of_moves(lines: Lines<Proxy>) -> Lines<Proxy> {
    lines
        .at(Method::POST, path::VM_CLAIM, ORCHESTRATOR, |proxy, request| async move {
            vms::claim(proxy, request).await
        })
        .at(Method::POST, path::VM_GIVE_BACK, ORCHESTRATOR, |proxy, request| async move {
            vms::give_back(proxy, request).await
        })
        .at(Method::POST, path::VM_STAGE, ORCHESTRATOR, |proxy, request| async move {
            vms::stage(proxy, request).await
        })
        .at(Method::POST, path::VM_UNSTAGE, ORCHESTRATOR, |proxy, request| async move {
            vms::unstage(proxy, request).await
        })
        .at(Method::POST, path::VM_REDIRECT, ORCHESTRATOR, |proxy, request| async move {
            vms::redirect(proxy, request).await
        })
        .at(Method::POST, path::VM_RECLAIM, ORCHESTRATOR, |proxy, request| async move {
            vms::reclaim(proxy, request).await
        })
        .at(Method::POST, path::VM_HOME, ORCHESTRATOR, |proxy, request| async move {
            vms::home(proxy, request).await
        })
        .at(Method::GET, path::VM_ELSEWHERE, VIEWER_AND_UP, |proxy, request| async move {
            vms::elsewhere(&proxy, &request).await
        })
        .at(Method::GET, path::VMS, VIEWER_AND_UP, |proxy, _| async move {
            Reply::json(&proxy.vms().told().await)
        })
        .at(Method::GET, path::VM, VIEWER_AND_UP, |proxy, request| async move {
            vms::told(&proxy, &request).await
        })
        .at(Method::GET, path::VM_CUTOVER, VIEWER_AND_UP, |proxy, request| async move {
            vms::cutover(&proxy, &request).await
        })
        .at(Method::POST, path::CHANNEL_GRANT, ORCHESTRATOR, |proxy, request| async move {
            channels::grant(&proxy, &request)
        })
        .at(
            Method::POST,
            path::CHANNEL_REVOKE,
            ORCHESTRATOR_AND_AGENT,
            |proxy, request| async move { channels::revoke(&proxy, &request).await },
        )
        .at(Method::GET, path::NETWORKS, VIEWERS_AND_AGENTS, |proxy, _| async move {
            Reply::json(&proxy.vms().networks())
        })
        .at(Method::GET, path::TUNNEL, VIEWER_AND_UP, |proxy, _| async move {
            Reply::json(&proxy.inter_site().told())
        })
}

/// What only the agent at a VM's port may say.
fn of_ports(lines: Lines<Proxy>) -> Lines<Proxy> {
    lines
        .at(Method::POST, path::VM_DIVERT, AGENT, |proxy, request| async move {
            vms::divert(proxy, request).await
        })
        .at(Method::POST, path::VM_STAND_IN, AGENT, |proxy, request| async move {
            vms::stand_in(proxy, request).await
        })
        .at(Method::POST, path::VM_LEFTOVERS, AGENT, |proxy, request| async move {
            vms::leftovers(proxy, request).await
        })
        .at(Method::POST, path::VM_RELEASE, AGENT, |proxy, request| async move {
            vms::release(proxy, request).await
        })
}

fn status(proxy: &Proxy) -> Answer {
    let snapshot = proxy.snapshot();
    let credentials = &snapshot.loaded.credentials;
    Reply::json(&Status {
        identity: credentials.identity().clone(),
        version: crate::VERSION.to_owned(),
        uptime_s: proxy.telemetry().uptime().as_secs(),
        generation: snapshot.generation,
        certificate_valid_until_s: daemon::unix_s(credentials.valid_until()),
    })
}

async fn reload(proxy: &Proxy, caller: &Identity) -> Answer {
    match proxy.reload().await {
        Ok(generation) => {
            tracing::info!(%caller, generation, "reload taken");
            Reply::json(&Reloaded { generation })
        }
        Err(error) => {
            let (status, code) = match &error {
                ReloadError::Load(LoadError::Config(_)) | ReloadError::Telemetry(_) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "bad_config")
                }
                ReloadError::Load(LoadError::Credentials(_) | LoadError::OtherName { .. }) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "bad_credentials")
                }
                ReloadError::Listen(_) => (StatusCode::CONFLICT, "address_unavailable"),
                ReloadError::NeedsRestart { .. } => (StatusCode::CONFLICT, "needs_restart"),
                ReloadError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
            };
            let remedy = "the proxy runs on as before; mend this and reload again";
            Err(Refusal::caused(status, code, &error, remedy))
        }
    }
}

fn drain_service(proxy: &Proxy, request: &Request, draining: bool) -> Answer {
    let service: PartName = request.param("service")?;
    let drained = proxy.traffic().drain_service(&service, draining);
    let drained = drained.ok_or_else(|| unknown_service(&service))?;
    tracing::info!(caller = %request.caller(), %service, draining, "service's drain changed");
    Reply::json(&drained)
}

fn drain_backend(proxy: &Proxy, request: &Request, draining: bool) -> Answer {
    let service: PartName = request.param("service")?;
    let backend: PartName = request.param("backend")?;
    let drained = proxy.traffic().drain_backend(&service, &backend, draining);
    let drained = drained.ok_or_else(|| {
        let message = format!("service '{service}' has no backend '{backend}', or does not exist");
        Refusal::new(StatusCode::NOT_FOUND, "unknown_backend", message, SEE_SERVICES)
    })?;
    let caller = request.caller();
    tracing::info!(%caller, %service, %backend, draining, "backend's drain changed");
    Reply::json(&drained)
}

async fn flows(proxy: &Proxy, request: &Request) -> Answer {
    let [service, state, after, limit] = request.query(["service", "state", "after", "limit"])?;
    let query = FlowQuery {
        service: service.map(|service| service.parse()).transpose()?,
        state: state.map(|state| state.parse()).transpose()?.unwrap_or_default(),
        after: after.map(|after| after.parse()).transpose()?,
        limit: limit.map(|limit| limit.parse()).transpose()?,
    };
    if query.limit.is_some_and(|limit| !(1..=FLOWS_PER_PAGE_MAX).contains(&limit)) {
        let message = format!("'limit' in the query is not in 1 to {FLOWS_PER_PAGE_MAX}");
        let remedy = "ask for fewer, and for the rest with 'after'";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_query", message, remedy));
    }
    Reply::json(&proxy.traffic().flows(&query).await)
}

async fn flow(proxy: &Proxy, request: &Request) -> Answer {
    let id: FlowId = request.param("flow")?;
    match proxy.traffic().flow(id).await {
        Some(flow) => Reply::json(&flow),
        None => Err(unknown_flow(id)),
    }
}

async fn kill(proxy: &Proxy, request: &Request) -> Answer {
    let id: FlowId = request.param("flow")?;
    if !proxy.traffic().kill(id).await {
        return Err(unknown_flow(id));
    }
    tracing::info!(caller = %request.caller(), flow = %id, "flow killed");
    Reply::json(&Killed { id })
}

const SEE_SERVICES: &str = "see `GET /v1/services` for those there are";

fn unknown_service(service: &PartName) -> Refusal {
    let message = format!("there is no service '{service}'");
    Refusal::new(StatusCode::NOT_FOUND, "unknown_service", message, SEE_SERVICES)
}

fn unknown_flow(id: FlowId) -> Refusal {
    let message = format!("flow {id} does not live here, nor is it remembered");
    let remedy = "see `GET /v1/flows` for those that live";
    Refusal::new(StatusCode::NOT_FOUND, "unknown_flow", message, remedy)
}
