//! Asking: lists are verified and fetched, responders asked; the same question once for all who wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls_pki_types::UnixTime;
use tokio::sync::{Semaphore, watch};

use crate::certificate::{DistributionPoint, name_text};
use crate::failure::{Cause, Failure};
use crate::revocation::crl::{self, Crl};
use crate::revocation::engine::{Shared, locked, seconds, unasked, unvouched};
use crate::revocation::judge::{CLOCK_SKEW, Word, judge};
use crate::revocation::lists::{Held, Lists, Signer, Source, Taken, shown};
use crate::revocation::ocsp::OcspAnswer;
use crate::revocation::outside::Asked;
use crate::revocation::{Decision, Link, OwnedAuthority, RevocationOrder, RevocationPolicy, Verdict};

/// Lists fetched at the same time: each may be as large as allowed.
const CONCURRENT_FETCHES: usize = 4;
/// Distribution points of one certificate that are asked.
const MAX_POINTS: usize = 8;

/// Questions under way.
pub(super) struct Flights {
    under_way: Mutex<HashMap<Question, watch::Receiver<()>>>,
    places: Arc<Semaphore>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// What is there?
    Fetch(Arc<str>),
    /// Which of the lists held did this CA sign?
    Verify(OwnedAuthority),
}

impl Default for Flights {
    fn default() -> Self {
        Self { under_way: Mutex::default(), places: Arc::new(Semaphore::new(CONCURRENT_FETCHES)) }
    }
}

/// A question's place in the map, given up however it ends; then its channel closes, which is what the others wait for.
struct Place {
    shared: Arc<Shared>,
    question: Question,
    _closes: watch::Sender<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.shared.flights.under_way).remove(&self.question);
    }
}

impl Shared {
    /// What can be learnt about one certificate until `deadline`.
    pub(super) async fn settle(self: &Arc<Self>, link: &Link<'_>, now: UnixTime, deadline: Instant) -> Verdict {
        if link.policy == RevocationPolicy::Off {
            return unasked(now);
        }
        let ocsp_first = self.config.order == RevocationOrder::OcspFirst;
        let mut asked = self.known(link, now);
        if ocsp_first {
            asked = self.ask(asked, link, now, deadline).await;
        }
        if !(ocsp_first && asked.is_decided()) {
            self.settle_lists(link, seconds(now), deadline).await;
        }
        if !ocsp_first && !self.is_decided(link, seconds(now)) {
            asked = self.ask(asked, link, now, deadline).await;
        }
        let word = judge(&self.lists(), link, seconds(now), self.grace());
        match self.weigh(word, &asked, link, now, || false) {
            Verdict::Open(failure) => unvouched(link.policy, failure, now),
            verdict => verdict,
        }
    }

    /// Whether lists might say more about this certificate than they do, if somebody asked now.
    pub(super) fn may_learn(&self, lists: &Lists, link: &Link<'_>, now: i64) -> bool {
        pending(lists, link) || self.points_of(link).iter().any(|uri| self.points.may_ask(uri, now))
    }

    /// What was wrong with the certificate's distribution points the last time they were asked.
    pub(super) fn troubles(&self, link: &Link<'_>) -> Vec<(Arc<str>, String)> {
        let points = self.points_of(link).into_iter();
        points.filter_map(|uri| self.points.trouble(&uri).map(|trouble| (uri, trouble))).collect()
    }

    /// What the responder said of it lately.
    pub(super) fn known(&self, link: &Link<'_>, now: UnixTime) -> Asked {
        match &self.responder {
            None => Asked::Nobody,
            Some(responder) => responder.known(link, now).map_or(Asked::NotYet, Asked::Said),
        }
    }

    /// Fetches and takes a list; joins those who fetch it already. Ready when it is done, or at the deadline.
    pub(super) async fn fetch(self: &Arc<Self>, uri: &Arc<str>, authority: &OwnedAuthority, now: i64, deadline: Instant) {
        let flight = self.start_fetch(uri, authority, now);
        landed(flight, deadline).await;
    }

    /// The same without waiting.
    pub(super) fn start_fetch(self: &Arc<Self>, uri: &Arc<str>, authority: &OwnedAuthority, now: i64) -> watch::Receiver<()> {
        let (shared, point, authority) = (Arc::clone(self), Arc::clone(uri), authority.clone());
        self.launch(Question::Fetch(Arc::clone(uri)), async move {
            let outcome = shared.fetch_alone(&point, &authority, now).await;
            shared.note_fetch(&point, &authority, now, &outcome);
        })
    }

