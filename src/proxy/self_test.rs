//! Two users at once, over the whole way of a request: does the back end, with everything in front of it, keep them apart?
//!
//! The probes are devices' connections without a network: bytes in memory into `serve_connection`, with callers whom the
//! configuration names and no certificate stands for. What a device would get is what they judge.
//!
//! ```text
//! in turn        one connection each, a request of one user after a request of the other, on kept connections
//! at once        two more connections each, all four together
//! fresh          the upstream connections closed, in turn again, the other user first
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::certificate::{CertificateFacts, Fingerprint};
use crate::failure::Cause;
use crate::identity::{Principal, RequestedName};
use crate::kerberos::TokenSource;
use crate::proxy::upstream::Backend;
use crate::proxy::{CORRELATION_HEADER, Caller, Isolation, Judgement, Proxy, SelfTestConfig, Standing, serve_connection};
use crate::shutdown::Shutdown;

/// Requests on each connection while users take turns, and while all ask at once.
const IN_TURN: usize = 4;
const AT_ONCE: usize = 2;

/// Between two attempts that found no answer: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);

/// For one answer, beyond the time that token and connection may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What of an answer's body is searched for names.
const SEARCHED: usize = 64 * 1024;

const PIPE: usize = 16 * 1024;

/// Why a self-test did not prove anything, the worse first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// An answer named the other user, or did not name its own.
    MixedUp(String),
    /// There was no answer to judge.
    Unanswered(String),
}

impl<T: TokenSource> Proxy<T> {
    /// Every back end's name, and what is known of its isolation of users now.
    pub fn isolation(&self) -> Vec<(Arc<str>, Isolation)> {
        self.backends.iter().map(|backend| (Arc::clone(&backend.config.target.name), backend.gate.state())).collect()
    }
}

/// Runs the self-tests of all back ends that have one: at once, again while they find no answer, and at every word. Ends with the process.
pub async fn prove_isolation<T: TokenSource>(proxy: Arc<Proxy<T>>, words: watch::Receiver<()>, shutdown: Shutdown) {
    let mut running = JoinSet::new();
    for (index, backend) in proxy.backends.iter().enumerate() {
        if let Some(config) = &backend.config.self_test {
            let test = SelfTest::new(Arc::clone(&proxy), index, config, shutdown.clone());
            running.spawn(test.keep(words.clone()));
        }
    }
    drop(proxy);
    tokio::select! {
        () = shutdown.draining() => {}
        () = async { while running.join_next().await.is_some() {} } => {}
    }
}

/// The self-test of one back end.
struct SelfTest<T> {
    proxy: Arc<Proxy<T>>,
    index: usize,
    host: String,
    path: String,
    probes: [Probe; 2],
    shutdown: Shutdown,
}

/// One user of a self-test.
struct Probe {
    caller: Caller,
    name: Box<str>,
    others: Box<str>,
}

impl<T: TokenSource> SelfTest<T> {
    fn new(proxy: Arc<Proxy<T>>, index: usize, config: &SelfTestConfig, shutdown: Shutdown) -> Self {
        let [one, two] = &config.users;
        let backend = proxy.backends.get(index).map(|backend| &backend.config);
        let name = backend.map_or("", |backend| &*backend.target.name);
        let probes = [Probe::new(name, one, two), Probe::new(name, two, one)];
        let host_header = backend.map_or("", |backend| &*backend.host_header);
        let host = proxy.routes.host_leading_to(index, host_header, &config.path).unwrap_or_else(|| host_header.to_owned());
        Self { proxy, index, host, path: config.path.clone(), probes, shutdown }
    }

    /// Now, and whenever there is reason to.
    async fn keep(self, mut words: watch::Receiver<()>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let decided = self.settle(self.run().await);
            tokio::select! {
                word = words.changed() => {
                    pause = FIRST_PAUSE;
                    if word.is_err() {
                        return;
                    }
                }
                () = sleep(pause), if !decided => pause = (2 * pause).min(LAST_PAUSE),
            }
        }
    }
}

impl<T: TokenSource> SelfTest<T> {
    async fn run(&self) -> Result<(), Trouble> {
        let [one, two] = &self.probes;
        self.in_turn(one, two).await?;
        let (a, b, c, d) = tokio::join!(self.alone(one), self.alone(two), self.alone(one), self.alone(two));
        [a, b, c, d].into_iter().filter_map(Result::err).min().map_or(Ok(()), Err)?;
        for probe in &self.probes {
            self.proxy.close_upstream(probe.caller.certificate.fingerprint);
        }
        self.in_turn(two, one).await
    }

    async fn in_turn(&self, first: &Probe, second: &Probe) -> Result<(), Trouble> {
        let (mut one, mut other) = (self.connect(first).await?, self.connect(second).await?);
        for _ in 0..IN_TURN {
            self.ask(first, &mut one).await?;
            self.ask(second, &mut other).await?;
        }
        Ok(())
    }

    async fn alone(&self, probe: &Probe) -> Result<(), Trouble> {
        let mut device = self.connect(probe).await?;
        for _ in 0..AT_ONCE {
            self.ask(probe, &mut device).await?;
        }
        Ok(())
    }

