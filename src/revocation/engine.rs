//! What a verified path is told: from memory at once, or after asking.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use crate::certificate::{LoadError, name_text};
use crate::failure::{Cause, Failure};
use crate::revocation::crl::Crl;
use crate::revocation::fetch::Fetcher;
use crate::revocation::files::Files;
use crate::revocation::judge::{Word, judge};
use crate::revocation::lists::{Held, Lists, Signer, Source, Taken};
use crate::revocation::ocsp::{Ocsp, OcspAnswer};
use crate::revocation::outside::{Asked, CrlSource, Responder};
use crate::revocation::refresh::{Points, say_ended};
use crate::revocation::settle::Flights;
use crate::revocation::tally::Tally;
use crate::revocation::{
    Decision, FetchCounts, Link, ListFacts, ListSource, OcspCounts, OwnedAuthority, RevocationConfig, RevocationOrder,
    RevocationPolicy, Verdict,
};
use crate::shutdown::Shutdown;

/// For how long a verdict counts that nothing limits.
const UNLIMITED: i64 = 86_400;
/// When to ask again about a certificate that was let in without knowing.
const LET_IN_AGAIN: i64 = 60;
/// CAs whose keys are remembered for lists that come later.
const MAX_AUTHORITIES: usize = 256;

/// Whether certificates are revoked. Lives as long as its configuration.
pub struct Revocation {
    shared: Arc<Shared>,
    fetcher: Option<Arc<Fetcher>>,
    ocsp: Option<Ocsp>,
}

/// What the engine and its tasks share.
pub(super) struct Shared {
    pub(super) config: RevocationConfig,
    pub(super) fetcher: Option<Arc<dyn CrlSource>>,
    pub(super) responder: Option<Arc<dyn Responder>>,
    pub(super) points: Points,
    pub(super) flights: Flights,
    pub(super) tally: Tally,
    pub(super) files: Mutex<Files>,
    lists: RwLock<Arc<Lists>>,
    authorities: Mutex<HashSet<OwnedAuthority>>,
    generation: AtomicU64,
    changes: watch::Sender<u64>,
}

