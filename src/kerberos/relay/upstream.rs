//! One exchange with a realm: which KDC is asked, for how long, and who is next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use crate::kerberos::config::KdcSource;
use crate::kerberos::relay::count;
use crate::kerberos::relay::error::{self, RESPONSE_TOO_BIG, SERVICE_UNAVAILABLE};
use crate::kerberos::relay::health::{Health, Plan};
use crate::kerberos::relay::locate::{Kdc, Located, Locator};
use crate::kerberos::relay::numbers::Asked;
use crate::kerberos::relay::observer::RelayObserver;
use crate::kerberos::relay::request::{Kind, ReplyKind, TicketFacts, reply_kind};
use crate::kerberos::relay::skew::Window;
use crate::kerberos::relay::transport::{self, AttemptError};
use crate::kerberos::wire::krb_error::KrbError;
use crate::naming::name::Realm;

/// The name service is left alone for so long after it failed: where old addresses serve, and where there are none.
const STALE_PAUSE: Duration = Duration::from_secs(5);
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);

/// All realms.
pub(super) struct Upstream {
    realms: BTreeMap<String, RealmKdcs>,
    locator: Locator,
    kdc_timeout: Duration,
    exchange_timeout: Duration,
    observer: RelayObserver,
}

/// One request and what bounds it.
pub(super) struct Question<'a> {
    pub(super) realm: &'a str,
    pub(super) kind: Kind,
    pub(super) message: &'a [u8],
    /// The acquisition's: it holds for all of its exchanges together.
    pub(super) deadline: Option<std::time::Instant>,
    /// Nobody else is to be asked.
    pub(super) only: Option<Kdc>,
}

/// A KDC's answer, whole as it came.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) kdc: Kdc,
    pub(super) bytes: Vec<u8>,
    pub(super) content: Content,
    pub(super) window: Window,
}

/// What a KDC's answer is.
#[derive(Debug)]
pub(super) enum Content {
    Reply(Option<TicketFacts>),
    /// What is no well-formed KRB-ERROR inside is passed on all the same.
    Error(Option<KrbError>),
}

impl Answered {
    fn refuses_for_the_time(&self) -> bool {
        matches!(&self.content, Content::Error(Some(error)) if [error::SKEW, error::NOT_YET_VALID].contains(&error.code))
    }
}

/// Nobody answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pub(super) attempts: Vec<(Kdc, AttemptError)>,
    pub(super) trouble: Option<String>,
}

struct RealmKdcs {
    realm: Realm,
    source: KdcSource,
    health: Health,
    known: Mutex<Known>,
    /// Held by the one who looks up.
    lookup: tokio::sync::Mutex<()>,
}

/// What is known of where a realm's KDCs are.
#[derive(Default)]
struct Known {
    located: Option<Located>,
    /// Why nothing is known, and until when nobody asks again.
    failure: Option<(String, Instant)>,
}

impl Upstream {
    pub(super) fn new(
        realms: BTreeMap<Realm, KdcSource>,
        locator: Locator,
        (kdc_timeout, exchange_timeout): (Duration, Duration),
        observer: RelayObserver,
    ) -> Self {
        let realms = realms.into_iter().map(|(realm, source)| (realm.as_str().to_owned(), RealmKdcs::new(realm, source)));
        Self { realms: realms.collect(), locator, kdc_timeout, exchange_timeout, observer }
    }

    /// Whether the configuration lists this realm.
    pub(super) fn lists(&self, realm: &str) -> bool {
        self.realms.contains_key(realm)
    }

    /// Looks for the KDCs of every realm, so that they are known before somebody asks. Does not end.
    pub(super) async fn find_all(&self) {
        for kdcs in self.realms.values() {
            // What went wrong was told.
            let _ = self.locate(kdcs, self.kdc_timeout).await;
        }
        std::future::pending::<()>().await;
    }

