//! What single values may look like: every parser says what is wrong and what to write instead.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;

use crate::config::problem::{Complaint, quote};
use crate::config::suggest;
use crate::identity::{RequestedName, SidOrRid};
use crate::kerberos::config::KdcAddress;
use crate::naming::name::{NameError, OwnPrincipal, Realm, Spn};
use crate::naming::sid::Sid;
use crate::proxy::Authority;

type Parsed<T> = Result<T, Complaint>;

/// `500ms`, `10s`, `15m`, `4h`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let complaint =
        || Complaint::new(format!("{} is not a duration", quote(text)), "write a whole number and ms, s, m or h: \"10s\"");
    let (number, unit) = number_and_unit(text).ok_or_else(complaint)?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        _ => None,
    };
    milliseconds.and_then(|factor: u64| number.checked_mul(factor)).map(Duration::from_millis).ok_or_else(complaint)
}

/// The way [`duration`] is written, in the largest unit that loses nothing.
pub(super) fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// `65536`, `64KiB`, `30MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let complaint = || {
        Complaint::new(
            format!("{} is not a size", quote(text)),
            "write bytes as a number, or a whole number and KiB, MiB or GiB: \"30MiB\"",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(complaint)?;
    let shift = match unit {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    shift.and_then(|shift| number.checked_mul(1 << shift)).ok_or_else(complaint)
}

/// The way [`size`] is written, in the largest unit that loses nothing.
pub(super) fn show_size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => n.to_string(),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// A file or directory: absolute, or relative to the directory of the configuration file.
pub(super) fn path(text: &str, base: &Path) -> Parsed<PathBuf> {
    // A path key may hold a pasted key or password by mistake: it is never quoted.
    if text.is_empty() {
        return Err(Complaint::new("the path is empty", "name a file"));
    }
    if text.chars().any(char::is_control) {
        return Err(Complaint::new(
            "a path cannot hold line breaks or control characters",
            "name a file; contents are never put inline",
        ));
    }
    if text.starts_with('~') {
        return Err(Complaint::new("~ is not expanded", "write the absolute path"));
    }
    Ok(base.join(text))
}

/// `address:port` to listen on.
pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        let remedy = "write an IP address and a port: \"0.0.0.0:443\", or \"[::]:443\" for IPv6";
        Complaint::new(format!("{} is not an address to listen on", quote(text)), remedy)
    })
}

/// `name@REALM`, the bridge's own account.
pub(super) fn own_principal(text: &str) -> Parsed<OwnPrincipal> {
    OwnPrincipal::parse(text)
        .map_err(|error| name_complaint("principal", text, &error, "write name@REALM: \"svc-bridge@CORP.EXAMPLE\""))
}

/// A realm in upper case.
pub(super) fn realm(text: &str) -> Parsed<Realm> {
    Realm::parse(text)
        .map_err(|error| name_complaint("realm", text, &error, "write the domain's name in upper case: \"CORP.EXAMPLE\""))
}

/// `HTTP/host`.
pub(super) fn spn(text: &str) -> Parsed<Spn> {
    let remedy = "write service/host as setspn lists it, without realm: \"HTTP/mbx1.corp.example\"";
    Spn::parse(text).map_err(|error| name_complaint("service principal name", text, &error, remedy))
}

fn name_complaint(what: &str, text: &str, error: &NameError, remedy: &str) -> Complaint {
    match error {
        NameError::RealmCase(right) => Complaint::new(
            format!("the realm in {} is not in upper case", quote(text)),
            format!("write {right}: Active Directory's realms are the domain's name in upper case"),
        ),
        other => Complaint::new(format!("{} is not a {what}: {other}", quote(text)), remedy),
    }
}

/// A security identifier.
pub(super) fn sid(text: &str) -> Parsed<Sid> {
    Sid::parse(text).map_err(|_| {
        let remedy = "write it as Get-ADUser shows it: \"S-1-5-21-...-1105\"";
        Complaint::new(format!("{} is not a security identifier", quote(text)), remedy)
    })
}

