//! What the relay saw: failed exchanges for the acquisitions that caused them, and numbers per KDC.
//!
//! # Whose error was it?
//!
//! libkrb5 keeps neither NTSTATUS nor the reason why no KDC answered, and the relay cannot see which worker thread a connection
//! came from. What it does see names the acquisition:
//!
//! * An AS-REQ names its client: our own account, or the enterprise name whose realm is being looked for.
//! * An S4U2Self request names the user in PA-FOR-USER and PA-S4U-X509-USER.
//! * An S4U2Proxy request names nobody, but it carries the evidence ticket, and that ticket passed through the relay in the answer
//!   to an S4U2Self (or, between realms, S4U2Proxy) request that did. Tickets are recognised by the digest of their ciphertext.
//!
//! [`RelayObserver::report`] looks for failures by user, SPN, time and the code that libkrb5 reported. Two acquisitions for one
//! user may overlap; if what matches does not agree the answer is `None`: rather no detail than another's.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::kerberos::relay::error::UNANSWERED;
use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::request::{Exchange, KdcRequest, Subject, TicketDigest};
use crate::kerberos::relay::transport::AttemptError;
use crate::kerberos::wire::krb_error;
use crate::naming::name::{PrincipalName, Spn};

/// A clock difference worth a word, in seconds.
const NOTABLE_SKEW: u64 = 30;
/// Failed exchanges kept.
const FAILURES: usize = 512;
/// Tickets whose user is remembered. An acquisition uses its evidence within milliseconds.
const TICKETS: usize = 4096;
/// KDCs counted; more than any domain has, so that changing DNS answers cannot fill memory.
const KDCS: usize = 512;

/// One exchange that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdcReport {
    /// When the exchange ended.
    pub at: Instant,
    /// AS or TGS.
    pub exchange: Exchange,
    /// Realm that was asked.
    pub realm: String,
    /// On whose behalf; `None` for our own account's TGS requests.
    pub subject: Option<Subject>,
    /// Service that was asked for.
    pub sname: Option<PrincipalName>,
    /// Whether this was an S4U2Proxy request.
    pub proxy: bool,
    /// KDC that answered.
    pub kdc: Option<Kdc>,
    /// From the request's arrival to the answer.
    pub duration: Duration,
    /// How it failed.
    pub outcome: Outcome,
}

/// For a failure's detail: which KDC said what, or who did not answer.
impl fmt::Display for KdcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Error { code, ntstatus, text, skew } => {
                let kdc = self.kdc.as_ref().map_or_else(|| self.realm.clone(), Kdc::to_string);
                write!(f, "KDC {kdc}: {code} {}", krb_error::name(*code))?;
                if let Some(status) = ntstatus {
                    write!(f, ", NTSTATUS {status:#010x}")?;
                }
                if !text.is_empty() {
                    write!(f, ", {text:?}")?;
                }
                if skew.unsigned_abs() > NOTABLE_SKEW {
                    write!(f, ", its clock is {skew} s from ours")?;
                }
                Ok(())
            }
            Outcome::Unanswered { attempts, trouble } => {
                write!(f, "realm {}: no KDC answered", self.realm)?;
                attempts.iter().try_for_each(|(kdc, error)| write!(f, "; {kdc}: {error}"))?;
                trouble.iter().try_for_each(|trouble| write!(f, "; {trouble}"))
            }
            Outcome::UnlistedRealm(realm) => write!(f, "realm {realm} is not listed under kerberos.realms"),
        }
    }
}

/// How an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The KDC's KRB-ERROR. Unauthenticated, like every KRB-ERROR: for diagnosis only.
    Error {
        /// RFC 4120 section 7.5.9
        code: i32,
        /// Windows' status in e-data (MS-KILE 2.2.2)
        ntstatus: Option<u32>,
        /// e-text
        text: String,
        /// the KDC's clock minus ours, in seconds
        skew: i64,
    },
    /// No KDC answered: what each of them did, and why none was found if there is nothing to say of any.
    Unanswered {
        /// in the order they were tried
        attempts: Vec<(Kdc, AttemptError)>,
        /// why no address is known
        trouble: Option<String>,
    },
    /// The KDC referred us to a realm that the configuration does not list (`Cause::RealmUnknown`), or such a realm was asked for.
    UnlistedRealm(String),
}

