//! One task for each VM: it takes one command at a time, from check to effect, and shows what it
//! knows in between.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::state::{StateError, StateFolder};
use orchestrator_api::agent::{PortRequest, WatchView};
use orchestrator_api::{CopyRequest, OrderKey, OrderRequest, Progress, VmView};
use placement::rules;
use placement::{Answer, Authority, Command, End, Identity, Order, Release, Seat, VmName};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::config::Config;
use crate::executor::{Executor, Host, Kept, OrderError, RECORD_VERSION};
use crate::port::{PortError, Proxies, STANDING_VERSION, VmPort};
use crate::qemu::{HostError, QemuHost};

/// Commands of one VM that wait for their turn.
const INBOX_MAX: usize = 16;
/// VMs of one agent, those it only remembers included.
const VMS_MAX: usize = 512;
/// Between two looks at a VM's processes while nobody asks anything of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Commands about the copy that are known again.
const COPY_KEYS_MAX: usize = 64;
/// How a record's file ends.
const RECORD_SUFFIX: &str = ".vm";
/// How the file of what stands at a VM's ports ends.
const PORT_SUFFIX: &str = ".port";

/// What comes of an order.
pub(crate) type OrderOutcome = Result<Answer, OrderError<HostError>>;
/// What comes of a command about the copy.
pub(crate) type CopyOutcome = Result<Progress, OrderError<HostError>>;

/// What comes of a change of the port.
pub(crate) type PortOutcome = Result<(), PortRefused>;

/// Why a port stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortRefused {
    /// The VM does not run here by that move.
    #[error(
        "the VM does not run here by release {0}; ask the agent where it runs, and name the release that it came by"
    )]
    OtherSeat(Release),
    /// A hold stands.
    #[error("a hold stands at the VM's port; end the move under way first")]
    Holding,
    /// The change failed.
    #[error("the port cannot be changed")]
    Failed(#[from] HostError),
}

enum Message {
    Order(Identity, Box<OrderRequest>, oneshot::Sender<OrderOutcome>),
    Copy(Identity, CopyRequest, oneshot::Sender<CopyOutcome>),
    Watched(oneshot::Sender<Result<WatchView, PortError>>),
    Port(Identity, PortRequest, oneshot::Sender<PortOutcome>),
}

/// A VM's task, to those who ask.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<VmView>,
}

/// The command cannot be taken now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    /// Too many wait already.
    #[error("{INBOX_MAX} commands of this VM wait already")]
    Busy,
    /// The task has ended: a defect, or the agent's own end.
    #[error("the agent does not serve this VM any more")]
    Gone,
}

impl Vm {
    /// What is known of it now.
    pub(crate) fn view(&self) -> VmView {
        self.view.borrow().clone()
    }

    /// Queues an order. It is carried out whether or not anybody waits for the answer.
    pub(crate) fn order(
        &self,
        by: Identity,
        asked: OrderRequest,
    ) -> Result<oneshot::Receiver<OrderOutcome>, Unheard> {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Order(by, Box::new(asked), sender)).map(|()| answer)
    }

    /// Queues a command about the copy.
    pub(crate) fn copy(
        &self,
        by: Identity,
        asked: CopyRequest,
    ) -> Result<oneshot::Receiver<CopyOutcome>, Unheard> {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Copy(by, asked, sender)).map(|()| answer)
    }

    /// Queues a change of its port.
    pub(crate) fn change_port(
        &self,
        by: Identity,
        asked: PortRequest,
    ) -> Result<oneshot::Receiver<PortOutcome>, Unheard> {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Port(by, asked, sender)).map(|()| answer)
    }

    /// Asks with whom it has spoken.
    pub(crate) fn watched(
        &self,
    ) -> Result<oneshot::Receiver<Result<WatchView, PortError>>, Unheard> {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Watched(sender)).map(|()| answer)
    }

    fn send(&self, message: Message) -> Result<(), Unheard> {
        self.inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unheard::Busy,
            mpsc::error::TrySendError::Closed(_) => Unheard::Gone,
        })
    }
}

