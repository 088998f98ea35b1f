//! The VM's port on this host, from its start to the reclaim of what it left. The rules themselves
//! are `network`'s, and the proxy's queue is the proxy's; here is what is done when.
//!
//! ```text
//! a VM starts      watch
//! a target waits   watch, take over, turn round: before its first frame
//! hold             the proxy diverts, turn round, the proxy stands in, the tap runs empty
//! stop             what is left in the tap goes to the proxy, before all that it kept back
//! start            the bridge knows the VM at the new tap; the proxy releases
//! run (called off) the proxy releases, then the port is as it was
//! forget           what is for the VM is turned round by no process, once QEMU is gone
//! reclaim          nothing of it is left
//! ```
//!
//! What stands is on the disk before it stands in the kernel ([`standing`]), so that a restarted
//! agent goes on from there.

mod cards;
mod error;
mod leftovers;
mod standing;
mod watch;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use daemon::state::{StateError, StateFile};
use network::port::{Announced, announce};
use network::{Mac, NetworkError, TapQueue};
use orchestrator_api::VmDefinition;
use orchestrator_api::agent::WatchView;
use placement::{Authority, PartName, VmName};
use proxy_api::{AtPort, GrantChannel};

use crate::config::Config;
use crate::own_proxy::ProxyError;
use cards::{Card, distinct};
use leftovers::Leaving;

pub(crate) use cards::{Proxies, tag};
pub use error::PortError;
pub(crate) use standing::{STANDING_VERSION, Standing};

/// How long a hold waits for the VM to read what had come before it. A guest that does not is
/// stopped with it, and what is left is shipped.
pub const QUEUE_EMPTY_MAX: Duration = Duration::from_millis(10);

/// The taps of a VM's process, by card, and the process itself.
pub(crate) trait Taps {
    /// Their names.
    fn names(&self) -> io::Result<Vec<String>>;
    /// What waits in one.
    fn queue(&self, tap: &str) -> Result<TapQueue, NetworkError>;
}

/// What a tap is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// A VM that runs from here on.
    Running,
    /// A target, for which others stand in until it is started.
    Target,
}

/// All ports of one VM here: one for each card.
pub(crate) struct VmPort {
    vm: VmName,
    config: Arc<Config>,
    proxies: Arc<Proxies>,
    file: Arc<Mutex<StateFile<Standing>>>,
    standing: Standing,
    leaving: Option<Leaving>,
    /// What turned round may stand there still, unused.
    is_untidy: bool,
}

impl VmPort {
    /// The VM's port as it stands.
    pub(crate) fn open(
        vm: VmName,
        config: Arc<Config>,
        proxies: Arc<Proxies>,
        file: StateFile<Standing>,
    ) -> Result<VmPort, StateError> {
        let standing = file.load()?.unwrap_or_default();
        let file = Arc::new(Mutex::new(file));
        Ok(VmPort { vm, config, proxies, file, standing, leaving: None, is_untidy: true })
    }

    /// Sees that what is to stand without a process does: the host may have been started anew.
    pub(crate) async fn reconcile(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        if self.standing.is_away { self.turn_round_alone(definition).await } else { Ok(()) }
    }

    /// Whether packets are kept back.
    pub(crate) fn is_holding(&self) -> bool {
        self.standing.holding.is_some()
    }

    /// Before a process is started on these taps.
    pub(crate) async fn begin(
        &mut self,
        definition: &VmDefinition,
        taps: &[String],
        what_for: For,
    ) -> Result<(), PortError> {
        let cards = self.cards(definition)?;
        let legs = match what_for {
            For::Running => vec![None; cards.len()],
            For::Target => legs(&cards).await?,
        };
        let holding = self.standing.holding;
        for (index, leg) in legs.into_iter().enumerate() {
            let at = self.standing.at(index);
            at.take_over = leg;
            // A VM that died in a hold boots into it.
            at.turn_round = leg.or(holding.and(at.turn_round));
        }
        self.standing.is_away &= what_for == For::Target;
        self.standing.watched_since_s = Some(now_s());
        self.save().await?;
        self.set(&cards, taps).await
    }

