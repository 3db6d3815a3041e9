//! The CAs of the configuration: anchors, intermediates, and what the certificates below each CA are held to.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::{
    Certificate, KeyFingerprint, LoadError, Template, issuing_key, key_usage, name_text, read_certificate_chain,
};
use crate::revocation::{Authority, OwnedAuthority, RevocationPolicy};
use crate::tls::refusal::shown;
use crate::tls::{ClientTrustConfig, IssuerConfig, NtAuth, Usage};

/// CA names in the certificate request, in bytes; the field holds 65535. With more, none are sent and devices choose freely.
const MAX_ISSUER_NAMES: usize = 32 << 10;

/// The CA certificates that paths are built with.
pub(in crate::tls) struct Authorities {
    pub(in crate::tls) anchors: Vec<TrustAnchor<'static>>,
    /// The anchors' certificates, in the same order.
    pub(in crate::tls) anchor_certificates: Vec<CertificateDer<'static>>,
    /// By the contents of their subject's Name.
    pub(in crate::tls) intermediates: HashMap<Box<[u8]>, Vec<CertificateDer<'static>>>,
}

/// What certificates are held to, by the CAs above them.
pub(in crate::tls) struct Rules {
    named: HashMap<KeyFingerprint, IssuerRules>,
    default: IssuerRules,
    /// Keys that may have signed the leaf; none: any.
    pub(in crate::tls) issuing_keys: Option<HashSet<KeyFingerprint>>,
    pub(in crate::tls) nt_auth: NtAuthStore,
}

/// One `[[client_certificates.issuer]]`.
#[derive(Debug)]
pub(in crate::tls) struct IssuerRules {
    pub(in crate::tls) usages: Vec<Usage>,
    /// None: any.
    pub(in crate::tls) templates: HashSet<Template>,
    /// Dotted; none: any.
    pub(in crate::tls) policies: HashSet<String>,
    pub(in crate::tls) revocation: RevocationPolicy,
}

/// The CAs that may speak for accounts of the forest.
pub(in crate::tls) enum NtAuthStore {
    /// Not asked.
    Off,
    /// It should be asked, and was not read.
    Unread,
    /// Key, and contents of the subject's Name.
    Listed(HashSet<(KeyFingerprint, Box<[u8]>)>),
}

impl Authorities {
    /// Reads anchors and intermediates.
    pub(in crate::tls) fn load(config: &ClientTrustConfig) -> Result<Self, LoadError> {
        let (mut anchors, mut anchor_certificates) = (Vec::new(), Vec::new());
        let mut intermediates: HashMap<Box<[u8]>, Vec<CertificateDer<'static>>> = HashMap::new();
        for path in &config.trust_anchors {
            for der in read_certificate_chain(path)? {
                ca(path, &der)?;
                let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| not_a_ca(path, &error.to_string()))?;
                anchors.push(anchor.to_owned());
                anchor_certificates.push(der);
            }
        }
        for path in &config.intermediates {
            for der in read_certificate_chain(path)? {
                let subject = ca(path, &der)?.subject.into();
                intermediates.entry(subject).or_default().push(der);
            }
        }
        Ok(Self { anchors, anchor_certificates, intermediates })
    }

    /// All of them.
    pub(in crate::tls) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.anchor_certificates.iter().chain(self.intermediates.values().flatten())
    }

    /// What revocation may know before it sees a certificate.
    pub(in crate::tls) fn known(&self) -> Vec<OwnedAuthority> {
        let read = self.certificates().filter_map(|der| Certificate::read(der).ok());
        read.filter_map(|certificate| Authority::of(&certificate).ok().map(Authority::to_owned)).collect()
    }

    /// The names devices are told: of the CAs that may issue, or of all where any may.
    pub(in crate::tls) fn names(&self, config: &ClientTrustConfig) -> Result<Vec<DistinguishedName>, LoadError> {
        let mut names = Vec::new();
        if !config.send_ca_names {
            return Ok(names);
        }
        let name = |der: &CertificateDer<'_>| Certificate::read(der).map(|ca| DistinguishedName::in_sequence(ca.subject)).ok();
        if config.issuing_cas.is_empty() {
            names.extend(self.certificates().filter_map(name));
        }
        for path in &config.issuing_cas {
            names.extend(read_certificate_chain(path)?.iter().filter_map(name));
        }
        names.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        names.dedup_by(|one, other| one.as_ref() == other.as_ref());
        if names.iter().map(|name| name.as_ref().len() + 2).sum::<usize>() > MAX_ISSUER_NAMES {
            tracing::warn!(count = names.len(), "too many CA names for a certificate request: none are sent");
            names.clear();
        }
        Ok(names)
    }
}

