//! User principal names (MS-ADTS 5.1.1.1.1).

use std::fmt;

/// AD's limit for userPrincipalName.
const MAX_LENGTH: usize = 1024;

/// A user principal name of which only one reading is possible: ASCII, one `@`, no characters that names elsewhere escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upn {
    written: Box<str>,
    normalized: Box<str>,
    at: usize,
}

impl Upn {
    /// Accepts `name@suffix`; says what is wrong otherwise.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("is longer than 1024 characters");
        }
        if !text.is_ascii() {
            return Err("has characters outside ASCII, which are not supported: directories fold them in different ways");
        }
        if text.bytes().any(|c| c.is_ascii_control() || c == b' ') {
            return Err("holds a space or a control character");
        }
        let (name, suffix) = text.split_once('@').ok_or("has no '@'")?;
        if suffix.contains('@') {
            return Err("has two '@'");
        }
        if name.is_empty() || suffix.split('.').any(str::is_empty) {
            return Err("has an empty part");
        }
        if name.bytes().any(|c| {
            matches!(c, b'"' | b'/' | b'\\' | b'[' | b']' | b':' | b';' | b'|' | b'=' | b',' | b'<' | b'>' | b'*' | b'?')
        }) {
            return Err("holds a character that account names cannot have");
        }
        if name.ends_with('$') {
            return Err("names a machine account");
        }
        if suffix.bytes().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))) {
            return Err("has a suffix that is not a domain name");
        }
        Ok(Self { written: text.into(), normalized: text.to_ascii_lowercase().into(), at: name.len() })
    }

    /// As the certificate has it, for logs.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// In lower case, as it is compared and sent.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }

    /// What follows the `@`, in lower case.
    pub fn suffix(&self) -> &str {
        self.normalized.get(self.at + 1..).unwrap_or_default()
    }
}

impl fmt::Display for Upn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normalized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_upn_is_compared_in_lower_case_and_shown_as_written() {
        let upn = Upn::parse("Alice.O'Neil@Mail.Example").unwrap();
        assert_eq!(upn.as_written(), "Alice.O'Neil@Mail.Example");
        assert_eq!((upn.normalized(), upn.suffix()), ("alice.o'neil@mail.example", "mail.example"));
    }

    #[test]
    fn a_upn_with_two_readings_is_refused() {
        for bad in [
            "",
            "alice",
            "@corp.example",
            "alice@",
            "alice@corp.example.",
            "alice@.corp.example",
            "alice@corp..example",
            "alice@corp@example",
            " alice@corp.example",
            "alice@corp.example ",
            "alice @corp.example",
            "alice\0@corp.example",
            "alice@corp.example\0.evil.example",
            "alice\r\n@corp.example",
            "alice\u{7f}@corp.example",
            "älice@corp.example",
            "alice@corp.exämple",
            "alice\u{ff20}corp.example",
            "krbtgt/corp@corp.example",
            "alice\\@corp.example",
            "dc1$@corp.example",
            "alice@corp/example",
            "*@corp.example",
        ] {
            assert!(Upn::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Upn::parse(&format!("{}@x", "a".repeat(1022))).is_ok());
        assert!(Upn::parse(&format!("{}@x", "a".repeat(1023))).is_err());
    }
}
