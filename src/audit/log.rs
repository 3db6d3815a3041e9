//! The log: a bounded queue and one thread that writes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt as _};
use std::path::Path;
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
                let flags =
                    OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
                // A reader that goes away or is slow would lose events.
                if file.metadata()?.file_type().is_fifo() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe"));
                }
                // Not waiting was for the opening alone.
                rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
                Self::start_after(ends_within_a_line(path), file, places)
            }
            // A descriptor of its own: a write that nobody takes must not hold the lock that the end of the process asks for.
            None => Self::start(File::from(io::stdout().as_fd().try_clone_to_owned()?), places),
        }
    }

    /// A log that writes to `out`: one JSON object, one line, one `write` call per event.
    pub fn start(out: impl Write + Send + 'static, places: usize) -> io::Result<(Self, AuditWriter)> {
        Self::start_after(false, out, places)
    }

    fn start_after(torn: bool, out: impl Write + Send + 'static, places: usize) -> io::Result<(Self, AuditWriter)> {
        let (queue, events) = mpsc::channel(places.max(1));
        let writer = thread::Builder::new().name("audit".into()).spawn(move || write_all(events, out, torn))?;
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

/// Writes events until the queue ends. `torn`: what was written before does not end with a line end.
pub(super) fn write_all(mut events: mpsc::Receiver<Event>, out: impl Write, torn: bool) {
    let mut lines = Lines { out, torn };
    let mut lost: u64 = 0;
    while let Some(event) = events.blocking_recv() {
        match lines.write(&event) {
            Ok(()) if lost > 0 => {
                tracing::error!(lost, "AUDIT EVENTS LOST: the audit log can be written again");
                lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if lost == 0 {
                    let id = event.correlation_id;
                    tracing::error!(correlation_id = id, %error, "AUDIT EVENT LOST: the audit log cannot be written; those that follow are counted");
                }
                lost += 1;
            }
        }
    }
    if lost > 0 {
        tracing::error!(lost, "AUDIT EVENTS LOST: the audit log ends and could not be written to the last");
    }
}

/// Whole lines, also after one that could be written only in part.
struct Lines<W> {
    out: W,
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = if self.torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let count = match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count.min(rest.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (written, unwritten) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            self.torn = !written.ends_with(b"\n");
            rest = unwritten;
        }
        self.out.flush()
    }
}

/// Whether a file's last line was not written to its end, as far as the file can be read.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        let file = File::from(rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW,
            Mode::empty(),
        )?);
        let mut last = [0];
        file.read_exact_at(&mut last, file.metadata()?.len().checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?)?;
        io::Result::Ok(last)
    };
    last().is_ok_and(|last| last != *b"\n")
}
