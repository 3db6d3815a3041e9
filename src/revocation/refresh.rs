//! Fetching lists again before they end, and not again and again where nobody answers; forgetting what nobody needs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::certificate::name_text;
use crate::failure::Failure;
use crate::revocation::OwnedAuthority;
use crate::revocation::crl::Crl;
use crate::revocation::engine::{Shared, clock, locked};
use crate::revocation::lists::{Held, Signer, Source};
use crate::shutdown::Shutdown;

/// Distribution points remembered.
const MAX_POINTS: usize = 1024;
/// What no certificate needed for this long is not fetched again; seconds.
const KEPT_UNUSED: i64 = 86_400;
/// Back-off after the first failure, and at most; seconds.
const FIRST_RETRY: i64 = 15;
const LAST_RETRY: i64 = 600;
/// Nothing is looked at more often, or less.
const SHORTEST_SCAN: Duration = Duration::from_millis(100);

/// Distribution points: when each may be asked again.
#[derive(Default)]
pub(super) struct Points(Mutex<HashMap<Arc<str>, Point>>);

struct Point {
    /// Whose list is there.
    authority: OwnedAuthority,
    /// Not before; seconds since 1970.
    due: i64,
    /// In a row, without anything new.
    failures: u32,
    /// What the last of them was.
    trouble: Option<String>,
    /// Shared with the list that came from here.
    used: Arc<AtomicI64>,
}

impl Points {
    /// Whether asking now may bring something: never asked, or due again.
    pub(super) fn may_ask(&self, uri: &str, now: i64) -> bool {
        locked(&self.0).get(uri).is_none_or(|point| point.due <= now)
    }

    /// Notes that a certificate needs it; whether it is new to us.
    pub(super) fn touch(&self, uri: &Arc<str>, authority: &OwnedAuthority, now: i64) -> bool {
        let mut points = locked(&self.0);
        if let Some(point) = points.get(uri) {
            point.used.fetch_max(now, Ordering::Relaxed);
            return false;
        }
        if points.len() >= MAX_POINTS {
            let idlest =
                points.iter().min_by_key(|(_, point)| point.used.load(Ordering::Relaxed)).map(|(uri, _)| Arc::clone(uri));
            idlest.and_then(|uri| points.remove(&uri));
        }
        let point =
            Point { authority: authority.clone(), due: now, failures: 0, trouble: None, used: Arc::new(AtomicI64::new(now)) };
        points.insert(Arc::clone(uri), point);
        true
    }

    /// Those that may still be asked, each of them at once: what is there may have changed while the configuration did.
    pub(super) fn inherited(&self, allowed: impl Fn(&str) -> bool) -> Self {
        let points = locked(&self.0);
        let kept = points.iter().filter(|(uri, _)| allowed(uri));
        let fresh = |(uri, point): (&Arc<str>, &Point)| {
            let (authority, used) = (point.authority.clone(), Arc::clone(&point.used));
            (Arc::clone(uri), Point { authority, due: 0, failures: 0, trouble: None, used })
        };
        Self(Mutex::new(kept.map(fresh).collect()))
    }

    /// Where its list notes that it is used.
    pub(super) fn used(&self, uri: &str) -> Arc<AtomicI64> {
        locked(&self.0).get(uri).map(|point| Arc::clone(&point.used)).unwrap_or_default()
    }

    /// Notes what asking brought, and when to ask again.
    pub(super) fn note(&self, uri: &str, now: i64, outcome: &Result<Arc<Crl>, Failure>, random: u32) {
        let mut points = locked(&self.0);
        let Some(point) = points.get_mut(uri) else { return };
        let planned = outcome.as_ref().ok().and_then(|crl| planned(crl, now));
        point.failures = if planned.is_some() { 0 } else { point.failures.saturating_add(1) };
        point.trouble = outcome.as_ref().err().map(|failure| failure.detail.clone());
        let wait = jittered(planned.unwrap_or_else(|| back_off(point.failures)), random);
        // By the end of this list at the latest: from then on certificates wait for the next.
        let end = outcome.as_ref().map_or(i64::MAX, |crl| crl.next_update);
        point.due = now.saturating_add(wait).min(end.max(now + 1));
    }

