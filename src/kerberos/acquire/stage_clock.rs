//! How long each stage of an acquisition took.

use std::time::{Duration, Instant};

/// Durations between laps, by stage.
pub(super) struct StageClock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl StageClock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::with_capacity(5) }
    }

    pub(super) fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.laps.push((stage, now.duration_since(self.last)));
        self.last = now;
    }

    /// Every lap so far.
    pub(super) fn laps(self) -> Vec<(&'static str, Duration)> {
        self.laps
    }
}
