//! Times of authenticators: no two of a process are the same, or acceptors take the second for a replay.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// `ctime` and `cusec` of an authenticator (RFC 4120 section 5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthenticatorTime {
    /// Seconds since 1970.
    pub ctime: i64,
    /// 0 to 999999.
    pub cusec: u32,
}

/// Gives every authenticator its own time: the clock's, or one microsecond after the last one given.
#[derive(Debug)]
pub struct AuthenticatorClock {
    /// microseconds since 1970 last given
    last: AtomicI64,
    /// Turns the microseconds within their second: instances that serve the same user at the same instant differ.
    offset: i64,
}

impl AuthenticatorClock {
    /// A clock of its own; `offset` is taken modulo a second.
    pub const fn new(offset: u32) -> Self {
        Self { last: AtomicI64::new(i64::MIN), offset: offset as i64 % SECOND }
    }

    /// The process's clock, with a random offset.
    pub fn process() -> Result<&'static Self, getrandom::Error> {
        static CLOCK: OnceLock<AuthenticatorClock> = OnceLock::new();
        if let Some(clock) = CLOCK.get() {
            return Ok(clock);
        }
        let offset = getrandom::u32()?;
        Ok(CLOCK.get_or_init(|| Self::new(offset)))
    }

    /// The next time, for `now` in microseconds since 1970. After a step of the system's clock back by more than a second it
    /// follows: a time in the future would be refused by the acceptor, while a repeated one is only improbable.
    pub fn next(&self, now: i64) -> AuthenticatorTime {
        let follow = |last: i64| if last.saturating_sub(now) > SECOND { now } else { now.max(last.saturating_add(1)) };
        let mut last = self.last.load(Ordering::Relaxed);
        let given = loop {
            let next = follow(last);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break next,
                Err(current) => last = current,
            }
        };
        let cusec = (given.rem_euclid(SECOND) + self.offset) % SECOND;
        AuthenticatorTime { ctime: given.div_euclid(SECOND), cusec: u32::try_from(cusec).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    const NOW: i64 = 1_767_323_045_999_999;

    #[test]
    fn times_at_the_same_instant_differ_by_a_microsecond() {
        let clock = AuthenticatorClock::new(0);
        assert_eq!(clock.next(NOW), AuthenticatorTime { ctime: 1_767_323_045, cusec: 999_999 });
        assert_eq!(clock.next(NOW), AuthenticatorTime { ctime: 1_767_323_046, cusec: 0 });
        assert_eq!(clock.next(NOW + 5), AuthenticatorTime { ctime: 1_767_323_046, cusec: 4 });
    }

    #[test]
    fn a_small_step_back_of_the_clock_never_repeats_a_time() {
        let clock = AuthenticatorClock::new(0);
        let first = clock.next(NOW);
        assert!(clock.next(NOW - SECOND + 1) > first);
    }

    #[test]
    fn a_step_back_of_more_than_a_second_is_followed() {
        let clock = AuthenticatorClock::new(0);
        clock.next(NOW);
        let back = NOW - 60 * SECOND;
        assert_eq!(clock.next(back).ctime, back / SECOND);
        assert_eq!(clock.next(back + 1), AuthenticatorTime { ctime: back / SECOND + 1, cusec: 0 });
    }

    #[test]
    fn the_offset_turns_the_microseconds_and_leaves_the_second_alone() {
        let clock = AuthenticatorClock::new(3_000_002);
        assert_eq!(clock.next(NOW), AuthenticatorTime { ctime: 1_767_323_045, cusec: 1 });
        assert!((0..2_000_000_u32).step_by(77_777).all(|offset| AuthenticatorClock::new(offset).next(NOW).cusec < 1_000_000));
    }

    #[test]
    fn four_threads_never_get_the_same_time() {
        let clock = AuthenticatorClock::new(123_456);
        let times: HashSet<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..50_000).map(|i| clock.next(NOW + i / 7)).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(times.len(), 200_000);
    }
}