    /// A device's connection, as the listener would hand it over.
    async fn connect(&self, probe: &Probe) -> Result<Device, Trouble> {
        let (device, bridge) = tokio::io::duplex(PIPE);
        let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        tokio::spawn(serve_connection(Arc::clone(&self.proxy), bridge, probe.caller.clone(), peer, self.shutdown.clone()));
        let (sender, connection) = handshake(TokioIo::new(device)).await.map_err(|error| probe.unanswered(&error))?;
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Device { sender, driver: driver.abort_handle() })
    }

    /// One request, and whom its answer names.
    async fn ask(&self, probe: &Probe, device: &mut Device) -> Result<(), Trouble> {
        let request = Request::builder().uri(&self.path).header(HOST, &self.host).body(Empty::new());
        let request = request.map_err(|error| probe.unanswered(&error))?;
        let connect_time = self.backend().map_or(Duration::ZERO, |backend| backend.config.connect_timeout);
        let limit = self.proxy.token_timeout + connect_time + ANSWER_TIME;
        let asking = async {
            device.sender.ready().await?;
            let (head, mut body) = device.sender.send_request(request).await?.into_parts();
            let mut text = Vec::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    text.extend_from_slice(data.get(..data.len().min(SEARCHED - text.len())).unwrap_or_default());
                }
            }
            Ok((head, text))
        };
        let answered = timeout(limit, asking).await.map_err(|_| probe.unanswered(&format!("no answer within {limit:?}")))?;
        let (head, body) = answered.map_err(|error: hyper::Error| probe.unanswered(&error))?;
        let id = head.headers.get(CORRELATION_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
        if head.status.is_success() {
            return probe.judge(&head.headers, &body).map_err(|what| probe.mixed_up(&format!("{what} (correlation id {id})")));
        }
        Err(probe.unanswered(&format!("status {} (correlation id {id})", head.status)))
    }

    /// Notes what a run showed. False when it showed nothing, and another one is due.
    fn settle(&self, found: Result<(), Trouble>) -> bool {
        let Some(backend) = self.backend() else { return true };
        let (name, gate) = (&*backend.config.target.name, &backend.gate);
        let before = gate.state();
        match found {
            Ok(()) => {
                gate.set(Isolation::Proved);
                info!(backend = name, before = before.name(), "the self-test saw two users kept apart: devices are served");
                true
            }
            Err(Trouble::MixedUp(what)) => {
                gate.set(Isolation::Failed(what.clone()));
                backend.close_all();
                let tickets = self.proxy.tokens.evict_spn(&backend.config.target.spn);
                let cause = Cause::IsolationFailed;
                let (reason, remedy) = (cause.code(), cause.remedy());
                error!(
                    backend = name,
                    reason, remedy, tickets, "CLOSED, users are not kept apart: {what}; connections and tickets dropped"
                );
                true
            }
            Err(Trouble::Unanswered(what)) => {
                if let Isolation::Unproved(_) = before {
                    gate.set(Isolation::Unproved(what.clone()));
                    let cause = Cause::IsolationUnproved;
                    warn!(
                        backend = name,
                        reason = cause.code(),
                        remedy = cause.remedy(),
                        "closed until the self-test has an answer: {what}"
                    );
                } else {
                    warn!(
                        backend = name,
                        state = before.name(),
                        "the self-test was asked for again and has no answer, nothing changes: {what}"
                    );
                }
                false
            }
        }
    }

    fn backend(&self) -> Option<&Backend> {
        self.proxy.backends.get(self.index)
    }
}

/// The device's end of a probe's connection.
struct Device {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Probe {
    fn new(backend: &str, user: &RequestedName, other: &RequestedName) -> Self {
        let principal = Arc::new(Principal::for_self_test(user.clone()));
        let certificate = CertificateFacts {
            // Of a text that is no certificate's DER: nobody presents one with this fingerprint.
            fingerprint: Fingerprint::of(format!("self-test of {backend} as {principal}").as_bytes()),
            issuer: "self-test".into(),
            subject: principal.to_string(),
            serial: String::new(),
            templates: Vec::new(),
            policies: Vec::new(),
            not_after: 0,
        };
        let caller = Caller { certificate, standing: Arc::new(Appointed(principal)) };
        Self { caller, name: user.account().into(), others: other.account().into() }
    }

    /// Whether the answer is this user's and nobody else's.
    fn judge(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let said = |name: &str| {
            let values = headers.iter().filter(|(header, _)| **header != CORRELATION_HEADER).map(|(_, value)| value.as_bytes());
            values.chain([body]).any(|text| contains(text, name))
        };
        if said(&self.others) {
            return Err(format!("names {}", self.others));
        }
        if said(&self.name) { Ok(()) } else { Err("does not name its user".into()) }
    }

    fn mixed_up(&self, what: &str) -> Trouble {
        Trouble::MixedUp(format!("an answer to {} {what}", self.caller.certificate.subject))
    }

    fn unanswered(&self, what: &dyn std::fmt::Display) -> Trouble {
        Trouble::Unanswered(format!("{}: {what}", self.caller.certificate.subject))
    }
}

/// Whether the text holds this name, whatever the case of its ASCII letters.
fn contains(text: &[u8], name: &str) -> bool {
    text.windows(name.len().max(1)).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

/// Stands for the user of the configuration for as long as the connection lives.
struct Appointed(Arc<Principal>);

impl Standing for Appointed {
    fn account(&self) -> Judgement<'_> {
        Judgement::Known(Ok(Arc::clone(&self.0)))
    }

    fn recheck_interval(&self) -> Duration {
        Duration::from_hours(24)
    }
}