/// Every VM of this agent.
pub(crate) struct Vms {
    config: Arc<Config>,
    here: End,
    proxies: Arc<Proxies>,
    state: StateFolder,
    tasks: Mutex<BTreeMap<VmName, Vm>>,
}

/// Why a VM is not served.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Its record.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its processes.
    #[error("the VM's processes cannot be told")]
    Host(#[from] HostError),
    /// The folder of records.
    #[error("{}: cannot be listed; check who owns the folder", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Too many.
    #[error("the agent has records of {VMS_MAX} VMs and takes no more")]
    TooMany,
}

impl Vms {
    /// Serves every VM that there is a record of.
    pub(crate) async fn open(
        config: Arc<Config>,
        here: End,
        proxies: Arc<Proxies>,
        state: StateFolder,
    ) -> Result<Vms, VmError> {
        let path = &config.basics.state_folder;
        let names =
            recorded(path).map_err(|source| VmError::List { path: path.clone(), source })?;
        let vms = Vms { config, here, proxies, state, tasks: Mutex::new(BTreeMap::new()) };
        for name in names {
            vms.get_or_begin(&name).await?;
        }
        Ok(vms)
    }

    /// What the agent was told to be.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Who serves this VM, if there is anything to serve.
    pub(crate) async fn get(&self, name: &VmName) -> Option<Vm> {
        self.tasks.lock().await.get(name).cloned()
    }

    /// The same, from now on if not yet. Nothing is remembered of a VM before an order is granted.
    pub(crate) async fn get_or_begin(&self, name: &VmName) -> Result<Vm, VmError> {
        let mut tasks = self.tasks.lock().await;
        if let Some(vm) = tasks.get(name) {
            return Ok(vm.clone());
        }
        if tasks.len() >= VMS_MAX {
            return Err(VmError::TooMany);
        }
        let file = self.state.file::<Kept>(&format!("{name}{RECORD_SUFFIX}"), RECORD_VERSION);
        let kept = file.load()?.unwrap_or_else(|| Kept::unknown(name.clone()));
        let (config, here) = (Arc::clone(&self.config), self.here.clone());
        let port = self.state.file(&format!("{name}{PORT_SUFFIX}"), STANDING_VERSION);
        let proxies = Arc::clone(&self.proxies);
        let port = VmPort::open(name.clone(), Arc::clone(&config), proxies, port)?;
        let host = QemuHost::adopt(config, here, &kept, port).await?;
        let vm = begin(Executor::new(file, kept, host)).await;
        tasks.insert(name.clone(), vm.clone());
        Ok(vm)
    }

    /// Every VM that is known, by name.
    pub(crate) async fn all(&self) -> Vec<VmView> {
        let views = self.tasks.lock().await.values().map(Vm::view).collect::<Vec<_>>();
        views.into_iter().filter(|view| view.record.epoch != placement::Epoch::NONE).collect()
    }
}

/// The VMs that the folder has records of.
fn recorded(folder: &std::path::Path) -> io::Result<Vec<VmName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(RECORD_SUFFIX));
        names.extend(name.and_then(|name| name.parse().ok()));
    }
    Ok(names)
}

async fn begin(mut executor: Executor<QemuHost>) -> Vm {
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    if let Err(error) = executor.finish_what_is_owed().await {
        let (vm, why) = (&executor.kept().record.vm, daemon::with_causes(&error));
        tracing::error!(%vm, why, "what an accepted start still owes failed; it is tried again when asked");
    }
    let (shown, view) = watch::channel(look(&mut executor).await);
    tokio::spawn(serve(executor, messages, shown));
    Vm { inbox, view }
}

