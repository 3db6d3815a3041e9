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
mod client;
mod config;
mod credentials;
mod crl;
mod sessions;
mod trust;
mod verifier;

pub use acceptor::{Acceptor, HandshakeRefused};
pub use client::ClientCertificate;
pub use config::{ClientTrustConfig, ListenerConfig, RevocationConfig};
pub use trust::Trust;
