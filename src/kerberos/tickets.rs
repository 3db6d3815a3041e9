//! The ticket cache: who waits for which acquisition, how old a ticket may get, and what ends it.
//!
//! ```text
//! obtained ---------- ahead ---- soft age ---- max_ride_through ---- end - skew
//!   |  served from the cache       |  served only while no KDC answers |  never
//!                      |           '- a request waits until the user has been asked for again
//!                      '- a request has the user asked for again, and does not wait
//! ```
//!
//! Either way the answer counts: a refusal ends the ticket. `ahead` lies between 70 and 95 percent of the way to the soft age,
//! or to the ticket's own end where that comes first, elsewhere for each ticket: what was acquired at nine o'clock is not all acquired
//! again at a quarter past.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::failure::{Cause, Failure};
use crate::identity::{ExpectedSid, Principal, RequestedName};
use crate::kerberos::acquire::line::Urgency;
use crate::kerberos::acquire::worker::Place;
use crate::kerberos::engine::Mint;
use crate::kerberos::{TicketFacts, TicketId};
use crate::naming::name::Spn;
use crate::naming::sid::Sid;
use index::Index;
pub(super) use key::TicketKey;
use meaning::{is_about_the_account, is_outage, is_refusal, memory};

/// While no KDC answers, one request in this time asks again, in the background; all others ride at once.
const RIDE_RETRY: Duration = Duration::from_secs(15);
/// What was refused is remembered so long at most, see [`memory`], and of so many.
const LONGEST_MEMORY: Duration = Duration::from_secs(10);
const REFUSALS: u64 = 65_536;
/// Where renewal ahead of time begins, as parts of the way to the age at which a request would have to wait.
const AHEAD: (f64, f64) = (0.70, 0.95);
/// No acquisition takes longer, from its begin: `acquire_timeout` is an hour at most.
const LONGEST_ACQUISITION: Duration = Duration::from_mins(65);
/// Service tickets forgotten on a back end's word: one per user, and so many per SPN, in [`FORGET_WINDOW`].
const FORGET_LIMIT: u32 = 20;
const FORGET_WINDOW: Duration = Duration::from_secs(10);

/// A ticket, ready to mint from.
pub(super) struct CachedTicket {
    pub(super) mint: Mint,
    pub(super) facts: TicketFacts,
    /// The ticket alone.
    pub(super) ticket_bytes: usize,
    /// When a worker began to ask for it.
    asked: Instant,
    obtained: Instant,
    /// Milliseconds after `obtained` before which nobody asks for the user again.
    refresh_after: AtomicU64,
    soft_age: Duration,
    riding: AtomicBool,
}

impl CachedTicket {
    pub(super) fn new(mint: Mint, facts: TicketFacts, ticket_bytes: usize, ages: Ages, asked: Instant) -> Self {
        let life = until(facts.end_time, ages.clock_skew).min(ages.soft_age);
        let refresh_after = AtomicU64::new(millis(life.mul_f64(AHEAD.0 + (AHEAD.1 - AHEAD.0) * facts.id.spread())));
        let soft_age = ages.soft_age;
        Self {
            mint,
            facts,
            ticket_bytes,
            asked,
            obtained: Instant::now(),
            refresh_after,
            soft_age,
            riding: AtomicBool::new(false),
        }
    }

    /// Past this a request waits until the user has been asked for again.
    fn is_stale(&self) -> bool {
        self.obtained.elapsed() >= self.soft_age
    }

    /// The user should be asked for again.
    fn is_due(&self) -> bool {
        millis(self.obtained.elapsed()) >= self.refresh_after.load(Ordering::Relaxed)
    }

    /// Nobody asks for the user again for a while.
    fn put_off(&self) {
        self.refresh_after.store(millis(self.obtained.elapsed().saturating_add(RIDE_RETRY)), Ordering::Relaxed);
    }