    async fn ask(&self, asked: Asked, link: &Link<'_>, now: UnixTime, deadline: Instant) -> Asked {
        let (Some(responder), Asked::NotYet) = (&self.responder, &asked) else { return asked };
        let answer = responder.ask(link, now, deadline).await;
        if matches!(answer, OcspAnswer::Revoked { .. }) {
            self.moved();
        }
        Asked::Said(answer)
    }

    fn is_decided(&self, link: &Link<'_>, now: i64) -> bool {
        matches!(judge(&self.lists(), link, now, self.grace()), Word::Clear { .. } | Word::Revoked(_))
    }

    /// Verifies lists whose signer was not known, then fetches from the certificate's distribution points until one vouches, and
    /// deltas with it.
    async fn settle_lists(self: &Arc<Self>, link: &Link<'_>, now: i64, deadline: Instant) {
        let authority = link.issuer.to_owned();
        self.remember(&authority);
        if pending(&self.lists(), link) {
            let (shared, issuer) = (Arc::clone(self), authority.clone());
            let verified = self.launch(Question::Verify(authority.clone()), async move {
                let _ = tokio::task::spawn_blocking(move || shared.verify_pending(&issuer, now)).await;
            });
            landed(verified, deadline).await;
        }
        for uri in self.points_of(link) {
            if self.is_decided(link, now) {
                break;
            }
            if self.points.may_ask(&uri, now) {
                self.points.touch(&uri, &authority, now);
                self.fetch(&uri, &authority, now, deadline).await;
            }
        }
        let mut deltas = self.allowed(link.certificate.freshest_crl().unwrap_or_default());
        deltas.extend(self.deltas_of(&authority));
        for uri in deltas {
            if self.points.touch(&uri, &authority, now) {
                self.fetch(&uri, &authority, now, deadline).await;
            }
        }
    }

    /// The distribution points of a certificate that may be asked; none where they cannot be read.
    fn points_of(&self, link: &Link<'_>) -> Vec<Arc<str>> {
        if self.fetcher.is_none() {
            return Vec::new();
        }
        self.allowed(link.certificate.distribution_points().unwrap_or_default())
    }

    fn allowed(&self, points: Vec<DistributionPoint<'_>>) -> Vec<Arc<str>> {
        let Some(fetcher) = &self.fetcher else { return Vec::new() };
        let direct = points.into_iter().filter(|point| !point.partial && !point.indirect);
        direct.flat_map(|point| point.uris).filter(|uri| fetcher.allows(uri)).take(MAX_POINTS).map(Into::into).collect()
    }

    /// Where the deltas to a CA's lists are, as far as they may be fetched.
    pub(super) fn deltas_of(&self, authority: &OwnedAuthority) -> Vec<Arc<str>> {
        let Some(fetcher) = &self.fetcher else { return Vec::new() };
        let lists = self.lists();
        let own = lists.of(&authority.subject).iter().filter(|held| held.is_signed_by(&authority.public_key));
        let uris = own.filter(|held| held.crl.delta_of.is_none()).flat_map(|held| held.crl.freshest.iter());
        uris.filter(|uri| fetcher.allows(uri)).take(MAX_POINTS).map(|uri| Arc::from(&**uri)).collect()
    }

    /// Blocking: tries a CA's key on the lists of its name that nobody's key was found for.
    fn verify_pending(&self, authority: &OwnedAuthority, now: i64) {
        let lists = self.lists();
        for held in lists.of(&authority.subject).iter().filter(|held| held.may_be_signed_by(&authority.public_key)) {
            let Signer::Unknown { der, .. } = &held.signer else { continue };
            match Signer::find(&held.crl, der, std::slice::from_ref(authority)) {
                signer @ Signer::Known(_) => {
                    self.take(Held { signer, taken: now, ..Held::clone(held) });
                }
                Signer::Unknown { refused, .. } => {
                    self.change(|lists| lists.note_refusals(&held.crl, &refused));
                    self.moved();
                }
            }
        }
    }