    /// Why nothing usable came from there the last time.
    pub(super) fn trouble(&self, uri: &str) -> Option<String> {
        locked(&self.0).get(uri)?.trouble.clone()
    }

    /// Those to be asked now, and who signs there. Those that nobody needs any more are dropped.
    pub(super) fn due(&self, now: i64) -> Vec<(Arc<str>, OwnedAuthority)> {
        let mut points = locked(&self.0);
        points.retain(|_, point| point.used.load(Ordering::Relaxed) > now - KEPT_UNUSED);
        let due = points.iter().filter(|(_, point)| point.due <= now);
        due.map(|(uri, point)| (Arc::clone(uri), point.authority.clone())).collect()
    }
}

/// Seconds until the next list is expected; nothing where it is overdue. Microsoft's CA says when; else at three quarters of the time
/// this one is valid.
fn planned(crl: &Crl, now: i64) -> Option<i64> {
    let three_quarters = crl.this_update + (crl.next_update - crl.this_update) / 4 * 3;
    let published = crl.next_publish.filter(|at| (crl.this_update..crl.next_update).contains(at));
    let wait = published.unwrap_or(three_quarters) - now;
    (wait > 0).then_some(wait)
}

fn back_off(failures: u32) -> i64 {
    let doubled = 1_i64.checked_shl(failures.saturating_sub(1)).unwrap_or(LAST_RETRY);
    FIRST_RETRY.saturating_mul(doubled).clamp(FIRST_RETRY, LAST_RETRY)
}

/// Up to a tenth sooner or later, so that many bridges do not ask at once.
fn jittered(wait: i64, random: u32) -> i64 {
    let thousandths = 900 + i64::from(random % 201);
    wait.saturating_mul(thousandths) / 1000
}

impl Shared {
    /// The life of the engine's own task.
    pub(super) async fn keep_current(self: &Arc<Self>, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.config.scan_interval.max(SHORTEST_SCAN));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = clock();
        loop {
            tokio::select! {
                () = shutdown.draining() => return,
                _ = ticks.tick() => {}
            }
            let now = clock();
            let shared = Arc::clone(self);
            if tokio::task::spawn_blocking(move || shared.rescan_files(now)).await.is_err() {
                tracing::error!(event = "crl-scan-failed", "looking for changed CRL files ended without a word");
            }
            self.refresh(now);
            self.expire(last, now);
            last = now;
        }
    }

    /// Starts to fetch what is due, and deltas of lists in use that were never fetched.
    pub(super) fn refresh(self: &Arc<Self>, now: i64) {
        if self.fetcher.is_none() {
            return;
        }
        for held in self.lists().iter().filter(|held| is_used(held, now) && held.crl.delta_of.is_none()) {
            let Signer::Known(key) = &held.signer else { continue };
            let (subject, key_identifier) = (held.crl.issuer.clone(), held.crl.key.clone());
            let authority = OwnedAuthority { subject, public_key: key.clone(), key_identifier, may_sign_crls: true };
            for uri in self.deltas_of(&authority) {
                self.points.touch(&uri, &authority, held.used.load(Ordering::Relaxed));
            }
        }
        for (uri, authority) in self.points.due(now) {
            self.remember(&authority);
            self.start_fetch(&uri, &authority, now);
        }
    }

    /// Notices lists that ended since `last`, and drops ended ones that nobody gives or needs any more.
    pub(super) fn expire(&self, last: i64, now: i64) {
        let grace = self.grace();
        let lists = self.lists();
        let ended: Vec<_> = lists.iter().filter(|held| (last..now).contains(&held.end(grace))).collect();
        for held in &ended {
            say_ended(held);
        }
        let useless = |held: &Held| held.end(grace) < now && !self.is_wanted(held, now);
        let dropped = lists.iter().any(|held| useless(held)) && self.change(|lists| lists.retain(|held| !useless(held)));
        if dropped || !ended.is_empty() {
            self.moved();
        }
    }

    /// Whether its source still gives it, or certificates still need it.
    fn is_wanted(&self, held: &Held, now: i64) -> bool {
        match &held.source {
            Source::File(path) => locked(&self.files).give(path, &held.crl.digest),
            Source::Fetched(_) => is_used(held, now),
        }
    }
}

