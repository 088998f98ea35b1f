//! What is answered, over both families and both transports.

use placement::Role;
use rustix::process::Signal;

use crate::server::{AT_A, FILE, NameServer, config, dig, house, program, refused};

#[tokio::test]
async fn a_name_is_answered_alike_over_every_way_there_is() {
    let house = house();
    let server = NameServer::start(&house).await;
    assert_eq!(server.dns.len(), 2);
    for address in &server.dns {
        for way in ["+notcp", "+tcp"] {
            let said = dig(*address, &[way, "sHoP.Example.NET", "A"]).await;
            for line in [
                "status: NOERROR",
                "flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1",
                "; EDNS: version: 0, flags:; udp: 1232",
                "sHoP.Example.NET.\t300\tIN\tA\t192.0.2.80",
            ] {
                assert!(said.contains(line), "{address} {way}: no {line} in {said}");
            }
            let v6 = dig(*address, &[way, "+short", "shop.example.net", "AAAA"]).await;
            assert_eq!(v6.trim(), "2001:db8:a::80");
        }
    }
    let alias = server.dig(&["+short", "www.example.net"]).await;
    assert_eq!(alias.lines().collect::<Vec<&str>>(), ["shop.example.net.", AT_A]);
    let ns = server.dig(&["example.net", "NS"]).await;
    assert!(ns.contains("ns1.example.net.\t3600\tIN\tA\t192.0.2.10"), "{ns}");
}

#[tokio::test]
async fn what_is_not_there_or_not_ours_is_said_so() {
    let house = house();
    let server = NameServer::start(&house).await;
    let soa = format!(
        "example.net.\t\t5\tIN\tSOA\tns1.example.net. hostmaster.example.net. {} 3600 600 604800 5",
        server.status().await.serial
    );
    for (arguments, status, denied) in [
        (&["missing.example.net"][..], "NXDOMAIN", true),
        (&["shop.example.net", "TXT"], "NOERROR", true),
        (&["example.org"], "REFUSED", false),
        (&["-c", "CH", "version.bind", "TXT"], "REFUSED", false),
        (&["+opcode=NOTIFY", "example.net", "SOA"], "NOTIMP", false),
        (&["+edns=1", "+noednsneg", "shop.example.net"], "BADVERS", false),
    ] {
        let said = server.dig(arguments).await;
        assert!(said.contains(&format!("status: {status}")), "{arguments:?}: {said}");
        assert_eq!(said.contains(&soa), denied, "{arguments:?}: {said}");
        assert!(!said.contains(" ra"), "{arguments:?}: {said}");
    }
    let metrics = server.asked(Role::Viewer, async |client| client.metrics().await).await.unwrap();
    for labels in [
        "transport=\"udp\",type=\"A\",outcome=\"no_name\"} 1",
        "transport=\"udp\",type=\"TXT\",outcome=\"no_data\"} 1",
        "transport=\"udp\",type=\"none\",outcome=\"not_implemented\"} 1",
        "transport=\"udp\",type=\"A\",outcome=\"bad_version\"} 1",
    ] {
        let line = format!("causeway_dns_queries_total{{{labels}");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_had_over_tcp() {
    let house = house();
    let server = NameServer::start(&house).await;
    let question = ["text.long.example", "TXT"];
    let cut = server.dig(&[&["+ignore", "+noedns"][..], &question].concat()).await;
    assert!(cut.contains("flags: qr aa tc rd; QUERY: 1, ANSWER: 0"), "{cut}");
    let whole = server.dig(&[&["+short"][..], &question].concat()).await;
    assert_eq!(whole.lines().filter(|line| line.contains("xxx")).count(), 8, "{whole}");
}

#[tokio::test]
async fn a_reload_is_taken_whole_or_not_at_all_and_forgets_nothing() {
    let house = house();
    let mut server = NameServer::start(&house).await;
    server.steer(2, "b").await.unwrap();
    let steered = server.dig(&["+short", "shop.example.net"]).await;
    let before = server.status().await;

    house.configure_as(FILE, &config().replace("[[steered]]", "[[steered]]\nplace = \"most\""));
    server.running.signal(Signal::HUP);
    let event = server.running.event("reload refused; all runs on as before").await;
    let why = event["why"].as_str().unwrap();
    assert!(why.contains("gslb.toml:26:9: 'steered.0.place': rule 'most' is not offered"), "{why}");
    let reload = async || server.asked(Role::Operator, async |client| client.reload().await).await;
    assert_eq!(refused(reload().await, 422).code, "bad_config");
    // Site b is where the name is: its addresses cannot go.
    let without_b = config().replace("site = \"b\"", "site = \"c\"");
    house.configure_as(FILE, &without_b);
    let refusal = refused(reload().await, 409);
    assert_eq!(refusal.code, "contradicts_steering");
    assert!(refusal.message.contains("'shop.example.net' is to be at site b"), "{refusal:?}");
    house.configure_as(FILE, &config().replace("[::1]:0", "[::1]:1053"));
    assert_eq!(refused(reload().await, 409).code, "needs_restart");
    assert_eq!(server.status().await.serial, before.serial);

    house.configure_as(FILE, &config().replace("192.0.2.10", "192.0.2.11"));
    assert_eq!(reload().await.unwrap().generation, 2);
    assert_eq!(server.dig(&["+short", "ns1.example.net"]).await.trim(), "192.0.2.11");
    assert_eq!(server.dig(&["+short", "shop.example.net"]).await, steered);
    assert!(server.status().await.serial > before.serial);
}

#[test]
fn check_says_what_was_understood_and_starts_nothing() {
    let house = house();
    let check = |arguments: &[&str]| {
        let mut command = std::process::Command::new(program());
        command.arg("check").arg("--config").arg(house.path(FILE)).args(arguments);
        command.output().unwrap()
    };
    let said = check(&[]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success(), "{text}");
    assert!(text.contains("shop.example.net: where all of [web-1] run, one of [a b]"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(json["steered"][0]["sites"][1]["v4"][0], "198.51.100.80");

    house.configure_as(FILE, &config().replace("ttl_moving_s", "ttl_moving"));
    let wrong = check(&[]);
    assert_eq!(wrong.status.code(), Some(2));
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert!(text.contains("unknown field 'ttl_moving'"), "{text}");
    assert!(!house.path("gslb-state").exists());
}
