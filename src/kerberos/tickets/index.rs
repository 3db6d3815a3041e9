//! Which tickets an account has, by the name it was asked for and by its SID, so that ending an account does not look through
//! everybody's tickets.
//!
//! Kept by hash: what is found is a candidate, and whoever asks compares. A key may be listed for a ticket that has gone already, never the
//! other way about for longer than it takes to insert one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::RequestedName;
use crate::kerberos::tickets::TicketKey;
use crate::naming::sid::Sid;

/// Keys of tickets by name and by SID.
#[derive(Debug, Default)]
pub(super) struct Index {
    hasher: RandomState,
    lists: Mutex<HashMap<u64, Vec<Arc<TicketKey>>>>,
}

impl Index {
    /// This ticket is of the account with this SID.
    pub(super) fn add(&self, key: &TicketKey, sid: Option<&Sid>) {
        let key = Arc::new(key.clone());
        let mut lists = self.lists();
        for hash in self.hashes(&key, sid) {
            let list = lists.entry(hash).or_default();
            if !list.contains(&key) {
                list.push(Arc::clone(&key));
                // Most accounts have one.
                list.shrink_to(1);
            }
        }
    }

    /// The ticket has gone.
    pub(super) fn remove(&self, key: &TicketKey, sid: Option<&Sid>) {
        let mut lists = self.lists();
        for hash in self.hashes(key, sid) {
            if let Some(list) = lists.get_mut(&hash) {
                list.retain(|listed| **listed != *key);
                if list.is_empty() {
                    lists.remove(&hash);
                }
            }
        }
    }

    /// Tickets that were asked for by this name.
    pub(super) fn named(&self, name: &RequestedName) -> Vec<Arc<TicketKey>> {
        let found = self.lists().get(&self.hasher.hash_one(name)).cloned().unwrap_or_default();
        found.into_iter().filter(|key| key.names(name)).collect()
    }

    /// Tickets that may be of the account with this SID.
    pub(super) fn of(&self, sid: &Sid) -> Vec<Arc<TicketKey>> {
        self.lists().get(&self.hasher.hash_one(sid)).cloned().unwrap_or_default()
    }

    /// Accounts listed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lists().len()
    }

    fn hashes(&self, key: &TicketKey, sid: Option<&Sid>) -> impl Iterator<Item = u64> + use<> {
        [Some(self.hasher.hash_one(key.principal.name())), sid.map(|sid| self.hasher.hash_one(sid))].into_iter().flatten()
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<u64, Vec<Arc<TicketKey>>>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
