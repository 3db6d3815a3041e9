//! CRLs in files and directories.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::certificates::{Authority, DAY, date};
use super::files;
use super::finding::Findings;
use crate::revocation::{RevocationConfig, RevocationPolicy};

/// Every CRL must be current, and every CA must have one unless somebody may be asked: revocation fails closed.
pub(super) fn examine(config: &RevocationConfig, issuers: &[Authority], now: i64, findings: &mut Findings) {
    if config.policy == RevocationPolicy::Off {
        return;
    }
    let mut covered = Vec::new();
    let mut complete = true;
    for (index, path) in config.crl_files.iter().enumerate() {
        let key = format!("client_certificates.revocation.crl_files[{index}]");
        match crl_file(&key, path, now, findings) {
            Some(of) => covered.extend(of),
            None => complete = false,
        }
    }
    for (index, path) in config.crl_directories.iter().enumerate() {
        let key = format!("client_certificates.revocation.crl_directories[{index}]");
        match directory(&key, path, findings) {
            Some(files) => covered.extend(files.iter().filter_map(|file| crl_file(&key, file, now, findings)).flatten()),
            None => complete = false,
        }
    }
    let asked = config.ocsp.is_some() || !config.distribution_points.is_empty();
    for issuer in issuers.iter().filter(|issuer| complete && !covered.contains(&issuer.subject)) {
        let message = format!("there is no CRL of {} ({})", issuer.name, issuer.path.display());
        let remedy = "add it to client_certificates.revocation.crl_files: without it no certificate it issued is let in";
        match (asked, config.policy) {
            (true, _) => findings.note(
                &issuer.key,
                message,
                "good if its certificates name a distribution point or responder that may be asked",
            ),
            (false, RevocationPolicy::Prefer) => findings.warning(&issuer.key, message, remedy),
            (false, _) => findings.error(&issuer.key, message, remedy),
        }
    }
}

/// The regular files of a directory, in order of their names.
fn directory(key: &str, path: &Path, findings: &mut Findings) -> Option<Vec<PathBuf>> {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            files::untouched(key, path, findings);
            let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| file.is_file()).collect();
            files.sort();
            Some(files)
        }
        Err(error) => {
            findings.error(
                key,
                format!("{} cannot be read: {error}", path.display()),
                "name a directory that the service's user may list",
            );
            None
        }
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
