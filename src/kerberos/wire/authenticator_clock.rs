//! Times of authenticators: no two of a process are the same, or acceptors take the second for a replay.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// Microseconds that a thread takes at once.
const BLOCK: i64 = 16;

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
        self.time(self.take(now, 1))
    }

    /// The process's next time, by way of a supply of this thread's.
    pub fn next_of_process(now: i64) -> Result<AuthenticatorTime, getrandom::Error> {
        thread_local! {
            static SUPPLY: Cell<Supply> = const { Cell::new(Supply { next: 0, end: 0 }) };
        }
        let clock = Self::process()?;
        let mut supply = SUPPLY.get();
        let time = supply.next(clock, now);
        SUPPLY.set(supply);
        Ok(time)
    }

    /// The first of `count` microseconds that nobody else is given.
    fn take(&self, now: i64, count: i64) -> i64 {
        let follow = |last: i64| if last.saturating_sub(now) > SECOND { now } else { now.max(last.saturating_add(1)) };
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let first = follow(last);
            let taken = first.saturating_add(count - 1);
            match self.last.compare_exchange_weak(last, taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return first,
                Err(current) => last = current,
            }
        }
    }

    fn time(&self, given: i64) -> AuthenticatorTime {
        let cusec = (given.rem_euclid(SECOND) + self.offset) % SECOND;
        AuthenticatorTime { ctime: given.div_euclid(SECOND), cusec: u32::try_from(cusec).unwrap_or_default() }
    }
}

/// Microseconds a thread took from a clock: it gives them out while the clock has not passed them, so that threads minting at full speed
/// do not wait for one counter.
#[derive(Clone, Copy, Debug)]
struct Supply {
    next: i64,
    end: i64,
}

impl Supply {
    fn next(&mut self, clock: &AuthenticatorClock, now: i64) -> AuthenticatorTime {
        let serves = self.next < self.end && now < self.end && self.next.saturating_sub(now) <= SECOND;
        if !serves {
            self.next = clock.take(now, BLOCK);
            self.end = self.next.saturating_add(BLOCK);
        }
        self.next = self.next.saturating_add(1);
        clock.time(self.next.saturating_sub(1))
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
    fn the_supplies_of_several_threads_never_give_the_same_time_and_stay_near_the_clock() {
        let clock = AuthenticatorClock::new(0);
        let give = || {
            let mut supply = Supply { next: 0, end: 0 };
            (0..50_000).map(|i| (NOW + i / 3, supply.next(&clock, NOW + i / 3))).collect::<Vec<_>>()
        };
        let times: Vec<(i64, AuthenticatorTime)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(give)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: HashSet<_> = times.iter().map(|(_, time)| *time).collect();
        assert_eq!(distinct.len(), 200_000);
        assert!(times.iter().all(|(now, time)| (time.ctime - now / SECOND).abs() <= 1));
    }

    #[test]
    fn a_supply_ends_when_the_clock_has_passed_it_or_steps_back() {
        let clock = AuthenticatorClock::new(0);
        let mut supply = Supply { next: 0, end: 0 };
        supply.next(&clock, NOW);
        let later = NOW + 60 * SECOND;
        assert_eq!(supply.next(&clock, later), AuthenticatorClock::new(0).next(later));
        let back = NOW - 60 * SECOND;
        assert_eq!(supply.next(&clock, back), AuthenticatorClock::new(0).next(back));
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
