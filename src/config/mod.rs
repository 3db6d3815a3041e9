//! One TOML file, every problem at once, every room its own part.

#![forbid(unsafe_code)]

use crate::audit::AuditConfig;
use crate::identity::RuleConfig;
use crate::kerberos::config::KerberosConfig;
use crate::proxy::{BackendConfig, RouteConfig};
use crate::tls::{ClientTrustConfig, ListenerConfig};

/// The whole configuration, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[listener]`
    pub listener: ListenerConfig,
    /// `[client_certificates]`
    pub client_certificates: ClientTrustConfig,
    /// `[kerberos]`
    pub kerberos: KerberosConfig,
    /// `[[mapping]]`, in order
    pub mapping: Vec<RuleConfig>,
    /// `[[backend]]`
    pub backends: Vec<BackendConfig>,
    /// `[[route]]`, longest path first
    pub routes: Vec<RouteConfig>,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// `format`: `text` (default) or `json`
    pub json: bool,
    /// `level`: an env-filter expression (default `info`)
    pub level: Option<String>,
}
