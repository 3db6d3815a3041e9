//! The border between async requests and blocking acquisitions: a fixed number of threads, a bounded queue, deadlines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::acquire::acquisition::{Acquired, Acquirer, Shared};
use crate::policy::Target;

/// One wish for a ticket.
struct Job {
    principal: Arc<Principal>,
    target: Arc<Target>,
    deadline: Instant,
    taken_up: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<Acquired, Failure>>,
}

/// The worker threads. They end when this is dropped and the queue has run dry.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Workers {
    queue: SyncSender<Job>,
}

impl Workers {
    /// Starts the threads, each with its own impersonator credential, so that one slow KDC exchange does not hold up the others
    /// (decision 7c).
    pub(in crate::kerberos) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(shared.config.queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..shared.config.workers {
            let (shared, receiver) = (Arc::clone(shared), Arc::clone(&receiver));
            let work = move || work(Acquirer::new(shared), &receiver);
            thread::Builder::new().name(format!("acquire-{index}")).spawn(work)?;
        }
        Ok(Self { queue: sender })
    }

    /// Both tickets of one user for one SPN, or why not. It is not begun after `deadline`; once begun it goes on to its end, which comes
    /// at the deadline as well: the relay sees to it.
    pub(in crate::kerberos) async fn acquire(
        &self,
        principal: Arc<Principal>,
        target: Arc<Target>,
        deadline: Instant,
    ) -> Result<Acquired, Failure> {
        let (answer, result) = oneshot::channel();
        let (taken_up, begun) = oneshot::channel();
        let job = Job { principal, target, deadline, taken_up, answer };
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => Failure::from(Cause::Overloaded),
            TrySendError::Disconnected(_) => Failure::from(Cause::ShuttingDown),
        })?;
        // Giving up drops `result`, by which a worker knows that the job is nobody's any more.
        match timeout_at(deadline.into(), begun).await {
            Ok(Ok(())) => result.await.unwrap_or_else(|_| Err(Failure::new(Cause::AcquisitionTimeout, "the worker ended"))),
            _ => Err(Failure::new(Cause::AcquisitionTimeout, "it waited for a worker too long")),
        }
    }
}

fn work(mut acquirer: Acquirer, queue: &Mutex<Receiver<Job>>) {
    loop {
        // Only one idle worker waits in `recv`; the others wait for the lock. A worker never panics while it holds it.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if job.answer.is_closed() || job.taken_up.send(()).is_err() {
            continue;
        }
        let attempt = AssertUnwindSafe(|| acquirer.acquire(&job.principal, &job.target, job.deadline));
        // A panic would be a bug; it costs this acquisition and our TGT, not the worker.
        let result = catch_unwind(attempt).unwrap_or_else(|_| {
            acquirer.reset();
            Err(Failure::new(Cause::KdcOther, "the acquisition panicked"))
        });
        // Nobody waits any more when this fails.
        let _ = job.answer.send(result);
    }
}
