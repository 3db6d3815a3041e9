//! Which principal may use which route: the permit that every later step takes instead of a name.

#![forbid(unsafe_code)]

use std::sync::Arc;

pub use crate::certificate::Fingerprint;
use crate::identity::Principal;
use crate::naming::name::Spn;

/// What of a back end matters to authentication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The back end's name in the configuration.
    pub name: Arc<str>,
    /// Its service principal name, as configured.
    pub spn: Spn,
    /// Whether an RC4 ticket or session key may be used (Windows 2003 knows nothing better).
    pub allow_rc4: bool,
    /// How the AP-REQ is wrapped.
    pub token_format: TokenFormat,
}

/// How the AP-REQ is wrapped (RFC 4178, RFC 4559).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenFormat {
    /// SPNEGO NegTokenInit listing Kerberos 1.2.840.113554.1.2.2.
    #[default]
    Spnego,
    /// SPNEGO NegTokenInit listing Microsoft's 1.2.840.48018.1.2.2 first.
    SpnegoMicrosoft,
    /// The bare Kerberos token (RFC 4121 section 4.1), without SPNEGO.
    Kerberos,
}

/// The permit: this principal, presented by this certificate, may use this back end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    principal: Arc<Principal>,
    certificate: Fingerprint,
    target: Arc<Target>,
}

impl Grant {
    /// Every principal may use every route for now: routes carry no conditions yet.
    pub fn authorize(principal: Arc<Principal>, certificate: Fingerprint, target: Arc<Target>) -> Self {
        Self { principal, certificate, target }
    }

    /// Who.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// By which certificate.
    pub fn certificate(&self) -> Fingerprint {
        self.certificate
    }

    /// Where to.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}
