//! `[directory]`

use crate::config::problem::{Complaint, quote};
use crate::config::section::Section;
use crate::config::value;
use crate::directory::{DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource};
use crate::identity::AccountRules;

/// How the directory is reached.
pub(super) fn config(section: &Section<'_>) -> Option<DirectoryConfig> {
    let source = source(section);
    let trust_anchors = section.paths("trust_anchors");
    let bind_user = section.text("bind_user", bind_user);
    let bind_password_file = section.path("bind_password_file");
    let base = section.has("base").then(|| section.text("base", base_name));
    let global_catalog = section.bool("global_catalog");
    let connections = section.count("connections");
    let connect_timeout = section.duration("connect_timeout");
    let operation_timeout = section.duration("operation_timeout");
    Some(DirectoryConfig {
        source: source?,
        global_catalog: global_catalog?,
        trust_anchors: trust_anchors?,
        bind_user: bind_user?,
        bind_password_file: bind_password_file?,
        base: base.map_or(Some(None), |base| base.map(Some))?,
        connections: connections?,
        connect_timeout: connect_timeout?,
        operation_timeout: operation_timeout?,
    })
}

/// Servers by name, or one domain that names them.
fn source(section: &Section<'_>) -> Option<DirectorySource> {
    let written = section.texts("servers", |text| match text.strip_prefix("dns:") {
        Some(domain) => value::upn_suffix(domain).map(DirectorySource::Domain),
        None => server(text).map(|server| DirectorySource::Servers(vec![server])),
    })?;
    let mut servers = Vec::new();
    for source in &written {
        match source {
            DirectorySource::Servers(some) => servers.extend(some.iter().cloned()),
            DirectorySource::Domain(_) if written.len() == 1 => return Some(source.clone()),
            DirectorySource::Domain(_) => {
                section.problem("servers", "a dns: entry stands among others", "leave it alone, or name every server");
                return None;
            }
        }
    }
    Some(DirectorySource::Servers(servers))
}

/// What is asked of accounts.
pub(super) fn account_rules(section: &Section<'_>) -> Option<AccountRules> {
    let deny_expired_passwords = section.bool("deny_expired_passwords");
    let deny_admin_count = section.bool("deny_admin_count");
    let enforce_logon_hours = section.bool("enforce_logon_hours");
    let denied_accounts = section.texts_if_any("denied_accounts", value::sid_or_rid);
    let denied_groups = section.texts_if_any("denied_groups", value::sid_or_rid);
    let required_groups = section.texts_if_any("required_groups", value::sid_or_rid);
    let backdating = section.duration("backdating");
    let positive_ttl = section.duration("cache_ttl");
    let negative_ttl = section.duration("negative_ttl");
    let max_ride_through = section.duration("max_ride_through");
    Some(AccountRules {
        deny_expired_passwords: deny_expired_passwords?,
        deny_admin_count: deny_admin_count?,
        enforce_logon_hours: enforce_logon_hours?,
        denied_accounts: denied_accounts?,
        denied_groups: denied_groups?,
        required_groups: required_groups?,
        backdating: backdating?,
        positive_ttl: positive_ttl?,
        negative_ttl: negative_ttl?,
        max_ride_through: max_ride_through?,
    })
}

/// `ldaps://host[:port]` or `ldap://host[:port]`.
fn server(text: &str) -> Result<DirectoryServer, Complaint> {
    let remedy = "write ldaps://dc1.corp.example, ldap://dc1.corp.example for StartTLS, or dns:corp.example";
    let (security, rest, port) = if let Some(rest) = text.strip_prefix("ldaps://") {
        (DirectorySecurity::Ldaps, rest, 636)
    } else if let Some(rest) = text.strip_prefix("ldap://") {
        (DirectorySecurity::StartTls, rest, 389)
    } else {
        return Err(Complaint::new(format!("{} is not the URL of a directory server", quote(text)), remedy));
    };
    let (host, written) = value::host_and_port(rest)
        .ok_or_else(|| Complaint::new(format!("{} is not the URL of a directory server", quote(text)), remedy))?;
    Ok(DirectoryServer { host, port: written.unwrap_or(port), security })
}

fn bind_user(text: &str) -> Result<String, Complaint> {
    let bad = text.is_empty() || text.chars().any(char::is_control) || !text.contains(['@', '=']);
    let complaint = || {
        let message = format!("{} is neither a user principal name nor a distinguished name", quote(text));
        Complaint::new(message, "write svc-ldap@corp.example or CN=svc-ldap,OU=Services,DC=corp,DC=example")
    };
    if bad { Err(complaint()) } else { Ok(text.to_owned()) }
}

fn base_name(text: &str) -> Result<String, Complaint> {
    let bad = text.chars().any(char::is_control) || !text.contains('=');
    let complaint = || Complaint::new(format!("{} is not a distinguished name", quote(text)), "write DC=corp,DC=example");
    if bad { Err(complaint()) } else { Ok(text.to_owned()) }
}
