//! Which KDCs of a realm are well, which rest after a failure, and who may find out whether they are back.
//!
//! ```text
//! well --fails--> rests 5 s, 10 s, ... 80 s: asked after the others --its rest is over--> one exchange asks it --answers--> well
//! all of them rest, and one is silent: the circuit is open. Exchanges fail at once but for one at a time, one a second, that asks them all
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::transport::AttemptError;
use crate::naming::name::Realm;

/// A KDC that failed is asked after the others for this long, doubled with every further failure.
pub(super) const FIRST_REST: Duration = Duration::from_secs(5);
pub(super) const LONGEST_REST: Duration = Duration::from_secs(80);
/// While no KDC is well, one exchange asks them all; the next one does so this long after it failed.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// A KDC that is well answers within this time; the others wait so long for what the one finds that asks.
const PROBE_PATIENCE: Duration = Duration::from_millis(150);
/// After datagrams were lost and TCP was not, a KDC is asked by TCP alone for this long.
const DATAGRAMS_LOST: Duration = Duration::from_mins(10);

/// The KDCs of one realm.
pub(super) struct Health {
    realm: Realm,
    state: Mutex<State>,
    /// Told whenever a probe ends.
    probe_ended: Notify,
}

#[derive(Default)]
struct State {
    /// Only KDCs that failed last time are in it.
    ill: HashMap<SocketAddr, Ill>,
    outage: Option<Outage>,
    no_datagrams: HashMap<SocketAddr, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Ill {
    reason: AttemptError,
    /// When it failed last.
    at: Instant,
    /// Until then it is asked after the others.
    rests_until: Instant,
    rest: Duration,
    /// One exchange is finding out whether it is back.
    probed: bool,
}

/// No KDC is well.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    probe_at: Instant,
    /// Since when one exchange asks.
    probing: Option<Instant>,
}

/// What one exchange is to do.
pub(super) enum Plan<'a> {
    /// Ask these in turn, and keep the other half until that has ended.
    Ask(Vec<Kdc>, Option<Probe<'a>>),
    /// Nothing: the circuit is open. Which KDCs failed, when and why.
    Fail(String),
    /// Wait for the word of the exchange that asks just now, no longer than this, and plan again: the first of a crowd that comes long after
    /// an outage finds the KDC well, and the others need not be refused meanwhile.
    Wait(Duration),
}

/// The one exchange that asks while the circuit is open. Dropped when it ends, however it ends.
pub(super) struct Probe<'a>(&'a Health);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(outage) = &mut self.0.state().outage {
            outage.probing = None;
            outage.probe_at = Instant::now() + PROBE_PAUSE;
        }
        self.0.probe_ended.notify_waiters();
    }
}

impl Health {
    pub(super) fn new(realm: Realm) -> Self {
        Self { realm, state: Mutex::default(), probe_ended: Notify::new() }
    }

    /// Ends when the exchange that asks just now has ended, or after `patience`.
    pub(super) async fn probe_ended(&self, patience: Duration) {
        let ended = self.probe_ended.notified();
        // It may have ended between the plan and this.
        if self.state().outage.is_some_and(|outage| outage.probing.is_some()) {
            let _ = timeout(patience, ended).await;
        }
    }

