//! Channels beside each other, slow readers, and what compression does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tunnel::driver::{ChannelOptions, TunnelEvent};
use tunnel::protocol::bounds::Limits;

use crate::data::{Data, blocks, bytes, check, send};
use crate::sites::{Sites, grant, seen, soon, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_shrinks_is_sent_small_and_noise_as_it_is() {
    let sites = Sites::new(Limits::default(), &["mirror"]).await;
    let options = ChannelOptions { compress: true, wanted: None };
    let (mut near, mut far) = sites.joined("mirror", &options).await;
    let text = vec![b'x'; 8_000_000];
    let mut read = vec![0; text.len()];
    let (wrote, got) = tokio::join!(near.write_all(&text), far.read_exact(&mut read));
    wrote.unwrap();
    got.unwrap();
    let first = sites.peer_of_a().channels[0].tally.sent;
    assert_eq!(first.raw_bytes, text.len() as u64);
    assert!(first.payload_bytes * 100 < first.raw_bytes, "{first:?}");
    let count = blocks(8_000_000);
    let (near_read, near_write) = near.into_split();
    tokio::join!(send(near_write, Data::noise(1), count), check(&mut far, Data::noise(1), count));
    let second = sites.peer_of_b().channels[0].tally.received;
    assert_eq!(second.raw_bytes, text.len() as u64 + bytes(count));
    assert_eq!(second.payload_bytes, first.payload_bytes + bytes(count), "noise goes as it is");
    let counted: u64 =
        sites.peer_of_a().wire.iter().map(|lane| lane.sent_bytes + lane.received_bytes).sum();
    let (counted, carried) = (counted as f64, sites.wan.carried_bytes() as f64);
    assert!((carried * 0.98..carried * 1.02).contains(&counted), "{counted} of {carried}");
    drop((near_read, far));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_channels_on_one_connection_share_it_fairly() {
    let limits = Limits { bulk_lanes: 1, ..Limits::default() };
    let sites = Sites::new(limits, &["mirror", "memory"]).await;
    let total = 60_000_000_u64;
    let mut moved = Vec::new();
    for channel in ["mirror", "memory"] {
        let (mut near, mut far) = sites.joined(channel, &ChannelOptions::default()).await;
        let count = Arc::new(AtomicU64::new(0));
        moved.push(Arc::clone(&count));
        tokio::spawn(async move {
            let block = vec![1; 256 * 1024];
            while near.write_all(&block).await.is_ok() {}
        });
        tokio::spawn(async move {
            let mut block = vec![0; 256 * 1024];
            while let Ok(read @ 1..) = far.read(&mut block).await {
                count.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
    // From when both run: the first has had the connection to itself for a while.
    let counts = || moved.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<u64>>();
    until(|| counts()[1] > 1_000_000).await;
    let begun = counts();
    until(|| counts().iter().zip(&begun).any(|(now, then)| now - then > total)).await;
    let shares: Vec<u64> = counts().iter().zip(&begun).map(|(now, then)| now - then).collect();
    let least = shares.iter().min().unwrap();
    assert!(*least > total * 7 / 10, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_is_waited_for_within_bounds_and_holds_up_nobody_else() {
    let window = 256 * 1024;
    let small = Limits { window_bytes: window, send_buffer_bytes: window, ..Limits::default() };
    let sites = Sites::new(small, &["mirror", "memory"]).await;
    let count = blocks(20_000_000);
    let (near, far) = sites.joined("mirror", &ChannelOptions::default()).await;
    let (_near_read, near_write) = near.into_split();
    let writing = tokio::spawn(send(near_write, Data::noise(1), count));
    let kept = || {
        let of = |peer: tunnel::driver::PeerStatus| {
            let is_it = |channel: &&tunnel::driver::ChannelStatus| channel.grant == grant("mirror");
            peer.channels.iter().find(is_it).cloned().unwrap()
        };
        (of(sites.peer_of_a()).send_kept_bytes, of(sites.peer_of_b()).receive_kept_bytes)
    };
    let full = u64::from(window) - 128 * 1024;
    until(|| kept().0 > full && kept().1 >= full).await;
    let (mut other_near, mut other_far) = sites.joined("memory", &ChannelOptions::default()).await;
    let mut read = vec![0; 1_000_000];
    for _ in 0..5 {
        let block = vec![3; read.len()];
        let (wrote, got) =
            tokio::join!(other_near.write_all(&block), other_far.read_exact(&mut read));
        wrote.unwrap();
        got.unwrap();
        let (sent, received) = kept();
        assert!(sent <= u64::from(window) && received <= u64::from(window));
    }
    assert!(!writing.is_finished());
    soon(check(far, Data::noise(1), count)).await;
    soon(writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_ends_streams_at_both_ends_and_leaves_no_socket() {
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let (mut near, mut far) = sites.joined("mirror", &ChannelOptions::default()).await;
    near.write_all(b"x").await.unwrap();
    soon(far.read_exact(&mut [0])).await.unwrap();
    let entrance = sites.folder.path().join("a/web.2.mirror");
    assert!(entrance.exists());
    sites.a.stop().await;
    assert!(!entrance.exists());
    assert_eq!(soon(near.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(soon(far.read(&mut [0])).await.unwrap_or(0), 0);
    let ended = |event: &TunnelEvent| matches!(event, TunnelEvent::ChannelEnded { .. });
    let event = format!("{:?}", seen(&mut sites.at_b, ended).await);
    assert!(event.contains("Stopping"), "{event}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_ends_its_streams_and_serves_new_ones() {
    let mut sites = Sites::new(Limits::default(), &["mirror"]).await;
    let target = sites.target("mirror");
    let entrance = sites.granted("mirror", &ChannelOptions::default());
    let mut near = UnixStream::connect(&entrance).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    until(|| sites.peer_of_a().rtt_us.is_some()).await;
    sites.restart_b().await;
    assert_eq!(soon(near.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(soon(far.read(&mut [0])).await.unwrap_or(0), 0);
    seen(&mut sites.at_a, |event| matches!(event, TunnelEvent::PeerRestarted { .. })).await;
    assert_eq!(sites.granted("mirror", &ChannelOptions::default()), entrance);
    let mut near = UnixStream::connect(&entrance).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    near.write_all(b"x").await.unwrap();
    soon(far.read_exact(&mut [0])).await.unwrap();
}
