//! A WAN that fails costs time, and nothing else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use tunnel::driver::{ChannelOptions, TunnelEvent};
use tunnel::protocol::bounds::{Limits, SILENCE_MS_MAX};

use crate::data::{Data, blocks, bytes, check, send};
use crate::sites::{Sites, seen, soon};

const TOTAL: u64 = 200_000_000;
const CUT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_pass_a_cut_of_five_seconds_on_the_same_connections() {
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let options = ChannelOptions { compress: true, wanted: None };
    let (near, far) = sites.joined("mirror", &options).await;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (count, answers) = (blocks(TOTAL), blocks(TOTAL / 10));
    let forth = tokio::spawn(send(near_write, Data::mixed(1), count));
    let back = tokio::spawn(send(far_write, Data::noise(2), answers));
    let there = tokio::spawn(check(far_read, Data::mixed(1), count));
    let here = tokio::spawn(check(near_read, Data::noise(2), answers));

    let before = sites.wan.carried_bytes();
    crate::sites::until(|| sites.wan.carried_bytes() > before + TOTAL / 8).await;
    sites.wan.fall_silent();
    seen(&mut sites.at_a, |event| matches!(event, TunnelEvent::Lost { .. })).await;
    assert!(!there.is_finished() && !forth.is_finished(), "the cut came too late");
    sleep(CUT.saturating_sub(Duration::from_millis(SILENCE_MS_MAX))).await;
    sites.wan.break_and_heal();
    seen(&mut sites.at_a, |event| matches!(event, TunnelEvent::Resumed { .. })).await;
    for task in [forth, back, there, here] {
        soon(task).await.unwrap();
    }

    let ended = seen(&mut sites.at_a, |event| matches!(event, TunnelEvent::ChannelEnded { .. }));
    let TunnelEvent::ChannelEnded { tally, .. } = ended.await else { unreachable!() };
    assert_eq!(tally.sent.raw_bytes, bytes(count));
    assert_eq!(tally.confirmed_bytes, bytes(count));
    assert_eq!(tally.delivered_bytes, bytes(answers));
    println!("{tally:?}");
    let (sent, again) = (tally.sent, tally.sent.again_bytes);
    assert!(sent.payload_bytes < sent.raw_bytes * 6 / 10, "half of it shrinks to nothing");
    assert!(
        again <= u64::from(Limits::default().window_bytes),
        "more went again than was under way"
    );
    // What TLS was given, and what TCP was: framing, messages and records, no more.
    let status = sites.peer_of_a();
    let framed = status.tally.sent_bytes as f64;
    let chunks = (sent.payload_bytes + again) as f64;
    assert!((chunks..chunks * 1.02).contains(&framed), "{chunks} of {framed}");
    let wire: u64 = status.wire.iter().map(|lane| lane.sent_bytes).sum();
    assert!((framed * 0.98..framed * 1.02).contains(&(wire as f64)), "{framed} of {wire}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_beyond_its_bound_ends_the_stream_at_both_ends() {
    let limits = Limits { resume_ms_max: 1_000, ..Limits::default() };
    let mut sites = Sites::new(limits, &["mirror"]).await;
    let (mut near, mut far) = sites.joined("mirror", &ChannelOptions::default()).await;
    near.write_all(b"before").await.unwrap();
    let mut read = [0; 6];
    soon(far.read_exact(&mut read)).await.unwrap();
    sites.wan.fall_silent();
    assert_eq!(soon(near.read(&mut read)).await.unwrap_or(0), 0);
    assert_eq!(soon(far.read(&mut read)).await.unwrap_or(0), 0);
    for events in [&mut sites.at_a, &mut sites.at_b] {
        let event = seen(events, |event| matches!(event, TunnelEvent::ChannelEnded { .. })).await;
        assert!(format!("{event:?}").contains("Outage"), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_waits_for_all_that_was_written_and_for_an_outage() {
    let sites = Sites::new(Limits::default(), &["mirror"]).await;
    let grant = crate::sites::grant("mirror");
    let (mut near, mut far) = sites.joined("mirror", &ChannelOptions::default()).await;
    soon(sites.a.barrier(&grant)).await.unwrap();
    sites.wan.fall_silent();
    let data = vec![7; 100_000];
    near.write_all(&data).await.unwrap();
    {
        let barrier = sites.a.barrier(&grant);
        tokio::pin!(barrier);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut barrier).await;
        assert!(early.is_err(), "nothing has left this site");
        sites.wan.break_and_heal();
        soon(barrier).await.unwrap();
    }
    // All of it is in the far program's socket, from which it can be read without waiting.
    let mut read = vec![0; data.len()];
    let mut got = 0;
    while got < data.len() {
        let count = far.try_read(&mut read[got..]).expect("it must be there by now");
        got += count;
    }
    assert_eq!(read, data);
    drop(near);
    soon(far.read(&mut read)).await.unwrap();
    assert!(sites.a.revoke(&grant));
    assert!(sites.a.barrier(&grant).await.is_err(), "no grant, no promise");
}
