//! The operator's API: who may call what, and what then happens.

use std::sync::Arc;
use std::time::Duration;

use daemon::control::{
    Answer, Lines, Method, Refusal, Reply, Request, RouteTable, StatusCode, TableError,
    VIEWER_AND_UP,
};
use daemon::telemetry::{METRICS_TYPE, Telemetry};
use orchestrator_api::operator::{
    AbortMove, AbortPromised, BeginMove, DrainList, FLOWS_LIVE, FOLLOW_MS_MAX, MoveBegun, MoveId,
    MoveList, PlanMove, REPORT_GONE, ReclaimVm, ServiceStatus, StartVm, path,
};
use placement::{Identity, Owner, Role, VmName};
use proxy_api::FlowId;
use saga::AbortRefused;
use tokio::time::timeout;

use super::flows::{Asked, Unkilled};
use super::leftovers::Unreclaimed;
use super::moves::{MoveError, Shared};
use super::places::{self, PlaceError};
use super::reporting::Unreported;
use crate::migration::home::HomeError;
use crate::migration::reclaim::ReclaimError;

/// Who may change something.
const OPERATOR: &[Role] = &[Role::Operator];

/// What the routes serve.
pub(crate) struct Service {
    pub(crate) identity: Identity,
    pub(crate) owner: Owner,
    pub(crate) telemetry: Telemetry,
    pub(crate) moves: Shared,
}

/// The table.
///
/// # Errors
/// The routes below contradict each other.
pub(crate) fn routes(service: &Arc<Service>) -> Result<RouteTable, TableError> {
    Lines::of(service)
        .at(Method::GET, path::STATUS, VIEWER_AND_UP, |service, _| async move { status(&service) })
        .at(Method::GET, path::METRICS, VIEWER_AND_UP, |service, _| async move {
            Ok(Reply::text(METRICS_TYPE, service.telemetry.render()))
        })
        .at(Method::GET, path::VMS, VIEWER_AND_UP, |service, _| async move {
            let moves = &service.moves;
            Reply::json(&places::look(moves).await.told(|vm| moves.table.under_way(vm)))
        })
        .at(Method::POST, path::VM_START, OPERATOR, start)
        .at(Method::POST, path::VM_PLAN, VIEWER_AND_UP, plan)
        .at(Method::GET, path::MOVES, VIEWER_AND_UP, |service, _| async move {
            Reply::json(&MoveList { moves: service.moves.table.views() })
        })
        .at(Method::POST, path::MOVES, OPERATOR, begin)
        .at(Method::GET, path::MOVE, VIEWER_AND_UP, follow)
        .at(Method::POST, path::MOVE_ABORT, OPERATOR, abort)
        .at(Method::GET, path::MOVE_REPORT, VIEWER_AND_UP, report)
        .at(Method::POST, path::VM_RECLAIM, OPERATOR, reclaim)
        .at(Method::GET, path::DRAINS, VIEWER_AND_UP, drains)
        .at(Method::GET, path::FLOWS, VIEWER_AND_UP, flows)
        .at(Method::POST, path::FLOW_KILL, OPERATOR, kill)
        .table()
}

fn status(service: &Service) -> Answer {
    let views = service.moves.table.views();
    Reply::json(&ServiceStatus {
        identity: service.identity.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: service.telemetry.uptime().as_secs(),
        owner: service.owner.clone(),
        moves_under_way: views.iter().filter(|view| !view.state.has_ended()).count(),
    })
}

async fn start(service: Arc<Service>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let wish: StartVm = request.json()?;
    if wish.definition.name != vm {
        let message = format!("the path names VM {vm}, its definition {}", wish.definition.name);
        let remedy = "name the same VM in both";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "other_name", message, remedy));
    }
    // It goes on if the caller goes away: an order that is on its way has to be waited for.
    let started = tokio::spawn(async move {
        let moves = &service.moves;
        places::start(moves, &moves.config, &service.owner, &wish).await
    });
    let started = started.await.map_err(|error| Refusal::internal(&error.to_string()))?;
    let started = started.map_err(|error| misplaced(&error))?;
    tracing::info!(by = %request.caller(), %vm, at = %started.at, "VM started");
    Reply::json(&started)
}

async fn plan(service: Arc<Service>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let wish: PlanMove = request.json()?;
    let moves = &service.moves;
    let to = places::meant(&moves.config, &wish.site, wish.agent.as_ref());
    let to = to.map_err(|error| misplaced(&error))?;
    let plan = moves.plan(&vm, &to, wish.options).await;
    Reply::json(&plan.map_err(|error| refused(&error))?)
}

