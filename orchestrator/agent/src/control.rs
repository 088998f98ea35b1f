//! The agent's API: who may call what, and what then happens.

use std::sync::Arc;
use std::time::Duration;

use daemon::control::{
    Answer, Lines, Method, Refusal, Reply, Request, RouteTable, StatusCode, TableError,
    VIEWER_AND_UP,
};
use orchestrator_api::agent::{ANNOUNCED_MAX, PortChanged, PortCommand, PortRequest};
use orchestrator_api::{CopyRequest, HOST_PATH, OrderRequest, VmList, VmView, path};
use placement::{Denied, End, Identity, Order, Record, Role, Seat, VmName, rules};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::copy::CopyError;
use crate::executor::OrderError;
use crate::qemu::HostError;
use crate::survey::survey;
use crate::vm::{PortRefused, Unheard, Vm, VmError, Vms};

/// Who may see one VM; an agent only where the VM's record names it.
const LOOKERS: &[Role] = &[Role::Viewer, Role::Operator, Role::Orchestrator, Role::Agent];
/// Who may give orders; an agent only a refusal, as the rules say.
const ORDERERS: &[Role] = &[Role::Orchestrator, Role::Agent];
/// Who may copy, and change what stands at a port.
const COPIERS: &[Role] = &[Role::Orchestrator];
/// How long a call waits for its command; the command goes on after that, and a repetition gets its
/// answer.
const ORDER_MAX: Duration = Duration::from_secs(90);

/// The table.
///
/// # Errors
/// The routes below contradict each other.
pub(crate) fn routes(vms: &Arc<Vms>) -> Result<RouteTable, TableError> {
    Lines::of(vms)
        .at(Method::GET, HOST_PATH, VIEWER_AND_UP, |vms, _| async move { host(&vms) })
        .at(Method::GET, path::VMS, VIEWER_AND_UP, |vms, _| async move {
            Reply::json(&VmList { vms: vms.all().await })
        })
        .at(Method::GET, path::VM, LOOKERS, show)
        .at(Method::GET, path::WATCH, VIEWER_AND_UP, watched)
        .at(Method::POST, path::PORT, COPIERS, change_port)
        .at(Method::POST, path::ORDERS, ORDERERS, order)
        .at(Method::POST, path::COPY, COPIERS, copy)
        .table()
}

fn host(vms: &Vms) -> Answer {
    let seen = survey(vms.config()).map_err(|error| {
        let remedy = "see to it on the agent's host, and ask again";
        Refusal::caused(StatusCode::INTERNAL_SERVER_ERROR, "not_looked", &error, remedy)
    })?;
    Reply::json(&seen)
}

async fn show(vms: Arc<Vms>, request: Request) -> Answer {
    let name: VmName = request.param("vm")?;
    let caller = request.caller();
    let known = vms.get(&name).await.map(|vm| vm.view());
    let view = known.filter(|view| view.record.epoch != placement::Epoch::NONE);
    if caller.role == Role::Agent && !view.as_ref().is_some_and(|view| is_end(view, caller)) {
        return Err(denied(&Denied::Caller { by: caller.clone() }));
    }
    Reply::json(&view.ok_or_else(|| unknown(&name))?)
}

async fn watched(vms: Arc<Vms>, request: Request) -> Answer {
    let name: VmName = request.param("vm")?;
    let vm = vms.get(&name).await.ok_or_else(|| unknown(&name))?;
    let answer = vm.watched().map_err(|error| unheard(&error))?;
    match timeout(ORDER_MAX, answer).await {
        Ok(Ok(Ok(view))) => Reply::json(&view),
        Ok(Ok(Err(error))) => {
            let remedy = "see to the agent's host, and ask again";
            Err(Refusal::caused(StatusCode::INTERNAL_SERVER_ERROR, "not_seen", &error, remedy))
        }
        Ok(Err(_)) => Err(unheard(&Unheard::Gone)),
        Err(_) => Err(unheard(&Unheard::Busy)),
    }
}

