//! The log: a bounded queue and one thread that writes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::audit::{AuditConfig, Event};

/// Where events go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    queue: mpsc::Sender<Event>,
}

/// A place in the queue: one event can be written without waiting.
#[derive(Debug)]
pub struct Slot(OwnedPermit<Event>);

/// The writing thread. It ends when every [`AuditLog`] and [`Slot`] is gone and the queue is written out.
#[derive(Debug)]
pub struct AuditWriter(JoinHandle<()>);

impl AuditLog {
    /// Opens the file (append, 0600, never through a symbolic link) or standard output, and starts the writer.
    /// `places` bounds the events reserved or waiting: more than the requests that can be in flight, or requests wait for each other.
    pub fn open(config: &AuditConfig, places: usize) -> io::Result<(Self, AuditWriter)> {
        match &config.file {
            Some(path) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
                Self::start(File::from(file), places)
            }
            // A descriptor of its own: a write that nobody takes must not hold the lock that the end of the process asks for.
            None => Self::start(File::from(io::stdout().as_fd().try_clone_to_owned()?), places),
        }
    }

    /// A log that writes to `out`: one JSON object, one line, one `write` call per event.
    pub fn start(out: impl Write + Send + 'static, places: usize) -> io::Result<(Self, AuditWriter)> {
        let (queue, events) = mpsc::channel(places.max(1));
        let writer = thread::Builder::new().name("audit".into()).spawn(move || write_all(events, out))?;
        Ok((Self { queue }, AuditWriter(writer)))
    }

    /// Takes a place in the queue; waits while all are taken. `None` only when the writer is gone.
    pub async fn reserve(&self) -> Option<Slot> {
        self.queue.clone().reserve_owned().await.ok().map(Slot)
    }
}

impl Slot {
    /// Hands the event to the writer.
    pub fn emit(self, event: Event) {
        self.0.send(event);
    }

    /// Hands the event to the writer, or says loudly that it is lost because the writer is gone.
    pub fn emit_or_log(slot: Option<Self>, event: Event) {
        if let Some(slot) = slot {
            slot.emit(event);
        } else {
            tracing::error!(correlation_id = event.correlation_id, "AUDIT EVENT LOST: the audit writer is gone");
        }
    }
}

impl AuditWriter {
    /// Waits until everything is written. Blocks: call it when the last [`AuditLog`] is dropped.
    pub fn finish(self) {
        if self.0.join().is_err() {
            tracing::error!("the audit writer ended by a panic; events may be missing");
        }
    }
}

fn write_all(mut events: mpsc::Receiver<Event>, mut out: impl Write) {
    while let Some(event) = events.blocking_recv() {
        let written = serde_json::to_vec(&event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            out.write_all(&line)?;
            out.flush()
        });
        if let Err(error) = written {
            tracing::error!(correlation_id = event.correlation_id, %error, "AUDIT EVENT LOST: the audit log cannot be written");
        }
    }
}
