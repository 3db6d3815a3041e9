//! From sections to every room's own configuration. Each function reads all its keys before it gives up on one, so that every
//! problem is found in one go; `None` means that a problem was recorded.

mod backend;
mod directory;
mod front;
mod kerberos;
mod mapping;

use tracing_subscriber::EnvFilter;

use crate::audit::AuditConfig;
use crate::config::problem::{Complaint, quote};
use crate::config::section::Section;
use crate::config::{Config, LogConfig, MetricsConfig};

/// The whole file.
pub(super) fn config(root: &Section<'_>) -> Option<Config> {
    let listener = root.table("listener").and_then(|section| front::listener(&section));
    let client_certificates = root.table("client_certificates").and_then(|section| front::client_certificates(&section));
    let server = root.table("server").and_then(|section| section.path("runtime_directory"));
    let kerberos = root.table("kerberos").and_then(|section| kerberos::config(&section, server));
    let directory_section = root.table("directory");
    let directory = root.has("directory").then(|| directory_section.as_ref().and_then(directory::config));
    let metrics = root.has("metrics").then(|| root.table("metrics").and_then(|section| metrics(&section)));
    let mapping = mapping::rules(&root.tables("mapping"), kerberos.as_ref(), directory.is_some());
    let accounts = directory_section.as_ref().and_then(directory::account_rules);
    let backend_sections = root.tables("backend");
    let backends = backend::backends(&backend_sections, kerberos.as_ref());
    let routes = backend::routes(&root.tables("route"), &backends.names);
    if let Some((backends, routes)) = backends.configs.as_deref().zip(routes.as_deref()) {
        backend::self_tests(&backend_sections, backends, routes);
    }
    let audit = root.table("audit").map(|section| AuditConfig { file: section.path("file") });
    let log = root.table("log").and_then(|section| log(&section));
    Some(Config {
        listener: listener?,
        client_certificates: client_certificates?,
        kerberos: kerberos?,
        directory: directory.map_or(Some(None), |directory| directory.map(Some))?,
        metrics: metrics.map_or(Some(None), |metrics| metrics.map(Some))?,
        accounts: accounts?,
        mapping: mapping?,
        backends: backends.configs?,
        routes: routes?,
        audit: audit?,
        log: log?,
    })
}

fn metrics(section: &Section<'_>) -> Option<MetricsConfig> {
    let (file, interval) = (section.path("file"), section.duration("interval"));
    Some(MetricsConfig { file: file?, interval: interval? })
}

fn log(section: &Section<'_>) -> Option<LogConfig> {
    let format = section.choice("format");
    let level = section.text("level", |text| {
        let remedy = "write error, warn, info, debug or trace, or a filter: \"info,kcd_bridge::proxy=debug\"";
        let filter = if text.trim().is_empty() { None } else { EnvFilter::try_new(text).ok() };
        filter.map(|_| text.to_owned()).ok_or_else(|| Complaint::new(format!("{} is not a level or filter", quote(text)), remedy))
    });
    Some(LogConfig { json: format? == "json", level: Some(level?) })
}
