//! Questions to the directory (RFC 4515). The only way a value gets into one is [`Filter::equals`], which escapes every byte
//! that is not plain.

use std::fmt;

/// Attributes that are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// objectSid, binary
    ObjectSid,
    /// userPrincipalName
    UserPrincipalName,
    /// sAMAccountName
    AccountName,
    /// altSecurityIdentities
    AltSecurityIdentities,
    /// userCertificate, DER
    UserCertificate,
    /// mail
    Mail,
    /// dNSHostName
    DnsHostName,
    /// servicePrincipalName
    ServicePrincipalName,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The attribute has this value, by the directory's own idea of equality.
    Equals(Attribute, Vec<u8>),
    /// All of them; none means everything.
    And(Vec<Filter>),
    /// One of them; none means nothing.
    Or(Vec<Filter>),
}

impl Filter {
    /// The attribute has this value.
    pub fn equals(attribute: Attribute, value: impl AsRef<[u8]>) -> Self {
        Self::Equals(attribute, value.as_ref().to_vec())
    }
}

impl Attribute {
    /// Its LDAP name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ObjectSid => "objectSid",
            Self::UserPrincipalName => "userPrincipalName",
            Self::AccountName => "sAMAccountName",
            Self::AltSecurityIdentities => "altSecurityIdentities",
            Self::UserCertificate => "userCertificate",
            Self::Mail => "mail",
            Self::DnsHostName => "dNSHostName",
            Self::ServicePrincipalName => "servicePrincipalName",
        }
    }
}

/// RFC 4515 text, as it is sent.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |f: &mut fmt::Formatter<'_>, operator: char, parts: &[Self]| {
            write!(f, "({operator}")?;
            parts.iter().try_for_each(|part| part.fmt(f))?;
            f.write_str(")")
        };
        match self {
            Self::And(parts) => group(f, '&', parts),
            Self::Or(parts) => group(f, '|', parts),
            Self::Equals(attribute, value) => {
                write!(f, "({}=", attribute.name())?;
                for &byte in value {
                    match byte {
                        b'\\' | b'*' | b'(' | b')' => write!(f, "\\{byte:02x}")?,
                        0x20..=0x7E => write!(f, "{}", char::from(byte))?,
                        _ => write!(f, "\\{byte:02x}")?,
                    }
                }
                f.write_str(")")
            }
        }
    }
}
