//! `causeway pki`, from outside; that its bundles work, every other scenario shows.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use scenarios::house::House;
use serde_json::Value;

#[test]
fn a_bundle_says_whose_it_is_and_until_when() {
    let house = House::new();
    let issued = house.causeway(&[
        "pki", "issue", "--pki", "pki", "--site", "b", "--role", "agent", "--name", "hv1", "--out",
        "b-hv1", "--days", "7", "--json",
    ]);
    issued.sound();
    let json: Value = serde_json::from_str(&issued.stdout()).unwrap();
    assert_eq!(json["identity"], "causeway://site/b/role/agent/name/hv1");
    for file in json["files"].as_array().unwrap() {
        assert!(house.path(file.as_str().unwrap()).is_file(), "{file}");
    }
    let mode = |path| fs::metadata(house.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("b-hv1"), mode("b-hv1/key.pem"), mode("pki")), (0o700, 0o600, 0o700));
    assert_eq!((mode("pki/private"), mode("pki/private/ca.key")), (0o700, 0o600));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let house = House::new();
    let before = fs::read(house.path("pki/private/ca.key")).unwrap();
    let again = house.causeway(&["pki", "init", "--out", "pki"]);
    assert_eq!(again.code(), Some(2));
    assert!(again.stderr().contains("pki: exists and is not empty"), "{}", again.stderr());
    assert_eq!(fs::read(house.path("pki/private/ca.key")).unwrap(), before);

    let issue = ["pki", "issue", "--pki", "pki", "--role", "agent", "--name", "x", "--out", "out"];
    for (more, complaint) in [
        (&["--site", "A"][..], "a-z, 0-9 and inner '-'"),
        (&["--site", "a", "--days", "0"], "0 is not in"),
        (&["--site", "a", "--days", "100000"], "more than the CA itself has left"),
        (&[], "--site"),
    ] {
        let ended = house.causeway(&[&issue[..], more].concat());
        assert_eq!(ended.code(), Some(2), "{more:?}");
        assert!(ended.stderr().contains(complaint), "{more:?}: {}", ended.stderr());
    }
    assert!(!house.path("out").exists());
}
