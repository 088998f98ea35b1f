//! What there is before the move: sites, daemons, a VM, its users.

use std::time::{Duration, Instant};

use orchestrator_api::operator::VmPlaces;
use setup::Demo;

use super::{Everybody, Story};
use crate::desk::Shown;
use crate::ending::Ending;
use crate::error::DemoError;
use crate::probe::is_served;
use crate::stage::{Permit, Stage};
use crate::telling::Telling;
use crate::users::{NAME, Names, Users};

/// Longest wait for daemons, and for a boot.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// What `causeway init` makes.
const INSTALLATION: &str = "installation";
/// The VM's definition, as the operator has it.
const DEFINITION: &str = "/etc/causeway/operator-ada/web.toml";

pub(super) fn two_sites(
    asked: &Demo,
    permit: Permit,
    telling: &mut Telling,
    ending: &Ending,
) -> Result<Stage, DemoError> {
    telling.chapter("Two sites");
    let begun = Instant::now();
    let stage = Stage::build(asked, permit, ending)?;
    let took_s = begun.elapsed().as_secs_f64();
    telling.says(&format!(
        "Namespaces of this machine, with a WAN between them: {} ms round trip, {} % loss, {} Mbit/s.",
        asked.rtt_ms,
        asked.loss_percent(),
        asked.rate_mbit
    ));
    telling.says(&format!("Built in {took_s:.1} s, with clients and an operator's desk."));
    Ok(stage)
}

impl Story<'_> {
    pub(super) fn installation(&mut self) -> Result<(), DemoError> {
        self.telling.chapter("Causeway, installed from one description (examples/two-sites)");
        self.stage.furnish(&self.desk)?;
        self.types(&["init", "causeway.toml", "--out", INSTALLATION], Shown::Nothing)?;
        let daemons = self.stage.install(&self.desk, INSTALLATION)?;
        let desk = &mut self.desk;
        self.ending.until("an answer of every daemon", WAIT_MAX, || {
            // The service itself may not answer yet.
            let places = desk.answers::<VmPlaces>(&["vm", "list", "--json"]).ok();
            Ok(places.filter(|places| places.unasked.is_empty()))
        })?;
        self.telling.says(&format!(
            "{daemons} daemons run: proxy, name server and agent at each site, and the one that moves."
        ));
        Ok(())
    }

    pub(super) fn vm(&mut self) -> Result<(), DemoError> {
        self.telling.chapter("A virtual machine at site a");
        let begun = Instant::now();
        let words = ["vm", "start", "web", "--site", "a", "--definition", DEFINITION, "--new"];
        self.types(&words, Shown::All)?;
        let (client, vips) = (self.stage.world.client(1), self.stage.site("a").vip(1).each());
        self.ending.until("a greeting by the VM's service", WAIT_MAX, || {
            Ok(is_served(&client, &vips)?.then_some(()))
        })?;
        let took_s = begun.elapsed().as_secs_f64();
        self.telling.says(&format!("Linux under QEMU; it booted and serves after {took_s:.1} s."));
        self.end_flows()
    }

    /// What has tried whether it serves is nothing that a move's ledger should tell of.
    fn end_flows(&mut self) -> Result<(), DemoError> {
        let desk = &mut self.desk;
        self.ending.until("the end of what has tried the service", WAIT_MAX, || {
            let flows = desk.flows_of("web")?;
            for flow in &flows {
                // One that has ended by itself meanwhile cannot be killed.
                let _ = desk.asks(&["flows", "kill", &flow.at.flow]);
            }
            Ok(flows.is_empty().then_some(()))
        })
    }

    pub(super) fn regulars(
        &mut self,
        names: &mut Names<'_>,
        old_names: &mut Names<'_>,
    ) -> Result<Everybody, DemoError> {
        let (flows, sessions) = (self.asked.flows, self.asked.sessions());
        self.telling.chapter("Its users");
        let at = names.honouring()?;
        // The other machine of clients asks now, and never again.
        old_names.ignoring()?;
        let [v4, v6] = at;
        self.telling.says(&format!("Site a's name server says: {NAME} is {v4} and {v6},"));
        self.telling.says("which are site a's VIPs.");
        let mut regulars = Users::start(&self.stage.world.client(1), at, flows, sessions)?;
        regulars.answered_again(self.ending)?;
        self.telling.says(&format!(
            "{flows} TCP flows and {sessions} UDP sessions are open, and every byte of them is checked."
        ));
        Ok(Everybody { regulars, stragglers: None, newcomers: None })
    }
}
