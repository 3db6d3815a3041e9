//! URLs that certificates name, and which of them an operator allows.
//!
//! A parser of our own, because what is compared must be what is connected to: it knows `http`, `https` and `ldap:///` and refuses
//! whatever two programs could read in two ways (user names, encoded or empty hosts, dot segments, encoded delimiters, fragments,
//! control characters). Nothing is normalised except the case of scheme and host.

use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

use crate::revocation::fetch::ldap::{LdapUrl, is_below};

/// Longer than any real distribution point.
const MAX_LENGTH: usize = 2048;
/// RFC 1035 section 2.3.4.
const MAX_HOST: usize = 253;

/// Why a URL is not one we would ever follow.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum UrlError {
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("it has a character that may not stand in a URL")]
    Character,
    #[error("it is neither http://, https:// nor ldap:///")]
    Scheme,
    #[error("it has a user name")]
    UserInfo,
    #[error("it has a fragment")]
    Fragment,
    #[error("it has no usable host")]
    Host,
    #[error("it has no usable port")]
    Port,
    #[error("its path has a dot segment or an encoded delimiter")]
    Path,
    #[error("its percent-encoding is malformed")]
    Encoding,
    #[error("it names an LDAP server: only the configured directory is asked")]
    LdapHost,
    #[error("it has no usable distinguished name")]
    LdapName,
    #[error("it does not ask for certificateRevocationList or deltaRevocationList alone")]
    LdapAttribute,
    #[error("its scope is not base")]
    LdapScope,
    #[error("it has an LDAP filter or extension that a CRL needs not")]
    LdapFilter,
    #[error("a prefix has no query")]
    PrefixQuery,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Url {
    Http(HttpUrl),
    Ldap(LdapUrl),
}

/// Whom a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) secure: bool,
    /// Lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// `http://` or `https://`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    pub(crate) origin: Origin,
    /// As written; starts with a slash.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

/// Prefixes an operator allows; none: nothing is allowed.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowList(Vec<Prefix>);

#[derive(Clone, Debug)]
enum Prefix {
    Http(HttpUrl),
    /// The distinguished name at or below which entries are; empty: anywhere in the configured directory.
    Ldap(String),
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        check_characters(text)?;
        match scheme(text)? {
            (Scheme::Ldap, rest) => LdapUrl::parse(rest).map(Self::Ldap),
            (Scheme::Http { secure }, rest) => HttpUrl::after_scheme(secure, rest).map(Self::Http),
        }
    }
}

impl HttpUrl {
    /// An `http://` or `https://` URL.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        match Url::parse(text)? {
            Url::Http(url) => Ok(url),
            Url::Ldap(_) => Err(UrlError::Scheme),
        }
    }

    /// What stands in the request line.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    fn after_scheme(secure: bool, rest: &str) -> Result<Self, UrlError> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (tail, None),
        };
        check_path(path)?;
        let origin = Origin::parse(secure, authority)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { origin, path: path.to_owned(), query: query.map(str::to_owned) })
    }
}

impl Origin {
    fn parse(secure: bool, authority: &str) -> Result<Self, UrlError> {
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (address, tail) = rest.split_once(']').ok_or(UrlError::Host)?;
            let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
            let port = if tail.is_empty() { None } else { Some(tail.strip_prefix(':').ok_or(UrlError::Port)?) };
            (address.to_string(), port)
        } else {
            let (name, port) = authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port)));
            (host_name(name)?, port)
        };
        let port = match port {
            None => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(digits) => port_number(digits)?,
        };
        Ok(Self { secure, host, port })
    }
}

