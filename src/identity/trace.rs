//! What every rule made of a certificate, and what follows from all of them.

use crate::failure::{Answer, Cause, Failure};
use crate::identity::{ExpectedSid, Principal, RuleKind, Strength};
use crate::naming::sid::Sid;
use crate::x509::Claims;

/// One rule's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which rule.
    pub rule: RuleKind,
    /// Its place among the `[[mapping]]` tables, from 0.
    pub position: usize,
    /// How much it proves when it maps.
    pub strength: Strength,
    /// Whether its selector fits, or why not.
    pub selected: Result<(), String>,
    /// What was read and computed for it: label and value.
    pub computed: Vec<(&'static str, String)>,
    /// The questions it asked the directory, or would have asked (RFC 4515).
    pub filter: Option<String>,
    /// Accounts that the directory named, right ones or not.
    pub hits: Vec<Hit>,
    /// What came of it.
    pub outcome: Outcome,
}

/// An account that the directory named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// distinguishedName
    pub dn: String,
    /// objectSid
    pub sid: Option<Sid>,
    /// sAMAccountName
    pub account_name: String,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The certificate stands for this account.
    Maps(Principal),
    /// The rule says nothing about this certificate, and why. What the cause is counts only where no other rule maps.
    Lacks(Failure),
    /// The certificate gets nothing, whatever other rules say.
    Refused(Failure),
    /// It would ask the directory: see `computed` and `filter`. Only without one, to explain.
    NotAsked,
}

/// The one account of all rules, or why there is none. A refusal of any rule refuses; those that map must agree; then the
/// strongest is reported, and of equals the first.
pub fn decide(claims: &Claims, tried: &[Tried]) -> Result<Principal, Failure> {
    if let Some(refusal) = refusal(tried) {
        return Err(refusal.clone());
    }
    let mapped = tried.iter().filter_map(|tried| match &tried.outcome {
        Outcome::Maps(principal) => Some(principal),
        _ => None,
    });
    let mut best: Option<&Principal> = None;
    for principal in mapped {
        best = Some(match best {
            None => principal,
            Some(best) => agreed(best, principal)?,
        });
    }
    best.cloned().ok_or_else(|| nobody(claims, tried))
}

/// The first definite refusal; trouble with the directory only where nothing is definite, so that it never hides one.
fn refusal(tried: &[Tried]) -> Option<&Failure> {
    let refused = || {
        tried.iter().filter_map(|tried| match &tried.outcome {
            Outcome::Refused(failure) => Some(failure),
            _ => None,
        })
    };
    refused().find(|failure| failure.cause.answer() != Answer::Unavailable).or_else(|| refused().next())
}

/// Two rules that map must mean one account; the better one.
fn agreed<'a>(best: &'a Principal, new: &'a Principal) -> Result<&'a Principal, Failure> {
    let same = match (best.expected_sid(), new.expected_sid()) {
        (ExpectedSid::Is(one), ExpectedSid::Is(other)) => one == other,
        _ => best.name() == new.name(),
    };
    if !same || best.kind() != new.kind() {
        let says = |principal: &Principal| match principal.expected_sid() {
            ExpectedSid::Is(sid) => format!("{} says {principal} with {sid}", principal.rule().name()),
            ExpectedSid::PinOnFirstUse => format!("{} says {principal} with any SID", principal.rule().name()),
        };
        return Err(Failure::new(Cause::AmbiguousMapping, format!("{}; {}", says(best), says(new))));
    }
    let rank = |principal: &Principal| (principal.strength(), matches!(principal.expected_sid(), ExpectedSid::Is(_)));
    Ok(if rank(new) > rank(best) { new } else { best })
}

/// Why no rule maps: the most telling cause, with what each rule lacked.
fn nobody(claims: &Claims, tried: &[Tried]) -> Failure {
    if tried.is_empty() {
        return Failure::new(Cause::NoMapping, "no [[mapping]] is configured");
    }
    let mut causes = Vec::new();
    let mut lacking = Vec::new();
    for tried in tried {
        let what = match (&tried.selected, &tried.outcome) {
            (Err(why), _) => why.clone(),
            (_, Outcome::Lacks(failure)) => {
                causes.push(failure.cause);
                failure.detail.clone()
            }
            _ => "the directory was not asked".to_owned(),
        };
        lacking.push(format!("{}: {what}", tried.rule.name()));
    }
    let weak = weak_readings(claims);
    let cause = [Cause::AccountNotFound, Cause::SuffixNotAllowed].into_iter().find(|cause| causes.contains(cause));
    let cause = match cause {
        Some(cause) => cause,
        None if claims.any_sid().is_none() && !weak.is_empty() => {
            let names: Vec<_> = weak.iter().map(|(label, value)| format!("{label} {value}")).collect();
            lacking.push(format!("names in the certificate: {}", names.join(", ")));
            Cause::WeakMappingOnly
        }
        None => Cause::NoMapping,
    };
    Failure::new(cause, lacking.join("; "))
}

/// Names in the certificate that a weak rule could go by.
fn weak_readings(claims: &Claims) -> Vec<(&'static str, String)> {
    let upn = claims.upn().map(|upn| ("UPN", upn.to_string()));
    let mail = claims.rfc822_names().iter().map(|name| ("e-mail", name.clone()));
    let dns = claims.dns_names().iter().map(|name| ("DNS name", name.clone()));
    upn.into_iter().chain(mail).chain(dns).collect()
}
