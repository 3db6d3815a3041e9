//! The delegation engine: ticket cache in front, acquisition workers behind, a fresh token for every request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use moka::{future, sync};
use tracing::{debug, info, warn};

use crate::failure::{Answer, Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::acquisition::{Acquired, Shared};
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::engine::Mint;
use crate::kerberos::keytab::Keytab;
use crate::kerberos::pins::SidPins;
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::reply::Reply;
use crate::kerberos::worker::Workers;
use crate::kerberos::{ChannelBinding, IssuedToken, TicketFacts, TokenSource};
use crate::naming::name::Spn;
use crate::policy::{Grant, Target};

/// While no KDC answers, one request in this time tries again; the others ride on the old ticket at once.
const RIDE_RETRY: Duration = Duration::from_secs(15);

/// Service tickets forgotten on a back end's word: at most this many per SPN in [`FORGET_WINDOW`].
const FORGET_LIMIT: u32 = 20;
const FORGET_WINDOW: Duration = Duration::from_secs(10);

/// Tokens for grants, by constrained delegation.
#[derive(Debug)]
pub struct Delegator {
    shared: Arc<Shared>,
    workers: Workers,
    tickets: Tickets,
    /// Acquisitions under way: one for each key, however many wait (moka's single flight).
    flights: future::Cache<TicketKey, Arc<CachedTicket>>,
    forgotten: Mutex<HashMap<Spn, (Instant, u32)>>,
}

type Tickets = sync::Cache<TicketKey, Arc<CachedTicket>>;

/// A ticket belongs to one principal (with everything its mapping expects), one SPN and one answer to the RC4 question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TicketKey {
    principal: Arc<Principal>,
    spn: Spn,
    allow_rc4: bool,
}

/// A ticket, ready to mint from.
struct CachedTicket {
    mint: Mint,
    facts: TicketFacts,
    obtained: Instant,
    /// Milliseconds after `obtained` before which no refresh is tried again; moved on while no KDC answers.
    refresh_after: AtomicU64,
    /// The ticket alone.
    ticket_bytes: usize,
    /// All of this entry, for the cache's limit.
    bytes: u32,
}

impl Delegator {
    /// Reads the keytab and starts the workers. libkrb5's environment must be set before (see [`crate::kerberos::gss::set_environment`]).
    /// `relay` knows what the KDCs said, word by word.
    pub fn start(config: KerberosConfig, relay: RelayObserver) -> Result<Self, Failure> {
        let keytab = Keytab::read(&config.keytab).map_err(|error| Failure::new(Cause::KeytabUnusable, error.to_string()))?;
        keytab.check(&config.principal).map_err(|error| Failure::new(Cause::KeytabUnusable, error.to_string()))?;
        let capacity = config.cache_bytes;
        let shared = Arc::new(Shared { config, keytab, pins: SidPins::default(), relay, acquisitions: AtomicU64::new(0) });
        let workers = Workers::start(&shared).map_err(|error| Failure::new(Cause::Overloaded, error.to_string()))?;
        let tickets = sync::Cache::builder().max_capacity(capacity).weigher(|_, ticket: &Arc<CachedTicket>| ticket.bytes).build();
        let flights = future::Cache::builder().max_capacity(u64::from(u32::MAX)).build();
        Ok(Self { shared, workers, tickets, flights, forgotten: Mutex::default() })
    }

    /// Acquisitions started so far.
    pub fn acquisitions(&self) -> u64 {
        self.shared.acquisitions.load(Ordering::Relaxed)
    }

    /// Bytes of the tickets in the cache, without anything beside them.
    pub fn cached_ticket_bytes(&self) -> usize {
        self.tickets.iter().map(|(_, ticket)| ticket.ticket_bytes).sum()
    }

    /// The ticket for this grant and whether it was in the cache.
    async fn ticket(&self, grant: &Grant, deadline: Instant) -> Result<(Arc<CachedTicket>, bool), Failure> {
        let key = TicketKey::of(grant);
        let cached = self.tickets.get(&key).filter(|ticket| self.is_alive(ticket));
        match cached {
            Some(ticket) if !ticket.wants_refresh() => Ok((ticket, true)),
            Some(old) => self.refresh(&key, old, grant, deadline).await,
            None => self.obtain(&key, grant, deadline).await.map(|ticket| (ticket, false)),
        }
    }

    /// Past the soft age the user is asked for again; while no KDC answers the old ticket serves on, a refusal ends it.
    async fn refresh(
        &self,
        key: &TicketKey,
        old: Arc<CachedTicket>,
        grant: &Grant,
        deadline: Instant,
    ) -> Result<(Arc<CachedTicket>, bool), Failure> {
        match self.obtain(key, grant, deadline).await {
            Ok(new) => Ok((new, false)),
            Err(failure) if failure.cause.answer() == Answer::Unavailable && self.may_ride(&old) => {
                warn!(principal = %key.principal, spn = %key.spn, %failure, "no KDC: riding on the cached ticket");
                old.postpone_refresh();
                Ok((old, true))
            }
            Err(failure) => {
                self.tickets.invalidate(key);
                Err(failure)
            }
        }
    }

