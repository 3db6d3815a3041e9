//! One certificate, judged as `serve` would judge it, with everything that was found out on the way.

use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, CertificateFacts, KeyFingerprint, Signed, read_certificate_chain};
use crate::cli::admission::{Admission, JUDGEMENT_TIMEOUT};
use crate::cli::explain::input::Presented;
use crate::config::Config;
use crate::failure::Failure;
use crate::identity::{Outcome, Principal, Strength, Tried, decide};
use crate::tls::ClientCertificate;
use crate::x509::Claims;

/// Longest time for one certificate, all questions together.
const PATIENCE: Duration = Duration::from_secs(30);

/// The trust and the rules of a configuration.
#[derive(Debug)]
pub(super) struct Judge {
    admission: Admission,
    /// configured CAs, to know whose a certificate is that is not admitted
    authorities: Vec<CertificateDer<'static>>,
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
    Verified,
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
    /// Reads what the configuration names.
    pub(super) async fn load(config: &Config, offline: bool) -> Result<Self, String> {
        let admission = if offline { Admission::load_offline(config).await? } else { Admission::load(config).await? };
        let mut authorities = Vec::new();
        for path in config.client_certificates.trust_anchors.iter().chain(&config.client_certificates.intermediates) {
            authorities.extend(read_certificate_chain(path).map_err(|error| error.to_string())?);
        }
        Ok(Self { admission, authorities })
    }

    /// Judges one certificate.
    pub(super) async fn explain(&self, presented: Presented) -> Explanation {
        let leaf = presented.chain.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()));
        let read = Certificate::read(&leaf).ok();
        let claims = Claims::of_leaf(&leaf);
        let admitted = self.admit(&presented.chain).await;
        let tried = match &claims {
            Ok(claims) => self.try_rules(&leaf, &presented, admitted.as_ref().ok(), claims).await,
            Err(_) => Vec::new(),
        };
        let decision = match (&admitted, &claims) {
            (Err(failure), _) | (Ok(_), Err(failure)) => Decision::Refused(failure.clone()),
            (Ok(_), Ok(claims)) => decision(claims, &tried),
        };
        Explanation {
            facts: CertificateFacts::of(&leaf),
            validity: read.map(|read| (read.not_before, read.not_after)),
            chain: admitted.map_or_else(Chain::Refused, |_| Chain::Verified),
            presented,
            claims,
            tried,
            decision,
        }
    }

    async fn admit(&self, chain: &[CertificateDer<'static>]) -> Result<ClientCertificate, Failure> {
        self.admission.trust.admit(chain, UnixTime::now(), Instant::now() + JUDGEMENT_TIMEOUT).await
    }

    async fn try_rules(
        &self,
        leaf: &[u8],
        presented: &Presented,
        admitted: Option<&ClientCertificate>,
        claims: &Claims,
    ) -> Vec<Tried> {
        let deadline = Instant::now() + PATIENCE;
        match admitted {
            Some(certificate) => self.admission.mapper.evaluate(certificate, claims, deadline).await,
            None => {
                let issuer = self.issuer_key(leaf, presented.chain.get(1..).unwrap_or_default());
                self.admission.mapper.rehearse(leaf, issuer, claims, deadline).await
            }
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
