//! Principal names as MIT's `krb5_unparse_name` writes them.

use std::fmt;

use crate::naming::name::{OwnPrincipal, PrincipalName};

/// A name in its realm. The realm is empty where MIT leaves its choice to the KDC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RealmedName {
    /// Raw components; the type is 0 (NT-UNKNOWN), since MIT's text has none.
    pub name: PrincipalName,
    /// Realm, as written.
    pub realm: Box<str>,
}

impl RealmedName {
    /// Undoes the escaping, which is unambiguous: components are separated by bare slashes, the realm follows the only bare `@`.
    /// Anything that MIT does not write is refused.
    pub(super) fn unescape(text: &str) -> Option<Self> {
        let mut components = Vec::new();
        let mut part = String::new();
        let mut in_realm = false;
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' => part.push(match characters.next()? {
                    c @ ('\\' | '/' | '@') => c,
                    'n' => '\n',
                    't' => '\t',
                    'b' => '\x08',
                    '0' => '\0',
                    _ => return None,
                }),
                '@' | '/' if in_realm => return None,
                '@' | '/' => {
                    components.push(std::mem::take(&mut part).into());
                    in_realm = c == '@';
                }
                '\n' | '\t' | '\x08' | '\0' => return None,
                c => part.push(c),
            }
        }
        in_realm.then(|| Self { name: PrincipalName { name_type: 0, components }, realm: part.into() })
    }

    /// Whether this is our own principal.
    pub fn is(&self, own: &OwnPrincipal) -> bool {
        self.name.same_components(own.name()) && *self.realm == *own.realm().as_str()
    }
}

impl fmt::Display for RealmedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.realm)
    }
}
