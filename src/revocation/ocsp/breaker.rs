//! Responders in trouble are left alone for a while, so that nobody waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::revocation::fetch::Origin;

/// In a row, before a responder is left alone.
const FAILURES: u32 = 3;
/// For so long; then one question tries it again.
const PAUSE: Duration = Duration::from_secs(30);

/// One breaker a responder. There are no more than the operator allows origins.
#[derive(Clone, Debug, Default)]
pub(super) struct Breakers(Arc<Mutex<HashMap<Origin, State>>>);

/// Leave to ask once; dropped without a verdict, nothing was learnt.
#[derive(Debug)]
pub(super) struct Leave {
    breakers: Breakers,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    failures: u32,
    closed_again: Option<Instant>,
    probing: bool,
}

impl Breakers {
    /// Leave to ask a responder, or for how much longer there is none (zero: somebody is trying right now).
    pub(super) fn enter(&self, origin: &Origin, now: Instant) -> Result<Leave, Duration> {
        let mut states = self.lock();
        let state = states.entry(origin.clone()).or_default();
        if let Some(until) = state.closed_again {
            if now < until || state.probing {
                return Err(until.saturating_duration_since(now));
            }
            state.probing = true;
        }
        Ok(Leave { breakers: self.clone(), origin: origin.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// The responder works.
    pub(super) fn succeeded(self) {
        self.breakers.lock().remove(&self.origin);
    }

    /// The responder is in trouble.
    pub(super) fn failed(self, now: Instant) {
        if let Some(state) = self.breakers.lock().get_mut(&self.origin) {
            state.failures = state.failures.saturating_add(1);
            if state.failures >= FAILURES {
                state.closed_again = Some(now + PAUSE);
            }
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(state) = self.breakers.lock().get_mut(&self.origin) {
            state.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        Origin { secure: false, host: host.into(), port: 80 }
    }

    #[test]
    fn after_three_failures_in_a_row_a_responder_is_left_alone_then_one_question_tries_it() {
        let (breakers, one, now) = (Breakers::default(), origin("one"), Instant::now());
        for _ in 0..FAILURES {
            breakers.enter(&one, now).unwrap().failed(now);
        }
        assert_eq!(breakers.enter(&one, now).unwrap_err(), PAUSE);
        assert!(breakers.enter(&origin("two"), now).is_ok());
        let later = now + PAUSE;
        let probe = breakers.enter(&one, later).unwrap();
        assert_eq!(breakers.enter(&one, later).unwrap_err(), Duration::ZERO);
        probe.failed(later);
        assert_eq!(breakers.enter(&one, later).unwrap_err(), PAUSE);
        breakers.enter(&one, later + PAUSE).unwrap().succeeded();
        for _ in 1..FAILURES {
            breakers.enter(&one, later).unwrap().failed(later);
        }
        assert!(breakers.enter(&one, later).is_ok());
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (breakers, one, now) = (Breakers::default(), origin("one"), Instant::now());
        for _ in 0..2 * FAILURES {
            breakers.enter(&one, now).unwrap().failed(now);
            breakers.enter(&one, now).unwrap().succeeded();
        }
        assert!(breakers.enter(&one, now).is_ok());
    }

    #[test]
    fn a_probe_that_is_given_up_lets_another_one_try() {
        let (breakers, one, now) = (Breakers::default(), origin("one"), Instant::now());
        for _ in 0..FAILURES {
            breakers.enter(&one, now).unwrap().failed(now);
        }
        drop(breakers.enter(&one, now + PAUSE).unwrap());
        assert!(breakers.enter(&one, now + PAUSE).is_ok());
    }
}
