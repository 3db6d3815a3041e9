//! What is counted: per KDC and for the relay as a whole, since the start.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::request::Kind;
use crate::kerberos::relay::skew::Degree;
use crate::kerberos::relay::transport::AttemptError;
use crate::kerberos::wire::krb_error;

/// KDCs counted; more than any domain has, so that changing DNS answers cannot fill memory.
pub(super) const KDCS: usize = 512;

/// Numbers of one KDC since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdcNumbers {
    /// Realm it serves.
    pub realm: String,
    /// Which KDC.
    pub kdc: Kdc,
    /// Whether the configuration or DNS still names it.
    pub listed: bool,
    /// Whether it answered when it was last asked with time enough.
    pub up: bool,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests it did not answer, by [`AttemptError::label`].
    pub failures: BTreeMap<&'static str, u64>,
    /// KRB-ERRORs it answered, by name; `other` for codes without one.
    pub errors: BTreeMap<&'static str, u64>,
    /// How long its answers took.
    pub answers: BTreeMap<Kind, Latency>,
    /// How long its last answer took.
    pub last_latency: Option<Duration>,
    /// Its clock minus ours in milliseconds, at least, when it was last seen.
    pub skew: Option<i64>,
    pub(super) degree: Degree,
}

impl KdcNumbers {
    fn new(realm: &str, kdc: &Kdc) -> Self {
        Self {
            realm: realm.to_owned(),
            kdc: kdc.clone(),
            listed: true,
            up: true,
            requests: 0,
            failures: BTreeMap::new(),
            errors: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_latency: None,
            skew: None,
            degree: Degree::Good,
        }
    }

