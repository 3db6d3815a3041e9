//! The bridge's own account, judged at the start; and the directory of the day, asked why delegation is refused.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use crate::cli::serve::devices::Devices;
use crate::directory::{Answer, ServiceAccount};
use crate::failure::{Cause, Failure};
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::own_account::{Severity, judge, look};
use crate::kerberos::refusal::{DelegationFacts, Facts, look_up, own_account};
use crate::kerberos::relay::RelayObserver;
use crate::naming::name::{OwnPrincipal, Spn};
use crate::shutdown::Shutdown;

/// Between two tries while no KDC answers.
const RETRY: Duration = Duration::from_mins(1);
/// For the directory; nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory that is configured now.
#[derive(Clone)]
pub(super) struct TodaysDirectory(pub(super) Arc<Devices>);

impl DelegationFacts for TodaysDirectory {
    fn facts<'a>(&'a self, own: &'a OwnPrincipal, spn: &'a Spn, deadline: Instant) -> Answer<'a, Option<Facts>> {
        Box::pin(async move {
            match &self.0.admission().directory {
                Some(directory) => look_up(directory, own, spn, deadline).await.map(Some),
                None => Ok(None),
            }
        })
    }
}

impl TodaysDirectory {
    async fn own_account(&self, own: &OwnPrincipal) -> Option<ServiceAccount> {
        let admission = self.0.admission();
        match own_account(admission.directory.as_ref()?, own, Instant::now() + PATIENCE).await {
            Ok(account) => account,
            Err(failure) => {
                warn!(%failure, "the directory does not show the bridge's own account, which is judged without it");
                None
            }
        }
    }
}

impl std::fmt::Debug for TodaysDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TodaysDirectory")
    }
}

/// Says what is wrong with the account. It delays nobody and ends nothing: what is wrong may be repaired while the bridge runs, and
/// tickets go on from there. Tried until a KDC has answered.
pub(super) async fn judged(config: KerberosConfig, relay: RelayObserver, directory: TodaysDirectory, shutdown: Shutdown) {
    loop {
        let (settings, observer) = (config.clone(), relay.clone());
        let looking = tokio::task::spawn_blocking(move || look(&settings, observer));
        let seen = match looking.await {
            Ok(Ok(seen)) => seen,
            Ok(Err(failure)) => return complain(&failure),
            Err(error) => return warn!(%error, "the bridge's own account was not judged"),
        };
        if seen.failure().is_none_or(|failure| failure.cause != Cause::KdcUnreachable) {
            let account = directory.own_account(&config.principal).await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let findings = judge(&config.principal, &seen, account.as_ref(), i64::try_from(now).unwrap_or(i64::MAX));
            if let Some(failure) = seen.failure() {
                complain(failure);
            } else if findings.is_empty() {
                info!(account = %config.principal, directory = account.is_some(), "nothing is wrong with the bridge's own account");
            }
            for finding in findings {
                let (code, remedy, detail) = (finding.flaw.code(), &finding.remedy, &finding.detail);
                let text = format!("the bridge's own account: {}", finding.flaw.summary());
                match finding.flaw.severity() {
                    Severity::Error => error!(finding = code, detail, remedy, "{text}"),
                    Severity::Warning => warn!(finding = code, detail, remedy, "{text}"),
                }
            }
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.draining() => return,
        }
    }
}

fn complain(failure: &Failure) {
    error!(reason = failure.cause.code(), remedy = failure.remedy(), "the bridge's own account: {failure}");
}
