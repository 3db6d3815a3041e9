//! What the directory says about a refusal.

use crate::directory::ServiceAccount;
use crate::failure::{Cause, Failure, Name};
use crate::kerberos::refusal::Facts;
use crate::naming::name::Spn;

/// AES128 and AES256 with SHA-1 (MS-KILE 2.2.7).
const AES: u32 = 0x18;

/// Causes about which the directory may know more.
pub(super) const fn worth_asking(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::OwnTgtNotForwardable
            | Cause::OwnKeyRefused
            | Cause::KeytabUnusable
            | Cause::OwnEtypeNotSupported
            | Cause::OwnSpnMissing
            | Cause::S4u2SelfRefused
            | Cause::ProtocolTransitionOff
            | Cause::SpnNotListed
            | Cause::ResourceListLacksUs
            | Cause::DelegationAcrossRealms
            | Cause::DelegationRefused
            | Cause::PolicyRefused
            | Cause::SpnUnknown
            | Cause::SpnDuplicate
            | Cause::WeakEtypeRefused
            | Cause::EtypeNotSupported
            | Cause::TokenKeyWrong
            | Cause::TokenRefused
    )
}

/// The failure with what the directory adds to it.
pub(super) fn by_directory(failure: Failure, facts: &Facts, spn: &Spn) -> Failure {
    let failure = match facts.owners.first() {
        Some(owner) => failure.naming(Name::Owner, &owner.account_name),
        None => failure,
    };
    let failure = match &facts.own {
        Some(own) => failure.naming(Name::Account, &own.account_name),
        None => failure,
    };
    match failure.cause {
        Cause::OwnTgtNotForwardable
        | Cause::OwnKeyRefused
        | Cause::KeytabUnusable
        | Cause::OwnEtypeNotSupported
        | Cause::OwnSpnMissing
        | Cause::S4u2SelfRefused => match &facts.own {
            Some(own) => about_our_account(failure, own),
            None => failure.also("the directory shows no such account as ours"),
        },
        Cause::ProtocolTransitionOff => without_transition(failure, facts, spn),
        Cause::SpnNotListed | Cause::ResourceListLacksUs | Cause::DelegationAcrossRealms => not_allowed(failure, facts, spn),
        Cause::SpnUnknown => match &facts.owners[..] {
            [_, _, ..] => with_owners(failure.because(Cause::SpnDuplicate), facts),
            [owner] if owner.is_disabled() => with_owners(failure.because(Cause::SpnOwnerRevoked), facts),
            _ => with_owners(failure, facts),
        },
        Cause::WeakEtypeRefused | Cause::EtypeNotSupported => match facts.owners.first() {
            Some(owner) => failure.also(&format!("the SPN's account {} has {}", owner.account_name, encryption_types(owner))),
            None => failure,
        },
        _ => with_owners(failure, facts),
    }
}

fn about_our_account(failure: Failure, own: &ServiceAccount) -> Failure {
    let dn = &own.dn;
    match failure.cause {
        Cause::OwnTgtNotForwardable => match (own.is_sensitive(), own.is_protected()) {
            (true, _) => failure.also(&format!("{dn} is marked sensitive")),
            (false, true) => failure.also(&format!("{dn} is in Protected Users")),
            (false, false) => failure.also(&format!("{dn} is neither sensitive nor in Protected Users: look for a policy")),
        },
        Cause::OwnKeyRefused | Cause::KeytabUnusable => match own.key_version {
            Some(version) => failure.also(&format!("the directory has version {version} of the key of {dn}")),
            None => failure,
        },
        Cause::OwnEtypeNotSupported => failure.also(&format!("{dn} has {}", encryption_types(own))),
        _ => match own.service_principal_names.first() {
            None => failure.because(Cause::OwnSpnMissing),
            Some(spn) => {
                failure.because(Cause::S4u2SelfRefused).also(&format!("{dn} has an SPN, {spn}: has the KDC got it yet?"))
            }
        },
    }
}

/// The user could be delegated, the evidence ticket is not forwardable, and our own ticket is.
fn without_transition(failure: Failure, facts: &Facts, spn: &Spn) -> Failure {
    let Some(own) = &facts.own else { return failure.also("the directory shows no such account as ours") };
    if own.may_transition() {
        let seen = "the directory has protocol transition on: has the KDC got it yet?";
        return failure.because(Cause::DelegationRefused).also(seen);
    }
    match (listed(own, spn), facts.owners.first()) {
        (Listed::Yes, _) => failure.also(&format!("{spn} is on the list")),
        // The other way needs no protocol transition.
        (_, Some(owner)) if has_list_without(owner, own) => lacking(failure, owner),
        (listed, _) => failure.also(&format!("besides, {}", listed.words(spn))),
    }
}

