//! Which tickets an account has, by the name it was asked for and by its SID, so that ending an account does not look through
//! everybody's tickets.
//!
//! Kept by hash: what is found is a candidate, and whoever asks compares. A key may be listed for a ticket that has gone already, never the
//! other way about for longer than it takes to insert one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::RequestedName;
use crate::kerberos::tickets::TicketKey;
use crate::naming::sid::Sid;

/// Keys of tickets by name and by SID: ordered by the account's hash, then by the key's own, so that neither many accounts nor many
/// tickets of one make a change slow.
#[derive(Debug, Default)]
pub(super) struct Index {
    hasher: RandomState,
    keys: Mutex<BTreeMap<(u64, u64), Arc<TicketKey>>>,
}

impl Index {
    /// This ticket is of the account with this SID.
    pub(super) fn add(&self, key: &TicketKey, sid: Option<&Sid>) {
        let shared = Arc::new(key.clone());
        let mut keys = self.keys();
        for place in self.places(key, sid) {
            keys.insert(place, Arc::clone(&shared));
        }
    }

    /// The ticket has gone.
    pub(super) fn remove(&self, key: &TicketKey, sid: Option<&Sid>) {
        let mut keys = self.keys();
        for place in self.places(key, sid) {
            keys.remove(&place);
        }
    }

    /// Tickets that were asked for by this name.
    pub(super) fn named(&self, name: &RequestedName) -> Vec<Arc<TicketKey>> {
        self.listed(name).into_iter().filter(|key| key.names(name)).collect()
    }

    /// Tickets that may be of the account with this SID.
    pub(super) fn of(&self, sid: &Sid) -> Vec<Arc<TicketKey>> {
        self.listed(sid)
    }

    /// Places in the index.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys().len()
    }

    fn listed(&self, account: &impl Hash) -> Vec<Arc<TicketKey>> {
        let account = self.hasher.hash_one(account);
        self.keys().range((account, 0)..=(account, u64::MAX)).map(|(_, key)| Arc::clone(key)).collect()
    }

    /// By its name, and by its SID if that is known.
    fn places(&self, key: &TicketKey, sid: Option<&Sid>) -> impl Iterator<Item = (u64, u64)> + use<> {
        let own = self.hasher.hash_one(key);
        let accounts = [Some(self.hasher.hash_one(key.principal.name())), sid.map(|sid| self.hasher.hash_one(sid))];
        accounts.into_iter().flatten().map(move |account| (account, own))
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<TicketKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
