use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::pki::LEAF_DAYS;

const EXAMPLES: [&str; 2] = ["two-sites", "three-sites"];

/// The papers are read back by the service, which asks the clock.
fn now() -> SystemTime {
    SystemTime::now()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).join("causeway.toml")
}

fn made(name: &str) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    init(&example(name), &out, LEAF_DAYS, now()).unwrap();
    (home, out)
}

/// Every file below a folder, by its path in it, with its permission bits.
fn files(root: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, mode);
            }
        }
    }
    found
}

fn read(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn each_part_has_its_own_key_and_the_cas_lies_apart() {
    for name in EXAMPLES {
        let (_home, out) = made(name);
        let files = files(&out);
        let keys: Vec<_> = files.iter().filter(|(name, _)| name.ends_with("key.pem")).collect();
        let sites = read(&example(name))["site"].as_array().unwrap().len();
        assert_eq!(keys.len(), 3 * sites + 2, "{files:?}");
        assert!(keys.iter().all(|(_, mode)| **mode == 0o600), "{keys:?}");
        let different: std::collections::BTreeSet<_> =
            keys.iter().map(|(name, _)| fs::read(out.join(name)).unwrap()).collect();
        assert_eq!(different.len(), keys.len());
        let ca: Vec<_> = files.iter().filter(|(name, _)| name.ends_with("ca.key")).collect();
        assert_eq!(ca, [(&"authority/private/ca.key".to_owned(), &0o600)]);
    }
}

#[test]
fn exactly_one_of_each_pair_of_proxies_dials() {
    let (_home, out) = made("three-sites");
    let dials = |site: &str| -> Vec<(String, Option<String>)> {
        let config = read(&out.join(format!("sites/{site}/proxy-p1/proxy.toml")));
        let peers = config["tunnel"]["peer"].as_array().unwrap().iter();
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        peers.map(|peer| (text(&peer["identity"]), peer.get("dial").map(text))).collect()
    };
    let p1 = |site| format!("causeway://site/{site}/role/proxy/name/p1");
    let at = |site: u8| Some(format!("10.10{site}.0.2:7403"));
    assert_eq!(dials("a"), [(p1("b"), None), (p1("c"), None)]);
    assert_eq!(dials("b"), [(p1("a"), at(1)), (p1("c"), None)]);
    assert_eq!(dials("c"), [(p1("a"), at(1)), (p1("b"), at(2))]);
}

#[test]
fn one_that_nobody_reaches_dials_all() {
    let home = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(example("three-sites")).unwrap();
    let hidden = home.path().join("causeway.toml");
    fs::write(&hidden, text.replacen("tunnel = \"10.101.0.2:7403\"", "#", 1)).unwrap();
    let out = home.path().join("out");
    init(&hidden, &out, LEAF_DAYS, now()).unwrap();
    let tunnel =
        |site: &str| read(&out.join(format!("sites/{site}/proxy-p1/proxy.toml")))["tunnel"].clone();
    let dialled: Vec<bool> = tunnel("a")["peer"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer.get("dial").is_some())
        .collect();
    assert_eq!((tunnel("a").get("listen"), &dialled[..]), (None, &[true, true][..]));
    for site in ["b", "c"] {
        assert_eq!(tunnel(site)["peer"][0].get("dial"), None);
    }
}

#[test]
fn channels_end_in_the_folder_that_agent_and_proxy_share() {
    let (_home, out) = made("two-sites");
    let proxy = read(&out.join("sites/b/proxy-p1/proxy.toml"));
    let agent = read(&out.join("sites/b/agent-hv1/agent.toml"));
    let sockets = agent["folders"]["sockets"].as_str().unwrap();
    assert_eq!(proxy["tunnel"]["entrances"].as_str(), Some(sockets));
    for (number, channel) in ["disk", "memory"].into_iter().enumerate() {
        let permit = &proxy["tunnel"]["permit"][number];
        assert_eq!(permit["channel"].as_str(), Some(channel));
        let target = format!("unix:{sockets}/{{vm}}.{{epoch}}.{channel}");
        assert_eq!(permit["target"].as_str(), Some(&target[..]));
    }
    let network = &agent["network"][0];
    assert_eq!(network["proxy_address"], proxy["control"]["listen"]);
}

#[test]
fn an_operator_can_start_the_vms_that_are_described() {
    let (_home, out) = made("two-sites");
    let text = fs::read_to_string(out.join("sites/hq/operator-ada/web.toml")).unwrap();
    let definition: orchestrator_api::VmDefinition = toml::from_str(&text).unwrap();
    assert_eq!(definition.name.as_str(), "web");
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing() {
    let (home, out) = made("two-sites");
    let before = files(home.path());
    let key = fs::read(out.join("authority/private/ca.key")).unwrap();
    let error = init(&example("three-sites"), &out, LEAF_DAYS, now()).unwrap_err();
    assert!(matches!(error, InitError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("nothing is overwritten"), "{error}");

    let wrong = home.path().join("wrong.toml");
    fs::write(&wrong, "site = 4\n").unwrap();
    let other = home.path().join("other");
    let error = init(&wrong, &other, LEAF_DAYS, now()).unwrap_err();
    assert!(matches!(error, InitError::Description(_)), "{error}");
    // The CA is made already when it is found that certificates would outlive it.
    let error = init(&example("two-sites"), &other, u32::MAX, now()).unwrap_err();
    assert!(matches!(error, InitError::Pki(PkiError::Outlives { .. })), "{error}");
    fs::remove_file(wrong).unwrap();
    assert_eq!(files(home.path()), before);
    assert_eq!(fs::read(out.join("authority/private/ca.key")).unwrap(), key);

    let nowhere = home.path().join("no/out");
    let error = init(&example("two-sites"), &nowhere, LEAF_DAYS, now()).unwrap_err();
    assert!(error.to_string().contains("mkdir -p"), "{error}");
}

#[test]
fn what_is_said_names_every_file_there_is() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    let said = init(&example("two-sites"), &out, LEAF_DAYS, now() - Duration::from_secs(60));
    let said = said.unwrap();
    let told = said.as_json();
    let mut named: Vec<String> = told["parts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|part| part["files"].as_array().unwrap())
        .map(|file| file.as_str().unwrap().to_owned())
        .collect();
    named.sort();
    let sites = files(&out.join("sites"));
    let there: Vec<String> = sites
        .keys()
        .map(|name| out.join("sites").join(name).to_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, there);
    let text = said.to_string();
    assert!(
        text.contains("causeway-proxy run --config /etc/causeway/proxy-p1/proxy.toml"),
        "{text}"
    );
}

#[test]
fn a_site_that_is_added_leaves_every_key_as_it_was() {
    let (home, out) = made("two-sites");
    let keys = |root: &Path| -> BTreeMap<String, Vec<u8>> {
        let secret = |name: &String| name.ends_with("key.pem") || name.ends_with("ca.key");
        let names = files(root).into_keys().filter(secret);
        names.map(|name| (name.clone(), fs::read(root.join(&name)).unwrap())).collect()
    };
    let (keys_before, files_before) = (keys(&out), files(&out));
    let added = add(&example("three-sites"), &out, LEAF_DAYS, now()).unwrap();

    let keys_after = keys(&out);
    assert!(keys_before.iter().all(|(name, key)| keys_after[name] == *key));
    assert_eq!(keys_after.len(), keys_before.len() + 3);
    assert!(files(&out).values().all(|mode| [0o600, 0o644].contains(mode)));
    assert_eq!(files(&home.path().join("out.before")), files_before);
    let config = read(&out.join("sites/a/proxy-p1/proxy.toml"));
    assert_eq!(config["tunnel"]["peer"].as_array().unwrap().len(), 2);
    let change = |identity: &str| {
        let found = added.parts.iter().find(|part| part.identity.to_string() == identity);
        found.unwrap().change
    };
    assert_eq!(change("causeway://site/c/role/agent/name/hv1"), Change::New);
    assert_eq!(change("causeway://site/a/role/proxy/name/p1"), Change::Changed);
    assert_eq!(change("causeway://site/a/role/agent/name/hv1"), Change::Same);

    let again = add(&example("three-sites"), &out, LEAF_DAYS, now()).unwrap_err();
    assert!(matches!(again, InitError::InTheWay { .. }), "{again}");
    assert_eq!(names(home.path()), ["out", "out.before"]);
}

#[test]
fn adding_takes_nothing_away_and_needs_something_to_add_to() {
    let (home, out) = made("three-sites");
    let before = files(home.path());
    let error = add(&example("two-sites"), &out, LEAF_DAYS, now()).unwrap_err();
    assert!(
        matches!(&error, InitError::Undescribed { path } if path.starts_with(out.join("sites/c"))),
        "{error}"
    );
    let error = add(&example("two-sites"), home.path(), LEAF_DAYS, now()).unwrap_err();
    assert!(matches!(error, InitError::NothingThere { .. }), "{error}");
    assert_eq!(files(home.path()), before);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