/// A user's `name@REALM` for the static table: one sAMAccountName, never a computer's.
pub(super) fn account(text: &str) -> Parsed<RequestedName> {
    let form = "write sAMAccountName@REALM: \"alice@CORP.EXAMPLE\"";
    let complaint = |why: &str| Complaint::new(format!("{} is not an account: {why}", quote(text)), form);
    let (name, realm_text) = text.rsplit_once('@').ok_or_else(|| complaint("there is no @"))?;
    // MS-SAMR 3.1.1.6: characters a sAMAccountName cannot hold, and what would be read as a second component.
    if name.trim() != name || name.is_empty() || name.chars().any(|c| c.is_control() || "\"/\\[]:;|=,+*?<>@".contains(c)) {
        return Err(complaint("the name is empty or holds a character no account name has"));
    }
    if name.ends_with('$') {
        return Err(complaint("a name that ends in $ is a computer's, and only users are delegated"));
    }
    Ok(RequestedName::Account { name: name.into(), realm: realm(realm_text)? })
}

/// A user principal name for the static table; sent as an enterprise name.
pub(super) fn upn(text: &str) -> Parsed<RequestedName> {
    let complaint = |why: &str| {
        Complaint::new(
            format!("{} is not a user principal name: {why}", quote(text)),
            "write it as the account has it: \"alice@corp.example\"",
        )
    };
    let (name, suffix) = text.split_once('@').ok_or_else(|| complaint("there is no @"))?;
    if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace() || "/\\".contains(c)) {
        return Err(complaint("the name is empty or holds a character no such name has"));
    }
    if name.ends_with('$') {
        return Err(complaint("a name that ends in $ is a computer's, and only users are delegated"));
    }
    if !is_domain_name(suffix) {
        return Err(complaint("what follows the @ is not a domain name"));
    }
    Ok(RequestedName::Enterprise(text.to_ascii_lowercase().into()))
}

/// A user in either form: `name@REALM` in upper case is an account of that realm, everything else a user principal name.
pub(super) fn user(text: &str) -> Parsed<RequestedName> {
    let is_realm = |suffix: &str| Realm::parse(suffix).is_ok();
    if text.rsplit_once('@').is_some_and(|(_, suffix)| is_realm(suffix)) { account(text) } else { upn(text) }
}

/// A path as requests have it, from the root and perhaps with a query.
pub(super) fn request_path(text: &str) -> Parsed<String> {
    let good =
        text.starts_with('/') && !text.contains('#') && text.parse::<PathAndQuery>().is_ok_and(|path| path.as_str() == text);
    let remedy = "write it from the root, as a browser sends it: \"/whoami\"";
    if good { Ok(text.to_owned()) } else { Err(Complaint::new(format!("{} is not a path", quote(text)), remedy)) }
}

/// A UPN suffix, returned in lower case.
pub(super) fn upn_suffix(text: &str) -> Parsed<String> {
    if is_domain_name(text) {
        return Ok(text.to_ascii_lowercase());
    }
    let remedy = match text.rsplit_once('@') {
        Some((_, suffix)) if is_domain_name(suffix) => format!("write only what follows the @: {suffix:?}"),
        _ => "write a whole domain name, without wildcards: \"corp.example\"".to_owned(),
    };
    Err(Complaint::new(format!("{} is not a UPN suffix", quote(text)), remedy))
}

/// `host`, `host:port`, `address` or `[v6]:port` of a KDC; the port is 88 unless it is given.
pub fn kdc_address(text: &str) -> Result<KdcAddress, Complaint> {
    const PORT: u16 = 88;
    let complaint =
        || Complaint::new(format!("{} is not a KDC's address", quote(text)), "write host or host:port: \"dc1.corp.example\"");
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(KdcAddress { host: text.to_owned(), port: PORT });
    }
    let (host, port) = host_and_port(text).ok_or_else(complaint)?;
    Ok(KdcAddress { host, port: port.unwrap_or(PORT) })
}

/// What a back end's `url` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackendUrl {
    pub(super) https: bool,
    pub(super) authority: Authority,
    /// host and port as written
    pub(super) written: String,
}