    /// Requests it did not answer.
    pub fn unanswered(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many took at most [`Latency::BOUNDS`] of the same place and longer than the one before; the last one is beyond them.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Latency {
    /// Upper bounds in milliseconds.
    pub const BOUNDS: [u32; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

    fn add(&mut self, took: Duration) {
        let bucket = Self::BOUNDS.iter().take_while(|bound| took > Duration::from_millis(u64::from(**bound))).count();
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += took;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What became of one request to one KDC.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// An answer after so long; its KRB-ERROR code if it was one.
    Answered { took: Duration, error: Option<i32> },
    /// No answer. `fair`: it had time enough.
    Failed { reason: AttemptError, fair: bool },
}

/// All KDCs that were ever named.
#[derive(Debug, Default)]
pub(super) struct KdcTable(HashMap<(String, SocketAddr), KdcNumbers>);

impl KdcTable {
    pub(super) fn all(&self) -> Vec<KdcNumbers> {
        let mut all: Vec<_> = self.0.values().cloned().collect();
        all.sort_by(|a, b| (&a.realm, a.kdc.address).cmp(&(&b.realm, b.kdc.address)));
        all
    }

    pub(super) fn of(&mut self, realm: &str, kdc: &Kdc) -> &mut KdcNumbers {
        if self.0.len() >= KDCS {
            self.0.retain(|_, numbers| numbers.listed);
        }
        if self.0.len() >= KDCS {
            self.0.clear();
        }
        self.0.entry((realm.to_owned(), kdc.address)).or_insert_with(|| KdcNumbers::new(realm, kdc))
    }

    /// These are the realm's KDCs now.
    pub(super) fn located(&mut self, realm: &str, kdcs: &[Kdc]) {
        for numbers in self.0.values_mut().filter(|numbers| numbers.realm == realm) {
            numbers.listed = kdcs.iter().any(|kdc| kdc.address == numbers.kdc.address);
        }
        for kdc in kdcs {
            let _ = self.of(realm, kdc);
        }
    }

    pub(super) fn asked(&mut self, realm: &str, kdc: &Kdc, kind: Kind, asked: Asked) {
        let numbers = self.of(realm, kdc);
        numbers.requests += 1;
        match asked {
            Asked::Answered { took, error } => {
                numbers.up = true;
                numbers.last_latency = Some(took);
                numbers.answers.entry(kind).or_default().add(took);
                if let Some(code) = error {
                    *numbers.errors.entry(krb_error::known_name(code).unwrap_or("other")).or_default() += 1;
                }
            }
            Asked::Failed { reason, fair } => {
                numbers.up &= !fair;
                *numbers.failures.entry(reason.label()).or_default() += 1;
            }
        }
    }
}

/// Numbers of the relay since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayNumbers {
    /// Requests passed on.
    pub served: u64,
    /// Requests answered at once because no KDC of their realm was well.
    pub circuit_open: u64,
    /// Connections of other users, closed.
    pub foreign: u64,
    /// Messages that are no KDC request, or were not complete in time.
    pub malformed: u64,
    /// Connections closed because of the limits on number and rate.
    pub limited: u64,
    /// Requests and referrals to realms that are not listed.
    pub unlisted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) served: AtomicU64,
    pub(super) circuit_open: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) unlisted: AtomicU64,
}

impl Counters {
    pub(super) fn now(&self) -> RelayNumbers {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayNumbers {
            served: get(&self.served),
            circuit_open: get(&self.circuit_open),
            foreign: get(&self.foreign),
            malformed: get(&self.malformed),
            limited: get(&self.limited),
            unlisted: get(&self.unlisted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kdc(port: u16) -> Kdc {
        Kdc { host: "kdc".into(), address: SocketAddr::new([192, 0, 2, 1].into(), port) }
    }

    fn answered(took: u64, error: Option<i32>) -> Asked {
        Asked::Answered { took: Duration::from_millis(took), error }
    }

    #[test]
    fn a_duration_belongs_to_the_first_bucket_that_holds_it() {
        let mut latency = Latency::default();
        for millis in [0, 1, 2, 7, 5000, 5001] {
            latency.add(Duration::from_millis(millis));
        }
        assert_eq!(latency.counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((latency.count(), latency.sum), (6, Duration::from_millis(10_011)));
    }

    #[test]
    fn answers_errors_and_failures_are_counted_by_kind_code_and_reason() {
        let mut table = KdcTable::default();
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::As, answered(3, Some(25)));
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::S4u2Self, answered(4, None));
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::S4u2Self, answered(4, Some(4711)));
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::S4u2Self, answered(4, Some(-4711)));
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::Tgs, Asked::Failed { reason: AttemptError::TimedOut, fair: true });
        let numbers = &table.all()[0];
        assert_eq!((numbers.requests, numbers.unanswered(), numbers.up), (5, 1, false));
        assert_eq!(numbers.failures, BTreeMap::from([("timeout", 1)]));
        assert_eq!(numbers.errors, BTreeMap::from([("KDC_ERR_PREAUTH_REQUIRED", 1), ("other", 2)]));
        let counts: Vec<_> = numbers.answers.iter().map(|(kind, latency)| (*kind, latency.count())).collect();
        assert_eq!(counts, [(Kind::As, 1), (Kind::S4u2Self, 3)]);
        assert_eq!(numbers.last_latency, Some(Duration::from_millis(4)));
    }

    #[test]
    fn a_kdc_that_had_no_time_is_not_down() {
        let mut table = KdcTable::default();
        table.asked("CORP.EXAMPLE", &kdc(88), Kind::As, Asked::Failed { reason: AttemptError::TimedOut, fair: false });
        assert!(table.all()[0].up);
    }

    #[test]
    fn kdcs_that_are_no_longer_named_keep_their_counts_and_are_marked() {
        let mut table = KdcTable::default();
        table.located("CORP.EXAMPLE", &[kdc(1), kdc(2)]);
        table.located("USERS.EXAMPLE", &[kdc(1)]);
        table.located("CORP.EXAMPLE", &[kdc(2), kdc(3)]);
        let listed: Vec<_> = table.all().iter().map(|numbers| (numbers.kdc.address.port(), numbers.listed)).collect();
        assert_eq!(listed, [(1, false), (2, true), (3, true), (1, true)]);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut table = KdcTable::default();
        for port in 0..2000 {
            table.asked("CORP.EXAMPLE", &kdc(port), Kind::As, answered(1, None));
            assert!(table.all().len() <= KDCS);
        }
    }
}
