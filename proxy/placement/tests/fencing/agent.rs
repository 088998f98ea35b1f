//! One agent, stepped by hand, in the situations that the tests begin from.

use placement::order::{Evidence, Speaker};
use placement::rules::decide;
use placement::*;

pub(crate) fn owner(incarnation: u64) -> Owner {
    Owner { name: "serve".parse().unwrap(), incarnation }
}

pub(crate) fn authority(epoch: u64, incarnation: u64) -> Authority {
    Authority { epoch: Epoch::new(epoch), owner: owner(incarnation) }
}

pub(crate) fn release(epoch: u64, incarnation: u64) -> Release {
    authority(epoch, incarnation).into()
}

pub(crate) fn end(site: &str) -> End {
    End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: "192.0.2.1:7443".parse().unwrap(),
        proxy: "px1".parse().unwrap(),
    }
}

pub(crate) fn pair(from: &str, to: &str) -> Pair {
    Pair { from: end(from), to: end(to) }
}

pub(crate) fn speaker(site: &str) -> Speaker {
    Speaker { site: site.parse().unwrap(), agent: "hv1".parse().unwrap() }
}

pub(crate) fn orchestrator() -> Identity {
    "causeway://site/hq/role/orchestrator/name/serve".parse().unwrap()
}

pub(crate) fn agent(site: &str) -> Identity {
    format!("causeway://site/{site}/role/agent/name/hv1").parse().unwrap()
}

/// One agent, stepped by hand.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) record: Record,
    pub(crate) facts: Facts,
}

impl Agent {
    pub(crate) fn new(site: &str) -> Agent {
        let facts = Facts { here: end(site), processes: Vec::new(), lease_ran_out: false };
        Agent { record: Record::unknown("web".parse().unwrap()), facts }
    }

    /// Where the VM was placed first.
    pub(crate) fn placed(site: &str) -> Agent {
        let mut agent = Agent::new(site);
        agent.done(Command::Place { owner: owner(1) });
        agent.sees(&release(1, 1), ProcessState::Running);
        agent
    }

    pub(crate) fn claimed(mut self, epoch: u64, incarnation: u64, from: &str, to: &str) -> Agent {
        self.done(claim(epoch, incarnation, from, to));
        self
    }

    pub(crate) fn sees(&mut self, made_by: &Release, state: ProcessState) {
        self.facts.processes.retain(|process| process.made_by != *made_by);
        self.facts.processes.push(Process { made_by: made_by.clone(), state });
    }

    pub(crate) fn asked(&self, by: Identity, command: Command) -> Result<Plan, Denied> {
        decide(&self.record, &self.facts, &Order { by, command })
    }

    pub(crate) fn tried(&self, command: Command) -> Result<Plan, Denied> {
        self.asked(orchestrator(), command)
    }

    /// Carries the plan out, and says what was done to the world.
    pub(crate) fn carry_out(&mut self, plan: &Plan) -> Vec<Effect> {
        let mut effects = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Write(record) => self.record = (**record).clone(),
                Step::Do(effect) => effects.push(effect.clone()),
            }
        }
        effects
    }

    pub(crate) fn done(&mut self, command: Command) -> (Vec<Effect>, Answer) {
        let plan = self.tried(command).unwrap();
        (self.carry_out(&plan), plan.answer)
    }
}

pub(crate) fn claim(epoch: u64, incarnation: u64, from: &str, to: &str) -> Command {
    let (authority, pair) = (authority(epoch, incarnation), pair(from, to));
    Command::Claim { authority, pair, takeover: false }
}

pub(crate) fn takeover(epoch: u64, incarnation: u64, from: &str, to: &str) -> Command {
    let (authority, pair) = (authority(epoch, incarnation), pair(from, to));
    Command::Claim { authority, pair, takeover: true }
}

pub(crate) fn start(epoch: u64, incarnation: u64, of: Release) -> Command {
    Command::Start { authority: authority(epoch, incarnation), release: of }
}

pub(crate) fn refuse(epoch: u64, incarnation: u64, of: Release) -> Command {
    Command::Refuse { authority: Some(authority(epoch, incarnation)), release: of }
}

pub(crate) fn run(epoch: u64, incarnation: u64, evidence: Option<Evidence>) -> Command {
    Command::Run { authority: authority(epoch, incarnation), evidence }
}

pub(crate) fn source_in_move() -> Agent {
    Agent::placed("a").claimed(2, 1, "a", "b")
}

pub(crate) fn source_completed() -> Agent {
    let mut source = source_in_move();
    source.sees(&release(1, 1), ProcessState::Completed { of: Epoch::new(2) });
    source
}

pub(crate) fn source_released() -> Agent {
    let mut source = source_completed();
    let (_, answer) = source.done(Command::Release { authority: authority(2, 1) });
    assert_eq!(answer, Answer::Released { release: release(2, 1) });
    source
}

pub(crate) fn target_reserved() -> Agent {
    let mut target = Agent::new("b").claimed(2, 1, "a", "b");
    target.done(Command::Reserve { authority: authority(2, 1) });
    target
}

pub(crate) fn target_loaded() -> Agent {
    let mut target = target_reserved();
    target.sees(&release(2, 1), ProcessState::Incoming { loaded: true });
    target
}

pub(crate) fn target_started() -> Agent {
    let mut target = target_loaded();
    target.done(start(2, 1, release(2, 1)));
    target.sees(&release(2, 1), ProcessState::Running);
    target
}
