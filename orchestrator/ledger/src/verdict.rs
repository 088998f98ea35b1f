//! What became of a flow: the one function that decides it.
//!
//! | verdict | when |
//! |---|---|
//! | survived | payload passed both ways after the pivot, however it ended later |
//! | idle | open, and nothing is owed; or its service's own idle time-out ended it when nothing was |
//! | closed by client, by server | before that, by a FIN or RST of theirs |
//! | broken | all else: what is neither proven nor excused counts against the move |

use proxy_api::{CloseReason, Passed};
use serde::{Deserialize, Serialize};

/// How long an open flow that moves only one way may owe bytes: an upload always has some under
/// way, and one that has waited so long does not move.
pub const OWED_MS_MAX: u64 = 2_000;

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "cause", rename_all = "snake_case")]
pub enum Verdict {
    /// Payload passed both ways after the pivot.
    Survived,
    /// It is open and nothing is owed.
    Idle,
    /// The client ended it.
    ClosedByClient,
    /// The server ended it.
    ClosedByServer,
    /// All else.
    Broken(Broken),
}

/// Why a flow counts as broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// An operator killed it.
    Killed,
    /// The client answered nothing any more.
    ClientLost,
    /// The server answered nothing any more.
    ServerLost,
    /// Its service's idle time-out ended it while bytes were owed.
    TimedOutOwing,
    /// No backend took it.
    ConnectFailed,
    /// No backend took it in time.
    ConnectTimeout,
    /// The proxy ended before it did.
    ProxyShutdown,
    /// It is open, and what it is owed does not come.
    Stuck,
    /// It was listed, and its proxy cannot say what became of it.
    Unaccounted,
}

impl Broken {
    /// The cause in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Broken::Killed => "killed by an operator",
            Broken::ClientLost => "the client answered no more",
            Broken::ServerLost => "the server answered no more",
            Broken::TimedOutOwing => "timed out while bytes were owed",
            Broken::ConnectFailed => "no backend took it",
            Broken::ConnectTimeout => "no backend took it in time",
            Broken::ProxyShutdown => "the proxy ended first",
            Broken::Stuck => "open, but what it is owed does not come",
            Broken::Unaccounted => "unaccounted: listed, and not heard of again",
        }
    }
}

impl Verdict {
    /// The verdict in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Survived => "survived",
            Verdict::Idle => "idle",
            Verdict::ClosedByClient => "closed by client",
            Verdict::ClosedByServer => "closed by server",
            Verdict::Broken(_) => "broken",
        }
    }
}

/// Who ended a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closer {
    /// Its client.
    Client,
    /// Its server.
    Server,
    /// The proxy: one end answered no more, a time ran out, or it stopped itself.
    Proxy,
    /// An operator, by order.
    Operator,
}

impl Closer {
    /// Who ends a flow for this reason.
    #[must_use]
    pub fn of(reason: CloseReason) -> Closer {
        match reason {
            CloseReason::ClientFin | CloseReason::ClientRst => Closer::Client,
            CloseReason::ServerFin | CloseReason::ServerRst => Closer::Server,
            CloseReason::ClientLost
            | CloseReason::ServerLost
            | CloseReason::IdleTimeout
            | CloseReason::ConnectFailed
            | CloseReason::ConnectTimeout
            | CloseReason::ProxyShutdown => Closer::Proxy,
            CloseReason::Killed => Closer::Operator,
        }
    }

    /// Who, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Closer::Client => "client",
            Closer::Server => "server",
            Closer::Proxy => "proxy",
            Closer::Operator => "operator",
        }
    }
}

/// How a flow stands, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody has told of it since the listing, or its proxy has lost it.
    Unknown,
    /// It lives.
    Open {
        /// What it is owed.
        owed_bytes: u64,
        /// For how long it has been, as of when it was seen.
        owed_for_ms: u64,
    },
    /// It is over.
    Over {
        /// Why.
        reason: CloseReason,
        /// What it was owed.
        owed_bytes: u64,
    },
}