/// Everything about the user and the tickets is right: one of the two lists must have had us.
fn not_allowed(failure: Failure, facts: &Facts, spn: &Spn) -> Failure {
    if let [_, _, ..] = &facts.owners[..] {
        return with_owners(failure.because(Cause::SpnDuplicate), facts);
    }
    let Some(own) = &facts.own else { return failure.also("the directory shows no such account as ours") };
    let owner = facts.owners.first();
    let across = owner.filter(|owner| owner.domain() != own.domain());
    match (listed(own, spn), across, owner) {
        (_, Some(owner), _) if !allows(owner, own) => failure.because(Cause::DelegationAcrossRealms).also(&format!(
            "the SPN's account is {}, of domain {}",
            owner.dn,
            owner.domain()
        )),
        (Listed::Yes, None, _) => failure
            .because(Cause::DelegationRefused)
            .also("the directory has the SPN on our account's list: has the KDC got it yet?"),
        (_, _, Some(owner)) if allows(owner, own) => failure
            .because(Cause::DelegationRefused)
            .also(&format!("{} lets us delegate to it, says the directory: has the KDC got it yet?", owner.dn)),
        (_, _, Some(owner)) if has_list_without(owner, own) => lacking(failure, owner),
        (listed, _, _) => failure.because(Cause::SpnNotListed).also(&listed.words(spn)),
    }
}

fn lacking(failure: Failure, owner: &ServiceAccount) -> Failure {
    failure.because(Cause::ResourceListLacksUs).also(&format!("the list is that of {}", owner.dn))
}

/// Who has the SPN.
fn with_owners(failure: Failure, facts: &Facts) -> Failure {
    let how = if facts.by_host { " by HOST/" } else { "" };
    match &facts.owners[..] {
        [] => failure.also("no account that the directory shows has the SPN"),
        [owner] => {
            let state = if owner.is_disabled() { ", which is disabled" } else { "" };
            let version = owner.key_version.map_or_else(String::new, |version| format!(", key version {version}"));
            failure.also(&format!("{} has the SPN{how}{version}{state}", owner.dn))
        }
        [first, second, ..] => failure.also(&format!("both {} and {} have the SPN{how}", first.dn, second.dn)),
    }
}

/// Whether our delegation list has an SPN.
enum Listed {
    Yes,
    Empty,
    /// Something that looks like it: with or without a port, or the host's short name.
    Nearly(String),
    No(usize),
}

impl Listed {
    fn words(&self, spn: &Spn) -> String {
        match self {
            Self::Yes => format!("{spn} is on our account's list"),
            Self::Empty => "our account's list is empty".to_owned(),
            Self::Nearly(near) => format!("our account's list has {near}, which is not {spn}"),
            Self::No(entries) => format!("our account's list has {entries} other SPNs"),
        }
    }
}

fn listed(own: &ServiceAccount, spn: &Spn) -> Listed {
    let wanted = spn.to_string();
    if own.delegates_to.iter().any(|entry| entry.eq_ignore_ascii_case(&wanted)) {
        return Listed::Yes;
    }
    let short = |host: &str| host.split([':', '.']).next().unwrap_or_default().to_ascii_lowercase();
    let near = own.delegates_to.iter().find(|entry| {
        let named = entry.split_once('/').filter(|(service, _)| service.eq_ignore_ascii_case(spn.service()));
        named.is_some_and(|(_, host)| short(host) == short(spn.host()) && same_or_shorter(host, spn.host()))
    });
    match near {
        Some(near) => Listed::Nearly(near.clone()),
        None if own.delegates_to.is_empty() => Listed::Empty,
        None => Listed::No(own.delegates_to.len()),
    }
}

/// Whether two hosts with one first label may be one host: without ports the same, or one of them without its domain.
fn same_or_shorter(one: &str, other: &str) -> bool {
    let host = |text: &str| text.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let (one, other) = (host(one), host(other));
    one == other || !one.contains('.') || !other.contains('.')
}

fn allows(owner: &ServiceAccount, own: &ServiceAccount) -> bool {
    owner.delegated_to_by.as_ref().is_some_and(|list| list.allows(&own.sids()))
}

fn has_list_without(owner: &ServiceAccount, own: &ServiceAccount) -> bool {
    owner.delegated_to_by.as_ref().is_some_and(|list| !list.is_empty() && !list.allows(&own.sids()))
}

/// msDS-SupportedEncryptionTypes in words.
pub(in crate::kerberos) fn encryption_types(account: &ServiceAccount) -> String {
    match account.encryption_types {
        None | Some(0) => "no msDS-SupportedEncryptionTypes: the domain's default counts".to_owned(),
        Some(types) if types & AES == 0 => format!("msDS-SupportedEncryptionTypes {types:#x}, without AES"),
        Some(types) => format!("msDS-SupportedEncryptionTypes {types:#x}, with AES"),
    }
}