    /// Asks the realm's KDCs in turn until the acquisition's deadline. A silent one costs `kdc_timeout`, and at most half of the time
    /// that is left while there are others to ask. One that refuses for the time is believed when no other says anything else: clocks
    /// may be wrong there or here.
    pub(super) async fn exchange(&self, question: &Question<'_>) -> Result<Answered, Unanswered> {
        let latest = Instant::now() + self.exchange_timeout;
        let deadline = question.deadline.map_or(latest, |deadline| latest.min(deadline.into()));
        let mut failed = Unanswered::default();
        let Some(kdcs) = self.realms.get(question.realm) else { return Err(failed) };
        let none = |trouble| Unanswered { trouble: Some(trouble), ..Unanswered::default() };
        let time = left(deadline);
        if time.is_zero() {
            return Err(none("no time was left to ask any".to_owned()));
        }
        let (candidates, _probe) = if let Some(kdc) = &question.only {
            (vec![kdc.clone()], None)
        } else {
            let located = self.locate(kdcs, time.min(self.kdc_timeout)).await.map_err(none)?;
            let mut plan = kdcs.health.plan(located.clone(), self.kdc_timeout);
            if let Plan::Wait(patience) = plan {
                kdcs.health.probe_ended(patience.min(time)).await;
                plan = kdcs.health.plan(located, self.kdc_timeout);
            }
            match plan {
                Plan::Ask(candidates, probe) => (candidates, probe),
                Plan::Fail(trouble) => {
                    count(&self.observer.counters().circuit_open);
                    return Err(none(trouble));
                }
                // Another exchange asks by now.
                Plan::Wait(_) => {
                    count(&self.observer.counters().circuit_open);
                    return Err(none("circuit open".to_owned()));
                }
            }
        };
        count(&self.observer.counters().served);
        let mut others = candidates.len();
        let mut untimely = None;
        for kdc in candidates {
            others -= 1;
            let time = left(deadline);
            let limit = self.kdc_timeout.min(if others > 0 { time / 2 } else { time });
            if limit.is_zero() {
                failed.trouble = Some(format!("no time was left for {} more", others + 1));
                break;
            }
            match self.attempt(kdcs, &kdc, question, limit).await {
                Ok(answered) if answered.refuses_for_the_time() => untimely = untimely.or(Some(answered)),
                Ok(answered) => return Ok(answered),
                Err(reason) => failed.attempts.push((kdc, reason)),
            }
        }
        if let Some(answered) = untimely {
            return Ok(answered);
        }
        if failed.trouble.is_none() && left(deadline).is_zero() {
            failed.trouble = Some("the acquisition's time was over".to_owned());
        }
        Err(failed)
    }

    /// One request to one KDC, with everything that is learnt from it.
    async fn attempt(
        &self,
        kdcs: &RealmKdcs,
        kdc: &Kdc,
        question: &Question<'_>,
        limit: Duration,
    ) -> Result<Answered, AttemptError> {
        let Question { realm, kind, message, .. } = *question;
        let (sent, started) = (SystemTime::now(), Instant::now());
        let reply = ask(kdc, kind, message, limit, kdcs.health.takes_datagrams(kdc)).await;
        let (took, window) = (started.elapsed(), Window::new(sent, SystemTime::now()));
        let (reply, content) = match reply {
            Ok(reply) => reply,
            Err(reason) => {
                // Who had hardly any time is not judged by it.
                let fair = reason != AttemptError::TimedOut || limit >= self.fair();
                self.observer.asked(realm, kdc, kind, Asked::Failed { reason, fair });
                if fair {
                    kdcs.health.failed(kdc, reason);
                }
                return Err(reason);
            }
        };
        let error = if let Content::Error(error) = &content { Some(error.as_ref()) } else { None };
        let code = error.map(|error| error.map_or(i32::MIN, |error| error.code));
        self.observer.asked(realm, kdc, kind, Asked::Answered { took, error: code });
        if let Some(Some(error)) = error {
            self.observer.clock(realm, kdc, error::skew(error, window));
        }
        if reply.lost_datagram {
            kdcs.health.lost_datagrams(kdc);
        }
        kdcs.health.answered(kdc);
        Ok(Answered { kdc: kdc.clone(), bytes: reply.bytes, content, window })
    }

