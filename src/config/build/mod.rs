//! From sections to every room's own configuration. Each function reads all its keys before it gives up on one, so that every
//! problem is found in one go; `None` means that a problem was recorded.

mod backend;
mod directory;
mod kerberos;
mod mapping;

use tracing_subscriber::EnvFilter;

use crate::audit::AuditConfig;
use crate::config::problem::{Complaint, quote};
use crate::config::section::Section;
use crate::config::{Config, LogConfig, MetricsConfig};
use crate::tls::{ClientTrustConfig, ListenerConfig, RevocationConfig};

use super::value;

/// The whole file.
pub(super) fn config(root: &Section<'_>) -> Option<Config> {
    let listener = root.table("listener").and_then(|section| listener(&section));
    let client_certificates = root.table("client_certificates").and_then(|section| client_certificates(&section));
    let server = root.table("server").and_then(|section| section.path("runtime_directory"));
    let kerberos = root.table("kerberos").and_then(|section| kerberos::config(&section, server));
    let directory = root.has("directory").then(|| root.table("directory").and_then(|section| directory::config(&section)));
    let metrics = root.has("metrics").then(|| root.table("metrics").and_then(|section| metrics(&section)));
    let mapping = mapping::rules(&root.tables("mapping"), kerberos.as_ref());
    let backends = backend::backends(&root.tables("backend"));
    let routes = backend::routes(&root.tables("route"), &backends.names);
    let audit = root.table("audit").map(|section| AuditConfig { file: section.path("file") });
    let log = root.table("log").and_then(|section| log(&section));
    Some(Config {
        listener: listener?,
        client_certificates: client_certificates?,
        kerberos: kerberos?,
        directory: directory.map_or(Some(None), |directory| directory.map(Some))?,
        metrics: metrics.map_or(Some(None), |metrics| metrics.map(Some))?,
        mapping: mapping?,
        backends: backends.configs?,
        routes: routes?,
        audit: audit?,
        log: log?,
    })
}

fn listener(section: &Section<'_>) -> Option<ListenerConfig> {
    let address = section.text("address", value::socket_address);
    let certificate = section.path("certificate");
    let key = section.path("key");
    let handshake_timeout = section.duration("handshake_timeout");
    let header_timeout = section.duration("header_timeout");
    let idle_timeout = section.duration("idle_timeout");
    let max_connections = section.count("max_connections");
    let max_header_bytes = section.size_in_memory("max_header_bytes");
    let drain_timeout = section.duration("drain_timeout");
    Some(ListenerConfig {
        address: address?,
        certificate: certificate?,
        key: key?,
        handshake_timeout: handshake_timeout?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        max_connections: max_connections?,
        max_header_bytes: max_header_bytes?,
        drain_timeout: drain_timeout?,
    })
}

fn client_certificates(section: &Section<'_>) -> Option<ClientTrustConfig> {
    let trust_anchors = section.paths("trust_anchors");
    let intermediates = section.paths("intermediates");
    let revocation = section.table("revocation").and_then(|section| revocation(&section));
    Some(ClientTrustConfig { trust_anchors: trust_anchors?, intermediates: intermediates?, revocation: revocation? })
}

fn revocation(section: &Section<'_>) -> Option<RevocationConfig> {
    let crl_files = section.paths("crl_files");
    match section.choice("policy")? {
        "require" => {
            section.need("crl_files", "policy \"require\" needs CRLs");
            Some(RevocationConfig::Require { crl_files: crl_files? })
        }
        "off" => {
            section.refuse("crl_files", "not used by policy \"off\"");
            Some(RevocationConfig::Off)
        }
        _ => None,
    }
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
