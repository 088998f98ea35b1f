use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
    #[serde(default)]
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    port: u16,
}

const GOOD: &str = r#"
site = "a"

[control]
listen = "127.0.0.1:7401"

[identity]
certificate = "certificate.pem"
key = "/etc/causeway/key.pem"
authority = "ca.pem"

[state]
folder = "state"
"#;

fn check(written: Written, problems: &mut Problems<'_>) -> Result<(Basics, Vec<u16>), Told> {
    let Written { site, control, identity, state, log, peers } = written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    Ok((basics?, peers.into_iter().map(|peer| peer.port).collect()))
}

fn parsed(text: &str) -> Result<(Basics, Vec<u16>), ConfigError> {
    parse(Path::new("/etc/causeway/proxy.toml"), text.as_bytes(), check)
}

fn complaint(text: &str) -> String {
    parsed(text).unwrap_err().to_string().replace("/etc/causeway/", "")
}

#[test]
fn a_good_file_is_understood_with_paths_beside_it() {
    let (basics, peers) = parsed(GOOD).unwrap();
    assert_eq!(basics.site.as_str(), "a");
    assert_eq!(basics.identity.certificate, Path::new("/etc/causeway/certificate.pem"));
    assert_eq!(basics.identity.key, Path::new("/etc/causeway/key.pem"));
    assert_eq!(basics.state_folder, Path::new("/etc/causeway/state"));
    assert_eq!((basics.log_level.as_str(), peers.len()), ("info", 0));
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_what_could_stand_there() {
    assert_eq!(
        complaint(&GOOD.replace("listen =", "  tmeout = 1\nlisten =")),
        "proxy.toml:5:3: unknown field 'tmeout'; expected 'listen'"
    );
    assert_eq!(
        complaint(&format!("{GOOD}[log]\nlvl = 1\n")),
        "proxy.toml:15:1: unknown field 'lvl'; expected 'level'"
    );
    assert_eq!(
        complaint(&format!("tmeout = 3{GOOD}")),
        "proxy.toml:1:1: unknown field 'tmeout'; expected one of 'site', 'control', 'identity', \
         'state', 'log', 'peers'"
    );
}

#[test]
fn a_wrong_type_and_a_missing_field_are_named_with_their_place() {
    assert_eq!(
        complaint(&GOOD.replace("\"127.0.0.1:7401\"", "7401")),
        "proxy.toml:5:10: 'control.listen': invalid type: integer '7401'; expected a string"
    );
    assert_eq!(
        complaint(&format!("{GOOD}[[peers]]\nport = 1\n[[peers]]\nport = 65536\n")),
        "proxy.toml:17:8: 'peers.1.port': invalid value: integer '65536'; expected u16"
    );
    assert_eq!(
        complaint(&GOOD.replace("key =", "#")),
        "proxy.toml:7:1: 'identity': field 'key' is missing; add it"
    );
    assert_eq!(complaint(""), "proxy.toml:1:1: field 'site' is missing; add it");
}

#[test]
fn all_problems_are_named_at_once() {
    let text = GOOD
        .replace("\"a\"", "\"A\"\ncolour = 1")
        .replace("127.0.0.1:7401", "localhost")
        .replace("folder =", "size = 1\nfolder =")
        .replace("ca.pem", "");
    let text = format!("{text}[log]\nlevel = \"a=b=c\"\n");
    let complaint = complaint(&text);
    let lines: Vec<&str> = complaint.lines().collect();
    assert_eq!(lines.len(), 6, "{complaint}");
    assert!(lines[0].starts_with("proxy.toml:2:8: 'site': name 'A' has a character"));
    assert!(lines[1].starts_with("proxy.toml:3:1: unknown field 'colour'"));
    assert!(lines[2].starts_with("proxy.toml:6:10: 'control.listen': is no address"));
    assert!(lines[3].starts_with("proxy.toml:11:13: 'identity.authority': is empty"));
    assert!(lines[4].starts_with("proxy.toml:14:1: unknown field 'size'"));
    assert!(lines[5].starts_with("proxy.toml:17:9: 'log.level': is no log level"));
}

#[test]
fn broken_toml_is_named_with_every_place_where_it_breaks() {
    let complaint = complaint("site = \n[control\nlisten = \"x\"\nkey == 1\n");
    let places: Vec<&str> =
        complaint.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert!(places.contains(&"proxy.toml:4:6"), "{complaint}");
    assert!(places.len() >= 3, "{complaint}");
}

#[test]
fn what_is_not_utf8_is_named_with_its_place() {
    let error = parse(Path::new("p.toml"), b"site = \"a\"\nx = \"\xff\"", check).unwrap_err();
    assert!(error.to_string().starts_with("p.toml:2:6: the file is not UTF-8"), "{error}");
}

#[test]
fn columns_count_characters() {
    let complaint = complaint("site = \"a\"\n\"ä\" = { x = 1 }\nb = 2\n");
    assert!(complaint.contains("proxy.toml:2:1: unknown field 'ä'"), "{complaint}");
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let error = read(Path::new("/dev/zero"), check).unwrap_err();
    assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");
    let error = read(Path::new("/nowhere/proxy.toml"), check).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/proxy.toml: cannot be read"));
}

#[test]
fn a_file_that_is_nothing_but_mistakes_has_a_bounded_list() {
    let text: String = (0..10_000).map(|n| format!("x{n} = 1\n")).collect();
    let ConfigError::Invalid { problems, .. } = parsed(&text).unwrap_err() else { panic!() };
    assert_eq!(problems.len(), PROBLEMS_MAX);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(Path::new("p.toml"), &bytes, check);
    }

    #[test]
    fn a_good_file_with_one_piece_replaced_never_panics(
        at in 0..GOOD.len(), length in 0..20_usize, piece in "[\\[\\]{}=\"'.,#a\\n 0-9ä]{0,8}",
    ) {
        let end = (at + length).min(GOOD.len());
        let text = format!("{}{piece}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(ConfigError::Invalid { problems, .. }) = parsed(&text) {
            prop_assert!(!problems.is_empty());
        }
    }
}
