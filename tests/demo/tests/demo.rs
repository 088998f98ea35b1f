//! The demo as it is run, only smaller: what it says at the end, what it leaves, and that it leaves
//! nothing else, however it ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::programs;
use lab::vm_lock;
use ledger::report::Report;
use rustix::process::{Pid, Signal, kill_process};

/// Longest run, beside compilers and after all other tests that run a real VM.
const RUN_MAX: Duration = Duration::from_secs(300 + vm_lock::WAIT_MAX.as_secs());
/// How long the system may take to end what a killed demo had.
const END_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
const FLOWS: u64 = 12;
const SESSIONS: u64 = 2;

/// A process: its number, and when it was started, so that no other is taken for it.
type Known = (u32, String);

/// The demo, as it runs.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
}

impl Demo {
    fn start(words: &[&str]) -> Demo {
        // It looks for its neighbours where it lies itself.
        programs::folder().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-demo"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Demo { child, stdout, said: String::new() }
    }

    /// Reads until a line has this in it.
    #[track_caller]
    fn hears(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before '{text}'; it said {}", self.said);
            self.said += &line;
            if line.contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended: how, and all that it said.
    fn ended(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + RUN_MAX;
        let mut stdout = self.stdout;
        let rest = thread::spawn(move || std::io::read_to_string(&mut stdout).unwrap());
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => {
                    self.child.kill().unwrap();
                    panic!("it does not end; it said {}{}", self.said, rest.join().unwrap());
                }
                None => thread::sleep(LOOK),
            }
        };
        (status, self.said + &rest.join().unwrap())
    }

    /// All that descends from it, in the numbers of this machine.
    fn descendants(&self) -> Vec<Known> {
        let all = processes();
        let mut family = vec![self.child.id()];
        let mut known = 0;
        while known < family.len() {
            let parent = family[known];
            let children = all.iter().filter(|(_, (of, _))| *of == parent);
            family.extend(children.map(|(pid, _)| *pid));
            known += 1;
        }
        family[1..].iter().map(|pid| (*pid, all[pid].1.clone())).collect()
    }
}

/// Every process, with its parent and its start.
fn processes() -> BTreeMap<u32, (u32, String)> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything; what follows its last parenthesis does not.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        Some((pid, (fields[1].parse().ok()?, fields[19].to_owned())))
    })
    .collect()
}

fn all_end(known: &[Known]) {
    let until = Instant::now() + END_MAX;
    loop {
        let now = processes();
        let is_there = |(pid, start): &&Known| now.get(pid).is_some_and(|(_, at)| at == start);
        let left: Vec<&Known> = known.iter().filter(is_there).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "these live on: {left:?}");
        thread::sleep(LOOK);
    }
}

#[test]
fn a_vm_goes_there_and_back_every_flow_survives_and_the_reports_are_left() {
    let out = tempfile::tempdir().unwrap();
    let flows = FLOWS.to_string();
    let words = ["--flows", &flows, "--back", "--out", out.path().to_str().unwrap()];
    let mut demo = Demo::start(&words);
    demo.hears("TCP flows and");
    let known = demo.descendants();
    assert!(known.len() > 10, "{known:?}");
    let (status, said) = demo.ended();
    println!("{said}");
    assert_eq!(status.code(), Some(0));
    all_end(&known);
    assert_eq!(said.matches("Every flow survived.").count(), 2, "of either move");
    assert_eq!(said.matches("$ causeway move web --to").count(), 2);
    assert!(said.contains("$ causeway reclaim web") && said.contains("given back"));

    let files = fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert_eq!(files, ["report-back.html", "report-back.json", "report.html", "report.json"]);
    let later = flows_of(&out.path().join("report-back.json"));
    assert_eq!(flows_of(&out.path().join("report.json")), FLOWS + SESSIONS);
    assert!(later > FLOWS + SESSIONS, "{later}: those who came in between were there as well");
    let page = fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("<html") && page.contains("<svg"), "no page with pictures");
}

/// How many flows a report says were alive, all of which survived.
#[track_caller]
fn flows_of(report: &Path) -> u64 {
    let report = Report::from_json(&fs::read_to_string(report).unwrap()).unwrap();
    let totals = &report.ledger.totals;
    assert!(report.is_clean(), "{totals:?}");
    assert_eq!(totals.survived + totals.idle, totals.flows, "{totals:?}");
    totals.flows
}

#[test]
fn however_it_is_ended_in_the_midst_of_a_move_nothing_lives_on() {
    let out = tempfile::tempdir().unwrap();
    let flows = FLOWS.to_string();
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut demo = Demo::start(&["--flows", &flows, "--out", out.path().to_str().unwrap()]);
        demo.hears("reserve");
        let known = demo.descendants();
        let is_qemu = |(pid, _): &Known| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("qemu-system")
        };
        assert!(known.iter().any(is_qemu), "no QEMU among {known:?}");
        demo.signal(signal);
        let (status, said) = demo.ended();
        assert_eq!(status.code(), code, "{said}");
        all_end(&known);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "a report of what was not finished");
}

#[test]
fn words_that_make_no_sense_are_refused_before_anything_is_done() {
    for (words, named) in [(&["--flows", "0"][..], "--flows"), (&["--bck"], "--bck")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-demo"));
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(named) && output.stdout.is_empty(), "{said}");
    }
}
