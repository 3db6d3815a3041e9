//! What is said of one certificate: the documented shape of `--json`, version 1.

use serde::Serialize;
use sha1::{Digest as _, Sha1};

use crate::certificate::{Template, hex};
use crate::cli::explain::judge::{Chain, Decision, Explanation};
use crate::der::format_kerberos_time;
use crate::failure::Failure;
use crate::identity::{ExpectedSid, Outcome, Principal, Tried};
use crate::x509::Claims;
use crate::x509::alt_security::{Form, Missing, candidates};

/// One certificate.
#[derive(Debug, Serialize)]
pub(super) struct CertificateReport {
    pub(super) source: String,
    pub(super) verdict: &'static str,
    pub(super) decision: DecisionReport,
    pub(super) certificate: Facts,
    pub(super) chain: ChainReport,
    /// none: they cannot be read, see the decision
    pub(super) claims: Option<ClaimsReport>,
    pub(super) rules: Vec<RuleReport>,
    pub(super) strings: Vec<StringReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) sha256: String,
    pub(super) sha1: String,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) not_before: Option<String>,
    pub(super) not_after: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ChainReport {
    pub(super) verified: bool,
    /// who was not asked and could still refuse it; only offline
    pub(super) not_asked: Vec<&'static str>,
    #[serde(flatten)]
    pub(super) refusal: Option<Refusal>,
}

/// A line of the table of failures, and what was seen.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) meaning: &'static str,
    pub(super) detail: String,
    pub(super) remedy: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct ClaimsReport {
    pub(super) upn: Option<String>,
    pub(super) extension_sid: Option<String>,
    pub(super) uri_sid: Option<String>,
    pub(super) rfc822_names: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) common_name: Option<String>,
    pub(super) subject_key_identifier: Option<String>,
    pub(super) templates: Vec<String>,
    pub(super) policies: Vec<String>,
    /// none: the extension is absent
    pub(super) extended_key_usages: Option<Vec<String>>,
    /// none: the extension is absent
    pub(super) key_usages: Option<Vec<&'static str>>,
}

