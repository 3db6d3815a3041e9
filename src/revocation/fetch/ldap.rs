//! `ldap:///DN?attribute?base?filter` as AD CS writes it into certificates (RFC 4516).

use crate::revocation::fetch::url::{UrlError, percent_decode};

const CRL: &str = "certificateRevocationList";
const DELTA_CRL: &str = "deltaRevocationList";

/// One attribute of one entry of the configured directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LdapUrl {
    /// Distinguished name, decoded.
    pub(crate) name: String,
    /// Without `;binary`.
    pub(crate) attribute: &'static str,
}

impl LdapUrl {
    /// What stands behind `ldap:///`.
    pub(super) fn parse(rest: &str) -> Result<Self, UrlError> {
        let mut parts = rest.split('?');
        let name = Self::name(parts.next().unwrap_or_default())?;
        let attribute = attribute(parts.next().unwrap_or_default())?;
        let scope = parts.next().unwrap_or_default();
        if !(scope.is_empty() || scope.eq_ignore_ascii_case("base")) {
            return Err(UrlError::LdapScope);
        }
        // Not sent: an entry is named. Read so that nothing unexpected passes as one.
        if !is_class_filter(parts.next().unwrap_or_default()) || parts.next().is_some() {
            return Err(UrlError::LdapFilter);
        }
        Ok(Self { name, attribute })
    }

    /// A percent-encoded distinguished name. Quoted values (RFC 2253) are refused: a comma in them separates nothing.
    pub(super) fn name(encoded: &str) -> Result<String, UrlError> {
        let name = String::from_utf8(percent_decode(encoded)?).map_err(|_| UrlError::LdapName)?;
        let unclear = name.chars().any(|c| c.is_control() || c == '"');
        if unclear || !name.contains('=') || encoded.contains('?') { Err(UrlError::LdapName) } else { Ok(name) }
    }
}

/// Whether a name is `base` or below it; every name is below the empty one. A comma behind a backslash separates nothing.
pub(super) fn is_below(name: &str, base: &str) -> bool {
    let Some(split) = name.len().checked_sub(base.len()) else { return false };
    let Some((above, end)) = name.split_at_checked(split) else { return false };
    let separated = above.strip_suffix(',').is_some_and(|rest| rest.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 0);
    end.eq_ignore_ascii_case(base) && (base.is_empty() || above.is_empty() || separated)
}

fn attribute(text: &str) -> Result<&'static str, UrlError> {
    let name = match text.split_once(';') {
        Some((name, option)) if option.eq_ignore_ascii_case("binary") => name,
        Some(_) => return Err(UrlError::LdapAttribute),
        None => text,
    };
    [CRL, DELTA_CRL].into_iter().find(|known| known.eq_ignore_ascii_case(name)).ok_or(UrlError::LdapAttribute)
}

/// Nothing, `(objectClass=x)`, or AD CS's `objectClass=x` without its parentheses.
fn is_class_filter(text: &str) -> bool {
    let bare = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    let class = |(key, value): (&str, &str)| {
        key.eq_ignore_ascii_case("objectClass")
            && (value == "*" || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    text.is_empty() || bare.split_once('=').is_some_and(class)
}
