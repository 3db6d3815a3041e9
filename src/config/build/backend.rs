//! `[[backend]]` and `[[route]]`

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::build::kerberos::known_realm;
use crate::config::problem::{Complaint, quote};
use crate::config::schema::PROFILE_DEFAULTS;
use crate::config::section::Section;
use crate::config::{suggest, value};
use crate::identity::RequestedName;
use crate::kerberos::config::KerberosConfig;
use crate::policy::{Target, TokenFormat};
use crate::proxy::{BackendConfig, Mutual, Profile, RouteConfig, SelfTestConfig, Transport, host_leading_to};

/// The back ends, and the names that routes may use: also those of back ends with other problems.
pub(super) struct Backends<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) configs: Option<Vec<BackendConfig>>,
}

pub(super) fn backends<'a>(sections: &[Section<'a>], kerberos: Option<&KerberosConfig>) -> Backends<'a> {
    let mut names = Vec::new();
    let mut configs = Vec::new();
    for section in sections {
        configs.push(backend(section, kerberos));
        let name = section.peek("name").unwrap_or_default();
        if !name.is_empty() && names.contains(&name) {
            section.problem("name", format!("there is another back end named {}", quote(name)), "give each its own name");
        }
        names.push(name);
    }
    Backends { names, configs: configs.into_iter().collect() }
}

fn backend(section: &Section<'_>, kerberos: Option<&KerberosConfig>) -> Option<BackendConfig> {
    let name = section.text("name", name);
    let spn = section.text("spn", value::spn);
    let url = section.text("url", value::backend_url);
    let profile_name = section.choice("profile");
    let transport = transport(section, url.as_ref());
    let host = section.text("host", value::host_header);
    let channel_binding = channel_binding(section, transport.as_ref());
    let allow_rc4 = section.bool("allow_rc4");
    let token_format = section.choice("token").and_then(token_format);
    let mutual = section.choice("mutual").and_then(mutual);
    let identity_bound = section.bool("identity_bound");
    let connect_timeout = section.duration("connect_timeout");
    let response_timeout = section.duration_or("response_timeout", profile_default(profile_name, "response_timeout"));
    let idle_timeout = section.duration("idle_timeout");
    let max_idle_per_principal = section.count("max_idle_per_principal");
    let max_connections_per_principal = section.count("max_connections_per_principal");
    let max_connections = section.count("max_connections");
    let max_body_bytes = section.size("max_body_bytes");
    let replay_buffer_bytes = section.size_in_memory("replay_buffer_bytes");
    let self_test = section.has("self_test").then(|| self_test(&section.table("self_test")?, kerberos));
    let url = url?;
    Some(BackendConfig {
        target: Arc::new(Target { name: name?.into(), spn: spn?, allow_rc4: allow_rc4?, token_format: token_format? }),
        profile: profile_name.and_then(profile)?,
        authority: url.authority,
        transport: transport?,
        host_header: host.unwrap_or(url.written),
        channel_binding: channel_binding?,
        mutual: mutual?,
        identity_bound: identity_bound?,
        connect_timeout: connect_timeout?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
        max_idle_per_principal: max_idle_per_principal?,
        max_body_bytes: max_body_bytes?,
        replay_buffer_bytes: replay_buffer_bytes?,
        max_connections_per_principal: max_connections_per_principal?,
        max_connections: max_connections?,
        self_test: self_test.map_or(Some(None), |test| test.map(Some))?,
    })
}

fn self_test(section: &Section<'_>, kerberos: Option<&KerberosConfig>) -> Option<SelfTestConfig> {
    let users = section.texts("users", value::user).and_then(|users| two_users(section, users, kerberos));
    let path = section.text("path", value::request_path);
    Some(SelfTestConfig { users: users?, path: path? })
}

/// Two, whose names can be told apart on a page.
fn two_users(section: &Section<'_>, users: Vec<RequestedName>, kerberos: Option<&KerberosConfig>) -> Option<[RequestedName; 2]> {
    for user in &users {
        known_realm(section, "users", user, kerberos);
    }
    let Ok([one, two]) = <[RequestedName; 2]>::try_from(users) else {
        section.problem("users", "not exactly two users", "name two accounts that nobody works with");
        return None;
    };
    let names = [one.account(), two.account()].map(str::to_ascii_lowercase);
    let [first, second] = &names;
    if first.contains(&**second) || second.contains(&**first) {
        let message = format!("a page that names {} cannot be told from one that names {}", quote(first), quote(second));
        section.problem("users", message, "take names of which none is part of the other: probe1 and probe2");
        return None;
    }
    Some([one, two])
}