impl Outcome {
    /// The error code libkrb5 was given. A referral to an unlisted realm fails inside libkrb5, without a code of a KDC.
    const fn code(&self) -> Option<i32> {
        match self {
            Self::Error { code, .. } => Some(*code),
            Self::Unanswered { .. } => Some(UNANSWERED),
            Self::UnlistedRealm(_) => None,
        }
    }

    /// Whether both say the same, apart from times and words.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Error { code: a, ntstatus: x, .. }, Self::Error { code: b, ntstatus: y, .. }) => (a, x) == (b, y),
            (Self::Unanswered { .. }, Self::Unanswered { .. }) => true,
            (Self::UnlistedRealm(a), Self::UnlistedRealm(b)) => a == b,
            _ => false,
        }
    }
}

/// What an acquisition knows about its own failed exchange.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Whose acquisition it was.
    pub whom: Whom<'a>,
    /// SPN of the back end: an S4U2Proxy request for another one is another acquisition's.
    pub spn: Option<&'a Spn>,
    /// Taken before the acquisition started.
    pub since: Instant,
    /// The KRB-ERROR code that libkrb5 reported (minor status minus the error table's base), if it reported one.
    pub code: Option<i32>,
}

/// On whose behalf the exchanges were made.
#[derive(Clone, Copy, Debug)]
pub enum Whom<'a> {
    /// S4U for this user, named as in the request. The realm belongs to a plain name; an enterprise name (one component) is first
    /// looked for in our own realm, whatever its realm turns out to be, and has none here.
    User(&'a PrincipalName, Option<&'a str>),
    /// Our own account: AS-REQs in its name, and TGS-REQs on nobody's behalf.
    OurAccount(&'a PrincipalName),
}

impl Sought<'_> {
    fn matches(&self, report: &KdcReport) -> bool {
        let whom = match (self.whom, &report.subject) {
            (Whom::User(name, realm), Some(subject)) => {
                subject.name.same_components(name) && realm.is_none_or(|realm| realm == subject.realm)
            }
            (Whom::User(..), None) => false,
            (Whom::OurAccount(name), Some(subject)) => report.exchange == Exchange::As && subject.name.same_components(name),
            (Whom::OurAccount(_), None) => !report.proxy,
        };
        let service = || match (self.spn, report.proxy) {
            (Some(spn), true) => report.sname.as_ref().is_some_and(|sname| spn.matches(sname)),
            _ => true,
        };
        let code = || match (self.code, report.outcome.code()) {
            (Some(reported), Some(seen)) => reported == seen,
            (Some(_), None) | (None, _) => true,
        };
        report.at >= self.since && whom && service() && code()
    }
}

/// Numbers of one KDC since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdcNumbers {
    /// Realm it serves.
    pub realm: String,
    /// Which KDC.
    pub kdc: Kdc,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests it did not answer.
    pub failures: u64,
    /// How long its last answer took.
    pub last_latency: Option<Duration>,
    /// Its clock minus ours in seconds, from the last KRB-ERROR that said so.
    pub skew: Option<i64>,
}

/// Numbers of the relay since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayNumbers {
    /// Requests passed on.
    pub served: u64,
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
    pub(super) foreign: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) unlisted: AtomicU64,
}

/// Looks at what the relay saw. Cheap to clone, usable from any thread.
#[derive(Clone, Debug, Default)]
pub struct RelayObserver {
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    failures: Mutex<VecDeque<KdcReport>>,
    tickets: Mutex<VecDeque<(TicketDigest, Subject)>>,
    kdcs: Mutex<HashMap<(String, SocketAddr), KdcNumbers>>,
    counters: Counters,
    copies: OnceLock<mpsc::Sender<(&'static str, Vec<u8>)>>,
}

impl RelayObserver {
    /// From now on every KRB-ERROR of a KDC comes here too, as it came, with what was asked for: `as`, `tgs`, `s4u2self` or `s4u2proxy`.
    /// The first who asks gets them.
    pub fn copy_errors(&self) -> mpsc::Receiver<(&'static str, Vec<u8>)> {
        let (sender, receiver) = mpsc::channel();
        let _ = self.seen.copies.set(sender);
        receiver
    }

