//! Where questions arrive: UDP and TCP on each address, everything that a stranger can use up
//! bounded.
//!
//! A datagram is answered on the spot: between the look at the view and the send nothing waits. A
//! connection is answered message by message, in order; one that takes nothing is cut off, soon once
//! there is a newer view, so that it cannot hold up the confirmation of an order.

mod connection;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use metrics::{counter, gauge};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::answer::{Answer, Outcome, Transport, answer};
use crate::config::DnsConfig;
use crate::view::{View, Views};
use connection::converse;

/// Longest message that is read; a question with every option there is has far less.
pub const QUESTION_BYTES_MAX: usize = 4_096;
/// Most TCP connections of one client: one address, or one /64 of IPv6.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 32;
/// Tasks that read one UDP socket: more find nothing to do.
const READERS_MAX: usize = 4;
/// Attempts to find a port that is free for UDP and TCP, where the configuration leaves it open.
const PORTS_TRIED_MAX: usize = 16;
/// How long nothing is accepted, or received, after the system refused: it has to find room.
const PAUSE_MS: u64 = 100;
/// How long an end waits for connections to finish their answer.
const END_MS_MAX: u64 = 3_000;

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at {address} for questions; is another name server there, is it this host's, may we use the port?"
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Sockets that are bound and not read yet.
#[derive(Debug)]
pub struct Sockets {
    bound: Vec<(UdpSocket, TcpListener, SocketAddr)>,
    connections_max: usize,
}

impl Sockets {
    /// Binds each address for UDP and TCP.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub async fn bind(config: &DnsConfig) -> Result<Sockets, ListenError> {
        let mut bound = Vec::new();
        for address in &config.listen {
            let pair = bind_pair(*address).await;
            bound.push(pair.map_err(|source| ListenError { address: *address, source })?);
        }
        Ok(Sockets { bound, connections_max: config.tcp_connections_max })
    }

    /// Where they are; the port is known even if the configuration left it to the system.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(_, _, address)| *address).collect()
    }

    /// Answers from now on, until [`Listening::end`].
    #[must_use]
    pub fn answer(self, views: &Arc<Views>) -> Listening {
        let (ending, ended) = watch::channel(false);
        let admission = Arc::new(Admission::new(self.connections_max));
        let mut tasks = JoinSet::new();
        for (udp, tcp, _) in self.bound {
            let udp = Arc::new(udp);
            let readers = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..readers.min(READERS_MAX) {
                tasks.spawn(datagrams(Arc::clone(&udp), Arc::clone(views), ended.clone()));
            }
            tasks.spawn(connections(tcp, Arc::clone(views), Arc::clone(&admission), ended.clone()));
        }
        Listening { tasks, ending }
    }
}

