//! The server's certificate and key, trust anchors, intermediates and CRLs.

use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::files;
use super::finding::{Findings, Severity};
use crate::config::Config;
use crate::identity::RuleSettings;
use crate::proxy::Transport;
use crate::revocation::{RevocationConfig, RevocationPolicy};
use crate::tls::ListenerConfig;

const DAY: i64 = 24 * 60 * 60;
/// A certificate that ends sooner than this is worth a warning.
const RENEWAL: i64 = 30 * DAY;

const PEM_REMEDY: &str = "a PEM file holds -----BEGIN CERTIFICATE-----; convert DER with: openssl x509 -inform DER";

/// A CA of the configuration, for what else must exist for it.
struct Authority {
    key: String,
    path: PathBuf,
    /// the subject's DER
    subject: Vec<u8>,
    name: String,
}

pub(super) fn examine(config: &Config, now: i64, findings: &mut Findings) {
    server(&config.listener, now, findings);
    let trust = &config.client_certificates;
    let mut issuers = authorities("client_certificates.trust_anchors", &trust.trust_anchors, now, findings);
    issuers.extend(authorities("client_certificates.intermediates", &trust.intermediates, now, findings));
    if trust.revocation.policy != RevocationPolicy::Off {
        crls(&trust.revocation, &issuers, now, findings);
    }
    for (index, rule) in config.mapping.iter().enumerate() {
        match &rule.rule {
            RuleSettings::UpnWithSid { san_uri_sid_issuers } => {
                authorities(&format!("mapping[{index}].san_uri_sid_issuers"), san_uri_sid_issuers, now, findings);
            }
            RuleSettings::Upn { issuers } => {
                for (number, issuer) in issuers.iter().enumerate() {
                    authority(&format!("mapping[{index}].issuer[{number}].certificate"), &issuer.certificate, now, findings);
                }
            }
            _ => {}
        }
    }
    for (index, backend) in config.backends.iter().enumerate() {
        if let Transport::Tls { trust_anchors } = &backend.transport {
            authorities(&format!("backend[{index}].trust_anchors"), trust_anchors, now, findings);
        }
    }
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

/// Every CRL must be current, and where there is nobody else to ask every CA must have one: revocation fails closed.
fn crls(revocation: &RevocationConfig, issuers: &[Authority], now: i64, findings: &mut Findings) {
    let files_only =
        revocation.crl_directories.is_empty() && revocation.distribution_points.is_empty() && revocation.ocsp.is_none();
    let mut covered = Vec::new();
    let mut complete = files_only && revocation.policy == RevocationPolicy::Require;
    for (index, path) in revocation.crl_files.iter().enumerate() {
        let key = format!("client_certificates.revocation.crl_files[{index}]");
        match crl_file(&key, path, now, findings) {
            Some(of) => covered.extend(of),
            None => complete = false,
        }
    }
    for issuer in issuers.iter().filter(|issuer| complete && !covered.contains(&issuer.subject)) {
        let message = format!("there is no CRL of {} ({})", issuer.name, issuer.path.display());
        findings.error(
            &issuer.key,
            message,
            "add it to client_certificates.revocation.crl_files: without it no certificate it issued is let in",
        );
    }
}

/// The issuers whose CRLs are in this file.
fn crl_file(key: &str, path: &Path, now: i64, findings: &mut Findings) -> Option<Vec<Vec<u8>>> {
    const REMEDY: &str = "a CRL is DER, or PEM with -----BEGIN X509 CRL-----";
    let bytes = files::read(key, path, findings)?;
    files::untouched(key, path, findings);
    let shown = path.display();
    // A DER SEQUENCE; PEM is text.
    let ders: Vec<_> = if bytes.first() == Some(&0x30) {
        vec![CertificateRevocationListDer::from(bytes)]
    } else {
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().unwrap_or_default()
    };
    if ders.is_empty() {
        findings.error(key, format!("{shown} holds no CRL in valid DER or PEM"), REMEDY);
        return None;
    }
    let mut of = Vec::new();
    for der in &ders {
        let Ok((rest, crl)) = CertificateRevocationList::from_der(der) else {
            findings.error(key, format!("{shown} holds a malformed CRL"), REMEDY);
            return None;
        };
        if !rest.is_empty() {
            findings.error(key, format!("{shown} holds something after its CRL"), REMEDY);
        }
        currency(key, path, &crl, now, findings);
        of.push(crl.issuer().as_raw().to_vec());
    }
    Some(of)
}

fn currency(key: &str, path: &Path, crl: &CertificateRevocationList<'_>, now: i64, findings: &mut Findings) {
    let (shown, issuer) = (path.display(), crl.issuer());
    let remedy = "publish and install a current CRL; revocation fails closed";
    if crl.last_update().timestamp() > now {
        let message = format!("the CRL of {issuer} in {shown} is valid only from {}", date(crl.last_update()));
        findings.error(key, message, "check this host's clock");
    }
    match crl.next_update() {
        None => findings.error(key, format!("the CRL of {issuer} in {shown} does not say until when it is valid"), remedy),
        Some(end) if end.timestamp() <= now => {
            findings.error(key, format!("the CRL of {issuer} in {shown} expired on {}", date(end)), remedy);
        }
        Some(end) if end.timestamp() - now < DAY => {
            let message = format!("the CRL of {issuer} in {shown} expires within a day, on {}", date(end));
            findings.warning(key, message, remedy);
        }
        Some(_) => {}
    }
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

fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}
