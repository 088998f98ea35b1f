//! What happens because time passes: pings, silence, greetings and opens that nobody answers, and
//! outages that last too long.

use super::Session;
use super::connections::{Conn, ConnId, Stage};
use super::events::Lost;
use crate::protocol::bounds::{GREETING_MS_MAX, OPEN_MS_MAX, PING_MS, SILENCE_MS_MAX};
use crate::protocol::moment::Moment;
use crate::protocol::refusal::ResetReason;
use crate::protocol::stream::{Phase, Stream};
use crate::protocol::wire::Lane;

impl Session {
    /// When [`Session::tick`] has something to do next. None while there is neither a connection
    /// nor a stream.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let conns = self.conns.iter().map(|(_, conn)| conn_deadline(conn));
        let streams = self.streams.values().filter_map(|entry| self.stream_deadline(entry));
        conns.chain(streams.map(|(at, _)| at)).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) {
        let due = |at: Moment| at <= now;
        let conns = self.conns.iter().filter(|(_, conn)| due(conn_deadline(conn)));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<ConnId>>() {
            self.tick_conn(conn, now);
        }
        let late = self.streams.iter().filter_map(|(stream, entry)| {
            let (at, reason) = self.stream_deadline(entry)?;
            due(at).then_some((*stream, reason))
        });
        for (stream, reason) in late.collect::<Vec<_>>() {
            self.reset(stream, reason, now);
        }
        self.wakes.deadline = true;
    }

    /// Whether control is down for longer than streams wait.
    pub(super) fn outage_is_over_long(&self, now: Moment) -> bool {
        let control = self.conns.lane(Lane::Control);
        let bound = control.down_since.after_ms(self.limits.resume_ms_max);
        control.current.is_none() && bound <= now
    }

    fn tick_conn(&mut self, conn: ConnId, now: Moment) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.stage != Stage::Up || entry.heard.after_ms(SILENCE_MS_MAX) <= now {
            self.close(conn, Lost::Silent, now);
            return;
        }
        // Not when it leaves but now, or a connection that takes nothing would be due for ever.
        entry.said = now;
        entry.ping = true;
        let lane = entry.lane;
        self.wakes.lane(lane);
    }

    fn stream_deadline(&self, entry: &Stream) -> Option<(Moment, ResetReason)> {
        let unanswered = (entry.phase == Phase::Asking)
            .then(|| (entry.begun.after_ms(OPEN_MS_MAX), ResetReason::Unanswered));
        let lanes = [Lane::Control, Lane::Bulk(entry.bulk)].map(|lane| self.conns.lane(lane));
        let down = lanes.into_iter().filter(|lane| lane.current.is_none());
        let outage = down.map(|lane| {
            let since = lane.down_since.max(entry.begun);
            (since.after_ms(self.limits.resume_ms_max), ResetReason::Outage)
        });
        outage.chain(unanswered).min_by_key(|(at, _)| *at)
    }
}

fn conn_deadline(conn: &Conn) -> Moment {
    match conn.stage {
        Stage::Up => conn.heard.after_ms(SILENCE_MS_MAX).min(conn.said.after_ms(PING_MS)),
        Stage::Calling | Stage::Welcomed { .. } => conn.begun.after_ms(GREETING_MS_MAX),
    }
}
