//! The hosts, the letters between them, the orchestrators, and what must always hold.

use placement::rules::{self, AfterBoot, Alone};
use placement::*;

use crate::dice::Dice;
use crate::host::{AgentPlan, Busy, Host, ReplyTo};
use crate::orchestrator::Orchestrator;

const LETTERS_MAX: usize = 60;
const ORCHESTRATORS_MAX: usize = 3;
/// With nothing failing, far more than agents need by themselves.
const ALONE_STEPS_MAX: usize = 100;
/// And than a takeover needs.
const SETTLE_STEPS_MAX: usize = 3_000;

#[derive(Debug, Clone)]
enum Letter {
    Order {
        host: usize,
        order: Order,
        to: ReplyTo,
    },
    /// An agent asks another for its record.
    Look {
        host: usize,
        to: ReplyTo,
    },
    Answer {
        of: usize,
        answer: Answer,
        to: ReplyTo,
    },
    Seat {
        seat: Seat,
        to: ReplyTo,
    },
}

/// What the walks have seen. A walk that never gets anywhere shows nothing.
#[derive(Debug, Default)]
pub(crate) struct Done {
    started: usize,
    ran_again: usize,
    refused: usize,
    armed: usize,
    booted: usize,
    denied: usize,
}

impl Done {
    pub(crate) fn add(&mut self, other: &Done) {
        self.started += other.started;
        self.ran_again += other.ran_again;
        self.refused += other.refused;
        self.armed += other.armed;
        self.booted += other.booted;
        self.denied += other.denied;
    }

    pub(crate) fn assert_everything_happened(&self) {
        let Done { started, ran_again, refused, armed, booted, denied } = self;
        let least = [started, ran_again, refused, armed, booted, denied].into_iter().min();
        assert!(least.is_some_and(|least| *least > 500), "{self:?}");
    }
}

pub(crate) struct World {
    hosts: Vec<Host>,
    orchestrators: Vec<Orchestrator>,
    letters: Vec<Letter>,
    /// The VM's state: grows while it runs anywhere.
    now: u64,
    dice: Dice,
    incarnations: u64,
    pub(crate) story: Vec<String>,
    pub(crate) done: Done,
}

impl World {
    /// The VM placed at the first host.
    pub(crate) fn new(dice: Dice) -> World {
        let hosts = ["a", "b", "c"].map(Host::new).into();
        let mut world = World {
            hosts,
            orchestrators: Vec::new(),
            letters: Vec::new(),
            now: 1,
            dice,
            incarnations: 1,
            story: Vec::new(),
            done: Done::default(),
        };
        let owner = world.new_owner();
        let order = Order { by: orchestrator(), command: Command::Place { owner } };
        world.take_order(0, &order, None);
        while world.hosts[0].busy.is_some() {
            world.carry_on(0);
        }
        world
    }

    pub(crate) fn step(&mut self) {
        let host = self.dice.below(self.hosts.len());
        match self.dice.below(40) {
            0..=13 => self.deliver_one(),
            14..=19 => self.orchestrator_speaks(),
            20..=29 => self.carry_on(host),
            30..=33 => self.copy_completes(),
            34 => self.cont_arrives_somewhere(host),
            35 => self.vm_runs_on(),
            36 if self.dice.one_in(3) => self.orchestrators_come_and_go(),
            37 if self.dice.one_in(5) => self.agent_alone(host),
            38 if self.dice.one_in(6) => self.agent_dies(host),
            39 if self.dice.one_in(12) => self.host_reboots(host),
            _ => self.look_after_boot(host),
        }
    }

    /// Never twice, and always one place: a seat, or a release that nobody has taken.
    pub(crate) fn check(&self) {
        let runs: usize = self.hosts.iter().map(Host::runs).sum();
        assert!(runs <= 1, "the VM runs {runs} times");
        let places = self.hosts.iter().filter(|host| self.is_its_place(host)).count();
        assert_eq!(places, 1, "the VM has {places} places");
    }

    fn is_its_place(&self, host: &Host) -> bool {
        match &host.record.seat {
            Seat::None | Seat::Gone { .. } => false,
            Seat::Accepted(_) | Seat::Started { .. } => true,
            Seat::Released { release, to, .. } => {
                !self.hosts[self.host_at(to)].record.has_taken(release.epoch)
            }
        }
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.story.push(line);
    }

    fn send(&mut self, letter: Letter) {
        if self.letters.len() < LETTERS_MAX {
            self.letters.push(letter);
        }
    }

    /// Any letter, in any order; some are lost, some stay to come again.
    fn deliver_one(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let which = self.dice.below(self.letters.len());
        let letter = match self.dice.below(10) {
            0 => self.letters[which].clone(),
            _ => self.letters.swap_remove(which),
        };
        if self.dice.one_in(12) {
            return;
        }
        self.deliver(letter);
    }

