//! The KDC relay: the one KDC that the private krb5.conf names for every realm, inside this process, on loopback.
//!
//! libkrb5 waits 20 seconds and more for a silent KDC (1.20), or for ever (1.22), and drops Windows' NTSTATUS. The relay does what
//! it lacks: DNS SRV or the configured list, fail-over and fail-back, deadlines, and sight of every KRB-ERROR
//! ([`RelayObserver`]). It reads the realm of a request and passes request and reply on unchanged; it holds no key.
//!
//! ```text
//! libkrb5 --TCP 127.0.0.1--> peer (our own user?) -> request (realm, on whose behalf) -> upstream (which KDC) -> transport
//!                                                        |                                  |- locate (where)
//! acquisitions --------> observer: declared (until when, whom alone to ask)                 `- health (who rests)
//!              <-------- observer: what the KDCs said, numbers, skew
//! ```
//!
//! libkrb5 uses TCP (`udp_preference_limit = 1`). On the UDP port of the same number every KDC request is answered with
//! an error at once: libkrb5 tries UDP after TCP failed, and must neither wait there nor have its request passed on
//! a second time.

mod declared;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod health;
mod locate;
mod numbers;
mod observer;
mod peer;
mod request;
mod skew;
mod transport;
mod upstream;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::Cause;
use crate::kerberos::config::{KdcSource, KerberosConfig};
use crate::naming::name::Realm;
use error::{PREAUTH_REQUIRED, WRONG_REALM};
use locate::Locator;
use request::KdcRequest;
use upstream::{Answered, Content, Question, Unanswered, Upstream};

pub use declared::Declaration;
pub(in crate::kerberos) use error::UNANSWERED;
pub use locate::Kdc;
pub use numbers::{KdcNumbers, Latency, RelayNumbers};
pub use observer::{KdcReport, Outcome, RelayObserver, Sought, Whom};
pub use request::{Exchange, Kind, Subject};
pub use transport::AttemptError;

/// No request is larger: its tickets are bounded as replies are, and an S4U2Proxy request carries two.
const MAX_REQUEST: usize = 64 * 1024;
/// Within this time libkrb5's second request for the same ticket (it asks once more without referrals after any error) is answered
/// as the first was: nobody is there.
const REPEAT: Duration = Duration::from_secs(1);
/// After a failure to accept: descriptors are short, and others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Characters of a KRB-ERROR's e-text that are kept.
const MAX_TEXT: usize = 200;
/// A free TCP port whose UDP twin is taken is given up; this often.
const BIND_ATTEMPTS: usize = 64;

/// What a local user can take up of the relay.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Whose connections are served.
    uid: u32,
    /// Connections at a time.
    connections: usize,
    /// Requests a second, and how many may come at once.
    rate: u32,
    /// For sending the whole request, and for taking the answer.
    patience: Duration,
}

impl Default for Limits {
    /// Every acquisition worker has one connection at a time, and libkrb5 sends its request at once. The rate is far beyond what KDCs
    /// answer, and what workers ask while the relay answers by itself: the library would wait for what is dropped here.
    fn default() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), connections: 256, rate: 20_000, patience: Duration::from_secs(2) }
    }
}

/// What the relay needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Every realm on a trust path, and where its KDCs are.
    pub realms: BTreeMap<Realm, KdcSource>,
    /// For one KDC.
    pub kdc_timeout: Duration,
    /// For one exchange, whatever number of KDCs it takes, unless its acquisition's deadline is earlier.
    pub exchange_timeout: Duration,
    /// How far clocks may be apart; told of long before.
    pub clock_skew: Duration,
}

impl From<&KerberosConfig> for RelayConfig {
    fn from(config: &KerberosConfig) -> Self {
        Self {
            realms: config.realms.clone(),
            kdc_timeout: config.kdc_timeout,
            exchange_timeout: config.acquire_timeout,
            clock_skew: config.clock_skew,
        }
    }
}

/// Where the relay starts: [`Relay::bind`].
#[derive(Debug)]
pub struct Relay;

/// The relay with its port, before a runtime exists. Connections wait in the backlog until it serves.
#[derive(Debug)]
pub struct BoundRelay {
    tcp: std::net::TcpListener,
    udp: std::net::UdpSocket,
    port: u16,
    observer: RelayObserver,
}

