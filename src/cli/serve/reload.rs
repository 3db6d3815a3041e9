//! SIGHUP: certificates, trust, revocation, mapping and the directory are read again and replaced as a whole, or not at all; then
//! every back end that has a self-test is tested again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use crate::cli::admission::{self, Admission};
use crate::cli::check;
use crate::cli::serve::devices::Devices;
use crate::config::Config;
use crate::shutdown::Shutdown;
use crate::tls::{Credentials, ListenerConfig, NtAuth};

/// How often the directory's NTAuth store is read again, and how soon after it could not be.
const NT_AUTH_INTERVAL: Duration = Duration::from_hours(1);
const NT_AUTH_RETRY: Duration = Duration::from_secs(30);

/// What is in force, and the task that keeps its revocation data fresh.
pub(super) struct Reloader {
    path: PathBuf,
    devices: Arc<Devices>,
    /// What the process was started with: some of it stays until it ends.
    started: Config,
    /// The newest that is in force.
    config: Config,
    refreshing: AbortHandle,
    /// Has every self-test run again.
    test_again: watch::Sender<()>,
    shutdown: Shutdown,
}

impl Reloader {
    pub(super) fn new(
        path: PathBuf,
        devices: Arc<Devices>,
        config: Config,
        test_again: watch::Sender<()>,
        shutdown: Shutdown,
    ) -> Self {
        let refreshing = refresh(&devices.admission(), &shutdown);
        Self { path, devices, started: config.clone(), config, refreshing, test_again, shutdown }
    }

    /// Reloads at every word; reads the NTAuth store from time to time. Ends with the process.
    pub(super) async fn run(mut self, mut words: mpsc::Receiver<()>) {
        let mut pause = self.pause();
        loop {
            tokio::select! {
                word = words.recv() => match word {
                    Some(()) => {
                        self.reload().await;
                        self.test_again.send_replace(());
                    }
                    None => return,
                },
                () = tokio::time::sleep(pause), if self.asks_for_nt_auth() => self.read_nt_auth().await,
                () = self.shutdown.draining() => return,
            }
            pause = self.pause();
        }
    }

    async fn reload(&mut self) {
        match self.replaced().await {
            Ok(new) => {
                for section in unchangeable(&self.started, &new) {
                    warn!(section, "differs from what runs, and is in force only after a restart");
                }
                for (key, message, remedy) in check::notable_settings(&new) {
                    warn!(key, remedy, "{message}");
                }
                self.config = new;
                info!("reloaded: certificates, trust, revocation, mapping and directory are those of the file now");
            }
            Err(problem) => error!("nothing was reloaded, everything stays as it was: {problem}"),
        }
    }

    /// The new configuration, in force.
    async fn replaced(&mut self) -> Result<Config, String> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || admission::read(&path));
        let config = reading.await.map_err(|error| error.to_string())??;
        let credentials = Credentials::load(&config.listener).map_err(|error| error.to_string())?;
        let admission = Arc::new(self.devices.admission().load_after(&self.config, &config).await?);
        self.devices.replace(Arc::clone(&admission), Some(credentials)).map_err(|failure| failure.to_string())?;
        self.refreshing.abort();
        self.refreshing = refresh(&admission, &self.shutdown);
        Ok(config)
    }

    fn asks_for_nt_auth(&self) -> bool {
        self.config.client_certificates.nt_auth == NtAuth::Directory
    }

    fn pause(&self) -> Duration {
        if self.devices.admission().nt_auth.is_some() { NT_AUTH_INTERVAL } else { NT_AUTH_RETRY }
    }

    async fn read_nt_auth(&self) {
        let changed = match self.devices.admission().with_today_s_nt_auth(&self.config).await {
            Ok(Some(admission)) => self.devices.replace(Arc::new(admission), None).map_err(|failure| failure.to_string()),
            Ok(None) => Ok(()),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = changed {
            error!("the NTAuth store cannot be read again, it stays as it was: {problem}");
        }
    }
}

fn refresh(admission: &Admission, shutdown: &Shutdown) -> AbortHandle {
    let revocation = Arc::clone(&admission.revocation);
    tokio::spawn(revocation.run(shutdown.clone())).abort_handle()
}

/// Sections whose changes need a restart.
fn unchangeable(old: &Config, new: &Config) -> Vec<&'static str> {
    // Certificate and key are read again.
    let listener =
        |config: &Config| ListenerConfig { certificate: PathBuf::new(), key: PathBuf::new(), ..config.listener.clone() };
    let changed = [
        ("listener", listener(old) != listener(new)),
        ("kerberos", old.kerberos != new.kerberos),
        ("backend", old.backends != new.backends),
        ("route", old.routes != new.routes),
        ("audit", old.audit != new.audit),
        ("log", old.log != new.log),
        ("metrics", old.metrics != new.metrics),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
}