impl Rules {
    /// Reads the CAs that are named; `nt_auth`: what the directory says, where it is to be asked.
    pub(in crate::tls) fn load(config: &ClientTrustConfig, nt_auth: Option<&[CertificateDer<'_>]>) -> Result<Self, LoadError> {
        let general = config.revocation.policy;
        let default = IssuerRules {
            usages: vec![Usage::ClientAuth],
            templates: HashSet::new(),
            policies: HashSet::new(),
            revocation: general,
        };
        let mut named = HashMap::new();
        for issuer in &config.issuers {
            if named.insert(issuing_key(&issuer.certificate)?, IssuerRules::load(issuer, general)?).is_some() {
                return Err(LoadError::new(
                    &issuer.certificate,
                    "has the same key as another client_certificates.issuer",
                    "name each CA once, with all that its certificates are held to",
                ));
            }
        }
        let mut pinned = HashSet::new();
        for path in &config.issuing_cas {
            for der in read_certificate_chain(path)? {
                pinned.insert(KeyFingerprint::of(ca(path, &der)?.public_key));
            }
        }
        let issuing_keys = (!config.issuing_cas.is_empty()).then_some(pinned);
        Ok(Self { named, default, issuing_keys, nt_auth: NtAuthStore::load(&config.nt_auth, nt_auth)? })
    }

    /// What a certificate is held to that these CAs are above of, the nearest first; and how many of them are below the one that
    /// says so.
    pub(in crate::tls) fn nearest(&self, keys: impl Iterator<Item = KeyFingerprint>) -> (&IssuerRules, Option<usize>) {
        let found = keys.enumerate().find_map(|(depth, key)| Some((self.named.get(&key)?, Some(depth))));
        found.unwrap_or((&self.default, None))
    }
}

impl IssuerRules {
    fn load(config: &IssuerConfig, general: RevocationPolicy) -> Result<Self, LoadError> {
        let wrong = |problem: String, remedy: &str| Err(LoadError::new(&config.certificate, problem, remedy));
        if config.usages.is_empty() {
            return wrong("its issuer entry allows no usage".to_owned(), "name at least client-auth in usages");
        }
        if config.templates.iter().any(|template| template.trim() != template || template.is_empty()) {
            return wrong("its issuer entry has a template without a name".to_owned(), "write the template's name or OID");
        }
        if let Some(policy) = config.policies.iter().find(|policy| !is_oid(policy)) {
            return wrong(format!("its issuer entry has policy {policy:?}, which is no OID"), "write it with dots: 1.3.6.1.4.1…");
        }
        let template = |text: &String| if is_oid(text) { Template::Oid(text.clone()) } else { Template::Name(text.clone()) };
        Ok(Self {
            usages: config.usages.clone(),
            templates: config.templates.iter().map(template).collect(),
            policies: config.policies.iter().cloned().collect(),
            revocation: config.revocation.unwrap_or(general),
        })
    }
}

impl NtAuthStore {
    fn load(config: &NtAuth, directory: Option<&[CertificateDer<'_>]>) -> Result<Self, LoadError> {
        let mut listed = HashSet::new();
        match (config, directory) {
            (NtAuth::Off, _) => return Ok(Self::Off),
            (NtAuth::Directory, None) => return Ok(Self::Unread),
            (NtAuth::Directory, Some(certificates)) => {
                for der in certificates {
                    match Certificate::read(der) {
                        Ok(certificate) => drop(listed.insert(entry(&certificate))),
                        Err(error) => tracing::warn!(%error, "a certificate in the NTAuth store cannot be read and is left out"),
                    }
                }
            }
            (NtAuth::Files(paths), _) => {
                for path in paths {
                    for der in read_certificate_chain(path)? {
                        listed.insert(entry(&ca(path, &der)?));
                    }
                }
            }
        }
        Ok(Self::Listed(listed))
    }
}

fn entry(certificate: &Certificate<'_>) -> (KeyFingerprint, Box<[u8]>) {
    (KeyFingerprint::of(certificate.public_key), certificate.subject.into())
}

/// A certificate of the configuration, which must be a CA's that may sign certificates.
fn ca<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<Certificate<'a>, LoadError> {
    let certificate = Certificate::read(der).map_err(|error| not_a_ca(path, &error.to_string()))?;
    let subject = name_text(certificate.subject);
    if certificate.is_ca() != Ok(true) {
        return Err(not_a_ca(path, &format!("{subject} is not marked as a CA")));
    }
    let usage = certificate.key_usage().map_err(|error| not_a_ca(path, &format!("the key usage of {subject}: {error}")))?;
    if usage.is_some_and(|bits| bits & key_usage::KEY_CERT_SIGN == 0) {
        return Err(not_a_ca(path, &format!("the key usage of {subject} lacks keyCertSign")));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if u64::try_from(certificate.not_after).is_ok_and(|end| end < now) {
        tracing::warn!(file = %path.display(), subject, ended = shown(certificate.not_after), "CA certificate has expired");
    }
    Ok(certificate)
}

fn not_a_ca(path: &Path, why: &str) -> LoadError {
    LoadError::new(
        path,
        format!("is not a usable CA certificate: {why}"),
        "name the certificate of a CA that issues device certificates",
    )
}

/// Numbers with dots, as [`dotted`](crate::certificate::dotted) writes them.
fn is_oid(text: &str) -> bool {
    let number = |arc: &str| {
        let digits = !arc.is_empty() && arc.bytes().all(|octet| octet.is_ascii_digit());
        digits && (arc.len() == 1 || !arc.starts_with('0'))
    };
    text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_identifiers_are_told_from_names() {
        assert!(["1.2", "1.3.6.1.4.1.311.21.8.1234567", "2.5.29.32.0"].into_iter().all(is_oid));
        assert!(["", "1", "User", "1.2.", ".1", "1..2", "1.02", "1.2 ", "1.a"].into_iter().all(|text| !is_oid(text)));
    }
}
