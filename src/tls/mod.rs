//! The listener's TLS and the trust in client certificates.
//!
//! ```text
//! TCP -> Acceptor::accept -> TLS stream + ClientCertificate      (verified now, by today's Trust)
//!                         -> HandshakeRefused                    (cause, and what the certificate said of itself)
//! ```
//!
//! A certificate is admitted in two stages. [`Trust::verify`] runs inside the handshake and only looks into memory: path, rules,
//! known revocations. [`Trust::settle`] runs after it and may ask the network whether the certificate is revoked; it is the only maker
//! of [`ClientCertificate`]. A resumed handshake, for which the TLS library asks no verifier, goes through both before the connection
//! is handed out. On a kept connection [`Trust::still_admits`] is asked before every request.
//!
//! ```text
//! authorities  the CAs of the configuration and what their certificates are held to
//! path         those rules over a path that the path builder has verified; key: which keys are accepted
//! refusal      the path builder's errors as lines of the failure table, with their alerts
//! trust        both stages; chain: after the first; client: after the second; admission: for how long it stands
//! oracle       who is asked about revocation
//! acceptor     the handshake; verifier, sessions, credentials: its parts
//! ```

#![forbid(unsafe_code)]

mod acceptor;
mod admission;
mod authorities;
mod chain;
mod client;
mod config;
mod credentials;
mod key;
mod oracle;
mod path;
mod refusal;
mod sessions;
mod trust;
mod verifier;

pub use acceptor::{Acceptor, HandshakeRefused};
pub use admission::Recheck;
pub use chain::VerifiedChain;
pub use client::ClientCertificate;
pub use config::{ClientTrustConfig, IssuerConfig, ListenerConfig, NtAuth, Usage};
pub use credentials::Credentials;
pub use trust::Trust;
pub(crate) use trust::authorities;

#[cfg(test)]
mod tests;
