//! The name server's control API: who may call what, and what then happens.

use std::sync::Arc;

use daemon::control::{
    Answer, Lines, Method, Refusal, Reply, Request, RouteTable, StatusCode, TableError,
    VIEWER_AND_UP,
};
use daemon::telemetry::METRICS_TYPE;
use gslb_api::{Reloaded, Restore, Shorten, Status, Steer, path};
use placement::{Authority, Identity, Role, VmName};

use crate::running::{LoadError, NameServer, OrderError, ReloadError};
use crate::steering::{Order, SteeringError};

/// Who may have files read again.
const CHANGERS: &[Role] = &[Role::Operator, Role::Orchestrator];

/// Who drives moves.
const ORCHESTRATOR: &[Role] = &[Role::Orchestrator];

/// The table.
///
/// # Errors
/// The routes below contradict each other.
pub fn routes(server: &Arc<NameServer>) -> Result<RouteTable, TableError> {
    Lines::of(server)
        .at(Method::GET, path::STATUS, VIEWER_AND_UP, |server, _| async move { status(&server) })
        .at(Method::GET, path::METRICS, VIEWER_AND_UP, |server, _| async move {
            Ok(Reply::text(METRICS_TYPE, server.telemetry().render()))
        })
        .at(Method::POST, path::RELOAD, CHANGERS, |server, request| async move {
            reload(&server, request.caller()).await
        })
        .at(Method::GET, path::NAMES, VIEWER_AND_UP, |server, _| async move {
            Reply::json(&server.names())
        })
        .at(Method::POST, path::VM_SHORTEN, ORCHESTRATOR, |server, request| async move {
            let Shorten { authority } = request.json()?;
            order(&server, &request, authority, Order::Shorten).await
        })
        .at(Method::POST, path::VM_STEER, ORCHESTRATOR, |server, request| async move {
            let Steer { authority, to } = request.json()?;
            order(&server, &request, authority, Order::Steer(to)).await
        })
        .at(Method::POST, path::VM_RESTORE, ORCHESTRATOR, |server, request| async move {
            let Restore { authority } = request.json()?;
            order(&server, &request, authority, Order::Restore).await
        })
        .table()
}

fn status(server: &NameServer) -> Answer {
    let snapshot = server.snapshot();
    let credentials = &snapshot.loaded.credentials;
    Reply::json(&Status {
        identity: credentials.identity().clone(),
        version: crate::VERSION.to_owned(),
        uptime_s: server.telemetry().uptime().as_secs(),
        generation: snapshot.generation,
        certificate_valid_until_s: daemon::unix_s(credentials.valid_until()),
        listen: server.listen().to_vec(),
        serial: server.views().load().serial,
    })
}

async fn order(
    server: &Arc<NameServer>,
    request: &Request,
    authority: Authority,
    order: Order,
) -> Answer {
    let vm: VmName = request.param("vm")?;
    let said = format!("{order:?}");
    let taken = server.order(vm.clone(), authority.clone(), order).await;
    let taken = taken.map_err(|error| refused(&error))?;
    tracing::info!(caller = %request.caller(), %vm, %authority, order = said, serial = taken.serial, "order taken");
    Reply::json(&taken)
}

fn refused(error: &OrderError) -> Refusal {
    let (status, code, remedy) = match error {
        OrderError::Refused(error) => return refused_steering(error),
        OrderError::State(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_kept",
            "see to the state folder, and send the same again",
        ),
        OrderError::Unsettled => {
            (StatusCode::SERVICE_UNAVAILABLE, "unsettled", "send the same again")
        }
        OrderError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending", "try again later"),
    };
    Refusal::caused(status, code, error, remedy)
}

fn refused_steering(error: &SteeringError) -> Refusal {
    let (status, code, remedy) = match error {
        SteeringError::Stale(_)
        | SteeringError::Restored { .. }
        | SteeringError::Contradicts { .. } => {
            (StatusCode::CONFLICT, "stale_epoch", "claim the vm with a later epoch")
        }
        SteeringError::NoAddress { .. } => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_address",
            "give the name's addresses at this site in the configuration, reload, and try again",
        ),
        SteeringError::Full => (
            StatusCode::INSUFFICIENT_STORAGE,
            "too_many_vms",
            "use other name servers for some of them",
        ),
    };
    Refusal::caused(status, code, error, remedy)
}

async fn reload(server: &Arc<NameServer>, caller: &Identity) -> Answer {
    let error = match server.reload().await {
        Ok(generation) => {
            tracing::info!(%caller, generation, "reload taken");
            return Reply::json(&Reloaded { generation });
        }
        Err(error) => error,
    };
    let (status, code) = match &error {
        ReloadError::Load(LoadError::Config(_)) | ReloadError::Telemetry(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "bad_config")
        }
        ReloadError::Load(LoadError::Credentials(_) | LoadError::OtherName { .. }) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "bad_credentials")
        }
        ReloadError::NeedsRestart { .. } => (StatusCode::CONFLICT, "needs_restart"),
        ReloadError::Steering(_) => (StatusCode::CONFLICT, "contradicts_steering"),
        ReloadError::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_kept"),
        ReloadError::Unsettled => {
            let remedy = "ask for names and status: the reload is in force";
            return Err(Refusal::caused(
                StatusCode::SERVICE_UNAVAILABLE,
                "unsettled",
                &error,
                remedy,
            ));
        }
        ReloadError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
    };
    let remedy = "the server runs on as before; mend this and reload again";
    Err(Refusal::caused(status, code, &error, remedy))
}
