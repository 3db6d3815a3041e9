//! The mapping rules at work.
//!
//! Every rule is asked; those that apply must agree. A certificate that no rule maps is refused with what each rule lacked:
//! there is no fallback from a strong rule to a weak one unless the configuration names it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::certificate::{KeyFingerprint, LoadError, issuing_key};
use crate::failure::{Cause, Failure};
use crate::identity::{ExpectedSid, Principal, RequestedName, RuleConfig, RuleKind, StaticEntry, Strength, WeakIssuer};
use crate::naming::sid::Sid;
use crate::tls::ClientCertificate;
use crate::x509::{Claims, Upn};

/// All rules of a configuration, in its order.
#[derive(Debug)]
pub struct Mapper {
    rules: Vec<Rule>,
    weak: AtomicU64,
}

/// A rule with its issuers' keys in place of their files.
#[derive(Debug)]
enum Rule {
    UpnWithSid { uri_issuers: HashSet<KeyFingerprint> },
    Static { entries: BTreeMap<[u8; 32], StaticEntry> },
    Upn { suffixes: HashMap<KeyFingerprint, Vec<String>> },
}

/// What one rule says about a certificate.
enum Answer {
    Maps(Principal),
    /// Not for this rule, and why.
    Lacks(String),
    /// The rule names the issuer, which may not speak for this suffix.
    Suffix(String),
}

impl Mapper {
    /// Reads the issuers' certificates.
    pub fn load(configs: &[RuleConfig]) -> Result<Self, LoadError> {
        let rules = configs.iter().map(Rule::load).collect::<Result<_, _>>()?;
        Ok(Self { rules, weak: AtomicU64::new(0) })
    }

    /// The one account that an admitted certificate stands for.
    pub fn resolve(&self, certificate: &ClientCertificate, claims: &Claims) -> Result<Principal, Failure> {
        if claims.certificate() != certificate.fingerprint() {
            return Err(Failure::new(Cause::CertificateMalformed, "the claims are another certificate's"));
        }
        let mut found: Option<Principal> = None;
        let (mut lacking, mut suffix_refused) = (Vec::new(), false);
        for rule in &self.rules {
            match rule.ask(certificate, claims)? {
                Answer::Maps(principal) => found = Some(agreed(found, principal)?),
                Answer::Lacks(what) => lacking.push(format!("{}: {what}", rule.kind().name())),
                Answer::Suffix(what) => {
                    suffix_refused = true;
                    lacking.push(format!("{}: {what}", rule.kind().name()));
                }
            }
        }
        let Some(principal) = found else {
            let cause = if suffix_refused { Cause::SuffixNotAllowed } else { Cause::NoMapping };
            let detail = if lacking.is_empty() { "no [[mapping]] is configured".to_owned() } else { lacking.join("; ") };
            return Err(Failure::new(cause, detail));
        };
        if principal.strength() == Strength::Weak {
            self.count_weak(&principal, certificate);
        }
        Ok(principal)
    }

    /// How many certificates were mapped weakly.
    pub fn weak_mappings(&self) -> u64 {
        self.weak.load(Ordering::Relaxed)
    }

    fn count_weak(&self, principal: &Principal, certificate: &ClientCertificate) {
        let count = self.weak.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(
            rule = principal.rule().name(),
            principal = %principal,
            issuer = certificate.facts().issuer,
            certificate = %certificate.fingerprint(),
            count,
            "weak certificate mapping: nothing but a name ties the certificate to the account"
        );
    }
}

/// Two rules that apply must say the same; then the stronger one is reported.
fn agreed(found: Option<Principal>, new: Principal) -> Result<Principal, Failure> {
    let Some(found) = found else { return Ok(new) };
    if found.name() != new.name() || found.expected_sid() != new.expected_sid() {
        let says = |principal: &Principal| match principal.expected_sid() {
            ExpectedSid::Is(sid) => format!("{} says {principal} with {sid}", principal.rule().name()),
            ExpectedSid::PinOnFirstUse => format!("{} says {principal} with any SID", principal.rule().name()),
        };
        return Err(Failure::new(Cause::AmbiguousMapping, format!("{}; {}", says(&found), says(&new))));
    }
    Ok(if new.strength() == Strength::Strong && found.strength() == Strength::Weak { new } else { found })
}

impl Rule {
    fn load(config: &RuleConfig) -> Result<Self, LoadError> {
        Ok(match config {
            RuleConfig::UpnWithSid { san_uri_sid_issuers } => {
                let uri_issuers = san_uri_sid_issuers.iter().map(|path| issuing_key(path)).collect::<Result<_, _>>()?;
                Self::UpnWithSid { uri_issuers }
            }
            RuleConfig::Static { entries } => Self::Static { entries: entries.clone() },
            RuleConfig::Upn { issuers } => Self::Upn { suffixes: load_weak(issuers)? },
        })
    }

