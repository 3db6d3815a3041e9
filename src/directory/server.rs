//! One server: its connections and how well it is.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

use crate::directory::connection::{Connection, Connector, Found, Search};
use crate::directory::question::Question;
use crate::directory::root_dse::RootDse;
use crate::directory::trouble::Trouble;
use crate::directory::{DirectorySecurity, DirectoryServer};

/// When connections and servers are looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A server that failed is left alone for this long, doubled with every further failure.
    pub(super) first_rest: Duration,
    pub(super) longest_rest: Duration,
    /// A connection that was idle for longer is tried before it is trusted.
    pub(super) idle: Duration,
    /// A connection is closed at this age.
    pub(super) age: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_rest: Duration::from_secs(1),
            longest_rest: Duration::from_mins(1),
            idle: Duration::from_secs(30),
            age: Duration::from_mins(10),
        }
    }
}

/// What a server is asked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerRole {
    /// Holds its whole domain.
    DomainController,
    /// Holds some attributes of the whole forest.
    GlobalCatalog,
}

/// How a server is, as far as the last questions showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// `ldaps://host:port` or `ldap://host:port`.
    pub server: String,
    /// What it is asked as.
    pub role: ServerRole,
    /// It is left alone for so long yet; none: it is asked.
    pub rests: Option<Duration>,
    /// Failures since its last answer.
    pub failures: u32,
    /// The last failure, also where it has answered since.
    pub last_failure: Option<String>,
    /// Since its last answer; none: it never answered.
    pub answered: Option<Duration>,
    /// Connections that wait for a question.
    pub idle: usize,
    /// Connections with a question.
    pub busy: usize,
}

pub(super) struct Server {
    pub(super) address: DirectoryServer,
    pub(super) role: ServerRole,
    connector: Arc<Connector>,
    pace: Pace,
    connections: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<VecDeque<Connection>>,
    condition: Mutex<Condition>,
    root: Mutex<Option<Arc<RootDse>>>,
}

#[derive(Debug, Default)]
struct Condition {
    failures: u32,
    rests_until: Option<Instant>,
    /// One question or probe is finding out whether it is back.
    probed: bool,
    last_failure: Option<String>,
    answered: Option<Instant>,
}

/// Whether a server may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// Its rest is over; who gets this finds out whether it is back.
    Probe,
    Resting,
}

impl Server {
    pub(super) fn new(
        address: DirectoryServer,
        role: ServerRole,
        connector: Arc<Connector>,
        pace: Pace,
        connections: usize,
    ) -> Self {
        Self {
            address,
            role,
            connector,
            pace,
            connections,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
            condition: Mutex::default(),
            root: Mutex::default(),
        }
    }

    /// Whether it may be asked. [`Readiness::Probe`] is given to one at a time, until its question succeeds or fails.
    pub(super) fn readiness(&self) -> Readiness {
        let now = Instant::now();
        let mut condition = lock(&self.condition);
        match condition.rests_until {
            None => Readiness::Ready,
            Some(until) if until <= now && !condition.probed => {
                condition.probed = true;
                // Should the one who asks be given up, another may ask later.
                condition.rests_until = Some(now + self.connector.connect_timeout + self.connector.operation_timeout);
                Readiness::Probe
            }
            Some(until) if until <= now => {
                condition.probed = false;
                Readiness::Resting
            }
            Some(_) => Readiness::Resting,
        }
    }

