//! What a server says of itself.

use crate::directory::dn::domain_of;
use crate::directory::entry::Entry;

/// The rootDSE (MS-ADTS 3.1.1.3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootDse {
    /// defaultNamingContext: its domain.
    pub default_naming_context: String,
    /// configurationNamingContext: what the forest shares.
    pub configuration_naming_context: String,
    /// rootDomainNamingContext: the forest's first domain.
    pub root_domain_naming_context: String,
    /// dnsHostName: its name.
    pub host: String,
}

impl RootDse {
    /// What is asked for.
    pub(super) const ATTRIBUTES: [&'static str; 4] =
        ["defaultNamingContext", "configurationNamingContext", "rootDomainNamingContext", "dnsHostName"];

    /// None where the server is no domain controller, or does not say so to us.
    pub(super) fn read(entry: &Entry) -> Option<Self> {
        let one = |name: &str| match entry.values(name) {
            [value] => String::from_utf8(value.clone()).ok(),
            _ => None,
        };
        Some(Self {
            default_naming_context: one("defaultNamingContext")?,
            configuration_naming_context: one("configurationNamingContext")?,
            root_domain_naming_context: one("rootDomainNamingContext")?,
            host: one("dnsHostName").unwrap_or_default(),
        })
    }

    /// The DNS name of its domain.
    pub fn domain(&self) -> String {
        domain_of(&self.default_naming_context)
    }

    /// The DNS name of the forest.
    pub fn forest(&self) -> String {
        domain_of(&self.root_domain_naming_context)
    }
}
