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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// SAN UPN, proved by the certificate's SID.
    UpnWithSid,
    /// A row of the static table.
    Static,
    /// SAN UPN alone, named per issuer.
    Upn,
    /// No certificate at all: an administrator's diagnosis.
    Diagnosis,
}

/// How much the mapping proves (MS-PKCA 3.1.5.2.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strength {
    /// The certificate (or an administrator's row) names the account's SID.
    Strong,
    /// A name only.
    Weak,
}

impl Principal {
    /// Only mapping rules call this.
    pub(in crate::identity) fn mapped(
        name: RequestedName,
        expected_sid: ExpectedSid,
        rule: RuleKind,
        strength: Strength,
    ) -> Self {
        Self { name, expected_sid, rule, strength }
    }

    /// A principal nobody presented a certificate for: only `kcd-bridge doctor` may ask for one.
    pub fn for_diagnosis(name: RequestedName) -> Self {
        Self { name, expected_sid: ExpectedSid::PinOnFirstUse, rule: RuleKind::Diagnosis, strength: Strength::Weak }
    }

    /// A principal for unit tests of the rooms above.
    #[cfg(test)]
    pub(crate) fn for_test(upn: &str, expected_sid: ExpectedSid) -> Self {
        Self { name: RequestedName::Enterprise(upn.into()), expected_sid, rule: RuleKind::Static, strength: Strength::Strong }
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
    /// Name in the configuration, log and audit event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpnWithSid => "upn-with-sid",
            Self::Static => "static",
            Self::Upn => "upn",
            Self::Diagnosis => "diagnosis",
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
