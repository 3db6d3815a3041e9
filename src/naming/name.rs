//! Realms, principal names and service principal names (RFC 4120 section 6).

use std::fmt;

use thiserror::Error;

/// Name types used here (RFC 4120 section 6.2, RFC 6806 section 5).
pub mod name_type {
    /// NT-PRINCIPAL
    pub const PRINCIPAL: i32 = 1;
    /// NT-SRV-INST
    pub const SRV_INST: i32 = 2;
    /// NT-ENTERPRISE
    pub const ENTERPRISE: i32 = 10;
    /// NT-WELLKNOWN (anonymous)
    pub const WELLKNOWN: i32 = 11;
}

/// Why text is not a name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing there, or an empty part.
    #[error("empty name or empty part of a name")]
    Empty,
    /// A character that cannot stand in such a name.
    #[error("character {0:?} cannot stand in this name")]
    Character(char),
    /// A realm that is not upper case; Active Directory realms are, and the letter case is compared.
    #[error("the realm must be written in upper case: {0}")]
    RealmCase(String),
    /// Not of the form that is asked for.
    #[error("expected {0}")]
    Form(&'static str),
}

/// A Kerberos realm, upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Realm(Box<str>);

impl Realm {
    /// Accepts letters, digits, `.`, `-` and `_`, upper case only (a lower-case realm is told the right spelling).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.split('.').any(str::is_empty) {
            return Err(NameError::Empty);
        }
        if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
            return Err(NameError::Character(bad));
        }
        let upper = text.to_ascii_uppercase();
        if upper != text {
            return Err(NameError::RealmCase(upper));
        }
        Ok(Self(text.into()))
    }

    /// The realm as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A principal name as it stands in a ticket: raw components and name type, never re-parsed from display text.
/// An enterprise name is ONE component that contains `@`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrincipalName {
    /// Name type (RFC 4120 section 6.2). Kerberos compares components, not types.
    pub name_type: i32,
    /// Components as UTF-8.
    pub components: Vec<Box<str>>,
}

impl PrincipalName {
    /// Whether both name the same principal: component for component; the type is a hint only (RFC 4120 section 6.2).
    pub fn same_components(&self, other: &Self) -> bool {
        self.components == other.components
    }
}

/// Components joined with `/`, with `/`, `@` and `\` inside a component escaped as MIT displays them.
impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, component) in self.components.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            for c in component.chars() {
                if matches!(c, '/' | '@' | '\\') {
                    f.write_str("\\")?;
                }
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
        }
        Ok(())
    }
}

/// The bridge's own principal, `name@REALM` or `service/host@REALM`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnPrincipal {
    name: PrincipalName,
    realm: Realm,
}

impl OwnPrincipal {
    /// Parses `name@REALM`; the realm must be upper case, no part may be empty, no escapes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (name, realm) = text.rsplit_once('@').ok_or(NameError::Form("name@REALM"))?;
        let components: Vec<Box<str>> = name.split('/').map(Box::from).collect();
        if components.iter().any(|component| component.is_empty()) {
            return Err(NameError::Empty);
        }
        if let Some(bad) = name.chars().find(|c| matches!(c, '@' | '\\') || c.is_whitespace() || c.is_control()) {
            return Err(NameError::Character(bad));
        }
        let name_type = if components.len() > 1 { name_type::SRV_INST } else { name_type::PRINCIPAL };
        Ok(Self { name: PrincipalName { name_type, components }, realm: Realm::parse(realm)? })
    }

    /// The name without the realm.
    pub fn name(&self) -> &PrincipalName {
        &self.name
    }

    /// The realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }
}

impl fmt::Display for OwnPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.realm)
    }
}

/// A service principal name `HTTP/host` from the configuration: never derived from DNS or from a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spn {
    service: Box<str>,
    host: Box<str>,
}

impl Spn {
    /// Parses `service/host`, optionally with a port as part of the host (`HTTP/host:8080`). No realm, no escapes, ASCII only.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (service, host) = text.split_once('/').ok_or(NameError::Form("service/host, for instance HTTP/mbx1.corp.example"))?;
        if service.is_empty() || host.is_empty() {
            return Err(NameError::Empty);
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if let Some(bad) = service.chars().find(|c| !c.is_ascii_alphanumeric()).or_else(|| host.chars().find(|c| !good(*c))) {
            return Err(NameError::Character(bad));
        }
        Ok(Self { service: service.into(), host: host.into() })
    }

    /// Service class, for instance `HTTP`.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Host part, as configured.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether this principal name is exactly this SPN.
    pub fn matches(&self, name: &PrincipalName) -> bool {
        matches!(&name.components[..], [service, host] if **service == *self.service && **host == *self.host)
    }
}

impl fmt::Display for Spn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_case_realm_is_refused_with_the_right_spelling() {
        assert_eq!(Realm::parse("corp.example"), Err(NameError::RealmCase("CORP.EXAMPLE".into())));
        assert_eq!(OwnPrincipal::parse("svc-bridge@Corp.Example"), Err(NameError::RealmCase("CORP.EXAMPLE".into())));
    }

    #[test]
    fn a_principal_needs_a_name_and_a_realm() {
        assert_eq!(OwnPrincipal::parse("svc-bridge"), Err(NameError::Form("name@REALM")));
        assert_eq!(OwnPrincipal::parse("@CORP.EXAMPLE"), Err(NameError::Empty));
        assert_eq!(OwnPrincipal::parse("HTTP/bridge@CORP.EXAMPLE").unwrap().to_string(), "HTTP/bridge@CORP.EXAMPLE");
    }

    #[test]
    fn an_spn_has_no_realm_and_no_escapes() {
        assert_eq!(Spn::parse("HTTP/mbx1.corp.example").unwrap().to_string(), "HTTP/mbx1.corp.example");
        for bad in ["mbx1", "HTTP/", "/host", "HTTP/host@REALM", "HTTP/a/b", "HTTP/ho st", "HTTP/höst"] {
            assert!(Spn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_enterprise_name_is_displayed_with_its_at_sign_escaped() {
        let name = PrincipalName { name_type: name_type::ENTERPRISE, components: vec!["alice@mail.example".into()] };
        assert_eq!(name.to_string(), "alice\\@mail.example");
    }
}
