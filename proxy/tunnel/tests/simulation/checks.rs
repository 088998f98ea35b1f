//! What must hold at every step, and what must have come of every script.

use tunnel::protocol::refusal::ResetReason;
use tunnel::protocol::session::Ending;

use crate::world::World;

impl World {
    pub(crate) fn check_bounds(&self) {
        for end in self.ends.values() {
            let streams_max = usize::from(self.limits.streams_max) * 2;
            assert!(end.session.streams().count() <= streams_max);
            for state in end.session.streams() {
                assert!(state.send_kept_bytes <= u64::from(self.limits.send_buffer_bytes));
                assert!(state.receive_kept_bytes <= u64::from(self.limits.window_bytes));
            }
        }
    }

    pub(crate) fn count(&mut self) {
        for end in self.ends.values() {
            self.counts.resumptions += end.session.tally().resumptions;
        }
        let restarted = self.restarted;
        for (key, script) in self.scripts.iter().enumerate() {
            let [opener, other] = &script.outcome;
            match opener.ending.expect("run() waits for it") {
                Ending::Complete => {
                    self.counts.complete += 1;
                    assert_eq!([other.read, opener.read], script.lengths, "script {key}");
                    assert!(opener.read_end && other.read_end, "script {key}: {script:?}");
                    // A restart may take the last word of a stream with it, never a byte.
                    let agreed = other.ending == Some(Ending::Complete);
                    assert!(agreed || restarted, "script {key}: {script:?}");
                    assert!(script.permitted);
                }
                Ending::Refused(_) => {
                    self.counts.refused += 1;
                    assert!(!script.permitted, "script {key}: {script:?}");
                }
                Ending::Reset { reason, .. } => {
                    self.counts.reset += 1;
                    let wanted = script.reset_after.is_some() && reason == ResetReason::Program;
                    let cut_off = reason == ResetReason::Unanswered && self.counts.cuts > 0;
                    assert!(wanted || cut_off || restarted, "script {key}: {script:?}");
                    // The opener may give up when all is said but the last word.
                    let all = opener.read_end && [other.read, opener.read] == script.lengths;
                    let both = all || other.ending != Some(Ending::Complete);
                    assert!(both || restarted, "script {key}: {script:?}");
                }
            }
        }
    }
}