async fn serve(
    mut executor: Executor<QemuHost>,
    mut messages: mpsc::Receiver<Message>,
    shown: watch::Sender<VmView>,
) {
    let mut copy_keys = VecDeque::new();
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                None => return,
                Some(Message::Order(by, asked, answer)) => {
                    let outcome = executor.order(by.clone(), &asked).await;
                    tell(&by, &asked.key, &outcome);
                    shown.send_replace(look(&mut executor).await);
                    // It was carried out, whoever has given up waiting.
                    let _ = answer.send(outcome);
                }
                Some(Message::Copy(by, asked, answer)) => {
                    let outcome = act_on_copy(&mut executor, &by, &asked, &mut copy_keys).await;
                    tell(&by, &asked.key, &outcome);
                    shown.send_replace(look(&mut executor).await);
                    let _ = answer.send(outcome);
                }
                Some(Message::Port(by, asked, answer)) => {
                    let outcome = change_port(&mut executor, &asked).await;
                    let (vm, why) = (&executor.kept().record.vm, outcome.as_ref().err());
                    let why = why.map(|error| daemon::with_causes(error));
                    tracing::info!(%by, %vm, command = ?asked.command, why, "port changed, or not");
                    let _ = answer.send(outcome);
                }
                Some(Message::Watched(answer)) => {
                    let (host, kept) = executor.parts();
                    let _ = answer.send(host.watched(kept).await);
                }
            },
            () = sleep(LOOK_INTERVAL) => {
                let (host, kept) = executor.parts();
                host.tidy(kept).await;
                shown.send_replace(look(&mut executor).await);
            }
        }
    }
}

fn tell<T>(by: &Identity, key: &OrderKey, outcome: &Result<T, OrderError<HostError>>) {
    let OrderKey { vm, epoch, step, attempt, .. } = key;
    match outcome {
        Ok(_) => tracing::info!(%by, %vm, %epoch, %step, attempt, "order carried out"),
        Err(error) => {
            let why = daemon::with_causes(error);
            tracing::info!(%by, %vm, %epoch, %step, attempt, why, "order not carried out");
        }
    }
}

async fn look(executor: &mut Executor<QemuHost>) -> VmView {
    let (host, kept) = executor.parts();
    let processes = host.view(kept).await;
    VmView {
        record: kept.record.clone(),
        definition: kept.definition.clone(),
        processes,
        progress: host.progress(),
    }
}

async fn change_port(executor: &mut Executor<QemuHost>, asked: &PortRequest) -> PortOutcome {
    let (host, kept) = executor.parts();
    let by = match &kept.record.seat {
        Seat::Started { incarnation, .. } => Some(&incarnation.made_by),
        _ => None,
    };
    if by != Some(&asked.release) {
        return Err(PortRefused::OtherSeat(asked.release.clone()));
    }
    if host.is_holding() {
        return Err(PortRefused::Holding);
    }
    Ok(host.change_port(&asked.command, kept).await?)
}

async fn act_on_copy(
    executor: &mut Executor<QemuHost>,
    by: &Identity,
    asked: &CopyRequest,
    known: &mut VecDeque<CopyRequest>,
) -> CopyOutcome {
    let (host, kept) = executor.parts();
    if let Some(earlier) = known.iter().find(|earlier| earlier.key == asked.key) {
        if earlier.command != asked.command {
            return Err(OrderError::KeyReused);
        }
        if let Some(progress) = host.progress() {
            return Ok(progress);
        }
    }
    let owner = asked.key.owner.clone().ok_or(OrderError::KeyDiffers)?;
    let authority = Authority { epoch: asked.key.epoch, owner };
    let facts = host.facts(kept).await.map_err(OrderError::Facts)?;
    // A copy stands on the very ground that a hold does: the standing claim, here at its source, in
    // a move that has not ended.
    let order = Order { by: by.clone(), command: Command::Hold { authority } };
    rules::decide(&kept.record, &facts, &order)?;
    let progress = host.copy(asked.command, kept).await;
    let progress = progress.map_err(|source| OrderError::Effect { effect: "the copy", source })?;
    if known.len() == COPY_KEYS_MAX {
        known.pop_front();
    }
    known.push_back(asked.clone());
    Ok(progress)
}