/// `host[:port]` as the Host header has it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}{}{}", brackets.0, self.host, brackets.1)?;
        match (self.secure, self.port) {
            (false, 80) | (true, 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

impl AllowList {
    /// Every prefix, or the first that is none.
    pub(crate) fn parse(prefixes: &[String]) -> Result<Self, (String, UrlError)> {
        let read = |text: &String| Prefix::parse(text).map_err(|error| (text.clone(), error));
        prefixes.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn allows(&self, url: &Url) -> bool {
        self.0.iter().any(|prefix| prefix.allows(url))
    }

    /// Whether something of it is reached by https.
    pub(crate) fn needs_tls(&self) -> bool {
        self.0.iter().any(|prefix| matches!(prefix, Prefix::Http(url) if url.origin.secure))
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, UrlError> {
        check_characters(text)?;
        match scheme(text)? {
            (Scheme::Ldap, "") => Ok(Self::Ldap(String::new())),
            (Scheme::Ldap, base) => LdapUrl::name(base).map(Self::Ldap),
            (Scheme::Http { secure }, rest) => {
                let url = HttpUrl::after_scheme(secure, rest)?;
                if url.query.is_some() { Err(UrlError::PrefixQuery) } else { Ok(Self::Http(url)) }
            }
        }
    }

    fn allows(&self, url: &Url) -> bool {
        match (self, url) {
            (Self::Http(prefix), Url::Http(url)) => {
                let at_boundary = |rest: &str| prefix.path.ends_with('/') || rest.is_empty() || rest.starts_with('/');
                prefix.origin == url.origin && url.path.strip_prefix(prefix.path.as_str()).is_some_and(at_boundary)
            }
            (Self::Ldap(base), Url::Ldap(url)) => is_below(&url.name, base),
            _ => false,
        }
    }
}

/// A URL somebody else wrote, for logs: printable and short.
pub(crate) fn shown(url: &str) -> String {
    const LONGEST: usize = 160;
    let mut text: String = url.chars().take(LONGEST).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    if url.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}

enum Scheme {
    Http {
        secure: bool,
    },
    /// With its empty host read.
    Ldap,
}

fn scheme(text: &str) -> Result<(Scheme, &str), UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
    if scheme.eq_ignore_ascii_case("http") {
        Ok((Scheme::Http { secure: false }, rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::Http { secure: true }, rest))
    } else if scheme.eq_ignore_ascii_case("ldap") {
        Ok((Scheme::Ldap, rest.strip_prefix('/').ok_or(UrlError::LdapHost)?))
    } else {
        Err(UrlError::Scheme)
    }
}

/// The characters of RFC 3986, percent-encoding well-formed.
fn check_characters(text: &str) -> Result<(), UrlError> {
    if text.len() > MAX_LENGTH {
        return Err(UrlError::TooLong);
    }
    if text.contains('#') {
        return Err(UrlError::Fragment);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(UrlError::Character);
    }
    percent_decode(text).map(|_| ())
}

/// A path that every server reads as we do: no dot segments (also with parameters, as in `..;a`), and no encoded dot, slash,
/// backslash, percent sign or control character that another decoder could make one of.
fn check_path(path: &str) -> Result<(), UrlError> {
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let raw = path.bytes().filter(|&byte| byte == b'%').count();
    let decoded = percent_decode(path)?;
    let delimiters = |bytes: &[u8]| bytes.iter().filter(|byte| matches!(byte, b'.' | b'/' | b'\\' | b'%')).count();
    let ambiguous = delimiters(&decoded) + raw != delimiters(path.as_bytes());
    if path.split('/').any(dots) || ambiguous || decoded.iter().any(u8::is_ascii_control) {
        return Err(UrlError::Path);
    }
    Ok(())
}

fn host_name(name: &str) -> Result<String, UrlError> {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if name.len() > MAX_HOST || !name.split('.').all(label) {
        return Err(UrlError::Host);
    }
    Ok(name.to_ascii_lowercase())
}

fn port_number(digits: &str) -> Result<u16, UrlError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().map_err(|_| UrlError::Port) } else { Err(UrlError::Port) }
}

/// RFC 3986 section 2.1.
pub(super) fn percent_decode(text: &str) -> Result<Vec<u8>, UrlError> {
    let digit = |byte: Option<u8>| {
        let value = byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(UrlError::Encoding)?;
        u8::try_from(value).map_err(|_| UrlError::Encoding)
    };
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { digit(bytes.next())? << 4 | digit(bytes.next())? } else { byte });
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests;