    /// The known addresses, looked up again when their time is over, by one exchange: the old ones serve for the others meanwhile, and
    /// for all while the name service does not.
    async fn locate(&self, kdcs: &RealmKdcs, patience: Duration) -> Result<Vec<Kdc>, String> {
        const LATE: &str = "the name service did not answer in time";
        if let Some(known) = kdcs.known().fresh() {
            return known;
        }
        let old = kdcs.known().located.is_some();
        let _turn = match kdcs.lookup.try_lock() {
            Ok(turn) => turn,
            Err(_busy) if old => return kdcs.known().located.as_ref().map(|old| old.kdcs.clone()).ok_or_else(String::new),
            Err(_busy) => timeout(patience, kdcs.lookup.lock()).await.map_err(|_| LATE.to_owned())?,
        };
        if let Some(known) = kdcs.known().fresh() {
            return known;
        }
        let patience = if old { patience / 2 } else { patience };
        let found = match timeout(patience, self.locator.locate(&kdcs.realm, &kdcs.source)).await {
            Ok(found) => found,
            Err(_elapsed) if !old && patience < self.fair() => return Err(LATE.to_owned()),
            Err(_elapsed) => Err(LATE.to_owned()),
        };
        let located = kdcs.learn(found);
        if let Ok(located) = &located {
            self.observer.located(kdcs.realm.as_str(), located);
        }
        located
    }

    /// Time enough to be judged by: less than half of an acquisition's time that is no longer than `kdc_timeout`.
    fn fair(&self) -> Duration {
        self.kdc_timeout / 3
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// One attempt: an answer is a reply, or an error other than "service unavailable".
async fn ask(
    kdc: &Kdc,
    kind: Kind,
    request: &[u8],
    limit: Duration,
    datagrams: bool,
) -> Result<(transport::Reply, Content), AttemptError> {
    let too_big = |bytes: &[u8]| KrbError::parse(bytes).is_ok_and(|error| error.code == RESPONSE_TOO_BIG);
    let reply = transport::ask(kdc.address, kind.exchange(), request, limit, datagrams, too_big).await?;
    let content = match reply_kind(kind.exchange(), &reply.bytes).ok_or(AttemptError::NotAReply)? {
        ReplyKind::Reply(ticket) => Content::Reply(ticket),
        ReplyKind::Error => Content::Error(KrbError::parse(&reply.bytes).ok()),
    };
    match content {
        Content::Error(Some(error)) if error.code == SERVICE_UNAVAILABLE => Err(AttemptError::ServiceUnavailable),
        content => Ok((reply, content)),
    }
}

impl RealmKdcs {
    fn new(realm: Realm, source: KdcSource) -> Self {
        let health = Health::new(realm.clone());
        Self { realm, source, health, known: Mutex::default(), lookup: tokio::sync::Mutex::default() }
    }

    /// Takes over what a look-up found, and says what serves now.
    fn learn(&self, found: Result<Located, String>) -> Result<Vec<Kdc>, String> {
        let Known { located, failure } = &mut *self.known();
        *failure = None;
        match (found, located) {
            (Ok(found), located) => Ok(located.insert(found).kdcs.clone()),
            (Err(trouble), Some(old)) => {
                tracing::warn!(realm = %self.realm, %trouble, "KDCs cannot be looked up; the last known ones are used");
                old.until = Some((Instant::now() + STALE_PAUSE).into_std());
                Ok(old.kdcs.clone())
            }
            (Err(trouble), None) => {
                tracing::warn!(realm = %self.realm, %trouble, "no KDC is known");
                *failure = Some((trouble.clone(), Instant::now() + UNKNOWN_PAUSE));
                Err(trouble)
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What holds without another look-up.
    fn fresh(&self) -> Option<Result<Vec<Kdc>, String>> {
        let now = Instant::now();
        if let Some(located) = self.located.as_ref().filter(|known| known.until.is_none_or(|until| now.into_std() < until)) {
            return Some(Ok(located.kdcs.clone()));
        }
        self.failure.as_ref().filter(|(_, until)| now < *until).map(|(trouble, _)| Err(trouble.clone()))
    }
}

#[cfg(test)]
mod tests;
