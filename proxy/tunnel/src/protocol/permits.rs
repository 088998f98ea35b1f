//! What this site's own configuration lets peers reach. The default is nothing.

use placement::VmName;

use super::channel::{ChannelName, Exit, Target};
use super::grants::Ask;
use super::refusal::Refusal;

/// One channel that may be dialled out here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Its name.
    pub channel: ChannelName,
    /// Of this VM alone; of every VM if none.
    pub vm: Option<VmName>,
    /// Where it leads.
    pub target: Target,
}

/// The permits of one site, in the order of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permits(Vec<Permit>);

impl Permits {
    /// These and no others.
    #[must_use]
    pub fn new(permits: Vec<Permit>) -> Permits {
        Permits(permits)
    }

    /// Where the first permit leads that covers what is asked.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`].
    pub fn exit(&self, ask: &Ask) -> Result<Exit, Refusal> {
        let covers = |permit: &&Permit| {
            permit.channel == ask.grant.channel
                && permit.vm.as_ref().is_none_or(|vm| *vm == ask.grant.vm)
        };
        let exits = self.0.iter().filter(covers).map(|permit| permit.target.of(&ask.grant));
        let meant = |exit: &Exit| {
            ask.wanted.as_ref().is_none_or(|wanted| wanted.as_str() == exit.to_string())
        };
        exits.into_iter().find(meant).ok_or(Refusal::NotPermitted)
    }
}
