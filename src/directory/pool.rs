//! The servers of one kind: which of them is asked, and who is next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::time::{timeout, timeout_at};

use crate::directory::connection::{Connector, Found};
use crate::directory::question::Question;
use crate::directory::server::{Pace, Readiness, Server, ServerHealth, ServerRole};
use crate::directory::trouble::Trouble;
use crate::directory::{DirectorySecurity, DirectoryServer};
use crate::dns::{Dns, MIN_TTL};
use crate::failure::{Cause, Failure};

/// No more servers than these, whatever DNS says.
const MAX_SERVERS: usize = 32;

/// Where servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listed(Vec<DirectoryServer>),
    /// By SRV record. Only hosts below the domain are asked: DNS is not protected, and any other host with a certificate of the same
    /// CA would be sent our password.
    Service {
        name: String,
        domain: String,
        port: u16,
    },
}

/// Everything a server is made with.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) connector: Arc<Connector>,
    pub(super) dns: Arc<Dns>,
    pub(super) pace: Pace,
    pub(super) connections: usize,
}

/// How current the servers are.
#[derive(Clone, Copy, Debug, Default)]
enum Located {
    #[default]
    Never,
    Until(Instant),
    ForEver,
}

pub(super) struct Pool {
    source: Source,
    role: ServerRole,
    means: Means,
    located: tokio::sync::Mutex<Located>,
    /// In the order of the source.
    servers: Mutex<Vec<Arc<Server>>>,
}

impl Pool {
    pub(super) fn new(source: Source, role: ServerRole, means: Means) -> Self {
        Self { source, role, means, located: tokio::sync::Mutex::default(), servers: Mutex::default() }
    }

