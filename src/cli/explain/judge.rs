//! One certificate, judged as `serve` would judge it, with everything that was found out on the way.

use std::time::Instant;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, CertificateFacts, KeyFingerprint, Signed, read_certificate_chain};
use crate::cli::admission::{Admission, JUDGEMENT_TIMEOUT};
use crate::cli::explain::input::Presented;
use crate::config::Config;
use crate::failure::Failure;
use crate::identity::{Outcome, Principal, Strength, Tried, decide};
use crate::tls::NtAuth;
use crate::x509::Claims;

/// The trust and the rules of a configuration.
#[derive(Debug)]
pub(super) struct Judge {
    admission: Admission,
    /// configured CAs, to know whose a certificate is that is not admitted
    authorities: Vec<CertificateDer<'static>>,
    offline: bool,
    /// the directory's NTAuth store is wanted and was not asked for
    without_nt_auth: bool,
}

/// Everything about one certificate.
#[derive(Debug)]
pub(super) struct Explanation {
    pub(super) presented: Presented,
    pub(super) facts: CertificateFacts,
    /// Seconds since 1970; none where the certificate cannot be read.
    pub(super) validity: Option<(i64, i64)>,
    pub(super) chain: Chain,
    pub(super) claims: Result<Claims, Failure>,
    pub(super) tried: Vec<Tried>,
    pub(super) decision: Decision,
}

/// Whether the certificate would be let in.
#[derive(Debug)]
pub(super) enum Chain {
    Verified {
        /// Who was not asked and could still refuse it; only offline.
        not_asked: Vec<&'static str>,
    },
    Refused(Failure),
}

/// What would become of it.
#[derive(Debug)]
pub(super) enum Decision {
    Mapped(Principal),
    Refused(Failure),
    /// The directory was not asked, and without it nobody knows.
    Undecided,
}

impl Judge {
    /// Reads what the configuration names; offline, nobody is asked then or later.
    pub(super) async fn load(config: &Config, offline: bool) -> Result<Self, String> {
        let certificates = &config.client_certificates;
        let mut authorities = Vec::new();
        for path in certificates.trust_anchors.iter().chain(&certificates.intermediates) {
            authorities.extend(read_certificate_chain(path).map_err(|error| error.to_string())?);
        }
        let admission = if offline { Admission::load_offline(config).await? } else { Admission::load(config).await? };
        Ok(Self { admission, authorities, offline, without_nt_auth: offline && certificates.nt_auth == NtAuth::Directory })
    }

    /// Judges one certificate.
    pub(super) async fn explain(&self, presented: Presented) -> Explanation {
        let leaf = presented.chain.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()));
        let read = Certificate::read(&leaf).ok();
        let claims = Claims::of_leaf(&leaf);
        let chain = self.admit(&presented.chain).await;
        let tried = match &claims {
            Ok(claims) => {
                let issuer = self.issuer_key(&leaf, presented.chain.get(1..).unwrap_or_default());
                self.admission.mapper.rehearse(&leaf, issuer, claims, Instant::now() + JUDGEMENT_TIMEOUT).await
            }
            Err(_) => Vec::new(),
        };
        let decision = match (&chain, &claims) {
            (Chain::Refused(failure), _) | (_, Err(failure)) => Decision::Refused(failure.clone()),
            (Chain::Verified { .. }, Ok(claims)) => decision(claims, &tried),
        };
        Explanation {
            facts: CertificateFacts::of(&leaf),
            validity: read.map(|read| (read.not_before, read.not_after)),
            chain,
            presented,
            claims,
            tried,
            decision,
        }
    }

    async fn admit(&self, chain: &[CertificateDer<'static>]) -> Chain {
        let (now, deadline) = (UnixTime::now(), Instant::now() + JUDGEMENT_TIMEOUT);
        let verified = match self.admission.trust.verify(chain, now) {
            Ok(verified) => verified,
            Err(failure) => return Chain::Refused(failure),
        };
        let mut not_asked = Vec::new();
        if self.without_nt_auth {
            not_asked.push("the NTAuth store");
        }
        if self.offline && verified.is_open() {
            not_asked.push("revocation");
            return Chain::Verified { not_asked };
        }
        match self.admission.trust.settle(verified, now, deadline).await {
            Ok(_) => Chain::Verified { not_asked },
            Err(failure) => Chain::Refused(failure),
        }
    }

    /// The key that signed a certificate, among the CAs that are configured and those that came with it. Nothing else is verified.
    fn issuer_key(&self, leaf: &[u8], presented: &[CertificateDer<'static>]) -> Option<KeyFingerprint> {
        let (read, signed) = (Certificate::read(leaf).ok()?, Signed::read(leaf).ok()?);
        self.authorities.iter().chain(presented).find_map(|der| {
            let issuer = Certificate::read(der).ok().filter(|issuer| issuer.subject == read.issuer)?;
            signed.verify(issuer.public_key).ok().map(|()| KeyFingerprint::of(issuer.public_key))
        })
    }
}

impl Decision {
    /// In a word, as it is counted.
    pub(super) fn verdict(&self) -> &'static str {
        match self {
            Self::Mapped(principal) if principal.strength() == Strength::Strong => "strong",
            Self::Mapped(_) => "weak",
            Self::Refused(_) => "refused",
            Self::Undecided => "undecided",
        }
    }
}

/// A refusal is one whatever the directory would say; where no rule maps, the ones that were not asked might.
fn decision(claims: &Claims, tried: &[Tried]) -> Decision {
    let is_open = tried.iter().any(|tried| tried.selected.is_ok() && tried.outcome == Outcome::NotAsked);
    let is_refused = tried.iter().any(|tried| matches!(tried.outcome, Outcome::Refused(_)));
    let maps = tried.iter().any(|tried| matches!(tried.outcome, Outcome::Maps(_)));
    if is_open && !is_refused && !maps {
        return Decision::Undecided;
    }
    decide(claims, tried).map_or_else(Decision::Refused, Decision::Mapped)
}
