//! The server's certificate and key, trust anchors, intermediates and CRLs.

use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::files;
use super::finding::{Findings, Severity};
use super::revocation;
use crate::config::Config;
use crate::identity::RuleSettings;
use crate::proxy::Transport;
use crate::tls::{ListenerConfig, NtAuth};

pub(super) const DAY: i64 = 24 * 60 * 60;
/// A certificate that ends sooner than this is worth a warning.
const RENEWAL: i64 = 30 * DAY;

const PEM_REMEDY: &str = "a PEM file holds -----BEGIN CERTIFICATE-----; convert DER with: openssl x509 -inform DER";

/// A CA of the configuration, for what else must exist for it.
pub(super) struct Authority {
    pub(super) key: String,
    pub(super) path: PathBuf,
    /// the subject's DER
    pub(super) subject: Vec<u8>,
    pub(super) name: String,
}

pub(super) fn examine(config: &Config, now: i64, findings: &mut Findings) {
    server(&config.listener, now, findings);
    let trust = &config.client_certificates;
    let mut issuers = authorities("client_certificates.trust_anchors", &trust.trust_anchors, now, findings);
    issuers.extend(authorities("client_certificates.intermediates", &trust.intermediates, now, findings));
    revocation::examine(&trust.revocation, &issuers, now, findings);
    for (key, paths) in others(config) {
        authorities(&key, &paths, now, findings);
    }
}

/// Every other file that should hold CAs, by the key that names it.
fn others(config: &Config) -> Vec<(String, Vec<PathBuf>)> {
    let trust = &config.client_certificates;
    let mut lists = vec![
        ("client_certificates.issuing_cas".to_owned(), trust.issuing_cas.clone()),
        ("client_certificates.revocation.fetch_trust_anchors".to_owned(), trust.revocation.fetch_trust_anchors.clone()),
    ];
    if let NtAuth::Files(paths) = &trust.nt_auth {
        lists.push(("client_certificates.nt_auth_files".to_owned(), paths.clone()));
    }
    lists.extend(trust.issuers.iter().map(|issuer| ("client_certificates.issuer".to_owned(), vec![issuer.certificate.clone()])));
    lists
        .extend(config.directory.iter().map(|directory| ("directory.trust_anchors".to_owned(), directory.trust_anchors.clone())));
    for (index, rule) in config.mapping.iter().enumerate() {
        lists.push((format!("mapping[{index}].match.issuers"), rule.selector.issuers.clone()));
        let (key, paths) = match &rule.rule {
            RuleSettings::UpnWithSid { san_uri_sid_issuers } | RuleSettings::Sid { san_uri_sid_issuers } => {
                ("san_uri_sid_issuers", san_uri_sid_issuers.clone())
            }
            RuleSettings::StrongNameMatch { issuers, .. } => ("policy_issuers", issuers.clone()),
            RuleSettings::Upn { issuers }
            | RuleSettings::Rfc822 { issuers }
            | RuleSettings::IssuerSubject { issuers }
            | RuleSettings::Subject { issuers }
            | RuleSettings::DnsName { issuers }
            | RuleSettings::SubjectCn { issuers } => {
                ("issuer", issuers.iter().map(|issuer| issuer.certificate.clone()).collect())
            }
            RuleSettings::AltSecurityIdentities { .. } | RuleSettings::UserCertificate | RuleSettings::Static { .. } => continue,
        };
        lists.push((format!("mapping[{index}].{key}"), paths));
    }
    for (index, backend) in config.backends.iter().enumerate() {
        if let Transport::Tls { trust_anchors } = &backend.transport {
            lists.push((format!("backend[{index}].trust_anchors"), trust_anchors.clone()));
        }
    }
    lists
}

fn server(listener: &ListenerConfig, now: i64, findings: &mut Findings) {
    const KEY: &str = "listener.certificate";
    let chain = certificates(KEY, &listener.certificate, findings);
    let key = private_key(listener, findings);
    let Some(chain) = chain else { return };
    let parsed: Option<Vec<_>> = chain.iter().map(|der| certificate(KEY, &listener.certificate, der, findings)).collect();
    let Some(parsed) = parsed else { return };
    for certificate in &parsed {
        validity(KEY, &listener.certificate, certificate, Severity::Error, now, findings);
    }
    if let Some(leaf) = parsed.first() {
        purpose(&listener.certificate, leaf, findings);
    }
    links(&listener.certificate, &parsed, findings);
    if let Some(key) = key {
        keys_match(listener, chain, key, findings);
    }
}

/// What a device asks of a server's certificate (RFC 5280 section 4.2.1.12, RFC 9525 section 6.3).
fn purpose(path: &Path, leaf: &X509Certificate<'_>, findings: &mut Findings) {
    const KEY: &str = "listener.certificate";
    let shown = path.display();
    if leaf.is_ca() {
        let message = format!("the first certificate in {shown} is a CA's");
        findings.error(KEY, message, "put the server's own certificate first, then its intermediates");
        return;
    }
    if leaf.extended_key_usage().ok().flatten().is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        let message = format!("the certificate in {shown} is not for servers (no serverAuth among its purposes)");
        findings.error(KEY, message, "have it issued from a web server template");
    }
    let names = leaf.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    if !names.is_some_and(|names| names.iter().any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))) {
        let message =
            format!("the certificate in {shown} names no host (no DNS name or address among its subject alternative names)");
        findings.warning(KEY, message, "have it issued with the name that devices use");
    }
}

