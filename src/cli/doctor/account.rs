//! The stage `account`: the bridge's own account, by the KDC and, where one is configured, by the directory.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{FindingLine, StageLine};
use crate::directory::{Answer, Directory, ServiceAccount};
use crate::failure::Failure;
use crate::kerberos::own_account::{Look, judge};
use crate::kerberos::refusal::{DelegationFacts, Facts, look_up, own_account};
use crate::naming::name::{OwnPrincipal, Spn};

/// For the directory.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory of the configuration.
#[derive(Debug)]
pub(super) struct Configured(pub(super) Directory);

impl DelegationFacts for Configured {
    fn facts<'a>(&'a self, own: &'a OwnPrincipal, spn: &'a Spn, deadline: Instant) -> Answer<'a, Option<Facts>> {
        Box::pin(async move { look_up(&self.0, own, spn, deadline).await.map(Some) })
    }
}

/// What the directory shows of the account, or why it shows nothing.
pub(super) struct Shown {
    account: Option<ServiceAccount>,
    words: String,
}

pub(super) async fn shown(directory: Option<&Directory>, own: &OwnPrincipal) -> Shown {
    let Some(directory) = directory else { return Shown { account: None, words: "by the KDC alone".to_owned() } };
    match own_account(directory, own, Instant::now() + PATIENCE).await {
        Ok(Some(account)) => Shown { words: format!("by the KDC and the directory ({})", account.dn), account: Some(account) },
        Ok(None) => Shown { account: None, words: "by the KDC alone: the directory shows no such account".to_owned() },
        Err(Failure { cause, detail, .. }) => {
            Shown { account: None, words: format!("by the KDC alone: {}: {detail}", cause.summary()) }
        }
    }
}

pub(super) fn line(own: &OwnPrincipal, look: &Look, took: Duration, shown: &Shown) -> StageLine {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let found = judge(own, look, shown.account.as_ref(), i64::try_from(now).unwrap_or(i64::MAX));
    let findings: Vec<_> = found
        .into_iter()
        .map(|finding| FindingLine {
            code: finding.flaw.code(),
            severity: finding.flaw.severity().name(),
            message: finding.flaw.summary(),
            detail: finding.detail,
            remedy: finding.remedy,
        })
        .collect();
    let count = match findings.len() {
        0 => "no finding".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    let incomplete =
        look.failure().map_or_else(String::new, |failure| format!("; not all was to be seen: {}", failure.cause.code()));
    StageLine {
        stage: "account",
        verdict: if findings.is_empty() { "good" } else { "findings" },
        milliseconds: took.as_millis(),
        seen: format!("{own}, {}: {count}{incomplete}", shown.words),
        reason: None,
        warning: None,
        remedy: None,
        findings,
    }
}
