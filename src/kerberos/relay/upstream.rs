//! One exchange with a realm: which KDC is asked, for how long, and who is next.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::kerberos::config::KdcSource;
use crate::kerberos::relay::error::{self, RESPONSE_TOO_BIG, SERVICE_UNAVAILABLE};
use crate::kerberos::relay::locate::{Kdc, Located, Locator};
use crate::kerberos::relay::observer::RelayObserver;
use crate::kerberos::relay::request::{Exchange, ReplyKind, TicketFacts, reply_kind};
use crate::kerberos::relay::transport::{self, AttemptError};
use crate::kerberos::wire::krb_error::KrbError;
use crate::naming::name::Realm;

/// A KDC that failed is asked after the others for this long, doubled with every further failure.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(80);

/// All realms.
pub(super) struct Upstream {
    realms: BTreeMap<String, RealmKdcs>,
    locator: Locator,
    kdc_timeout: Duration,
    exchange_timeout: Duration,
    observer: RelayObserver,
}

/// A KDC's answer, whole as it came.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) kdc: Kdc,
    pub(super) bytes: Vec<u8>,
    pub(super) content: Content,
}

/// What a KDC's answer is.
#[derive(Debug)]
pub(super) enum Content {
    Reply(Option<TicketFacts>),
    /// What is no well-formed KRB-ERROR inside is passed on all the same.
    Error(Option<KrbError>),
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
    located: tokio::sync::Mutex<Option<Located>>,
    health: Mutex<HashMap<SocketAddr, Health>>,
}

/// Only KDCs that failed last time have one.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// Until then it is asked after the others.
    rests_until: Instant,
    rest: Duration,
    /// One exchange is finding out whether it is back.
    probed: bool,
}

impl Upstream {
    pub(super) fn new(
        realms: BTreeMap<Realm, KdcSource>,
        locator: Locator,
        (kdc_timeout, exchange_timeout): (Duration, Duration),
        observer: RelayObserver,
    ) -> Self {
        let realms = realms.into_iter().map(|(realm, source)| {
            let kdcs = RealmKdcs { realm, source, located: tokio::sync::Mutex::default(), health: Mutex::default() };
            (kdcs.realm.as_str().to_owned(), kdcs)
        });
        Self { realms: realms.collect(), locator, kdc_timeout, exchange_timeout, observer }
    }

    /// Whether the configuration lists this realm.
    pub(super) fn lists(&self, realm: &str) -> bool {
        self.realms.contains_key(realm)
    }

    /// Asks the realm's KDCs in turn. Takes `kdc_timeout` for each silent one and `exchange_timeout` in total, at most.
    pub(super) async fn exchange(&self, realm: &str, exchange: Exchange, request: &[u8]) -> Result<Answered, Unanswered> {
        let deadline = Instant::now() + self.exchange_timeout;
        let mut failed = Unanswered::default();
        let Some(kdcs) = self.realms.get(realm) else { return Err(failed) };
        let candidates = match timeout(self.limit(deadline), kdcs.in_order(&self.locator, self.kdc_timeout)).await {
            Ok(Ok(candidates)) => candidates,
            Ok(Err(trouble)) => return Err(Unanswered { trouble: Some(trouble), ..failed }),
            Err(_) => return Err(Unanswered { trouble: Some("the name service did not answer in time".to_owned()), ..failed }),
        };
        for kdc in candidates {
            let limit = self.limit(deadline);
            if limit.is_zero() {
                break;
            }
            let started = Instant::now();
            match ask(&kdc, exchange, request, limit).await {
                Ok(answered) => {
                    self.observer.asked(realm, &kdc, Some(started.elapsed()), answered.skew());
                    kdcs.answered(kdc.address);
                    return Ok(answered);
                }
                Err(reason) => {
                    self.observer.asked(realm, &kdc, None, None);
                    kdcs.failed(&kdc, reason);
                    failed.attempts.push((kdc, reason));
                }
            }
        }
        Err(failed)
    }

    fn limit(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(Instant::now()).min(self.kdc_timeout)
    }
}

impl Answered {
    /// The KDC's clock minus ours, in seconds; only errors carry its clock in the clear.
    pub(super) fn skew(&self) -> Option<i64> {
        match &self.content {
            Content::Error(Some(error)) => Some(error::skew(error)),
            Content::Reply(_) | Content::Error(None) => None,
        }
    }
}

