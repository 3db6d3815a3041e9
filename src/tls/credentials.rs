//! The listener's own certificate and key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{self, PemObject as _};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, LoadError, read_bounded, read_certificate_chain};
use crate::tls::ListenerConfig;

const MAX_KEY_FILE: u64 = 64 << 10;

/// The listener's certificate chain and private key.
#[derive(Clone)]
pub struct Credentials(pub(in crate::tls) Arc<CertifiedKey>);

impl Credentials {
    /// Reads chain and key and makes sure that they belong together.
    pub fn load(listener: &ListenerConfig) -> Result<Self, LoadError> {
        load(&listener.certificate, &listener.key, &aws_lc_rs::default_provider()).map(Self)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificates", &self.0.cert.len()).finish_non_exhaustive()
    }
}

fn load(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, LoadError> {
    let chain = read_certificate_chain(certificate)?;
    let pem = Zeroizing::new(read_bounded(key, MAX_KEY_FILE)?);
    let remedy = "name an unencrypted PEM private key (PKCS#8, PKCS#1 or SEC 1): openssl pkey -in KEY -out server.key";
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => LoadError::new(key, "holds no unencrypted PEM private key", remedy),
        other => LoadError::new(key, format!("is not valid PEM: {other}"), remedy),
    })?;
    let signer = provider.key_provider.load_private_key(secret).map_err(|error| {
        LoadError::new(
            key,
            format!("cannot be used as a private key: {error}"),
            "use RSA of 2048 bits or more, ECDSA P-256/P-384/P-521 or Ed25519",
        )
    })?;
    let matching =
        chain.iter().position(|candidate| CertifiedKey::new(vec![candidate.clone()], Arc::clone(&signer)).keys_match().is_ok());
    match matching {
        Some(0) => {}
        Some(_) => {
            return Err(LoadError::new(
                certificate,
                "does not start with the server's own certificate",
                "put the leaf first, then its intermediates",
            ));
        }
        None => {
            let problem = format!("does not belong to the key in {}", key.display());
            return Err(LoadError::new(certificate, problem, "name the certificate that was issued for this key"));
        }
    }
    if let Some(leaf) = chain.first()
        && let Err(error) = Certificate::read(leaf)
    {
        return Err(LoadError::new(certificate, error.to_string(), "have the certificate reissued"));
    }
    Ok(Arc::new(CertifiedKey::new(chain, signer)))
}