async fn begin(service: Arc<Service>, request: Request) -> Answer {
    let wish: BeginMove = request.json()?;
    let id = service.moves.begin(request.caller(), &wish).await;
    let id = id.map_err(|error| refused(&error))?;
    tracing::info!(by = %request.caller(), move_id = %id, to = %wish.site, "move ordered");
    Reply::json(&MoveBegun { id })
}

async fn follow(service: Arc<Service>, request: Request) -> Answer {
    let id: MoveId = request.param("move")?;
    let [after] = request.query(["after"])?;
    let entry = service.moves.table.get(&id);
    let entry = entry.ok_or_else(|| refused(&MoveError::Unknown(id)))?;
    if let Some(after) = after {
        let version = after.parse::<u64>()?;
        // What has not changed by then is told as it is.
        let _ = timeout(Duration::from_millis(FOLLOW_MS_MAX), entry.changed_from(version)).await;
    }
    Reply::json(&entry.view())
}

async fn abort(service: Arc<Service>, request: Request) -> Answer {
    let id: MoveId = request.param("move")?;
    let wish: AbortMove = request.json()?;
    let promised = service.moves.abort(request.caller(), &id, &wish).await;
    promised.map_err(|error| refused(&error))?;
    tracing::info!(by = %request.caller(), move_id = %id, "abort promised");
    Reply::json(&AbortPromised { id })
}

async fn report(service: Arc<Service>, request: Request) -> Answer {
    let id: MoveId = request.param("move")?;
    let [made, from] = request.query(["made", "from"])?;
    let later = match made {
        Some(made) => {
            let from = from.map(|from| from.parse::<u64>()).transpose()?;
            Some((made.parse::<u64>()?, from.unwrap_or(0)))
        }
        None => None,
    };
    let part = service.moves.report(&id, later).await;
    Reply::json(&part.map_err(|error| unreported(&error))?)
}

async fn reclaim(service: Arc<Service>, request: Request) -> Answer {
    let vm: VmName = request.param("vm")?;
    let wish: ReclaimVm = request.json()?;
    let by = request.caller().clone();
    // It goes on if the caller goes away: what is half given back is of use to nobody.
    let done = tokio::spawn(async move { service.moves.reclaim(&by, &vm, &wish).await });
    let done = done.await.map_err(|error| Refusal::internal(&error.to_string()))?;
    Reply::json(&done.map_err(|error| unreclaimed(&error))?)
}

async fn drains(service: Arc<Service>, request: Request) -> Answer {
    let [vm] = request.query(["vm"])?;
    let vm = vm.map(|vm| vm.parse::<VmName>()).transpose()?;
    Reply::json(&DrainList { drains: service.moves.drains(vm.as_ref()).await })
}

async fn flows(service: Arc<Service>, request: Request) -> Answer {
    let [vm, site, from] = request.query(["vm", "site", "from"])?;
    let asked = Asked {
        vm: vm.map(|vm| vm.parse()).transpose()?,
        site: site.map(|site| site.parse()).transpose()?,
        from: from.map(|from| from.parse()).transpose()?,
    };
    if let Some(site) = asked.site.as_ref().filter(|site| service.moves.config.site(site).is_none())
    {
        return Err(misplaced(&PlaceError::UnknownSite(site.clone())));
    }
    Reply::json(&service.moves.flows(&asked).await)
}

async fn kill(service: Arc<Service>, request: Request) -> Answer {
    let flow: FlowId = request.param("flow")?;
    let killed = service.moves.kill(flow).await.map_err(|error| unkilled(&error))?;
    tracing::info!(by = %request.caller(), %flow, site = %killed.at.site, "flow killed");
    Reply::json(&killed)
}

fn unkilled(error: &Unkilled) -> Refusal {
    match error {
        Unkilled::Unknown { .. } => {
            worded(StatusCode::NOT_FOUND, "unknown_flow", &error.to_string())
        }
        Unkilled::Several { .. } => worded(StatusCode::CONFLICT, "several", &error.to_string()),
        Unkilled::Call(_) => {
            let remedy = "see `causeway flows` for whether it lives";
            Refusal::caused(StatusCode::BAD_GATEWAY, "not_killed", error, remedy)
        }
    }
}