    /// Keeps what is for the VM back from here on: in the proxy's queue, in the order in which it
    /// comes. When this returns, nothing is on its way to the VM any more but what is in its tap.
    pub(crate) async fn hold(
        &mut self,
        definition: &VmDefinition,
        process: &impl Taps,
        claim: &Authority,
    ) -> Result<(), PortError> {
        let cards = self.cards(definition)?;
        if let Some(card) = cards.iter().find(|card| card.proxy.is_none()) {
            return Err(PortError::NoProxy(card.network.clone()));
        }
        let taps = process.names().map_err(PortError::Taps)?;
        let before = self.standing.clone();
        self.standing.hold(claim.epoch, legs(&cards).await?);
        self.leaving = None;
        // The disk is asked before anything is held, not while it is; so is the pair made.
        self.save().await?;
        for port in cards.iter().map(|card| card.port.clone()) {
            blocking(move || port.make_turn()).await??;
        }

        let at = AtPort { authority: claim.clone() };
        for (number, proxy) in distinct(&cards).into_iter().enumerate() {
            let diverted = proxy.divert(&self.vm, &at).await;
            if number == 0 && diverted.as_ref().is_err_and(ProxyError::is_refused) {
                // Nothing is kept back, so that a stop may follow without a hold.
                self.standing = before;
                self.save().await?;
                return Err(diverted.map(drop).expect_err("it was refused").into());
            }
            diverted?;
        }
        self.set(&cards, &taps).await?;
        for proxy in distinct(&cards) {
            proxy.stand_in(&self.vm, &at).await?;
        }
        for tap in &taps {
            let queue = process.queue(tap)?;
            if !blocking(move || queue.wait_until_empty(QUEUE_EMPTY_MAX)).await?? {
                tracing::info!(vm = %self.vm, tap, "the VM has not read all before its stop");
            }
        }
        Ok(())
    }

    /// Ships what is left in the taps of a VM that stands still, where a hold stands.
    pub(crate) async fn ship_leftovers(
        &mut self,
        definition: &VmDefinition,
        process: &impl Taps,
        claim: &Authority,
    ) -> Result<(), PortError> {
        if self.standing.holding != Some(claim.epoch) {
            return Ok(());
        }
        let cards = self.cards(definition)?;
        let taps = process.names().map_err(PortError::Taps)?;
        let leaving = self.leaving.get_or_insert_with(|| Leaving::under(claim.clone()));
        for ((index, card), tap) in cards.iter().enumerate().zip(&taps) {
            let leg = self.standing.cards.get(index).and_then(|at| at.turn_round);
            leaving.read(card, process.queue(tap)?, leg).await?;
        }
        leaving.ship(&self.vm).await
    }

    /// Has the bridges know the VM at these taps.
    pub(crate) async fn pin(
        &mut self,
        definition: &VmDefinition,
        taps: &[String],
    ) -> Result<(), PortError> {
        let cards = self.cards(definition)?;
        for (card, tap) in cards.into_iter().zip(taps.to_vec()) {
            blocking(move || card.port.pin_to(&tap)).await??;
        }
        Ok(())
    }

    /// The VM runs here: what was kept back for it follows. Where a hold stood here, it was called
    /// off, and the port is as it was before. The rule goes last, and also where the proxy is gone:
    /// the VM's neighbours need it no less. The proxy is told when this is asked again.
    pub(crate) async fn release(
        &mut self,
        definition: &VmDefinition,
        taps: &[String],
        claim: &Authority,
    ) -> Result<(), PortError> {
        let cards = self.cards(definition)?;
        let is_turned_round = self.standing.cards.iter().any(|at| at.turn_round.is_some());
        if self.standing.holding.is_none() && !is_turned_round {
            return Ok(());
        }
        let released = self.have_released(&cards, &AtPort { authority: claim.clone() }).await;
        self.leaving = None;
        if self.standing.holding.is_some() {
            let held = self.standing.cards.clone();
            self.standing.call_off();
            if let Err(error) = self.set(&cards, taps).await {
                self.standing.cards = held;
                return Err(error);
            }
            self.is_untidy = true;
        }
        released?;
        self.standing.holding = None;
        self.standing.is_away = false;
        self.save().await
    }

    async fn have_released(&self, cards: &[Card], at: &AtPort) -> Result<(), PortError> {
        for proxy in distinct(cards) {
            let released = proxy.release(&self.vm, at).await?;
            tracing::info!(vm = %self.vm, packets = released.packets, "released");
        }
        Ok(())
    }

    /// The VM is where it came from: what is for it needs no turning round any more, and the bridge
    /// learns where it is as it learns of others.
    pub(crate) async fn come_home(
        &mut self,
        definition: &VmDefinition,
        taps: &[String],
    ) -> Result<(), PortError> {
        let cards = self.cards(definition)?;
        self.standing.cards.iter_mut().for_each(|at| at.turn_round = None);
        self.set(&cards, taps).await?;
        for (card, tap) in cards.into_iter().zip(taps.to_vec()) {
            blocking(move || card.port.unpin(&tap)).await??;
        }
        self.is_untidy = true;
        self.save().await
    }