/// For logs: a full list that ended leaves certificates without anybody to vouch for them.
pub(super) fn say_ended(held: &Held) {
    let (issuer, list) = (name_text(&held.crl.issuer), held.describe());
    if held.crl.delta_of.is_some() {
        tracing::warn!(event = "delta-crl-expired", %issuer, list, "this delta CRL has ended: publish a new one");
    } else {
        tracing::error!(
            event = "crl-expired", %issuer, list,
            "this CRL has ended: publish and install a new one; certificates of its issuer are refused unless something else vouches"
        );
    }
}

fn is_used(held: &Held, now: i64) -> bool {
    held.used.load(Ordering::Relaxed) > now - KEPT_UNUSED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;
    use crate::revocation::testkit::Ca;

    fn list(this: i64, next: i64, publish: Option<i64>) -> Arc<Crl> {
        let ca = Ca::new("Device CA");
        let mut draft = ca.list(1).valid(this, next);
        draft.next_publish = publish;
        Arc::new(Crl::read(&draft.sign()).unwrap())
    }

    #[test]
    fn a_list_is_fetched_again_when_the_next_is_published_or_at_three_quarters() {
        assert_eq!(planned(&list(1000, 2000, None), 1000), Some(750));
        assert_eq!(planned(&list(1000, 2000, Some(1500)), 1100), Some(400));
        // A time of publication outside the list's own validity means nothing.
        assert_eq!(planned(&list(1000, 2000, Some(2500)), 1000), Some(750));
        assert_eq!(planned(&list(1000, 2000, None), 1800), None);
    }

    #[test]
    fn waits_double_up_to_a_limit_and_vary_by_a_tenth() {
        assert_eq!([1, 2, 3, 7, 60, u32::MAX].map(back_off), [15, 30, 60, 600, 600, 600]);
        assert_eq!((jittered(1000, 0), jittered(1000, 100), jittered(1000, 200)), (900, 1000, 1100));
    }

    #[test]
    fn a_silent_point_is_asked_again_after_a_while_and_an_unused_one_never() {
        let (points, uri, authority) = (Points::default(), Arc::from("http://a/"), Ca::new("CA").authority());
        let silence = || Err(Failure::from(Cause::RevocationUnknown));
        assert!(points.touch(&uri, &authority, 1000) && points.may_ask(&uri, 1000));
        points.note(&uri, 1000, &silence(), 100);
        assert!(!points.may_ask(&uri, 1014) && points.may_ask(&uri, 1015));
        points.note(&uri, 1015, &silence(), 100);
        assert!(!points.may_ask(&uri, 1044) && points.may_ask(&uri, 1045));
        points.note(&uri, 1045, &Ok(list(1000, 1200, Some(1190))), 200);
        assert_eq!(points.due(1200).len(), 1, "by its end at the latest");
        points.note(&uri, 1195, &Ok(list(1000, 1200, None)), 100);
        assert_eq!(points.due(1200).len(), 1, "by its end at the latest");
        points.note(&uri, 1045, &Ok(list(1000, 2000, None)), 100);
        assert!(points.due(1749).is_empty());
        assert_eq!(points.due(1750).len(), 1);
        assert!(points.due(1000 + KEPT_UNUSED).is_empty() && points.may_ask(&uri, 1100), "forgotten");
    }

    #[test]
    fn no_more_points_are_remembered_than_allowed_and_the_idlest_goes() {
        let (points, authority) = (Points::default(), Ca::new("CA").authority());
        for at in 0..=MAX_POINTS {
            points.touch(&Arc::from(format!("http://{at}/")), &authority, i64::try_from(at).unwrap());
        }
        assert_eq!(locked(&points.0).len(), MAX_POINTS);
        assert!(!locked(&points.0).contains_key("http://0/"));
    }
}
