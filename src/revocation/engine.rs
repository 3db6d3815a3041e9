//! Stand-in: knows nothing, so that whatever revocation is asked about is refused. Replaced by the engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;

use crate::certificate::{Certificate, LoadError};
use crate::der::DerError;
use crate::failure::{Cause, Failure};
use crate::revocation::{Authority, Link, RevocationConfig, RevocationPolicy, Verdict};

const CRL_SIGN: u8 = 0x02;

/// An [`Authority`] that lives on its own.
#[derive(Clone, Debug)]
pub(crate) struct OwnedAuthority {
    pub(crate) subject: Box<[u8]>,
    pub(crate) public_key: Box<[u8]>,
    pub(crate) key_identifier: Option<Box<[u8]>>,
    pub(crate) may_sign_crls: bool,
}

impl<'a> Authority<'a> {
    /// What a CA's certificate says of it.
    pub(crate) fn of(certificate: &Certificate<'a>) -> Result<Self, DerError> {
        Ok(Self {
            subject: certificate.subject,
            public_key: certificate.public_key,
            key_identifier: certificate.subject_key()?,
            may_sign_crls: certificate.key_usage()?.is_none_or(|usage| usage & CRL_SIGN != 0),
        })
    }

    pub(crate) fn to_owned(self) -> OwnedAuthority {
        OwnedAuthority {
            subject: self.subject.into(),
            public_key: self.public_key.into(),
            key_identifier: self.key_identifier.map(Into::into),
            may_sign_crls: self.may_sign_crls,
        }
    }
}

/// Whether certificates are revoked.
#[derive(Debug)]
pub struct Revocation {
    known: usize,
}

impl Revocation {
    pub(crate) fn load(
        _config: &RevocationConfig,
        known: Vec<OwnedAuthority>,
        _directory: Option<Infallible>,
    ) -> Result<Arc<Self>, LoadError> {
        let complete = |authority: &OwnedAuthority| {
            let named = !authority.subject.is_empty() && !authority.public_key.is_empty();
            named && authority.key_identifier.as_ref().is_none_or(|key| !key.is_empty()) && authority.may_sign_crls
        };
        Ok(Arc::new(Self { known: known.iter().filter(|authority| complete(authority)).count() }))
    }

    pub(crate) fn status(&self, path: &[Link<'_>], _now: UnixTime) -> Verdict {
        match path.iter().find(|link| link.policy != RevocationPolicy::Off) {
            None => Verdict::Clear { until: UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX)), open: None },
            Some(_) => Verdict::Open(Failure::new(Cause::RevocationUnknown, format!("{} CAs are known", self.known))),
        }
    }

    pub(crate) async fn settle(&self, path: &[Link<'_>], now: UnixTime, _deadline: Instant) -> Verdict {
        match self.status(path, now) {
            Verdict::Open(failure) => Verdict::Refused(failure),
            known => known,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        0
    }
}