    fn deliver(&mut self, letter: Letter) {
        match letter {
            Letter::Order { host, order, to } => self.take_order(host, &order, Some(to)),
            Letter::Look { host, to } => {
                let seat = self.hosts[host].record.seat.clone();
                self.send(Letter::Seat { seat, to });
            }
            Letter::Answer { of, answer, to: ReplyTo::Orchestrator(number) } => {
                let speaker = self.hosts[of].speaker();
                let known = self.orchestrators.iter_mut();
                let mut heard = known.filter(|one| one.authority.owner.incarnation == number);
                if let Some(orchestrator) = heard.next() {
                    orchestrator.hears(of, speaker, answer);
                }
            }
            Letter::Answer { of, answer, to: ReplyTo::Agent { host, boot, plan } } => {
                self.agent_hears(of, answer, host, boot, &plan);
            }
            Letter::Seat { seat, to: ReplyTo::Agent { host, boot, plan } } => {
                self.agent_sees_seat(&seat, host, boot, &plan);
            }
            Letter::Seat { .. } => {}
        }
    }

    /// One order at a time: what comes while another is carried out is lost, and asked again.
    fn take_order(&mut self, host: usize, order: &Order, to: Option<ReplyTo>) {
        if self.hosts[host].busy.is_some() {
            return;
        }
        let facts = self.hosts[host].facts(&mut self.dice);
        let decided = rules::decide(&self.hosts[host].record, &facts, order);
        self.tell(|| format!("{host}: {order:?}\n    -> {decided:?}"));
        match decided {
            Ok(plan) => self.begin(host, plan, to),
            Err(_) => self.done.denied += 1,
        }
    }

    fn begin(&mut self, host: usize, plan: Plan, to: Option<ReplyTo>) {
        let steps = plan.steps.into();
        self.hosts[host].busy = Some(Busy { steps, answer: plan.answer, to });
        if self.dice.one_in(2) {
            while self.hosts[host].busy.is_some() {
                self.carry_on(host);
            }
        }
    }

    /// The next step of what an agent is about, or its answer.
    fn carry_on(&mut self, host: usize) {
        let Some(busy) = &mut self.hosts[host].busy else { return };
        match busy.steps.pop_front() {
            Some(Step::Write(record)) => {
                self.tell(|| format!("{host}: writes {:?}, ended {}", record.seat, record.ended));
                self.hosts[host].record = *record;
            }
            Some(Step::Do(effect)) => {
                self.tell(|| format!("{host}: {effect:?}"));
                self.count(&effect);
                self.hosts[host].act(effect, self.now, &mut self.dice);
            }
            None => {
                let Busy { answer, to, .. } = self.hosts[host].busy.take().unwrap();
                self.done.refused += usize::from(matches!(answer, Answer::Refused { .. }));
                self.done.armed += usize::from(matches!(answer, Answer::Armed { .. }));
                if let Some(to) = to {
                    self.send(Letter::Answer { of: host, answer, to });
                }
            }
        }
    }

    fn count(&mut self, effect: &Effect) {
        match effect {
            Effect::PinPort(_) => self.done.started += 1,
            Effect::Continue(_) => self.done.ran_again += 1,
            Effect::Boot(_) => self.done.booted += 1,
            _ => {}
        }
    }

    fn new_owner(&mut self) -> Owner {
        self.incarnations += 1;
        Owner { name: "serve".parse().unwrap(), incarnation: self.incarnations }
    }

    /// Now and then one dies, with all it knew, or another begins, with what the records show.
    fn orchestrators_come_and_go(&mut self) {
        if self.orchestrators.len() >= ORCHESTRATORS_MAX || self.dice.one_in(4) {
            if !self.orchestrators.is_empty() {
                let which = self.dice.below(self.orchestrators.len());
                self.orchestrators.swap_remove(which);
            }
            return;
        }
        let takeover = self.dice.one_in(2);
        let (from, to) = self.some_ends();
        self.begin_move(from, to, takeover);
    }

    /// Mostly where the VM is, and where the records say that it goes.
    fn some_ends(&mut self) -> (usize, usize) {
        let from = self.hosts.iter().position(|host| self.is_its_place(host));
        let from = from.filter(|_| !self.dice.one_in(8)).unwrap_or(self.dice.below(3));
        if let Seat::Released { to, .. } = &self.hosts[from].record.seat {
            return (from, self.host_at(to));
        }
        (from, (from + 1 + self.dice.below(2)) % 3)
    }

