//! The listener's TLS and the trust in client certificates.
//!
//! ```text
//! TCP -> Acceptor::accept -> TLS stream + ClientCertificate      (verified now, by today's Trust)
//!                         -> HandshakeRefused                    (cause, and what the certificate said of itself)
//! ```
//!
//! [`Trust::admit`] is the only maker of [`ClientCertificate`]. The handshake calls it through the verifier; a resumed
//! handshake, for which the TLS library asks no verifier, is admitted by it before the connection is handed out. On a kept
//! connection [`Trust::still_admits`] is asked before every request.

#![forbid(unsafe_code)]

mod acceptor;
mod certificate;
mod client;
mod config;
mod credentials;
mod crl;
mod files;
mod name;
mod sessions;
mod trust;
mod verifier;

pub use acceptor::{Acceptor, HandshakeRefused};
pub(crate) use certificate::Certificate;
#[cfg(test)]
pub(crate) use certificate::tests::unsigned as test_certificate;
pub use client::{CertificateFacts, ClientCertificate, Fingerprint, KeyFingerprint};
pub use config::{ClientTrustConfig, ListenerConfig, RevocationConfig};
pub(crate) use files::issuing_key;
pub use files::{LoadError, read_certificate_chain};
pub use trust::Trust;
