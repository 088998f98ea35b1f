//! A relay between two real connections: what is copied, what goes through a pipe, what is held.

use std::sync::Arc;

use proxy_api::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

use super::*;
use crate::admit::admit;
use crate::service::Services;
use crate::service::tests::config;
use crate::worker::Shared;

/// A relay that runs, with the peers' ends of its connections.
struct Between {
    worker: Rc<Worker>,
    flow: Rc<Flow>,
    ends: Rc<Ends>,
    client: TcpStream,
    server: TcpStream,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

async fn between() -> Between {
    between_and(None).await
}

/// With a backend that is this VM.
async fn between_and(vm: Option<&str>) -> Between {
    let shared = Arc::new(Shared::new(9));
    let worker = Rc::new(Worker::new(0, Arc::clone(&shared)));
    let mut config = config(&["127.0.0.1:1"]);
    config.backends[0].vm = vm.map(|vm| vm.parse().unwrap());
    let services = Services::following(&[config], &Services::default());
    let service = &services.all()[0];
    let place = admit(service, &shared.capacity).unwrap();
    let (client, ours_of_client) = pair().await;
    let (ours_of_server, server) = pair().await;
    let addresses = (client.local_addr().unwrap(), service.config.vips[0]);
    let flow = worker.open(addresses, (service, 0), place);
    let ends = Rc::new(Ends { client: ours_of_client, server: ours_of_server });
    flow.connected(&ends);
    Between { worker, flow, ends, client, server }
}

/// Pieces of these lengths from client to server, each awaited before the next; the bytes heard.
async fn passed(client: &mut TcpStream, server: &mut TcpStream, lengths: &[usize]) {
    for (seed, length) in lengths.iter().enumerate() {
        let piece: Vec<u8> = (0..*length).map(|at| (at / 3 + seed) as u8).collect();
        let mut heard = vec![0; *length];
        let (said, read) = tokio::join!(client.write_all(&piece), server.read_exact(&mut heard));
        said.unwrap();
        read.unwrap();
        assert!(heard == piece, "piece {seed} of {length} bytes came otherwise");
    }
}

#[tokio::test]
async fn bulk_takes_a_pipe_gives_it_back_when_it_turns_small_and_small_messages_take_none() {
    let Between { worker, flow, ends, mut client, mut server } = between().await;
    let peers = async {
        passed(&mut client, &mut server, &[1, 100, 1_000, 60_000]).await;
        let before = worker.pipes.free();
        // Enough for two full buffers, whatever the sockets make of it.
        passed(&mut client, &mut server, &[16 << 20]).await;
        passed(&mut client, &mut server, &[10; 20]).await;
        let after = worker.pipes.free();
        passed(&mut client, &mut server, &[16 << 20, 5]).await;
        drop(client);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        drop(server);
        (before, after)
    };
    let (event, pipes) = tokio::join!(relay(&worker, &flow, &ends), peers);
    worker.close(&flow, event);
    assert_eq!(pipes, (0, 1), "none for small messages; one for bulk, given back since");
    assert_eq!(worker.pipes.free(), 1, "and used again");
    assert_eq!(flow.life().reason(), Some(CloseReason::ClientFin));
    assert_eq!(flow.life().ways().up.given(), 61_101 + 2 * (16 << 20) + 200 + 5);
}

#[tokio::test]
async fn of_a_reader_that_does_not_read_no_more_is_held_than_a_buffer_or_a_pipe() {
    let Between { worker, flow, ends, mut client, server } = between().await;
    let piece = vec![1; 1 << 20];
    let peers = async {
        // Until nothing has been taken for a long row of turns.
        let mut refusals = 0;
        while refusals < 10_000 {
            match client.try_write(&piece) {
                Ok(_) => refusals = 0,
                Err(_) => refusals += 1,
            }
            yield_now().await;
        }
        let held = flow.life().ways().up.held();
        flow.order(Event::Killed);
        held
    };
    let (event, held) = tokio::join!(relay(&worker, &flow, &ends), peers);
    assert_eq!(event, Event::Killed);
    assert!(held > 0 && held <= pipe::PIPE_BYTES as u64, "{held} bytes held");
    assert_eq!(worker.pipes.free(), 0, "a pipe with a flow's bytes in it is not lent again");
    drop(server);
    let _ = client.shutdown().await;
}

#[tokio::test]
async fn silence_of_a_vm_that_cannot_answer_begins_anew_when_it_can() {
    const ALLOWED: Duration = Duration::from_millis(50);
    let Between { worker, flow, .. } = between_and(Some("web")).await;
    let (held, vm) = (&worker.shared.held, "web".parse().unwrap());
    held.stand_still(&vm);
    let mut idle = Idle::new(ALLOWED);
    let mut expired = std::pin::pin!(poll_fn(|context| idle.poll(context, &flow, held)));
    let waited = tokio::time::timeout(4 * ALLOWED, &mut expired).await;
    assert!(waited.is_err(), "expired while it was held");
    held.go_on(&vm);
    let since = Instant::now();
    assert_eq!(expired.await, Event::Expired);
    assert!(since.elapsed() >= ALLOWED, "{:?}", since.elapsed());
}
