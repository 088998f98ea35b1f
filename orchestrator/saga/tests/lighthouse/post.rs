//! Letters to the parties, and what becomes of them. Everything here is decided by a [`Fate`]: a
//! list of mishaps, each at one point of the run, where a point is an append to the journal or a
//! letter. So a run can be had again, exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use saga::journal::Pending;
use saga::journal::memory::Fault;
use saga::{AbortRefused, Control, Trouble};

use crate::world::{Letter, Order, Party, Reply, World};

/// How a workflow reaches the world.
pub(crate) trait Post: Send + Sync {
    fn send<'a>(&'a self, to: Party, letter: Letter) -> Pending<'a, Result<Reply, Trouble>>;
}

/// What happens at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The runner is killed before the append, or before the letter is sent.
    KilledBefore,
    /// The runner is killed after the append, or after the letter has had its effect.
    KilledAfter,
    /// The runner is killed with the letter under way: it arrives so many points later.
    KilledWithLetter(u8),
    /// The append fails, or the letter is lost.
    Lost,
    /// The append is made or the letter has its effect, but the answer is lost.
    AnswerLost,
    /// The letter arrives so many points later; its sender has given up waiting.
    Late(u8),
    /// The letter arrives now, and again so many points later.
    Twice(u8),
    /// Somebody asks to abort.
    Abort,
    /// The runner is held up here until it is polled again.
    Paused,
}

type Asked = Pin<Box<dyn Future<Output = Result<(), AbortRefused>> + Send>>;

/// What will happen, and what has.
#[derive(Default)]
pub(crate) struct Fate {
    pub(crate) point: usize,
    pub(crate) mishaps: BTreeMap<usize, Mishap>,
    pub(crate) control: Option<Control>,
    pub(crate) asked: Option<Asked>,
    pub(crate) late: Vec<(usize, Party, Letter)>,
    /// Each letter that undoes something is lost so many times.
    pub(crate) undo_losses: u32,
    pub(crate) lost: BTreeMap<(Party, Order), u32>,
    pub(crate) story: Vec<String>,
}

impl Fate {
    pub(crate) fn of(mishaps: impl IntoIterator<Item = (usize, Mishap)>) -> Self {
        Self { mishaps: mishaps.into_iter().collect(), ..Self::default() }
    }

    fn next(&mut self, what: impl fmt::Debug) -> Option<Mishap> {
        let mishap = self.mishaps.get(&self.point).copied();
        self.story.push(format!("{}: {what:?} {mishap:?}", self.point));
        self.point += 1;
        if mishap == Some(Mishap::Abort) {
            self.ask();
        }
        mishap
    }

    fn ask(&mut self) {
        let Some(control) = self.control.clone().filter(|_| self.asked.is_none()) else { return };
        self.asked = Some(Box::pin(async move { control.abort("the captain says so").await }));
        // Once polled, it has been asked; the runner answers at its next boundary.
        self.answer();
    }

    /// The answer to the abort, once there is one.
    pub(crate) fn answer(&mut self) -> Option<Result<(), AbortRefused>> {
        let mut cx = TaskContext::from_waker(Waker::noop());
        match self.asked.as_mut()?.as_mut().poll(&mut cx) {
            Poll::Ready(answer) => {
                self.asked = Some(Box::pin(future::ready(answer.clone())));
                Some(answer)
            }
            Poll::Pending => None,
        }
    }

    fn loses(&mut self, to: Party, letter: &Letter) -> bool {
        let undoes = letter.key.ends_with("/undo") || letter.key.ends_with("/refuse");
        let lost = self.lost.entry((to, letter.order.clone())).or_default();
        let loses = undoes && *lost < self.undo_losses;
        *lost += u32::from(loses);
        loses
    }

    pub(crate) fn append(&mut self, payload: &str) -> Fault {
        match self.next(format_args!("append {payload}")) {
            Some(Mishap::KilledBefore | Mishap::KilledWithLetter(_)) => Fault::KilledBefore,
            Some(Mishap::KilledAfter) => Fault::KilledAfter,
            Some(Mishap::Lost | Mishap::Late(_)) => Fault::Full,
            Some(Mishap::AnswerLost) => Fault::AnswerLost,
            Some(Mishap::Paused) => Fault::Paused,
            Some(Mishap::Twice(_) | Mishap::Abort) | None => Fault::None,
        }
    }
}

/// The post of one world.
pub(crate) struct Sea {
    pub(crate) world: Mutex<World>,
    pub(crate) fate: Arc<Mutex<Fate>>,
}

impl Sea {
    pub(crate) fn new(world: World, fate: Arc<Mutex<Fate>>) -> Self {
        Self { world: Mutex::new(world), fate }
    }

    /// Everything that is still under way arrives.
    pub(crate) fn calm(&self) {
        self.arrive(usize::MAX);
    }

    fn arrive(&self, point: usize) {
        let mut fate = self.fate.lock().unwrap();
        let (due, still) = fate.late.drain(..).partition(|(due, ..)| *due <= point);
        fate.late = still;
        let due: Vec<_> = due;
        for (_, to, letter) in due {
            let reply = self.world.lock().unwrap().handle(to, &letter);
            fate.story.push(format!("late: {to:?} {:?} {} -> {reply:?}", letter.order, letter.key));
        }
    }
}

impl Post for Sea {
    fn send<'a>(&'a self, to: Party, letter: Letter) -> Pending<'a, Result<Reply, Trouble>> {
        let (point, mishap) = {
            let mut fate = self.fate.lock().unwrap();
            let point = fate.point;
            let mishap = fate.next(format_args!("{to:?} {:?} {}", letter.order, letter.key));
            (point, if fate.loses(to, &letter) { Some(Mishap::Lost) } else { mishap })
        };
        if mishap == Some(Mishap::Paused) {
            return Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(self.world.lock().unwrap().handle(to, &letter))
            });
        }
        self.arrive(point);
        let later = |delay: u8| {
            // The painter knows no keys, so his letters come at once or not at all.
            if to != Party::Painter {
                let late = (point + usize::from(delay), to, letter.clone());
                self.fate.lock().unwrap().late.push(late);
            }
        };
        let arrives = !matches!(
            mishap,
            Some(
                Mishap::KilledBefore | Mishap::KilledWithLetter(_) | Mishap::Lost | Mishap::Late(_)
            )
        );
        let reply = arrives.then(|| self.world.lock().unwrap().handle(to, &letter));
        if let Some(reply) = &reply {
            self.fate.lock().unwrap().story.push(format!("   -> {reply:?}"));
        }
        match (mishap, reply) {
            (Some(Mishap::KilledBefore | Mishap::KilledAfter), _) => Box::pin(future::pending()),
            (Some(Mishap::KilledWithLetter(delay)), _) => {
                later(delay);
                Box::pin(future::pending())
            }
            (Some(Mishap::Twice(delay)), Some(reply)) => {
                later(delay);
                Box::pin(future::ready(Ok(reply)))
            }
            (Some(Mishap::Late(delay)), _) => {
                later(delay);
                Box::pin(future::ready(Err(Trouble::transient("no answer"))))
            }
            (None | Some(Mishap::Abort), Some(reply)) => Box::pin(future::ready(Ok(reply))),
            (_, _) => Box::pin(future::ready(Err(Trouble::transient("no answer")))),
        }
    }
}