/// The same port for both; where the system chooses, it is asked until one fits.
async fn bind_pair(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(address).await?;
        let found = tcp.local_addr()?;
        tries += 1;
        match UdpSocket::bind(found).await {
            Ok(udp) => return Ok((udp, tcp, found)),
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tries < PORTS_TRIED_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sockets that are answered.
#[derive(Debug)]
pub struct Listening {
    tasks: JoinSet<()>,
    ending: watch::Sender<bool>,
}

impl Listening {
    /// Takes no more questions, and lets answers that have begun end.
    pub async fn end(mut self) {
        self.ending.send_replace(true);
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(END_MS_MAX), rest).await.is_err() {
            tracing::warn!("connections of askers cut off: they did not take their answers");
            self.tasks.shutdown().await;
        }
    }
}

async fn told(ended: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which says the same.
    let _ = ended.wait_for(|ended| *ended).await;
}

async fn datagrams(socket: Arc<UdpSocket>, views: Arc<Views>, mut ended: watch::Receiver<bool>) {
    // One byte more than is read, so that what was cut off is known.
    let mut question = vec![0; QUESTION_BYTES_MAX + 1];
    loop {
        let received = tokio::select! {
            () = told(&mut ended) => return,
            received = socket.recv_from(&mut question) => received,
        };
        match received {
            // Nobody listens at port 0: the sender is a forgery.
            Ok((length, from)) if length <= QUESTION_BYTES_MAX && from.port() != 0 => {
                let view = views.load();
                let said = said(&question[..length], &view, Transport::Udp);
                let Some(bytes) = said.bytes else { continue };
                // A full buffer drops the answer, as a full network would: the asker asks again.
                if socket.try_send_to(&bytes, from).is_err() {
                    counter!("causeway_dns_answers_unsent_total", "transport" => "udp")
                        .increment(1);
                }
            }
            Ok(_) => counter!("causeway_dns_datagrams_dropped_total").increment(1),
            Err(error) => {
                tracing::warn!(%error, "no question received");
                tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
            }
        }
    }
}

async fn connections(
    listener: TcpListener,
    views: Arc<Views>,
    admission: Arc<Admission>,
    mut ended: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = told(&mut ended) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => match Admission::admit(&admission, from.ip()) {
                Some(admitted) => {
                    let (views, ended) = (Arc::clone(&views), ended.clone());
                    open.spawn(async move { converse(stream, &views, ended, admitted).await });
                }
                None => {
                    counter!("causeway_dns_connections_refused_total").increment(1);
                }
            },
            Err(error) => {
                counter!("causeway_dns_accept_failures_total").increment(1);
                tracing::warn!(%error, "no connection accepted");
                // A connection that ends may be what there is no room without.
                tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// How many connections there are, in all and of each client.
#[derive(Debug)]
struct Admission {
    connections_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Admission {
    fn new(connections_max: usize) -> Admission {
        Admission { connections_max, open: Mutex::new(HashMap::new()) }
    }

    fn admit(admission: &Arc<Admission>, from: IpAddr) -> Option<Admitted> {
        let client = client(from);
        let mut open = admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&client).copied().unwrap_or(0);
        if all >= admission.connections_max || own >= CONNECTIONS_PER_CLIENT_MAX {
            return None;
        }
        open.insert(client, own + 1);
        gauge!("causeway_dns_connections").increment(1.0);
        Some(Admitted { admission: Arc::clone(admission), client })
    }
}

/// One connection's place; given back with the value.
#[derive(Debug)]
struct Admitted {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
        gauge!("causeway_dns_connections").decrement(1.0);
    }
}

/// Whose address this is: a host may use all of a /64.
fn client(ip: IpAddr) -> IpAddr {
    const INTERFACE: u128 = u64::MAX as u128;
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !INTERFACE)),
    }
}

/// Answers and counts. Whatever a stranger's bytes do to the parser costs one answer, not the reader.
fn said(question: &[u8], view: &View, transport: Transport) -> Answer {
    // Nothing is changed in there that could be left half changed.
    let answering = AssertUnwindSafe(|| answer(question, view, transport));
    let said = catch_unwind(answering).unwrap_or_else(|_| {
        tracing::error!("a question could not be answered; report it, with the log around it");
        Answer { bytes: None, outcome: Outcome::Failed, kind: None, truncated: false }
    });
    count(&said, transport);
    said
}

fn count(said: &Answer, transport: Transport) {
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    let (kind, outcome) = (kind_word(said.kind), outcome_word(said.outcome));
    counter!("causeway_dns_queries_total", "transport" => transport, "type" => kind, "outcome" => outcome)
        .increment(1);
    if said.truncated {
        counter!("causeway_dns_answers_truncated_total").increment(1);
    }
}

/// Few words, whatever strangers ask for: each is a time series.
fn kind_word(kind: Option<RecordType>) -> &'static str {
    match kind {
        Some(RecordType::A) => "A",
        Some(RecordType::AAAA) => "AAAA",
        Some(RecordType::CNAME) => "CNAME",
        Some(RecordType::MX) => "MX",
        Some(RecordType::NS) => "NS",
        Some(RecordType::SOA) => "SOA",
        Some(RecordType::TXT) => "TXT",
        Some(RecordType::ANY) => "ANY",
        Some(_) => "other",
        None => "none",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::NoData => "no_data",
        Outcome::NoName => "no_name",
        Outcome::Refused => "refused",
        Outcome::Malformed => "malformed",
        Outcome::NotImplemented => "not_implemented",
        Outcome::BadVersion => "bad_version",
        Outcome::Failed => "failed",
        Outcome::Ignored => "ignored",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all_connections_and_ended_ones_count_no_more() {
        let admission = Arc::new(Admission::new(CONNECTIONS_PER_CLIENT_MAX + 1));
        let (one, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<Admitted> = (0..CONNECTIONS_PER_CLIENT_MAX)
            .map(|_| Admission::admit(&admission, one).unwrap())
            .collect();
        assert!(Admission::admit(&admission, one).is_none(), "one client has its share");
        let last = Admission::admit(&admission, other).unwrap();
        assert!(Admission::admit(&admission, other).is_none(), "there are as many as may be");
        held.pop();
        drop(last);
        assert!(Admission::admit(&admission, one).is_some());
        held.clear();
        assert!(admission.open.lock().unwrap().is_empty());
    }

    #[test]
    fn hosts_of_one_network_are_one_client() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|text| client(text.parse().unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