    /// Fetches once and takes what comes; the list taken.
    async fn fetch_alone(self: &Arc<Self>, uri: &Arc<str>, authority: &OwnedAuthority, now: i64) -> Result<Arc<Crl>, Failure> {
        let Some(fetcher) = &self.fetcher else { return Err(Cause::RevocationUnknown.into()) };
        // Never closed: the semaphore lives as long as we do.
        let _place = self.flights.places.acquire().await;
        let deadline = Instant::now() + self.config.fetch_timeout;
        let bytes = tokio::time::timeout_at(deadline.into(), fetcher.crl(uri, deadline)).await;
        let bytes = bytes.unwrap_or_else(|_| Err(Failure::new(Cause::RevocationUnknown, "no answer in time")))?;
        let (shared, uri, authority) = (Arc::clone(self), Arc::clone(uri), authority.clone());
        let taking = tokio::task::spawn_blocking(move || shared.take_fetched(bytes, &uri, &authority, now));
        taking.await.unwrap_or_else(|_| Err(Failure::new(Cause::RevocationUnknown, "reading the CRL ended without a word")))
    }

    /// Blocking: reads, verifies and keeps what a distribution point gave.
    fn take_fetched(&self, bytes: Vec<u8>, uri: &Arc<str>, authority: &OwnedAuthority, now: i64) -> Result<Arc<Crl>, Failure> {
        let unusable = |why: &dyn std::fmt::Display| Failure::new(Cause::RevocationUnknown, why.to_string());
        let mut lists = crl::lists(bytes).map_err(|error| unusable(&error))?;
        let (Some(der), true) = (lists.pop(), lists.is_empty()) else { return Err(unusable(&"several CRLs in one answer")) };
        let crl = Crl::read(&der).map_err(|error| unusable(&error))?;
        if crl.issuer != authority.subject {
            return Err(unusable(&format!("the CRL is of {}", name_text(&crl.issuer))));
        }
        if crl.this_update > now.saturating_add(CLOCK_SKEW) {
            return Err(unusable(&"the CRL is not valid yet: check the clock"));
        }
        let source = Source::Fetched(Arc::clone(uri));
        let held = Held { used: self.points.used(uri), ..self.held(crl, der, source.clone(), now) };
        self.change(|lists| lists.forget_unverified(&source));
        let crl = Arc::clone(&held.crl);
        if !held.signer.is_known() {
            let failure = Failure::new(Cause::RevocationUntrusted, format!("{} is not signed by a CA we know", held.describe()));
            self.take(held);
            return Err(failure);
        }
        match self.take(held) {
            Taken::New | Taken::Same if now <= crl.next_update => Ok(crl),
            Taken::New | Taken::Same => Err(Failure::new(Cause::CrlExpired, format!("the CRL ended {}", shown(crl.next_update)))),
            Taken::Older { held } => Err(unusable(&format!("the CRL is older than {held}"))),
            Taken::TooMany => Err(unusable(&"too many CRLs are held")),
        }
    }

    fn note_fetch(&self, uri: &Arc<str>, authority: &OwnedAuthority, now: i64, outcome: &Result<Arc<Crl>, Failure>) {
        match outcome {
            Ok(_) => self.tally.count(Decision::Fetched),
            Err(failure) => {
                self.tally.count(Decision::FetchFailed);
                let issuer = name_text(&authority.subject);
                tracing::warn!(event = "crl-fetch-failed", %uri, %issuer, %failure, "CRL not fetched; it will be tried again");
            }
        }
        self.points.note(uri, now, outcome, getrandom::u32().unwrap_or_default());
    }

    /// Joins the question under way, or starts to ask it.
    fn launch(self: &Arc<Self>, question: Question, asking: impl Future<Output = ()> + Send + 'static) -> watch::Receiver<()> {
        let mut under_way = locked(&self.flights.under_way);
        if let Some(flight) = under_way.get(&question) {
            return flight.clone();
        }
        let (sender, receiver) = watch::channel(());
        under_way.insert(question.clone(), receiver.clone());
        drop(under_way);
        let place = Place { shared: Arc::clone(self), question, _closes: sender };
        tokio::spawn(async move {
            asking.await;
            drop(place);
        });
        receiver
    }
}

/// Whether a list is held that this issuer's key was not tried on.
fn pending(lists: &Lists, link: &Link<'_>) -> bool {
    link.issuer.may_sign_crls
        && lists.of(link.certificate.issuer).iter().any(|held| held.may_be_signed_by(link.issuer.public_key))
}

/// Ready when the flight's channel is closed, or at the deadline.
async fn landed(mut flight: watch::Receiver<()>, deadline: Instant) {
    let _ = tokio::time::timeout_at(deadline.into(), async { while flight.changed().await.is_ok() {} }).await;
}
