//! The name server at a site of the lab, asked by a client over the site's router.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::sandbox::Launch;
use lab::world::{World, WorldPlan};
use scenarios::running::SOON;
use scenarios::site::eventually;

use crate::server::{AT_A, FILE, config, house};

const FOLDER: &str = "/etc/causeway/names";
const LOG: &str = "gslb";

#[test]
fn a_client_beyond_the_router_is_answered_at_each_address_by_that_address() {
    let plan = WorldPlan { vips: 2, ..WorldPlan::with_sites(&["a"]) };
    let world = World::build(&plan).unwrap();
    let (site, client) = (world.site("a"), world.client(1));
    let vips = [site.vip(1).each(), site.vip(2).each()].concat();

    let house = house();
    let listen: Vec<String> = vips
        .iter()
        .map(|ip| if ip.is_ipv4() { format!("\"{ip}:53\"") } else { format!("\"[{ip}]:53\"") })
        .collect();
    let text = config().replace("\"127.0.0.1:0\", \"[::1]:0\"", &listen.join(", "));
    let write = |relative: &str, bytes: &[u8]| {
        let path = Path::new(FOLDER).join(relative);
        site.place().write_file(&path, bytes).unwrap();
        fs::set_permissions(site.place().path(&path), Permissions::from_mode(0o600)).unwrap();
    };
    write(FILE, text.as_bytes());
    for file in ["ns1/certificate.pem", "ns1/key.pem", "ns1/ca.pem"] {
        write(file, &fs::read(house.path(file)).unwrap());
    }

    let file = format!("{FOLDER}/{FILE}");
    let launch = Launch::ours("causeway-gslb").unwrap();
    let launch = launch.args(["run", "--log-format", "json", "--config", &file]).log(LOG);
    let log = launch.log_path();
    let process = site.proxy().spawn(&launch).unwrap();
    eventually(|| {
        let said = site.place().read_file(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(process.ended().unwrap().is_none(), "it ended: {said}");
        if said.contains("\"message\":\"ready\"") { Ok(()) } else { Err(said) }
    });

    // dig takes no answer that comes from another address than it asked.
    for ip in vips {
        for way in ["+notcp", "+tcp"] {
            let at = format!("@{ip}");
            let asked = ["dig", "-r", &at, "+time=5", "+tries=3", "+short", way];
            let said = client.succeed(&[&asked[..], &["shop.example.net"]].concat()).unwrap();
            assert_eq!(said.trim(), AT_A, "{ip} {way}");
        }
    }
    process.signal(rustix::process::Signal::TERM).unwrap();
    assert!(process.wait(SOON).unwrap().success());
    world.end().unwrap();
}
