//! One TOML file, every problem at once, every room its own part.
//!
//! ```text
//! text -> toml -> Section (typed, knows the schema) -> Config, or Problems
//! ```

#![forbid(unsafe_code)]

mod build;
mod problem;
mod reference;
pub mod schema;
mod section;
mod suggest;
mod value;

pub use problem::{Complaint, Problem, Problems};
pub use reference::markdown;
pub use value::kdc_address;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::audit::AuditConfig;
use crate::directory::DirectoryConfig;
use crate::files::read_regular;
use crate::identity::{AccountRules, RuleConfig};
use crate::kerberos::config::{KdcAddress, KerberosConfig};
use crate::naming::name::{OwnPrincipal, Spn};
use crate::proxy::{BackendConfig, RouteConfig};
use crate::tls::{ClientTrustConfig, ListenerConfig};
use section::{Reader, line_at};

/// The whole configuration, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[listener]`
    pub listener: ListenerConfig,
    /// `[client_certificates]`
    pub client_certificates: ClientTrustConfig,
    /// `[kerberos]`
    pub kerberos: KerberosConfig,
    /// `[directory]`; none: no LDAP
    pub directory: Option<DirectoryConfig>,
    /// `[directory]`: conditions on accounts, and how long they are believed
    pub accounts: AccountRules,
    /// `[metrics]`; none: none are written
    pub metrics: Option<MetricsConfig>,
    /// `[[mapping]]`, in order
    pub mapping: Vec<RuleConfig>,
    /// `[[backend]]`
    pub backends: Vec<BackendConfig>,
    /// `[[route]]`, longest path first, then those with a host
    pub routes: Vec<RouteConfig>,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `file`
    pub file: PathBuf,
    /// `interval` (default 15 s)
    pub interval: Duration,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// `format`: `text` (default) or `json`
    pub json: bool,
    /// `level`: an env-filter expression (default `info`), already found valid
    pub level: Option<String>,
}

/// Where the configuration is looked for unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/kcd-bridge/kcd-bridge.toml";

/// A configuration file longer than this is some other file.
const LONGEST_FILE: u64 = 16 << 20;

/// Syntax errors shown.
const MOST_SYNTAX_ERRORS: usize = 8;

/// Reads a configuration file. Paths in it are relative to its directory. Nothing but this one file is opened.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let source = path.display().to_string();
    let unreadable = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "name the file with --config",
            io::ErrorKind::PermissionDenied => "run as the service's user, or let it read the file",
            _ => "see the cause",
        };
        let problem =
            Problem { key: String::new(), line: None, message: format!("cannot be read: {error}"), remedy: remedy.into() };
        Problems { source: source.clone(), list: vec![problem], readable: false }
    };
    let absolute = std::path::absolute(path).map_err(|error| unreadable(&error))?;
    let bytes = read_regular(&absolute, LONGEST_FILE).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        let (message, remedy) = ("this is not UTF-8 text".to_owned(), "save the file as UTF-8".to_owned());
        let problem = Problem { key: String::new(), line: Some(line), message, remedy };
        Problems { source: source.clone(), list: vec![problem], readable: true }
    })?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    parse(&text, base).map_err(|problems| Problems { source, ..problems })
}

/// Reads configuration text; relative paths are taken from `base`. Opens no file and reads no environment.
pub fn parse(text: &str, base: &Path) -> Result<Config, Problems> {
    let problems = |list| Problems { source: "configuration".to_owned(), list, readable: true };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be read of a file that is not TOML says nothing: only the syntax is reported.
        // Beyond a few, one slip is the cause of many, or the file is something else altogether.
        return Err(problems(errors.iter().take(MOST_SYNTAX_ERRORS).map(|error| syntax_problem(text, error)).collect()));
    }
    let reader = Reader::new(text, base);
    let config = build::config(&reader.root(&table));
    match (config, reader.into_problems()) {
        (Some(config), list) if list.is_empty() => Ok(config),
        (None, list) if list.is_empty() => {
            let (message, remedy) =
                ("the file is incomplete".to_owned(), "compare it with the reference configuration".to_owned());
            Err(problems(vec![Problem { key: String::new(), line: None, message, remedy }]))
        }
        (_, list) => Err(problems(list)),
    }
}

/// What a configuration with one account and one back end would say, everything else at its default: for a diagnosis that was given
/// no configuration. Its listener and trust are placeholders and must not be used.
pub fn for_diagnosis(
    account: &OwnPrincipal,
    keytab: &Path,
    kdcs: &[KdcAddress],
    spn: &Spn,
    url: Option<&str>,
) -> Result<Config, Problems> {
    let host = |kdc: &KdcAddress| if kdc.host.contains(':') { format!("[{}]", kdc.host) } else { kdc.host.clone() };
    let kdcs: Vec<toml::Value> = kdcs.iter().map(|kdc| format!("{}:{}", host(kdc), kdc.port).into()).collect();
    let url = url.map_or_else(|| format!("http://{}", spn.host()), str::to_owned);
    let mut kerberos = toml::toml! { soft_age = "15m" };
    kerberos.insert("principal".into(), account.to_string().into());
    kerberos.insert("keytab".into(), keytab.display().to_string().into());
    if !kdcs.is_empty() {
        kerberos.insert("kdcs".into(), kdcs.into());
    }
    let mut backend = toml::toml! {
        name = "diagnosis"
        transport = "http"
        allow_rc4 = true
    };
    backend.insert("url".into(), url.into());
    backend.insert("spn".into(), spn.to_string().into());
    let mut whole = toml::toml! {
        [listener]
        address = "127.0.0.1:0"
        certificate = "/nonexistent"
        key = "/nonexistent"
        [client_certificates]
        trust_anchors = ["/nonexistent"]
        revocation = { policy = "off" }
        [[mapping]]
        rule = "upn-with-sid"
        [[route]]
        path = "/"
        backend = "diagnosis"
    };
    whole.insert("kerberos".into(), kerberos.into());
    whole.insert("backend".into(), toml::Value::Array(vec![backend.into()]));
    parse(&whole.to_string(), Path::new("/"))
}

/// Line, column and what is wrong with the syntax, without the line itself: it may hold anything.
fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let offset = error.span().map(|span| span.start);
    let column =
        offset.and_then(|offset| text.get(..offset)).map(|before| before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    let place = column.map_or_else(String::new, |column| format!("column {column}: "));
    Problem {
        key: String::new(),
        line: offset.map(|offset| line_at(text, offset)),
        message: format!("{place}{}", error.message().replace('\n', ", ")),
        remedy: "this is not TOML".to_owned(),
    }
}