    fn begin_move(&mut self, from: usize, to: usize, takeover: bool) {
        let seen = self.hosts[from].record.epoch.max(self.hosts[to].record.epoch);
        let authority = Authority { epoch: seen.next(), owner: self.new_owner() };
        let ends = [from, to].map(|host| self.hosts[host].here.clone());
        let [from_end, to_end] = ends;
        let pair = Pair { from: from_end, to: to_end };
        self.tell(|| format!("{authority} is to move {from} to {to}, takeover {takeover}"));
        self.orchestrators.push(Orchestrator::new(authority, (from, to), pair, takeover));
    }

    fn orchestrator_speaks(&mut self) {
        if self.orchestrators.is_empty() {
            return;
        }
        let which = self.dice.below(self.orchestrators.len());
        let orchestrator = &mut self.orchestrators[which];
        let number = orchestrator.authority.owner.incarnation;
        if let Some((host, command)) = orchestrator.says(&mut self.dice) {
            let order = Order { by: self::orchestrator(), command };
            self.send(Letter::Order { host, order, to: ReplyTo::Orchestrator(number) });
        }
    }

    /// The copy of a stopped VM arrives whole; the source may or may not learn of it.
    fn copy_completes(&mut self) {
        for to in 0..self.hosts.len() {
            let Some(target) = self.hosts[to].record.target.clone() else { continue };
            let from = self.host_at(target.from.as_ref().unwrap());
            let standing = &self.hosts[from].record;
            let driven = standing.epoch == target.made_by.epoch
                && standing.owner.as_ref() == Some(&target.made_by.owner);
            let Some(seat) = standing.seat.incarnation().cloned() else { continue };
            let stopped = self.hosts[from].qemu(&seat.made_by).is_some_and(|qemu| !qemu.runs);
            let waits = self.hosts[to]
                .qemu(&target.made_by)
                .is_some_and(|qemu| qemu.incoming && qemu.export_open);
            if !(driven && stopped && waits) {
                continue;
            }
            let state = *self.hosts[from].state_on_disk(&seat.made_by);
            *self.hosts[to].state_on_disk(&target.made_by) = state;
            self.hosts[to].qemu(&target.made_by).unwrap().loaded = true;
            if !self.dice.one_in(5) {
                let of = Some(target.made_by.epoch);
                self.hosts[from].qemu(&seat.made_by).unwrap().completed = of;
            }
        }
    }

    fn cont_arrives_somewhere(&mut self, host: usize) {
        let waiting = self.hosts[host].qemus.iter().find(|qemu| qemu.cont_under_way);
        if let Some(made_by) = waiting.map(|qemu| qemu.made_by.clone()) {
            self.tell(|| format!("{host}: a late cont arrives for {made_by}"));
            self.hosts[host].cont_arrives(&made_by, self.now);
        }
    }

    fn vm_runs_on(&mut self) {
        for host in &mut self.hosts {
            let running = host.qemus.iter().find(|qemu| qemu.runs);
            if let Some(made_by) = running.map(|qemu| qemu.made_by.clone()) {
                self.now += 1;
                *host.state_on_disk(&made_by) = self.now;
            }
        }
    }

    fn agent_dies(&mut self, host: usize) {
        self.tell(|| format!("{host}: the agent dies"));
        self.hosts[host].busy = None;
        self.hosts[host].must_look_after_boot = true;
    }

    fn host_reboots(&mut self, host: usize) {
        self.tell(|| format!("{host}: reboots"));
        let host = &mut self.hosts[host];
        host.busy = None;
        host.qemus.clear();
        host.boot += 1;
        host.must_look_after_boot = true;
    }

    fn look_after_boot(&mut self, host: usize) {
        let looking = &mut self.hosts[host];
        if !looking.must_look_after_boot || looking.busy.is_some() {
            return;
        }
        let facts = looking.facts(&mut self.dice);
        match rules::after_boot(&looking.record, &facts) {
            AfterBoot::Boot(plan) => {
                self.hosts[host].must_look_after_boot = false;
                self.begin(host, plan, None);
            }
            AfterBoot::AskFrom { from, .. } => self.look_at(&from, host, AgentPlan::BootOnSeat),
            AfterBoot::AskTo { to, release } => self.ask_to_refuse(&to, host, release),
            AfterBoot::Nothing => self.hosts[host].must_look_after_boot = false,
        }
    }

    fn agent_alone(&mut self, host: usize) {
        if self.hosts[host].busy.is_some() {
            return;
        }
        let facts = self.hosts[host].facts(&mut self.dice);
        match rules::when_alone(&self.hosts[host].record, &facts, true) {
            Alone::Do(plan) => {
                self.tell(|| format!("{host}: alone: {plan:?}"));
                self.begin(host, plan, None);
            }
            Alone::AskTo { to, release } => self.ask_to_refuse(&to, host, release),
            Alone::AskFromThen { from, .. } => self.look_at(&from, host, AgentPlan::RefuseIdle),
            Alone::Nothing => {}
        }
    }