    /// Nobody elsewhere is spoken with any more: the VM is told where everybody is, and what it sends
    /// goes there by itself again.
    pub(crate) async fn lift_take_over(
        &mut self,
        definition: &VmDefinition,
        taps: &[String],
        those: &[Announced],
    ) -> Result<(), PortError> {
        // What turns round what is for the VM would turn round what it is told, too.
        if self.standing.cards.iter().any(|at| at.turn_round.is_some()) {
            self.come_home(definition, taps).await?;
        }
        let cards = self.cards(definition)?;
        for (card, tap) in cards.iter().zip(taps) {
            let (guest, tap, those) = (card.guest.clone(), tap.clone(), those.to_vec());
            blocking(move || announce(&tap, &guest, &those)).await??;
        }
        self.standing.cards.iter_mut().for_each(|at| at.take_over = None);
        self.set(&cards, taps).await?;
        self.save().await
    }

    /// Takes away what nothing is turned round by any more. Not at once when a rule goes: what is just
    /// on its way there would be lost.
    pub(crate) async fn tidy(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        if !std::mem::take(&mut self.is_untidy) {
            return Ok(());
        }
        for (index, card) in self.cards(definition)?.into_iter().enumerate() {
            if self.standing.wanted(index).turn_round.is_none() {
                blocking(move || card.port.remove_turn()).await??;
            }
        }
        Ok(())
    }

    /// Before QEMU ends for a VM that is elsewhere: its neighbours go on to be served.
    pub(crate) async fn outlive(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        self.standing.holding = None;
        self.standing.is_away = self.standing.cards.iter().any(|at| at.turn_round.is_some());
        self.standing.cards.iter_mut().for_each(|at| at.take_over = None);
        self.leaving = None;
        self.save().await?;
        if self.standing.is_away { self.turn_round_alone(definition).await } else { Ok(()) }
    }

    /// After a process has ended that was the VM's only one here: what stands without one stays.
    pub(crate) async fn ended(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        if !self.standing.is_away {
            return self.reclaim(definition).await;
        }
        self.standing.cards.iter_mut().for_each(|at| at.take_over = None);
        self.save().await?;
        self.turn_round_alone(definition).await
    }

    /// Takes all of it away.
    pub(crate) async fn reclaim(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        for card in self.cards(definition)? {
            blocking(move || card.port.clear()).await??;
        }
        self.standing = Standing::default();
        self.leaving = None;
        self.save().await
    }

    /// With whom the VM has spoken here.
    pub(crate) async fn watched(&self, definition: &VmDefinition) -> Result<WatchView, PortError> {
        watch::view(&self.cards(definition)?, &self.standing, now_s()).await
    }

    /// Closes a channel of a move at this end, whoever else has it open.
    pub(crate) async fn close_channel(
        &self,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<(), PortError> {
        let Some(proxy) = self.proxies.first(&self.config) else { return Ok(()) };
        match proxy.close_channel(&self.vm, channel, grant).await {
            Ok(_) => Ok(()),
            // A later claim has closed it.
            Err(error) if error.is_refusal("stale_epoch") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn cards(&self, definition: &VmDefinition) -> Result<Vec<Card>, PortError> {
        Card::all(&self.vm, definition, &self.config, &self.proxies)
    }

    /// By the pair alone, with no tap.
    async fn turn_round_alone(&mut self, definition: &VmDefinition) -> Result<(), PortError> {
        for (index, card) in self.cards(definition)?.into_iter().enumerate() {
            let wanted = self.standing.wanted(index);
            let turned = move || {
                card.port.set(None, wanted)?;
                if wanted.turn_round.is_some() { card.port.pin_to_turn() } else { Ok(()) }
            };
            blocking(turned).await??;
        }
        Ok(())
    }

    async fn set(&self, cards: &[Card], taps: &[String]) -> Result<(), PortError> {
        for (index, (card, tap)) in cards.iter().zip(taps).enumerate() {
            let (port, tap, wanted) = (card.port.clone(), tap.clone(), self.standing.wanted(index));
            blocking(move || port.set(Some(&tap), wanted)).await??;
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), PortError> {
        let (file, standing) = (Arc::clone(&self.file), self.standing.clone());
        let save = move || file.lock().unwrap_or_else(PoisonError::into_inner).save(&standing);
        Ok(blocking(save).await??)
    }
}

async fn legs(cards: &[Card]) -> Result<Vec<Option<Mac>>, PortError> {
    let mut legs = Vec::new();
    for card in cards {
        legs.push(card.leg().await?);
    }
    Ok(legs)
}

/// The kernel, nft and the disk are waited for beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PortError> {
    tokio::task::spawn_blocking(work).await.map_err(PortError::Ending)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
