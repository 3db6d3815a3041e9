//! What responders said, for as long as it counts.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rustls_pki_types::UnixTime;
use sha2::{Digest as _, Sha256};

use crate::revocation::Link;
use crate::revocation::ocsp::OcspAnswer;
use crate::revocation::ocsp::verify::{SKEW, Statement, Word, is_hold};

/// Certificates remembered, of those revoked and of the others.
const CAPACITY: u64 = 65_536;
/// For how long a revocation serves on while nobody confirms it.
const SHORT: Duration = Duration::from_secs(30);
/// Nobody said anything: asked again soon, so that one lost answer does not keep a device out for long.
const UNUSABLE: Duration = Duration::from_secs(5);

/// One certificate of one issuer: SHA-256 of issuer name, issuer key and serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// The answers. Revocations have a place of their own, so that others cannot push them out.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    revoked: Cache<Key, Entry>,
    others: Cache<Key, Entry>,
    max_age: Duration,
}

#[derive(Clone, Debug)]
struct Entry {
    answer: OcspAnswer,
    until: UnixTime,
    this_update: i64,
}

impl Key {
    pub(super) fn of(link: &Link<'_>) -> Self {
        let mut hash = Sha256::new();
        for part in [link.certificate.issuer, link.issuer.public_key, link.certificate.serial] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl Answers {
    /// Believed for `max_age` at most.
    pub(super) fn new(max_age: Duration) -> Self {
        let cache = || Cache::builder().max_capacity(CAPACITY).eviction_policy(EvictionPolicy::lru()).build();
        Self { revoked: cache(), others: cache(), max_age }
    }

    /// What still counts.
    pub(super) fn get(&self, key: &Key, now: UnixTime) -> Option<OcspAnswer> {
        let entry = self.revoked.get(key).or_else(|| self.others.get(key))?;
        (now < entry.until).then_some(entry.answer)
    }

    /// What an authorised responder said. It overrules a revocation only if it is newer; a replayed one is not.
    pub(super) fn stated(&self, key: Key, said: &Statement, now: UnixTime) -> OcspAnswer {
        if let Some(before) = self.revoked.get(&key)
            && said.word == Word::Good
            && said.this_update <= before.this_update
        {
            return self.stands(key, before, now);
        }
        let (next, latest) = (at(said.next_update), after(now, self.max_age));
        match said.word {
            Word::Revoked { since, reason } => {
                let until = if is_hold(reason) { next.min(latest) } else { next.max(latest) };
                let answer = OcspAnswer::Revoked { reason, since };
                let until = until.max(after(now, SHORT));
                self.others.invalidate(&key);
                self.revoked.insert(key, Entry { answer: answer.clone(), until, this_update: said.this_update });
                answer
            }
            Word::Good => {
                // Accepted a little after its nextUpdate, it counts a little longer, and never beyond the skew.
                let graced = after(now, SHORT).min(at(said.next_update.saturating_add(SKEW)));
                let until = next.max(graced).min(latest);
                let answer = OcspAnswer::Good { until };
                self.revoked.invalidate(&key);
                self.others.insert(key, Entry { answer: answer.clone(), until, this_update: said.this_update });
                answer
            }
        }
    }

    /// No usable answer: a known revocation stands, whatever its age.
    pub(super) fn unanswered(&self, key: Key, answer: OcspAnswer, now: UnixTime) -> OcspAnswer {
        if let Some(before) = self.revoked.get(&key) {
            return self.stands(key, before, now);
        }
        self.others.insert(key, Entry { answer: answer.clone(), until: after(now, UNUSABLE), this_update: i64::MIN });
        answer
    }

    fn stands(&self, key: Key, before: Entry, now: UnixTime) -> OcspAnswer {
        let (answer, until) = (before.answer.clone(), before.until.max(after(now, SHORT)));
        self.revoked.insert(key, Entry { until, ..before });
        answer
    }

    /// Takes over the revocations of another memory.
    pub(super) fn inherit(&self, before: &Self) {
        for (key, entry) in &before.revoked {
            self.revoked.insert(*key, entry);
        }
    }

    /// The revocation that is known, whatever its age, or else this.
    pub(super) fn or_revoked(&self, key: &Key, answer: OcspAnswer) -> OcspAnswer {
        self.revoked.get(key).map_or(answer, |entry| entry.answer)
    }
}

fn after(now: UnixTime, span: Duration) -> UnixTime {
    at(i64::try_from(now.as_secs().saturating_add(span.as_secs())).unwrap_or(i64::MAX))
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
