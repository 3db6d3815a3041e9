//! What is asked, before it is known of whom.

use ldap3::Scope;

use crate::directory::connection::Search;
use crate::directory::root_dse::RootDse;

/// A search whose base may be the server's own.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) base: Base,
    pub(super) scope: Scope,
    pub(super) filter: String,
    pub(super) attributes: Vec<String>,
    pub(super) entries: usize,
    pub(super) bytes: usize,
    /// It takes its time: a server that does not answer it in time may still be well.
    pub(super) slow: bool,
}

/// Where a search begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Named(String),
    /// The server's domain.
    Domain,
    /// Below the forest's configuration.
    Configuration(&'static str),
}

impl Question {
    /// Attributes of one object.
    pub(super) fn read(base: Base, attributes: &[&str], bytes: usize) -> Self {
        Self {
            base,
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: attributes.iter().map(|&name| name.to_owned()).collect(),
            entries: 1,
            bytes,
            slow: false,
        }
    }

    /// What a server says of itself.
    pub(super) fn root_dse() -> Self {
        Self::read(Base::Named(String::new()), &RootDse::ATTRIBUTES, 256 * 1024)
    }

    /// As it is sent to this server.
    pub(super) fn for_server(&self, root: &RootDse) -> Search {
        let base = match &self.base {
            Base::Named(name) => name.clone(),
            Base::Domain => root.default_naming_context.clone(),
            Base::Configuration(below) => format!("{below},{}", root.configuration_naming_context),
        };
        Search {
            base,
            scope: self.scope,
            filter: self.filter.clone(),
            attributes: self.attributes.clone(),
            entries: self.entries,
            bytes: self.bytes,
            slow: self.slow,
        }
    }
}
