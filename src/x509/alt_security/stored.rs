//! altSecurityIdentities values as administrators wrote them, taken apart strictly.

use std::fmt;

use thiserror::Error;

use crate::naming::sid::Sid;
use crate::x509::alt_security::Form;

/// Longer values are not looked at.
const MAX_LENGTH: usize = 16 * 1024;

const HEADER: &str = "X509:";

/// A well-formed value: its form and what follows each tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    form: Form,
    first: &'a str,
    second: Option<&'a str>,
}

/// Why a value can match no certificate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoredProblem {
    /// `Kerberos:user@REALM` and the like: nothing about certificates, and nothing wrong.
    #[error("not about a certificate")]
    OtherKind,
    /// A tag nobody defined.
    #[error("unknown tag <{0}>")]
    UnknownTag(String),
    /// Which of the two counts differs between implementations.
    #[error("tag <{0}> occurs twice")]
    DuplicateTag(&'static str),
    /// It would stand for everybody with a certificate of that issuer.
    #[error("an issuer alone names nobody")]
    IssuerAlone,
    /// Anything else.
    #[error("{0}")]
    Malformed(&'static str),
}

impl<'a> Stored<'a> {
    /// Takes a value apart.
    pub fn parse(text: &'a str) -> Result<Self, StoredProblem> {
        let Some((header, mut rest)) = text.split_at_checked(HEADER.len()) else { return Err(StoredProblem::OtherKind) };
        if !header.eq_ignore_ascii_case(HEADER) {
            return Err(StoredProblem::OtherKind);
        }
        if text.len() > MAX_LENGTH {
            return Err(StoredProblem::Malformed("too long"));
        }
        if rest.chars().any(char::is_control) {
            return Err(StoredProblem::Malformed("a control character"));
        }
        let mut fields: Vec<(Tag, &str)> = Vec::new();
        while !rest.is_empty() || fields.is_empty() {
            let (tag, value, after) = field(rest)?;
            if fields.iter().any(|(earlier, _)| *earlier == tag) {
                return Err(StoredProblem::DuplicateTag(tag.name()));
            }
            fields.push((tag, value));
            rest = after;
        }
        Self::of_fields(&fields)
    }

    /// What it says.
    pub fn form(&self) -> Form {
        self.form
    }

    fn of_fields(fields: &[(Tag, &'a str)]) -> Result<Self, StoredProblem> {
        let (form, first, second) = match fields {
            [(Tag::Issuer, _)] => return Err(StoredProblem::IssuerAlone),
            [(Tag::Issuer, issuer), (Tag::Serial, serial)] => (Form::IssuerSerial, *issuer, Some(*serial)),
            [(Tag::Issuer, issuer), (Tag::Sid, sid)] => (Form::IssuerSid, *issuer, Some(*sid)),
            [(Tag::Issuer, issuer), (Tag::Subject, subject)] => (Form::IssuerSubject, *issuer, Some(*subject)),
            [(Tag::Subject, subject)] => (Form::Subject, *subject, None),
            [(Tag::KeyIdentifier, identifier)] => (Form::SubjectKeyIdentifier, *identifier, None),
            [(Tag::Sha1, digest)] => (Form::Sha1PublicKey, *digest, None),
            [(Tag::Rfc822, address)] => (Form::Rfc822, *address, None),
            _ => return Err(StoredProblem::Malformed("tags that do not go together in this order")),
        };
        Ok(Self { form, first, second })
    }
}

impl fmt::Display for Stored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = match self.form {
            Form::IssuerSerial => (Tag::Issuer, Some(Tag::Serial)),
            Form::IssuerSid => (Tag::Issuer, Some(Tag::Sid)),
            Form::IssuerSubject => (Tag::Issuer, Some(Tag::Subject)),
            Form::Subject => (Tag::Subject, None),
            Form::SubjectKeyIdentifier => (Tag::KeyIdentifier, None),
            Form::Sha1PublicKey => (Tag::Sha1, None),
            Form::Rfc822 => (Tag::Rfc822, None),
        };
        write!(f, "{HEADER}<{}>{}", first.name(), self.first)?;
        match (second, self.second) {
            (Some(tag), Some(value)) => write!(f, "<{}>{value}", tag.name()),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Issuer,
    Subject,
    Serial,
    KeyIdentifier,
    Sha1,
    Sid,
    Rfc822,
}

impl Tag {
    const ALL: [Self; 7] = [Self::Issuer, Self::Subject, Self::Serial, Self::KeyIdentifier, Self::Sha1, Self::Sid, Self::Rfc822];

    const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "I",
            Self::Subject => "S",
            Self::Serial => "SR",
            Self::KeyIdentifier => "SKI",
            Self::Sha1 => "SHA1-PUKEY",
            Self::Sid => "SID",
            Self::Rfc822 => "RFC822",
        }
    }

    fn check(self, value: &str) -> Result<(), StoredProblem> {
        let good = match self {
            Self::Issuer | Self::Subject => value.contains('='),
            Self::Serial | Self::KeyIdentifier => is_hex(value),
            Self::Sha1 => is_hex(value) && value.len() == 40,
            Self::Sid => Sid::parse(value).is_ok(),
            Self::Rfc822 => is_address(value),
        };
        let what = match self {
            Self::Issuer | Self::Subject => "not a distinguished name",
            Self::Serial | Self::KeyIdentifier => "not whole bytes in hexadecimal",
            Self::Sha1 => "not a SHA-1 in hexadecimal",
            Self::Sid => "not a SID",
            Self::Rfc822 => "not an e-mail address",
        };
        if good { Ok(()) } else { Err(StoredProblem::Malformed(what)) }
    }
}

/// One tag, its value, and what follows.
fn field(text: &str) -> Result<(Tag, &str, &str), StoredProblem> {
    let inside = text.strip_prefix('<').ok_or(StoredProblem::Malformed("no tag where one must stand"))?;
    let (name, rest) = inside.split_once('>').ok_or(StoredProblem::Malformed("a tag that does not end"))?;
    let is_name = !name.is_empty() && name.len() <= 32 && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if !is_name {
        return Err(StoredProblem::Malformed("a tag that is not a name"));
    }
    let known = Tag::ALL.into_iter().find(|tag| tag.name().eq_ignore_ascii_case(name));
    let tag = known.ok_or_else(|| StoredProblem::UnknownTag(name.to_owned()))?;
    let (value, after) = rest.split_at_checked(value_end(rest)?).unwrap_or((rest, ""));
    if value.is_empty() {
        return Err(StoredProblem::Malformed("a tag without a value"));
    }
    tag.check(value)?;
    Ok((tag, value, after))
}

/// Where the next tag begins. Inside quotes `<` is text, but never as a tag we know: which of the two it is would depend on who
/// reads it.
fn value_end(text: &str) -> Result<usize, StoredProblem> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => return Ok(at),
            '<' => {
                let name = text.get(at + 1..).and_then(|rest| rest.split_once('>')).map_or("", |(name, _)| name);
                if Tag::ALL.into_iter().any(|tag| tag.name().eq_ignore_ascii_case(name)) {
                    return Err(StoredProblem::Malformed("a tag inside quotes"));
                }
            }
            _ => {}
        }
    }
    if quoted { Err(StoredProblem::Malformed("a quote that does not end")) } else { Ok(text.len()) }
}

fn is_hex(value: &str) -> bool {
    value.len().is_multiple_of(2) && value.bytes().all(|c| c.is_ascii_hexdigit())
}

/// `name@domain`, in characters that need no quoting anywhere.
pub(super) fn is_address(value: &str) -> bool {
    let plain = value.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'<' | b'>' | b'"' | b',' | b';' | b'\\'));
    plain && value.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@'))
}
