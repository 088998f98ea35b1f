//! Who gets in, and what each role may.

use std::sync::Arc;

use daemon::identity::ConnectError;
use placement::{Identity, Role};
use proxy_api::CallError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use scenarios::house::House;
use scenarios::running::{Running, SOON, read_to_end};
use scenarios::strangers::{Papers, Signer, without_papers};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const VIEWER: &str = "causeway://site/a/role/viewer/name/eve";

#[tokio::test]
async fn a_viewer_sees_how_the_proxy_is() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let status = proxy.status(Role::Viewer).await.unwrap();
    assert_eq!(status.identity, house.proxy());
    assert_eq!(status.generation, 1);
    assert!(!status.version.is_empty());

    // The connection of the call before may take a moment to be gone.
    let alone = async {
        loop {
            let metrics = proxy.metrics(Role::Viewer).await.unwrap();
            if metrics.contains("causeway_control_connections 1\n") {
                return metrics;
            }
        }
    };
    let metrics = timeout(SOON, alone).await.expect("connections that have ended are not counted");
    for line in [
        "causeway_build_info{program=\"causeway-proxy\",version=\"",
        "causeway_uptime_seconds ",
        "causeway_config_generation 1",
        "causeway_control_calls_total{route=\"/v1/status\",status=\"200\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn each_role_may_what_the_table_says_and_no_more() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    for role in Role::ALL {
        let looks = matches!(role, Role::Viewer | Role::Operator | Role::Orchestrator);
        let reloads = matches!(role, Role::Operator | Role::Orchestrator);
        let answers = [
            (looks, proxy.status(role).await.err()),
            (looks, proxy.metrics(role).await.err()),
            (reloads, proxy.reload(role).await.err()),
        ];
        for (may, refused) in answers {
            match refused {
                None => assert!(may, "{role} was served"),
                Some(CallError::Refused { status: 403, refusal }) if !may => {
                    assert_eq!(refusal.code, "wrong_role");
                    let (message, remedy) = (refusal.message, refusal.remedy);
                    assert!(message.contains(&format!("has role {role}, which may not")));
                    assert!(remedy.contains("operator or orchestrator"), "{remedy}");
                }
                Some(error) => panic!("{role}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn papers_that_are_not_in_order_are_refused_in_the_handshake() {
    let house = House::new();
    let mut proxy = Running::start(&house).await;
    let ours = |papers: Papers| papers.signed(&house, Signer::Ours);
    let two = [VIEWER, "causeway://site/a/role/operator/name/eve"];
    let strangers = [
        (without_papers(), "no certificate"),
        (Papers::of(&[VIEWER]).signed(&house, Signer::Foreign), "another CA"),
        (ours(Papers::of(&[])), "no URI"),
        (ours(Papers::of(&two)), "two URIs"),
        (ours(Papers::of(&[VIEWER, VIEWER])), "one URI twice"),
        (ours(Papers::of(&["spiffe://a/viewer"])), "a foreign URI"),
        (ours(Papers::of(&["causeway://site/a/role/root/name/eve"])), "no role of ours"),
        (ours(Papers::of(&[VIEWER]).expired()), "expired"),
        (ours(Papers::of(&[VIEWER]).for_servers()), "for servers only"),
    ];
    let count = strangers.len();
    for (config, why) in strangers {
        let heard = ask_as(&proxy, config).await;
        assert_eq!(heard, "", "{why}: was answered");
        proxy.event("caller refused").await;
    }
    // The same way of asking is answered once the papers are in order.
    let heard = ask_as(&proxy, ours(Papers::of(&[VIEWER]))).await;
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    let metrics = proxy.metrics(Role::Viewer).await.unwrap();
    let refused = format!("causeway_control_handshakes_refused_total {count}");
    assert!(metrics.contains(&refused), "no {refused} in\n{metrics}");
}

/// What a caller with this TLS hears when it asks for the status.
async fn ask_as(proxy: &Running<'_>, config: ClientConfig) -> String {
    let stream = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    let name = ServerName::try_from("stranger.invalid").expect("a name");
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let Ok(mut stream) = timeout(SOON, handshake).await.expect("the handshake ends") else {
        return String::new();
    };
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    // In TLS 1.3 a caller hears of its refusal only when it goes on.
    let _ = stream.write_all(request).await;
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn a_caller_refuses_a_proxy_that_is_not_the_one_it_means() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let papers = house.papers(Role::Orchestrator);
    for other in [
        "causeway://site/a/role/proxy/name/p2",
        "causeway://site/b/role/proxy/name/p1",
        "causeway://site/a/role/agent/name/p1",
    ] {
        let expected: Identity = other.parse().unwrap();
        let error = proxy.connect(&papers, &expected).await.unwrap_err();
        let ConnectError::Wrong(wrong) = error else { panic!("{error}") };
        assert_eq!((wrong.expected, wrong.found), (expected, house.proxy()));
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_apart() {
    let house = House::new();
    let proxy = Running::start(&house).await;
    let said = async |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        proxy.said(Role::Viewer, request.as_bytes()).await
    };
    for path in ["/", "/v1", "/v1/status/", "/v1/statu", "/v1/status/x", "/../metrics", "/%2e"] {
        let heard = said(&format!("GET {path}")).await;
        assert!(heard.starts_with("HTTP/1.1 404 "), "{path}: {heard}");
        assert!(heard.contains("\"code\":\"unknown_path\""), "{heard}");
    }
    let heard = said("DELETE /v1/status").await;
    assert!(heard.starts_with("HTTP/1.1 405 "), "{heard}");
    assert!(heard.contains("allow: GET\r\n"), "{heard}");
    assert!(heard.contains("\"remedy\":\"use GET\""), "{heard}");
    let heard = said("GET /v1/status?verbose=1").await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}
