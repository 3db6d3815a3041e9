//! GSS status codes, turned into something one can act on while still on the thread that failed.

use std::fmt;

use libgssapi::error::Error;

/// First of the Kerberos error codes in com_err numbering: code 0 of RFC 4120 section 7.5.9.
const KRB5_BASE: i32 = -1_765_328_384;

/// Characters of the library's words that are kept.
const MAX_TEXT: usize = 500;

/// What the library says before it says anything.
const BOILERPLATE: &str = "Unspecified GSS failure.  Minor code may provide more information (";

/// A failed GSS call: routine error, Kerberos or library code, and the library's own words. The words are thread-local in MIT, so
/// they are fetched at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GssError {
    routine: u32,
    minor: i32,
    text: String,
}

impl GssError {
    pub(super) fn from_library(error: Error) -> Self {
        // Routine errors are a number in bits 16 to 23, not flags (RFC 2744 section 3.9.1).
        // The words may be a KDC's own, at any length.
        let text = error.to_string().chars().take(MAX_TEXT).collect();
        Self { routine: (error.major.bits() >> 16) & 0xFF, minor: error.minor.cast_signed(), text }
    }

    pub(super) fn without_codes(text: &str) -> Self {
        Self { routine: 0, minor: 0, text: text.into() }
    }

    /// A failure with this KRB-ERROR code.
    #[cfg(test)]
    pub(crate) fn for_test(code: i32) -> Self {
        Self::of_library(KRB5_BASE + code)
    }

    /// A failure with this code of the library's own.
    #[cfg(test)]
    pub(crate) fn of_library(minor: i32) -> Self {
        Self { routine: 13, minor, text: "test".into() }
    }

    /// The KRB-ERROR code of RFC 4120 section 7.5.9, if that is what it was.
    pub fn kerberos_code(&self) -> Option<i32> {
        let code = self.minor.wrapping_sub(KRB5_BASE);
        (1..128).contains(&code).then_some(code)
    }

    /// The library's own code (com_err or errno).
    pub fn minor(&self) -> i32 {
        self.minor
    }

    /// The GSS routine error (RFC 2744 section 3.9.1), for instance 13 GSS_S_FAILURE.
    pub fn routine(&self) -> u32 {
        self.routine
    }
}

impl fmt::Display for GssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Control characters never reach a log.
        let text: String = self.text.chars().filter(|c| !c.is_control()).collect();
        let cause = text.strip_prefix(BOILERPLATE).and_then(|rest| rest.strip_suffix(')')).unwrap_or(&text);
        write!(f, "{cause}")?;
        match self.kerberos_code() {
            Some(code) => write!(f, " [KRB-ERROR {code}]"),
            None if self.minor != 0 => write!(f, " [{}]", self.minor),
            None => Ok(()),
        }
    }
}

impl std::error::Error for GssError {}
