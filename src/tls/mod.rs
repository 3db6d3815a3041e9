//! The listener's TLS and the trust in client certificates.

#![forbid(unsafe_code)]

mod config;

pub use config::{ClientTrustConfig, ListenerConfig, RevocationConfig};