/// What became of a flow of which `after_pivot` is the most that is known to have passed.
pub(crate) fn verdict(after_pivot: Passed, standing: Standing) -> Verdict {
    if after_pivot.is_both_ways() {
        return Verdict::Survived;
    }
    match standing {
        Standing::Unknown => Verdict::Broken(Broken::Unaccounted),
        Standing::Open { owed_bytes, owed_for_ms } => {
            let moves = after_pivot != Passed::default() && owed_for_ms < OWED_MS_MAX;
            if owed_bytes == 0 || moves { Verdict::Idle } else { Verdict::Broken(Broken::Stuck) }
        }
        Standing::Over { reason, owed_bytes } => ended(reason, owed_bytes),
    }
}

fn ended(reason: CloseReason, owed_bytes: u64) -> Verdict {
    Verdict::Broken(match reason {
        CloseReason::ClientFin | CloseReason::ClientRst => return Verdict::ClosedByClient,
        CloseReason::ServerFin | CloseReason::ServerRst => return Verdict::ClosedByServer,
        CloseReason::IdleTimeout if owed_bytes == 0 => return Verdict::Idle,
        CloseReason::IdleTimeout => Broken::TimedOutOwing,
        CloseReason::ClientLost => Broken::ClientLost,
        CloseReason::ServerLost => Broken::ServerLost,
        CloseReason::ConnectFailed => Broken::ConnectFailed,
        CloseReason::ConnectTimeout => Broken::ConnectTimeout,
        CloseReason::Killed => Broken::Killed,
        CloseReason::ProxyShutdown => Broken::ProxyShutdown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Passed = Passed { up: 1, down: 1 };
    const UP: Passed = Passed { up: 9, down: 0 };
    const NONE: Passed = Passed { up: 0, down: 0 };

    fn open(owed_bytes: u64, owed_for_ms: u64) -> Standing {
        Standing::Open { owed_bytes, owed_for_ms }
    }

    #[test]
    fn what_passed_both_ways_survived_however_it_ended() {
        for reason in CloseReason::ALL {
            let over = Standing::Over { reason, owed_bytes: 5 };
            assert_eq!(verdict(BOTH, over), Verdict::Survived, "{reason:?}");
        }
        assert_eq!(verdict(BOTH, open(5, 60_000)), Verdict::Survived);
        assert_eq!(verdict(BOTH, Standing::Unknown), Verdict::Survived);
    }

    #[test]
    fn an_open_flow_is_idle_only_where_nothing_waits() {
        assert_eq!(verdict(NONE, open(0, 0)), Verdict::Idle);
        assert_eq!(verdict(NONE, open(1, 0)), Verdict::Broken(Broken::Stuck));
        assert_eq!(verdict(UP, open(1, OWED_MS_MAX - 1)), Verdict::Idle);
        assert_eq!(verdict(UP, open(1, OWED_MS_MAX)), Verdict::Broken(Broken::Stuck));
    }

    #[test]
    fn each_reason_has_its_verdict() {
        for reason in CloseReason::ALL {
            let got = verdict(UP, Standing::Over { reason, owed_bytes: 1 });
            let expected = match reason {
                CloseReason::ClientFin | CloseReason::ClientRst => Verdict::ClosedByClient,
                CloseReason::ServerFin | CloseReason::ServerRst => Verdict::ClosedByServer,
                CloseReason::ClientLost => Verdict::Broken(Broken::ClientLost),
                CloseReason::ServerLost => Verdict::Broken(Broken::ServerLost),
                CloseReason::IdleTimeout => Verdict::Broken(Broken::TimedOutOwing),
                CloseReason::ConnectFailed => Verdict::Broken(Broken::ConnectFailed),
                CloseReason::ConnectTimeout => Verdict::Broken(Broken::ConnectTimeout),
                CloseReason::Killed => Verdict::Broken(Broken::Killed),
                CloseReason::ProxyShutdown => Verdict::Broken(Broken::ProxyShutdown),
            };
            assert_eq!(got, expected, "{reason:?}");
        }
        let idle = Standing::Over { reason: CloseReason::IdleTimeout, owed_bytes: 0 };
        assert_eq!(verdict(NONE, idle), Verdict::Idle);
    }
}
