//! What lies between two sites: a relay of TCP and UDP that can fall silent, and break what it
//! carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    silent: bool,
    /// Connections of an earlier generation are dropped.
    generation: u64,
}

pub(crate) struct Wan {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    carried: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Wan {
    /// Listens, and passes on to `target`.
    pub(crate) async fn new(target: SocketAddr) -> Wan {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { silent: false, generation: 0 });
        let carried = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let datagrams = UdpSocket::bind(address).await.unwrap();
        tasks.spawn(pass_datagrams(datagrams, target, state.subscribe()));
        tasks.spawn(accept(listener, target, state.clone(), Arc::clone(&carried)));
        Wan { address, state, carried, _tasks: tasks }
    }

    /// Passes nothing from now on, and tells nobody.
    pub(crate) fn fall_silent(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Drops what it carries, and passes on what comes from now on.
    pub(crate) fn break_and_heal(&self) {
        self.state.send_modify(|state| {
            state.silent = false;
            state.generation += 1;
        });
    }

    /// Bytes passed on, both ways.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Sender<State>,
    carried: Arc<AtomicU64>,
) {
    let mut lines = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (mut state, carried) = (state.subscribe(), Arc::clone(&carried));
        let generation = state.borrow().generation;
        lines.spawn(async move {
            // Where nothing passes, no connection comes about either.
            if state.wait_for(|state| !state.silent).await.is_err() {
                return;
            }
            let Ok(far) = TcpStream::connect(target).await else { return };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            let newest = state.borrow().generation;
            let mut broken = state.clone();
            tokio::select! {
                () = pass(near_in, far_out, state.clone(), &carried) => {}
                () = pass(far_in, near_out, state.clone(), &carried) => {}
                _ = broken.wait_for(|state| state.generation > newest.max(generation)) => {}
            }
        });
        while lines.try_join_next().is_some() {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    carried: &AtomicU64,
) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        if state.wait_for(|state| !state.silent).await.is_err() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|state| !state.silent).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        carried.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Between the one that dials and `target`; each sees the relay's addresses alone.
async fn pass_datagrams(near: UdpSocket, target: SocketAddr, state: watch::Receiver<State>) {
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut from_near, mut from_far) = (vec![0; 65_535], vec![0; 65_535]);
    let mut dialler = None;
    loop {
        tokio::select! {
            Ok((length, from)) = near.recv_from(&mut from_near) => {
                dialler = Some(from);
                let is_silent = state.borrow().silent;
                if !is_silent {
                    let _ = far.send_to(&from_near[..length], target).await;
                }
            }
            Ok((length, _)) = far.recv_from(&mut from_far) => {
                let is_silent = state.borrow().silent;
                if let (Some(dialler), false) = (dialler, is_silent) {
                    let _ = near.send_to(&from_far[..length], dialler).await;
                }
            }
        }
    }
}
