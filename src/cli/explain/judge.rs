//! One certificate, judged as `serve` would judge it, with everything that was found out on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, CertificateFacts, KeyFingerprint, Signed, read_certificate_chain};
use crate::cli::explain::input::Presented;
use crate::config::Config;
use crate::directory::{Accounts, Attribute, Directory, Filter};
use crate::failure::Failure;
use crate::identity::{AccountRules, Mapper, Outcome, Principal, RuleKind, Strength, Tried, decide};
use crate::tls::{ClientCertificate, Trust};
use crate::x509::Claims;
use crate::x509::alt_security::{Form, computed, forward_serials};

/// Longest time for one certificate, all questions together.
const PATIENCE: Duration = Duration::from_secs(30);

/// The trust and the rules of a configuration.
#[derive(Debug)]
pub(super) struct Judge {
    trust: Trust,
    mapper: Mapper,
    /// none: there is none, or it is not to be asked
    directory: Option<Arc<dyn Accounts>>,
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
    /// What an administrator might have meant.
    pub(super) hints: Vec<String>,
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
    pub(super) fn load(config: &Config, offline: bool) -> Result<Self, String> {
        let trust = Trust::load(&config.client_certificates).map_err(|error| error.to_string())?;
        let accounts = AccountRules::default();
        let directory = match &config.directory {
            Some(directory) if !offline => Some(Directory::load(directory).map_err(|error| error.to_string())?),
            _ => None,
        };
        let directory = directory.map(|directory| -> Arc<dyn Accounts> { Arc::new(directory) });
        let mapper = if offline {
            Mapper::load_offline(&config.mapping, &accounts)
        } else {
            Mapper::load(&config.mapping, &accounts, directory.clone())
        };
        let mut authorities = Vec::new();
        for path in config.client_certificates.trust_anchors.iter().chain(&config.client_certificates.intermediates) {
            authorities.extend(read_certificate_chain(path).map_err(|error| error.to_string())?);
        }
        let mapper = mapper.map_err(|error| error.to_string())?;
        Ok(Self { trust, mapper, directory, authorities })
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
        let hints = match &claims {
            Ok(claims) => self.hints(claims, &tried).await,
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
            hints,
        }
    }

    async fn admit(&self, chain: &[CertificateDer<'static>]) -> Result<ClientCertificate, Failure> {
        self.trust.admit(chain, UnixTime::now())
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
            Some(certificate) => self.mapper.evaluate(certificate, claims, deadline).await,
            None => {
                let issuer = self.issuer_key(leaf, presented.chain.get(1..).unwrap_or_default());
                self.mapper.rehearse(leaf, issuer, claims, deadline).await
            }
        }
    }

    /// Where no altSecurityIdentities was found: whether somebody wrote the serial number forwards.
    async fn hints(&self, claims: &Claims, tried: &[Tried]) -> Vec<String> {
        let missed = |tried: &Tried| {
            tried.rule == RuleKind::AltSecurityIdentities && tried.selected.is_ok() && matches!(tried.outcome, Outcome::Lacks(_))
        };
        let (Some(directory), true) = (&self.directory, tried.iter().any(missed)) else { return Vec::new() };
        let mut hints = Vec::new();
        for wrong in forward_serials(claims) {
            let filter = Filter::equals(Attribute::AltSecurityIdentities, &wrong);
            let found = directory.find(&filter, Instant::now() + PATIENCE).await.unwrap_or_default();
            let right = computed(claims, &[Form::IssuerSerial]).into_iter().next_back().map(|right| right.value);
            hints.extend(found.into_iter().zip(right).map(|(account, right)| {
                format!(
                    "{} has {wrong} in altSecurityIdentities: the serial number's bytes must be reversed, {right}",
                    account.dn
                )
            }));
        }
        hints
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