impl Relay {
    /// Binds one random port of 127.0.0.1, for TCP and UDP.
    pub fn bind() -> io::Result<BoundRelay> {
        let mut trouble = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..BIND_ATTEMPTS {
            let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = tcp.local_addr()?.port();
            match std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(udp) => {
                    tcp.set_nonblocking(true)?;
                    udp.set_nonblocking(true)?;
                    return Ok(BoundRelay { tcp, udp, port, observer: RelayObserver::default() });
                }
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }
}

impl BoundRelay {
    /// The port for the private krb5.conf.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where to ask what the relay saw.
    pub fn observer(&self) -> RelayObserver {
        self.observer.clone()
    }

    /// Serves until `shutdown` completes; exchanges under way are then dropped. Needs a tokio runtime that runs while worker
    /// threads wait in libkrb5.
    pub async fn serve(self, config: RelayConfig, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        self.serve_with(config, Locator::system(), Limits::default(), shutdown).await
    }

    async fn serve_with(
        self,
        config: RelayConfig,
        locator: Locator,
        limits: Limits,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let tcp = TcpListener::from_std(self.tcp)?;
        let udp = UdpSocket::from_std(self.udp)?;
        let timeouts = (config.kdc_timeout, config.exchange_timeout);
        self.observer.tolerate(config.clock_skew);
        let server = Arc::new(Server {
            upstream: Upstream::new(config.realms, locator, timeouts, self.observer.clone()),
            observer: self.observer,
            local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port),
            connections: Arc::new(Semaphore::new(limits.connections)),
            limits,
        });
        tokio::select! {
            () = server.accept(&tcp) => {}
            () = server.refuse_datagrams(&udp) => {}
            () = server.upstream.find_all() => {}
            () = shutdown => {}
        }
        Ok(())
    }
}

struct Server {
    upstream: Upstream,
    observer: RelayObserver,
    local: SocketAddrV4,
    connections: Arc<Semaphore>,
    limits: Limits,
}