    /// One acquisition for all who wait for this key. It runs to its end and fills the cache even when they give up.
    async fn obtain(&self, key: &TicketKey, grant: &Grant, deadline: Instant) -> Result<Arc<CachedTicket>, Failure> {
        let flight = async {
            // Somebody else's flight may have landed between our look and this one.
            if let Some(ticket) = self.tickets.get(key).filter(|ticket| self.is_alive(ticket) && !ticket.wants_refresh()) {
                return Ok(ticket);
            }
            let acquisition = fly(self.workers.clone(), self.shared.clone(), self.tickets.clone(), key.clone(), grant.clone());
            tokio::spawn(acquisition).await.unwrap_or_else(|_| Err(Cause::ShuttingDown.into()))
        };
        let landed = tokio::time::timeout_at(deadline.into(), self.flights.try_get_with_by_ref(key, flight)).await;
        self.flights.invalidate(key).await;
        match landed {
            Ok(Ok(ticket)) => Ok(ticket),
            Ok(Err(failure)) => Err((*failure).clone()),
            Err(_elapsed) => Err(Cause::AcquisitionTimeout.into()),
        }
    }

    /// Not past the hard age: the ticket's end less the allowed skew.
    fn is_alive(&self, ticket: &CachedTicket) -> bool {
        unix_now() < ticket.facts.end_time.saturating_sub_unsigned(self.shared.config.clock_skew.as_secs())
    }

    fn may_ride(&self, ticket: &CachedTicket) -> bool {
        let config = &self.shared.config;
        ticket.obtained.elapsed() < config.soft_age.saturating_add(config.max_ride_through)
    }
}

/// Acquires and caches. A free function: it outlives the request that started it.
async fn fly(
    workers: Workers,
    shared: Arc<Shared>,
    tickets: Tickets,
    key: TicketKey,
    grant: Grant,
) -> Result<Arc<CachedTicket>, Failure> {
    let deadline = Instant::now() + shared.config.acquire_timeout;
    let acquired = workers.acquire(Arc::clone(grant.principal()), Arc::clone(grant.target()), deadline).await?;
    let ticket = Arc::new(CachedTicket::new(acquired, grant.target(), shared.config.soft_age)?);
    info!(
        principal = %key.principal, client = ticket.facts.client, spn = %key.spn, sid = ticket.facts.sid.as_ref().map(ToString::to_string),
        etype = ticket.facts.ticket_etype, "ticket acquired"
    );
    tickets.insert(key, Arc::clone(&ticket));
    Ok(ticket)
}

impl TokenSource for Delegator {
    type Reply = Reply;

    async fn token(
        &self,
        grant: &Grant,
        binding: Option<&ChannelBinding>,
        deadline: Instant,
    ) -> Result<IssuedToken<Reply>, Failure> {
        let (ticket, cache_hit) = self.ticket(grant, deadline).await?;
        let (token, reply) = ticket.mint.token(grant.target(), binding).await?;
        let mut facts = ticket.facts.clone();
        facts.cache_hit = cache_hit;
        if cache_hit {
            facts.stages.clear();
        }
        Ok(IssuedToken { token, reply, facts })
    }

    fn forget(&self, grant: &Grant) -> bool {
        let spn = &grant.target().spn;
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = forgotten.entry(spn.clone()).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() > FORGET_WINDOW {
            (*since, *count) = (Instant::now(), 0);
        }
        if *count >= FORGET_LIMIT {
            return false;
        }
        *count += 1;
        drop(forgotten);
        debug!(principal = %grant.principal(), %spn, "service ticket forgotten");
        self.tickets.invalidate(&TicketKey::of(grant));
        true
    }
}

impl TicketKey {
    fn of(grant: &Grant) -> Self {
        let target = grant.target();
        Self { principal: Arc::clone(grant.principal()), spn: target.spn.clone(), allow_rc4: target.allow_rc4 }
    }
}

impl CachedTicket {
    fn new(acquired: Acquired, target: &Target, soft_age: Duration) -> Result<Self, Failure> {
        let ticket = &acquired.ticket;
        let facts = TicketFacts {
            client: format!("{}@{}", ticket.client, ticket.client_realm),
            sid: Some(acquired.sid),
            spn: target.spn.to_string(),
            ticket_etype: ticket.ticket_etype,
            session_etype: ticket.session_key.etype().number(),
            flags: ticket.flags,
            end_time: ticket.end_time,
            cache_hit: false,
            stages: acquired.stages,
        };
        let ticket_bytes = ticket.ticket.len();
        let mint = match acquired.reference {
            Some(credential) => Mint::Reference(credential),
            None => Mint::native(acquired.ticket)?,
        };
        let bytes = u32::try_from(mint.memory(ticket_bytes)).unwrap_or(u32::MAX);
        let refresh_after = AtomicU64::new(u64::try_from(soft_age.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { mint, facts, obtained: Instant::now(), refresh_after, ticket_bytes, bytes })
    }

    fn wants_refresh(&self) -> bool {
        self.obtained.elapsed().as_millis() >= u128::from(self.refresh_after.load(Ordering::Relaxed))
    }

    fn postpone_refresh(&self) {
        let until = self.obtained.elapsed().saturating_add(RIDE_RETRY).as_millis();
        self.refresh_after.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl std::fmt::Debug for CachedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CachedTicket({:?})", self.facts)
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
