//! Fetching and asking, as [`settle`](super::settle) wants it done.

use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::UnixTime;

use crate::certificate::LoadError;
use crate::directory::{Answer, Directory};
use crate::failure::Failure;
use crate::revocation::fetch::{Fetcher, Http, ListSource};
use crate::revocation::ocsp::{Ocsp, OcspAnswer};
use crate::revocation::settle::{CrlSource, Later, Responder};
use crate::revocation::{Link, RevocationConfig};

/// Whoever may be asked beyond this process.
#[derive(Default)]
pub(super) struct Online {
    pub(super) fetcher: Option<Arc<dyn CrlSource>>,
    pub(super) responder: Option<Arc<dyn Responder>>,
}

impl Online {
    /// As configured: a fetcher where distribution points may be asked, responders where some are named.
    pub(super) fn new(config: &RevocationConfig, directory: Option<Directory>) -> Result<Self, LoadError> {
        let directory = directory.map(|directory| Arc::new(directory) as Arc<dyn ListSource>);
        let fetcher = match config.distribution_points.is_empty() {
            true => None,
            false => Some(Arc::new(Fetcher::new(config, directory)?) as Arc<dyn CrlSource>),
        };
        let responder = match &config.ocsp {
            None => None,
            Some(ocsp) => Some(Arc::new(Ocsp::new(ocsp, &Http::new(&config.fetch_trust_anchors)?)?) as Arc<dyn Responder>),
        };
        Ok(Self { fetcher, responder })
    }
}

impl ListSource for Directory {
    fn values<'a>(&'a self, name: &'a str, attribute: &'a str, deadline: Instant) -> Answer<'a, Vec<Vec<u8>>> {
        Box::pin(self.values(name, attribute, deadline))
    }
}

impl CrlSource for Fetcher {
    fn allows(&self, uri: &str) -> bool {
        self.allows(uri)
    }

    fn crl<'a>(&'a self, uri: &'a str, deadline: Instant) -> Later<'a, Result<Vec<u8>, Failure>> {
        Box::pin(self.crl(uri, deadline))
    }
}

impl Responder for Ocsp {
    fn known(&self, link: &Link<'_>, now: UnixTime) -> Option<OcspAnswer> {
        self.known(link, now)
    }

    fn ask<'a>(&'a self, link: &'a Link<'a>, now: UnixTime, deadline: Instant) -> Later<'a, OcspAnswer> {
        Box::pin(self.ask(link, now, deadline))
    }
}