    /// The KDCs in the order given, those that rest last. A KDC whose rest is over is tried by one exchange, while the others leave
    /// it alone for `kdc_timeout`: so a KDC that came back is found without a stampede, and one that did not costs one exchange now
    /// and then.
    pub(super) fn plan(&self, located: Vec<Kdc>, kdc_timeout: Duration) -> Plan<'_> {
        let now = Instant::now();
        let mut state = self.state();
        if !located.is_empty() && located.iter().all(|kdc| state.ill.contains_key(&kdc.address)) {
            return self.plan_without_any(&mut state, located, now);
        }
        state.outage = None;
        let mut probing = false;
        let (mut ready, mut resting) = (Vec::new(), Vec::new());
        for kdc in located {
            match state.ill.get_mut(&kdc.address) {
                None => ready.push(kdc),
                Some(ill) if ill.rests_until <= now && !probing => {
                    probing = true;
                    *ill = Ill { rests_until: now + kdc_timeout, probed: true, ..*ill };
                    ready.push(kdc);
                }
                Some(_) => resting.push(kdc),
            }
        }
        ready.append(&mut resting);
        Plan::Ask(ready, None)
    }

    /// No KDC is well. If one of them is silent, one exchange asks them, the longest left alone first, so that each gets its turn within the
    /// exchange's time. Where all of them say at once that they are not there, asking costs nothing, and finds them back at once.
    fn plan_without_any(&self, state: &mut State, mut located: Vec<Kdc>, now: Instant) -> Plan<'_> {
        let State { ill, outage, .. } = state;
        let of = |kdc: &Kdc| ill.get(&kdc.address);
        let at = |kdc: &Kdc| of(kdc).map(|ill| ill.at);
        let outage = outage.get_or_insert_with(|| {
            tracing::error!(realm = %self.realm, kdcs = %told(&located, ill, now), "every KDC of the realm has failed");
            let last = located.iter().filter_map(at).max().unwrap_or(now);
            Outage { since: now, probe_at: last + PROBE_PAUSE, probing: None }
        });
        if !located.iter().filter_map(of).any(|ill| ill.reason == AttemptError::TimedOut) {
            return Plan::Ask(located, None);
        }
        let patience = outage.probing.map_or(Duration::ZERO, |since| (since + PROBE_PATIENCE).saturating_duration_since(now));
        if !patience.is_zero() {
            return Plan::Wait(patience);
        }
        if outage.probing.is_some() || now < outage.probe_at {
            return Plan::Fail(format!("circuit open for {}: {}", whole(now - outage.since), told(&located, ill, now)));
        }
        outage.probing = Some(now);
        located.sort_by_key(at);
        Plan::Ask(located, Some(Probe(self)))
    }

    /// This KDC answered. The first to do so after all had failed ends the others' rest: what they had in common is over.
    pub(super) fn answered(&self, kdc: &Kdc) {
        let mut state = self.state();
        if state.ill.remove(&kdc.address).is_some() {
            tracing::info!(realm = %self.realm, %kdc, "a KDC answers again");
        }
        if let Some(outage) = state.outage.take() {
            let now = Instant::now();
            for ill in state.ill.values_mut() {
                *ill = Ill { rests_until: now, rest: FIRST_REST, probed: false, ..*ill };
            }
            tracing::info!(realm = %self.realm, %kdc, lasted = ?(now - outage.since), "the realm has a KDC again");
        }
    }

    /// This KDC did not answer.
    pub(super) fn failed(&self, kdc: &Kdc, reason: AttemptError) {
        let now = Instant::now();
        let mut state = self.state();
        let in_outage = state.outage.is_some();
        if !in_outage {
            // Addresses that DNS no longer names are forgotten.
            state.ill.retain(|_, ill| ill.rests_until + LONGEST_REST > now);
        }
        let rest = match state.ill.get_mut(&kdc.address) {
            None => FIRST_REST,
            Some(ill) if !in_outage && (ill.probed || ill.rests_until <= now) => (ill.rest * 2).min(LONGEST_REST),
            Some(ill) => {
                // It rests already: this exchange started before that, or had nobody else to ask.
                *ill = Ill { reason, at: now, ..*ill };
                return;
            }
        };
        state.ill.insert(kdc.address, Ill { reason, at: now, rests_until: now + rest, rest, probed: false });
        drop(state);
        tracing::warn!(realm = %self.realm, %kdc, %reason, rest = ?rest, "a KDC does not answer; the others are asked first");
    }

    /// Whether it is worth while to send this KDC datagrams.
    pub(super) fn takes_datagrams(&self, kdc: &Kdc) -> bool {
        self.state().no_datagrams.get(&kdc.address).is_none_or(|until| *until <= Instant::now())
    }

    /// A datagram got no answer, and TCP did.
    pub(super) fn lost_datagrams(&self, kdc: &Kdc) {
        let now = Instant::now();
        let mut state = self.state();
        state.no_datagrams.retain(|_, until| *until > now);
        if state.no_datagrams.insert(kdc.address, now + DATAGRAMS_LOST).is_none() {
            tracing::info!(realm = %self.realm, %kdc, "datagrams to a KDC get no answer, or none in time; it is asked by TCP for a while");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which KDCs failed, why, and how long ago.
fn told(located: &[Kdc], ill: &HashMap<SocketAddr, Ill>, now: Instant) -> String {
    let each = located.iter().filter_map(|kdc| {
        let ill = ill.get(&kdc.address)?;
        Some(format!("{kdc}: {} {} ago", ill.reason, whole(now - ill.at)))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// In whole seconds, for people.
fn whole(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[cfg(test)]
mod tests;
