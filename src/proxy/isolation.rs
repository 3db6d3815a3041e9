//! Whether a back end is known to keep users apart. Where that is to be proved, nobody is served before it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::{Cause, Failure};
use crate::identity::{Principal, RuleKind};

/// What is known of a back end's isolation of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// No self-test is configured.
    Off,
    /// No self-test has come to an end yet, and why.
    Unproved(String),
    /// The last one that came to an end saw every user served as themselves.
    Proved,
    /// The last one that came to an end saw this.
    Failed(String),
}

impl Isolation {
    /// The names of all states, in metrics and log.
    pub const NAMES: [&'static str; 4] = ["off", "unproved", "proved", "failed"];

    /// Name in metrics and log.
    pub const fn name(&self) -> &'static str {
        let [off, unproved, proved, failed] = Self::NAMES;
        match self {
            Self::Off => off,
            Self::Unproved(_) => unproved,
            Self::Proved => proved,
            Self::Failed(_) => failed,
        }
    }
}

/// Lets requests through to one back end, or not. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Gate(Option<Arc<Mutex<Isolation>>>);

impl Gate {
    /// Closed until it is proved, or always open.
    pub(super) fn new(to_be_proved: bool) -> Self {
        let closed = || Arc::new(Mutex::new(Isolation::Unproved("the self-test has not ended yet".into())));
        Self(to_be_proved.then(closed))
    }

    /// The probes of the self-test pass; devices do once it is proved.
    pub(super) fn admits(&self, principal: &Principal) -> Result<(), Failure> {
        let Some(state) = &self.0 else { return Ok(()) };
        if principal.rule() == RuleKind::SelfTest {
            return Ok(());
        }
        match &*locked(state) {
            Isolation::Off | Isolation::Proved => Ok(()),
            Isolation::Unproved(why) => Err(Failure::new(Cause::IsolationUnproved, why.clone())),
            Isolation::Failed(why) => Err(Failure::new(Cause::IsolationFailed, why.clone())),
        }
    }

    pub(super) fn state(&self) -> Isolation {
        self.0.as_ref().map_or(Isolation::Off, |state| locked(state).clone())
    }

    /// Notes what a self-test showed. Returns what was known before.
    pub(super) fn set(&self, now: Isolation) -> Isolation {
        self.0.as_ref().map_or(Isolation::Off, |state| std::mem::replace(&mut *locked(state), now))
    }
}

fn locked(state: &Mutex<Isolation>) -> MutexGuard<'_, Isolation> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