/// `http://host`, `https://host:port`; no path, no user, no query.
pub(super) fn backend_url(text: &str) -> Parsed<BackendUrl> {
    let complaint = |why: &str| {
        Complaint::new(
            format!("{} is not a back end's url: {why}", quote(text)),
            "write scheme, host and perhaps port: \"https://mbx1.corp.example\"",
        )
    };
    // First of all, so that a password is never quoted.
    if text.contains('@') {
        return Err(Complaint::new(
            "a user or password has no place in a back end's url",
            "remove the @ and what stands before it",
        ));
    }
    let uri: Uri = text.parse().map_err(|_| complaint("it is not a URL"))?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) => return Err(complaint("the scheme is neither http nor https")),
        None => return Err(complaint("there is no scheme")),
    };
    let written = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    if uri.query().is_some() || text.contains('#') || !matches!(uri.path(), "" | "/") {
        return Err(complaint("it has a path, a query or a fragment, and requests keep their own"));
    }
    let (host, port) = host_and_port(&written).ok_or_else(|| complaint("host or port is malformed"))?;
    let port = port.unwrap_or(if https { 443 } else { 80 });
    Ok(BackendUrl { https, authority: Authority { host, port }, written })
}

/// What a Host header may say: host and perhaps port.
pub(super) fn host_header(text: &str) -> Parsed<String> {
    let complaint = || Complaint::new(format!("{} is not a host", quote(text)), "write host or host:port: \"mail.corp.example\"");
    host_and_port(text).map(|_| text.to_owned()).ok_or_else(complaint)
}

/// The host a route is for, in lower case; devices' ports do not matter.
pub(super) fn route_host(text: &str) -> Parsed<String> {
    let complaint = |remedy| Complaint::new(format!("{} is not a host", quote(text)), remedy);
    match host_and_port(text) {
        Some((_, None)) => Ok(text.to_ascii_lowercase()),
        Some((host, Some(_))) => Err(complaint(format!("write the host without its port: {host:?}"))),
        None => Err(complaint("write one exact host, without wildcards: \"mail.corp.example\"".to_owned())),
    }
}

/// A path prefix on a segment border.
pub(super) fn route_path(text: &str) -> Parsed<String> {
    let complaint = |why: &str, remedy: &str| Complaint::new(format!("{} is not a route's path: {why}", quote(text)), remedy);
    let Some(rest) = text.strip_prefix('/') else {
        return Err(complaint("it does not start with /", "write it from the root: \"/Microsoft-Server-ActiveSync\""));
    };
    if rest.is_empty() {
        return Ok(text.to_owned());
    }
    if rest.ends_with('/') {
        return Err(complaint("it ends in /", "leave the last / out: a path stands for itself and everything below it"));
    }
    if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic() || "?#%\\*\"<>".contains(*c)) {
        return Err(complaint(&format!("it holds {bad:?}"), "write a plain path, without query, escapes and wildcards"));
    }
    if rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(complaint("it holds an empty or dot segment", "write the path a device asks for"));
    }
    Ok(text.to_owned())
}

/// One of these words.
pub(super) fn word<T: Copy, const N: usize>(text: &str, what: &str, words: [(&str, T); N]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = words.map(|(name, _)| name);
    let remedy = match suggest::nearest(text, names.iter().copied()) {
        Some(word) => format!("did you mean {word:?}? One of: {}", names.join(", ")),
        None => format!("one of: {}", names.join(", ")),
    };
    Err(Complaint::new(format!("{} is not a {what}", quote(text)), remedy))
}

/// An account or group: `S-1-5-21-…`, or a RID that means the same in every domain.
pub(super) fn sid_or_rid(text: &str) -> Parsed<SidOrRid> {
    let rid = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())).map(SidOrRid::Rid);
    let sid = || Sid::parse(text).ok().map(SidOrRid::Sid);
    rid.or_else(sid).ok_or_else(|| {
        let remedy = "write S-1-5-21-... as Get-ADGroup shows it, or the last number alone for every domain";
        Complaint::new(format!("{} is neither a SID nor a RID", quote(text)), remedy)
    })
}

