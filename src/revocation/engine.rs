//! Stand-in: knows nothing, so that whatever revocation is asked about is refused. Replaced by the engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;

use crate::certificate::LoadError;
use crate::failure::{Cause, Failure};
use crate::revocation::{Link, RevocationConfig, RevocationPolicy, Verdict};

/// A CA that is known before any certificate is seen.
#[derive(Clone, Debug)]
pub(crate) struct OwnedAuthority {
    /// Contents of its Name.
    pub(crate) subject: Vec<u8>,
    /// SubjectPublicKeyInfo, header included.
    pub(crate) public_key: Vec<u8>,
    /// SubjectKeyIdentifier, where known.
    pub(crate) key_identifier: Option<Vec<u8>>,
    /// Whether its key usage allows cRLSign (absent usage does).
    pub(crate) may_sign_crls: bool,
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
        _directory: Option<crate::directory::Directory>,
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

    /// Nothing to keep fresh.
    pub async fn run(self: Arc<Self>, shutdown: crate::shutdown::Shutdown) {
        shutdown.draining().await;
    }

    pub(crate) fn generation(&self) -> u64 {
        0
    }
}
