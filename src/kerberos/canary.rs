//! The canary: an account that nobody works with, delegated again and again by way of each domain controller in turn.
//!
//! A domain controller whose rules were changed (a patch, a setting, an account that did not replicate) refuses some users some of the
//! time, and the relay, which asks whoever answers, never says which one it was. The canary asks every KDC of a realm for both tickets,
//! with the whole proof, and names the one that changed. It has a thread and a ticket of its own, waits in no line, and leaves nothing in
//! the ticket cache.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, info};

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::acquire::acquisition::{Acquirer, Shared};
use crate::kerberos::config::CanaryConfig;
use crate::kerberos::relay::Kdc;
use crate::naming::name::Realm;
use crate::policy::Target;

/// The canaries of all realms. Their thread ends when the last of these is dropped.
#[derive(Clone, Debug, Default)]
pub struct Canaries {
    seen: Arc<Mutex<Seen>>,
    #[expect(dead_code, reason = "held: dropping it ends the thread")]
    alive: Option<Sender<()>>,
}

/// What the canary of a realm was last told by way of one KDC about one back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Whose KDC it is.
    pub realm: Realm,
    /// The KDC.
    pub kdc: String,
    /// For which service principal name.
    pub spn: String,
    /// Whether both tickets were had and proved.
    pub up: bool,
    /// How long that took, or its failure.
    pub took: Duration,
}

impl Canaries {
    /// Starts the thread if any realm has a canary; it asks for tickets for these back ends, and at once.
    pub(in crate::kerberos) fn start(shared: &Arc<Shared>, targets: &[Arc<Target>]) -> std::io::Result<Self> {
        if shared.config.canaries.is_empty() {
            return Ok(Self::default());
        }
        let mut spns = BTreeSet::new();
        let targets = targets.iter().filter(|target| spns.insert(target.spn.to_string())).cloned().collect();
        let (alive, end) = channel();
        let seen = Arc::default();
        let (shared, into) = (Arc::clone(shared), Arc::clone(&seen));
        // The library's credential stays in the thread it was made in.
        let run = move || Watch { acquirer: Acquirer::new(Arc::clone(&shared)), shared, targets, seen: into }.run(&end);
        thread::Builder::new().name("canary".into()).spawn(run)?;
        Ok(Self { seen, alive: Some(alive) })
    }

    /// What every canary saw last, by realm, KDC and SPN.
    pub fn signs(&self) -> Vec<Sign> {
        let sign = |((realm, kdc, spn), health): (&Key, &Health)| Sign {
            realm: realm.clone(),
            kdc: kdc.clone(),
            spn: spn.clone(),
            up: health.failure.is_none(),
            took: health.took,
        };
        locked(&self.seen).0.iter().map(sign).collect()
    }
}

/// Realm, KDC, SPN.
type Key = (Realm, String, String);

/// What came of one probe: both tickets, or why not; and how long it took.
type Probed = (Result<(), Failure>, Duration);

#[derive(Debug)]
struct Health {
    failure: Option<Failure>,
    /// When that began.
    since: Instant,
    took: Duration,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Seen(BTreeMap<Key, Health>);

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It failed, for the first time or for another reason; it was well for so long before, if it ever was.
    Fails { failure: Failure, well_for: Option<Duration> },
    /// It is well again, after so long.
    WellAgain { after: Duration },
}

impl Seen {
    /// Notes a probe. Returns what changed by it.
    fn note(&mut self, key: Key, (result, took): Probed, now: Instant) -> Option<Word> {
        let before = self.0.get(&key);
        let since = before.map_or(now, |before| before.since);
        let lasted = now.saturating_duration_since(since);
        let failure = result.err();
        let was = before.map(|before| before.failure.as_ref().map(|failure| failure.cause));
        let cause = failure.as_ref().map(|failure| failure.cause);
        let word = match (&failure, was) {
            (Some(failure), None) => Some(Word::Fails { failure: failure.clone(), well_for: None }),
            (Some(failure), Some(None)) => Some(Word::Fails { failure: failure.clone(), well_for: Some(lasted) }),
            (Some(failure), Some(Some(cause))) if cause != failure.cause => {
                Some(Word::Fails { failure: failure.clone(), well_for: None })
            }
            (None, Some(Some(_))) => Some(Word::WellAgain { after: lasted }),
            _ => None,
        };
        let changed = was.is_none_or(|was| was.is_some() != cause.is_some());
        self.0.insert(key, Health { failure, since: if changed { now } else { since }, took });
        word
    }

