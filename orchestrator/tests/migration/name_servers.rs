//! Model name servers: epochs by the real rules, one name that follows the VM, and calls to which
//! things happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use gslb_api::{Name, Names, Taken};
use hypervisor::CallTrouble;
use orchestrator::migration::{NameOrder, NameServerPort};
use orchestrator_api::Refusal;
use placement::{Authority, Epoch, SiteName, VmName, Watermark};

use crate::proxies::SITES;

/// The name that follows the VM.
pub(crate) const NAME: &str = "shop.example.net";
/// How long answers live, usually and while the VM moves.
pub(crate) const TTLS_S: [u32; 2] = [300, 5];

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    /// It never arrives.
    Lost,
    /// It is served, and its answer is lost.
    AnswerLost,
    /// It arrives so many calls later.
    Late(usize),
    /// It is served, and so many calls later again.
    Twice(usize),
}

type Decide = Box<dyn FnMut(usize) -> Mishap + Send>;
type Ordered = (VmName, Authority, NameOrder);

#[derive(Default)]
struct Inner {
    marks: BTreeMap<VmName, Watermark>,
    place: Option<SiteName>,
    is_shortened: bool,
    restored: Option<Epoch>,
    taken: Vec<String>,
    /// Calls so far.
    point: usize,
    fate: Option<Decide>,
    late: Vec<(usize, Ordered)>,
}

/// One name server.
#[derive(Clone, Default)]
pub(crate) struct ModelNameServer(Arc<Mutex<Inner>>);

impl ModelNameServer {
    /// What it answers.
    pub(crate) fn answer(&self) -> (String, u32) {
        let inner = self.0.lock().unwrap();
        (inner.site().to_string(), inner.ttl_s())
    }

    /// What it has taken, in words.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.0.lock().unwrap().taken.clone()
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().point
    }

    /// Decides about each call from now on.
    pub(crate) fn fate(&self, decide: impl FnMut(usize) -> Mishap + Send + 'static) {
        self.0.lock().unwrap().fate = Some(Box::new(decide));
    }

    /// All calls are served again, those that are late first.
    pub(crate) fn calm(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.fate = None;
        for (_, (vm, authority, order)) in std::mem::take(&mut inner.late) {
            let _ = inner.take(&vm, &authority, &order);
        }
    }

    /// Somebody else has told it of a later epoch.
    pub(crate) fn heard(&self, vm: &VmName, authority: &Authority) {
        let mut inner = self.0.lock().unwrap();
        let mark = inner.marks.entry(vm.clone()).or_default();
        *mark = mark.raised(authority).unwrap();
    }
}

impl Inner {
    fn site(&self) -> SiteName {
        self.place.clone().unwrap_or_else(|| "a".parse().unwrap())
    }

    fn ttl_s(&self) -> u32 {
        TTLS_S[usize::from(self.is_shortened)]
    }

    /// What becomes of the next call.
    fn next(&mut self) -> (usize, Mishap) {
        let point = self.point;
        self.point += 1;
        let mishap = self.fate.as_mut().map_or(Mishap::None, |fate| fate(point));
        let (due, late) =
            std::mem::take(&mut self.late).into_iter().partition(|late| late.0 <= point);
        self.late = late;
        let due: Vec<(usize, Ordered)> = due;
        for (_, (vm, authority, order)) in due {
            // Nobody waits for the answer any more.
            let _ = self.take(&vm, &authority, &order);
        }
        (point, mishap)
    }

    fn take(
        &mut self,
        vm: &VmName,
        authority: &Authority,
        order: &NameOrder,
    ) -> Result<Taken, CallTrouble> {
        let mark = self.marks.entry(vm.clone()).or_default();
        let raised = mark.raised(authority).map_err(|why| refused(&why.to_string()))?;
        let epoch = authority.epoch;
        match order {
            NameOrder::Shorten if self.restored == Some(epoch) => return Err(refused("restored")),
            NameOrder::Shorten => self.is_shortened = true,
            NameOrder::Steer(to) => self.place = Some(to.clone()),
            NameOrder::Restore => (self.is_shortened, self.restored) = (false, Some(epoch)),
        }
        *mark = raised;
        self.taken.push(match order {
            NameOrder::Shorten => "shorten".to_owned(),
            NameOrder::Steer(to) => format!("steer {to}"),
            NameOrder::Restore => "restore".to_owned(),
        });
        Ok(Taken {
            vm: vm.clone(),
            epoch,
            serial: 1,
            outdated_until_s: Some(1_300),
            names: vec![self.name(vm)],
        })
    }

    fn name(&self, vm: &VmName) -> Name {
        Name {
            name: NAME.to_owned(),
            site: self.site(),
            sites: SITES.map(|site| site.parse().unwrap()).into(),
            vms: vec![vm.clone()],
            elsewhere: Vec::new(),
            ttl_s: self.ttl_s(),
            is_shortened: self.is_shortened,
            serial: 1,
            outdated_until_s: Some(1_300),
        }
    }
}

fn refused(message: &str) -> CallTrouble {
    let refusal = Refusal {
        code: "stale_epoch".to_owned(),
        message: message.to_owned(),
        remedy: "claim the vm with a later epoch".to_owned(),
    };
    CallTrouble::Refused { party: "model name server".to_owned(), refusal }
}

fn unheard() -> CallTrouble {
    let party = "model name server".to_owned();
    CallTrouble::Unheard { party, is_cut: false, source: "silence".into() }
}

impl NameServerPort for ModelNameServer {
    async fn names(&self) -> Result<Names, CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        if !matches!(inner.next().1, Mishap::None | Mishap::Twice(_)) {
            return Err(unheard());
        }
        let vm: VmName = "web".parse().unwrap();
        let known = inner.marks.iter().map(|(vm, mark)| gslb_api::Vm {
            vm: vm.clone(),
            epoch: mark.epoch(),
            place: inner.place.clone(),
            is_shortened: inner.is_shortened,
        });
        Ok(Names { serial: 1, vms: known.collect(), names: vec![inner.name(&vm)] })
    }

    async fn order(
        &self,
        vm: &VmName,
        authority: &Authority,
        order: &NameOrder,
    ) -> Result<Taken, CallTrouble> {
        let mut inner = self.0.lock().unwrap();
        let (point, mishap) = inner.next();
        let again = (vm.clone(), authority.clone(), order.clone());
        match mishap {
            Mishap::None => inner.take(vm, authority, order),
            Mishap::Lost => Err(unheard()),
            Mishap::AnswerLost => inner.take(vm, authority, order).and_then(|_| Err(unheard())),
            Mishap::Late(calls) => {
                inner.late.push((point + calls, again));
                Err(unheard())
            }
            Mishap::Twice(calls) => {
                inner.late.push((point + calls, again));
                inner.take(vm, authority, order)
            }
        }
    }
}
