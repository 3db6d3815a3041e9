//! `client_certificates.revocation`

use std::path::PathBuf;
use std::time::Duration;

/// How revoked certificates are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationConfig {
    /// `policy`: what certificates are held to whose issuer says nothing else
    pub policy: RevocationPolicy,
    /// `crl_files`: PEM or DER, read again when they change
    pub crl_files: Vec<PathBuf>,
    /// `crl_directories`: every file in them, read again when one changes
    pub crl_directories: Vec<PathBuf>,
    /// `scan_interval`: how often files and directories are looked at (default 10 s)
    pub scan_interval: Duration,
    /// `distribution_points`: prefixes of URLs that may be fetched (`http://`, `https://`, `ldap:///`); none: nothing is fetched
    pub distribution_points: Vec<String>,
    /// `fetch_trust_anchors`: PEM files, for https URLs
    pub fetch_trust_anchors: Vec<PathBuf>,
    /// `fetch_timeout`: one CRL (default 10 s)
    pub fetch_timeout: Duration,
    /// `max_crl_bytes` (default 64 MiB)
    pub max_crl_bytes: u64,
    /// `grace`: how long after nextUpdate a CRL is still believed (default 0)
    pub grace: Duration,
    /// `order`: what is asked first (default `ocsp-first`)
    pub order: RevocationOrder,
    /// `ocsp`; none: no responder is asked
    pub ocsp: Option<OcspConfig>,
}

/// What happens where nothing says whether a certificate is revoked. *Revoked* and *badly signed* refuse under each but `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RevocationPolicy {
    /// It is refused.
    #[default]
    Require,
    /// It is let in, logged and counted (weak).
    Prefer,
    /// Nothing is asked (weak).
    Off,
}

/// What is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationOrder {
    /// OCSP, then CRLs where no responder vouches.
    #[default]
    OcspFirst,
    /// CRLs, then OCSP where no CRL covers.
    CrlFirst,
}

/// `client_certificates.revocation.ocsp`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspConfig {
    /// `responders`: prefixes of responder URLs in certificates that may be asked
    pub responders: Vec<String>,
    /// `url`: asked for every certificate, whatever it says itself
    pub url: Option<String>,
    /// `timeout` (default 3 s)
    pub timeout: Duration,
    /// `nonce`: send one, and refuse an answer with another (default false)
    pub nonce: bool,
    /// `max_age`: how long an answer is believed at most (default 1 h)
    pub max_age: Duration,
}
