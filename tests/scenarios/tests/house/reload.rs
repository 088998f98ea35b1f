//! A reload swaps whole, or changes nothing and says why.

use std::fs;

use placement::Role;
use proxy_api::CallError;
use rustix::process::Signal;
use scenarios::house::{CONFIG, House};
use scenarios::running::{Running, read_to_end};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_good_reload_takes_configuration_and_certificates() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let before = proxy.status(Role::Viewer).await.unwrap();
    let mut standing = proxy.connected(Role::Viewer).await;

    house.issue("renewed", Role::Proxy, "p1", 90);
    house.configure(&CONFIG.replace("p1/", "renewed/"));
    assert_eq!(proxy.reload(Role::Operator).await.unwrap().generation, 2);
    let after = proxy.status(Role::Viewer).await.unwrap();
    assert_eq!(after.generation, 2);
    assert!(after.certificate_valid_until_s > before.certificate_valid_until_s + 59 * 86_400);

    // A connection that stood before the reload goes on.
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    standing.write_all(request).await.unwrap();
    assert!(read_to_end(&mut standing).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_new_ca_decides_over_the_next_handshake() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let old = house.papers(Role::Viewer);
    // All papers are made anew under another CA, in the same places.
    for folder in ["pki", "p1", "caller-viewer"] {
        fs::remove_dir_all(house.path(folder)).unwrap();
    }
    house.causeway(&["pki", "init", "--out", "pki"]).sound();
    house.issue("p1", Role::Proxy, "p1", 30);
    proxy.signal(Signal::HUP);
    let mut proxy = proxy;
    proxy.event("reload taken").await;
    proxy.connect(&old, &house.proxy()).await.unwrap_err();
    assert_eq!(proxy.status(Role::Viewer).await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_bad_reload_changes_nothing_and_says_why() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let bad = CONFIG.replace("[log]", "[log]\ncolour = 1");
    house.configure(&bad);
    proxy.signal(Signal::HUP);
    let event = proxy.event("reload refused; all runs on as before").await;
    let why = event["why"].as_str().unwrap();
    assert!(why.contains("proxy.toml:15:1: unknown field 'colour'"), "{why}");

    let refusal = refused(&proxy, 422).await;
    assert_eq!(refusal.code, "bad_config");
    assert!(refusal.message.contains("proxy.toml:15:1: unknown field 'colour'"));

    house.configure(CONFIG);
    fs::write(house.path("p1/key.pem"), "no key").unwrap();
    assert_eq!(refused(&proxy, 422).await.code, "bad_credentials");
    // Still admitted, still answered: the old certificates are in force.
    assert_eq!(proxy.status(Role::Viewer).await.unwrap().generation, 1);
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_as_that() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    house.issue("p2", Role::Proxy, "p2", 30);
    for (text, field) in [
        (CONFIG.replace("127.0.0.1:0", "127.0.0.1:7401"), "control.listen"),
        (CONFIG.replace("p1/", "p2/"), "identity.certificate"),
        (CONFIG.replace("\"state\"", "\"other\""), "state.folder"),
    ] {
        house.configure(&text);
        let refusal = refused(&proxy, 409).await;
        assert_eq!(refusal.code, "needs_restart");
        assert!(refusal.message.contains(field), "{}", refusal.message);
        assert!(refusal.message.contains("needs a restart"), "{}", refusal.message);
    }
    house.configure(CONFIG);
    assert_eq!(proxy.reload(Role::Operator).await.unwrap().generation, 2);
}

#[tokio::test]
async fn the_log_level_follows_the_configuration() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    house.configure(&CONFIG.replace("\"info\"", "\"error\""));
    assert_eq!(proxy.reload(Role::Operator).await.unwrap().generation, 2);
    house.configure(CONFIG);
    assert_eq!(proxy.reload(Role::Operator).await.unwrap().generation, 3);
    // The second generation was silent about itself: the first event is the third's.
    assert_eq!(proxy.event("reload taken").await["generation"], 3);
}

async fn refused(proxy: &Running<'_>, wanted: u16) -> proxy_api::Refusal {
    match proxy.reload(Role::Operator).await {
        Err(CallError::Refused { status, refusal }) if status == wanted => refusal,
        other => panic!("not refused with {wanted}: {other:?}"),
    }
}