/// That the path of each self-test leads to its own back end.
pub(super) fn self_tests(sections: &[Section<'_>], backends: &[BackendConfig], routes: &[RouteConfig]) {
    for (index, (section, backend)) in sections.iter().zip(backends).enumerate() {
        if let Some(test) = &backend.self_test
            && host_leading_to(routes, index, &backend.host_header, &test.path).is_none()
            && let Some(section) = section.table("self_test")
        {
            let message = format!("{} is not routed to {}", quote(&test.path), backend.target.name);
            section.problem("path", message, "name a path below one of its routes, or add a [[route]] for it");
        }
    }
}

fn name(text: &str) -> Result<String, Complaint> {
    let good = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let complaint =
        || Complaint::new(format!("{} is not a name", quote(text)), "use letters, digits, '.', '-' and '_', 64 at most");
    good.then(|| text.to_owned()).ok_or_else(complaint)
}

fn transport(section: &Section<'_>, url: Option<&value::BackendUrl>) -> Option<Transport> {
    let anchors: Option<Vec<PathBuf>> = section.paths("trust_anchors");
    let https = url.map(|url| url.https);
    if section.peek("transport") == Some("https") {
        // The nearest word is http, and that must never be the advice.
        section.problem("transport", "\"https\" is not a value of this key", "write \"tls\", or leave it out");
        return None;
    }
    match section.choice("transport")? {
        "http" => {
            if https == Some(true) {
                section.problem("transport", "the url is https and the transport http", "make both http, or leave transport out");
            }
            section.refuse("trust_anchors", "not used by transport \"http\"");
            Some(Transport::Http)
        }
        "tls" => {
            if https == Some(false) {
                let message = "an http url is in the clear, and that has to be said";
                section.problem("transport", message, "write transport = \"http\", or make the url https");
                return None;
            }
            section.need("trust_anchors", "the back end's certificate must chain to something");
            Some(Transport::Tls { trust_anchors: anchors? })
        }
        _ => None,
    }
}

fn channel_binding(section: &Section<'_>, transport: Option<&Transport>) -> Option<bool> {
    if !section.has("channel_binding") {
        return Some(matches!(transport?, Transport::Tls { .. }));
    }
    if section.peek("channel_binding").is_some_and(|text| text.contains(['/', '.'])) {
        let message = "a certificate file is not available in this version";
        section.problem(
            "channel_binding",
            message,
            "\"off\" behind something that ends TLS in front of the server, else \"auto\"",
        );
        return None;
    }
    match section.choice("channel_binding")? {
        "auto" if transport == Some(&Transport::Http) => {
            section.problem("channel_binding", "there is no TLS session to bind to", "remove it, or use transport \"tls\"");
            None
        }
        "auto" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn token_format(name: &str) -> Option<TokenFormat> {
    match name {
        "spnego" => Some(TokenFormat::Spnego),
        "spnego-microsoft" => Some(TokenFormat::SpnegoMicrosoft),
        "kerberos" => Some(TokenFormat::Kerberos),
        _ => None,
    }
}

fn mutual(name: &str) -> Option<Mutual> {
    match name {
        "required" => Some(Mutual::Required),
        "tolerate-absence" => Some(Mutual::TolerateAbsence),
        _ => None,
    }
}

fn profile(name: &str) -> Option<Profile> {
    match name {
        "generic" => Some(Profile::Generic),
        "iis" => Some(Profile::Iis),
        "exchange-2003" => Some(Profile::Exchange2003),
        "exchange-2007" => Some(Profile::Exchange2007),
        "exchange-2010" => Some(Profile::Exchange2010),
        _ => None,
    }
}

fn profile_default(profile: Option<&str>, key: &str) -> Option<&'static str> {
    PROFILE_DEFAULTS.iter().find(|(of, sets, _)| Some(*of) == profile && *sets == key).map(|(_, _, value)| *value)
}

/// Longest path first, and among equals the routes with a host before those without: the first that matches is the one.
pub(super) fn routes(sections: &[Section<'_>], backends: &[&str]) -> Option<Vec<RouteConfig>> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    let mut complete = true;
    for section in sections {
        let Some(route) = route(section, backends) else {
            complete = false;
            continue;
        };
        if routes.iter().any(|other| other.host == route.host && other.path.eq_ignore_ascii_case(&route.path)) {
            section.problem("path", "another route has the same host and path", "remove one: letter case makes no difference");
        }
        routes.push(route);
    }
    routes.sort_by_key(|route| (Reverse(route.path.len()), route.host.is_none()));
    complete.then_some(routes)
}

fn route(section: &Section<'_>, backends: &[&str]) -> Option<RouteConfig> {
    let host = section.text("host", value::route_host);
    let path = section.text("path", value::route_path);
    let backend = section.text("backend", |name| {
        let known = || backends.iter().copied().filter(|name| !name.is_empty());
        let remedy = || match suggest::nearest(name, known()) {
            Some(right) => format!("did you mean {right:?}?"),
            None if known().next().is_none() => "add a [[backend]] of that name".to_owned(),
            None => format!("known: {}", known().map(quote).collect::<Vec<_>>().join(", ")),
        };
        let index = backends.iter().position(|known| *known == name && !name.is_empty());
        index.ok_or_else(|| Complaint::new(format!("there is no back end named {}", quote(name)), remedy()))
    });
    Some(RouteConfig { host, path: path?, backend: backend? })
}
