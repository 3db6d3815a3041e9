//! The delegation engine: ticket cache in front, acquisition workers behind, a fresh token for every request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::info;

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::acquire::acquisition::{Acquired, Shared};
use crate::kerberos::acquire::keys::Keys;
use crate::kerberos::acquire::worker::{Wanted, Workers};
use crate::kerberos::canary::Canaries;
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::encryption::Encryption;
use crate::kerberos::engine::Mint;
use crate::kerberos::refusal::{DelegationFacts, Investigator, named};
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::reply::Reply;
use crate::kerberos::tickets::{Ages, CachedTicket, TicketKey, Tickets};
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::TicketParts;
use crate::kerberos::{ChannelBinding, IssuedToken, TicketFacts, TicketId, TokenSource};
use crate::naming::name::Spn;
use crate::policy::{Grant, Target};

/// Tokens for grants, by constrained delegation. Clones share everything.
#[derive(Clone)]
pub struct Delegator {
    shared: Arc<Shared>,
    workers: Workers,
    tickets: Arc<Tickets>,
    ages: Ages,
    investigator: Option<Arc<Investigator>>,
}

/// Numbers of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelegatorNumbers {
    /// Tickets in the cache.
    pub tickets: u64,
    /// Acquisitions that wait for a worker.
    pub waiting: usize,
    /// Acquisitions started so far.
    pub acquisitions: u64,
}

impl Delegator {
    /// Reads the keytab and starts the workers. libkrb5's environment must be set before (see [`crate::kerberos::acquire::gss::set_environment`]).
    /// `relay` knows what the KDCs said, word by word.
    pub fn start(config: KerberosConfig, relay: RelayObserver) -> Result<Self, Failure> {
        let keys = Keys::read(config.keytab.clone(), config.principal.clone())?;
        let ages = Ages { soft_age: config.soft_age, max_ride_through: config.max_ride_through, clock_skew: config.clock_skew };
        let tickets = Tickets::new(ages, config.cache_bytes);
        let shared = Shared::new(config, keys, relay);
        let workers = Workers::start(&shared).map_err(|error| Failure::new(Cause::Overloaded, error.to_string()))?;
        Ok(Self { shared, workers, tickets, ages, investigator: None })
    }

    /// Starts the canaries of the configuration, which ask for tickets for these back ends.
    pub fn start_canaries(&self, targets: &[Arc<Target>]) -> std::io::Result<Canaries> {
        Canaries::start(&self.shared, targets)
    }

    /// Numbers for whoever watches.
    pub fn numbers(&self) -> DelegatorNumbers {
        DelegatorNumbers { tickets: self.tickets.count(), waiting: self.workers.waiting(), acquisitions: self.acquisitions() }
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

    /// Which encryption types the acquired tickets have.
    pub fn encryption(&self) -> Arc<Encryption> {
        Arc::clone(&self.shared.encryption)
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

/// Prepares the ticket that a worker has acquired. Owns what it needs: it outlives the request that started it.
async fn prepared(wanted: Wanted, engine: Delegator, grant: Grant) -> Result<CachedTicket, Failure> {
    let acquired = match wanted.await {
        Ok(Ok(acquired)) => acquired,
        Ok(Err(failure)) => return Err(explained(engine.investigator.as_deref(), &grant, failure).await),
        Err(_gone) => return Err(Failure::new(Cause::AcquisitionTimeout, "the worker ended")),
    };
    let ticket = cached(acquired, &grant, engine.ages)?;
    let facts = &ticket.facts;
    let sid = facts.sid.as_ref().map(ToString::to_string);
    let [etype, session_etype, evidence_etype] =
        [facts.ticket_etype, facts.session_etype, facts.evidence_etype].map(Etype::name_of);
    info!(principal = %grant.principal(), account = facts.account, client = facts.client, spn = facts.spn, sid, etype, session_etype, evidence_etype, "ticket acquired");
    engine.shared.encryption.acquired(facts, grant.target().allow_rc4);
    Ok(ticket)
}

fn cached(acquired: Acquired, grant: &Grant, ages: Ages) -> Result<CachedTicket, Failure> {
    let ticket = &acquired.ticket;
    let facts = TicketFacts {
        id: TicketId::next(),
        client: format!("{}@{}", ticket.client, ticket.client_realm),
        account: acquired.account.logon_name,
        sid: Some(acquired.account.sid),
        spn: grant.target().spn.to_string(),
        ticket_etype: ticket.ticket_etype,
        key_version: TicketParts::parse(&ticket.ticket).ok().and_then(|parts| parts.enc_part.kvno),
        session_etype: ticket.session_key.etype().number(),
        evidence_etype: acquired.evidence_etype.number(),
        flags: ticket.flags,
        end_time: ticket.end_time,
        cache_hit: false,
        stages: acquired.stages,
    };
    let (bytes, asked) = (ticket.ticket.len(), acquired.asked);
    let mint = match acquired.reference {
        Some(credential) => Mint::Reference(credential),
        None => Mint::native(acquired.ticket)?,
    };
    Ok(CachedTicket::new(mint, facts, bytes, ages, asked.into()))
}

impl TokenSource for Delegator {
    type Reply = Reply;

    async fn token(
        &self,
        grant: &Grant,
        binding: Option<&ChannelBinding>,
        deadline: Instant,
    ) -> Result<IssuedToken<Reply>, Failure> {
        let start = |urgency| {
            let (place, wanted) = self.workers.acquire(Arc::clone(grant.principal()), Arc::clone(grant.target()), urgency)?;
            Ok((place, prepared(wanted, self.clone(), grant.clone())))
        };
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

    fn evict_spn(&self, spn: &Spn) -> usize {
        self.tickets.evict_spn(spn)
    }
}

impl fmt::Debug for Delegator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegator").field("principal", &self.shared.config.principal).finish_non_exhaustive()
    }
}
