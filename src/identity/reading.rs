//! What a rule reads in a certificate: no directory yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::certificate::{KeyFingerprint, LoadError, issuing_key, read_bounded, read_certificate_chain};
use crate::failure::{Cause, Failure};
use crate::identity::lookup::Sought;
use crate::identity::selector::{Presented, issuing_keys};
use crate::identity::{ExpectedSid, Outcome, RequestedName, RuleKind, RuleSettings, StaticEntry, Strength, WeakIssuer};
use crate::naming::sid::Sid;
use crate::x509::alt_security::{self, Computed, Form, Missing};
use crate::x509::name_match::{NameMatch, NameMatchPolicy};
use crate::x509::{Claims, Upn};

/// A policy of a thousand lines is smaller.
const MAX_POLICY_FILE: u64 = 1 << 20;

/// What a rule goes by, with its issuers' keys in place of their files.
#[derive(Debug, PartialEq)]
pub(super) enum Basis {
    UpnWithSid { uri_issuers: HashSet<KeyFingerprint> },
    Sid { uri_issuers: HashSet<KeyFingerprint> },
    Strings { forms: Vec<Form> },
    UserCertificate,
    Static { entries: BTreeMap<[u8; 32], StaticEntry> },
    NameMatch { by_issuer: HashMap<KeyFingerprint, NameMatch> },
    Weak { by: RuleKind, suffixes: HashMap<KeyFingerprint, Vec<String>> },
}

/// Whom a rule takes the certificate for, before the directory is asked.
#[derive(Debug)]
pub(super) struct Reading {
    /// what was read, for people
    pub(super) computed: Vec<(&'static str, String)>,
    /// the name to ask the KDC for; none: the account's own, so the rule needs a directory
    pub(super) name: Option<RequestedName>,
    /// what is known of the SID without a directory
    pub(super) expected_sid: ExpectedSid,
    pub(super) strength: Strength,
    /// how the directory finds the account
    pub(super) sought: Sought,
    /// DNS names of the domains the account may be in; none: any
    pub(super) domains: Option<Vec<String>>,
}

impl Basis {
    pub(super) fn load(settings: &RuleSettings) -> Result<Self, LoadError> {
        let weak = |issuers: &[WeakIssuer]| Ok(Self::Weak { by: settings.kind(), suffixes: load_weak(issuers)? });
        match settings {
            RuleSettings::UpnWithSid { san_uri_sid_issuers } => {
                Ok(Self::UpnWithSid { uri_issuers: issuing_keys(san_uri_sid_issuers)? })
            }
            RuleSettings::Sid { san_uri_sid_issuers } => Ok(Self::Sid { uri_issuers: issuing_keys(san_uri_sid_issuers)? }),
            RuleSettings::AltSecurityIdentities { forms } => strings(forms),
            RuleSettings::UserCertificate => Ok(Self::UserCertificate),
            RuleSettings::Static { entries } => Ok(Self::Static { entries: entries.clone() }),
            RuleSettings::StrongNameMatch { policy_file, issuers } => load_policy(policy_file, issuers),
            RuleSettings::Upn { issuers }
            | RuleSettings::Rfc822 { issuers }
            | RuleSettings::IssuerSubject { issuers }
            | RuleSettings::Subject { issuers }
            | RuleSettings::DnsName { issuers }
            | RuleSettings::SubjectCn { issuers } => weak(issuers),
        }
    }

    /// Whether the rule can do nothing without a directory.
    pub(super) fn needs_directory(&self) -> bool {
        match self {
            Self::UpnWithSid { .. } | Self::Static { .. } => false,
            Self::Weak { by, .. } => !matches!(by, RuleKind::Upn | RuleKind::SubjectCn),
            Self::Sid { .. } | Self::Strings { .. } | Self::UserCertificate | Self::NameMatch { .. } => true,
        }
    }

    /// Whether a certificate whose account the directory does not have is refused, whatever other rules say: the certificate, or
    /// an administrator's row for it, names exactly that account.
    pub(super) fn names_one_account(&self) -> bool {
        matches!(self, Self::UpnWithSid { .. } | Self::Sid { .. } | Self::Static { .. })
    }

    /// How much it proves unless the certificate makes it less.
    pub(super) fn strength(&self) -> Strength {
        if matches!(self, Self::Weak { .. }) { Strength::Weak } else { Strength::Strong }
    }

