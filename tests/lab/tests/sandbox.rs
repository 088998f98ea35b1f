//! A place runs what it is asked to, says truly how it ended, and shares nothing with another.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use lab::LabError;
use lab::sandbox::{Launch, Place, PlacePlan};
use rustix::process::Signal;

const BOUND: Duration = Duration::from_secs(10);

fn place(name: &str) -> Place {
    Place::make(&PlacePlan::named(name)).unwrap()
}

fn shell(script: &str) -> Launch {
    Launch::new("sh").args(["-c", script])
}

#[test]
fn exit_codes_and_signals_are_told_as_they_are() {
    let place = place("truth");
    let host = place.host(None);
    let ended = host.spawn(&shell("exit 7")).unwrap();
    assert_eq!(ended.wait(BOUND).unwrap().code(), Some(7));
    let killed = host.spawn(&shell("exec sleep 100")).unwrap();
    killed.signal(Signal::TERM).unwrap();
    assert_eq!(killed.wait(BOUND).unwrap().signal(), Some(15));
    assert_eq!(killed.kill().unwrap().signal(), Some(15), "an end is final");
}

#[test]
fn pipes_carry_input_and_output_while_the_program_runs() {
    let place = place("pipes");
    let launch = Launch::new("cat").with_stdin().with_stdout();
    let mut cat = place.host(None).spawn(&launch).unwrap();
    let (mut stdin, mut stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    stdin.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    stdout.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    drop(stdin);
    assert!(cat.wait(BOUND).unwrap().success());
    assert_eq!(stdout.read(&mut heard).unwrap(), 0);
}

#[test]
fn a_dropped_handle_ends_its_program_and_not_what_that_started() {
    let place = place("drop");
    let host = place.host(None);
    let launch = shell("setsid sleep 1001 & echo $!; exec sleep 1002").with_stdout();
    let mut parent = host.spawn(&launch).unwrap();
    let mut line = [0; 8];
    let read = parent.stdout.take().unwrap().read(&mut line).unwrap();
    let child = String::from_utf8_lossy(&line[..read]).trim().to_owned();
    let pid = parent.pid_inside();
    drop(parent);
    let exists = |pid: &str| place.path(Path::new("/proc")).join(pid).exists();
    assert!(!exists(&pid.to_string()), "killed and reaped");
    assert!(exists(&child), "a daemon outlives who started it");
}

#[test]
fn orphans_are_reaped_by_the_place() {
    let place = place("orphans");
    let host = place.host(None);
    host.succeed(&["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done"]).unwrap();
    let deadline = std::time::Instant::now() + BOUND;
    loop {
        let processes = std::fs::read_dir(place.path(Path::new("/proc")))
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            })
            .count();
        if processes == 1 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{processes} processes are left");
        std::thread::yield_now();
    }
}

