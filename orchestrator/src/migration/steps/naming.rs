//! One order of a move to all name servers of all sites.
//!
//! Names are no safety of the move's: who asks the old address is served through the tunnel. So no
//! name server holds a move up. One that cannot be asked is tried until its bound is over, is named
//! then, and is tried again with the move's next order.

use std::fmt::Write as _;
use std::time::Duration;

use gslb_api::Taken;
use hypervisor::CallTrouble;
use orchestrator_api::followed::{NAMES_TOLD_MAX, SERVERS_TOLD_MAX, WHY_BYTES_MAX};
use orchestrator_api::{NamePlace, NamesTold, Unconfirmed};
use placement::{Authority, VmName};
use saga::{Context, Trouble};
use tokio::time::{Instant, sleep, timeout_at};

use crate::migration::ends::Ends;
use crate::migration::name_servers::{NameOrder, NameServerPort};
use crate::migration::parties::Parties;
use crate::report::together;

/// How long a name server is asked to confirm; from then on it may be behind, and is named.
pub(in crate::migration) const CONFIRM_MAX: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Gives these orders, one after the other, to all name servers at the same time, each within
/// [`CONFIRM_MAX`]. Whoever has taken the last one has confirmed.
pub(super) async fn told<P: Parties>(
    ends: Ends<'_, P>,
    cx: &Context,
    orders: &[NameOrder],
) -> Result<NamesTold, Trouble> {
    let authority = ends.authority(cx)?;
    let servers = ends.parties.name_servers();
    let until = Instant::now() + CONFIRM_MAX;
    let asking = servers
        .iter()
        .map(|(_, server)| taken(*server, (&ends.wanted.vm, &authority), orders, until));
    let answers = together(asking).await;
    let mut told = NamesTold::default();
    for (((site, name), _), answer) in servers.iter().zip(answers) {
        match answer {
            Ok(taken) => confirmed(&mut told, taken),
            Err(why) => {
                tracing::warn!(%site, %name, why, "a name server has not confirmed");
                let why = bounded(why);
                unconfirmed(&mut told, Unconfirmed { site: site.clone(), name: name.clone(), why });
            }
        }
    }
    told.names.sort();
    told.names.dedup();
    told.names_left_out = told.names.len().saturating_sub(NAMES_TOLD_MAX) as u64;
    told.names.truncate(NAMES_TOLD_MAX);
    Ok(told)
}

/// What the last order came to at one name server; or why there is no knowing.
async fn taken<S: NameServerPort>(
    server: &S,
    (vm, authority): (&VmName, &Authority),
    orders: &[NameOrder],
    until: Instant,
) -> Result<Taken, String> {
    let mut last = Err("nothing was to be told".to_owned());
    for order in orders {
        last = Ok(insisted(server, (vm, authority), order, until).await?);
    }
    last
}

/// One order, tried as long as trying may help.
async fn insisted<S: NameServerPort>(
    server: &S,
    (vm, authority): (&VmName, &Authority),
    order: &NameOrder,
    until: Instant,
) -> Result<Taken, String> {
    let mut why = format!("no answer within {CONFIRM_MAX:?}");
    loop {
        match timeout_at(until, server.order(vm, authority, order)).await {
            Ok(Ok(taken)) => return Ok(taken),
            Ok(Err(trouble)) if !trouble.may_pass() => return Err(worded(&trouble)),
            Ok(Err(trouble)) => why = worded(&trouble),
            Err(_) => return Err(why),
        }
        if Instant::now() + RETRY_INTERVAL >= until {
            return Err(why);
        }
        sleep(RETRY_INTERVAL).await;
    }
}

fn worded(trouble: &CallTrouble) -> String {
    let mut words = trouble.to_string();
    let mut cause = std::error::Error::source(trouble);
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(words, ": {error}");
        cause = error.source();
    }
    words
}

fn confirmed(told: &mut NamesTold, taken: Taken) {
    told.confirmed += 1;
    told.outdated_until_unix_s = told.outdated_until_unix_s.max(taken.outdated_until_s);
    let places = taken.names.into_iter();
    told.names.extend(places.map(|name| NamePlace { name: name.name, site: name.site }));
}

fn unconfirmed(told: &mut NamesTold, who: Unconfirmed) {
    if told.unconfirmed.len() < SERVERS_TOLD_MAX {
        told.unconfirmed.push(who);
    } else {
        told.unconfirmed_left_out += 1;
    }
}

fn bounded(mut why: String) -> String {
    let mut end = WHY_BYTES_MAX.min(why.len());
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}
