//! How the emulator begins and ends.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::Namespace;
use crate::world::{Program, World, eventually, port, refusal, set_up, socket, v4};

fn has_device(site: &Namespace) -> bool {
    site.ip(&["link", "show", "wan0"]).is_ok()
}

fn assert_nothing_stays(world: &World) {
    eventually("the devices are gone", || !world.sites.iter().any(has_device));
}

#[test]
fn it_ends_with_whoever_holds_its_standard_input() {
    let mut world = World::new(2, "delay_us=1");
    assert!(world.sites.iter().all(has_device));
    world.emulator.let_go();
    assert!(world.emulator.ended().success());
    assert_nothing_stays(&world);
    assert!(!world.emulator.control.exists());
}

#[test]
fn it_ends_on_sigterm_with_its_devices() {
    let mut world = World::new(2, "delay_us=1");
    let id = Pid::from_raw(world.emulator.id().cast_signed()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert!(!world.emulator.ended().success());
    assert_nothing_stays(&world);
}

#[test]
fn it_ends_when_asked_and_answers_before() {
    let mut world = World::new(2, "delay_us=1");
    let mut bystander = world.client();
    world.client().quit().unwrap();
    assert!(world.emulator.ended().success());
    assert!(bystander.counters().is_err());
    assert_nothing_stays(&world);
    assert!(!world.emulator.control.exists());
}

#[test]
fn a_device_may_be_moved_and_renamed_while_it_runs() {
    let (hub, a, b) =
        (Namespace::new().unwrap(), Namespace::new().unwrap(), Namespace::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let words = [
        "--port".to_owned(),
        port(0, &hub.path().display().to_string()).replace(":wan0:", ":first0:"),
        "--port".to_owned(),
        port(1, &b.path().display().to_string()),
    ];
    let emulator = Program::start(folder.path().join("wan.sock"), &words);
    hub.ip(&["link", "set", "first0", "netns", a.path().to_str().unwrap(), "name", "wan0"])
        .unwrap();
    set_up(0, &a);
    set_up(1, &b);
    let world = World { emulator, sites: vec![a, b], folder };
    let (near, far) = (socket(&world.sites[0], &v4(0)), socket(&world.sites[1], &v4(1)));
    near.send_to(b"moved", far.local_addr().unwrap()).unwrap();
    assert_eq!(far.recv(&mut [0; 16]).unwrap(), 5);
    let counters = world.audited();
    assert_eq!(counters.direction("a", "b").unwrap().delivery.delivered.packets, 1);
}

#[test]
fn a_deleted_device_ends_it_with_its_name() {
    let mut world = World::new(2, "delay_us=1");
    world.sites[1].ip(&["link", "delete", "wan0"]).unwrap();
    assert!(!world.emulator.ended().success());
    assert_nothing_stays(&world);
}

#[test]
fn what_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let site = Namespace::new().unwrap();
    let path = site.path().display().to_string();
    let ports =
        |first: String, second: String| ["--port".to_owned(), first, "--port".to_owned(), second];
    let control = folder.path().join("wan.sock");

    let said = refusal(&control, &ports(port(0, &path), port(1, "/run/netns/no-such")));
    assert!(said.contains("port 'b'") && said.contains("/run/netns/no-such"), "{said}");

    let said = refusal(&control, &ports(port(0, &path), port(1, &path)));
    assert!(said.contains("port 'b'") && said.contains("'wan0'"), "the name is taken: {said}");

    let nowhere = folder.path().join("no").join("such").join("folder");
    let second = port(1, &path).replace(":wan0:", ":wan1:");
    let said = refusal(&nowhere, &ports(port(0, &path), second));
    assert!(said.contains(nowhere.to_str().unwrap()), "{said}");
    assert!(!has_device(&site));
}

#[test]
fn its_help_teaches() {
    let program = env!("CARGO_BIN_EXE_causeway-wan");
    let output = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("--port a=") && help.contains("causeway-wan ask"), "{help}");
}