#[test]
fn a_program_that_does_not_exist_is_named_and_the_place_goes_on() {
    let place = place("missing");
    let host = place.host(None);
    for _ in 0..3 {
        let error = host.run(&["/no/such/program"]).unwrap_err();
        assert!(matches!(error, LabError::NotStarted { .. }), "{error}");
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
    let error = place.host(Some("nowhere")).run(&["true"]).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    host.succeed(&["true"]).unwrap();
}

#[test]
fn a_command_that_never_ends_is_killed_at_its_bound() {
    let place = place("bound");
    let bound = Duration::from_millis(100);
    let error = place.host(None).run_with(&["sleep", "1003"], &[], bound).unwrap_err();
    assert!(matches!(error, LabError::TookTooLong { .. }), "{error}");
    let left = place.host(None).succeed(&["sh", "-c", "cat /proc/[0-9]*/cmdline"]).unwrap();
    assert!(!left.contains("1003"), "{left:?}");
}

#[test]
fn nothing_of_the_harness_leaks_into_a_program() {
    let place = place("leaks");
    let host = place.host(None);
    let open = host.succeed(&["ls", "/proc/self/fd"]).unwrap();
    // The fourth is that of the folder being listed.
    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let env = host.succeed(&["env"]).unwrap();
    assert!(env.lines().all(|line| line.starts_with("PATH=")), "{env}");
}

#[test]
fn each_host_has_a_network_of_its_own_and_the_test_can_open_sockets_there() {
    let place = place("networks");
    place.add_hosts(&["one", "two"]).unwrap();
    let (one, two) = (place.host(Some("one")), place.host(Some("two")));
    let bind = || UdpSocket::bind("127.0.0.1:4000");
    let first = one.inside(bind).unwrap().unwrap();
    let second = two.inside(bind).unwrap().unwrap();
    assert!(one.inside(bind).unwrap().is_err(), "the port is taken there");
    first.send_to(b"x", "127.0.0.1:4000").unwrap();
    second.set_nonblocking(true).unwrap();
    assert!(second.recv(&mut [0; 1]).is_err());
    let listeners = one.succeed(&["ss", "-H", "-l", "-n", "-u"]).unwrap();
    assert!(listeners.contains("127.0.0.1:4000"), "{listeners}");
}

#[test]
fn places_share_neither_files_nor_processes_nor_sockets_nor_names() {
    let (a, b) = (place("share-a"), place("share-b"));
    let image = Path::new("/var/lib/causeway/vm.img");
    a.write_file(image, "disk of A").unwrap();
    for folder in
        ["/run", "/tmp", "/var/tmp", "/dev/shm", "/etc", "/etc/causeway", "/var/log/causeway"]
    {
        a.write_file(&Path::new(folder).join("causeway-lab-mark"), "A").unwrap();
        let there = b.path(&Path::new(folder).join("causeway-lab-mark"));
        assert!(!there.exists(), "{there:?}");
        assert!(!Path::new(folder).join("causeway-lab-mark").exists(), "{folder}");
    }
    let in_b = b.host(None);
    assert!(!in_b.run(&["test", "-e", "/var/lib/causeway/vm.img"]).unwrap().status.success());
    assert_eq!(a.host(None).succeed(&["uname", "-n"]).unwrap().trim(), "share-a");
    assert_eq!(in_b.succeed(&["uname", "-n"]).unwrap().trim(), "share-b");

    let _sleeper = a.host(None).spawn(&Launch::new("sleep").arg("1004")).unwrap();
    let seen = in_b.succeed(&["sh", "-c", "cat /proc/[0-9]*/cmdline"]).unwrap();
    assert!(!seen.contains("1004"), "{seen:?}");

    let listen = || {
        use std::os::linux::net::SocketAddrExt;
        let name = std::os::unix::net::SocketAddr::from_abstract_name("causeway-lab-test")?;
        std::os::unix::net::UnixListener::bind_addr(&name)
    };
    let _abstract_at_a = a.host(None).inside(listen).unwrap().unwrap();
    let sockets = in_b.succeed(&["ss", "-H", "-l", "-x", "-n"]).unwrap();
    assert!(!sockets.contains("causeway-lab-test"), "{sockets}");
    assert!(in_b.inside(listen).unwrap().is_ok(), "the name is free at B");
}

#[test]
fn what_places_share_is_read_only_and_devices_work() {
    let place = place("read-only");
    let host = place.host(None);
    for folder in ["/usr", "/root", "/", "/dev"] {
        let mark = format!("{folder}/causeway-lab-mark");
        let output = host.run(&["touch", &mark]).unwrap();
        assert!(!output.status.success(), "{mark} was written");
    }
    host.succeed(&["ip", "tuntap", "add", "tap0", "mode", "tap"]).unwrap();
    let lab = lab::programs::path("causeway-lab").unwrap();
    host.succeed(&[lab.to_str().unwrap(), "--version"]).unwrap();
}

#[test]
fn a_kept_folder_shows_below_a_covered_one_and_is_read_only_too() {
    // Places cover /tmp; both of these folders are below it.
    let (kept, hidden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&kept, &hidden] {
        std::fs::write(folder.path().join("kernel"), "image").unwrap();
    }
    let plan = PlacePlan { kept: vec![kept.path().to_owned()], ..PlacePlan::named("kept") };
    let host = Place::make(&plan).unwrap().host(None);
    let inside = |folder: &tempfile::TempDir| folder.path().join("kernel").display().to_string();
    assert_eq!(host.succeed(&["cat", &inside(&kept)]).unwrap(), "image");
    assert!(!host.run(&["cat", &inside(&hidden)]).unwrap().status.success());
    assert!(!host.run(&["touch", &inside(&kept)]).unwrap().status.success());
}

#[test]
fn an_ended_place_says_so_and_takes_every_process_along() {
    let place = place("ended");
    let host = place.host(None);
    let process = host.spawn(&shell("setsid sleep 1005 & exec sleep 1006")).unwrap();
    let root = place.path(Path::new("/"));
    place.end().unwrap();
    assert!(!root.join("proc").exists());
    assert!(matches!(process.wait(BOUND).unwrap_err(), LabError::PlaceEnded { .. }));
    assert!(matches!(host.run(&["true"]).unwrap_err(), LabError::PlaceEnded { .. }));
}
