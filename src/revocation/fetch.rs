//! Fetching CRLs from distribution points that verified certificates name: only from where the operator allows it, never more than
//! he allows, never longer than he waits. What comes back is bytes of a stranger.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod http;
mod ldap;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::certificate::LoadError;
use crate::der::{self, tag};
use crate::directory::Answer;
use crate::failure::{Cause, Failure};
use crate::revocation::RevocationConfig;

pub(crate) use http::{Http, HttpError, Question};
pub(crate) use ldap::LdapUrl;
pub(crate) use url::{AllowList, HttpUrl, Origin, Url, shown};

/// At a time: together they hold at most so many times `max_crl_bytes`.
const MAX_FETCHES: usize = 8;

/// Where LDAP distribution points are read: the configured directory, whichever server a certificate was thinking of.
pub(crate) trait ListSource: Send + Sync + fmt::Debug {
    /// The values of one attribute of one entry; none where either does not exist.
    fn values<'a>(&'a self, name: &'a str, attribute: &'a str, deadline: Instant) -> Answer<'a, Vec<Vec<u8>>>;
}

/// Fetches CRLs.
pub(crate) struct Fetcher {
    http: Http,
    directory: Option<Arc<dyn ListSource>>,
    allowed: AllowList,
    timeout: Duration,
    max_bytes: u64,
    places: Semaphore,
    counters: Counters,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchCounts {
    /// CRLs asked for.
    pub(crate) asked: u64,
    /// Of these, not obtained.
    pub(crate) errors: u64,
    /// Bytes of CRLs obtained.
    pub(crate) bytes: u64,
}

#[derive(Default)]
struct Counters {
    asked: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

impl Fetcher {
    /// Reads the trust anchors and the list of what is allowed. `directory`: for `ldap:///`.
    pub(crate) fn new(config: &RevocationConfig, directory: Option<Arc<dyn ListSource>>) -> Result<Self, LoadError> {
        let http = Http::new(&config.fetch_trust_anchors)?;
        let allowed = allow_list(&config.distribution_points, &http, "distribution_points")?;
        Ok(Self {
            http,
            directory,
            allowed,
            timeout: config.fetch_timeout,
            max_bytes: config.max_crl_bytes,
            places: Semaphore::new(MAX_FETCHES),
            counters: Counters::default(),
        })
    }

    /// The maker of connections, with the same trust anchors.
    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// Whether a distribution point may be asked.
    pub(crate) fn allows(&self, uri: &str) -> bool {
        self.permitted(uri).is_ok()
    }

    /// One CRL in DER. Says nothing about who signed it.
    pub(crate) async fn crl(&self, uri: &str, deadline: Instant) -> Result<Vec<u8>, Failure> {
        self.counters.asked.fetch_add(1, Ordering::Relaxed);
        let fetched = match self.permitted(uri) {
            Ok(url) => self.fetch(&url, deadline).await,
            Err(reason) => Err(reason),
        };
        match fetched {
            Ok(list) => {
                self.counters.bytes.fetch_add(u64::try_from(list.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                Ok(list)
            }
            Err(reason) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                Err(Failure::new(Cause::RevocationUnknown, format!("{}: {reason}", shown(uri))))
            }
        }
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> FetchCounts {
        FetchCounts {
            asked: self.counters.asked.load(Ordering::Relaxed),
            errors: self.counters.errors.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }

    fn permitted(&self, uri: &str) -> Result<Url, String> {
        let url = Url::parse(uri).map_err(|error| error.to_string())?;
        if !self.allowed.allows(&url) {
            return Err("not below any of revocation.distribution_points".into());
        }
        if matches!(url, Url::Ldap(_)) && self.directory.is_none() {
            return Err("LDAP without a configured [directory]".into());
        }
        Ok(url)
    }

    async fn fetch(&self, url: &Url, deadline: Instant) -> Result<Vec<u8>, String> {
        let deadline = Instant::now().checked_add(self.timeout).map_or(deadline, |own| own.min(deadline));
        let place = timeout_at(deadline.into(), self.places.acquire()).await;
        let _place = place.map_err(|_| "too many others are being fetched")?.map_err(|error| error.to_string())?;
        let body = match url {
            Url::Http(url) => self
                .http
                .ask(&url.origin, Question::Get(url.target()), self.max_bytes, deadline)
                .await
                .map_err(|error| error.to_string())?,
            Url::Ldap(url) => self.ask_directory(url, deadline).await?,
        };
        one_list(body).await
    }

    /// AD knows the attribute by both names; other servers hand out binary values only when asked for `;binary` (RFC 4522).
    async fn ask_directory(&self, url: &LdapUrl, deadline: Instant) -> Result<Vec<u8>, String> {
        let directory = self.directory.as_ref().ok_or("no directory")?;
        let ask = async {
            let binary = format!("{};binary", url.attribute);
            let values = directory.values(&url.name, &binary, deadline).await?;
            if values.is_empty() { directory.values(&url.name, url.attribute, deadline).await } else { Ok(values) }
        };
        let answered = timeout_at(deadline.into(), ask).await.map_err(|_| HttpError::Timeout.to_string())?;
        let mut values = answered.map_err(|failure: Failure| failure.to_string())?;
        match (values.pop(), values.len()) {
            (None, _) => Err("the directory has no such list".into()),
            (Some(list), 0) if u64::try_from(list.len()).is_ok_and(|length| length <= self.max_bytes) => Ok(list),
            (Some(_), 0) => Err(HttpError::TooLarge(self.max_bytes).to_string()),
            (Some(_), more) => Err(format!("the directory has {} lists there", more + 1)),
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

/// The prefixes of one setting, usable as they are.
pub(crate) fn allow_list(prefixes: &[String], http: &Http, setting: &str) -> Result<AllowList, LoadError> {
    let remedy = format!("{setting}: prefixes as http://host/path, https://host/path or ldap:///");
    let allowed = AllowList::parse(prefixes)
        .map_err(|(prefix, error)| LoadError::new(prefix.as_ref(), format!("is no usable prefix: {error}"), remedy))?;
    if allowed.needs_tls() && !http.can_tls() {
        let problem = "has an https prefix, but no trust anchor for it";
        return Err(LoadError::new(setting.as_ref(), problem, "name its CA in revocation.fetch_trust_anchors"));
    }
    Ok(allowed)
}

/// Exactly one CRL, of PEM or DER, as DER.
async fn one_list(body: Vec<u8>) -> Result<Vec<u8>, String> {
    if body.first() == Some(&tag::SEQUENCE) {
        return match der::only(&body, tag::SEQUENCE) {
            Ok(_) => Ok(body),
            Err(error) => Err(format!("not a CRL: {error}")),
        };
    }
    // Tens of megabytes of Base64 are not for a thread that serves connections.
    let decode = move || {
        let mut lists = CertificateRevocationListDer::pem_slice_iter(&body);
        match (lists.next(), lists.next()) {
            (Some(Ok(list)), None) => Ok(list.as_ref().to_vec()),
            (None, _) => Err("neither a CRL in DER nor in PEM".to_owned()),
            (Some(Ok(_)), Some(_)) => Err("more than one CRL".to_owned()),
            (Some(Err(error)), _) => Err(format!("not a CRL: {error}")),
        }
    };
    tokio::task::spawn_blocking(decode).await.map_err(|error| error.to_string())?
}

#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
