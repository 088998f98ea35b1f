//! The control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use wan::{Change, ClientError, Counters, LINE_BYTES_MAX, Pair, Reply};

use crate::sandbox::Namespace;
use crate::world::{PATIENCE, Program, World, port, refusal};

fn say(stream: &mut BufReader<UnixStream>, line: &str) -> Reply {
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    heard(stream)
}

fn heard(stream: &mut BufReader<UnixStream>) -> Reply {
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

fn connect(world: &World) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(&world.emulator.control).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// All that control can change.
fn state(counters: &Counters) -> Vec<(wan::Settings, bool)> {
    counters.directions.iter().map(|d| (d.settings, d.is_cut)).collect()
}

#[test]
fn what_is_not_understood_is_refused_and_changes_nothing() {
    let world = World::new(2, "delay_us=1");
    let before = state(&world.counters());
    let mut stream = connect(&world);
    for (line, named) in [
        ("", "not a request"),
        ("hello", "not a request"),
        (r#"{"do":"explode"}"#, "explode"),
        (r#"{"do":"cut","pair":{"from":"a","to":"x"}}"#, "'x'"),
        (r#"{"do":"cut","pair":{"from":"a","to":"a"}}"#, "'a'"),
        (
            r#"{"do":"set","pair":{"from":"a","to":"b"},"change":{"delay_us":5,"loss_ppm":1000001}}"#,
            "loss_ppm",
        ),
        (r#"{"do":"set","pair":{"from":"a","to":"b"},"change":{"speed":5}}"#, "speed"),
    ] {
        let Reply::Refused { reason } = say(&mut stream, line) else {
            panic!("not refused: {line}")
        };
        assert!(reason.contains(named), "{line}: {reason}");
    }
    assert_eq!(state(&world.counters()), before);
}

#[test]
fn a_line_that_is_too_long_ends_its_connection_and_no_other() {
    let world = World::new(2, "delay_us=1");
    let (mut patient, mut endless) = (connect(&world), connect(&world));
    let longest = format!(r#"{{"do":"counters"{}}}"#, " ".repeat(LINE_BYTES_MAX - 18));
    assert_eq!(longest.len() + 1, LINE_BYTES_MAX);
    assert!(matches!(say(&mut endless, &longest), Reply::Counted { .. }));
    endless.get_mut().write_all(&vec![b' '; LINE_BYTES_MAX + 1]).unwrap();
    let Reply::Refused { reason } = heard(&mut endless) else { panic!("not refused") };
    assert!(reason.contains("4096"), "{reason}");
    assert_eq!(endless.read_line(&mut String::new()).unwrap(), 0, "closed");
    assert!(matches!(say(&mut patient, r#"{"do":"counters"}"#), Reply::Counted { .. }));
}

#[test]
fn settings_change_in_the_directions_that_were_named() {
    let world = World::new(3, "delay_us=1");
    let mut client = world.client();
    let change = Change { delay_us: Some(9), rate_bits_per_s: Some(1000), ..Change::default() };
    client.set(&Pair::both_ways("a", "c").unwrap(), change).unwrap();
    client.cut(&Pair::one_way("b", "a").unwrap()).unwrap();
    let counters = client.counters().unwrap();
    for direction in &counters.directions {
        let ports = (direction.from.as_str(), direction.to.as_str());
        let is_named = matches!(ports, ("a", "c") | ("c", "a"));
        assert_eq!(direction.settings.delay_ns(), if is_named { 9000 } else { 1000 }, "{ports:?}");
        assert_eq!(direction.settings.rate_bits_per_s().is_some(), is_named, "{ports:?}");
        assert_eq!(direction.is_cut, ports == ("b", "a"), "{ports:?}");
    }
    assert_eq!(counters.seed, 11);
    client.heal(&Pair::both_ways("a", "b").unwrap()).unwrap();
    assert!(client.counters().unwrap().directions.iter().all(|direction| !direction.is_cut));
}

#[test]
fn the_socket_is_its_owners_alone() {
    let world = World::new(2, "delay_us=1");
    let mode = world.emulator.control.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
    let world = World::new(2, "delay_us=1");
    let site = Namespace::new().unwrap();
    let path = site.path().display().to_string();
    let second = port(1, &path).replace(":wan0:", ":wan1:");
    let words = ["--port".to_owned(), port(0, &path), "--port".to_owned(), second];
    let said = refusal(&world.emulator.control, &words);
    assert!(said.contains("in use"), "{said}");
    world.client().counters().unwrap();

    let dead = world.folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let emulator = Program::start(dead.clone(), &words);
    wan::Client::connect(&dead).unwrap().counters().unwrap();
    drop(emulator);
}

#[test]
fn one_client_too_many_is_told_so() {
    let world = World::new(2, "delay_us=1");
    // Each is served before the next comes, so that the order of acceptance is theirs.
    let mut clients: Vec<_> = (0..16).map(|_| connect(&world)).collect();
    for client in &mut clients {
        assert!(matches!(say(client, r#"{"do":"counters"}"#), Reply::Counted { .. }));
    }
    let Reply::Refused { reason } = heard(&mut connect(&world)) else { panic!("not refused") };
    assert!(reason.contains("16"), "{reason}");
}

#[test]
fn the_program_asks_too() {
    let world = World::new(2, "delay_us=1");
    let ask = |request: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-wan"));
        command.arg("ask").arg(&world.emulator.control).arg(request).output().unwrap()
    };
    let output = ask(r#"{"do":"counters"}"#);
    assert!(output.status.success());
    let reply: Reply = serde_json::from_slice(&output.stdout).unwrap();
    assert!(matches!(reply, Reply::Counted { .. }));
    let output = ask(r#"{"do":"cut","pair":{"from":"a","to":"x"}}"#);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("'x'"));
}

#[test]
fn a_client_says_who_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody.sock");
    let error = wan::Client::connect(&path).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.to_string().contains("nobody.sock"), "{error}");
}
