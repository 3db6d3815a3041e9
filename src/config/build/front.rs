//! `[listener]` and `[client_certificates]`

use crate::config::problem::Complaint;
use crate::config::section::Section;
use crate::config::value;
use crate::revocation::{OcspConfig, RevocationConfig, RevocationOrder, RevocationPolicy};
use crate::tls::{ClientTrustConfig, IssuerConfig, ListenerConfig, NtAuth, Usage};

/// Names of [`Usage`] in the file.
const USAGES: [(&str, Usage); 5] = [
    ("client-auth", Usage::ClientAuth),
    ("smart-card-logon", Usage::SmartCardLogon),
    ("kp-client-auth", Usage::KpClientAuth),
    ("any", Usage::Any),
    ("none", Usage::None),
];

pub(super) fn listener(section: &Section<'_>) -> Option<ListenerConfig> {
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

pub(super) fn client_certificates(section: &Section<'_>) -> Option<ClientTrustConfig> {
    let trust_anchors = section.paths("trust_anchors");
    let intermediates = section.paths("intermediates");
    let issuing_cas = section.paths("issuing_cas");
    let nt_auth = nt_auth(section);
    let send_ca_names = section.bool("send_ca_names");
    let recheck_interval = section.duration("recheck_interval");
    let expiry_forecast = section.duration("expiry_forecast");
    let issuers: Vec<_> = section.tables("issuer").iter().map(issuer).collect();
    let issuers: Option<Vec<_>> = issuers.into_iter().collect();
    let revocation = section.table("revocation").and_then(|section| revocation(&section));
    Some(ClientTrustConfig {
        trust_anchors: trust_anchors?,
        intermediates: intermediates?,
        issuing_cas: issuing_cas?,
        issuers: issuers?,
        nt_auth: nt_auth?,
        send_ca_names: send_ca_names?,
        recheck_interval: recheck_interval?,
        expiry_forecast: expiry_forecast?,
        revocation: revocation?,
    })
}

fn nt_auth(section: &Section<'_>) -> Option<NtAuth> {
    let files = section.paths_if_any("nt_auth_files");
    let directory = section.choice("nt_auth")? == "directory";
    let files = files?;
    if directory && !files.is_empty() {
        section.refuse("nt_auth_files", "not used by nt_auth \"directory\"");
    }
    Some(match (directory, files.is_empty()) {
        (true, _) => NtAuth::Directory,
        (false, true) => NtAuth::Off,
        (false, false) => NtAuth::Files(files),
    })
}

fn issuer(section: &Section<'_>) -> Option<IssuerConfig> {
    let certificate = section.path("certificate");
    let usages = if section.has("usages") { section.texts("usages", usage) } else { Some(vec![Usage::ClientAuth]) };
    let templates = section.texts_if_any("templates", value::template);
    let policies = section.texts_if_any("policies", value::object_identifier);
    let revocation = section.has("revocation").then(|| section.choice("revocation").and_then(policy));
    Some(IssuerConfig {
        certificate: certificate?,
        usages: usages?,
        templates: templates?,
        policies: policies?,
        revocation: revocation.map_or(Some(None), |policy| policy.map(Some))?,
    })
}

fn usage(text: &str) -> Result<Usage, Complaint> {
    value::word(text, "usage", USAGES)
}

fn policy(word: &str) -> Option<RevocationPolicy> {
    Some(match word {
        "require" => RevocationPolicy::Require,
        "prefer" => RevocationPolicy::Prefer,
        "off" => RevocationPolicy::Off,
        _ => return None,
    })
}

/// What may stand in `crl_files` and the like only where somebody looks at it.
const SOURCES: [&str; 4] = ["crl_files", "crl_directories", "distribution_points", "ocsp"];

fn revocation(section: &Section<'_>) -> Option<RevocationConfig> {
    let word = section.choice("policy");
    let crl_files = section.paths_if_any("crl_files");
    let crl_directories = section.paths_if_any("crl_directories");
    let scan_interval = section.duration("scan_interval");
    let distribution_points = section.texts_if_any("distribution_points", value::crl_url);
    let fetch_trust_anchors = section.paths_if_any("fetch_trust_anchors");
    let fetch_timeout = section.duration("fetch_timeout");
    let max_crl_bytes = section.size("max_crl_bytes");
    let grace = section.duration("grace");
    let order = section.choice("order").map(|word| match word {
        "crl-first" => RevocationOrder::CrlFirst,
        _ => RevocationOrder::OcspFirst,
    });
    let ocsp = if section.has("ocsp") { section.table("ocsp").map(|section| ocsp(&section)) } else { None };
    let named = SOURCES.into_iter().filter(|key| section.has(key)).count();
    if matches!(word, Some("require" | "prefer")) && named == 0 {
        let message = format!("missing: policy {:?} needs somebody to ask", word.unwrap_or_default());
        section.problem("crl_files", message, format!("add one of {}", SOURCES.join(", ")));
    }
    Some(RevocationConfig {
        policy: word.and_then(policy)?,
        crl_files: crl_files?,
        crl_directories: crl_directories?,
        scan_interval: scan_interval?,
        distribution_points: distribution_points?,
        fetch_trust_anchors: fetch_trust_anchors?,
        fetch_timeout: fetch_timeout?,
        max_crl_bytes: max_crl_bytes?,
        grace: grace?,
        order: order?,
        ocsp: ocsp.map_or(Some(None), |ocsp| ocsp.map(Some))?,
    })
}

fn ocsp(section: &Section<'_>) -> Option<OcspConfig> {
    let responders = section.texts_if_any("responders", value::http_url);
    let url = section.has("url").then(|| section.text("url", value::http_url));
    if !section.has("responders") && !section.has("url") {
        section.problem("responders", "missing: no responder may be asked", "add responders or url");
    }
    let timeout = section.duration("timeout");
    let nonce = section.bool("nonce");
    let max_age = section.duration("max_age");
    Some(OcspConfig {
        responders: responders?,
        url: url.map_or(Some(None), |url| url.map(Some))?,
        timeout: timeout?,
        nonce: nonce?,
        max_age: max_age?,
    })
}
