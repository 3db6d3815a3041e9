//! How far a KDC's clock is from ours, and when that is worth a word: long before the KDC refuses us for it (RFC 4120 section 3.1.3,
//! 5 minutes on a domain controller unless its administrators say otherwise).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every domain allows unless it is told otherwise.
const USUAL_TOLERANCE: Duration = Duration::from_mins(5);

/// Our clock when a request went out and when its answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    sent: i64,
    received: i64,
}

impl Window {
    pub(super) fn new(sent: SystemTime, received: SystemTime) -> Self {
        let (sent, received) = (millis(sent), millis(received));
        // Our own clock may have been put back meanwhile.
        Self { sent: sent.min(received), received: received.max(sent) }
    }

    /// How far a clock is from ours, in milliseconds, that showed a time from `earliest` to `latest` at some moment between: at least so
    /// far, and 0 where it may have been right. So neither a slow answer nor a missing fraction looks like a wrong clock.
    pub(super) fn skew(self, earliest: i64, latest: i64) -> i64 {
        if earliest > self.received {
            earliest.saturating_sub(self.received)
        } else if latest < self.sent {
            latest.saturating_sub(self.sent)
        } else {
            0
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// How bad a difference between clocks is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Degree {
    #[default]
    Good,
    /// More than a fifth of what is tolerated.
    Notable,
    /// More than four fifths: tickets are about to be refused.
    Grave,
}

impl Degree {
    /// The degree of this skew (milliseconds) where `before` was the last one. It gets better only well below its threshold, so that a
    /// clock just there is told of once.
    pub(super) fn of(skew: i64, tolerance: Duration, before: Self) -> Self {
        let tolerance = if tolerance.is_zero() { USUAL_TOLERANCE } else { tolerance };
        let tolerance = u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX);
        let thresholds = [(Self::Grave, tolerance / 5 * 4), (Self::Notable, tolerance / 5)];
        let holds = |(degree, threshold): &(Self, u64)| {
            let threshold = if before >= *degree { threshold / 4 * 3 } else { *threshold };
            skew.unsigned_abs() > threshold
        };
        thresholds.iter().find(|threshold| holds(threshold)).map_or(Self::Good, |(degree, _)| *degree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_mins(5);

    fn window(sent: u64, received: u64) -> Window {
        Window::new(UNIX_EPOCH + Duration::from_millis(sent), UNIX_EPOCH + Duration::from_millis(received))
    }

    #[test]
    fn an_answer_that_took_long_does_not_look_like_a_wrong_clock() {
        let slow = window(100_000, 104_000);
        for right in [100_000, 102_000, 104_000] {
            assert_eq!(slow.skew(right, right), 0);
        }
        assert_eq!((slow.skew(105_000, 105_000), slow.skew(99_000, 99_000)), (1000, -1000), "at least so far");
    }

    #[test]
    fn a_time_in_whole_seconds_does_not_look_like_a_wrong_clock() {
        assert_eq!(window(100_900, 100_950).skew(100_000, 100_999), 0);
        assert_eq!(window(100_900, 100_950).skew(110_000, 110_999), 9050);
        assert_eq!(window(100_900, 100_950).skew(90_000, 90_999), -9901);
    }

    #[test]
    fn our_own_clock_may_go_back_during_an_exchange() {
        assert_eq!(window(104_000, 100_000).skew(102_000, 102_000), 0);
    }

    #[test]
    fn a_skew_is_told_at_a_fifth_and_again_at_four_fifths_of_the_tolerance_in_both_directions() {
        for sign in [1, -1] {
            let of = |seconds: i64, before| Degree::of(sign * seconds * 1000, TOLERANCE, before);
            assert_eq!(
                [of(60, Degree::Good), of(61, Degree::Good), of(240, Degree::Notable)],
                [Degree::Good, Degree::Notable, Degree::Notable]
            );
            assert_eq!([of(241, Degree::Notable), of(9999, Degree::Good)], [Degree::Grave; 2]);
        }
    }

    #[test]
    fn a_clock_at_the_threshold_does_not_flap() {
        let of = |seconds: i64, before| Degree::of(seconds * 1000, TOLERANCE, before);
        assert_eq!(
            [of(59, Degree::Notable), of(46, Degree::Notable), of(45, Degree::Notable)],
            [Degree::Notable, Degree::Notable, Degree::Good]
        );
        assert_eq!([of(181, Degree::Grave), of(180, Degree::Grave)], [Degree::Grave, Degree::Notable]);
    }

    #[test]
    fn without_a_configured_tolerance_the_usual_one_counts() {
        assert_eq!(Degree::of(59_000, Duration::ZERO, Degree::Good), Degree::Good);
        assert_eq!(Degree::of(61_000, Duration::ZERO, Degree::Good), Degree::Notable);
    }
}