async fn change_port(vms: Arc<Vms>, request: Request) -> Answer {
    let name: VmName = request.param("vm")?;
    let asked: PortRequest = request.json()?;
    if let PortCommand::LiftTakeOver { announced } = &asked.command
        && announced.len() > ANNOUNCED_MAX
    {
        let message = format!("{} machines are more than {ANNOUNCED_MAX}", announced.len());
        let remedy = "name those that the VM has spoken with";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "too_many", message, remedy));
    }
    let vm = vms.get(&name).await.ok_or_else(|| unknown(&name))?;
    let by = request.caller().clone();
    let answer = vm.change_port(by, asked).map_err(|error| unheard(&error))?;
    match timeout(ORDER_MAX, answer).await {
        Ok(Ok(Ok(()))) => Reply::json(&PortChanged {}),
        Ok(Ok(Err(error @ PortRefused::Failed(_)))) => {
            let remedy = "see to the agent's host, and send the same again";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Refusal::caused(status, "effect_failed", &error, remedy))
        }
        Ok(Ok(Err(error))) => Err(worded(StatusCode::CONFLICT, "seat", &error.to_string())),
        Ok(Err(_)) => Err(unheard(&Unheard::Gone)),
        Err(_) => Err(unheard(&Unheard::Busy)),
    }
}

async fn order(vms: Arc<Vms>, request: Request) -> Answer {
    let asked: OrderRequest = request.json()?;
    let name = named(&request, &asked.key.vm)?;
    let by = request.caller().clone();
    let vm = if by.role == Role::Orchestrator {
        vms.get_or_begin(&name).await.map_err(|error| unserved(&error))?
    } else {
        // Nothing is begun for an agent's word: an unknown VM is none of its business.
        match vms.get(&name).await {
            Some(vm) => vm,
            None => return Err(denied(&denied_by_nothing(name, &by, asked))),
        }
    };
    let answer = vm.order(by, asked).map_err(|error| unheard(&error))?;
    Reply::json(&settled(answer).await?)
}

async fn copy(vms: Arc<Vms>, request: Request) -> Answer {
    let asked: CopyRequest = request.json()?;
    let name = named(&request, &asked.key.vm)?;
    let vm: Vm = vms.get(&name).await.ok_or_else(|| unknown(&name))?;
    let answer = vm.copy(request.caller().clone(), asked).map_err(|error| unheard(&error))?;
    Reply::json(&settled(answer).await?)
}

fn named(request: &Request, in_key: &VmName) -> Result<VmName, Refusal> {
    let name: VmName = request.param("vm")?;
    if name == *in_key {
        return Ok(name);
    }
    let message = format!("the path names VM {name}, and the key {in_key}");
    let remedy = "name the same VM in both";
    Err(Refusal::new(StatusCode::BAD_REQUEST, "key_differs", message, remedy))
}

async fn settled<T>(
    answer: oneshot::Receiver<Result<T, OrderError<HostError>>>,
) -> Result<T, Refusal> {
    match timeout(ORDER_MAX, answer).await {
        Ok(Ok(outcome)) => outcome.map_err(|error| refused(&error)),
        Ok(Err(_)) => Err(unheard(&Unheard::Gone)),
        Err(_) => {
            let message = format!("the command is not done after {ORDER_MAX:?}, and goes on");
            let remedy = "send it again with the same key for its answer";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "under_way", message, remedy))
        }
    }
}

/// Whether the record names this agent as an end of any move that it still knows of.
fn is_end(view: &VmView, by: &Identity) -> bool {
    let Record { pair, seat, target, .. } = &view.record;
    let stands_at = |end: &End| end.site == by.site && end.agent == by.name;
    let sat = seat.came_from();
    let to = match seat {
        Seat::Released { to, .. } | Seat::Gone { to, .. } => Some(to),
        Seat::None | Seat::Accepted(_) | Seat::Started { .. } => None,
    };
    let claimed = pair.iter().flat_map(|pair| [&pair.from, &pair.to]);
    let reserved = target.iter().filter_map(|target| target.from.as_ref());
    claimed.chain(sat).chain(to).chain(reserved).any(stands_at)
}

