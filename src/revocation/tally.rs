//! What was decided and what is held, for metrics and diagnosis.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::certificate::{hex, name_text};
use crate::failure::Cause;
use crate::revocation::Verdict;
use crate::revocation::lists::{Held, Signer};

/// How a path was judged, or what happened to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Not revoked.
    Clear,
    /// Let in without knowing (policy `prefer`).
    LetIn,
    /// Memory did not know; somebody was asked.
    Asked,
    /// Revoked.
    Revoked,
    /// The issuer's CRL is past its nextUpdate.
    Expired,
    /// Nothing vouches.
    Unknown,
    /// Badly signed.
    Untrusted,
    /// A CRL was fetched.
    Fetched,
    /// A CRL could not be fetched or used.
    FetchFailed,
    /// A CRL older than the one held was refused.
    RollbackRefused,
    /// A file with a CRL could not be used.
    FileRefused,
}

impl Decision {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Clear,
        Self::LetIn,
        Self::Asked,
        Self::Revoked,
        Self::Expired,
        Self::Unknown,
        Self::Untrusted,
        Self::Fetched,
        Self::FetchFailed,
        Self::RollbackRefused,
        Self::FileRefused,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::LetIn => "let-in",
            Self::Asked => "asked",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Untrusted => "untrusted",
            Self::Fetched => "fetched",
            Self::FetchFailed => "fetch-failed",
            Self::RollbackRefused => "rollback-refused",
            Self::FileRefused => "file-refused",
        }
    }
}

/// One list held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// Issuer, RFC 4514.
    pub issuer: String,
    /// keyIdentifier of its AuthorityKeyIdentifier, hexadecimal.
    pub key_identifier: Option<String>,
    /// CRLNumber, hexadecimal.
    pub number: Option<String>,
    /// It is a delta.
    pub delta: bool,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970.
    pub next_update: i64,
    /// Certificates listed.
    pub entries: usize,
    /// Memory it takes.
    pub bytes: usize,
    /// File or URL.
    pub source: String,
    /// When it was taken, seconds since 1970.
    pub taken: i64,
    /// Its signature is by a CA we know.
    pub verified: bool,
}

impl ListFacts {
    pub(super) fn of(held: &Held) -> Self {
        let crl = &held.crl;
        Self {
            issuer: name_text(&crl.issuer),
            key_identifier: crl.key.as_deref().map(hex),
            number: crl.number.map(|number| number.to_string()),
            delta: crl.delta_of.is_some(),
            this_update: crl.this_update,
            next_update: crl.next_update,
            entries: crl.entries.len(),
            bytes: held.bytes(),
            source: held.source.to_string(),
            taken: held.taken,
            verified: matches!(held.signer, Signer::Known(_)),
        }
    }
}

/// How often each decision was made.
#[derive(Default)]
pub(super) struct Tally([AtomicU64; Decision::ALL.len()]);

impl Tally {
    pub(super) fn count(&self, decision: Decision) {
        if let Some(counter) = Decision::ALL.iter().position(|one| *one == decision).and_then(|at| self.0.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_verdict(&self, verdict: &Verdict) {
        self.count(match verdict {
            Verdict::Clear { open: None, .. } => Decision::Clear,
            Verdict::Clear { open: Some(_), .. } => Decision::LetIn,
            Verdict::Open(_) => Decision::Asked,
            Verdict::Refused(failure) => match failure.cause {
                Cause::CertificateRevoked => Decision::Revoked,
                Cause::CrlExpired => Decision::Expired,
                Cause::RevocationUntrusted => Decision::Untrusted,
                _ => Decision::Unknown,
            },
        });
    }

    pub(super) fn read(&self) -> Vec<(Decision, u64)> {
        Decision::ALL.into_iter().zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed))).collect()
    }
}