    /// Forgets the KDCs of the realm that are none of its any more.
    fn keep_only(&mut self, realm: &Realm, kdcs: &[Kdc]) {
        let named: BTreeSet<_> = kdcs.iter().map(Kdc::to_string).collect();
        self.0.retain(|(of, kdc, _), _| of != realm || named.contains(kdc));
    }
}

/// The thread's own.
struct Watch {
    acquirer: Acquirer,
    shared: Arc<Shared>,
    targets: Vec<Arc<Target>>,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Rounds, realm by realm, each at its interval, until nobody wants them any more.
    fn run(mut self, end: &Receiver<()>) {
        let shared = Arc::clone(&self.shared);
        let mut due: Vec<_> = shared.config.canaries.iter().map(|(realm, canary)| (Instant::now(), realm, canary)).collect();
        while let Some((at, realm, canary)) = due.iter_mut().min_by_key(|(at, ..)| *at) {
            match end.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            *at = Instant::now() + canary.interval;
            self.round(realm, canary);
        }
    }

    fn round(&mut self, realm: &Realm, canary: &CanaryConfig) {
        let principal = Principal::for_canary(canary.user.clone());
        let mut kdcs = self.shared.relay.kdcs_of(realm);
        if let Some(target) = self.targets.first().cloned().filter(|_| kdcs.is_empty()) {
            // The relay finds a realm's KDCs when it is asked for something there.
            let deadline = Instant::now() + self.shared.config.acquire_timeout;
            let found = self.guarded(|acquirer| acquirer.acquire(&principal, &target, deadline).map(drop));
            kdcs = self.shared.relay.kdcs_of(realm);
            debug!(%realm, kdcs = kdcs.len(), failure = ?found.err(), "the canary had the realm's KDCs looked for");
        }
        locked(&self.seen).keep_only(realm, &kdcs);
        for kdc in &kdcs {
            let targets = self.targets.clone();
            for (target, probed) in probes(&targets, |target| self.probe(&principal, realm, kdc, target)) {
                let spn = target.spn.to_string();
                let key = (realm.clone(), kdc.to_string(), spn.clone());
                let word = locked(&self.seen).note(key, probed, Instant::now());
                tell(word, &principal, realm, kdc, &spn);
            }
        }
    }

    /// Both tickets by way of this KDC alone.
    fn probe(&mut self, principal: &Principal, realm: &Realm, kdc: &Kdc, target: &Target) -> Probed {
        let started = Instant::now();
        let deadline = started + self.shared.config.acquire_timeout;
        let result = self.guarded(|acquirer| acquirer.acquire_by_way_of(realm, kdc, principal, target, deadline).map(drop));
        (result, started.elapsed())
    }

    /// A panic would be a bug; it costs this probe and our TGT, not the watch.
    fn guarded(&mut self, probe: impl FnOnce(&mut Acquirer) -> Result<(), Failure>) -> Result<(), Failure> {
        catch_unwind(AssertUnwindSafe(|| probe(&mut self.acquirer))).unwrap_or_else(|_| {
            self.acquirer.reset();
            Err(Failure::new(Cause::KdcOther, "the probe panicked"))
        })
    }
}

/// Probes each target. A KDC that does not answer is not waited for again: what it did not say counts for the others too.
fn probes(targets: &[Arc<Target>], mut probe: impl FnMut(&Target) -> Probed) -> Vec<(&Target, Probed)> {
    let mut silent: Option<Probed> = None;
    let each = targets.iter().map(|target| {
        let probed = silent.clone().unwrap_or_else(|| probe(target));
        if matches!(&probed.0, Err(failure) if failure.cause == Cause::KdcUnreachable) {
            silent = Some(probed.clone());
        }
        (&**target, probed)
    });
    each.collect()
}