    /// Reads the certificate; an error is the rule's outcome.
    pub(super) fn read(&self, presented: &Presented<'_>) -> Result<Reading, Outcome> {
        let claims = presented.claims;
        match self {
            Self::UpnWithSid { uri_issuers } => upn_with_sid(claims, presented.issued_by(uri_issuers)),
            Self::Sid { uri_issuers } => {
                let sid = believed_sid(claims, presented.issued_by(uri_issuers))?;
                Ok(Reading::found(vec![("SID", sid.to_string())], Strength::Strong, Sought::Sid(sid.clone())))
            }
            Self::Strings { forms } => by_strings(claims, forms, Strength::Strong),
            Self::UserCertificate => {
                let computed = vec![("certificate SHA-256", claims.certificate().to_string())];
                Ok(Reading::found(computed, Strength::Strong, Sought::Certificate(presented.leaf.to_vec())))
            }
            Self::Static { entries } => match entries.get(&claims.certificate().0) {
                Some(entry) => by_row(entry, claims),
                None => Err(lacks("no row for this certificate")),
            },
            Self::NameMatch { by_issuer } => match presented.issuer_key.and_then(|key| by_issuer.get(&key)) {
                Some(tuple) => by_policy(tuple, claims),
                None => Err(lacks("its issuer is not in the policy")),
            },
            Self::Weak { by, suffixes } => match presented.issuer_key.and_then(|key| suffixes.get(&key)) {
                Some(allowed) => weakly(*by, claims, allowed),
                None => Err(lacks("its issuer is not named in the rule")),
            },
        }
    }
}

impl Reading {
    /// An account that only the directory can name.
    fn found(computed: Vec<(&'static str, String)>, strength: Strength, sought: Sought) -> Self {
        Self { computed, name: None, expected_sid: ExpectedSid::PinOnFirstUse, strength, sought, domains: None }
    }

    /// A UPN, which the KDC resolves for itself: what it and the directory say is then compared by SID.
    fn by_upn(label: &'static str, upn: &Upn, claims: &Claims, strength: Strength) -> Self {
        Self {
            computed: vec![(label, upn.to_string())],
            name: Some(RequestedName::Enterprise(upn.normalized().into())),
            // A SID that the certificate names, believed or not, narrows the name: the account must have it.
            expected_sid: claims.any_sid().map_or(ExpectedSid::PinOnFirstUse, |sid| ExpectedSid::Is(sid.clone())),
            strength,
            sought: Sought::Upn { upn: upn.normalized().to_owned(), sid: None },
            domains: None,
        }
    }
}

/// Not for this rule, and why.
fn lacks(why: impl Into<String>) -> Outcome {
    Outcome::Lacks(Failure::new(Cause::NoMapping, why))
}

fn suffix_refused(suffix: &str) -> Outcome {
    Outcome::Lacks(Failure::new(Cause::SuffixNotAllowed, format!("suffix {suffix} is not allowed for its issuer")))
}

fn malformed(why: impl Into<String>) -> Outcome {
    Outcome::Refused(Failure::new(Cause::CertificateMalformed, why))
}

/// The SID extension; else the SAN URI of an issuer whose URIs are believed (MS-PKCA 3.1.5.2.1.6).
fn believed_sid(claims: &Claims, uri_believed: bool) -> Result<&Sid, Outcome> {
    match (claims.extension_sid(), claims.uri_sid()) {
        (Some(sid), _) => Ok(sid),
        (None, Some(sid)) if uri_believed => Ok(sid),
        (None, Some(_)) => Err(lacks("its SID is only in a SAN URI, and its issuer is not in san_uri_sid_issuers")),
        (None, None) => Err(lacks("no SID in the certificate")),
    }
}

/// The name is the UPN's; the SID proves it (MS-PKCA 3.1.5.2.1.5).
fn upn_with_sid(claims: &Claims, uri_believed: bool) -> Result<Reading, Outcome> {
    let upn = claims.upn().ok_or_else(|| lacks("no user principal name in the certificate"))?;
    let sid = believed_sid(claims, uri_believed)?;
    let mut reading = Reading::by_upn("UPN", upn, claims, Strength::Strong);
    reading.computed.push(("SID", sid.to_string()));
    reading.sought = Sought::Upn { upn: upn.normalized().to_owned(), sid: Some(sid.clone()) };
    Ok(reading)
}

/// The name is the row's. A SID that the certificate names is never ignored: it must be the row's, or it is what is expected.
fn by_row(entry: &StaticEntry, claims: &Claims) -> Result<Reading, Outcome> {
    let sid = match (&entry.expected_sid, claims.any_sid()) {
        (ExpectedSid::Is(row), Some(own)) if row != own => {
            let detail = format!("the static row says {row}, the certificate {own}");
            return Err(Outcome::Refused(Failure::new(Cause::SidConflict, detail)));
        }
        (ExpectedSid::Is(sid), _) | (ExpectedSid::PinOnFirstUse, Some(sid)) => Some(sid.clone()),
        (ExpectedSid::PinOnFirstUse, None) => None,
    };
    let proved = matches!(entry.expected_sid, ExpectedSid::Is(_)) || claims.extension_sid().is_some();
    let mut computed = vec![("row", entry.name.to_string())];
    computed.extend(sid.as_ref().map(|sid| ("SID", sid.to_string())));
    let sought = match &entry.name {
        RequestedName::Enterprise(upn) => Sought::Upn { upn: upn.to_string(), sid: sid.clone() },
        RequestedName::Account { name, realm } => {
            Sought::Account { name: name.to_string(), realm: realm.clone(), sid: sid.clone() }
        }
    };
    Ok(Reading {
        computed,
        name: Some(entry.name.clone()),
        expected_sid: sid.map_or(ExpectedSid::PinOnFirstUse, ExpectedSid::Is),
        strength: if proved { Strength::Strong } else { Strength::Weak },
        sought,
        domains: None,
    })
}

/// The strings of these forms that the certificate has. One that has two readings refuses the certificate.
fn by_strings(claims: &Claims, forms: &[Form], strength: Strength) -> Result<Reading, Outcome> {
    let (mut strings, mut absent): (Vec<Computed>, Vec<&str>) = (Vec::new(), Vec::new());
    for form in forms {
        match alt_security::candidates(claims, *form) {
            Ok(candidates) => strings.extend(candidates),
            Err(Missing::Absent(why)) => absent.push(why),
            Err(Missing::Refused(why)) => return Err(malformed(why)),
        }
    }
    if strings.is_empty() {
        return Err(lacks(absent.join(", ")));
    }
    let computed = strings.iter().map(|string| (string.form.name(), string.value.clone())).collect();
    Ok(Reading::found(computed, strength, Sought::Strings(strings)))
}

/// A name that an administrator's policy vouches for: the UPN where its suffix is listed, else issuer and subject.
fn by_policy(tuple: &NameMatch, claims: &Claims) -> Result<Reading, Outcome> {
    if !tuple.covers(claims.policies()) {
        return Err(lacks("it asserts none of the policies that its issuer's line of the policy names"));
    }
    match claims.upn() {
        Some(upn) if tuple.upn_suffixes.iter().any(|suffix| suffix == upn.suffix()) => {
            Ok(Reading::by_upn("UPN", upn, claims, Strength::Strong))
        }
        _ if tuple.issuer_subject => by_strings(claims, &[Form::IssuerSubject], Strength::Strong),
        Some(upn) => Err(suffix_refused(upn.suffix())),
        None => Err(lacks("no user principal name in the certificate")),
    }
}

/// A name alone, on its issuer's word, for what the issuer may speak for.
fn weakly(by: RuleKind, claims: &Claims, allowed: &[String]) -> Result<Reading, Outcome> {
    let suffix = |suffix: &str| {
        let suffix = suffix.to_ascii_lowercase();
        if allowed.contains(&suffix) { Ok(()) } else { Err(suffix_refused(&suffix)) }
    };
    match by {
        RuleKind::Rfc822 => {
            let reading = by_strings(claims, &[Form::Rfc822], Strength::Weak)?;
            let address = claims.rfc822_names().first().ok_or_else(|| lacks("no e-mail address in the certificate"))?;
            suffix(address.rsplit_once('@').map_or("", |(_, domain)| domain))?;
            let Sought::Strings(strings) = reading.sought else { return Err(lacks("no e-mail address in the certificate")) };
            Ok(Reading { sought: Sought::Mail { address: address.clone(), strings }, ..reading })
        }
        RuleKind::IssuerSubject | RuleKind::Subject => {
            let form = if by == RuleKind::Subject { Form::Subject } else { Form::IssuerSubject };
            let reading = by_strings(claims, &[form], Strength::Weak)?;
            Ok(Reading { domains: Some(allowed.to_vec()), ..reading })
        }
        RuleKind::DnsName => {
            let name = match claims.dns_names() {
                [] => return Err(lacks("no DNS name in the certificate")),
                [name] => name.to_ascii_lowercase(),
                _ => return Err(malformed("the certificate has several DNS names")),
            };
            let (host, domain) = name.split_once('.').ok_or_else(|| lacks("the DNS name has no domain"))?;
            if !name.split('.').all(is_label) {
                return Err(malformed("the DNS name is not host.domain"));
            }
            suffix(domain)?;
            let sought = Sought::Computer { host: host.to_owned(), domain: domain.to_owned() };
            Ok(Reading::found(vec![("DNS name", name.clone())], Strength::Weak, sought))
        }
        RuleKind::SubjectCn => {
            let name = claims.common_name().map_err(lacks)?;
            let upn = Upn::parse(name).map_err(|why| lacks(format!("the common name {why}")))?;
            suffix(upn.suffix())?;
            Ok(Reading::by_upn("common name", &upn, claims, Strength::Weak))
        }
        _ => {
            let upn = claims.upn().ok_or_else(|| lacks("no user principal name in the certificate"))?;
            suffix(upn.suffix())?;
            Ok(Reading::by_upn("UPN", upn, claims, Strength::Weak))
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// Strong forms; none named: all of them.
fn strings(forms: &[Form]) -> Result<Basis, LoadError> {
    if let Some(weak) = forms.iter().find(|form| !form.is_strong()) {
        let name = weak.name();
        let problem = format!("form {name} is weak");
        let remedy = format!("use rule {name:?}, which names its issuers and their suffixes");
        return Err(LoadError::new(Path::new("alt-security-identities"), problem, remedy));
    }
    Ok(Basis::Strings { forms: if forms.is_empty() { Form::STRONG.to_vec() } else { forms.to_vec() } })
}

fn load_weak(issuers: &[WeakIssuer]) -> Result<HashMap<KeyFingerprint, Vec<String>>, LoadError> {
    let mut suffixes = HashMap::new();
    for issuer in issuers {
        let allowed = issuer.allowed_suffixes.iter().map(|suffix| suffix.to_ascii_lowercase()).collect();
        if suffixes.insert(issuing_key(&issuer.certificate)?, allowed).is_some() {
            let problem = "has the same key as another issuer of this rule";
            return Err(LoadError::new(&issuer.certificate, problem, "name each issuer once, with all its suffixes"));
        }
    }
    Ok(suffixes)
}

/// The policy names CAs by the SHA-1 of a certificate; the certificates themselves say which keys those are.
fn load_policy(file: &Path, issuers: &[PathBuf]) -> Result<Basis, LoadError> {
    let remedy = "write it as the Windows policy has it: thumbprint; policy OIDs; UpnSuffix=…, IssuerSubject";
    let text = String::from_utf8(read_bounded(file, MAX_POLICY_FILE)?)
        .map_err(|_| LoadError::new(file, "is not text in UTF-8", remedy))?;
    let policy = NameMatchPolicy::parse(&text).map_err(|error| LoadError::new(file, error.to_string(), remedy))?;
    let (mut by_issuer, mut named) = (HashMap::new(), HashSet::new());
    for path in issuers {
        let key = issuing_key(path)?;
        let chain = read_certificate_chain(path)?;
        let digest: [u8; 20] = Sha1::digest(chain.first().map(AsRef::as_ref).unwrap_or_default()).into();
        let Some(tuple) = policy.of_issuer(&digest) else {
            let problem = format!("is in no line of {}", file.display());
            return Err(LoadError::new(path, problem, "add its thumbprint to the policy, or remove it from issuers"));
        };
        named.insert(digest);
        if by_issuer.insert(key, tuple.clone()).is_some_and(|earlier| earlier != *tuple) {
            let problem = "has the same key as another issuer of the policy, and another line";
            return Err(LoadError::new(path, problem, "make one line of the two"));
        }
    }
    match policy.tuples().iter().find(|tuple| !named.contains(&tuple.issuer)) {
        Some(tuple) => {
            let problem = format!("line {}: the certificate of that CA is not given", tuple.line);
            Err(LoadError::new(file, problem, "add it to the rule's issuers"))
        }
        None => Ok(Basis::NameMatch { by_issuer }),
    }
}
