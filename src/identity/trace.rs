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

impl Tried {
    /// Why it does not map.
    fn lack(&self) -> &str {
        match (&self.selected, &self.outcome) {
            (Err(why), _) => why,
            (_, Outcome::Lacks(failure)) => &failure.detail,
            _ => "the directory was not asked",
        }
    }
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
    let mapped: Vec<&Principal> = mapped.collect();
    // Each with each: two that agree with a third need not agree with each other.
    for (index, one) in mapped.iter().enumerate() {
        if let Some(other) = mapped.iter().skip(index + 1).find(|other| !agree(one, other)) {
            return Err(Failure::new(Cause::AmbiguousMapping, format!("{}; {}", says(one), says(other))));
        }
    }
    let rank = |principal: &Principal| (principal.strength(), matches!(principal.expected_sid(), ExpectedSid::Is(_)));
    let best = mapped.into_iter().reduce(|best, new| if rank(new) > rank(best) { new } else { best });
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

/// Whether two rules mean one account: by SID where both know it, else by name.
fn agree(one: &Principal, other: &Principal) -> bool {
    let same = match (one.expected_sid(), other.expected_sid()) {
        (ExpectedSid::Is(one), ExpectedSid::Is(other)) => one == other,
        _ => one.name() == other.name(),
    };
    same && one.kind() == other.kind()
}

fn says(principal: &Principal) -> String {
    match principal.expected_sid() {
        ExpectedSid::Is(sid) => format!("{} says {principal} with {sid}", principal.rule().name()),
        ExpectedSid::PinOnFirstUse => format!("{} says {principal} with any SID", principal.rule().name()),
    }
}

/// Why no rule maps: the most telling cause, with what each rule lacked.
fn nobody(claims: &Claims, tried: &[Tried]) -> Failure {
    if tried.is_empty() {
        return Failure::new(Cause::NoMapping, "no [[mapping]] is configured");
    }
    let mut lacking: Vec<_> = tried.iter().map(|tried| format!("{}: {}", tried.rule.name(), tried.lack())).collect();
    let lacks = |cause| move |tried: &&Tried| matches!(&tried.outcome, Outcome::Lacks(failure) if failure.cause == cause);
    let by_name = |tried: &Tried| tried.strength == Strength::Weak || tried.rule == RuleKind::StrongNameMatch;
    let names = if claims.any_sid().is_none() { weak_readings(claims) } else { Vec::new() };
    let cause = if tried.iter().filter(lacks(Cause::AccountNotFound)).any(by_name) {
        Cause::AccountNotFound
    } else if tried.iter().any(|tried| lacks(Cause::SuffixNotAllowed)(&tried)) {
        Cause::SuffixNotAllowed
    } else if !names.is_empty() {
        lacking.push(format!("names in the certificate: {}", names.join(", ")));
        Cause::WeakMappingOnly
    } else if tried.iter().any(|tried| lacks(Cause::AccountNotFound)(&tried)) {
        Cause::AccountNotFound
    } else {
        Cause::NoMapping
    };
    Failure::new(cause, lacking.join("; "))
}

/// Names in the certificate that a weak rule could go by.
fn weak_readings(claims: &Claims) -> Vec<String> {
    let upn = claims.upn().map(|upn| format!("UPN {upn}"));
    let mail = claims.rfc822_names().iter().map(|name| format!("e-mail {name}"));
    let dns = claims.dns_names().iter().map(|name| format!("DNS name {name}"));
    upn.into_iter().chain(mail).chain(dns).collect()
}
