//! OCSP (RFC 6960, RFC 5019): asks responders about certificates of verified chains, believes the issuer and its direct delegates.
//!
//! ```text
//! request    CertID, the question
//! response   strict reader of the answer
//! verify     who may say so, about what, and when
//! cache      what was said
//! breaker    responders in trouble
//! ```

mod breaker;
mod cache;
mod counters;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod request;
mod response;
mod verify;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::StatusCode;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::certificate::LoadError;
use crate::failure::{Cause, Failure};
use crate::revocation::fetch::{AllowList, Http, HttpError, HttpUrl, Question, Url, allow_list, shown};
use crate::revocation::{Link, OcspConfig};

use breaker::Breakers;
use cache::{Answers, Key};
use counters::{Counters, count};
use request::{CertId, Nonce};
use verify::{Issuer, Refusal, Statement, judge};

pub(crate) use counters::OcspCounts;

/// A response with eight certificates is smaller.
const MAX_RESPONSE: u64 = 64 << 10;
/// RFC 5019 section 5: shorter questions are asked by GET, so that caches can answer.
const MAX_GET: usize = 255;
/// Of one certificate.
const MAX_RESPONDERS: usize = 4;
/// Nobody waits longer for a handshake.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// Questions under way at a time.
const MAX_FLIGHTS: usize = 1024;
const REQUEST_TYPE: &str = "application/ocsp-request";

/// What is known of one certificate by OCSP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OcspAnswer {
    /// Not revoked; until then nobody needs to be asked again.
    Good {
        /// Exclusive.
        until: UnixTime,
    },
    /// Revoked, or on hold.
    Revoked {
        /// CRLReason.
        reason: Option<u8>,
        /// Seconds since 1970.
        since: i64,
    },
    /// Nobody says: unreachable, unknown, try later, outdated.
    Unvouched(Failure),
    /// Somebody says who may not, or about something else.
    Untrusted(Failure),
}

/// Asks responders. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ocsp(Arc<Inner>);

struct Inner {
    http: Http,
    /// Asked about every certificate.
    responder: Option<HttpUrl>,
    allowed: AllowList,
    timeout: Duration,
    nonce: bool,
    answers: Answers,
    breakers: Breakers,
    counters: Counters,
    flights: Mutex<HashMap<Key, Flight>>,
}

/// One question under way; everybody with the same one waits for it.
type Flight = watch::Receiver<Option<OcspAnswer>>;

/// A question that outlives who asked it first.
struct Inquiry {
    key: Key,
    id: CertId,
    issuer: Issuer,
    responders: Vec<HttpUrl>,
    now: UnixTime,
}

/// Takes the flight off the board however it ends.
struct Landing {
    board: Arc<Inner>,
    key: Key,
}

impl Ocsp {
    /// `http`: the maker of connections, with its trust anchors.
    pub(crate) fn new(config: &OcspConfig, http: &Http) -> Result<Self, LoadError> {
        let responder = config.url.as_deref().map(|url| override_url(url, http)).transpose()?;
        Ok(Self(Arc::new(Inner {
            http: http.clone(),
            responder,
            allowed: allow_list(&config.responders, http, "ocsp.responders")?,
            timeout: config.timeout.min(MAX_TIMEOUT),
            nonce: config.nonce,
            answers: Answers::new(config.max_age),
            breakers: Breakers::default(),
            counters: Counters::default(),
            flights: Mutex::default(),
        })))
    }

    /// What memory knows, or that there is nobody to ask; no I/O.
    pub(crate) fn known(&self, link: &Link<'_>, now: UnixTime) -> Option<OcspAnswer> {
        let key = Key::of(link);
        let nobody = || match self.0.responder {
            Some(_) => None,
            None => self.0.named_by(link).err().map(|reason| self.0.answers.or_revoked(&key, unvouched(reason))),
        };
        self.0.answers.get(&key, now).or_else(nobody)
    }

