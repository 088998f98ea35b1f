//! A harness that is killed, with no chance to clean up, leaves nothing on the machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const END: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

struct Harness {
    child: Child,
    /// Its places' first processes, by the machine's numbers.
    inits: Vec<u32>,
}

/// Names are this test's own, so that whatever is left of it can be told from all else.
fn start(sites: &[String; 2]) -> Harness {
    let mut command = Command::new(lab::programs::path("causeway-lab").unwrap());
    command
        .args(["world", "--sites", &sites.join(",")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut harness = Harness { child: command.spawn().unwrap(), inits: Vec::new() };
    let lines = BufReader::new(harness.child.stdout.take().unwrap()).lines();
    for line in lines.map(Result::unwrap) {
        if line.starts_with("ready") {
            return harness;
        }
        if let Some((name, rest)) = line.split_once(": nsenter -t ")
            && !name.starts_with(' ')
        {
            harness.inits.push(rest.split(' ').next().unwrap().parse().unwrap());
        }
    }
    let ended = harness.child.wait().unwrap();
    panic!("the harness ended before its world stood: {ended}");
}

fn inode(path: impl AsRef<Path>) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Every namespace of the kinds that a place has, that is not the machine's own.
fn namespaces(inits: &[u32]) -> BTreeSet<(&'static str, u64)> {
    let mut found = BTreeSet::new();
    for init in inits {
        for kind in ["pid", "mnt", "net", "ipc", "uts"] {
            let theirs = inode(format!("/proc/{init}/ns/{kind}")).unwrap();
            assert_ne!(Some(theirs), inode(format!("/proc/self/ns/{kind}")), "{kind} is shared");
            found.insert((kind, theirs));
        }
        for entry in fs::read_dir(format!("/proc/{init}/root/run/netns")).unwrap() {
            found.insert(("net", inode(entry.unwrap().path()).unwrap()));
        }
    }
    found
}

/// Which processes of the machine are in one of these namespaces, hold one open, or have the mark
/// on their command line.
fn left(namespaces: &BTreeSet<(&'static str, u64)>, mark: &str) -> Vec<String> {
    let is_ours = |pid: u32| {
        let inside = ["pid", "mnt", "net", "ipc", "uts"].into_iter().any(|kind| {
            inode(format!("/proc/{pid}/ns/{kind}"))
                .is_some_and(|at| namespaces.contains(&(kind, at)))
        });
        let holds = fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
            fds.flatten().any(|fd| {
                let target = fs::read_link(fd.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                let number = target.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
                number.is_some_and(|number| {
                    number.parse().is_ok_and(|number| namespaces.contains(&("net", number)))
                })
            })
        });
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        inside || holds || String::from_utf8_lossy(&words).contains(mark)
    };
    processes()
        .filter(|pid| is_ours(*pid))
        .map(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " "))
        })
        .collect()
}

/// Whatever of the machine's own shows the mark: links, mounts, namespaces with a name.
fn traces(mark: &str) -> Vec<String> {
    let tool = |command: &[&str]| {
        let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = [
        tool(&["ip", "-d", "link"]),
        tool(&["ip", "netns"]),
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
    ];
    let lines = all.iter().flat_map(|text| text.lines());
    lines.filter(|line| line.contains(mark)).map(ToOwned::to_owned).collect()
}

#[test]
fn a_killed_harness_leaves_no_process_namespace_or_link() {
    let mark = format!("k{}", std::process::id());
    let sites = [format!("{mark}-a"), format!("{mark}-b")];
    let mut harness = start(&sites);
    let namespaces = namespaces(&harness.inits);
    // Two sites, clients, wan, management: four host namespaces in a site besides the place's own.
    assert!(namespaces.len() >= 5 * 5 + 2 * 4 + 2, "{namespaces:?}");
    // A program of a site that has left its session, started behind the harness's back.
    let init = harness.inits[0].to_string();
    let inside = ["-t", &init, "-m", "-p", "-n", "setsid", "-f", "sleep", "100000"];
    assert!(Command::new("nsenter").args(inside).status().unwrap().success());
    let before = left(&namespaces, &mark);
    assert!(before.iter().any(|line| line.contains("sleep 100000")), "{before:?}");
    assert!(before.iter().any(|line| line.contains("causeway-wan")), "{before:?}");
    assert_eq!(traces(&mark), Vec::<String>::new(), "nothing shows while it stands, either");

    harness.child.kill().unwrap();
    harness.child.wait().unwrap();
    let deadline = Instant::now() + END;
    loop {
        let left = left(&namespaces, &mark);
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "still there: {left:#?}");
        std::thread::sleep(LOOK);
    }
    assert_eq!(traces(&mark), Vec::<String>::new());
}

#[test]
fn a_harness_whose_input_ends_takes_its_world_along() {
    let mark = format!("e{}", std::process::id());
    let mut harness = start(&[format!("{mark}-a"), format!("{mark}-b")]);
    let namespaces = namespaces(&harness.inits);
    drop(harness.child.stdin.take());
    let deadline = Instant::now() + END;
    let ended = loop {
        if let Some(status) = harness.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the harness runs on without its input");
        std::thread::sleep(LOOK);
    };
    assert!(ended.success());
    assert_eq!(left(&namespaces, &mark), Vec::<String>::new());
    assert_eq!(traces(&mark), Vec::<String>::new());
}