/// What the rules say of a VM without a record.
fn denied_by_nothing(name: VmName, by: &Identity, asked: OrderRequest) -> Denied {
    let caller = Denied::Caller { by: by.clone() };
    let end = End {
        site: by.site.clone(),
        agent: by.name.clone(),
        address: ([0, 0, 0, 0], 0).into(),
        proxy: by.name.clone(),
    };
    let facts = placement::Facts { here: end, processes: Vec::new(), lease_ran_out: false };
    let order = Order { by: by.clone(), command: asked.command };
    rules::decide(&Record::unknown(name), &facts, &order).err().unwrap_or(caller)
}

fn unknown(name: &VmName) -> Refusal {
    let message = format!("this agent has no record of VM {name}");
    let remedy = "see `GET /v1/vms` for those it has, and ask the agent where the VM runs";
    Refusal::new(StatusCode::NOT_FOUND, "unknown_vm", message, remedy)
}

fn unheard(error: &Unheard) -> Refusal {
    let remedy = "send it again, with the same key";
    Refusal::caused(StatusCode::SERVICE_UNAVAILABLE, "busy", error, remedy)
}

fn unserved(error: &VmError) -> Refusal {
    let remedy = "see to it on the agent's host, and send the order again";
    Refusal::caused(StatusCode::INTERNAL_SERVER_ERROR, "not_served", error, remedy)
}

fn refused(error: &OrderError<HostError>) -> Refusal {
    let conflict = |code| Refusal::caused(StatusCode::CONFLICT, code, error, "see the message");
    match error {
        OrderError::Denied(why) => denied(why),
        OrderError::KeyReused => worded(StatusCode::CONFLICT, "key_reused", &error.to_string()),
        OrderError::KeyDiffers => {
            worded(StatusCode::BAD_REQUEST, "key_differs", &error.to_string())
        }
        OrderError::NoDefinition => {
            worded(StatusCode::BAD_REQUEST, "no_definition", &error.to_string())
        }
        OrderError::OtherDefinition => {
            worded(StatusCode::CONFLICT, "other_definition", &error.to_string())
        }
        OrderError::Unfit(source) => {
            worded(StatusCode::UNPROCESSABLE_ENTITY, "unfit", &daemon::with_causes(source))
        }
        OrderError::Effect { source: HostError::Copy(CopyError::Phase { .. }), .. } => {
            conflict("copy_phase")
        }
        OrderError::Effect { source: HostError::Copy(CopyError::SwitchedOver), .. } => {
            conflict("switched_over")
        }
        OrderError::Record(_) | OrderError::Effect { .. } | OrderError::Facts(_) => {
            let remedy = "mend what it names, and send the same order again";
            Refusal::caused(StatusCode::INTERNAL_SERVER_ERROR, "effect_failed", error, remedy)
        }
    }
}

fn denied(why: &Denied) -> Refusal {
    let (status, code) = match why {
        Denied::Caller { .. } => (StatusCode::FORBIDDEN, "caller"),
        Denied::Older { .. } => (StatusCode::CONFLICT, "older"),
        Denied::NotClaimed { .. } => (StatusCode::CONFLICT, "not_claimed"),
        Denied::Owned { .. } => (StatusCode::CONFLICT, "owned"),
        Denied::GivenBack { .. } => (StatusCode::CONFLICT, "given_back"),
        Denied::WrongEnd { .. } => (StatusCode::CONFLICT, "wrong_end"),
        Denied::Ended { .. } => (StatusCode::CONFLICT, "ended"),
        Denied::Seat { .. } => (StatusCode::CONFLICT, "seat"),
        Denied::OtherRelease { .. } => (StatusCode::CONFLICT, "other_release"),
        Denied::Unsure => (StatusCode::CONFLICT, "unsure"),
        Denied::NoProcess => (StatusCode::CONFLICT, "no_process"),
        Denied::NotCompleted { .. } => (StatusCode::CONFLICT, "not_completed"),
        Denied::NotLoaded => (StatusCode::CONFLICT, "not_loaded"),
        Denied::NoEvidence { .. } => (StatusCode::CONFLICT, "no_evidence"),
    };
    worded(status, code, &why.to_string())
}

fn worded(status: StatusCode, code: &'static str, text: &str) -> Refusal {
    Refusal::worded(status, code, text, "see the VM's record")
}