    /// Asks, within `limit`, and takes note of how that went. A question for a certain domain is asked only of its servers.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: &Question,
        domain: Option<&str>,
        limit: Duration,
    ) -> Result<Found, Trouble> {
        let answer = self.attempt(question, domain, Instant::now() + limit).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// Finds out whether it is back, by opening a connection that is then kept.
    pub(super) async fn probe(self: &Arc<Self>) {
        let limit = self.connector.connect_timeout + self.connector.operation_timeout;
        // The outcome is noted by `ask`.
        let _ = self.ask(&Question::root_dse(), None, limit).await;
    }

    /// What it says of itself.
    pub(super) fn root_dse(&self) -> Option<Arc<RootDse>> {
        lock(&self.root).clone()
    }

    pub(super) fn health(&self) -> ServerHealth {
        let now = Instant::now();
        let condition = lock(&self.condition);
        ServerHealth {
            server: self.to_string(),
            role: self.role,
            rests: condition.rests_until.map(|until| until.saturating_duration_since(now)),
            failures: condition.failures,
            last_failure: condition.last_failure.clone(),
            answered: condition.answered.map(|at| now.saturating_duration_since(at)),
            idle: lock(&self.idle).len(),
            busy: self.connections.saturating_sub(self.permits.available_permits()),
        }
    }

    async fn attempt(self: &Arc<Self>, question: &Question, domain: Option<&str>, deadline: Instant) -> Result<Found, Trouble> {
        let permit = timeout_at(deadline.into(), self.permits.clone().acquire_owned()).await;
        let Ok(Ok(mut permit)) = permit else { return Err(Trouble::busy("all of its connections are in use")) };
        loop {
            let idle = self.take_idle(deadline).await;
            let reused = idle.is_some();
            let mut connection;
            (connection, permit) = match idle {
                Some(connection) => (connection, permit),
                None => self.open(permit, deadline).await?,
            };
            let root = self.introduced(&mut connection, deadline).await?;
            if let Some(domain) = domain
                && root.domain() != domain
            {
                self.keep(connection);
                return Err(Trouble::Elsewhere(root.domain()));
            }
            match self.within(&mut connection, &question.for_server(&root), deadline).await {
                Err(Trouble::Stale(_)) if reused => lock(&self.idle).clear(),
                answer @ (Ok(_) | Err(Trouble::Answer(_))) => {
                    self.keep(connection);
                    return answer;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// An idle connection that still works. After a while without questions that is tried, for firewalls forget silently.
    async fn take_idle(&self, deadline: Instant) -> Option<Connection> {
        loop {
            // The one used last: those that are not needed grow old and are closed.
            let mut connection = lock(&self.idle).pop_back()?;
            if connection.opened.elapsed() > self.pace.age || !connection.is_open() {
                continue;
            }
            if connection.used.elapsed() < self.pace.idle {
                return Some(connection);
            }
            let patience = deadline.min(Instant::now() + self.connector.operation_timeout / 4);
            let probe = Question::root_dse().for_server(&RootDse::default());
            if let Ok(Ok(_)) = timeout_at(patience.into(), connection.search(&probe)).await {
                return Some(connection);
            }
            // The others have been idle for longer.
            lock(&self.idle).clear();
        }
    }

    /// A new connection. It is opened by a task that ends when it ends, not when who waits for it gives up: a refusal of our
    /// password that nobody waited for would be forgotten, and the password shown again.
    async fn open(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<(Connection, OwnedSemaphorePermit), Trouble> {
        let (queued, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let (sender, receiver) = oneshot::channel();
        let (server, waits) = (self.clone(), queued.clone());
        tokio::spawn(async move {
            let opened = server.connector.open(&server.address, &waits).await;
            match sender.send((opened, permit)) {
                Ok(()) => {}
                Err((Ok(connection), _)) => server.keep(connection),
                Err((Err(trouble), _)) => server.note(Some(&trouble)),
            }
        });
        match timeout_at(deadline.into(), receiver).await {
            Ok(Ok((opened, permit))) => Ok((opened?, permit)),
            Ok(Err(_)) => Err(Trouble::unreachable("a connection was given up")),
            // Others are binding, which is not this server's fault.
            Err(_) if queued.load(Ordering::Relaxed) => Err(Trouble::busy("another bind is under way")),
            Err(_) => Err(self.late("no connection", begun)),
        }
    }

    /// What the server says of itself, asked once.
    async fn introduced(&self, connection: &mut Connection, deadline: Instant) -> Result<Arc<RootDse>, Trouble> {
        if let Some(root) = self.root_dse() {
            return Ok(root);
        }
        let found = self.within(connection, &Question::root_dse().for_server(&RootDse::default()), deadline).await?;
        let root = found.entries.first().and_then(RootDse::read);
        let root = Arc::new(root.ok_or_else(|| Trouble::nonsense("it is no domain controller, going by its rootDSE"))?);
        *lock(&self.root) = Some(root.clone());
        Ok(root)
    }

    async fn within(&self, connection: &mut Connection, search: &Search, deadline: Instant) -> Result<Found, Trouble> {
        let begun = Instant::now();
        let deadline = deadline.min(begun + self.connector.operation_timeout);
        let answer = timeout_at(deadline.into(), connection.search(search)).await;
        answer.unwrap_or_else(|_| {
            if search.slow {
                Err(Trouble::busy(format!("no answer to a slow question within {} ms", begun.elapsed().as_millis())))
            } else {
                Err(self.late("no answer", begun))
            }
        })
    }

    /// Nothing came since then. A caller in a hurry does not condemn a server that is only slow.
    fn late(&self, what: &str, begun: Instant) -> Trouble {
        let waited = begun.elapsed();
        let detail = format!("{what} within {} ms", waited.as_millis());
        if waited < self.connector.operation_timeout / 4 { Trouble::busy(detail) } else { Trouble::unreachable(detail) }
    }

    fn keep(&self, mut connection: Connection) {
        if connection.is_open() {
            lock(&self.idle).push_back(connection);
        }
    }

    /// Takes note of how a question went.
    fn note(&self, trouble: Option<&Trouble>) {
        match trouble {
            None | Some(Trouble::Answer(_) | Trouble::Elsewhere(_)) => self.succeeded(),
            Some(Trouble::Server(failure) | Trouble::Stale(failure)) => self.failed(&failure.detail),
            Some(Trouble::Credentials(failure)) => {
                let mut condition = lock(&self.condition);
                condition.probed = false;
                condition.last_failure = Some(failure.detail.clone());
            }
            Some(Trouble::Busy(_)) => lock(&self.condition).probed = false,
        }
    }

    fn succeeded(&self) {
        let mut condition = lock(&self.condition);
        condition.answered = Some(Instant::now());
        if condition.failures > 0 {
            tracing::info!(server = %self, "a directory server answers again");
        }
        condition.failures = 0;
        condition.probed = false;
        condition.rests_until = None;
    }

    fn failed(&self, detail: &str) {
        let now = Instant::now();
        let mut condition = lock(&self.condition);
        condition.last_failure = Some(detail.to_owned());
        let resting = condition.rests_until.is_some_and(|until| until > now) && !condition.probed;
        condition.probed = false;
        if resting {
            // It rests already: this question was asked before that.
            return;
        }
        let rest = self.pace.first_rest.saturating_mul(1 << condition.failures.min(16)).min(self.pace.longest_rest);
        let rest = rest + jitter(rest / 4);
        condition.failures = condition.failures.saturating_add(1);
        condition.rests_until = Some(now + rest);
        drop(condition);
        // It may be another one behind the same name when it is back.
        *lock(&self.root) = None;
        lock(&self.idle).clear();
        tracing::warn!(server = %self, reason = detail, ?rest, "a directory server does not answer as it should; the others are asked first");
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.address.security {
            DirectorySecurity::Ldaps => "ldaps",
            DirectorySecurity::StartTls => "ldap",
        };
        write!(f, "{scheme}://{}:{}", self.address.host, self.address.port)
    }
}

/// Somewhere below `span`, so that instances that failed together do not come back together.
fn jitter(span: Duration) -> Duration {
    span.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
