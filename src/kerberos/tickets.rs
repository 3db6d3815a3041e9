//! The ticket cache: who waits for which acquisition, how old a ticket may get, and what ends it.
//!
//! ```text
//! obtained ---- soft age ---- max_ride_through ---- end - skew
//!   |  served from the cache |  served only while no KDC answers |  never
//!                            '- the next request asks for the user again: a refusal ends the ticket
//! ```

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::Expiry;
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::failure::{Answer, Cause, Failure, Stage};
use crate::identity::{ExpectedSid, Principal, RequestedName};
use crate::kerberos::engine::Mint;
use crate::kerberos::{TicketFacts, TicketId};
use crate::naming::name::Spn;
use crate::policy::Grant;

/// While no KDC answers, one request in this time asks again, in the background; all others ride at once.
const RIDE_RETRY: Duration = Duration::from_secs(15);
/// A refusal is remembered this long: an account that is refused does not cost the KDC an exchange a request.
const REFUSAL_MEMORY: Duration = Duration::from_secs(5);
const REFUSALS: u64 = 65_536;
/// Service tickets forgotten on a back end's word: one per user, and so many per SPN, in [`FORGET_WINDOW`].
const FORGET_LIMIT: u32 = 20;
const FORGET_WINDOW: Duration = Duration::from_secs(10);

/// A ticket belongs to one principal (with everything its mapping expects), one SPN and one answer to the RC4 question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TicketKey {
    principal: Arc<Principal>,
    spn: Spn,
    allow_rc4: bool,
}

impl TicketKey {
    pub(super) fn of(grant: &Grant) -> Self {
        let target = grant.target();
        Self { principal: Arc::clone(grant.principal()), spn: target.spn.clone(), allow_rc4: target.allow_rc4 }
    }

    fn names(&self, name: &RequestedName) -> bool {
        self.principal.name() == name
    }
}

/// A ticket, ready to mint from.
pub(super) struct CachedTicket {
    pub(super) mint: Mint,
    pub(super) facts: TicketFacts,
    /// The ticket alone.
    pub(super) ticket_bytes: usize,
    obtained: Instant,
    /// Milliseconds after `obtained` before which nobody asks for the user again.
    refresh_after: AtomicU64,
    riding: AtomicBool,
}

impl CachedTicket {
    pub(super) fn new(mint: Mint, facts: TicketFacts, ticket_bytes: usize, soft_age: Duration) -> Self {
        let refresh_after = AtomicU64::new(millis(soft_age));
        Self { mint, facts, ticket_bytes, obtained: Instant::now(), refresh_after, riding: AtomicBool::new(false) }
    }

    fn wants_refresh(&self) -> bool {
        millis(self.obtained.elapsed()) >= self.refresh_after.load(Ordering::Relaxed)
    }

    /// Nobody answered: serves on, and is asked for again later.
    fn ride(&self) {
        self.riding.store(true, Ordering::Relaxed);
        self.refresh_after.store(millis(self.obtained.elapsed().saturating_add(RIDE_RETRY)), Ordering::Relaxed);
    }

    fn is_riding(&self) -> bool {
        self.riding.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for CachedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedTicket({:?})", self.facts)
    }
}

/// How old tickets may get (decision 10a).
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) soft_age: Duration,
    pub(super) max_ride_through: Duration,
    pub(super) clock_skew: Duration,
}

/// What an acquisition ended with, once it has.
type Landing = Option<Result<Arc<CachedTicket>, Failure>>;

/// Tickets by key, acquisitions under way by key, and what back ends and KDCs said lately.
pub(super) struct Tickets {
    ages: Ages,
    entries: Cache<TicketKey, Arc<CachedTicket>>,
    refusals: Cache<TicketKey, Failure>,
    /// Accounts that were refused, and when: longer than any acquisition takes.
    ended: Cache<RequestedName, Instant>,
    flights: Mutex<HashMap<TicketKey, watch::Receiver<Landing>>>,
    forgotten: Cache<TicketKey, ()>,
    forgotten_by_spn: Mutex<HashMap<Spn, (Instant, u32)>>,
}

/// An entry lives as long as its ticket may be used at all.
struct HardAge(Duration);

impl Expiry<TicketKey, Arc<CachedTicket>> for HardAge {
    fn expire_after_create(&self, _: &TicketKey, ticket: &Arc<CachedTicket>, _: std::time::Instant) -> Option<Duration> {
        Some(left(ticket, self.0))
    }

    fn expire_after_update(
        &self,
        _: &TicketKey,
        ticket: &Arc<CachedTicket>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(left(ticket, self.0))
    }
}