    /// What memory knows or a responder says before the deadline. The question goes on when the deadline passes, so that the
    /// next one finds its answer.
    pub(crate) async fn ask(&self, link: &Link<'_>, now: UnixTime, deadline: Instant) -> OcspAnswer {
        let key = Key::of(link);
        if let Some(answer) = self.0.answers.get(&key, now) {
            return answer;
        }
        let inquiry = match self.0.inquiry(key, link, now) {
            Ok(inquiry) => inquiry,
            Err(reason) => return self.0.answers.or_revoked(&key, unvouched(reason)),
        };
        let mut flight = match self.0.board(inquiry) {
            Ok(flight) => flight,
            Err(answer) => return answer,
        };
        let landed = timeout_at(deadline.into(), flight.wait_for(Option::is_some)).await;
        let missing = match landed {
            Ok(Ok(answer)) => match answer.as_ref() {
                Some(answer) => return answer.clone(),
                None => "no answer",
            },
            Ok(Err(_)) => "the question ended without an answer",
            Err(_) => "no responder answered in time",
        };
        self.0.answers.or_revoked(&key, unvouched(missing))
    }

    /// Takes over what another knows to be revoked.
    pub(crate) fn inherit(&self, before: &Self) {
        self.0.answers.inherit(&before.0.answers);
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> OcspCounts {
        self.0.counters.read()
    }
}

impl fmt::Debug for Ocsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ocsp").field("responder", &self.0.responder).field("allowed", &self.0.allowed).finish_non_exhaustive()
    }
}

impl Inner {
    fn inquiry(&self, key: Key, link: &Link<'_>, now: UnixTime) -> Result<Inquiry, String> {
        let responders = match &self.responder {
            Some(url) => vec![url.clone()],
            None => self.named_by(link)?,
        };
        let id = CertId::of(&link.certificate, link.issuer.public_key).map_err(|error| format!("the issuer's key: {error}"))?;
        let issuer = Issuer { subject: link.issuer.subject.to_vec(), public_key: link.issuer.public_key.to_vec() };
        Ok(Inquiry { key, id, issuer, responders, now })
    }

    fn named_by(&self, link: &Link<'_>) -> Result<Vec<HttpUrl>, String> {
        let named = link.certificate.ocsp_responders().map_err(|error| format!("AuthorityInformationAccess: {error}"))?;
        let Some(first) = named.first() else { return Err("the certificate names no OCSP responder".into()) };
        let permitted = |text: &&str| match Url::parse(text) {
            Ok(url) if self.allowed.allows(&url) => match url {
                Url::Http(url) => Some(url),
                Url::Ldap(_) => None,
            },
            _ => None,
        };
        let urls: Vec<_> = named.iter().filter_map(permitted).take(MAX_RESPONDERS).collect();
        if urls.is_empty() { Err(format!("{}: not below any of ocsp.responders", shown(first))) } else { Ok(urls) }
    }