/// One attempt: an answer is a reply, or an error other than "service unavailable".
async fn ask(kdc: &Kdc, exchange: Exchange, request: &[u8], limit: Duration) -> Result<Answered, AttemptError> {
    let too_big = |bytes: &[u8]| KrbError::parse(bytes).is_ok_and(|error| error.code == RESPONSE_TOO_BIG);
    let bytes = transport::ask(kdc.address, exchange, request, limit, too_big).await?;
    let content = match reply_kind(exchange, &bytes).ok_or(AttemptError::NotAReply)? {
        ReplyKind::Reply(ticket) => Content::Reply(ticket),
        ReplyKind::Error => Content::Error(KrbError::parse(&bytes).ok()),
    };
    match content {
        Content::Error(Some(error)) if error.code == SERVICE_UNAVAILABLE => Err(AttemptError::ServiceUnavailable),
        content => Ok(Answered { kdc: kdc.clone(), bytes, content }),
    }
}

impl RealmKdcs {
    /// The KDCs as configured or as DNS orders them, those that rest last. A KDC whose rest is over is tried by one exchange,
    /// while the others leave it alone for `kdc_timeout`: so a KDC that came back is found without a stampede, and one that
    /// did not costs one exchange now and then.
    async fn in_order(&self, locator: &Locator, kdc_timeout: Duration) -> Result<Vec<Kdc>, String> {
        let located = self.locate(locator, kdc_timeout / 2).await?;
        let now = Instant::now();
        let mut health = self.health();
        let mut probing = false;
        let (mut ready, mut resting) = (Vec::new(), Vec::new());
        for kdc in located {
            match health.get_mut(&kdc.address) {
                None => ready.push(kdc),
                Some(ill) if ill.rests_until <= now && !probing => {
                    probing = true;
                    *ill = Health { rests_until: now + kdc_timeout, probed: true, ..*ill };
                    ready.push(kdc);
                }
                Some(_) => resting.push(kdc),
            }
        }
        ready.append(&mut resting);
        Ok(ready)
    }

    /// The known addresses, looked up again when their time is over; the old ones serve while the name service does not.
    async fn locate(&self, locator: &Locator, patience: Duration) -> Result<Vec<Kdc>, String> {
        let mut located = self.located.lock().await;
        let lookup = locator.locate(&self.realm, &self.source);
        let found = match located.as_mut() {
            None => lookup.await?,
            Some(known) if known.until.is_none_or(|until| Instant::now() < until) => return Ok(known.kdcs.clone()),
            Some(old) => match timeout(patience, lookup).await {
                Ok(Ok(found)) => found,
                failed => {
                    let trouble =
                        failed.map_or_else(|_| "no answer in time".to_owned(), |lookup| lookup.err().unwrap_or_default());
                    tracing::warn!(realm = %self.realm, %trouble, "KDCs cannot be looked up; the last known ones are used");
                    old.until = Some(Instant::now() + FIRST_REST);
                    return Ok(old.kdcs.clone());
                }
            },
        };
        Ok(located.insert(found).kdcs.clone())
    }

    fn answered(&self, kdc: SocketAddr) {
        if self.health().remove(&kdc).is_some() {
            tracing::info!(realm = %self.realm, %kdc, "a KDC answers again");
        }
    }

    fn failed(&self, kdc: &Kdc, reason: AttemptError) {
        let now = Instant::now();
        let mut health = self.health();
        // Addresses that DNS no longer names are forgotten.
        health.retain(|_, ill| ill.rests_until + LONGEST_REST > now);
        let rest = match health.get(&kdc.address) {
            None => FIRST_REST,
            Some(ill) if ill.probed || ill.rests_until <= now => (ill.rest * 2).min(LONGEST_REST),
            // It rests already: this exchange started before that, or had nobody else to ask.
            Some(_) => return,
        };
        health.insert(kdc.address, Health { rests_until: now + rest, rest, probed: false });
        drop(health);
        tracing::warn!(realm = %self.realm, %kdc, %reason, rest = ?rest, "a KDC does not answer; the others are asked first");
    }

    fn health(&self) -> MutexGuard<'_, HashMap<SocketAddr, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
