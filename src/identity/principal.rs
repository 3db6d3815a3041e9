//! The account a certificate was mapped to.

use std::fmt;

use crate::naming::name::Realm;
use crate::naming::sid::Sid;

/// One account, as a mapping rule found it. Only `identity` makes these; holding one means that a verified certificate was mapped.
/// What the rule expects is proved against the PAC before the first ticket is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    name: RequestedName,
    expected_sid: ExpectedSid,
    rule: RuleKind,
    strength: Strength,
    kind: AccountKind,
}

/// The name the KDC is asked for in S4U2Self.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestedName {
    /// A user principal name, sent as an NT-ENTERPRISE name: the KDC resolves it (RFC 6806 section 5). Stored in lower case ASCII.
    Enterprise(Box<str>),
    /// An account name in a realm, sent as NT-PRINCIPAL.
    Account {
        /// sAMAccountName; one component
        name: Box<str>,
        /// its realm
        realm: Realm,
    },
}

/// What the PAC's SID must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedSid {
    /// Exactly this account.
    Is(Sid),
    /// Whatever the KDC says first; the same ever after in this process (weak, logged loudly).
    PinOnFirstUse,
}

/// The rule that mapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// SAN UPN, proved by the certificate's SID.
    UpnWithSid,
    /// The certificate's SID, looked up in the directory.
    Sid,
    /// A strong string of the account's altSecurityIdentities.
    AltSecurityIdentities,
    /// The whole certificate is in the account's userCertificate.
    UserCertificate,
    /// A row of the static table.
    Static,
    /// A name that an administrator's policy vouches for (MS-PKCA 3.1.5.2.1.5).
    StrongNameMatch,
    /// SAN UPN alone, named per issuer.
    Upn,
    /// SAN e-mail address.
    Rfc822,
    /// Issuer and subject in altSecurityIdentities.
    IssuerSubject,
    /// Subject in altSecurityIdentities.
    Subject,
    /// SAN DNS name: the one rule for computers.
    DnsName,
    /// The subject's common name, read as a UPN.
    SubjectCn,
    /// No certificate at all: an administrator's diagnosis.
    Diagnosis,
    /// No certificate at all: a probe of a back end's self-test, named in its configuration.
    SelfTest,
    /// No certificate at all: the canary of a realm, named in the configuration.
    Canary,
}

/// What kind of account the mapping is for; no rule maps to another kind, and the PAC has the last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// A person's.
    #[default]
    User,
    /// A workstation's or member server's; never a domain controller's.
    Computer,
}

/// How much the mapping proves (MS-PKCA 3.1.5.2.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strength {
    /// A name only.
    Weak,
    /// The certificate (or an administrator's entry) names the account and no other.
    Strong,
}

impl Principal {
    /// Only mapping rules call this.
    pub(in crate::identity) fn mapped(
        name: RequestedName,
        expected_sid: ExpectedSid,
        rule: RuleKind,
        strength: Strength,
    ) -> Self {
        let kind = if rule == RuleKind::DnsName { AccountKind::Computer } else { AccountKind::User };
        Self { name, expected_sid, rule, strength, kind }
    }

    /// A principal nobody presented a certificate for: only `kcd-bridge doctor` may ask for one.
    pub fn for_diagnosis(name: RequestedName) -> Self {
        Self::mapped(name, ExpectedSid::PinOnFirstUse, RuleKind::Diagnosis, Strength::Weak)
    }

    /// A principal nobody presented a certificate for: only the self-test of a back end may ask for one, for a user that its
    /// configuration names. Nothing a device sends leads here.
    pub fn for_self_test(name: RequestedName) -> Self {
        Self::mapped(name, ExpectedSid::PinOnFirstUse, RuleKind::SelfTest, Strength::Weak)
    }

    /// A principal nobody presented a certificate for: only the canary may ask for one, for the user that the configuration names.
    pub fn for_canary(name: RequestedName) -> Self {
        Self::mapped(name, ExpectedSid::PinOnFirstUse, RuleKind::Canary, Strength::Weak)
    }

    /// A principal for unit tests of the rooms above.
    #[cfg(test)]
    pub(crate) fn for_test(upn: &str, expected_sid: ExpectedSid) -> Self {
        Self::mapped(RequestedName::Enterprise(upn.into()), expected_sid, RuleKind::Static, Strength::Strong)
    }

    /// The name the KDC is asked for.
    pub fn name(&self) -> &RequestedName {
        &self.name
    }

    /// What the PAC must say.
    pub fn expected_sid(&self) -> &ExpectedSid {
        &self.expected_sid
    }

    /// The rule that mapped it.
    pub fn rule(&self) -> RuleKind {
        self.rule
    }

    /// How much the mapping proves.
    pub fn strength(&self) -> Strength {
        self.strength
    }

    /// What kind of account it may be.
    pub fn kind(&self) -> AccountKind {
        self.kind
    }
}

impl RequestedName {
    /// The name without its suffix or realm, as pages that greet their user show it.
    pub fn account(&self) -> &str {
        match self {
            Self::Enterprise(upn) => upn.rsplit_once('@').map_or(upn, |(name, _)| name),
            Self::Account { name, .. } => name,
        }
    }
}

impl fmt::Display for RequestedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enterprise(upn) => f.write_str(upn),
            Self::Account { name, realm } => write!(f, "{name}@{realm}"),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl RuleKind {
    /// Every rule that can stand in a configuration.
    pub const ALL: [Self; 12] = [
        Self::UpnWithSid,
        Self::Sid,
        Self::AltSecurityIdentities,
        Self::UserCertificate,
        Self::Static,
        Self::StrongNameMatch,
        Self::Upn,
        Self::Rfc822,
        Self::IssuerSubject,
        Self::Subject,
        Self::DnsName,
        Self::SubjectCn,
    ];

    /// Name in the configuration, log and audit event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpnWithSid => "upn-with-sid",
            Self::Sid => "sid",
            Self::AltSecurityIdentities => "alt-security-identities",
            Self::UserCertificate => "user-certificate",
            Self::Static => "static",
            Self::StrongNameMatch => "strong-name-match",
            Self::Upn => "upn",
            Self::Rfc822 => "rfc822",
            Self::IssuerSubject => "issuer-subject",
            Self::Subject => "subject",
            Self::DnsName => "dns-name",
            Self::SubjectCn => "subject-cn",
            Self::Diagnosis => "diagnosis",
            Self::SelfTest => "self-test",
            Self::Canary => "canary",
        }
    }
}

impl Strength {
    /// Name in log and audit event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Weak => "weak",
        }
    }
}

impl AccountKind {
    /// Name in log and audit event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Computer => "computer",
        }
    }
}
