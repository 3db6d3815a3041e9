//! What KDCs and back ends answered, as anybody may see it: for `kcd-bridge doctor --record`, and as test vectors.
//!
//! ```text
//! as it came                      as it is recorded
//! KRB-ERROR of a KDC              names, e-text, salts replaced; code, times, NTSTATUS, structure of e-data as they came
//! PAC of the evidence ticket      names, SIDs, RIDs, times replaced; signed with a published key of the same type
//! answer of a back end            AP-REP made again under published keys, a KRB-ERROR in it as above; framing, etype, MIC as they came
//! ```
//!
//! No ticket and no key is recorded. Everything is copied element by element by a copier that, replacing nothing, gives back exactly
//! what came, and is searched for real names afterwards. Where that fails nothing is written but length and SHA-256.

mod answer;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod krb_error;
mod logon_info;
mod manifest;
mod pac;
mod pseudonyms;
mod published;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::reply::Reply;
use crate::kerberos::{PendingReply, Verdict};
use crate::naming::name::OwnPrincipal;

pub use answer::SeenAnswer;
pub use manifest::{Capture, MANIFEST, Manifest, Seen, SeenError, Stage, Tried, Withheld, examine, verify};
pub use pac::{BufferNote, SeenPac};
use pseudonyms::{Pseudonyms, Substitute as _, Unreadable};

/// When everybody in a recorded PAC logged on, and every recorded AP-REP's authenticator was made: seconds since 1970.
pub const EXAMPLE_TIME: i64 = 1_800_000_000;

/// What the operator wrote.
const LABEL: &str = "label";
/// More than any walk causes.
const MAX_CAPTURES: usize = 64;

/// Takes what was answered, replaces what is secret or personal at once, and keeps the rest. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    names: Pseudonyms,
    errors: mpsc::Receiver<(&'static str, Vec<u8>)>,
    captures: Vec<(Capture, Vec<u8>)>,
    withheld: Vec<Withheld>,
}

impl Recorder {
    /// Records from now on what this relay's KDCs answer. Our own realm becomes the first example domain.
    pub fn new(own: &OwnPrincipal, relay: &RelayObserver) -> Self {
        let names = Pseudonyms::new(own.realm().as_str());
        let kept = Kept { names, errors: relay.copy_errors(), captures: Vec::new(), withheld: Vec::new() };
        Self { kept: Arc::new(Mutex::new(kept)) }
    }

    /// The example that stands for a name in this recording.
    pub fn name(&self, name: &str) -> String {
        let parts: Vec<String> = name.split('/').map(|part| self.locked().names.name(part)).collect();
        parts.join("/")
    }

    /// The evidence ticket's PAC.
    pub(in crate::kerberos) fn pac(&self, pac: &[u8]) {
        let mut kept = self.locked();
        match pac::redact(pac, &mut kept.names) {
            Ok((redacted, buffers)) => kept.keep("pac", "evidence", redacted, buffers, pac),
            Err(why) => kept.withhold("pac", "evidence", pac, why),
        }
    }

    /// The same reply, judged as ever; its answer is recorded.
    pub fn record(&self, reply: Reply) -> RecordedReply {
        RecordedReply { reply, recorder: self.clone() }
    }

    fn answer(&self, reply: &Reply, values: &[HeaderValue]) {
        let Some(expectation) = reply.expectation() else { return };
        let whole = || values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().concat();
        let mut kept = self.locked();
        match answer::redact(expectation, values, &mut kept.names) {
            Ok(None) => {}
            Ok(Some(redacted)) => kept.keep("answer", "http", redacted.into_bytes(), Vec::new(), &whole()),
            Err(why) => kept.withhold("answer", "http", &whole(), why),
        }
    }

    /// Everything recorded so far: the captures' bytes by file name, and the manifest. Labels are the operator's words, left out if they
    /// name what the recording does not.
    pub fn finish(&self, labels: &[(String, String)], tried: Tried, stages: Vec<Stage>) -> (Manifest, Vec<(String, Vec<u8>)>) {
        let mut kept = self.locked();
        while let Ok((asked, message)) = kept.errors.try_recv() {
            match krb_error::redact(&message, &mut kept.names) {
                Ok(redacted) => kept.keep("krb-error", asked, redacted, Vec::new(), &message),
                Err(why) => kept.withhold("krb-error", asked, &message, why),
            }
        }
        let (good, bad): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(key, value)| {
            [key, value].iter().all(|text| !kept.names.stands_in(text.as_bytes()) && !kept.names.is_word_of(text))
        });
        for (_, value) in bad {
            kept.withhold(LABEL, "operator", value.as_bytes(), Unreadable("a label with a real name in it"));
        }
        let (captures, files) = kept.captures.drain(..).map(|(capture, bytes)| (capture.clone(), (capture.file, bytes))).unzip();
        let manifest = Manifest {
            version: manifest::VERSION,
            kcd_bridge: env!("CARGO_PKG_VERSION").into(),
            labels: good.into_iter().collect(),
            tried,
            stages,
            captures,
            withheld: std::mem::take(&mut kept.withheld),
        };
        (manifest, files)
    }

    /// Nothing panics while holding it.
    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Keeps a capture if our own decoder reads it and no real name is left in it.
    fn keep(&mut self, kind: &'static str, of: &'static str, redacted: Vec<u8>, buffers: Vec<BufferNote>, original: &[u8]) {
        // An answer was searched before it became Base64, in which short names stand by chance.
        let left = kind != "answer" && self.names.stands_in(&redacted);
        let seen = match examine(kind, &redacted) {
            Ok(_) if left => return self.withhold(kind, of, original, Unreadable("a name would have been left in it")),
            Ok(_) if self.captures.len() >= MAX_CAPTURES => return self.withhold(kind, of, original, Unreadable("one too many")),
            Ok(seen) => seen,
            Err(why) => return self.withhold(kind, of, original, Unreadable(why)),
        };
        let number = self.captures.iter().filter(|(capture, _)| capture.file.starts_with(kind)).count() + 1;
        let file = format!("{kind}-{number:02}.{}", if kind == "answer" { "txt" } else { "bin" });
        self.captures.push((Capture { file, of: of.into(), seen, original_buffers: buffers }, redacted));
    }

    fn withhold(&mut self, kind: &str, of: &str, original: &[u8], why: Unreadable) {
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let sha256 = (kind != LABEL).then(|| hex(&Sha256::digest(original)));
        let noted = Withheld { kind: kind.into(), of: of.into(), length: original.len(), sha256, why: why.0.into() };
        self.withheld.push(noted);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A reply whose answer is recorded before it is judged.
#[derive(Debug)]
pub struct RecordedReply {
    reply: Reply,
    recorder: Recorder,
}

impl PendingReply for RecordedReply {
    fn judge(self, www_authenticate: &[HeaderValue]) -> Result<Verdict, Failure> {
        self.recorder.answer(&self.reply, www_authenticate);
        self.reply.judge(www_authenticate)
    }
}

#[cfg(test)]
mod tests;
