//! How many connections there may be: to the back end, and of one principal, so that nobody can take them all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity::Principal;

/// The places for connections to one back end. Active and kept connections have one.
#[derive(Debug)]
pub(super) struct Places {
    all: Limit,
    each: usize,
    shares: Mutex<Shares>,
}

/// Each principal's own limit, for as long as it has connections or waits for one.
#[derive(Debug, Default)]
struct Shares {
    limits: HashMap<Arc<Principal>, Weak<Limit>>,
    sweep_at: usize,
}

/// One connection's place; dropping it makes it free.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held: dropping them frees the place")] (OwnedSemaphorePermit, Share));

/// A principal's part of a place.
#[derive(Debug)]
pub(super) struct Share {
    _permit: OwnedSemaphorePermit,
    _limit: Arc<Limit>,
}

/// So many at a time.
#[derive(Debug)]
struct Limit {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Limit::new(all), each, shares: Mutex::default() }
    }

    /// A place among this principal's own. When all are taken, `make_room` is called and one is waited for.
    pub(super) async fn share(&self, principal: &Arc<Principal>, until: Instant, make_room: impl FnOnce()) -> Option<Share> {
        let limit = self.limit_of(principal);
        let permit = limit.permit(until, make_room).await?;
        Some(Share { _permit: permit, _limit: limit })
    }

    /// A place among all. When all are taken, `make_room` is called and one is waited for.
    pub(super) async fn place(&self, share: Share, until: Instant, make_room: impl FnOnce()) -> Option<Place> {
        Some(Place((self.all.permit(until, make_room).await?, share)))
    }

    /// Whether somebody waits for a place that this principal's connection has.
    pub(super) fn is_wanted(&self, principal: &Arc<Principal>) -> bool {
        let own = || self.lock().limits.get(principal).and_then(Weak::upgrade);
        self.all.is_wanted() || own().is_some_and(|limit| limit.is_wanted())
    }

    fn limit_of(&self, principal: &Arc<Principal>) -> Arc<Limit> {
        let mut shares = self.lock();
        if let Some(limit) = shares.limits.get(principal).and_then(Weak::upgrade) {
            return limit;
        }
        if shares.limits.len() >= shares.sweep_at {
            shares.limits.retain(|_, limit| limit.strong_count() > 0);
            shares.sweep_at = 2 * shares.limits.len() + 64;
        }
        let limit = Arc::new(Limit::new(self.each));
        shares.limits.insert(Arc::clone(principal), Arc::downgrade(&limit));
        limit
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))), waiting: AtomicUsize::new(0) }
    }

    async fn permit(&self, until: Instant, make_room: impl FnOnce()) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        // First: from now on connections that are given back are closed.
        let _waiting = Waiting::new(&self.waiting);
        make_room();
        tokio::time::timeout_at(until.into(), Arc::clone(&self.permits).acquire_owned()).await.ok()?.ok()
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

/// Counted as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