    fn look_at(&mut self, end: &End, host: usize, plan: AgentPlan) {
        let asked = self.host_at(end);
        let to = ReplyTo::Agent { host, boot: self.hosts[host].boot, plan };
        self.send(Letter::Look { host: asked, to });
    }

    fn ask_to_refuse(&mut self, end: &End, host: usize, release: Release) {
        let asked = self.host_at(end);
        let Host { here, boot, .. } = &self.hosts[host];
        let (site, name) = (here.site.clone(), here.agent.clone());
        let by = Identity { site, role: Role::Agent, name };
        let to = ReplyTo::Agent { host, boot: *boot, plan: AgentPlan::RunOnRefusal };
        let command = Command::Refuse { authority: None, release };
        self.send(Letter::Order { host: asked, order: Order { by, command }, to });
    }

    fn agent_hears(&mut self, of: usize, answer: Answer, host: usize, boot: u64, plan: &AgentPlan) {
        let hearing = &self.hosts[host];
        if *plan != AgentPlan::RunOnRefusal || hearing.boot != boot || hearing.busy.is_some() {
            return;
        }
        let Answer::Refused { release } = answer else { return };
        let (by, facts) = (self.hosts[of].speaker(), hearing.facts(&mut self.dice));
        let record = &self.hosts[host].record;
        if let Ok(plan) = rules::run_on_refusal(record, &facts, &by, &release) {
            self.tell(|| format!("{host}: runs on the refusal of {of}: {plan:?}"));
            self.hosts[host].must_look_after_boot = false;
            self.begin(host, plan, None);
        }
    }

    fn agent_sees_seat(&mut self, seat: &Seat, host: usize, boot: u64, plan: &AgentPlan) {
        let seeing = &self.hosts[host];
        // An answer from before the boot tells of a world that is gone.
        if seeing.boot != boot || seeing.busy.is_some() {
            return;
        }
        let facts = seeing.facts(&mut self.dice);
        let record = &self.hosts[host].record;
        let plan = match plan {
            AgentPlan::BootOnSeat if self.hosts[host].must_look_after_boot => {
                rules::boot_on_answer(record, seat)
            }
            AgentPlan::RefuseIdle => match rules::when_alone(record, &facts, true) {
                Alone::AskFromThen { refuse, .. } => Some(refuse),
                _ => None,
            },
            _ => None,
        };
        if let Some(plan) = plan {
            self.tell(|| format!("{host}: sees {seat:?}: {plan:?}"));
            self.hosts[host].must_look_after_boot = false;
            self.begin(host, plan, None);
        }
    }

    fn take_over_at_last(&mut self) {
        if self.orchestrators.is_empty() {
            let from = self.hosts.iter().position(|host| self.is_its_place(host)).unwrap();
            let to = match &self.hosts[from].record.seat {
                Seat::Released { to, .. } => self.host_at(to),
                _ => (from + 1) % self.hosts.len(),
            };
            self.begin_move(from, to, true);
        }
        self.orchestrator_speaks();
    }

    fn host_at(&self, end: &End) -> usize {
        self.hosts.iter().position(|host| host.here == *end).unwrap()
    }

    /// Nothing fails any more. What the agents cannot bring to an end among themselves, a last
    /// orchestrator takes over: the VM must come to run.
    pub(crate) fn settle(&mut self) {
        self.orchestrators.clear();
        self.letters.clear();
        for host in 0..self.hosts.len() {
            self.agent_dies(host);
        }
        for step in 0..SETTLE_STEPS_MAX {
            if self.hosts.iter().map(Host::runs).sum::<usize>() == 1 {
                return;
            }
            for host in 0..self.hosts.len() {
                self.cont_arrives_somewhere(host);
                self.look_after_boot(host);
                self.carry_on(host);
            }
            if step < ALONE_STEPS_MAX {
                (0..self.hosts.len()).for_each(|host| self.agent_alone(host));
            } else {
                self.take_over_at_last();
            }
            for letter in std::mem::take(&mut self.letters) {
                self.deliver(letter);
            }
            self.check();
        }
        let records: Vec<&Record> = self.hosts.iter().map(|host| &host.record).collect();
        panic!("the VM runs nowhere: {records:#?}");
    }
}

/// Who commands in every walk.
fn orchestrator() -> Identity {
    "causeway://site/hq/role/orchestrator/name/serve".parse().unwrap()
}
