//! For how long an admission stands: until its time is over, or trust or revocation know something else.

use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use rustls_pki_types::UnixTime;
use tokio::sync::Mutex;

use crate::failure::Failure;

/// By what, and from when until when (seconds since 1970), a certificate was admitted.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Admission {
    pub(in crate::tls) trust: u64,
    pub(in crate::tls) generation: u64,
    pub(in crate::tls) from: u64,
    /// Not any more at this second.
    pub(in crate::tls) until: u64,
    /// Why it was let in although nothing vouches for it (policy `prefer`).
    pub(in crate::tls) unvouched: Option<Failure>,
}

/// Whether an admitted certificate would be admitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// Yes.
    Stands,
    /// No, and asking again does not help.
    Refused(Failure),
    /// Ask [`Trust::readmit`](crate::tls::Trust::readmit).
    Ask,
}

/// The newest admission of one certificate, and the queue of those who want another.
#[derive(Debug)]
pub(in crate::tls) struct Admissions {
    newest: RwLock<Admission>,
    refused: RwLock<Option<(Instant, u64, Failure)>>,
    /// Held by the one who verifies; the others wait for its result.
    pub(in crate::tls) turn: Mutex<()>,
}

impl Admissions {
    pub(in crate::tls) fn new(first: Admission) -> Self {
        Self { newest: RwLock::new(first), refused: RwLock::default(), turn: Mutex::default() }
    }

    /// Whether this trust, with revocation as of this generation, admitted it and may still be believed. A clock that went back makes
    /// an admission void, not younger.
    pub(in crate::tls) fn stands(&self, trust: u64, generation: u64, now: UnixTime) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.trust == trust && newest.generation == generation && (newest.from..newest.until).contains(&now.as_secs())
    }

    /// It was admitted again.
    pub(in crate::tls) fn renew(&self, admission: Admission) {
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = admission;
    }

    /// It was refused: whatever stood does so no longer, and who has waited need not ask again.
    pub(in crate::tls) fn refuse(&self, trust: u64, failure: Failure) {
        self.newest.write().unwrap_or_else(PoisonError::into_inner).until = 0;
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), trust, failure));
    }

    /// The refusal that came after this moment, by the same trust: what another one refused may be let in now.
    pub(in crate::tls) fn refused_since(&self, trust: u64, moment: Instant) -> Option<Failure> {
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(at, by, _)| *at >= moment && *by == trust).map(|(.., failure)| failure.clone())
    }

    pub(in crate::tls) fn unvouched(&self) -> Option<Failure> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).unvouched.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failure::Cause;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn admission(until: u64) -> Admission {
        Admission { trust: 1, generation: 2, from: 100, until, unvouched: None }
    }

    #[test]
    fn an_admission_stands_for_its_trust_its_generation_and_its_time_only() {
        let admissions = Admissions::new(admission(160));
        assert!(admissions.stands(1, 2, at(100)) && admissions.stands(1, 2, at(159)));
        assert!(!admissions.stands(1, 2, at(160)), "its time is over");
        assert!(!admissions.stands(1, 2, at(99)), "the clock went back");
        assert!(!admissions.stands(3, 2, at(100)), "another trust");
        assert!(!admissions.stands(1, 3, at(100)), "revocation knows more");
        admissions.renew(admission(200));
        assert!(admissions.stands(1, 2, at(160)));
    }

    #[test]
    fn a_refusal_ends_what_stood_and_answers_those_who_waited_only() {
        let admissions = Admissions::new(admission(160));
        let before = Instant::now();
        admissions.refuse(1, Cause::CertificateRevoked.into());
        assert!(!admissions.stands(1, 2, at(100)));
        assert_eq!(admissions.refused_since(1, before).unwrap().cause, Cause::CertificateRevoked);
        assert_eq!(admissions.refused_since(2, before), None, "another trust may let it in");
        let after = Instant::now() + Duration::from_nanos(1);
        assert_eq!(admissions.refused_since(1, after), None);
    }
}
