//! The shape of a recording's manifest, version 1, and reading a recording back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::read_regular;
use crate::kerberos::wire::krb_error::KrbError;

use super::{BufferNote, SeenAnswer, SeenPac, answer, pac};

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";
pub(super) const VERSION: u32 = 1;
/// A capture, and the manifest, are far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// One recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// of this shape: 1
    pub version: u32,
    /// version of the bridge that recorded
    pub kcd_bridge: String,
    /// what the operator wrote: case, expectation, version of the domain controller
    pub labels: BTreeMap<String, String>,
    /// what was tried
    pub tried: Tried,
    /// what became of it
    pub stages: Vec<Stage>,
    /// what was answered
    pub captures: Vec<Capture>,
    /// what could not be recorded
    pub withheld: Vec<Withheld>,
}

/// What was tried, with example names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// the user
    pub user: String,
    /// the back end's SPN
    pub spn: String,
}

/// One stage of the doctor's walk, without its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// as in the doctor's report
    pub stage: String,
    /// `good`, or the reason why not
    pub outcome: String,
}

/// One file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// beside the manifest
    pub file: String,
    /// which exchange it is of: `as`, `tgs`, `s4u2self`, `s4u2proxy`, `evidence`, `http`
    pub of: String,
    /// what our decoder reads in it
    pub seen: Seen,
    /// a PAC's buffers as they came
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub original_buffers: Vec<BufferNote>,
}

/// What a decoder of ours reads in a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// a KRB-ERROR of a KDC
    KrbError(SeenError),
    /// the evidence ticket's PAC
    Pac(SeenPac),
    /// a back end's `WWW-Authenticate`
    Answer(SeenAnswer),
}

impl Seen {
    /// `krb-error`, `pac`, `answer`
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::KrbError(_) => "krb-error",
            Self::Pac(_) => "pac",
            Self::Answer(_) => "answer",
        }
    }
}

/// A KRB-ERROR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenError {
    /// RFC 4120 section 7.5.9
    pub code: i32,
    /// its name
    pub name: String,
    /// Windows' status in e-data (MS-KILE 2.2.2), eight hexadecimal digits
    pub ntstatus: Option<String>,
    /// length of e-data in bytes, if there is any
    pub data: Option<usize>,
    /// whether there is an e-text
    pub text: bool,
    /// the server that the error is about
    pub server: String,
    /// whether the client is named
    pub client: bool,
}

/// What was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// as of a capture, or `label`
    pub kind: String,
    /// as of a capture
    pub of: String,
    /// in bytes
    pub length: usize,
    /// of what came, in hexadecimal; none of a label, which could be guessed from it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// what was not understood
    pub why: String,
}

/// Reads one capture with our decoders. The error says what is wrong with it.
pub fn examine(kind: &str, bytes: &[u8]) -> Result<Seen, &'static str> {
    match kind {
        "krb-error" => {
            let error = KrbError::parse(bytes).map_err(|_| "not a KRB-ERROR")?;
            Ok(Seen::KrbError(SeenError {
                code: error.code,
                name: error.name().into(),
                ntstatus: error.nt_status().map(|status| format!("{status:#010x}")),
                data: error.data.as_ref().map(Vec::len),
                text: error.text.is_some(),
                server: format!("{}@{}", error.server, error.realm),
                client: error.client.is_some(),
            }))
        }
        "pac" => pac::examine(bytes).map(Seen::Pac).map_err(|error| error.0),
        "answer" => answer::examine(bytes).map(Seen::Answer).map_err(|error| error.0),
        _ => Err("a capture of no known kind"),
    }
}

/// Reads a whole recording: every file in it is named by its manifest, and is read as the manifest says.
pub fn verify(directory: &Path) -> Result<Manifest, String> {
    let read = |name: &str| {
        read_regular(&directory.join(name), MAX_BYTES).map_err(|error| format!("{}: {error}", directory.join(name).display()))
    };
    let manifest: Manifest = serde_json::from_slice(&read(MANIFEST)?).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.version != VERSION {
        return Err(format!("{MANIFEST}: version {} is not known", manifest.version));
    }
    let mut named: BTreeSet<&str> = [MANIFEST].into();
    for capture in &manifest.captures {
        let file = capture.file.as_str();
        if file.contains('/') || !named.insert(file) {
            return Err(format!("{file:?} is named twice, or is not beside the manifest"));
        }
        let seen = examine(capture.seen.kind(), &read(file)?).map_err(|why| format!("{file}: {why}"))?;
        if seen != capture.seen {
            return Err(format!("{file}: read as {seen:?}, but the manifest says {:?}", capture.seen));
        }
    }
    for entry in std::fs::read_dir(directory).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        if name.to_str().is_none_or(|name| !named.contains(name)) {
            return Err(format!("{} is not in the manifest", name.display()));
        }
    }
    Ok(manifest)
}
