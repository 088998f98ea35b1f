//! What an orchestrator says of a VM, and what becomes of answers.

use std::time::{SystemTime, UNIX_EPOCH};

use placement::Role;
use rustix::process::Signal;

use crate::server::{
    AT_A, AT_B, NameServer, address_in, asker, authority, house, question, refused,
};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_move_shortens_the_ttl_steers_and_restores() {
    let house = house();
    let server = NameServer::start(&house).await;
    let began_s = now_s();
    let short = server.shorten(2).await.unwrap();
    let answer = server.dig(&["+noall", "+answer", "shop.example.net"]).await;
    assert_eq!(answer.trim(), format!("shop.example.net.\t5\tIN\tA\t{AT_A}"));
    // The last answer that lives for 300 s may have been given just now.
    let until_s = short.outdated_until_s.unwrap();
    assert!((began_s + 300..=now_s() + 303).contains(&until_s), "{until_s} from {began_s}");

    let steered = server.steer(2, "b").await.unwrap();
    assert!(steered.serial > short.serial);
    assert_eq!(steered.outdated_until_s, Some(until_s));
    let [name] = &steered.names[..] else { panic!("{steered:?}") };
    assert_eq!((name.name.as_str(), name.site.as_str()), ("shop.example.net", "b"));
    let answer = server.dig(&["+noall", "+answer", "shop.example.net"]).await;
    assert_eq!(answer.trim(), format!("shop.example.net.\t5\tIN\tA\t{AT_B}"));
    let v6 = server.dig(&["+short", "shop.example.net", "AAAA"]).await;
    assert_eq!(v6.trim(), "2001:db8:b::80");
    let soa = server.dig(&["+short", "example.net", "SOA"]).await;
    assert!(soa.contains(&format!(" {} ", steered.serial)), "{soa}");

    // The same again is answered the same, and changes nothing.
    assert_eq!(server.steer(2, "b").await.unwrap(), steered);
    let restored = server.restore(2).await.unwrap();
    assert!(restored.serial > steered.serial);
    let answer = server.dig(&["+noall", "+answer", "shop.example.net"]).await;
    assert_eq!(answer.trim(), format!("shop.example.net.\t300\tIN\tA\t{AT_B}"));

    let names = server.asked(Role::Viewer, async |client| client.names().await).await.unwrap();
    assert_eq!((names.serial, &names.names), (restored.serial, &restored.names));
    assert_eq!(names.vms[0].place.as_ref().unwrap().as_str(), "b");
}

#[tokio::test]
async fn stale_orders_are_refused_also_after_a_restart_and_the_place_is_kept() {
    let house = house();
    let mut server = NameServer::start(&house).await;
    server.shorten(5).await.unwrap();
    let steered = server.steer(5, "b").await.unwrap();
    for round in ["first", "killed"] {
        let older = refused(server.steer(4, "a").await, 409);
        assert_eq!(older.code, "stale_epoch", "{round}");
        let foreign = server.steer_as(Role::Orchestrator, authority(5, 9), "a").await;
        assert_eq!(refused(foreign, 409).code, "stale_epoch", "{round}");
        assert_eq!(refused(server.steer(5, "a").await, 409).code, "stale_epoch", "{round}");
        assert_eq!(refused(server.steer(6, "c").await, 422).code, "no_address", "{round}");
        let answer = server.dig(&["+noall", "+answer", "shop.example.net"]).await;
        assert_eq!(answer.trim(), format!("shop.example.net.\t5\tIN\tA\t{AT_B}"), "{round}");
        if round == "first" {
            server.running.signal(Signal::KILL);
            server.running.ended().await;
            server = NameServer::start(&house).await;
        }
    }
    // A repetition over the restart is answered as at first, but for the serial of the start.
    let again = server.steer(5, "b").await.unwrap();
    assert!(again.serial > steered.serial);
    assert_eq!((again.names, again.epoch), (steered.names, steered.epoch));
    // What was refused raised no epoch; a later one goes back.
    assert_eq!(server.steer(6, "a").await.unwrap().names[0].site.as_str(), "a");
}

#[tokio::test]
async fn each_role_may_what_the_table_says_and_no_more() {
    let house = house();
    let server = NameServer::start(&house).await;
    for role in Role::ALL {
        let looks = matches!(role, Role::Viewer | Role::Operator | Role::Orchestrator);
        let reloads = matches!(role, Role::Operator | Role::Orchestrator);
        let drives = role == Role::Orchestrator;
        let answers = [
            (looks, server.asked(role, async |client| client.status().await).await.err()),
            (looks, server.asked(role, async |client| client.names().await).await.err()),
            (looks, server.asked(role, async |client| client.metrics().await).await.err()),
            (reloads, server.asked(role, async |client| client.reload().await).await.err()),
            (drives, server.steer_as(role, authority(2, 1), "b").await.err()),
        ];
        for (number, (may, error)) in answers.into_iter().enumerate() {
            match error {
                None => assert!(may, "{role} was served call {number}"),
                Some(error) if may => panic!("{role} was refused call {number}: {error}"),
                Some(error) => assert_eq!(refused::<()>(Err(error), 403).code, "wrong_role"),
            }
        }
    }
}

/// Askers ask without end; whatever they ask after an order was confirmed is answered by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_older_than_a_confirmed_order() {
    const MOVES: u64 = 20;
    let house = house();
    let server = NameServer::start(&house).await;
    for epoch in 2..2 + MOVES {
        let (to, address) = if epoch % 2 == 0 { ("b", AT_B) } else { ("a", AT_A) };
        // Questions are on their way, and in the server's hands, while the order is.
        let askers: Vec<_> = server.dns.iter().map(|dns| asker(*dns)).collect();
        for socket in askers.iter().cycle().take(64) {
            socket.send(&question()).unwrap();
        }
        server.steer(epoch, to).await.unwrap();
        for dns in &server.dns {
            let socket = asker(*dns);
            socket.send(&question()).unwrap();
            let mut answer = [0; 512];
            // Of IPv6 as well: the question is for A.
            let length = socket.recv(&mut answer).unwrap();
            assert_eq!(address_in(&answer[..length]), address, "move {epoch}");
        }
    }
}
