//! What the listener and the trust in client certificates are configured with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[listener]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// `address`
    pub address: SocketAddr,
    /// `certificate`: PEM chain, leaf first
    pub certificate: PathBuf,
    /// `key`: PEM private key
    pub key: PathBuf,
    /// `handshake_timeout` (default 10 s)
    pub handshake_timeout: Duration,
    /// `header_timeout`: time for a request's header block once its first byte came (default 30 s)
    pub header_timeout: Duration,
    /// `idle_timeout`: time between requests on a kept connection (default 120 s)
    pub idle_timeout: Duration,
    /// `max_connections` (default 16384)
    pub max_connections: usize,
    /// `max_header_bytes`: request line and headers (default 65536)
    pub max_header_bytes: usize,
    /// `drain_timeout`: how long a stop waits for requests in flight (default 10 s)
    pub drain_timeout: Duration,
}

/// `[client_certificates]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTrustConfig {
    /// `trust_anchors`: PEM files
    pub trust_anchors: Vec<PathBuf>,
    /// `intermediates`: PEM files, for devices that send only their leaf
    pub intermediates: Vec<PathBuf>,
    /// `revocation`
    pub revocation: RevocationConfig,
}

/// `client_certificates.revocation`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationConfig {
    /// `policy = "off"`: has to be said, logged at start
    Off,
    /// `policy = "require"`: every certificate of the chain needs a current CRL from these files (PEM or DER)
    Require {
        /// `crl_files`
        crl_files: Vec<PathBuf>,
    },
}
