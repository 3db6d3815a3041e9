//! Stopping: first no new work, then a deadline, then the end.

#![forbid(unsafe_code)]

use std::time::Duration;

use tokio::sync::watch;

/// Where the process is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Running,
    Draining,
    Cancelled,
}

/// How long answers to cancelled requests may take to be written before their connections are dropped.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Holds the switch. Everything else gets a [`Shutdown`].
#[derive(Debug, Default)]
pub struct ShutdownTrigger(watch::Sender<Phase>);

/// Tells a task when to stop. Cheap to clone; dropping the last one tells the trigger that the task is done.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

impl ShutdownTrigger {
    /// A switch in its running position.
    pub fn new() -> Self {
        Self::default()
    }

    /// A view of the switch for one task.
    pub fn listen(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }

    /// Stops everything: listeners stop accepting, idle connections close, requests in flight have `drain_timeout` to end; then they
    /// are cancelled (answered 503 if nothing was sent yet) and what is still open a second later is dropped.
    /// Returns when every [`Shutdown`] is gone, or after that second. True when all ended by themselves.
    pub async fn stop(self, drain_timeout: Duration) -> bool {
        self.0.send_replace(Phase::Draining);
        if tokio::time::timeout(drain_timeout, self.0.closed()).await.is_ok() {
            return true;
        }
        self.0.send_replace(Phase::Cancelled);
        let _ = tokio::time::timeout(2 * LAST_WORDS, self.0.closed()).await;
        false
    }
}

impl Shutdown {
    /// Ready as soon as no new work may be started.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Ready when requests in flight have to end now.
    pub async fn cancelled(&self) {
        self.reached(Phase::Cancelled).await;
    }

    /// Ready when the last words had their time too.
    pub async fn over(&self) {
        self.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// Whether requests in flight have to end now.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow() >= Phase::Cancelled
    }

    /// Whether no new work may be started.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        // A trigger that is gone without a word means the process ends its main task: nothing is left to wait for.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_returns_as_soon_as_every_task_is_done() {
        let trigger = ShutdownTrigger::new();
        let task = trigger.listen();
        tokio::spawn(async move { task.draining().await });
        assert!(trigger.stop(Duration::from_mins(1)).await);
    }

    #[tokio::test]
    async fn what_outlives_the_drain_deadline_is_cancelled() {
        let trigger = ShutdownTrigger::new();
        let task = trigger.listen();
        assert!(!task.is_draining());
        let waiting = tokio::spawn(async move {
            task.cancelled().await;
            task.is_cancelled()
        });
        assert!(!trigger.stop(Duration::from_millis(10)).await);
        assert!(waiting.await.unwrap());
    }
}
