//! Mapping rules as configured.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::certificate::Fingerprint;
use crate::identity::{ExpectedSid, RequestedName, RuleKind};
use crate::x509::alt_security::Form;

/// One `[[mapping]]` table. A rule may stand more than once, with other selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// `rule` and what belongs to it
    pub rule: RuleSettings,
    /// `[mapping.select]`: for which certificates
    pub selector: Selector,
}

/// For which certificates a rule speaks: all that fit every list; of a list one member is enough, and an empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `issuers`: PEM files of issuing CAs, compared by key
    pub issuers: Vec<PathBuf>,
    /// `usages`: extended key usages, dotted OIDs; a certificate without the extension does not fit
    pub usages: Vec<String>,
    /// `key_usages`: a certificate without the extension does not fit
    pub key_usages: Vec<KeyUsage>,
    /// `templates`: AD CS templates, by OID (version 2) or name (version 1)
    pub templates: Vec<String>,
    /// `policies`: certificate policies, dotted OIDs
    pub policies: Vec<String>,
}

/// A bit of KeyUsage (RFC 5280 section 4.2.1.3) that a leaf may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUsage {
    /// digitalSignature
    DigitalSignature,
    /// nonRepudiation
    NonRepudiation,
    /// keyEncipherment
    KeyEncipherment,
    /// dataEncipherment
    DataEncipherment,
    /// keyAgreement
    KeyAgreement,
}

/// What a rule goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSettings {
    /// `upn-with-sid`: SAN UPN, proved by the certificate's SID
    UpnWithSid {
        /// `san_uri_sid_issuers`: PEM files of issuing CAs whose SAN URI SIDs are believed (MS-PKCA 3.1.5.2.1.6); default none
        san_uri_sid_issuers: Vec<PathBuf>,
    },
    /// `sid`: the certificate's SID alone, looked up in the directory
    Sid {
        /// `san_uri_sid_issuers`, as above
        san_uri_sid_issuers: Vec<PathBuf>,
    },
    /// `alt-security-identities`: strings that the account must have
    AltSecurityIdentities {
        /// `forms`: strong ones only; none: every strong form
        forms: Vec<Form>,
    },
    /// `user-certificate`: the account's userCertificate holds this very certificate
    UserCertificate,
    /// `static`: rows `[[mapping.entry]]` with `certificate_sha256`, `principal`, and `sid` or `pin = "first-use"`
    Static {
        /// by SHA-256 of the leaf's DER
        entries: BTreeMap<[u8; 32], StaticEntry>,
    },
    /// `strong-name-match`: UPN, or issuer and subject, where a policy vouches for them (MS-PKCA 3.1.5.2.1.5)
    StrongNameMatch {
        /// `policy_file`: the text of the Windows policy "Allow name-based strong mappings for certificates"
        policy_file: PathBuf,
        /// `issuers`: PEM files of the CAs that the policy names by thumbprint, every one of them
        issuers: Vec<PathBuf>,
    },
    /// `upn`: weak; every issuer is named with the UPN suffixes it may speak for
    Upn {
        /// `[[mapping.issuer]]` with `certificate` (PEM file of the issuing CA) and `allowed_suffixes`
        issuers: Vec<WeakIssuer>,
    },
    /// `rfc822`: weak; the one e-mail address, found in mail or as `X509:<RFC822>`; suffixes: domains of addresses
    Rfc822 {
        /// as above
        issuers: Vec<WeakIssuer>,
    },
    /// `issuer-subject`: weak; `X509:<I>…<S>…`; suffixes: DNS names of the accounts' domains
    IssuerSubject {
        /// as above
        issuers: Vec<WeakIssuer>,
    },
    /// `subject`: weak; `X509:<S>…`; suffixes: DNS names of the accounts' domains
    Subject {
        /// as above
        issuers: Vec<WeakIssuer>,
    },
    /// `dns-name`: weak; computers by their one DNS name; suffixes: DNS names of the computers' domains
    DnsName {
        /// as above
        issuers: Vec<WeakIssuer>,
    },
    /// `subject-cn`: weak; the subject's one common name, read as a UPN; suffixes: of the UPN
    SubjectCn {
        /// as above
        issuers: Vec<WeakIssuer>,
    },
}

/// One row of the static table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEntry {
    /// `principal`: `name@REALM`; or `upn`: a user principal name sent as an enterprise name
    pub name: RequestedName,
    /// `sid`, or `pin = "first-use"`
    pub expected_sid: ExpectedSid,
}

/// One issuer of a weak rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakIssuer {
    /// `certificate`: PEM file of the issuing CA
    pub certificate: PathBuf,
    /// `allowed_suffixes`: in lower case, at least one
    pub allowed_suffixes: Vec<String>,
}

impl RuleConfig {
    /// A rule for every certificate.
    pub fn for_all(rule: RuleSettings) -> Self {
        Self { rule, selector: Selector::default() }
    }
}

impl RuleSettings {
    /// Which rule it is.
    pub fn kind(&self) -> RuleKind {
        match self {
            Self::UpnWithSid { .. } => RuleKind::UpnWithSid,
            Self::Sid { .. } => RuleKind::Sid,
            Self::AltSecurityIdentities { .. } => RuleKind::AltSecurityIdentities,
            Self::UserCertificate => RuleKind::UserCertificate,
            Self::Static { .. } => RuleKind::Static,
            Self::StrongNameMatch { .. } => RuleKind::StrongNameMatch,
            Self::Upn { .. } => RuleKind::Upn,
            Self::Rfc822 { .. } => RuleKind::Rfc822,
            Self::IssuerSubject { .. } => RuleKind::IssuerSubject,
            Self::Subject { .. } => RuleKind::Subject,
            Self::DnsName { .. } => RuleKind::DnsName,
            Self::SubjectCn { .. } => RuleKind::SubjectCn,
        }
    }
}

impl KeyUsage {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::DigitalSignature, Self::NonRepudiation, Self::KeyEncipherment, Self::DataEncipherment, Self::KeyAgreement];

    /// Name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digital-signature",
            Self::NonRepudiation => "non-repudiation",
            Self::KeyEncipherment => "key-encipherment",
            Self::DataEncipherment => "data-encipherment",
            Self::KeyAgreement => "key-agreement",
        }
    }

    /// Its bit in the first octet of the extension's value.
    pub(in crate::identity) const fn bit(self) -> u8 {
        match self {
            Self::DigitalSignature => 0x80,
            Self::NonRepudiation => 0x40,
            Self::KeyEncipherment => 0x20,
            Self::DataEncipherment => 0x10,
            Self::KeyAgreement => 0x08,
        }
    }
}

impl StaticEntry {
    /// Key of the table.
    pub fn key(fingerprint: Fingerprint) -> [u8; 32] {
        fingerprint.0
    }
}
