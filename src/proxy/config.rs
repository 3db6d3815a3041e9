//! `[[backend]]` and `[[route]]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::RequestedName;
use crate::policy::Target;

/// One `[[backend]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// `name`, `spn`, `allow_rc4` (default false) and `token` (`spnego` default, `spnego-microsoft`, `kerberos`)
    pub target: Arc<Target>,
    /// `profile`: which server's habits (`generic` default; `exchange-2003`, `exchange-2007`, `exchange-2010`, `iis`)
    pub profile: Profile,
    /// host and port of `url`; the path of `url` must be empty or `/`
    pub authority: Authority,
    /// `transport`
    pub transport: Transport,
    /// `host`: what the Host header says (default: the url's authority as written)
    pub host_header: String,
    /// `channel_binding`: `auto` (default with TLS) or `off`
    pub channel_binding: bool,
    /// `mutual`: `required` (default) or `tolerate-absence`
    pub mutual: Mutual,
    /// `identity_bound`: the server authenticates the connection, so later answers on it carry no AP-REP (default false)
    pub identity_bound: bool,
    /// `connect_timeout` (default 5 s)
    pub connect_timeout: Duration,
    /// `response_timeout`: until the response's header block (default 3600 s: a Ping may be held for 3540 s)
    pub response_timeout: Duration,
    /// `idle_timeout`: kept connections are closed after it (default 60 s; IIS closes at 120 s)
    pub idle_timeout: Duration,
    /// `max_idle_per_principal`: kept connections for one principal (default 4)
    pub max_idle_per_principal: usize,
    /// `max_body_bytes` (default 30 MiB)
    pub max_body_bytes: u64,
    /// `replay_buffer_bytes`: of a body kept to send it again after a first 401 (default 1 MiB in memory)
    pub replay_buffer_bytes: usize,
    /// `max_connections_per_principal`: active and kept connections of one principal (default 32)
    pub max_connections_per_principal: usize,
    /// `max_connections` to this back end (default 4096)
    pub max_connections: usize,
    /// `[backend.self_test]`: devices are served only after this (default: no such test)
    pub self_test: Option<SelfTestConfig>,
}

/// `[backend.self_test]`: two users whom the back end must keep apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestConfig {
    /// `users`: accounts that nobody works with; no one's name (before the @) contains the other's
    pub users: [RequestedName; 2],
    /// `path`: a page of this back end that names the user it was asked by
    pub path: String,
}

/// Host and port of a back end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// host name or IP address
    pub host: String,
    /// port
    pub port: u16,
}

/// Which server's habits are expected. They set defaults only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// no assumptions
    #[default]
    Generic,
    /// any IIS application
    Iis,
    /// Exchange 2003
    Exchange2003,
    /// Exchange 2007
    Exchange2007,
    /// Exchange 2010
    Exchange2010,
}

/// How the back end is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `http`: in the clear; has to be said
    Http,
    /// `tls`: TLS 1.2 or 1.3, verified against `trust_anchors` (PEM files, at least one)
    Tls {
        /// `trust_anchors`
        trust_anchors: Vec<PathBuf>,
    },
}

/// Whether a successful answer must prove the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutual {
    /// a 2xx without AP-REP is refused
    #[default]
    Required,
    /// absence is let pass, a wrong AP-REP never
    TolerateAbsence,
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `host`: exact Host (without port) or absent for any
    pub host: Option<String>,
    /// `path`: prefix on a segment border, compared without regard to ASCII case as IIS does
    pub path: String,
    /// index of the back end named by `backend`
    pub backend: usize,
}