    /// The flight that answers this, started if it is the first.
    fn board(self: &Arc<Self>, inquiry: Inquiry) -> Result<Flight, OcspAnswer> {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&inquiry.key) {
            return Ok(flight.clone());
        }
        // One that landed since memory was asked left its answer there before it left the board.
        if let Some(answer) = self.answers.get(&inquiry.key, inquiry.now) {
            return Err(answer);
        }
        if flights.len() >= MAX_FLIGHTS {
            return Err(self.answers.or_revoked(&inquiry.key, unvouched("too many OCSP questions under way")));
        }
        let (sender, flight) = watch::channel(None);
        let landing = Landing { board: Arc::clone(self), key: inquiry.key };
        flights.insert(inquiry.key, flight.clone());
        drop(flights);
        tokio::spawn(async move {
            let answer = landing.board.answer(&inquiry).await;
            drop(landing);
            sender.send_replace(Some(answer));
        });
        Ok(flight)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one responder after the other until one of them says something, and remembers it.
    async fn answer(&self, inquiry: &Inquiry) -> OcspAnswer {
        let deadline = Instant::now() + self.timeout;
        let mut unusable = None;
        for (responder, left) in inquiry.responders.iter().zip((1..=inquiry.responders.len()).rev()) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            match self.consult(responder, inquiry, now + share).await {
                Ok(said) => {
                    let answer = self.answers.stated(inquiry.key, &said, inquiry.now);
                    let revoked = matches!(answer, OcspAnswer::Revoked { .. });
                    count(if revoked { &self.counters.revoked } else { &self.counters.good }, 1);
                    return answer;
                }
                // Badly signed outweighs silent.
                Err(answer) if unusable.is_none() || matches!(answer, OcspAnswer::Untrusted(_)) => unusable = Some(answer),
                Err(_) => {}
            }
        }
        let answer = unusable.unwrap_or_else(|| unvouched("there is no responder"));
        let untrusted = matches!(answer, OcspAnswer::Untrusted(_));
        count(if untrusted { &self.counters.untrusted } else { &self.counters.unvouched }, 1);
        self.answers.unanswered(inquiry.key, answer, inquiry.now)
    }

    /// Asks one responder.
    async fn consult(&self, responder: &HttpUrl, inquiry: &Inquiry, deadline: Instant) -> Result<Statement, OcspAnswer> {
        let scheme = if responder.origin.secure { "https" } else { "http" };
        let place = format!("{scheme}://{}{}", responder.origin, responder.path);
        let told = |reason: &dyn fmt::Display| format!("{}: {reason}", shown(&place));
        let leave = self.breakers.enter(&responder.origin, Instant::now()).map_err(|rest| {
            count(&self.counters.breaker_open, 1);
            unvouched(told(&format!("it failed repeatedly and is left alone for {} s", rest.as_secs())))
        })?;
        let nonce = if self.nonce { Some(fresh_nonce().map_err(|error| unvouched(told(&error)))?) } else { None };
        let response = match self.fetch(responder, &inquiry.id.request(nonce.as_ref()), nonce.is_none(), deadline).await {
            Ok(response) => response,
            Err(error) => {
                if error.is_trouble() {
                    leave.failed(Instant::now());
                } else {
                    leave.succeeded();
                }
                return Err(unvouched(told(&error)));
            }
        };
        let now = i64::try_from(inquiry.now.as_secs()).unwrap_or(i64::MAX);
        let judged = judge(&response, &inquiry.id, &inquiry.issuer, nonce.as_ref(), now);
        match &judged {
            Err(refusal) if refusal.is_trouble() => leave.failed(Instant::now()),
            _ => leave.succeeded(),
        }
        judged.map_err(|refusal: Refusal| {
            let cause = if refusal.is_untrusted() { Cause::RevocationUntrusted } else { Cause::RevocationUnknown };
            let failure = Failure::new(cause, told(&refusal));
            if refusal.is_untrusted() { OcspAnswer::Untrusted(failure) } else { OcspAnswer::Unvouched(failure) }
        })
    }

    /// By GET if that may be answered by caches and the responder knows it (RFC 6960 appendix A.1), or else by POST.
    async fn fetch(&self, responder: &HttpUrl, request: &[u8], cacheable: bool, deadline: Instant) -> Result<Vec<u8>, HttpError> {
        let encoded = base64_simd::STANDARD.encode_to_string(request);
        if cacheable && encoded.len() < MAX_GET && responder.query.is_none() {
            let target = format!("{}/{}", responder.path.trim_end_matches('/'), escape(&encoded));
            match self.exchange(responder, Question::Get(target), deadline).await {
                Err(HttpError::Status(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)) => {}
                answered => return answered,
            }
        }
        let question = Question::Post(responder.target(), REQUEST_TYPE, request.to_vec());
        self.exchange(responder, question, deadline).await
    }

    async fn exchange(&self, responder: &HttpUrl, question: Question, deadline: Instant) -> Result<Vec<u8>, HttpError> {
        count(&self.counters.asked, 1);
        let answered = self.http.ask(&responder.origin, question, MAX_RESPONSE, deadline).await;
        match &answered {
            Ok(body) => count(&self.counters.bytes, body.len()),
            Err(_) => count(&self.counters.fetch_errors, 1),
        }
        answered
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.board.lock().remove(&self.key);
    }
}

fn override_url(url: &str, http: &Http) -> Result<HttpUrl, LoadError> {
    let remedy = "ocsp.url is http://host[:port]/path or https://host[:port]/path";
    let parsed =
        HttpUrl::parse(url).map_err(|error| LoadError::new(url.as_ref(), format!("cannot be asked: {error}"), remedy))?;
    if parsed.origin.secure && !http.can_tls() {
        let problem = "is https, but there is no trust anchor for it";
        return Err(LoadError::new(url.as_ref(), problem, "name its CA in revocation.fetch_trust_anchors"));
    }
    Ok(parsed)
}

fn fresh_nonce() -> Result<Nonce, getrandom::Error> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// The characters of Base64 that have a meaning in a URL.
fn escape(encoded: &str) -> String {
    encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

fn unvouched(reason: impl Into<String>) -> OcspAnswer {
    OcspAnswer::Unvouched(Failure::new(Cause::RevocationUnknown, reason))
}

#[cfg(test)]
mod tests;
