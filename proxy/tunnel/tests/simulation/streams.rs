//! Streams: opened, asked for, and moved by programs that act only when woken.

use tunnel::protocol::grants::Ask;
use tunnel::protocol::refusal::ResetReason;
use tunnel::protocol::session::{Ending, Read};
use tunnel::protocol::wire::StreamId;

use crate::program::Program;
use crate::world::{Happening, World, grant, site_name};

impl World {
    pub(crate) fn open_stream(&mut self, key: usize) {
        let script = self.scripts[key].clone();
        let (site, peer) = (script.from, script.to);
        let ask =
            Ask { grant: grant(key, &script), wanted: None, compress: !key.is_multiple_of(3) };
        let now = self.moment();
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Ok(stream) = end.session.open(ask, now) else {
            self.at(100_000, Happening::Begin { script: key });
            return;
        };
        self.begin_program(site, peer, stream, key, 0);
        self.settle(site, peer);
    }

    pub(crate) fn begin_program(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        end: usize,
    ) {
        let program = Program { script: key, end, written: 0, ended: false, scheduled: true };
        self.ends.get_mut(&(site, peer)).unwrap().programs.insert(stream, program);
        let delay = self.dice.skewed(2_000);
        self.at(delay, Happening::Act { site, peer, stream });
    }

    pub(crate) fn asked(&mut self, site: usize, peer: usize, stream: StreamId, ask: &Ask) {
        let key = ask.grant.vm.as_str().trim_start_matches("vm").parse().unwrap();
        let admitted =
            self.grants[site].admit(ask, &site_name(peer).parse().unwrap(), &self.permits);
        let now = self.moment();
        let session = &mut self.ends.get_mut(&(site, peer)).unwrap().session;
        match admitted {
            Ok(_) => match session.accept(stream, true, now) {
                Ok(()) => self.begin_program(site, peer, stream, key, 1),
                // The opener gave up before this end could answer; that event follows.
                Err(_) => {
                    let reset = Ending::Reset { reason: ResetReason::Program, by_peer: true };
                    self.scripts[key].outcome[1].ending = Some(reset);
                }
            },
            Err(refusal) => {
                session.refuse(stream, refusal, now);
                self.scripts[key].outcome[1].ending = Some(Ending::Refused(refusal));
            }
        }
    }

    /// A program does some of what it can; it comes again by itself only if it left some.
    pub(crate) fn act(&mut self, site: usize, peer: usize, stream: StreamId) {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(program) = end.programs.get_mut(&stream) else { return };
        program.scheduled = false;
        let (key, which) = (program.script, program.end);
        let mut left = self.act_read(site, peer, stream, key, which);
        left |= self.act_write(site, peer, stream, key, which);
        let reset = self.scripts[key].reset_after.filter(|_| which == 0);
        if reset.is_some_and(|after| self.scripts[key].outcome[0].read >= after) {
            self.with(site, peer, |session, now| session.reset(stream, ResetReason::Program, now));
        }
        let stall = self.dice.one_in(40);
        let delay = if stall { self.dice.below(800_000) } else { self.dice.skewed(2_000) };
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        if let Some(program) = end.programs.get_mut(&stream).filter(|program| !program.scheduled) {
            program.scheduled = left;
            if left {
                self.at(delay, Happening::Act { site, peer, stream });
            }
        }
    }

    pub(crate) fn act_read(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        which: usize,
    ) -> bool {
        let read = self.with(site, peer, |session, _| session.read(stream));
        match read {
            Ok(Read::Bytes(bytes)) => {
                let most = self.dice.skewed(200_000) as usize;
                let taken = &bytes[..bytes.len().min(most)];
                let script = &mut self.scripts[key];
                script.check(key, which, script.outcome[which].read, taken);
                script.outcome[which].read += taken.len() as u64;
                let count = taken.len();
                self.with(site, peer, |session, _| session.deliver(stream, count)).unwrap();
                true
            }
            Ok(Read::End) => {
                let outcome = &mut self.scripts[key].outcome[which];
                assert!(!outcome.read_end, "the end came twice");
                outcome.read_end = true;
                self.with(site, peer, |session, now| session.deliver_end(stream, now)).unwrap();
                true
            }
            Ok(Read::Nothing | Read::Finished) | Err(_) => false,
        }
    }

    pub(crate) fn act_write(
        &mut self,
        site: usize,
        peer: usize,
        stream: StreamId,
        key: usize,
        which: usize,
    ) -> bool {
        let end = self.ends.get_mut(&(site, peer)).unwrap();
        let Some(program) = end.programs.get(&stream) else { return false };
        let (written, ended) = (program.written, program.ended);
        let length = self.scripts[key].lengths[which];
        if ended {
            return false;
        }
        if written == length {
            end.programs.get_mut(&stream).unwrap().ended = true;
            self.with(site, peer, |session, _| session.finish(stream)).unwrap();
            return false;
        }
        let size = self.dice.skewed(150_000).min(length - written) as usize;
        let bytes = self.scripts[key].bytes(key, which, written, size);
        let taken = self.with(site, peer, |session, _| session.write(stream, bytes)).unwrap();
        if let Some(program) = self.ends.get_mut(&(site, peer)).unwrap().programs.get_mut(&stream) {
            program.written += taken as u64;
        }
        self.counts.window_full += u64::from(taken < size);
        taken == size
    }
}
