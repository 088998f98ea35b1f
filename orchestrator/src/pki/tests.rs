use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A day in the middle of nowhere in particular: nothing here asks the clock.
fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

fn hv1() -> Identity {
    "causeway://site/a/role/agent/name/hv1".parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder with a CA in `pki`.
fn with_authority() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    init(&home.path().join("pki"), today()).unwrap();
    home
}

#[test]
fn a_ca_lies_apart_from_its_key_and_both_are_their_owners() {
    let home = with_authority();
    let pki = home.path().join("pki");
    assert_eq!(names(&pki), ["ca.pem", "private"]);
    assert_eq!(names(&pki.join("private")), ["ca.key"]);
    for (path, wanted) in [("", 0o700), ("private", 0o700), ("private/ca.key", 0o600)] {
        assert_eq!(mode(&pki.join(path)), wanted, "{path}");
    }
}

#[test]
fn a_bundle_holds_one_parts_key_and_a_certificate_with_its_one_uri() {
    let home = with_authority();
    let out = home.path().join("a-hv1");
    let written = issue(&home.path().join("pki"), &hv1(), 30, &out, today()).unwrap();
    assert_eq!(names(&out), ["ca.pem", "certificate.pem", "key.pem"]);
    assert_eq!((mode(&out), mode(&out.join("key.pem"))), (0o700, 0o600));
    let authority = fs::read(home.path().join("pki/ca.pem")).unwrap();
    assert_eq!(fs::read(out.join("ca.pem")).unwrap(), authority);

    let pem = fs::read(out.join("certificate.pem")).unwrap();
    let (_, block) = parse_x509_pem(&pem).unwrap();
    let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI("causeway://site/a/role/agent/name/hv1")]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(!certificate.is_ca());
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), 20_000 * 86_400 - 3_600);
    assert_eq!(validity.not_after.timestamp(), 20_030 * 86_400);
    assert_eq!(written.as_json()["valid_until"], "2024-11-03 00:00 UTC");
    let (_, ca) = parse_x509_pem(&authority).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca.contents).unwrap();
    certificate.verify_signature(Some(ca.public_key())).unwrap();
}

#[test]
fn nothing_is_ever_overwritten() {
    let home = with_authority();
    let pki = home.path().join("pki");
    let before = fs::read(pki.join("private/ca.key")).unwrap();
    assert!(matches!(init(&pki, today()), Err(PkiError::Exists { .. })));
    assert!(matches!(issue(&pki, &hv1(), 30, &pki, today()), Err(PkiError::Exists { .. })));
    let file = home.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(init(&file, today()), Err(PkiError::Exists { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(fs::read(pki.join("private/ca.key")).unwrap(), before);
    assert_eq!(names(home.path()), ["file", "pki"]);

    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    init(&empty, today()).unwrap();
    assert_eq!(mode(&empty), 0o700);
}

#[test]
fn a_failure_leaves_nothing_half_written() {
    let home = with_authority();
    let pki = home.path().join("pki");
    let entry = |path| folder::Entry { path, mode: folder::PUBLIC, content: String::new() };
    // The second entry cannot be written: the first is a file where it needs a folder.
    let failed = folder::create(&home.path().join("out"), &[entry("x"), entry("x/y")]);
    assert!(matches!(failed, Err(PkiError::System { .. })));
    let nowhere = home.path().join("no/out");
    assert!(matches!(issue(&pki, &hv1(), 30, &nowhere, today()), Err(PkiError::Nowhere { .. })));
    assert_eq!(names(home.path()), ["pki"]);
}

#[test]
fn no_certificate_outlives_its_ca() {
    let home = with_authority();
    let (pki, out) = (home.path().join("pki"), home.path().join("out"));
    let later = today() + 3_600 * DAY;
    for days in [51, 365, u32::MAX] {
        let error = issue(&pki, &hv1(), days, &out, later).unwrap_err();
        assert!(error.to_string().contains("use --days 50 or less"), "{error}");
    }
    issue(&pki, &hv1(), 50, &out, later).unwrap();
    let ended = today() + 3_650 * DAY;
    let error = issue(&pki, &hv1(), 1, &out, ended).unwrap_err();
    assert!(matches!(error, PkiError::Ended { .. }), "{error}");
}

#[test]
fn what_is_no_ca_signs_nothing() {
    let home = with_authority();
    let (pki, out) = (home.path().join("pki"), home.path().join("out"));
    let refusal = |pki: &Path| issue(pki, &hv1(), 30, &out, today()).unwrap_err().to_string();
    assert!(refusal(&home.path().join("nothing")).contains("(it does not exist)"));

    let other = home.path().join("other");
    init(&other, today()).unwrap();
    fs::copy(pki.join("ca.pem"), other.join("ca.pem")).unwrap();
    assert!(refusal(&other).contains("private/ca.key is not its key"));

    let key = pki.join("private/ca.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let refused = refusal(&pki);
    assert!(refused.contains("mode 0640") && refused.contains("chmod 600"), "{refused}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();

    let leaf = home.path().join("leaf");
    issue(&pki, &hv1(), 30, &leaf, today()).unwrap();
    fs::copy(leaf.join("certificate.pem"), pki.join("ca.pem")).unwrap();
    fs::copy(leaf.join("key.pem"), &key).unwrap();
    assert!(refusal(&pki).contains("it is the certificate of no CA"));
    assert!(!out.exists());
}