    pub(super) fn copy_error(&self, request: &KdcRequest, message: &[u8]) {
        let Some(copies) = self.seen.copies.get() else { return };
        let asked = match (request.exchange, request.evidence.is_some(), request.subject.is_some()) {
            (Exchange::As, ..) => "as",
            (_, true, _) => "s4u2proxy",
            (_, false, true) => "s4u2self",
            (_, false, false) => "tgs",
        };
        // Nobody listens any more.
        let _ = copies.send((asked, message.to_vec()));
    }

    /// The last failed exchange of this acquisition; `None` if there is none or if several disagree.
    pub fn report(&self, sought: &Sought<'_>) -> Option<KdcReport> {
        let failures = locked(&self.seen.failures);
        let mut matching = failures.iter().rev().filter(|report| sought.matches(report));
        let last = matching.next()?;
        matching.all(|earlier| earlier.outcome.agrees(&last.outcome)).then(|| last.clone())
    }

    /// Numbers of every KDC asked so far.
    pub fn kdcs(&self) -> Vec<KdcNumbers> {
        locked(&self.seen.kdcs).values().cloned().collect()
    }

    /// Numbers of the relay.
    pub fn numbers(&self) -> RelayNumbers {
        let counters = self.counters();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayNumbers {
            served: get(&counters.served),
            foreign: get(&counters.foreign),
            malformed: get(&counters.malformed),
            limited: get(&counters.limited),
            unlisted: get(&counters.unlisted),
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.seen.counters
    }

    pub(super) fn failed(&self, report: KdcReport) {
        push_bounded(&mut locked(&self.seen.failures), report, FAILURES);
    }

    /// Whether nobody answered the same question within the last `window`.
    pub(super) fn just_unanswered(&self, request: &KdcRequest, window: Duration) -> bool {
        locked(&self.seen.failures).iter().rev().take_while(|report| report.at.elapsed() < window).any(|report| {
            matches!(report.outcome, Outcome::Unanswered { .. })
                && report.exchange == request.exchange
                && report.realm == request.realm
                && report.subject == request.subject
                && report.sname == request.sname
                && report.proxy == request.evidence.is_some()
        })
    }

    /// This ticket was issued on behalf of `subject`.
    pub(super) fn issued(&self, ticket: TicketDigest, subject: Subject) {
        push_bounded(&mut locked(&self.seen.tickets), (ticket, subject), TICKETS);
    }

    /// On whose behalf a ticket was issued.
    pub(super) fn whose(&self, ticket: &TicketDigest) -> Option<Subject> {
        locked(&self.seen.tickets).iter().rev().find(|(digest, _)| digest == ticket).map(|(_, subject)| subject.clone())
    }

    /// One KDC was asked.
    pub(super) fn asked(&self, realm: &str, kdc: &Kdc, answered: Option<Duration>, skew: Option<i64>) {
        let mut kdcs = locked(&self.seen.kdcs);
        if kdcs.len() >= KDCS {
            kdcs.clear();
        }
        let numbers = kdcs.entry((realm.to_owned(), kdc.address)).or_insert_with(|| KdcNumbers {
            realm: realm.to_owned(),
            kdc: kdc.clone(),
            requests: 0,
            failures: 0,
            last_latency: None,
            skew: None,
        });
        numbers.requests += 1;
        numbers.failures += u64::from(answered.is_none());
        numbers.last_latency = answered.or(numbers.last_latency);
        numbers.skew = skew.or(numbers.skew);
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, bound: usize) {
    if queue.len() >= bound {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Nothing panics while holding these locks; if it did, the numbers would still be worth showing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