    /// Asks servers in turn until one answers: of a certain domain, where that is named.
    pub(super) async fn ask(&self, question: &Question, domain: Option<&str>, deadline: Instant) -> Result<Found, Failure> {
        let located = timeout_at(deadline.into(), self.locate()).await;
        located.unwrap_or_else(|_| Err("the name service did not answer in time".to_owned())).map_err(unreachable)?;
        let candidates = self.in_order();
        let mut tried = Tried::default();
        for (position, server) in candidates.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tried.reasons.push("the time was over".to_owned());
                break;
            }
            // A silent one must leave the next enough time to answer.
            let limit = if position + 1 < candidates.len() { left / 2 } else { left };
            match server.ask(question, domain, limit).await {
                Ok(found) => return Ok(found),
                Err(Trouble::Answer(failure) | Trouble::Credentials(failure)) => {
                    return Err(Failure::new(failure.cause, format!("{server}: {}", failure.detail)));
                }
                Err(Trouble::Server(failure) | Trouble::Stale(failure) | Trouble::Busy(failure)) => tried.add(server, &failure),
                Err(Trouble::Elsewhere(domain)) => tried.reasons.push(format!("{server} is of {domain}")),
            }
        }
        Err(tried.into_failure(domain, self.servers().len()))
    }

    /// How the servers are.
    pub(super) fn health(&self) -> Vec<ServerHealth> {
        self.servers().iter().map(|server| server.health()).collect()
    }

    /// What one of the servers says of itself.
    pub(super) async fn root_dse(&self, deadline: Instant) -> Result<Arc<super::RootDse>, Failure> {
        let known = self.servers().iter().find_map(|server| server.root_dse());
        if let Some(root) = known {
            return Ok(root);
        }
        self.ask(&Question::root_dse(), None, deadline).await?;
        let known = self.servers().iter().find_map(|server| server.root_dse());
        known.ok_or_else(|| unreachable("the server that answered is gone".to_owned()))
    }

    /// Those to be asked, in the order of the source. One whose rest is over is tried in the background while there are others, so that
    /// no question waits for it; where there are none the question itself finds out.
    fn in_order(&self) -> Vec<Arc<Server>> {
        let (mut ready, mut back) = (Vec::new(), Vec::new());
        for server in self.servers() {
            match server.readiness() {
                Readiness::Ready => ready.push(server),
                Readiness::Probe => back.push(server),
                Readiness::Resting => {}
            }
        }
        if ready.is_empty() {
            return back;
        }
        for server in back {
            tokio::spawn(async move { server.probe().await });
        }
        ready
    }

    fn servers(&self) -> Vec<Arc<Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks the servers up where that is due; the known ones serve while the name service does not.
    async fn locate(&self) -> Result<(), String> {
        let mut located = self.located.lock().await;
        match *located {
            Located::ForEver => return Ok(()),
            Located::Until(until) if Instant::now() < until => return Ok(()),
            Located::Until(_) | Located::Never => {}
        }
        let found = match &self.source {
            Source::Listed(servers) => Ok((servers.clone(), None)),
            Source::Service { name, domain, port } if self.servers().is_empty() => self.look_up(name, domain, *port).await,
            Source::Service { name, domain, port } => {
                let patience = self.means.connector.connect_timeout / 2;
                let looked = timeout(patience, self.look_up(name, domain, *port)).await;
                looked.unwrap_or_else(|_| Err("the name service did not answer in time".to_owned()))
            }
        };
        match found {
            Ok((addresses, until)) => {
                self.renew(addresses);
                *located = until.map_or(Located::ForEver, Located::Until);
                Ok(())
            }
            Err(trouble) if self.servers().is_empty() => Err(trouble),
            Err(trouble) => {
                tracing::warn!(%trouble, "directory servers cannot be looked up; the last known ones are used");
                *located = Located::Until(Instant::now() + MIN_TTL);
                Ok(())
            }
        }
    }

    async fn look_up(&self, name: &str, domain: &str, port: u16) -> Result<(Vec<DirectoryServer>, Option<Instant>), String> {
        let found = self.means.dns.open()?.services(name).await?;
        let (inside, outside): (Vec<_>, Vec<_>) =
            found.what.into_iter().map(|target| target.host).partition(|host| is_below(host, domain));
        if let Some(host) = outside.first() {
            tracing::warn!(service = name, %host, domain, "a directory server outside of the domain is not asked");
        }
        if inside.is_empty() {
            return Err(format!("{name}: no server below {domain}"));
        }
        let security = DirectorySecurity::Ldaps;
        Ok((inside.into_iter().map(|host| DirectoryServer { host, port, security }).collect(), found.until))
    }

    /// The new servers in the new order; those known already keep their connections and their condition.
    fn renew(&self, addresses: Vec<DirectoryServer>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *servers);
        for address in addresses {
            if servers.len() == MAX_SERVERS || servers.iter().any(|server| server.address == address) {
                continue;
            }
            let kept = known.iter().find(|server| server.address == address).cloned();
            let Means { connector, pace, connections, .. } = &self.means;
            let make = || Arc::new(Server::new(address, self.role, connector.clone(), *pace, *connections));
            servers.push(kept.unwrap_or_else(make));
        }
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// Who was asked in vain.
#[derive(Debug, Default)]
struct Tried {
    /// Of the worst failure: one that understood us and refused says more than one that is silent.
    cause: Option<Cause>,
    reasons: Vec<String>,
}

impl Tried {
    fn add(&mut self, server: &Server, failure: &Failure) {
        let weight = |cause: Cause| match cause {
            Cause::DirectoryRefused => 2,
            Cause::DirectoryInvalid => 1,
            _ => 0,
        };
        if self.cause.is_none_or(|known| weight(known) < weight(failure.cause)) {
            self.cause = Some(failure.cause);
        }
        self.reasons.push(format!("{server}: {}", failure.detail));
    }

    fn into_failure(self, domain: Option<&str>, known: usize) -> Failure {
        let cause = self.cause.unwrap_or(Cause::DirectoryUnreachable);
        let reasons = if self.reasons.is_empty() {
            format!("all of {known} servers failed just now and are left alone for a while")
        } else {
            self.reasons.join("; ")
        };
        match domain {
            Some(domain) => Failure::new(cause, format!("for the domain {domain}: {reasons}")),
            None => Failure::new(cause, reasons),
        }
    }
}

fn unreachable(trouble: String) -> Failure {
    Failure::new(Cause::DirectoryUnreachable, trouble)
}

#[cfg(test)]
mod tests;
