//! `[directory]`

use std::path::PathBuf;
use std::time::Duration;

/// How the directory is reached and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// `servers` (in order), or `domain` for DNS SRV
    pub source: DirectorySource,
    /// `global_catalog`: ask a global catalogue first, so that the answer is unique in the whole forest (default true)
    pub global_catalog: bool,
    /// `trust_anchors`: PEM files; what the servers' certificates must chain to
    pub trust_anchors: Vec<PathBuf>,
    /// `bind_user`: name for a simple bind (UPN or DN)
    pub bind_user: String,
    /// `bind_password_file`: its password, first line
    pub bind_password_file: PathBuf,
    /// `base`: where accounts are searched; none: the server's defaultNamingContext
    pub base: Option<String>,
    /// `connections`: per server at most (default 4)
    pub connections: usize,
    /// `connect_timeout` (default 3 s)
    pub connect_timeout: Duration,
    /// `operation_timeout`: one question to one server (default 3 s)
    pub operation_timeout: Duration,
}

/// Where servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectorySource {
    /// In this order.
    Servers(Vec<DirectoryServer>),
    /// `_ldap._tcp.dc._msdcs.DOMAIN` and `_gc._tcp.DOMAIN`, asked by LDAPS.
    Domain(String),
}

/// One server: `ldaps://host[:port]` or `ldap://host[:port]` (then StartTLS).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryServer {
    /// Host name or address; the certificate must be for it.
    pub host: String,
    /// Port of the domain controller (636 or 389 unless written).
    pub port: u16,
    /// How TLS begins.
    pub security: DirectorySecurity,
}

/// How TLS begins; there is no clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectorySecurity {
    /// TLS from the first byte.
    Ldaps,
    /// StartTLS (RFC 4511 section 4.14) before anything else.
    StartTls,
}
