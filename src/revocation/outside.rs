//! Who is asked: distribution points and responders, or a script in tests of the engine.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use rustls_pki_types::UnixTime;

use crate::directory::{Answer, Directory};
use crate::failure::Failure;
use crate::revocation::Link;
use crate::revocation::fetch::{Fetcher, ListSource};
use crate::revocation::ocsp::{Ocsp, OcspAnswer};

/// What comes later.
pub(super) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where lists are fetched.
pub(super) trait CrlSource: Send + Sync {
    /// Whether this URI may be asked.
    fn allows(&self, uri: &str) -> bool;
    /// The list there, DER or PEM.
    fn crl<'a>(&'a self, uri: &'a str, deadline: Instant) -> Later<'a, Result<Vec<u8>, Failure>>;
}

/// Who answers about single certificates (OCSP).
pub(super) trait Responder: Send + Sync {
    /// What memory knows; nothing where somebody should be asked.
    fn known(&self, link: &Link<'_>, now: UnixTime) -> Option<OcspAnswer>;
    /// Asks.
    fn ask<'a>(&'a self, link: &'a Link<'a>, now: UnixTime, deadline: Instant) -> Later<'a, OcspAnswer>;
}

/// How far OCSP has come with one certificate.
pub(super) enum Asked {
    /// No responder is configured.
    Nobody,
    NotYet,
    Said(OcspAnswer),
}

impl CrlSource for Fetcher {
    fn allows(&self, uri: &str) -> bool {
        Self::allows(self, uri)
    }

    fn crl<'a>(&'a self, uri: &'a str, deadline: Instant) -> Later<'a, Result<Vec<u8>, Failure>> {
        Box::pin(Self::crl(self, uri, deadline))
    }
}

impl Responder for Ocsp {
    fn known(&self, link: &Link<'_>, now: UnixTime) -> Option<OcspAnswer> {
        Self::known(self, link, now)
    }

    fn ask<'a>(&'a self, link: &'a Link<'a>, now: UnixTime, deadline: Instant) -> Later<'a, OcspAnswer> {
        Box::pin(Self::ask(self, link, now, deadline))
    }
}

impl Asked {
    pub(super) fn is_decided(&self) -> bool {
        matches!(self, Self::Said(OcspAnswer::Good { .. } | OcspAnswer::Revoked { .. }))
    }
}

impl ListSource for Directory {
    fn values<'a>(&'a self, name: &'a str, attribute: &'a str, deadline: Instant) -> Answer<'a, Vec<Vec<u8>>> {
        Box::pin(Self::values(self, name, attribute, deadline))
    }
}
