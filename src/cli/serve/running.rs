//! What runs until the process is told to stop, and the stop.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::audit::AuditWriter;
use crate::shutdown::ShutdownTrigger;

/// What runs until the process is told to stop.
pub(super) struct Running {
    pub(super) accepting: JoinHandle<()>,
    pub(super) relay: JoinHandle<io::Result<()>>,
    pub(super) relay_ends: oneshot::Sender<()>,
    pub(super) audit_writer: AuditWriter,
    pub(super) shutdown: ShutdownTrigger,
    pub(super) drain_timeout: Duration,
    /// What each part gets to end, and the audit log to write out what it holds, after the drain.
    pub(super) last_wait: Duration,
}

impl Running {
    /// Waits for the first word to stop, or for a part that ends without one; then stops everything. A second word ends at once.
    pub(super) async fn until_told(mut self, mut told: mpsc::Receiver<()>) -> Result<(), String> {
        let lost = tokio::select! {
            _ = told.recv() => None,
            ended = &mut self.accepting => Some(format!("connections are no longer accepted: {ended:?}")),
            ended = &mut self.relay => Some(format!("the KDC relay ended: {ended:?}")),
        };
        if let Some(lost) = &lost {
            error!("{lost}; the bridge cannot go on");
        }
        info!(drain_timeout = ?self.drain_timeout, "stopping: no new connections, requests in flight may end");
        let stopped = tokio::select! {
            stopped = self.stop() => stopped,
            Some(()) = told.recv() => {
                warn!("told to stop a second time: ending at once; requests in flight are cut, audit events may be missing");
                Err("ended before the stop was complete".into())
            }
        };
        lost.map_or(stopped, Err)
    }

    /// The orderly stop. Nothing in it waits without a limit.
    async fn stop(self) -> Result<(), String> {
        if !self.shutdown.stop(self.drain_timeout).await {
            warn!("the drain deadline passed with requests in flight; they were cancelled");
        }
        let Self { accepting, relay, relay_ends, audit_writer, last_wait, .. } = self;
        if !accepting.is_finished() && timeout(last_wait, accepting).await.is_err() {
            error!("accepting connections did not end");
        }
        drop(relay_ends);
        if !relay.is_finished() {
            match timeout(last_wait, relay).await {
                Ok(Ok(Ok(()))) => {}
                ended => error!(?ended, "the KDC relay did not end well"),
            }
        }
        let written = tokio::task::spawn_blocking(move || audit_writer.finish());
        if timeout(last_wait, written).await.is_err() {
            error!("AUDIT EVENTS LOST: the audit log takes nothing more");
            return Err("audit events could not be written".into());
        }
        info!("stopped");
        Ok(())
    }
}

/// The signals that steer the process: one message for each SIGTERM or SIGINT, and one for each SIGHUP.
pub(super) struct Words {
    pub(super) stop: mpsc::Receiver<()>,
    pub(super) reload: mpsc::Receiver<()>,
}

/// Listens from now on.
pub(super) fn words() -> io::Result<Words> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell_stop, stop) = mpsc::channel(2);
    let (tell_reload, reload) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                signal = terminate.recv() => signal,
                signal = interrupt.recv() => signal,
                _ = hangup.recv() => {
                    // One that waits will read what there is then.
                    let _ = tell_reload.try_send(());
                    continue;
                }
            };
            if signal.is_none() || tell_stop.send(()).await.is_err() {
                break;
            }
        }
    });
    Ok(Words { stop, reload })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::audit::{AuditLog, Event};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A sink that takes nothing until its sender is dropped.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Parts that end when they are told to.
    fn running(drain_timeout: Duration) -> (Running, AuditLog) {
        let shutdown = ShutdownTrigger::new();
        let listening = shutdown.listen();
        let accepting = tokio::spawn(async move { listening.draining().await });
        let (relay_ends, relay_end) = oneshot::channel::<()>();
        let relay = tokio::spawn(async move {
            drop(relay_end.await);
            Ok(())
        });
        let (audit, audit_writer) = AuditLog::start(io::sink(), 1).unwrap();
        (Running { accepting, relay, relay_ends, audit_writer, shutdown, drain_timeout, last_wait: PATIENCE }, audit)
    }

    async fn soon<F: Future>(future: F) -> F::Output {
        timeout(PATIENCE, future).await.expect("in time")
    }

    #[tokio::test]
    async fn one_word_stops_everything_in_order() {
        let (running, audit) = running(PATIENCE);
        drop(audit);
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        assert_eq!(soon(running.until_told(told)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_second_word_ends_a_stop_that_waits_for_requests() {
        let (running, _audit) = running(10 * PATIENCE);
        let in_flight = running.shutdown.listen();
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        let stopping = tokio::spawn(running.until_told(told));
        soon(in_flight.draining()).await;
        assert!(!stopping.is_finished());
        tell.send(()).await.unwrap();
        assert!(soon(stopping).await.unwrap().is_err());
        drop(in_flight);
    }

    #[tokio::test]
    async fn a_stop_ends_although_the_audit_log_and_the_parts_are_stuck() {
        let (mut running, _) = running(PATIENCE);
        running.last_wait = Duration::from_millis(20);
        let (release, gate) = std::sync::mpsc::channel();
        let (audit, audit_writer) = AuditLog::start(Stuck(gate), 1).unwrap();
        running.audit_writer = audit_writer;
        audit.reserve().await.unwrap().emit(Event::default());
        running.accepting = tokio::spawn(std::future::pending());
        running.relay = tokio::spawn(std::future::pending());
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        assert!(soon(running.until_told(told)).await.is_err());
        drop((release, audit));
    }

    #[tokio::test]
    async fn a_part_that_ends_untold_ends_the_bridge() {
        for relay_first in [true, false] {
            let (mut running, audit) = running(PATIENCE);
            drop(audit);
            if relay_first {
                running.relay = tokio::spawn(async { Err(io::ErrorKind::Other.into()) });
            } else {
                running.accepting = tokio::spawn(async {});
            }
            let (_tell, told) = mpsc::channel(2);
            let reason = soon(running.until_told(told)).await.unwrap_err();
            assert!(reason.contains(if relay_first { "relay" } else { "accepted" }), "{reason}");
        }
    }
}