impl Revocation {
    /// Reads every file and directory now. `known`: the CAs of the configuration, whose lists are verified at once.
    /// `directory`: for distribution points in LDAP. `before`: the engine that this one takes the place of. What it knows to be revoked
    /// stays so, and no list older than one of its own is taken.
    pub(crate) fn load(
        config: &RevocationConfig,
        known: Vec<OwnedAuthority>,
        directory: Option<Arc<dyn ListSource>>,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, LoadError> {
        let fetcher = Arc::new(Fetcher::new(config, directory)?);
        let ocsp = config.ocsp.as_ref().map(|ocsp| Ocsp::new(ocsp, fetcher.http())).transpose()?;
        if let (Some(ocsp), Some(earlier)) = (&ocsp, before.and_then(|before| before.ocsp.as_ref())) {
            ocsp.inherit(earlier);
        }
        let fetcher = (!config.distribution_points.is_empty()).then_some(fetcher);
        let source = fetcher.clone().map(|fetcher| fetcher as Arc<dyn CrlSource>);
        let responder = ocsp.clone().map(|ocsp| Arc::new(ocsp) as Arc<dyn Responder>);
        let shared = Shared::load(config, known, source, responder, before.map(|before| &*before.shared))?;
        Ok(Arc::new(Self { shared, fetcher, ocsp }))
    }

    /// With a script in place of the network.
    #[cfg(test)]
    pub(super) fn assemble(
        config: &RevocationConfig,
        known: Vec<OwnedAuthority>,
        fetcher: Option<Arc<dyn CrlSource>>,
        responder: Option<Arc<dyn Responder>>,
    ) -> Result<Arc<Self>, LoadError> {
        let shared = Shared::load(config, known, fetcher, responder, None)?;
        Ok(Arc::new(Self { shared, fetcher: None, ocsp: None }))
    }

    /// The same in the place of another.
    #[cfg(test)]
    pub(super) fn assemble_after(
        before: &Self,
        config: &RevocationConfig,
        fetcher: Option<Arc<dyn CrlSource>>,
    ) -> Result<Arc<Self>, LoadError> {
        let shared = Shared::load(config, Vec::new(), fetcher, None, Some(&before.shared))?;
        Ok(Arc::new(Self { shared, fetcher: None, ocsp: None }))
    }

    /// What memory knows about a path; no input or output, microseconds.
    pub(crate) fn status(&self, path: &[Link<'_>], now: UnixTime) -> Verdict {
        let lists = self.shared.lists();
        let verdict = together(path.iter().map(|link| self.shared.link_status(&lists, link, now)), now);
        self.shared.tally.count_verdict(&verdict);
        verdict
    }

    /// Asks whoever is needed for what memory lacks, once for all who wait, until `deadline`. Never [`Verdict::Open`].
    pub(crate) async fn settle(&self, path: &[Link<'_>], now: UnixTime, deadline: Instant) -> Verdict {
        let mut verdicts = Vec::with_capacity(path.len());
        // From the top: where a CA is revoked, nobody is asked what it said of others.
        for link in path.iter().rev() {
            let verdict = self.shared.settle(link, now, deadline).await;
            let refused = matches!(verdict, Verdict::Refused(_));
            verdicts.push(verdict);
            if refused {
                break;
            }
        }
        let verdict = together(verdicts, now);
        self.shared.tally.count_verdict(&verdict);
        verdict
    }

    /// Moves whenever an answer may have become another.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Tells each move of [`generation`](Self::generation).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Reads changed files again, fetches lists anew before they end, notices those that do; until the process stops.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        self.shared.keep_current(shutdown).await;
    }

    /// Every list held.
    pub fn facts(&self) -> Vec<ListFacts> {
        self.shared.lists().iter().map(|held| ListFacts::of(held)).collect()
    }

    /// How often each decision was made since the start.
    pub fn decisions(&self) -> Vec<(Decision, u64)> {
        self.shared.tally.read()
    }

    /// What was fetched; nothing where no distribution point may be.
    pub fn fetch_counts(&self) -> Vec<(&'static str, u64)> {
        let Some(FetchCounts { asked, errors, bytes }) = self.fetcher.as_ref().map(|fetcher| fetcher.counts()) else {
            return Vec::new();
        };
        vec![("asked", asked), ("errors", errors), ("bytes", bytes)]
    }

    /// What came of questions to responders, by name; nothing where none is configured.
    pub fn ocsp_counts(&self) -> Vec<(&'static str, u64)> {
        let Some(counts) = self.ocsp.as_ref().map(Ocsp::counts) else { return Vec::new() };
        let OcspCounts { asked, good, revoked, unvouched, untrusted, breaker_open, fetch_errors, bytes: _ } = counts;
        vec![
            ("asked", asked),
            ("good", good),
            ("revoked", revoked),
            ("unvouched", unvouched),
            ("untrusted", untrusted),
            ("breaker-open", breaker_open),
            ("fetch-error", fetch_errors),
        ]
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocation({} lists)", self.shared.lists().iter().count())
    }
}

impl Shared {
    fn load(
        config: &RevocationConfig,
        known: Vec<OwnedAuthority>,
        fetcher: Option<Arc<dyn CrlSource>>,
        responder: Option<Arc<dyn Responder>>,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, LoadError> {
        let allowed = |uri: &str| fetcher.as_ref().is_some_and(|fetcher| fetcher.allows(uri));
        let points = before.map(|before| before.points.inherited(allowed)).unwrap_or_default();
        let lists = before.map(|before| Arc::new(before.lists().verified())).unwrap_or_default();
        let shared = Arc::new(Self {
            config: config.clone(),
            fetcher,
            responder,
            points,
            flights: Flights::default(),
            tally: Tally::default(),
            files: Mutex::default(),
            lists: RwLock::new(lists),
            authorities: Mutex::new(known.into_iter().collect()),
            generation: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        });
        shared.load_files()?;
        Ok(shared)
    }

    pub(super) fn lists(&self) -> Arc<Lists> {
        Arc::clone(&self.lists.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn grace(&self) -> i64 {
        i64::try_from(self.config.grace.as_secs()).unwrap_or(i64::MAX)
    }

    /// Says that answers may be others now.
    pub(super) fn moved(&self) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        // Two moves at once may be told in either order; the number told never goes back.
        self.changes.send_modify(|told| *told = (*told).max(generation));
    }

    /// Puts another state in the place of this one.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Lists) -> T) -> T {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Lists::clone(&lists);
        let result = change(&mut next);
        *lists = Arc::new(next);
        result
    }

    /// A CA of a verified path: lists that come later are verified with its key at once. With too many, somebody else is forgotten.
    pub(super) fn remember(&self, authority: &OwnedAuthority) {
        let mut known = locked(&self.authorities);
        if known.contains(authority) {
            return;
        }
        if known.len() >= MAX_AUTHORITIES
            && let Some(other) = known.iter().next().cloned()
        {
            known.remove(&other);
        }
        known.insert(authority.clone());
    }

    /// The CAs with this name.
    pub(super) fn authorities(&self, subject: &[u8]) -> Vec<OwnedAuthority> {
        locked(&self.authorities).iter().filter(|authority| *authority.subject == *subject).cloned().collect()
    }

    /// Takes a list in and says what became of it. Blocking: its signature may have been verified just now, and logs are written.
    pub(super) fn take(&self, held: Held) -> Taken {
        let held = Arc::new(held);
        let (issuer, list, source) = (name_text(&held.crl.issuer), held.describe(), &held.source);
        let taken = self.change(|lists| lists.take(Arc::clone(&held)));
        match &taken {
            Taken::New => {
                let (entries, delta) = (held.crl.entries.len(), held.crl.delta_of.is_some());
                tracing::info!(%issuer, list, entries, delta, verified = held.signer.is_known(), "CRL loaded");
                if held.end(self.grace()) < held.taken {
                    say_ended(&held);
                }
                self.moved();
            }
            Taken::Same => {}
            Taken::Older { held: newer } => {
                self.tally.count(Decision::RollbackRefused);
                tracing::warn!(
                    event = "crl-rollback-refused", %issuer, refused = list, held = newer, %source,
                    "a CRL older than the one held is not used; if the CA was restored from a backup, restart the bridge"
                );
            }
            Taken::TooMany => tracing::error!(
                event = "crl-limit", %issuer, refused = list, %source,
                "too many or too large CRLs are held already: remove some from client_certificates.revocation"
            ),
        }
        taken
    }

    /// What memory says of one certificate.
    fn link_status(&self, lists: &Lists, link: &Link<'_>, now: UnixTime) -> Verdict {
        if link.policy == RevocationPolicy::Off {
            return unasked(now);
        }
        let word = judge(lists, link, seconds(now), self.grace());
        self.weigh(word, &self.known(link, now), link, now, || self.may_learn(lists, link, seconds(now)))
    }

    /// Weighs what the lists and the responder say, in the configured order. `may_learn`: whether asking for lists may bring more.
    pub(super) fn weigh(
        &self,
        word: Word,
        asked: &Asked,
        link: &Link<'_>,
        now: UnixTime,
        may_learn: impl Fn() -> bool,
    ) -> Verdict {
        let (listed_until, doubt) = match word {
            Word::Revoked(failure) => return Verdict::Refused(failure),
            Word::Clear { until } => (Some(until), None),
            Word::Untrusted(failure) | Word::Nothing(failure) => (None, Some(failure)),
        };
        let (answered_until, silence) = match asked {
            Asked::Said(OcspAnswer::Revoked { reason, since }) => return Verdict::Refused(responder_says(*reason, *since)),
            Asked::Said(OcspAnswer::Good { until }) => (Some(seconds(*until)), None),
            Asked::Said(OcspAnswer::Unvouched(failure) | OcspAnswer::Untrusted(failure)) => (None, Some(failure)),
            Asked::Nobody | Asked::NotYet => (None, None),
        };
        let doubt = || {
            let mut listed = doubt.clone().unwrap_or_else(|| Cause::RevocationUnknown.into());
            for (uri, trouble) in self.troubles(link) {
                listed.detail = format!("{}; {uri}: {trouble}", listed.detail);
            }
            joined(listed, silence)
        };
        let vouched = match self.config.order {
            RevocationOrder::OcspFirst if matches!(asked, Asked::NotYet) => return Verdict::Open(doubt()),
            RevocationOrder::OcspFirst => answered_until.or(listed_until),
            RevocationOrder::CrlFirst if listed_until.is_some() => listed_until,
            RevocationOrder::CrlFirst if may_learn() || matches!(asked, Asked::NotYet) => return Verdict::Open(doubt()),
            RevocationOrder::CrlFirst => answered_until,
        };
        match vouched {
            Some(until) => clear(until),
            None if may_learn() => Verdict::Open(doubt()),
            None => unvouched(link.policy, doubt(), now),
        }
    }

    /// A list read, verified if its signer is known.
    pub(super) fn held(&self, crl: Crl, der: Vec<u8>, source: Source, now: i64) -> Held {
        let der: Arc<[u8]> = der.into();
        let signer = Signer::find(&crl, &der, &self.authorities(&crl.issuer));
        Held { crl: Arc::new(crl), source, taken: now, used: Arc::default(), signer }
    }
}

/// The verdict on a path from those on its certificates.
fn together(verdicts: impl IntoIterator<Item = Verdict>, now: UnixTime) -> Verdict {
    let mut until = seconds(now).saturating_add(UNLIMITED);
    let (mut let_in, mut unknown, mut refused) = (None, None, None);
    for verdict in verdicts {
        match verdict {
            // Of several reasons the one that nothing can mend.
            Verdict::Refused(failure) if failure.cause == Cause::CertificateRevoked => return Verdict::Refused(failure),
            Verdict::Refused(failure) => refused = refused.or(Some(failure)),
            Verdict::Open(failure) => unknown = unknown.or(Some(failure)),
            Verdict::Clear { until: end, open } => {
                until = until.min(seconds(end));
                let_in = let_in.or(open);
            }
        }
    }
    match (refused, unknown) {
        (Some(failure), _) => Verdict::Refused(failure),
        (None, Some(failure)) => Verdict::Open(failure),
        (None, None) => Verdict::Clear { until: time(until), open: let_in },
    }
}

/// Nothing vouches, and there is nobody left to ask.
pub(super) fn unvouched(policy: RevocationPolicy, failure: Failure, now: UnixTime) -> Verdict {
    match policy {
        RevocationPolicy::Prefer if failure.cause != Cause::RevocationUntrusted => {
            Verdict::Clear { until: time(seconds(now).saturating_add(LET_IN_AGAIN)), open: Some(failure) }
        }
        _ => Verdict::Refused(failure),
    }
}

fn responder_says(reason: Option<u8>, since: i64) -> Failure {
    let reason = super::judge::reason_name(reason.unwrap_or(0));
    Failure::new(Cause::CertificateRevoked, format!("{reason} since {}: OCSP", super::lists::shown(since)))
}

/// One failure from what the lists and the responder lack; a bad signature is the graver one.
fn joined(listed: Failure, answered: Option<&Failure>) -> Failure {
    match answered {
        Some(answered) if answered.cause == Cause::RevocationUntrusted && listed.cause != Cause::RevocationUntrusted => {
            Failure::new(answered.cause, format!("OCSP: {}; {}", answered.detail, listed.detail))
        }
        Some(answered) => Failure::new(listed.cause, format!("{}; OCSP: {}", listed.detail, answered.detail)),
        None => listed,
    }
}

/// Policy `off`.
pub(super) fn unasked(now: UnixTime) -> Verdict {
    clear(seconds(now).saturating_add(UNLIMITED))
}

fn clear(until: i64) -> Verdict {
    Verdict::Clear { until: time(until), open: None }
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The system's clock, seconds since 1970.
pub(super) fn clock() -> i64 {
    seconds(UnixTime::now())
}

fn time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