fn tell(word: Option<Word>, canary: &Principal, realm: &Realm, kdc: &Kdc, spn: &str) {
    match word {
        Some(Word::Fails { failure, well_for }) => {
            let (stage, reason, remedy) = (failure.cause.stage().name(), failure.cause.code(), failure.remedy());
            let well_for = well_for.map(whole_seconds);
            error!(%canary, %realm, %kdc, spn, stage, reason, remedy, ?well_for, "the canary fails by way of this KDC: {failure}");
        }
        Some(Word::WellAgain { after }) => {
            info!(%canary, %realm, %kdc, spn, failed_for = ?whole_seconds(after), "the canary is well again by way of this KDC");
        }
        None => {}
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::name::Spn;
    use crate::policy::TokenFormat;

    fn key(kdc: &str) -> Key {
        (Realm::parse("CORP.EXAMPLE").unwrap(), kdc.into(), "HTTP/mbx1".into())
    }

    fn well() -> Probed {
        (Ok(()), Duration::from_millis(3))
    }

    fn failed(cause: Cause) -> Probed {
        (Err(Failure::new(cause, "what the KDC said")), Duration::from_secs(2))
    }

    #[test]
    fn only_a_change_is_worth_a_word_and_it_says_how_long_the_other_state_lasted() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut note = |probed, after| seen.note(key("dc1"), probed, start + Duration::from_secs(after));
        let fails = |cause, well_for: Option<u64>| {
            let failure = Failure::new(cause, "what the KDC said");
            Some(Word::Fails { failure, well_for: well_for.map(Duration::from_secs) })
        };
        assert_eq!(note(well(), 0), None);
        assert_eq!(note(well(), 300), None);
        assert_eq!(note(failed(Cause::DelegationRefused), 600), fails(Cause::DelegationRefused, Some(600)));
        assert_eq!(note(failed(Cause::DelegationRefused), 900), None);
        assert_eq!(note(failed(Cause::KdcUnreachable), 1200), fails(Cause::KdcUnreachable, None), "for another reason");
        assert_eq!(note(well(), 1500), Some(Word::WellAgain { after: Duration::from_mins(15) }));
        assert_eq!(note(well(), 1800), None);
        assert_eq!(note(failed(Cause::SidMismatch), 1801), fails(Cause::SidMismatch, Some(301)));
    }

    #[test]
    fn a_kdc_that_fails_from_the_first_is_told() {
        let word = Seen::default().note(key("dc1"), failed(Cause::ClockSkew), Instant::now());
        assert!(matches!(word, Some(Word::Fails { well_for: None, .. })), "{word:?}");
    }

    #[test]
    fn one_kdcs_failure_says_nothing_of_another_and_a_kdc_that_is_gone_is_forgotten() {
        let canaries = Canaries::default();
        let now = Instant::now();
        let kdc = |host: &str| Kdc { host: host.into(), address: "192.0.2.1:88".parse().unwrap() };
        let (one, two) = (kdc("dc1"), kdc("dc2"));
        locked(&canaries.seen).note(key(&one.to_string()), well(), now);
        locked(&canaries.seen).note(key(&two.to_string()), failed(Cause::KdcOther), now);
        let up = || canaries.signs().into_iter().map(|sign| (sign.kdc, sign.up)).collect::<Vec<_>>();
        assert_eq!(up(), [(one.to_string(), true), (two.to_string(), false)]);
        locked(&canaries.seen).keep_only(&Realm::parse("OTHER.EXAMPLE").unwrap(), &[]);
        assert_eq!(up().len(), 2);
        locked(&canaries.seen).keep_only(&key("").0, std::slice::from_ref(&one));
        assert_eq!(up(), [(one.to_string(), true)]);
    }

    #[test]
    fn a_silent_kdc_is_waited_for_once_and_one_that_refuses_is_asked_for_every_back_end() {
        let target = |spn: &str| {
            let spn = Spn::parse(spn).unwrap();
            Arc::new(Target { name: "mbx".into(), spn, allow_rc4: false, token_format: TokenFormat::Spnego })
        };
        let targets = [target("HTTP/mbx1"), target("HTTP/mbx2"), target("HTTP/mbx3")];
        for (cause, asked) in [(Cause::KdcUnreachable, 1), (Cause::SpnUnknown, 3)] {
            let mut count = 0;
            let probed = probes(&targets, |_| {
                count += 1;
                failed(cause)
            });
            assert_eq!((count, probed.len()), (asked, 3));
            assert!(probed.iter().all(|(_, (result, _))| result.as_ref().is_err_and(|failure| failure.cause == cause)));
        }
    }
}
