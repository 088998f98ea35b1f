//! The story, chapter by chapter: what is built, the move, what became of everybody's connections, and
//! how the old place is given back.

mod beginning;
mod keep;
mod moves;
mod tail;

use guest::flows::Report as Log;
use rustix::process::geteuid;
use setup::Demo;

use crate::desk::{Desk, Shown};
use crate::ending::Ending;
use crate::error::DemoError;
use crate::left::Left;
use crate::stage::{Permit, Stage};
use crate::telling::Telling;
use crate::users::{Names, Users};
use crate::verdict::Verdict;

/// Tells it all; whether every flow survived.
pub(crate) fn tell(
    asked: &Demo,
    telling: &mut Telling,
    ending: &Ending,
) -> Result<bool, DemoError> {
    if !geteuid().is_root() {
        return Err(DemoError::NotRoot);
    }
    let left = Left::in_folder(asked.out.as_deref())?;
    telling.title("A running VM moves between two data centers while its users stay connected");
    let permit = Permit::get(telling, ending)?;
    let stage = beginning::two_sites(asked, permit, telling, ending)?;
    let desk = stage.desk(ending)?;
    let (faults, staying) = (Verdict::default(), None);
    let mut story = Story { asked, telling, ending, stage, desk, left, faults, staying };
    let outcome = story.play();
    if !matches!(outcome, Ok(true) | Err(DemoError::Interrupted)) && !ending.is_asked() {
        story.left.leave_logs(&story.stage.world)?;
        let folder = story.left.folder().display();
        story.telling.says(&format!("What all programs have logged is in {folder}."));
    }
    outcome
}

struct Story<'a> {
    asked: &'a Demo,
    telling: &'a mut Telling,
    ending: &'a Ending,
    stage: Stage,
    desk: Desk<'a>,
    left: Left,
    /// What was found wrong so far.
    faults: Verdict,
    /// Who is served to the very end.
    staying: Option<Users>,
}

/// Everybody who has connections.
struct Everybody {
    /// Who came before the first move.
    regulars: Users,
    /// Who came after it, to the old site.
    stragglers: Option<Users>,
    /// Who came after it, to the new site.
    newcomers: Option<Users>,
}

impl Story<'_> {
    fn play(&mut self) -> Result<bool, DemoError> {
        self.installation()?;
        self.vm()?;
        let clients = [1, 2].map(|number| self.stage.world.client(number));
        let [mut names, mut old_names] =
            clients.each_ref().map(|client| Names::new(client, self.stage.name_server("a")));
        let mut everybody = self.regulars(&mut names, &mut old_names)?;
        self.moves_away(&mut everybody)?;
        self.arrivals(&mut everybody, &mut names, &mut old_names)?;
        if self.asked.back {
            self.moves_back(&mut everybody)?;
        }
        self.drain(everybody)?;
        self.last_words()?;
        if self.asked.keep {
            self.keep()?;
        }
        Ok(self.faults.is_good())
    }

    fn types(&mut self, words: &[&str], shown: Shown) -> Result<String, DemoError> {
        self.desk.types(self.telling, words, shown)
    }

    /// Tells what was found, and remembers it for the end.
    fn judge(&mut self, found: Verdict, if_good: &str) {
        for fault in &found.faults {
            self.telling.judged(fault, false);
        }
        if found.is_good() {
            self.telling.judged(if_good, true);
        }
        self.faults.add(found);
    }
}

impl Everybody {
    /// All of them.
    fn each(&mut self) -> impl Iterator<Item = &mut Users> {
        let later = [&mut self.stragglers, &mut self.newcomers];
        std::iter::once(&mut self.regulars).chain(later.into_iter().flatten())
    }

    /// What all of them know, once each has been answered after now.
    fn answered_again(&mut self, ending: &Ending) -> Result<Log, DemoError> {
        let mut log = Log::default();
        for users in self.each() {
            let Log { flows, sessions, .. } = users.answered_again(ending)?;
            log.flows.extend(flows);
            log.sessions.extend(sessions);
        }
        Ok(log)
    }
}