impl Tickets {
    /// A cache of tickets of at most so many bytes, with what minting keeps beside each.
    pub(super) fn new(ages: Ages, capacity: u64) -> Arc<Self> {
        let entries = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, ticket: &Arc<CachedTicket>| u32::try_from(ticket.mint.memory(ticket.ticket_bytes)).unwrap_or(u32::MAX))
            .expire_after(HardAge(ages.clock_skew))
            .build();
        Arc::new(Self {
            ages,
            entries,
            refusals: Cache::builder().max_capacity(REFUSALS).time_to_live(REFUSAL_MEMORY).build(),
            ended: Cache::builder().max_capacity(REFUSALS).time_to_live(Duration::from_mins(2)).build(),
            flights: Mutex::default(),
            forgotten: Cache::builder().max_capacity(REFUSALS).time_to_live(FORGET_WINDOW).build(),
            forgotten_by_spn: Mutex::default(),
        })
    }

    /// The ticket for this key and whether it was in the cache. `acquire` is run at most once for all who wait; it goes on when they
    /// give up, and its ticket is kept.
    pub(super) async fn get<A>(
        self: &Arc<Self>,
        key: &TicketKey,
        deadline: Instant,
        acquire: impl FnOnce() -> A,
    ) -> Result<(Arc<CachedTicket>, bool), Failure>
    where
        A: Future<Output = Result<CachedTicket, Failure>> + Send + 'static,
    {
        let Some(old) = self.entries.get(key).filter(|ticket| !left(ticket, self.ages.clock_skew).is_zero()) else {
            if let Some(refusal) = self.refusals.get(key) {
                return Err(refusal);
            }
            return landed(self.launch(key, acquire), deadline).await.map(|ticket| (ticket, false));
        };
        if !old.wants_refresh() {
            return Ok((old, true));
        }
        if old.is_riding() && self.may_ride(&old) {
            old.ride();
            drop(self.launch(key, acquire));
            return Ok((old, true));
        }
        match landed(self.launch(key, acquire), deadline).await {
            Ok(new) => Ok((new, false)),
            Err(failure) if is_outage(failure.cause) && self.may_ride(&old) => {
                warn!(principal = %key.principal, spn = %key.spn, %failure, "no KDC answers: riding on the cached ticket");
                old.ride();
                Ok((old, true))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Forgets a ticket that a back end did not take. False when that is refused: this user's was forgotten a moment ago, or too many
    /// for this SPN.
    pub(super) fn forget(&self, key: &TicketKey, used: TicketId) -> bool {
        let Some(cached) = self.entries.get(key) else { return true };
        if cached.facts.id != used {
            // Another request has had it replaced already.
            return true;
        }
        if self.forgotten.contains_key(key) || !self.spn_may_forget(&key.spn) {
            return false;
        }
        self.forgotten.insert(key.clone(), ());
        self.entries.invalidate(key);
        debug!(principal = %key.principal, spn = %key.spn, "service ticket forgotten");
        true
    }

    /// Drops every ticket of this account; one under way is not kept when it lands. Returns how many there were.
    pub(super) fn evict(&self, principal: &Principal) -> usize {
        let named = self.end_all_of(principal.name());
        let ExpectedSid::Is(sid) = principal.expected_sid() else { return named };
        let others: Vec<_> =
            self.entries.iter().filter(|(_, ticket)| ticket.facts.sid.as_ref() == Some(sid)).map(|(key, _)| key).collect();
        for key in &others {
            self.ended.insert(key.principal.name().clone(), Instant::now());
            self.entries.invalidate(&**key);
        }
        named + others.len()
    }

    /// Bytes of the tickets in the cache, without anything beside them.
    pub(super) fn ticket_bytes(&self) -> usize {
        self.entries.iter().map(|(_, ticket)| ticket.ticket_bytes).sum()
    }

    /// Joins the acquisition under way for this key, or starts one.
    fn launch<A>(self: &Arc<Self>, key: &TicketKey, acquire: impl FnOnce() -> A) -> watch::Receiver<Landing>
    where
        A: Future<Output = Result<CachedTicket, Failure>> + Send + 'static,
    {
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver.clone());
        drop(flights);
        let place = FlightPlace { tickets: Arc::clone(self), key: key.clone() };
        let acquisition = acquire();
        tokio::spawn(async move {
            let started = Instant::now();
            let landing = acquisition.await.and_then(|ticket| place.tickets.usable(ticket));
            place.tickets.land(&place.key, started, &landing);
            // Out of the map before anybody hears of it: who comes now finds the ticket.
            drop(place);
            sender.send_replace(Some(landing));
        });
        receiver
    }

    fn land(&self, key: &TicketKey, started: Instant, landing: &Result<Arc<CachedTicket>, Failure>) {
        match landing {
            Ok(_) if self.ended.get(key.principal.name()).is_some_and(|ended| ended >= started) => {}
            Ok(ticket) => {
                self.refusals.invalidate(key);
                self.entries.insert(key.clone(), Arc::clone(ticket));
            }
            Err(failure) if is_outage(failure.cause) => {}
            Err(failure) => {
                self.entries.invalidate(key);
                if is_remembered(failure.cause) {
                    self.refusals.insert(key.clone(), failure.clone());
                }
                if is_about_the_account(failure.cause) {
                    self.end_all_of(key.principal.name());
                }
            }
        }
    }

    /// The account is refused, not this certificate or this back end: its other tickets end too, and one that is under way for it is
    /// not kept when it lands.
    fn end_all_of(&self, name: &RequestedName) -> usize {
        self.ended.insert(name.clone(), Instant::now());
        let others: Vec<_> = self.entries.iter().map(|(key, _)| key).filter(|key| key.names(name)).collect();
        for key in &others {
            self.entries.invalidate(&**key);
        }
        others.len()
    }

    /// A ticket that is past its hard age when it comes is none.
    fn usable(&self, ticket: CachedTicket) -> Result<Arc<CachedTicket>, Failure> {
        if left(&ticket, self.ages.clock_skew).is_zero() {
            return Err(Failure::new(Cause::TicketUnusable, "the KDC's ticket ends within kerberos.clock_skew"));
        }
        Ok(Arc::new(ticket))
    }

    fn may_ride(&self, ticket: &CachedTicket) -> bool {
        ticket.obtained.elapsed() < self.ages.soft_age.saturating_add(self.ages.max_ride_through)
    }

    fn spn_may_forget(&self, spn: &Spn) -> bool {
        let mut by_spn = locked(&self.forgotten_by_spn);
        let (since, count) = by_spn.entry(spn.clone()).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() > FORGET_WINDOW {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        *count <= FORGET_LIMIT
    }
}

/// A flight's place in the map, given up however the flight ends.
struct FlightPlace {
    tickets: Arc<Tickets>,
    key: TicketKey,
}

impl Drop for FlightPlace {
    fn drop(&mut self) {
        locked(&self.tickets.flights).remove(&self.key);
    }
}

/// No KDC said anything: the only causes that let a cached ticket serve past its soft age. A full queue is one of them: a rush of new
/// users must not end the service of those who are there.
fn is_outage(cause: Cause) -> bool {
    matches!(cause, Cause::KdcUnreachable | Cause::AcquisitionTimeout | Cause::Overloaded)
}

/// A refusal that the next request would get again: of this user, or of everybody because of how the accounts are set up.
fn is_remembered(cause: Cause) -> bool {
    let of_set_up = matches!(cause.stage(), Stage::S4u2Self | Stage::S4u2Proxy) || cause == Cause::OwnTgtNotForwardable;
    of_set_up || cause.answer() == Answer::Refused
}

/// What a KDC or a PAC says of an account, whatever certificate or back end it is asked for with.
fn is_about_the_account(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::UserUnknown
            | Cause::UserDisabled
            | Cause::UserLocked
            | Cause::UserExpired
            | Cause::UserPasswordExpired
            | Cause::UserOutsideHours
            | Cause::UserWorkstationDenied
            | Cause::UserRestricted
            | Cause::UserRevoked
            | Cause::UserNotDelegable
            | Cause::UserProtected
            | Cause::AccountKindRefused
            | Cause::PrivilegedRefused
    )
}

async fn landed(mut flight: watch::Receiver<Landing>, deadline: Instant) -> Result<Arc<CachedTicket>, Failure> {
    match tokio::time::timeout_at(deadline, flight.wait_for(Option::is_some)).await {
        Ok(Ok(landing)) => landing.clone().unwrap_or_else(|| Err(Cause::AcquisitionTimeout.into())),
        Ok(Err(_gone)) => Err(Failure::new(Cause::AcquisitionTimeout, "the acquisition ended without a word")),
        Err(_elapsed) => Err(Cause::AcquisitionTimeout.into()),
    }
}

/// Time until the hard age: the ticket's end less the allowed skew.
fn left(ticket: &CachedTicket, skew: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = Duration::from_secs(u64::try_from(ticket.facts.end_time).unwrap_or_default());
    end.saturating_sub(skew).saturating_sub(now)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