/// One rule's turn.
#[derive(Debug, Serialize)]
pub(super) struct RuleReport {
    /// place among the `[[mapping]]` tables, from 1
    pub(super) number: usize,
    pub(super) rule: &'static str,
    pub(super) strength: &'static str,
    pub(super) outcome: &'static str,
    pub(super) computed: Vec<Labelled>,
    pub(super) filter: Option<String>,
    pub(super) hits: Vec<HitReport>,
    #[serde(flatten)]
    pub(super) mapped: Option<Mapped>,
    /// why it does not map
    pub(super) why: Option<String>,
    pub(super) reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Labelled {
    pub(super) label: &'static str,
    pub(super) value: String,
}

#[derive(Debug, Serialize)]
pub(super) struct HitReport {
    pub(super) dn: String,
    pub(super) sid: Option<String>,
    pub(super) account_name: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Mapped {
    pub(super) principal: String,
    /// what the PAC's SID must be; none: whatever the KDC says first
    pub(super) expected_sid: Option<String>,
    pub(super) kind: &'static str,
}

/// An altSecurityIdentities string, or why there is none of the form.
#[derive(Debug, Serialize)]
pub(super) struct StringReport {
    pub(super) form: &'static str,
    pub(super) strong: bool,
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) note: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<String>,
    /// it could be read in two ways: the form is refused, not absent
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) refused: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum DecisionReport {
    Mapped {
        rule: &'static str,
        #[serde(flatten)]
        mapped: Mapped,
    },
    Refused(Refusal),
    Undecided {
        detail: &'static str,
    },
}

impl CertificateReport {
    pub(super) fn new(explanation: &Explanation) -> Self {
        let Explanation { presented, facts, validity, chain, claims, tried, decision } = explanation;
        let leaf = presented.chain.first().map(AsRef::as_ref).unwrap_or_default();
        let claims = claims.as_ref().ok();
        Self {
            source: presented.source.clone(),
            verdict: decision.verdict(),
            decision: DecisionReport::new(decision),
            certificate: Facts {
                sha256: facts.fingerprint.to_string(),
                sha1: hex(&Sha1::digest(leaf)),
                subject: facts.subject.clone(),
                issuer: facts.issuer.clone(),
                serial: facts.serial.clone(),
                not_before: validity.map(|(not_before, _)| time(not_before)),
                not_after: validity.map(|(_, not_after)| time(not_after)),
            },
            chain: match chain {
                Chain::Verified { not_asked } => ChainReport { verified: true, not_asked: not_asked.clone(), refusal: None },
                Chain::Refused(failure) => {
                    ChainReport { verified: false, not_asked: Vec::new(), refusal: Some(Refusal::new(failure)) }
                }
            },
            claims: claims.map(ClaimsReport::new),
            rules: tried.iter().map(RuleReport::new).collect(),
            strings: claims.map(strings).unwrap_or_default(),
        }
    }
}

impl Refusal {
    fn new(failure: &Failure) -> Self {
        let cause = failure.cause;
        Self { reason: cause.code(), meaning: cause.summary(), detail: failure.detail.clone(), remedy: cause.remedy() }
    }
}

impl DecisionReport {
    fn new(decision: &Decision) -> Self {
        match decision {
            Decision::Mapped(principal) => Self::Mapped { rule: principal.rule().name(), mapped: Mapped::new(principal) },
            Decision::Refused(failure) => Self::Refused(Refusal::new(failure)),
            Decision::Undecided => Self::Undecided { detail: "only the directory knows, and it was not asked" },
        }
    }
}

impl Mapped {
    fn new(principal: &Principal) -> Self {
        let expected_sid = match principal.expected_sid() {
            ExpectedSid::Is(sid) => Some(sid.to_string()),
            ExpectedSid::PinOnFirstUse => None,
        };
        Self { principal: principal.to_string(), expected_sid, kind: principal.kind().name() }
    }
}

impl ClaimsReport {
    fn new(claims: &Claims) -> Self {
        let template = |template: &Template| match template {
            Template::Name(text) | Template::Oid(text) => text.clone(),
        };
        Self {
            upn: claims.upn().map(|upn| upn.as_written().to_owned()),
            extension_sid: claims.extension_sid().map(ToString::to_string),
            uri_sid: claims.uri_sid().map(ToString::to_string),
            rfc822_names: claims.rfc822_names().to_vec(),
            dns_names: claims.dns_names().to_vec(),
            common_name: claims.common_name().ok().map(str::to_owned),
            subject_key_identifier: claims.subject_key_identifier().map(hex),
            templates: claims.templates().iter().map(template).collect(),
            policies: claims.policies().to_vec(),
            extended_key_usages: claims.extended_key_usages().map(<[String]>::to_vec),
            key_usages: claims.key_usage().map(key_usages),
        }
    }
}

impl RuleReport {
    fn new(tried: &Tried) -> Self {
        let (outcome, mapped, why, reason) = match (&tried.selected, &tried.outcome) {
            (Err(why), _) => ("not-selected", None, Some(why.clone()), None),
            (_, Outcome::Maps(principal)) => ("maps", Some(Mapped::new(principal)), None, None),
            (_, Outcome::Lacks(failure)) => ("lacks", None, Some(why(failure)), Some(failure.cause.code())),
            (_, Outcome::Refused(failure)) => ("refused", None, Some(why(failure)), Some(failure.cause.code())),
            (_, Outcome::NotAsked) => ("not-asked", None, None, None),
        };
        let computed = tried.computed.iter().map(|(label, value)| Labelled { label, value: value.clone() });
        let hits = tried.hits.iter().map(|hit| HitReport {
            dn: hit.dn.clone(),
            sid: hit.sid.as_ref().map(ToString::to_string),
            account_name: hit.account_name.clone(),
        });
        Self {
            number: tried.position + 1,
            rule: tried.rule.name(),
            strength: tried.strength.name(),
            outcome,
            computed: computed.collect(),
            filter: tried.filter.clone(),
            hits: hits.collect(),
            mapped,
            why,
            reason,
        }
    }
}

fn why(failure: &Failure) -> String {
    if failure.detail.is_empty() { failure.cause.summary().to_owned() } else { failure.detail.clone() }
}

/// Every string of altSecurityIdentities that the certificate has, whether or not a rule goes by it.
fn strings(claims: &Claims) -> Vec<StringReport> {
    let mut strings = Vec::new();
    for form in Form::ALL {
        let empty =
            || StringReport { form: form.name(), strong: form.is_strong(), value: None, note: "", missing: None, refused: false };
        match candidates(claims, form) {
            Ok(computed) => strings.extend(computed.into_iter().map(|computed| StringReport {
                value: Some(computed.value),
                note: computed.note,
                ..empty()
            })),
            Err(Missing::Absent(why)) => strings.push(StringReport { missing: Some(why.to_owned()), ..empty() }),
            Err(Missing::Refused(why)) => strings.push(StringReport { missing: Some(why), refused: true, ..empty() }),
        }
    }
    strings
}

/// Names of the bits in the first octet of KeyUsage (RFC 5280 section 4.2.1.3).
fn key_usages(bits: u8) -> Vec<&'static str> {
    const NAMES: [&str; 8] = [
        "digital-signature",
        "non-repudiation",
        "key-encipherment",
        "data-encipherment",
        "key-agreement",
        "key-cert-sign",
        "crl-sign",
        "encipher-only",
    ];
    NAMES.into_iter().enumerate().filter(|(place, _)| bits & (0x80 >> place) != 0).map(|(_, name)| name).collect()
}

/// RFC 3339.
fn time(seconds: i64) -> String {
    let digits = format_kerberos_time(seconds);
    let mut text = String::with_capacity(20);
    for (place, digit) in digits.iter().enumerate() {
        text.push_str(match place {
            4 | 6 => "-",
            8 => "T",
            10 | 12 => ":",
            _ => "",
        });
        text.push(char::from(*digit));
    }
    text
}