fn unreclaimed(error: &Unreclaimed) -> Refusal {
    let (status, code, remedy) = match error {
        Unreclaimed::Place(error) => return misplaced(error),
        Unreclaimed::UnderWay { .. } => {
            return worded(StatusCode::CONFLICT, "under_way", &error.to_string());
        }
        Unreclaimed::Busy(_) => return worded(StatusCode::CONFLICT, "busy", &error.to_string()),
        Unreclaimed::Nothing { .. } => {
            return worded(StatusCode::CONFLICT, "nothing_left", &error.to_string());
        }
        Unreclaimed::UnknownRelease { .. } => {
            return worded(StatusCode::NOT_FOUND, "unknown_release", &error.to_string());
        }
        Unreclaimed::Refused { source: ReclaimError::FlowsLive { .. }, .. } => (
            StatusCode::CONFLICT,
            FLOWS_LIVE,
            "wait until they have ended, see `causeway flows`, or break them off with --force",
        ),
        Unreclaimed::Refused {
            source:
                ReclaimError::Unwell { .. }
                | ReclaimError::Unhealthy { .. }
                | ReclaimError::UnderWay { .. },
            ..
        } => (StatusCode::CONFLICT, "not_now", "say the same again then"),
        Unreclaimed::NotHome {
            source: HomeError::Elsewhere { .. } | HomeError::StillComes { .. },
            ..
        } => (
            StatusCode::CONFLICT,
            "not_now",
            "say the same again then, or force it, which breaks off what comes from elsewhere",
        ),
        Unreclaimed::Refused { .. } | Unreclaimed::NotHome { .. } => (
            StatusCode::BAD_GATEWAY,
            "not_reclaimed",
            "see to what is named, and say the same again: what is done is not done twice",
        ),
        Unreclaimed::NotKept(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_kept",
            "see to the service's state folder, and say the same again",
        ),
        Unreclaimed::Ending(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ending", "ask the service that starts next")
        }
    };
    Refusal::caused(status, code, error, remedy)
}

fn unreported(error: &Unreported) -> Refusal {
    let (status, code, remedy) = match error {
        Unreported::Unknown(_) => {
            return worded(StatusCode::NOT_FOUND, "unknown_move", &error.to_string());
        }
        Unreported::Gone(_) => {
            return worded(StatusCode::CONFLICT, REPORT_GONE, &error.to_string());
        }
        Unreported::Journal(_) | Unreported::Kept(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "not_kept", "see to the service's state folder")
        }
        Unreported::Report(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "no_report", "report it, with the service's log")
        }
        Unreported::Ending(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ending", "ask the service that starts next")
        }
    };
    Refusal::caused(status, code, error, remedy)
}

fn refused(error: &MoveError) -> Refusal {
    let (status, code) = match error {
        MoveError::Place(error) => return misplaced(error),
        MoveError::UnderWay { .. } => (StatusCode::CONFLICT, "under_way"),
        MoveError::BeingReclaimed(_) => (StatusCode::CONFLICT, "busy"),
        MoveError::There { .. } => (StatusCode::CONFLICT, "there"),
        MoveError::KeyReused(_) => (StatusCode::CONFLICT, "key_reused"),
        MoveError::Open(_) => {
            let remedy = "see to the service's state folder, and order the move again";
            return Refusal::caused(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", error, remedy);
        }
        MoveError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_move"),
        MoveError::Ended(_) => (StatusCode::CONFLICT, "ended"),
        MoveError::Abort(AbortRefused::PastPivot { .. }) => (StatusCode::CONFLICT, "past_pivot"),
        MoveError::Abort(AbortRefused::NotDriven) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not_driven")
        }
    };
    worded(status, code, &error.to_string())
}

fn misplaced(error: &PlaceError) -> Refusal {
    let (status, code) = match error {
        PlaceError::UnknownSite(_) => (StatusCode::NOT_FOUND, "unknown_site"),
        PlaceError::UnknownAgent { .. } => (StatusCode::NOT_FOUND, "unknown_agent"),
        PlaceError::WhichAgent { .. } => (StatusCode::BAD_REQUEST, "which_agent"),
        PlaceError::UnknownVm(_) => (StatusCode::NOT_FOUND, "unknown_vm"),
        PlaceError::Nowhere { .. } => (StatusCode::CONFLICT, "nowhere"),
        PlaceError::Unasked { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unasked"),
        PlaceError::Exists { .. } => (StatusCode::CONFLICT, "exists"),
        PlaceError::BeingStarted(_) => (StatusCode::CONFLICT, "being_started"),
        PlaceError::Odd { .. } => (StatusCode::BAD_GATEWAY, "odd_answer"),
        PlaceError::NotPlaced { .. } => {
            let remedy = "mend what the agent names, and start it again";
            return Refusal::caused(StatusCode::BAD_GATEWAY, "not_placed", error, remedy);
        }
    };
    worded(status, code, &error.to_string())
}

fn worded(status: StatusCode, code: &'static str, text: &str) -> Refusal {
    Refusal::worded(status, code, text, "see `causeway status`")
}
