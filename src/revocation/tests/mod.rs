//! The engine as a whole, a table of acceptances and refusals at a time.

mod asking;
mod holding;
mod judging;
mod reading;
mod watching;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use crate::failure::{Cause, Failure};
use crate::revocation::testkit::{Device, NOW};
use crate::revocation::{OwnedAuthority, Revocation, RevocationConfig, RevocationOrder, RevocationPolicy, Verdict};

fn config() -> RevocationConfig {
    RevocationConfig {
        policy: RevocationPolicy::Require,
        crl_files: Vec::new(),
        crl_directories: Vec::new(),
        scan_interval: Duration::from_secs(10),
        distribution_points: Vec::new(),
        fetch_trust_anchors: Vec::new(),
        fetch_timeout: Duration::from_secs(10),
        max_crl_bytes: 1 << 20,
        grace: Duration::ZERO,
        order: RevocationOrder::OcspFirst,
        ocsp: None,
    }
}

/// Files with lists in a directory of their own.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the file as a whole, as a publisher should.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        let new = self.path("new").with_extension("tmp");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

/// An engine that read these lists from files in this order.
fn engine(lists: &[Vec<u8>], known: Vec<OwnedAuthority>, change: impl FnOnce(&mut RevocationConfig)) -> Arc<Revocation> {
    let place = Place::new();
    let mut config = config();
    config.crl_files = lists.iter().enumerate().map(|(at, list)| place.put(&format!("{at}.crl"), list)).collect();
    change(&mut config);
    Revocation::load(&config, known, None, None).unwrap()
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

fn status(engine: &Revocation, device: &Device) -> Verdict {
    engine.status(&[device.link()], at(NOW))
}

fn is_clear(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Clear { open: None, .. })
}

fn refusal(verdict: Verdict) -> Failure {
    match verdict {
        Verdict::Refused(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn cause(verdict: Verdict) -> Cause {
    refusal(verdict).cause
}
