//! Certificates in files, and what is said when one cannot be used.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::certificate::Certificate;
use crate::certificate::KeyFingerprint;
use crate::der::tag;
use crate::files::read_regular;

/// A bundle of several hundred CA certificates is smaller.
const MAX_CERTIFICATE_FILE: u64 = 4 << 20;

/// A file that cannot be used: which, why, and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}: {problem}; {remedy}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl LoadError {
    /// Names the file, the problem and the remedy.
    pub fn new(path: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// The whole file, if it is no larger than `limit`.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let cannot = |error: std::io::Error| {
        LoadError::new(path, format!("cannot be read: {error}"), "check the path and the permissions of the service's user")
    };
    read_regular(path, limit).map_err(cannot)
}

/// Every certificate of a file, in order, at least one: PEM, or one in DER. A device's certificate with its chain: leaf first.
pub fn read_certificate_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let remedy = "a PEM certificate starts with -----BEGIN CERTIFICATE-----";
    let bytes = read_bounded(path, MAX_CERTIFICATE_FILE)?;
    if bytes.first() == Some(&tag::SEQUENCE) {
        return Ok(vec![bytes.into()]);
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| LoadError::new(path, format!("is neither a DER certificate nor valid PEM: {error}"), remedy))?;
    if certificates.is_empty() {
        return Err(LoadError::new(path, "holds no certificate", remedy));
    }
    Ok(certificates)
}

/// The key of an issuing CA, from a PEM file with exactly its certificate.
pub(crate) fn issuing_key(path: &Path) -> Result<KeyFingerprint, LoadError> {
    let remedy = "name a file that holds exactly the issuing CA's own certificate";
    let chain = read_certificate_chain(path)?;
    let [der] = chain.as_slice() else {
        return Err(LoadError::new(path, format!("holds {} certificates", chain.len()), remedy));
    };
    let certificate = Certificate::read(der).map_err(|error| LoadError::new(path, error.to_string(), remedy))?;
    if certificate.is_ca() != Ok(true) {
        return Err(LoadError::new(path, "is not the certificate of a CA", remedy));
    }
    Ok(KeyFingerprint::of(certificate.public_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap(), [7; 100]);
        assert!(read_bounded(&path, 99).unwrap_err().to_string().contains("larger than 99 bytes"));
    }
}
