//! Asks for the facts behind a refusal: after it, seldom, and not for long.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::failure::{Cause, Failure, Name};
use crate::kerberos::refusal::by_directory::{by_directory, worth_asking};
use crate::kerberos::refusal::{DelegationFacts, Facts};
use crate::naming::name::{OwnPrincipal, Spn};

/// How long a refusal waits for its explanation.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an explanation counts for the next refusals of the same kind, also one that was not to be had.
const MEMORY: Duration = Duration::from_mins(1);

/// What was found out, once for all who wait for it.
type Found = Arc<OnceCell<Option<Facts>>>;

/// Explains failures. A cause and an SPN are asked about once a minute; SPNs are those of the configuration.
pub struct Investigator {
    own: OwnPrincipal,
    source: Arc<dyn DelegationFacts>,
    asked: Mutex<HashMap<(Cause, Spn), (Instant, Found)>>,
}

impl Investigator {
    /// For failures of this account.
    pub fn new(own: OwnPrincipal, source: Arc<dyn DelegationFacts>) -> Self {
        Self { own, source, asked: Mutex::default() }
    }

    /// The failure, with another line of the table or more detail where the directory knows better; as it was where it does not.
    pub async fn explain(&self, failure: Failure, spn: &Spn) -> Failure {
        if !worth_asking(failure.cause) {
            return failure;
        }
        let found = self.found(failure.cause, spn);
        match found.get_or_init(|| self.ask(spn)).await {
            Some(facts) => by_directory(named(failure, &self.own, Some(spn)), facts, spn),
            None => failure,
        }
    }

    fn found(&self, cause: Cause, spn: &Spn) -> Found {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = asked.entry((cause, spn.clone())).or_insert_with(|| (Instant::now(), Found::default()));
        if since.elapsed() >= MEMORY {
            (*since, *found) = (Instant::now(), Found::default());
        }
        Arc::clone(found)
    }

    async fn ask(&self, spn: &Spn) -> Option<Facts> {
        let deadline = Instant::now() + PATIENCE;
        let asking = self.source.facts(&self.own, spn, deadline.into_std());
        match timeout_at(deadline, asking).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(failure)) => {
                warn!(%spn, %failure, "the directory cannot say why delegation is refused");
                None
            }
            Err(_elapsed) => {
                warn!(%spn, "the directory does not say in time why delegation is refused");
                None
            }
        }
    }
}

/// The failure with the names that its remedy may want.
pub(in crate::kerberos) fn named(failure: Failure, own: &OwnPrincipal, spn: Option<&Spn>) -> Failure {
    let failure = match &own.name().components[..] {
        [account] => failure.naming(Name::Account, account),
        // A service principal name: which account has it, the directory knows.
        _ => failure,
    };
    match spn {
        Some(spn) => failure.naming(Name::Spn, &spn.to_string()),
        None => failure,
    }
}

impl fmt::Debug for Investigator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Investigator").field("own", &self.own).finish_non_exhaustive()
    }
}
