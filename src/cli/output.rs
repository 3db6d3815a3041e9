//! Writing to the terminal.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

/// Standard output and standard error; remembers whether something could not be written.
pub struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    failed: bool,
}

impl Output {
    /// The process's own.
    pub fn standard() -> Self {
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), failed: false }
    }

    /// What was asked for, and a line end.
    pub fn line(&mut self, text: impl Display) {
        let written = writeln!(self.out, "{text}");
        self.note(&written);
    }

    /// What was asked for, as it is.
    pub fn text(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes());
        self.note(&written);
    }

    /// Why there is nothing to show, and a line end.
    pub fn error(&mut self, text: impl Display) {
        let written = writeln!(self.err, "kcd-bridge: {text}");
        self.note(&written);
    }

    /// Whether everything was written, as far as somebody was reading.
    pub fn finish(&mut self) -> bool {
        let flushed = self.out.flush();
        self.note(&flushed);
        !self.failed
    }

    fn note(&mut self, written: &io::Result<()>) {
        // Whoever closes the pipe has read enough.
        self.failed |= written.as_ref().is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("failed", &self.failed).finish_non_exhaustive()
    }
}