    fn kind(&self) -> RuleKind {
        match self {
            Self::UpnWithSid { .. } => RuleKind::UpnWithSid,
            Self::Static { .. } => RuleKind::Static,
            Self::Upn { .. } => RuleKind::Upn,
        }
    }

    fn ask(&self, certificate: &ClientCertificate, claims: &Claims) -> Result<Answer, Failure> {
        match self {
            Self::UpnWithSid { uri_issuers } => Ok(upn_with_sid(uri_issuers.contains(&certificate.issuer_key()), claims)),
            Self::Static { entries } => match entries.get(&certificate.fingerprint().0) {
                Some(entry) => by_row(entry, claims).map(Answer::Maps),
                None => Ok(Answer::Lacks("no row for this certificate".to_owned())),
            },
            Self::Upn { suffixes } => match suffixes.get(&certificate.issuer_key()) {
                Some(allowed) => Ok(upn_alone(allowed, claims)),
                None => Ok(Answer::Lacks("its issuer is not named in the rule".to_owned())),
            },
        }
    }
}

fn load_weak(issuers: &[WeakIssuer]) -> Result<HashMap<KeyFingerprint, Vec<String>>, LoadError> {
    let mut suffixes = HashMap::new();
    for issuer in issuers {
        let allowed = issuer.allowed_suffixes.iter().map(|suffix| suffix.to_ascii_lowercase()).collect();
        if suffixes.insert(issuing_key(&issuer.certificate)?, allowed).is_some() {
            return Err(twice(&issuer.certificate));
        }
    }
    Ok(suffixes)
}

fn twice(path: &Path) -> LoadError {
    LoadError::new(path, "has the same key as another issuer of this rule", "name each issuer once, with all its suffixes")
}

/// The name is the UPN's; the SID proves it (MS-PKCA 3.1.5.2.1.5).
fn upn_with_sid(uri_believed: bool, claims: &Claims) -> Answer {
    let Some(upn) = claims.upn() else { return Answer::Lacks("no user principal name in the certificate".to_owned()) };
    match (claims.extension_sid(), claims.uri_sid()) {
        (Some(sid), _) => Answer::Maps(strong(upn, sid)),
        (None, Some(sid)) if uri_believed => Answer::Maps(strong(upn, sid)),
        (None, Some(_)) => Answer::Lacks("its SID is only in a SAN URI, and its issuer is not in san_uri_sid_issuers".to_owned()),
        (None, None) => Answer::Lacks("no SID in the certificate".to_owned()),
    }
}

fn strong(upn: &Upn, sid: &Sid) -> Principal {
    Principal::mapped(enterprise(upn), ExpectedSid::Is(sid.clone()), RuleKind::UpnWithSid, Strength::Strong)
}

/// The name is the row's. A SID that the certificate names is never ignored: it must be the row's, or it is what is expected.
fn by_row(entry: &StaticEntry, claims: &Claims) -> Result<Principal, Failure> {
    let expected = match (&entry.expected_sid, claims.any_sid()) {
        (ExpectedSid::Is(row), Some(own)) if row != own => {
            return Err(Failure::new(Cause::SidConflict, format!("the static row says {row}, the certificate {own}")));
        }
        (ExpectedSid::Is(sid), _) | (ExpectedSid::PinOnFirstUse, Some(sid)) => ExpectedSid::Is(sid.clone()),
        (ExpectedSid::PinOnFirstUse, None) => ExpectedSid::PinOnFirstUse,
    };
    let proved = matches!(entry.expected_sid, ExpectedSid::Is(_)) || claims.extension_sid().is_some();
    let strength = if proved { Strength::Strong } else { Strength::Weak };
    Ok(Principal::mapped(entry.name.clone(), expected, RuleKind::Static, strength))
}

/// The name is the UPN's, on the issuer's word alone. A SID that the certificate names, believed or not, only narrows it: the
/// account must have that SID.
fn upn_alone(allowed_suffixes: &[String], claims: &Claims) -> Answer {
    let Some(upn) = claims.upn() else { return Answer::Lacks("no user principal name in the certificate".to_owned()) };
    if !allowed_suffixes.iter().any(|suffix| suffix == upn.suffix()) {
        return Answer::Suffix(format!("suffix {} is not among its issuer's allowed_suffixes", upn.suffix()));
    }
    let expected = claims.any_sid().map_or(ExpectedSid::PinOnFirstUse, |sid| ExpectedSid::Is(sid.clone()));
    Answer::Maps(Principal::mapped(enterprise(upn), expected, RuleKind::Upn, Strength::Weak))
}

fn enterprise(upn: &Upn) -> RequestedName {
    RequestedName::Enterprise(upn.normalized().into())
}

#[cfg(test)]
mod tests;