impl Server {
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut bucket = Bucket::new(self.limits.rate);
        // Dropped with this future: no connection outlives the relay.
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the KDC relay cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Whose it is comes first: other users must not use up our own allowance.
            if !self.is_ours(peer) {
                count(&self.observer.counters().foreign);
                continue;
            }
            let Some(permit) = bucket.take().then(|| self.connections.clone().try_acquire_owned().ok()).flatten() else {
                count(&self.observer.counters().limited);
                continue;
            };
            let server = self.clone();
            tasks.spawn(async move {
                let _permit = permit;
                if let Err(error) = server.serve_connection(stream).await {
                    tracing::debug!(%error, "a connection to the KDC relay ended early");
                }
            });
        }
    }

    fn is_ours(&self, peer: SocketAddr) -> bool {
        let SocketAddr::V4(peer) = peer else { return false };
        match peer::owner(peer, self.local) {
            Ok(owner) => owner == Some(self.limits.uid),
            Err(error) => {
                tracing::warn!(%error, "whose connection this is cannot be found out: refused");
                false
            }
        }
    }

    /// One request, one answer.
    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let message = match timeout(self.limits.patience, read_request(&mut stream)).await {
            Ok(Ok(message)) => message,
            failed => {
                count(&self.observer.counters().malformed);
                return failed.map_or_else(|_| Err(io::ErrorKind::TimedOut.into()), |read| read.map(drop));
            }
        };
        let Ok(request) = KdcRequest::parse(&message) else {
            count(&self.observer.counters().malformed);
            return Err(io::ErrorKind::InvalidData.into());
        };
        let answer = transport::framed(&self.answer(request, &message).await);
        timeout(self.limits.patience, stream.write_all(&answer)).await??;
        stream.shutdown().await
    }

    async fn answer(&self, mut request: KdcRequest, message: &[u8]) -> Vec<u8> {
        let started = Instant::now();
        if request.subject.is_none() {
            request.subject = request.evidence.and_then(|evidence| self.observer.whose(&evidence));
        }
        if !self.upstream.lists(&request.realm) {
            let words = format!("the realm {} is not listed", request.realm.escape_default());
            self.unlisted(&request, None, request.realm.clone(), started);
            return error::answer(&request, &words);
        }
        let unanswered = format!("no KDC of the realm {} answered", request.realm.escape_default());
        let steer = self.observer.steered(&request);
        if self.observer.just_unanswered(&request, REPEAT, steer.as_ref().map(|steer| steer.since)) {
            return error::answer(&request, &unanswered);
        }
        let question = Question {
            realm: &request.realm,
            kind: request.kind(),
            message,
            deadline: self.observer.deadline(&request),
            only: steer.map(|steer| steer.kdc),
        };
        match self.upstream.exchange(&question).await {
            Ok(answered) => {
                self.note(&request, &answered, started);
                if matches!(answered.content, Content::Error(_)) {
                    self.observer.copy_error(&request, &answered.bytes);
                }
                answered.bytes
            }
            Err(Unanswered { attempts, trouble }) => {
                // Where none was asked, that was told when it began.
                if !attempts.is_empty() {
                    let tried: Vec<String> = attempts.iter().map(|(kdc, reason)| format!("{kdc}: {reason}")).collect();
                    let (cause, trouble) = (Cause::KdcUnreachable.code(), trouble.as_deref());
                    tracing::warn!(cause, realm = %request.realm, tried = %tried.join("; "), trouble, "no KDC answered");
                }
                self.failed(&request, None, Outcome::Unanswered { attempts, trouble }, started);
                error::answer(&request, &unanswered)
            }
        }
    }

    /// Remembers what an answer means for the acquisition that waits for it.
    fn note(&self, request: &KdcRequest, answered: &Answered, started: Instant) {
        match &answered.content {
            Content::Reply(Some(ticket)) => {
                if let Some(realm) = ticket.granting_realm.as_ref().filter(|realm| !self.upstream.lists(realm)) {
                    self.unlisted(request, Some(answered), realm.clone(), started);
                }
                // On the way to another realm's back end, referral tickets in the user's name are exchanged for others.
                let inherited = || request.header.and_then(|header| self.observer.whose(&header));
                if let Some(subject) = request.subject.clone().or_else(inherited) {
                    self.observer.issued(ticket.digest, subject, &request.realm, &answered.kdc, answered.window);
                }
            }
            Content::Reply(None) | Content::Error(None) => {}
            Content::Error(Some(error)) => match (error.code, &error.client_realm) {
                (PREAUTH_REQUIRED, _) => {}
                (WRONG_REALM, Some(realm)) if self.upstream.lists(realm) => {
                    if let Some(subject) = &request.subject {
                        self.observer.referred(&subject.name, realm);
                    }
                }
                (WRONG_REALM, Some(realm)) => self.unlisted(request, Some(answered), realm.clone(), started),
                _ => {
                    let outcome = Outcome::Error {
                        code: error.code,
                        ntstatus: error.nt_status(),
                        text: shortened(error.text.as_deref().unwrap_or_default()),
                        skew: error::skew(error, answered.window) / 1000,
                        data: error.describe_data(),
                    };
                    self.failed(request, Some(answered), outcome, started);
                }
            },
        }
    }

    fn unlisted(&self, request: &KdcRequest, answered: Option<&Answered>, realm: String, started: Instant) {
        count(&self.observer.counters().unlisted);
        tracing::warn!(
            cause = Cause::RealmUnknown.code(),
            realm = %realm.escape_default(),
            asked = %request.realm.escape_default(),
            remedy = Cause::RealmUnknown.remedy(),
            "a realm is needed that the configuration does not list"
        );
        self.failed(request, answered, Outcome::UnlistedRealm(realm), started);
    }

    fn failed(&self, request: &KdcRequest, answered: Option<&Answered>, outcome: Outcome, started: Instant) {
        let at = Instant::now();
        self.observer.failed(KdcReport {
            at,
            exchange: request.exchange,
            realm: request.realm.clone(),
            subject: request.subject.clone(),
            sname: request.sname.clone(),
            proxy: request.evidence.is_some(),
            kdc: answered.map(|answered| answered.kdc.clone()),
            duration: at.saturating_duration_since(started),
            outcome,
        });
    }

    /// See the module's documentation. Nothing but this process's own TCP is ever passed on.
    async fn refuse_datagrams(&self, socket: &UdpSocket) {
        let mut bucket = Bucket::new(self.limits.rate);
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, client)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if let Ok(request) = KdcRequest::parse(datagram)
                        && bucket.take()
                    {
                        let answer = error::answer(&request, "this KDC relay serves TCP only");
                        // A client that is gone needs no answer.
                        let _ = socket.try_send_to(&answer, client);
                    }
                }
                // The previous answer's addressee is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// What a peer says at length is kept in part: it goes into memory, log and audit once for each user.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A token bucket that holds one second's worth.
struct Bucket {
    rate: u32,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u32) -> Self {
        Self { rate, tokens: f64::from(rate), filled: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let rate = f64::from(self.rate);
        self.tokens = rate.min(self.tokens + now.duration_since(self.filled).as_secs_f64() * rate);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
