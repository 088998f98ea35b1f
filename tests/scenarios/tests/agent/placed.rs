//! The VM at a site, as the operator starts it and as its host shows it: its process, its disk, its
//! records, and what is left of it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use guest::control::Control;
use guest::records::check::check_image;
use guest::service::READY;
use guest::settings::CONTROL_PORT;
use lab::image::console::{self, Came};
use lab::snapshot::{Allowance, Kind, Snapshot};
use lab::world::{Site, addresses};
use orchestrator_api::VmDefinition;

use crate::asking::vm;
use crate::crew::{RECORDS_START, WAIT_MAX, guest, until};
use crate::service::Service;

const DISKS: &str = "/var/lib/causeway/disks";

/// Has the operator start the VM here, and waits until it serves.
pub(crate) fn start(service: &Service, at: &Site) {
    start_as(service, at, &guest(at));
}

/// The same, as it is defined.
pub(crate) fn start_as(service: &Service, at: &Site, definition: &VmDefinition) {
    let file = service.file_of(definition);
    let words = ["vm", "start", "web", "--site", at.name(), "--definition", &file];
    service.says(&words, 0);
    until("the guest serves", || {
        let console = fs::read(process_folder(at)?.join("console")).ok()?;
        String::from_utf8_lossy(&console).contains(READY).then_some(())
    });
    // Said again, it is there.
    service.says(&words, 0);
}

/// The VM runs here, whole.
pub(crate) fn arrived(site: &Site) {
    let synced = synced_records(site);
    let records = check_image(&disk(site), RECORDS_START).unwrap();
    println!("{}: {records}", site.name());
    assert!(records.is_one_boot() && records.records >= synced, "{records}, {synced} synced");
    until("the VM speaks", || {
        let path = process_folder(site)?.join("console");
        let console = fs::read(path).ok()?;
        let console = String::from_utf8_lossy(&console);
        console::check(&console, Came::Moving).is_ok().then_some(())
    });
}

/// Of the moves here: no process, tap, socket or disk; the records alone, and, where the VM has been,
/// the disk that waits to be reclaimed.
pub(crate) fn nothing_left(site: &Site, before: &Snapshot, has_been: bool) {
    let mut allowed = vec![
        Allowance::new("the record", Kind::File, "/var/lib/causeway/agent/"),
        Allowance::new("the claim", Kind::File, "/var/lib/causeway/proxy/"),
        Allowance::new("what was said of names", Kind::File, "/var/lib/causeway/gslb/"),
    ];
    if has_been {
        let aside = format!("{DISKS}/{}.moved-", vm());
        allowed.push(Allowance::new("the disk set aside", Kind::File, &aside));
    }
    until("nothing is left", || {
        let difference = before.compare(&Snapshot::take(site.place()).unwrap(), &allowed);
        let is_clean = difference.unexplained.is_empty();
        if !is_clean {
            println!("{}: {difference}", site.name());
        }
        is_clean.then_some(())
    });
}

pub(crate) fn disk(site: &Site) -> PathBuf {
    process_folder(site).unwrap().join("disk0")
}

/// Of the VM's one process at a site; which move made it, and who ordered that, are in its name.
fn process_folder(site: &Site) -> Option<PathBuf> {
    let disks = site.place().path(DISKS.as_ref());
    let folders = fs::read_dir(disks).ok()?.flatten().map(|entry| entry.path());
    let (start, aside) = (format!("{}.", vm()), format!("{}.moved-", vm()));
    let mut of_process = folders.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && !name.starts_with(&aside)
    });
    let found = of_process.next();
    assert!(of_process.next().is_none(), "two processes of one VM have files at {}", site.name());
    found
}

/// Records that the guest knows to be on its disk.
pub(crate) fn synced_records(site: &Site) -> u64 {
    let address = SocketAddr::new(addresses::vm(1).ip.v4.into(), CONTROL_PORT);
    let connect = || Control::connect(address, WAIT_MAX);
    let mut control = site.neighbour(1).inside(connect).unwrap().unwrap();
    control.counters().unwrap().records.unwrap().synced
}