/// `1.3.6.1.4.1.311.20.2.2`
pub(super) fn object_identifier(text: &str) -> Parsed<String> {
    if is_object_identifier(text) {
        return Ok(text.to_owned());
    }
    let remedy = "write numbers with dots: \"1.3.6.1.5.5.7.3.2\"";
    Err(Complaint::new(format!("{} is not an object identifier", quote(text)), remedy))
}

fn is_object_identifier(text: &str) -> bool {
    let number = |arc: &str| {
        (1..=20).contains(&arc.len()) && arc.bytes().all(|byte| byte.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    };
    let first = text.split('.').next().is_some_and(|arc| matches!(arc, "0" | "1" | "2"));
    first && text.len() <= 256 && text.split('.').count() >= 2 && text.split('.').all(number)
}

/// A certificate template: its OID, or the name of a version 1 template.
pub(super) fn template(text: &str) -> Parsed<String> {
    let named = !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if if numeric { is_object_identifier(text) } else { named } {
        return Ok(text.to_owned());
    }
    let remedy = "write its OID or, for a version 1 template, its name without spaces: certutil -catemplates lists them";
    Err(Complaint::new(format!("{} is not a certificate template", quote(text)), remedy))
}

/// Where CRLs may be fetched: `http://host/path/`, `https://host/path/`, `ldap:///`.
pub(super) fn crl_url(text: &str) -> Parsed<String> {
    if text == "ldap:///" {
        return Ok(text.to_owned());
    }
    if text.starts_with("ldap:") {
        let remedy =
            "write \"ldap:///\": such URLs are answered by the servers of [directory], whatever host they name is not asked";
        return Err(Complaint::new(format!("{} names more than the scheme", quote(text)), remedy));
    }
    web_url(text, &["http", "https"])
}

/// An OCSP responder: `http://host/path`.
pub(super) fn http_url(text: &str) -> Parsed<String> {
    web_url(text, &["http"])
}

fn web_url(text: &str, schemes: &[&str]) -> Parsed<String> {
    let remedy = format!("write scheme, host and path: \"{}://pki.corp.example/crl/\"", schemes.first().unwrap_or(&"http"));
    let complaint = || Complaint::new(format!("{} is not such a URL", quote(text)), remedy.clone());
    // First of all, so that a password is never quoted.
    if text.contains('@') {
        return Err(Complaint::new("a user or password has no place in a URL", "remove the @ and what stands before it"));
    }
    let uri: Uri = text.parse().map_err(|_| complaint())?;
    let scheme = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
    let host = uri.authority().is_some_and(|authority| host_and_port(authority.as_str()).is_some());
    let plain = uri.query().is_none()
        && !text.contains(['#', '%', '\\'])
        && !uri.path().split('/').any(|part| matches!(part, "." | ".."));
    if scheme && host && plain { Ok(text.to_owned()) } else { Err(complaint()) }
}

/// SHA-256 in hexadecimal, with or without colons.
pub(super) fn sha256(text: &str) -> Parsed<[u8; 32]> {
    let complaint = || {
        let remedy =
            "write 64 hexadecimal digits, with or without colons: openssl x509 -in device.pem -noout -fingerprint -sha256";
        Complaint::new(format!("{} is not a SHA-256 fingerprint", quote(text)), remedy)
    };
    let with_colons = text.len() == 95 && text.bytes().enumerate().all(|(index, byte)| (byte == b':') == (index % 3 == 2));
    let digits = if with_colons { text.replace(':', "") } else { text.to_owned() };
    if digits.len() != 64 {
        return Err(complaint());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return Err(complaint()) };
        *byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or_else(complaint)?;
    }
    Ok(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; the host is returned without brackets.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        // Digits and dots alone are an address or a mistake, never a name.
        let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let good = if numeric { host.parse::<IpAddr>().is_ok() } else { is_domain_name(host) };
        good.then_some((host, port))?
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok().filter(|port| *port != 0)?),
        Some(_) => return None,
        None => None,
    };
    Some((host.to_owned(), port))
}

fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests;
