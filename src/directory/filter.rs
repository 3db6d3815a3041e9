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

    /// Whether this attribute is compared with anything.
    pub(super) fn asks_for(&self, attribute: Attribute) -> bool {
        match self {
            Self::Equals(compared, _) => *compared == attribute,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.asks_for(attribute)),
        }
    }
}

/// A question with what can be answered without asking taken out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pruned {
    /// Nobody matches.
    Nothing,
    /// Everybody does.
    Everything,
    Some(Filter),
}

impl Filter {
    /// Without empty groups, which servers read in different ways (RFC 4526), and without comparisons to nothing.
    pub(super) fn pruned(&self) -> Pruned {
        match self {
            Self::Equals(_, value) if value.is_empty() => Pruned::Nothing,
            Self::Equals(..) => Pruned::Some(self.clone()),
            Self::And(parts) => prune(parts, &Pruned::Nothing, Pruned::Everything, Self::And),
            Self::Or(parts) => prune(parts, &Pruned::Everything, Pruned::Nothing, Self::Or),
        }
    }
}

/// `deciding` settles the whole group, `neutral` changes nothing in it.
fn prune(parts: &[Filter], deciding: &Pruned, neutral: Pruned, group: fn(Vec<Filter>) -> Filter) -> Pruned {
    let mut kept = Vec::new();
    for part in parts {
        match part.pruned() {
            Pruned::Some(part) => kept.push(part),
            pruned if pruned == *deciding => return pruned,
            _ => {}
        }
    }
    match kept.len() {
        0 => neutral,
        1 => kept.pop().map_or(neutral, Pruned::Some),
        _ => Pruned::Some(group(kept)),
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

#[cfg(test)]
mod tests;
