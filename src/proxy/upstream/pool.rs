//! Kept connections of one back end, by grant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::certificate::Fingerprint;
use crate::identity::Principal;
use crate::policy::Grant;
use crate::proxy::upstream::Owned;
use crate::proxy::upstream::places::Places;

#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Grant, Vec<Idle>>>,
    max_per_grant: usize,
    timeout: Duration,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Idle {
    connection: Owned,
    since: Instant,
}

impl Pool {
    pub(super) fn new(max_per_grant: usize, timeout: Duration, places: Arc<Places>) -> Self {
        Self { idle: Mutex::default(), max_per_grant, timeout, places }
    }

    /// Closes what was idle too long or was closed by the back end, for as long as the pool lives.
    pub(super) fn spawn_sweeper(pool: &Arc<Self>) {
        let weak = Arc::downgrade(pool);
        let period = (pool.timeout / 4).clamp(Duration::from_millis(50), Duration::from_secs(15));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(pool) = weak.upgrade() else { break };
                pool.sweep();
            }
        });
    }

    /// The connection of this grant that was used last: the older ones get a chance to time out.
    pub(super) fn take(&self, grant: &Grant) -> Option<Owned> {
        let mut idle = self.lock();
        let mine = idle.get_mut(grant)?;
        let found = std::iter::from_fn(|| mine.pop()).find(|entry| self.is_usable(entry)).map(|entry| entry.connection);
        if mine.is_empty() {
            idle.remove(grant);
        }
        found
    }

    /// Keeps a connection under the grant it was made for, unless somebody waits for its place.
    pub(super) fn put(&self, connection: Owned) {
        if self.max_per_grant == 0 || connection.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        // Under the lock: who begins to wait later finds it here.
        if self.places.is_wanted(connection.grant.principal()) {
            return;
        }
        let mine = idle.entry(connection.grant.clone()).or_default();
        mine.push(Idle { connection, since: Instant::now() });
        if mine.len() > self.max_per_grant {
            mine.remove(0);
        }
    }

    /// Closes every connection that requests with this certificate made.
    pub(super) fn close(&self, certificate: Fingerprint) {
        self.lock().retain(|grant, _| grant.certificate() != certificate);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Closes every connection.
    pub(super) fn close_all(&self) {
        self.lock().clear();
    }

    /// Closes the connection that was idle longest: this principal's, or whosever it is.
    pub(super) fn drop_oldest(&self, of: Option<&Arc<Principal>>) {
        let mut idle = self.lock();
        // The places of those that the back end closed are free already: dropping one of them would make no room.
        idle.retain(|_, mine| {
            mine.retain(|entry| !entry.connection.sender.is_closed());
            !mine.is_empty()
        });
        let candidates = idle.iter().filter(|(grant, _)| of.is_none_or(|principal| grant.principal() == principal));
        let oldest = candidates.filter_map(|(grant, mine)| Some((mine.first()?.since, grant))).min_by_key(|(since, _)| *since);
        let Some(grant) = oldest.map(|(_, grant)| grant.clone()) else { return };
        if let Some(mine) = idle.get_mut(&grant) {
            mine.remove(0);
            if mine.is_empty() {
                idle.remove(&grant);
            }
        }
    }

    fn sweep(&self) {
        self.lock().retain(|_, mine| {
            mine.retain(|entry| self.is_usable(entry));
            !mine.is_empty()
        });
    }

    fn is_usable(&self, entry: &Idle) -> bool {
        !entry.connection.sender.is_closed() && entry.since.elapsed() < self.timeout
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Grant, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
