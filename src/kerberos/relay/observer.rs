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

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::kerberos::relay::declared::{Declaration, Declared, Steer};
use crate::kerberos::relay::error::UNANSWERED;
use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::numbers::{Asked, Counters, KdcNumbers, KdcTable, RelayNumbers};
use crate::kerberos::relay::request::{Exchange, KdcRequest, Kind, Subject, TicketDigest, ticket_digest};
use crate::kerberos::relay::skew::{Degree, Window};
use crate::kerberos::relay::transport::AttemptError;
use crate::kerberos::wire::{error_data, krb_error};
use crate::naming::name::{PrincipalName, Realm, Spn};

/// A clock difference worth a word, in seconds.
const NOTABLE_SKEW: u64 = 30;
/// Failed exchanges kept.
const FAILURES: usize = 512;
/// Users whose realm is remembered: their acquisitions are under way.
const REFERRALS: usize = 512;
/// Tickets whose user is remembered. An acquisition uses its evidence within milliseconds.
const TICKETS: usize = 4096;

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
            Outcome::Error { code, ntstatus, text, skew, data } => {
                let kdc = self.kdc.as_ref().map_or_else(|| self.realm.clone(), Kdc::to_string);
                write!(f, "KDC {kdc}: {code} {}", krb_error::name(*code))?;
                if let Some(status) = ntstatus {
                    write!(f, ", {}", error_data::describe_status(*status))?;
                }
                if !text.is_empty() {
                    write!(f, ", {text:?}")?;
                }
                if let Some(data) = data {
                    write!(f, ", {data}")?;
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
        /// the KDC's clock minus ours, in seconds, at least
        skew: i64,
        /// what else e-data says
        data: Option<String>,
    },
    /// No KDC answered: what each of them did, or why none was asked.
    Unanswered {
        /// in the order they were tried
        attempts: Vec<(Kdc, AttemptError)>,
        /// why none was asked, or not all: no address is known, all rest after failures, or there was no time left
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

impl Whom<'_> {
    /// Whether such a request is one of theirs.
    pub(super) fn asks(self, exchange: Exchange, subject: Option<&Subject>, proxy: bool) -> bool {
        match (self, subject) {
            (Whom::User(name, realm), Some(subject)) => {
                subject.name.same_components(name) && realm.is_none_or(|realm| realm == subject.realm)
            }
            (Whom::User(..), None) => false,
            (Whom::OurAccount(name), Some(subject)) => exchange == Exchange::As && subject.name.same_components(name),
            (Whom::OurAccount(_), None) => !proxy,
        }
    }
}

impl Sought<'_> {
    fn matches(&self, report: &KdcReport) -> bool {
        let whom = self.whom.asks(report.exchange, report.subject.as_ref(), report.proxy);
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

/// A ticket that passed through.
#[derive(Debug)]
struct Issued {
    ticket: TicketDigest,
    subject: Subject,
    realm: String,
    kdc: Kdc,
    window: Window,
}

/// Looks at what the relay saw. Cheap to clone, usable from any thread.
#[derive(Clone, Debug, Default)]
pub struct RelayObserver {
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    failures: Mutex<VecDeque<KdcReport>>,
    tickets: Mutex<VecDeque<Issued>>,
    referrals: Mutex<VecDeque<(PrincipalName, String)>>,
    kdcs: Mutex<KdcTable>,
    counters: Counters,
    copies: OnceLock<mpsc::Sender<(&'static str, Vec<u8>)>>,
    declared: Arc<Declared>,
    /// `kerberos.clock_skew`
    tolerance: Mutex<Duration>,
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

    /// While the answer lives, exchanges on behalf of `whom` end at `deadline`, all of them together.
    pub fn until(&self, whom: Whom<'_>, deadline: Instant) -> Declaration {
        self.seen.declared.until(whom, deadline)
    }

    /// While the answer lives, S4U2Self and S4U2Proxy exchanges with `realm` on behalf of this user go to `kdc` alone, well or not: no
    /// other one is asked when it does not answer.
    pub fn steer(&self, user: Whom<'_>, realm: Realm, kdc: Kdc) -> Declaration {
        self.seen.declared.only(user, realm, kdc)
    }

    /// The KDCs of a realm as they were last found; looked up when the relay starts to serve, and with exchanges after that.
    pub fn kdcs_of(&self, realm: &Realm) -> Vec<Kdc> {
        let listed = self.kdcs().into_iter().filter(|numbers| numbers.listed && numbers.realm == realm.as_str());
        listed.map(|numbers| numbers.kdc).collect()
    }

    /// An issued ticket says when it starts, and that shows the clock of the KDC that issued it: of the one that the relay got it
    /// from. `start` and `authenticated` are the ticket's, in seconds since 1970. A KDC never lets a ticket start in its own future;
    /// only if it does not start when the user was authenticated, it starts at the KDC's present time.
    pub fn ticket_starts(&self, ticket: &[u8], start: i64, authenticated: i64) {
        let Some(digest) = ticket_digest(ticket) else { return };
        let tickets = locked(&self.seen.tickets);
        let Some(issued) = tickets.iter().rev().find(|issued| issued.ticket == digest) else { return };
        let (realm, kdc, window) = (issued.realm.clone(), issued.kdc.clone(), issued.window);
        drop(tickets);
        let earliest = start.saturating_mul(1000);
        let skew = window.skew(earliest, earliest.saturating_add(999));
        // Behind our clock it may just have been authenticated long ago.
        if start != authenticated || skew > 0 {
            self.clock(&realm, &kdc, skew);
        }
    }

    /// Numbers of every KDC that was named so far, by realm and address.
    pub fn kdcs(&self) -> Vec<KdcNumbers> {
        locked(&self.seen.kdcs).all()
    }

    /// Numbers of the relay.
    pub fn numbers(&self) -> RelayNumbers {
        self.counters().now()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.seen.counters
    }

    pub(super) fn failed(&self, report: KdcReport) {
        push_bounded(&mut locked(&self.seen.failures), report, FAILURES);
    }

    /// Whether nobody answered the same question within the last `window`, and not before `since`.
    pub(super) fn just_unanswered(&self, request: &KdcRequest, window: Duration, since: Option<Instant>) -> bool {
        let recent = |report: &&KdcReport| report.at.elapsed() < window && since.is_none_or(|since| report.at >= since);
        locked(&self.seen.failures).iter().rev().take_while(recent).any(|report| {
            matches!(report.outcome, Outcome::Unanswered { .. })
                && report.exchange == request.exchange
                && report.realm == request.realm
                && report.subject == request.subject
                && report.sname == request.sname
                && report.proxy == request.evidence.is_some()
        })
    }

    /// A KDC said that this user is of that realm.
    pub(super) fn referred(&self, user: &PrincipalName, realm: &str) {
        push_bounded(&mut locked(&self.seen.referrals), (user.clone(), realm.to_owned()), REFERRALS);
    }

    /// Of which realm this user is, as a KDC said a moment ago.
    pub fn home_of(&self, user: &PrincipalName) -> Option<Realm> {
        let referrals = locked(&self.seen.referrals);
        let (_, realm) = referrals.iter().rev().find(|(name, _)| name.same_components(user))?;
        Realm::parse(realm).ok()
    }

    /// This ticket was issued on behalf of `subject`, by this KDC within this time.
    pub(super) fn issued(&self, ticket: TicketDigest, subject: Subject, realm: &str, kdc: &Kdc, window: Window) {
        let issued = Issued { ticket, subject, realm: realm.to_owned(), kdc: kdc.clone(), window };
        push_bounded(&mut locked(&self.seen.tickets), issued, TICKETS);
    }

    /// On whose behalf a ticket was issued.
    pub(super) fn whose(&self, ticket: &TicketDigest) -> Option<Subject> {
        locked(&self.seen.tickets).iter().rev().find(|issued| issued.ticket == *ticket).map(|issued| issued.subject.clone())
    }

    /// Until when an exchange for this request may last, if its acquisition said so.
    pub(super) fn deadline(&self, request: &KdcRequest) -> Option<Instant> {
        self.seen.declared.deadline(request)
    }

    /// The one KDC for this request, if one was named.
    pub(super) fn steered(&self, request: &KdcRequest) -> Option<Steer> {
        self.seen.declared.steer(request)
    }

    /// One KDC was asked.
    pub(super) fn asked(&self, realm: &str, kdc: &Kdc, kind: Kind, asked: Asked) {
        locked(&self.seen.kdcs).asked(realm, kdc, kind, asked);
    }

    /// These are the realm's KDCs now.
    pub(super) fn located(&self, realm: &str, kdcs: &[Kdc]) {
        locked(&self.seen.kdcs).located(realm, kdcs);
    }

    pub(super) fn tolerate(&self, skew: Duration) {
        *locked(&self.seen.tolerance) = skew;
    }

    /// A KDC's clock minus ours, in milliseconds. Told once per KDC and degree.
    pub(super) fn clock(&self, realm: &str, kdc: &Kdc, skew: i64) {
        let tolerance = *locked(&self.seen.tolerance);
        let mut kdcs = locked(&self.seen.kdcs);
        let numbers = kdcs.of(realm, kdc);
        numbers.skew = Some(skew);
        let degree = Degree::of(skew, tolerance, numbers.degree);
        if std::mem::replace(&mut numbers.degree, degree) == degree {
            return;
        }
        drop(kdcs);
        let seconds = skew / 1000;
        match degree {
            Degree::Good => tracing::info!(realm, %kdc, seconds, "a KDC's clock is near ours again"),
            Degree::Notable => {
                tracing::warn!(realm, %kdc, seconds, ?tolerance, "a KDC's clock and ours drift apart; synchronise both");
            }
            Degree::Grave => {
                let words = "a KDC's clock is so far from ours that it refuses us, or soon will; synchronise both";
                tracing::error!(realm, %kdc, seconds, ?tolerance, "{words}");
            }
        }
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