    /// Nobody answered: serves on, and is asked for again later.
    fn ride(&self, key: &TicketKey, failure: &Failure) {
        self.put_off();
        if !self.riding.swap(true, Ordering::Relaxed) {
            warn!(principal = %key.principal, spn = %key.spn(), %failure, "no KDC answers: riding on the cached ticket");
        }
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

/// An acquisition under way: what comes of it, and where it stands in line.
#[derive(Clone)]
struct Flight {
    landing: watch::Receiver<Landing>,
    place: Place,
}

/// What was refused, and until when that is remembered.
type Refusal = (Failure, Instant);

/// Tickets by key, acquisitions under way by key, and what back ends and KDCs said lately.
pub(super) struct Tickets {
    ages: Ages,
    entries: Cache<TicketKey, Arc<CachedTicket>>,
    index: Arc<Index>,
    refusals: Cache<TicketKey, Refusal>,
    /// Accounts that were refused, and when: longer than any acquisition takes.
    ended: Cache<RequestedName, Instant>,
    /// The same by SID: an account answers to several names.
    ended_sids: Cache<Sid, Instant>,
    flights: Mutex<HashMap<TicketKey, Flight>>,
    forgotten: Cache<TicketKey, ()>,
    forgotten_by_spn: Mutex<HashMap<Spn, (Instant, u32)>>,
    /// The newest version of each service's key that a ticket came with.
    key_versions: Mutex<HashMap<Spn, u32>>,
}

/// An entry lives as long as its ticket may be used at all.
struct HardAge(Duration);

impl Expiry<TicketKey, Arc<CachedTicket>> for HardAge {
    fn expire_after_create(&self, _: &TicketKey, ticket: &Arc<CachedTicket>, _: std::time::Instant) -> Option<Duration> {
        Some(until(ticket.facts.end_time, self.0))
    }

    fn expire_after_update(
        &self,
        _: &TicketKey,
        ticket: &Arc<CachedTicket>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(until(ticket.facts.end_time, self.0))
    }
}

impl Tickets {
    /// A cache of tickets of at most so many bytes, with what minting keeps beside each.
    pub(super) fn new(ages: Ages, capacity: u64) -> Arc<Self> {
        let index = Arc::<Index>::default();
        let gone = {
            let index = Arc::clone(&index);
            move |key: Arc<TicketKey>, ticket: Arc<CachedTicket>, cause| {
                if cause != RemovalCause::Replaced {
                    index.remove(&key, ticket.facts.sid.as_ref());
                }
            }
        };
        let entries = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, ticket: &Arc<CachedTicket>| u32::try_from(ticket.mint.memory(ticket.ticket_bytes)).unwrap_or(u32::MAX))
            .expire_after(HardAge(ages.clock_skew))
            .eviction_listener(gone)
            .build();
        Arc::new(Self {
            ages,
            entries,
            index,
            refusals: Cache::builder().max_capacity(REFUSALS).time_to_live(LONGEST_MEMORY).build(),
            ended: Cache::builder().max_capacity(REFUSALS).time_to_live(LONGEST_ACQUISITION).build(),
            ended_sids: Cache::builder().max_capacity(REFUSALS).time_to_live(LONGEST_ACQUISITION).build(),
            flights: Mutex::default(),
            forgotten: Cache::builder().max_capacity(REFUSALS).time_to_live(FORGET_WINDOW).build(),
            forgotten_by_spn: Mutex::default(),
            key_versions: Mutex::default(),
        })
    }

    /// The ticket for this key and whether it was in the cache. `acquire` is run at most once for all who wait; it goes on when they
    /// give up, and its ticket is kept. It joins the line at once, and returns its place and what will come of it.
    pub(super) async fn get<A>(
        self: &Arc<Self>,
        key: &TicketKey,
        deadline: Instant,
        acquire: impl FnOnce(Urgency) -> Result<(Place, A), Failure>,
    ) -> Result<(Arc<CachedTicket>, bool), Failure>
    where
        A: Future<Output = Result<CachedTicket, Failure>> + Send + 'static,
    {
        let Some(old) = self.entries.get(key).filter(|ticket| !self.is_over(ticket)) else {
            if let Some(refusal) = self.remembered(key) {
                return Err(refusal);
            }
            return self.launch(key, Urgency::Asked, acquire)?.landed(deadline).await.map(|ticket| (ticket, false));
        };
        if !old.is_stale() || (old.is_riding() && self.may_ride(&old)) {
            if old.is_due() {
                // Not again for a while, whatever comes of it. A line that is full is no reason to fail.
                old.put_off();
                // A ticket past its soft age must not wait behind whoever else comes: it may be that of a disabled account.
                let urgency = if old.is_stale() { Urgency::Asked } else { Urgency::Ahead };
                drop(self.launch(key, urgency, acquire));
            }
            return Ok((old, true));
        }
        let landed = match self.launch(key, Urgency::Asked, acquire) {
            Ok(flight) => flight.landed(deadline).await,
            Err(failure) => Err(failure),
        };
        match landed {
            Ok(new) => Ok((new, false)),
            Err(failure) if is_outage(failure.cause) && self.may_ride(&old) => {
                old.ride(key, &failure);
                Ok((old, true))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Forgets a ticket that a back end did not take. False when that is refused: this user's was forgotten a moment ago, or too many
    /// for this SPN. A ticket for a key that the service no longer has is not counted: everybody's is of no use then, and a new one helps.
    pub(super) fn forget(&self, key: &TicketKey, used: TicketId) -> bool {
        let Some(cached) = self.entries.get(key) else { return true };
        if cached.facts.id != used {
            // Another request has had it replaced already.
            return true;
        }
        if self.forgotten.contains_key(key) || !(self.is_outdated(key, &cached) || self.spn_may_forget(key.spn())) {
            return false;
        }
        self.forgotten.insert(key.clone(), ());
        self.entries.invalidate(key);
        debug!(principal = %key.principal, spn = %key.spn(), "service ticket forgotten");
        true
    }

    /// Drops every ticket of this account; one under way is not kept when it lands. Returns how many there were.
    pub(super) fn evict(&self, principal: &Principal) -> usize {
        let expected = match principal.expected_sid() {
            ExpectedSid::Is(sid) => Some(sid.clone()),
            ExpectedSid::PinOnFirstUse => None,
        };
        self.end_all_of(principal.name(), expected)
    }

    /// Drops every ticket for this SPN; one under way is kept when it lands. Returns how many there were.
    pub(super) fn evict_spn(&self, spn: &Spn) -> usize {
        let of_spn: Vec<_> = self.entries.iter().map(|(key, _)| key).filter(|key| key.spn() == spn).collect();
        for key in &of_spn {
            self.entries.invalidate(&**key);
        }
        of_spn.len()
    }

    /// How many tickets there are.
    pub(super) fn count(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.entry_count()
    }

    /// Bytes of the tickets in the cache, without anything beside them.
    pub(super) fn ticket_bytes(&self) -> usize {
        self.entries.iter().map(|(_, ticket)| ticket.ticket_bytes).sum()
    }

    /// Joins the acquisition under way for this key, or starts one.
    fn launch<A>(
        self: &Arc<Self>,
        key: &TicketKey,
        urgency: Urgency,
        acquire: impl FnOnce(Urgency) -> Result<(Place, A), Failure>,
    ) -> Result<Flight, Failure>
    where
        A: Future<Output = Result<CachedTicket, Failure>> + Send + 'static,
    {
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(key).cloned() {
            drop(flights);
            if urgency == Urgency::Asked {
                flight.place.hurry();
            }
            return Ok(flight);
        }
        let (place, acquisition) = acquire(urgency)?;
        let (sender, landing) = watch::channel(None);
        let flight = Flight { landing, place };
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        let seat = Seat { tickets: Arc::clone(self), key: key.clone() };
        tokio::spawn(async move {
            let landing = acquisition.await.and_then(|ticket| seat.tickets.usable(ticket));
            seat.tickets.land(&seat.key, &landing);
            // Out of the map before anybody hears of it: who comes now finds the ticket.
            drop(seat);
            sender.send_replace(Some(landing));
        });
        Ok(flight)
    }

    fn land(&self, key: &TicketKey, landing: &Result<Arc<CachedTicket>, Failure>) {
        let failure = match landing {
            Ok(ticket) => return self.keep(key, ticket),
            Err(failure) => failure,
        };
        if let Some(memory) = memory(failure.cause) {
            self.refusals.insert(key.clone(), (failure.clone(), Instant::now() + memory));
        }
        let old = self.entries.get(key);
        if is_outage(failure.cause) {
            if let Some(old) = old.filter(|old| self.may_ride(old)) {
                old.ride(key, failure);
            }
            return;
        }
        if !is_refusal(failure.cause) && old.as_ref().is_some_and(|old| !old.is_stale()) {
            // Asked ahead of time, and nobody said no. But somebody answered.
            if let Some(old) = old {
                old.riding.store(false, Ordering::Relaxed);
            }
            return;
        }
        if is_about_the_account(failure.cause) {
            // Before its own ticket goes, which says who it is.
            self.end_all_of(key.principal.name(), None);
        }
        self.entries.invalidate(key);
    }

    fn keep(&self, key: &TicketKey, ticket: &Arc<CachedTicket>) {
        if self.ended_since(key, ticket) {
            return;
        }
        if let Some(version) = ticket.facts.key_version {
            let mut versions = locked(&self.key_versions);
            let newest = versions.entry(key.spn().clone()).or_default();
            *newest = version.max(*newest);
        }
        self.refusals.invalidate(key);
        self.entries.insert(key.clone(), Arc::clone(ticket));
        self.index.add(key, ticket.facts.sid.as_ref());
        // Whoever ended the account meanwhile may have looked before it was there.
        if self.ended_since(key, ticket) {
            self.entries.invalidate(key);
        }
    }

    /// What was refused a moment ago.
    fn remembered(&self, key: &TicketKey) -> Option<Failure> {
        self.refusals.get(key).filter(|(_, until)| Instant::now() < *until).map(|(failure, _)| failure)
    }

    /// The account is refused, not this certificate, this back end or this name: its other tickets end too, and one that is under way
    /// for it is not kept when it lands. Which account that is say the tickets by this name, and `expected`.
    fn end_all_of(&self, name: &RequestedName, expected: Option<Sid>) -> usize {
        // What lands from now on was asked for before, and is not kept.
        self.ended.insert(name.clone(), Instant::now());
        let mut keys: HashSet<Arc<TicketKey>> = self.index.named(name).into_iter().collect();
        let sids: HashSet<Sid> =
            keys.iter().filter_map(|key| self.entries.get(&**key)?.facts.sid.clone()).chain(expected).collect();
        for sid in &sids {
            self.ended_sids.insert(sid.clone(), Instant::now());
            let is_theirs =
                |key: &Arc<TicketKey>| self.entries.get(&**key).is_some_and(|ticket| ticket.facts.sid.as_ref() == Some(sid));
            keys.extend(self.index.of(sid).into_iter().filter(is_theirs));
        }
        keys.iter().filter(|key| self.entries.remove(&***key).is_some()).count()
    }

    /// Whether the account was ended after this ticket was asked for.
    fn ended_since(&self, key: &TicketKey, ticket: &CachedTicket) -> bool {
        let by_sid = ticket.facts.sid.as_ref().and_then(|sid| self.ended_sids.get(sid));
        [self.ended.get(key.principal.name()), by_sid].into_iter().flatten().any(|ended| ended >= ticket.asked)
    }

    /// A ticket that is past its hard age when it comes is none.
    fn usable(&self, ticket: CachedTicket) -> Result<Arc<CachedTicket>, Failure> {
        if self.is_over(&ticket) {
            return Err(Failure::new(Cause::TicketUnusable, "the KDC's ticket ends within kerberos.clock_skew"));
        }
        Ok(Arc::new(ticket))
    }

    /// Past the hard age: the ticket's end less the allowed skew.
    fn is_over(&self, ticket: &CachedTicket) -> bool {
        until(ticket.facts.end_time, self.ages.clock_skew).is_zero()
    }

    fn may_ride(&self, ticket: &CachedTicket) -> bool {
        ticket.obtained.elapsed() < self.ages.soft_age.saturating_add(self.ages.max_ride_through)
    }

    /// Whether a ticket for the same service came with a newer key since.
    fn is_outdated(&self, key: &TicketKey, ticket: &CachedTicket) -> bool {
        ticket.facts.key_version.is_some_and(|own| locked(&self.key_versions).get(key.spn()).is_some_and(|newest| own < *newest))
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

impl Flight {
    /// What comes of it, for somebody who waits until `deadline` and no longer.
    async fn landed(mut self, deadline: Instant) -> Result<Arc<CachedTicket>, Failure> {
        match tokio::time::timeout_at(deadline, self.landing.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.clone().unwrap_or_else(|| Err(Cause::AcquisitionTimeout.into())),
            Ok(Err(_gone)) => Err(Failure::new(Cause::AcquisitionTimeout, "the acquisition ended without a word")),
            Err(_elapsed) => {
                let wait = self.place.wait();
                Err(Failure::new(Cause::AcquisitionTimeout, "it goes on, and its ticket will be kept").retry_after(wait))
            }
        }
    }
}

/// A flight's place in the map, given up however the flight ends.
struct Seat {
    tickets: Arc<Tickets>,
    key: TicketKey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.tickets.flights).remove(&self.key);
    }
}

/// Time until `end_time` (seconds since 1970) less the allowed skew.
fn until(end_time: i64, skew: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(u64::try_from(end_time).unwrap_or_default()).saturating_sub(skew).saturating_sub(now)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

mod index;
mod key;
mod meaning;

#[cfg(test)]
mod tests;