/// Whether every certificate is followed by its issuer's.
fn links(path: &Path, chain: &[X509Certificate<'_>], findings: &mut Findings) {
    const KEY: &str = "listener.certificate";
    let shown = path.display();
    for pair in chain.windows(2) {
        let [certificate, next] = pair else { continue };
        if certificate.issuer() != next.subject() {
            let message = format!("in {shown}, {} is not followed by its issuer {}", certificate.subject(), certificate.issuer());
            findings.error(KEY, message, "put the certificates in the order of the chain, the server's own first");
        }
    }
    if let [only] = chain
        && only.issuer() != only.subject()
    {
        let message = format!("{shown} holds no intermediate certificate");
        findings.note(KEY, message, format!("good if {} is a root that every device knows; else append it", only.issuer()));
    }
}

fn private_key(listener: &ListenerConfig, findings: &mut Findings) -> Option<PrivateKeyDer<'static>> {
    const KEY: &str = "listener.key";
    let path = &listener.key;
    let pem = Zeroizing::new(files::read(KEY, path, findings)?);
    files::private(KEY, path, findings);
    // The parser's error may quote a line of the file: it is not shown.
    let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) else {
        let encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
        let (message, remedy) = if encrypted {
            ("holds an encrypted key", "decrypt it with: openssl pkey -in FILE -out FILE")
        } else {
            ("holds no PEM private key", "it holds -----BEGIN PRIVATE KEY-----, or convert it with: openssl pkey -inform DER")
        };
        findings.error(KEY, format!("{} {message}", path.display()), remedy);
        return None;
    };
    Some(key)
}

fn keys_match(
    listener: &ListenerConfig,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    findings: &mut Findings,
) {
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(_) => {}
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let message = format!("{} is not the key of {}", listener.key.display(), listener.certificate.display());
            findings.error("listener.key", message, "name the key that the certificate was issued for");
        }
        Err(error) => {
            let message = format!("{} cannot be used with {}: {error}", listener.key.display(), listener.certificate.display());
            findings.error("listener.key", message, "use an RSA key of 2048 bits or more, P-256, P-384, P-521 or Ed25519");
        }
    }
}

fn authorities(key: &str, paths: &[PathBuf], now: i64, findings: &mut Findings) -> Vec<Authority> {
    let each = |(index, path): (usize, &PathBuf)| authority(&format!("{key}[{index}]"), path, now, findings);
    paths.iter().enumerate().flat_map(each).collect()
}

/// Every certificate of a file that should hold CAs.
fn authority(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Vec<Authority> {
    let mut all = Vec::new();
    for der in certificates(key, path, findings).unwrap_or_default() {
        let Some(certificate) = certificate(key, path, &der, findings) else { continue };
        let name = certificate.subject().to_string();
        validity(key, path, &certificate, Severity::Warning, now, findings);
        if !certificate.is_ca() {
            let message = format!("in {}, {name} is not a CA's certificate", path.display());
            findings.error(key, message, "name the certificate of the CA that issues, not one that it issued");
        }
        all.push(Authority {
            key: key.to_owned(),
            path: path.to_owned(),
            subject: certificate.subject().as_raw().to_vec(),
            name,
        });
    }
    all
}

/// The certificates of a PEM file; at least one, or a finding.
fn certificates(key: &str, path: &Path, findings: &mut Findings) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = files::read(key, path, findings)?;
    files::untouched(key, path, findings);
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if chain.is_empty() {
        findings.error(key, format!("{} holds no certificate in valid PEM", path.display()), PEM_REMEDY);
        return None;
    }
    Some(chain)
}

fn certificate<'a>(key: &str, path: &Path, der: &'a CertificateDer<'_>, findings: &mut Findings) -> Option<X509Certificate<'a>> {
    if let Ok((&[], certificate)) = X509Certificate::from_der(der) {
        return Some(certificate);
    }
    findings.error(key, format!("{} holds a malformed certificate", path.display()), "have the CA reissue it");
    None
}

fn validity(key: &str, path: &Path, certificate: &X509Certificate<'_>, expired: Severity, now: i64, findings: &mut Findings) {
    let (start, end) = (certificate.validity().not_before, certificate.validity().not_after);
    let what = format!("{} in {}", certificate.subject(), path.display());
    if end.timestamp() < now {
        findings.add(expired, key, format!("{what} expired on {}", date(end)), "renew it");
    } else if start.timestamp() > now {
        findings.add(expired, key, format!("{what} is valid only from {}", date(start)), "check this host's clock");
    } else if end.timestamp() - now < RENEWAL {
        findings.warning(key, format!("{what} expires within 30 days, on {}", date(end)), "renew it");
    }
}

pub(super) fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}
