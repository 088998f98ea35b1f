//! A proxy that runs at the site, and what it tells.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use daemon::identity::{self, Credentials};
use lab::sandbox::Process;
use placement::Role;
use proxy_api::{CallError, Client, CloseReason, Flow, FlowQuery, FlowState, Service, StateFilter};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use super::{Site, eventually};
use crate::running::SOON;

/// A proxy that runs at the site; killed with the value.
pub struct Proxy<'s> {
    pub(super) site: &'s Site,
    pub(super) process: Process,
    pub(super) log: PathBuf,
    pub(super) control: SocketAddr,
}

impl Proxy<'_> {
    /// Calls its control API with this role, over a connection of its own.
    ///
    /// # Errors
    /// As the client says.
    ///
    /// # Panics
    /// It cannot be reached, or does not answer.
    pub fn call<T>(
        &self,
        role: Role,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let papers = self.site.stage.house().papers(role);
        self.site.runtime.block_on(async {
            let calling = self.calling(&papers, call);
            timeout(SOON, calling).await.expect("the proxy answers")
        })
    }

    async fn calling<T>(
        &self,
        papers: &Credentials,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let host = self.site.proxy_host();
        let stream = host.inside(|| TcpStream::connect(self.control)).expect("a host");
        let stream = stream.expect("the control server listens");
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
        let expected = self.site.stage.house().proxy();
        let config = papers.client_config(expected.clone());
        let stream = identity::connect(config, &expected, stream).await.expect("papers in order");
        let (mut client, connection) = Client::over(stream).await?;
        tokio::select! {
            answer = call(&mut client) => answer,
            Err(error) = connection => Err(error),
        }
    }

    /// All flows in this state, page after page of `limit`.
    ///
    /// # Panics
    /// The proxy refuses.
    #[must_use]
    pub fn flows_by(&self, state: StateFilter, limit: usize) -> Vec<Flow> {
        let all = async |client: &mut Client| {
            let mut query = FlowQuery { state, limit: Some(limit), ..FlowQuery::default() };
            let mut flows = Vec::new();
            loop {
                let page = client.flows(&query).await?;
                flows.extend(page.flows);
                match page.more_after {
                    Some(after) => query.after = Some(after),
                    None => return Ok(flows),
                }
            }
        };
        self.call(Role::Viewer, all).expect("flows are told")
    }

    /// All flows, live and ended.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        self.flows_by(StateFilter::All, 1_000)
    }

    /// The flow of the client with this address.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn flow_of(&self, client: SocketAddr) -> Flow {
        let flows = self.flows();
        let found = flows.iter().find(|flow| flow.client == client);
        found.unwrap_or_else(|| panic!("no flow of {client} in {flows:#?}")).clone()
    }

    /// Waits until the flow of the client with this address is closed for this reason.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    pub fn closed(&self, client: SocketAddr, reason: CloseReason) -> Flow {
        let state = FlowState::Closed { reason };
        eventually(|| {
            let flow = self.flow_of(client);
            if flow.state == state { Ok(flow) } else { Err(format!("{flow:#?}")) }
        })
    }

    /// One service, as the API tells it.
    ///
    /// # Panics
    /// There is none of the name.
    #[must_use]
    pub fn service(&self, name: &str) -> Service {
        let services = self.call(Role::Viewer, async |client| client.services().await);
        let services = services.expect("services are told").services;
        let found = services.iter().find(|service| service.name.as_str() == name);
        found.unwrap_or_else(|| panic!("no {name} in {services:#?}")).clone()
    }

    /// One metric's value: the line with this name that has all of these labels.
    ///
    /// # Panics
    /// There is no such line, or more than one.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.call(Role::Viewer, async |client| client.metrics().await);
        let text = text.expect("metrics are told");
        let begin = format!("{name}{{");
        let fits = |line: &&str| {
            let has =
                |(label, value): &(&str, &str)| line.contains(&format!("{label}=\"{value}\""));
            line.starts_with(&begin) && labels.iter().all(has)
        };
        let lines: Vec<&str> = text.lines().filter(fits).collect();
        let [line] = lines[..] else { panic!("{name} {labels:?}: {lines:#?} in {text}") };
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a value")
    }

    /// Has it reload.
    ///
    /// # Errors
    /// It refuses.
    pub fn reload(&self) -> Result<u64, CallError> {
        let call = async |client: &mut Client| client.reload().await;
        self.call(Role::Operator, call).map(|reloaded| reloaded.generation)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// The lab has ended.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the proxy takes a signal");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn ended(&self, bound: Duration) -> std::process::ExitStatus {
        self.process.wait(bound).expect("the proxy ends in time")
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid_inside());
        let text = self.site.proxy_host().succeed(&["cat", &path]).expect("the proxy runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }

    /// What it has logged with this message.
    ///
    /// # Panics
    /// The lab has ended.
    #[must_use]
    pub fn events(&self, message: &str) -> Vec<Value> {
        let log = self.site.site().place().read_file(&self.log).expect("a log");
        let text = String::from_utf8_lossy(&log).into_owned();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// The first event with this message; waits for it.
    ///
    /// # Panics
    /// It does not come.
    #[must_use]
    pub fn event(&self, message: &str) -> Value {
        eventually(|| {
            if let Some(event) = self.events(message).into_iter().next() {
                return Ok(event);
            }
            let log = self.site.site().place().read_file(&self.log).expect("a log");
            let log = String::from_utf8_lossy(&log).into_owned();
            match self.process.ended() {
                Ok(None) => Err(format!("no '{message}' in {log}")),
                ended => panic!("the proxy ended ({ended:?}) before '{message}': {log}"),
            }
        })
    }
}
