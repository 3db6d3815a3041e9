//! The delegation engine: ticket cache in front, acquisition workers behind, a fresh token for every request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::info;

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::acquire::acquisition::{Acquired, Shared};
use crate::kerberos::acquire::worker::Workers;
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::engine::Mint;
use crate::kerberos::proof::keytab::Keytab;
use crate::kerberos::refusal::{DelegationFacts, Investigator, named};
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::reply::Reply;
use crate::kerberos::tickets::{Ages, CachedTicket, TicketKey, Tickets};
use crate::kerberos::{ChannelBinding, IssuedToken, TicketFacts, TicketId, TokenSource};
use crate::policy::Grant;

/// Tokens for grants, by constrained delegation.
pub struct Delegator {
    shared: Arc<Shared>,
    workers: Workers,
    tickets: Arc<Tickets>,
    investigator: Option<Arc<Investigator>>,
}

impl Delegator {
    /// Reads the keytab and starts the workers. libkrb5's environment must be set before (see [`crate::kerberos::acquire::gss::set_environment`]).
    /// `relay` knows what the KDCs said, word by word.
    pub fn start(config: KerberosConfig, relay: RelayObserver) -> Result<Self, Failure> {
        let unusable = |error: &dyn fmt::Display| Failure::new(Cause::KeytabUnusable, error.to_string());
        let keytab = Keytab::read(&config.keytab).map_err(|error| unusable(&error))?;
        keytab.check(&config.principal).map_err(|error| unusable(&error))?;
        let ages = Ages { soft_age: config.soft_age, max_ride_through: config.max_ride_through, clock_skew: config.clock_skew };
        let tickets = Tickets::new(ages, config.cache_bytes);
        let shared = Shared::new(config, keytab, relay);
        let workers = Workers::start(&shared).map_err(|error| Failure::new(Cause::Overloaded, error.to_string()))?;
        Ok(Self { shared, workers, tickets, investigator: None })
    }

    /// The same, with somebody to ask why delegation is refused.
    #[must_use]
    pub fn explaining_by(mut self, source: Arc<dyn DelegationFacts>) -> Self {
        self.investigator = Some(Arc::new(Investigator::new(self.shared.config.principal.clone(), source)));
        self
    }

    /// Acquisitions started so far.
    pub fn acquisitions(&self) -> u64 {
        self.shared.acquisitions.load(Ordering::Relaxed)
    }

    /// Bytes of the tickets in the cache, without anything beside them.
    pub fn cached_ticket_bytes(&self) -> usize {
        self.tickets.ticket_bytes()
    }
}

/// The failure as it is, or as the investigator explains it.
async fn explained(investigator: Option<&Investigator>, grant: &Grant, failure: Failure) -> Failure {
    match investigator {
        Some(investigator) => investigator.explain(failure, &grant.target().spn).await,
        None => failure,
    }
}

/// Acquires and prepares a ticket. Owns what it needs: it outlives the request that started it.
async fn acquire(
    workers: Workers,
    shared: Arc<Shared>,
    investigator: Option<Arc<Investigator>>,
    grant: Grant,
) -> Result<CachedTicket, Failure> {
    let queue_until = Instant::now() + shared.config.acquire_timeout;
    let acquired = match workers.acquire(Arc::clone(grant.principal()), Arc::clone(grant.target()), queue_until).await {
        Ok(acquired) => acquired,
        Err(failure) => return Err(explained(investigator.as_deref(), &grant, failure).await),
    };
    let ticket = cached(acquired, &grant, &shared.config)?;
    let facts = &ticket.facts;
    let sid = facts.sid.as_ref().map(ToString::to_string);
    info!(principal = %grant.principal(), client = facts.client, spn = facts.spn, sid, etype = facts.ticket_etype, "ticket acquired");
    Ok(ticket)
}

fn cached(acquired: Acquired, grant: &Grant, config: &KerberosConfig) -> Result<CachedTicket, Failure> {
    let ticket = &acquired.ticket;
    let facts = TicketFacts {
        id: TicketId::next(),
        client: format!("{}@{}", ticket.client, ticket.client_realm),
        sid: Some(acquired.sid),
        spn: grant.target().spn.to_string(),
        ticket_etype: ticket.ticket_etype,
        session_etype: ticket.session_key.etype().number(),
        flags: ticket.flags,
        end_time: ticket.end_time,
        cache_hit: false,
        stages: acquired.stages,
    };
    let bytes = ticket.ticket.len();
    let mint = match acquired.reference {
        Some(credential) => Mint::Reference(credential),
        None => Mint::native(acquired.ticket)?,
    };
    Ok(CachedTicket::new(mint, facts, bytes, config.soft_age))
}

impl TokenSource for Delegator {
    type Reply = Reply;

    async fn token(
        &self,
        grant: &Grant,
        binding: Option<&ChannelBinding>,
        deadline: Instant,
    ) -> Result<IssuedToken<Reply>, Failure> {
        let start = || acquire(self.workers.clone(), Arc::clone(&self.shared), self.investigator.clone(), grant.clone());
        let (ticket, cache_hit) = self.tickets.get(&TicketKey::of(grant), deadline.into(), start).await?;
        let (token, reply) = ticket.mint.token(grant.target(), binding).await?;
        let facts = if cache_hit { ticket.facts.for_hit() } else { ticket.facts.clone() };
        Ok(IssuedToken { token, reply, facts })
    }

    fn forget(&self, grant: &Grant, ticket: TicketId) -> bool {
        self.tickets.forget(&TicketKey::of(grant), ticket)
    }

    async fn explain(&self, grant: &Grant, failure: Failure) -> Failure {
        let failure = named(failure, &self.shared.config.principal, Some(&grant.target().spn));
        explained(self.investigator.as_deref(), grant, failure).await
    }

    fn evict(&self, principal: &Principal) -> usize {
        self.tickets.evict(principal)
    }
}

impl fmt::Debug for Delegator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegator").field("principal", &self.shared.config.principal).finish_non_exhaustive()
    }
}
