//! What was decided lately, by certificate.
//!
//! ```text
//! decided ---- positive_ttl ---- max_ride_through ----
//!   |  known                |  used only while no directory server answers
//! refused ---- negative_ttl ----
//!   |  known                |  asked again, and never used past its time
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::certificate::{Fingerprint, KeyFingerprint};
use crate::failure::{Answer, Failure};
use crate::identity::{AccountRules, Principal};
use crate::tls::ClientCertificate;

/// Certificates remembered.
const CAPACITY: u64 = 200_000;
/// However they are configured: a longer memory would let a disabled account in.
const MAX_POSITIVE: Duration = Duration::from_mins(5);
const MAX_NEGATIVE: Duration = Duration::from_secs(30);
/// The directory's trouble is remembered this long, so that it does not cost every request a timeout.
const TROUBLE: Duration = Duration::from_secs(5);
/// While no server answers, a certificate is asked about this often.
const RIDE_RETRY: Duration = Duration::from_secs(15);

/// A certificate and the key that signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Fingerprint, KeyFingerprint);

impl Key {
    pub(super) fn of(certificate: &ClientCertificate) -> Self {
        Self(certificate.fingerprint(), certificate.issuer_key())
    }
}

#[derive(Debug)]
pub(super) struct Memory {
    entries: Cache<Key, Arc<Entry>>,
    /// Without a directory an answer follows from the certificate alone, and counts until it is purged.
    ages: Option<Ages>,
    generation: AtomicU64,
    seats: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Clone, Copy, Debug)]
struct Ages {
    positive: Duration,
    negative: Duration,
    ride_through: Duration,
}

#[derive(Debug)]
struct Entry {
    answer: Result<Arc<Principal>, Failure>,
    /// none: always
    fresh_until: Option<Instant>,
    /// until when it may be used while no server answers
    ride_until: Option<Instant>,
}

/// Entries go when they cannot be used any more.
struct Lifetime;

/// A place in the queue of those who ask about one certificate.
pub(super) struct Seat<'a> {
    memory: &'a Memory,
    key: Key,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Memory {
    pub(super) fn new(rules: &AccountRules, asks_directory: bool) -> Self {
        let ages = asks_directory.then(|| Ages {
            positive: rules.positive_ttl.min(MAX_POSITIVE),
            negative: rules.negative_ttl.min(MAX_NEGATIVE),
            ride_through: rules.max_ride_through,
        });
        let entries = Cache::builder().max_capacity(CAPACITY).expire_after(Lifetime).build();
        Self { entries, ages, generation: AtomicU64::new(0), seats: Mutex::default() }
    }

    pub(super) fn known(&self, key: &Key) -> Option<Result<Arc<Principal>, Failure>> {
        let entry = self.entries.get(key)?;
        let fresh = entry.fresh_until.is_none_or(|end| Instant::now() < end);
        fresh.then(|| entry.answer.clone())
    }

    /// A mapping past its time that may be used because no server answers; it counts for a while before that is tried again.
    pub(super) fn ride(&self, key: Key, generation: u64) -> Option<Arc<Principal>> {
        let entry = self.entries.get(&key)?;
        let end = entry.ride_until.filter(|end| Instant::now() < *end)?;
        let principal = entry.answer.as_ref().ok()?;
        let fresh_until = Some(end.min(Instant::now() + RIDE_RETRY));
        self.insert(key, Entry { answer: Ok(Arc::clone(principal)), fresh_until, ride_until: Some(end) }, generation);
        Some(Arc::clone(principal))
    }

    /// Remembers an answer that was found in this generation.
    pub(super) fn remember(&self, key: Key, answer: Result<Arc<Principal>, Failure>, generation: u64) {
        let Some(ages) = self.ages else {
            return self.insert(key, Entry { answer, fresh_until: None, ride_until: None }, generation);
        };
        let now = Instant::now();
        let (fresh, ride) = match &answer {
            Ok(_) => (ages.positive, Some(ages.positive.saturating_add(ages.ride_through))),
            Err(failure) if failure.cause.answer() == Answer::Unavailable => (TROUBLE.min(ages.negative), None),
            Err(_) => (ages.negative, None),
        };
        let ride_until = ride.and_then(|ride| now.checked_add(ride));
        self.insert(key, Entry { answer, fresh_until: Some(now + fresh), ride_until }, generation);
    }

    fn insert(&self, key: Key, entry: Entry, generation: u64) {
        if generation == self.generation() {
            self.entries.insert(key, Arc::new(entry));
        }
        // Purged meanwhile: the answer may be from before.
        if generation != self.generation() {
            self.entries.invalidate(&key);
        }
    }

    /// Moves when everything is forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn purge(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }

    pub(super) fn seat(&self, key: Key) -> Seat<'_> {
        let turn = Arc::clone(self.seats().entry(key).or_default());
        Seat { memory: self, key, turn }
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// Until whoever asks now has its answer.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut seats = self.memory.seats();
        // One in the table, one here: nobody else waits, and under the lock nobody else comes.
        if Arc::strong_count(&self.turn) <= 2 {
            seats.remove(&self.key);
        }
    }
}

impl Expiry<Key, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: std::time::Instant) -> Option<Duration> {
        lifetime(entry)
    }

    fn expire_after_update(&self, _: &Key, entry: &Arc<Entry>, _: std::time::Instant, _: Option<Duration>) -> Option<Duration> {
        lifetime(entry)
    }
}

fn lifetime(entry: &Entry) -> Option<Duration> {
    let end = entry.ride_until.or(entry.fresh_until)?;
    Some(end.saturating_duration_since(Instant::now()))
}
