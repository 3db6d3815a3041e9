//! Everything a certificate is judged by, made from one configuration and replaced as a whole.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::CertificateDer;
use tracing::{error, info};

use crate::config::Config;
use crate::directory::{Accounts, Directory};
use crate::failure::Failure;
use crate::identity::Mapper;
use crate::revocation::{ListSource, Revocation};
use crate::tls::{self, NtAuth, Trust};

/// Time for everybody who has to be asked about one certificate: responders, distribution points, the directory.
pub(in crate::cli) const JUDGEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The directory's NTAuth store.
type NtAuthStore = Vec<CertificateDer<'static>>;

/// Who decides whether a certificate is let in, and for whom.
#[derive(Debug)]
pub(in crate::cli) struct Admission {
    pub(in crate::cli) trust: Arc<Trust>,
    pub(in crate::cli) revocation: Arc<Revocation>,
    pub(in crate::cli) mapper: Arc<Mapper>,
    pub(in crate::cli) directory: Option<Directory>,
    /// The NTAuth store as the directory gave it, where the configuration wants it from there.
    pub(in crate::cli) nt_auth: Option<NtAuthStore>,
    /// How often open connections are judged again.
    pub(in crate::cli) recheck_interval: Duration,
    /// How far the forecast of certificates that end looks ahead.
    pub(in crate::cli) expiry_forecast: Duration,
}

/// What of an earlier admission goes on.
struct Before<'a> {
    revocation: &'a Arc<Revocation>,
    nt_auth: Option<&'a NtAuthStore>,
    mapper: Option<&'a Mapper>,
}

impl Admission {
    /// Reads every file. The directory is asked for its NTAuth store where that is configured; while it does not answer, nobody is
    /// let in.
    pub(in crate::cli) async fn load(config: &Config) -> Result<Self, String> {
        Self::made(config, None).await
    }

    /// The same in the place of another, which was made from `before`: what it knows to be revoked stays so, and while the same
    /// directory does not answer, its NTAuth store and the accounts it named are taken to be what they were.
    pub(in crate::cli) async fn load_after(&self, before: &Config, config: &Config) -> Result<Self, String> {
        let same_directory = before.directory == config.directory;
        let nt_auth = self.nt_auth.as_ref().filter(|_| same_directory);
        let mapper = Some(&*self.mapper).filter(|_| same_directory);
        Self::made(config, Some(Before { revocation: &self.revocation, nt_auth, mapper })).await
    }

    async fn made(config: &Config, before: Option<Before<'_>>) -> Result<Self, String> {
        let known_nt_auth = before.as_ref().and_then(|before| before.nt_auth);
        let directory = config.directory.as_ref().map(Directory::load).transpose().map_err(|error| error.to_string())?;
        let known = tls::authorities(&config.client_certificates).map_err(|error| error.to_string())?;
        let revocation = {
            let config = config.client_certificates.revocation.clone();
            let directory = directory.clone().map(|directory| Arc::new(directory) as Arc<dyn ListSource>);
            let earlier = before.as_ref().map(|before| Arc::clone(before.revocation));
            // CRLs may be large.
            let loading = tokio::task::spawn_blocking(move || Revocation::load(&config, known, directory, earlier.as_deref()));
            loading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
        };
        let nt_auth = match (&config.client_certificates.nt_auth, &directory) {
            (NtAuth::Directory, Some(directory)) => known_or_read(directory, known_nt_auth).await,
            _ => None,
        };
        let trust = Arc::new(Self::trust(config, &revocation, nt_auth.as_deref())?);
        let accounts = directory.clone().map(|directory| Arc::new(directory) as Arc<dyn Accounts>);
        let mapper = Mapper::load(&config.mapping, &config.accounts, accounts).map_err(|error| error.to_string())?;
        let mapper = match before.and_then(|before| before.mapper) {
            Some(before) => mapper.in_place_of(before),
            None => mapper,
        };
        let (recheck_interval, expiry_forecast) =
            (config.client_certificates.recheck_interval, config.client_certificates.expiry_forecast);
        Ok(Self { trust, revocation, mapper: Arc::new(mapper), directory, nt_auth, recheck_interval, expiry_forecast })
    }

    /// The same for what can be known without asking anybody: nobody is mapped by rules that look accounts up, and the directory's
    /// NTAuth store does not count. A chain whose revocation is open must not be settled.
    pub(in crate::cli) async fn load_offline(config: &Config) -> Result<Self, String> {
        let mut certificates = config.client_certificates.clone();
        if certificates.nt_auth == NtAuth::Directory {
            certificates.nt_auth = NtAuth::Off;
        }
        let offline = Config { client_certificates: certificates, directory: None, mapping: Vec::new(), ..config.clone() };
        let mapper = Mapper::load_offline(&config.mapping, &config.accounts).map_err(|error| error.to_string())?;
        Ok(Self { mapper: Arc::new(mapper), ..Self::load(&offline).await? })
    }

    /// The same with the directory's NTAuth store as it is now, or nothing where it has not changed.
    pub(in crate::cli) async fn with_today_s_nt_auth(&self, config: &Config) -> Result<Option<Self>, String> {
        let (NtAuth::Directory, Some(directory)) = (&config.client_certificates.nt_auth, &self.directory) else {
            return Ok(None);
        };
        let found = nt_auth(directory).await.map_err(|failure| failure.to_string())?;
        if self.nt_auth.as_ref() == Some(&found) {
            return Ok(None);
        }
        info!(certificates = found.len(), "the NTAuth store was read");
        let trust = Arc::new(Self::trust(config, &self.revocation, Some(&found))?);
        let (revocation, mapper, directory) = (Arc::clone(&self.revocation), Arc::clone(&self.mapper), self.directory.clone());
        let nt_auth = Some(found);
        Ok(Some(Self { trust, revocation, mapper, directory, nt_auth, ..*self }))
    }

    fn trust(config: &Config, revocation: &Arc<Revocation>, nt_auth: Option<&[CertificateDer<'_>]>) -> Result<Trust, String> {
        Trust::load(&config.client_certificates, Arc::clone(revocation), nt_auth).map_err(|error| error.to_string())
    }
}

async fn nt_auth(directory: &Directory) -> Result<NtAuthStore, Failure> {
    directory.nt_auth(Instant::now() + JUDGEMENT_TIMEOUT).await
}

/// The store as it is, or else as it was.
async fn known_or_read(directory: &Directory, known: Option<&NtAuthStore>) -> Option<NtAuthStore> {
    let failure = match nt_auth(directory).await {
        Ok(store) => return Some(store),
        Err(failure) => failure,
    };
    let remedy = failure.cause.remedy();
    let until_then = if known.is_some() { "it stays as it was" } else { "nobody is let in until it can" };
    error!(remedy, "the NTAuth store cannot be read, {until_then}: {failure}");
    known.cloned()
}

/// Why a configuration file cannot be used, every problem on a line of its own.
pub(in crate::cli) fn read(path: &Path) -> Result<Config, String> {
    crate::config::load(path).map_err(|problems| format!("the configuration cannot be used:\n{problems}"))
}
