//! altSecurityIdentities: the strings that tie a certificate to an account (MS-PKCA 3.1.5.2.1.3, MS-ADA1 2.61).
//!
//! They are computed from the certificate and compared whole; a stored one is taken apart only to explain it.

mod stored;

use crate::certificate::hex;
use crate::x509::Claims;

pub use stored::{Stored, StoredProblem};

/// What an altSecurityIdentities string says of a certificate. Issuer alone is none: it would stand for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// `<I>…<SR>…`: issuer and serial number
    IssuerSerial,
    /// `<SKI>…`: subject key identifier
    SubjectKeyIdentifier,
    /// `<SHA1-PUKEY>…`: SHA-1 of the certificate or of its key
    Sha1PublicKey,
    /// `<I>…<SID>…`: issuer and the account's SID
    IssuerSid,
    /// `<I>…<S>…`: issuer and subject; weak
    IssuerSubject,
    /// `<S>…`: subject; weak
    Subject,
    /// `<RFC822>…`: e-mail address; weak
    Rfc822,
}

/// A string that the account must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// What it says.
    pub form: Form,
    /// `X509:<…>…`
    pub value: String,
    /// Which of several readings of the form it is; empty where there is only one.
    pub note: &'static str,
}

/// Why there is no string of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The certificate lacks what the form needs.
    Absent(&'static str),
    /// It has it, in a way that has more than one reading: a refusal, not an absence.
    Refused(String),
}

impl Form {
    /// All of them, the strong ones first.
    pub const ALL: [Self; 7] = [
        Self::IssuerSerial,
        Self::SubjectKeyIdentifier,
        Self::Sha1PublicKey,
        Self::IssuerSid,
        Self::IssuerSubject,
        Self::Subject,
        Self::Rfc822,
    ];
    /// Those that prove the account (MS-PKCA 3.1.5.2.1.5).
    pub const STRONG: [Self; 4] = [Self::IssuerSerial, Self::SubjectKeyIdentifier, Self::Sha1PublicKey, Self::IssuerSid];

    /// Whether a match proves the account, as MS-PKCA 3.1.5.2.1.5 has it.
    pub const fn is_strong(self) -> bool {
        matches!(self, Self::IssuerSerial | Self::SubjectKeyIdentifier | Self::Sha1PublicKey | Self::IssuerSid)
    }

    /// Name in configuration, log and audit event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IssuerSerial => "issuer-serial",
            Self::SubjectKeyIdentifier => "subject-key-identifier",
            Self::Sha1PublicKey => "sha1-public-key",
            Self::IssuerSid => "issuer-sid",
            Self::IssuerSubject => "issuer-subject",
            Self::Subject => "subject",
            Self::Rfc822 => "rfc822",
        }
    }
}

/// Every string of these forms that the certificate has; what it lacks is left out.
pub fn computed(claims: &Claims, forms: &[Form]) -> Vec<Computed> {
    forms.iter().filter_map(|form| candidates(claims, *form).ok()).flatten().collect()
}

/// The strings of one form, at least one, or why there is none.
pub fn candidates(claims: &Claims, form: Form) -> Result<Vec<Computed>, Missing> {
    let values = match form {
        Form::IssuerSerial => {
            let issuer = issuer(claims)?;
            serials(claims.serial())?.into_iter().map(|(serial, note)| (format!("<I>{issuer}<SR>{serial}"), note)).collect()
        }
        Form::SubjectKeyIdentifier => match claims.subject_key_identifier() {
            None => return Err(Missing::Absent("no subject key identifier in the certificate")),
            Some([]) => return Err(Missing::Refused("the subject key identifier is empty".to_owned())),
            Some(identifier) => vec![(format!("<SKI>{}", hex(identifier)), "")],
        },
        Form::Sha1PublicKey => {
            let digests = claims.sha1();
            let of = |digest: &[u8; 20], note| (format!("<SHA1-PUKEY>{}", hex(digest)), note);
            vec![
                of(&digests.certificate, "SHA-1 of the certificate"),
                of(&digests.public_key, "SHA-1 of the public key's bits"),
                of(&digests.public_key_info, "SHA-1 of the SubjectPublicKeyInfo"),
            ]
        }
        Form::IssuerSid => {
            let sid = claims.extension_sid().ok_or(Missing::Absent("no SID extension in the certificate"))?;
            vec![(format!("<I>{}<SID>{sid}", issuer(claims)?), "")]
        }
        Form::IssuerSubject => vec![(format!("<I>{}<S>{}", issuer(claims)?, subject(claims)?), "")],
        Form::Subject => vec![(format!("<S>{}", subject(claims)?), "")],
        Form::Rfc822 => match claims.rfc822_names() {
            [] => return Err(Missing::Absent("no e-mail address in the certificate")),
            [name] if stored::is_address(name) => vec![(format!("<RFC822>{name}"), "")],
            [_] => return Err(Missing::Refused("the e-mail address is not name@domain".to_owned())),
            _ => return Err(Missing::Refused("the certificate has several e-mail addresses".to_owned())),
        },
    };
    Ok(values.into_iter().map(|(value, note)| Computed { form, value: format!("X509:{value}"), note }).collect())
}

/// Whether the directory's value is this string: byte for byte but for the case of ASCII letters. The directory itself folds
/// accents and widths too.
pub fn matches(stored: &str, computed: &Computed) -> bool {
    stored.eq_ignore_ascii_case(&computed.value)
}

/// What to tell the administrator about a stored value that is nearly right.
pub fn hint(stored: &str, claims: &Claims) -> Option<&'static str> {
    let forward = format!("X509:<I>{}<SR>{}", claims.issuer().windows().ok()?, hex(claims.serial()));
    let trimmed = forward.replacen("<SR>00", "<SR>", 1);
    let written_forward = stored.eq_ignore_ascii_case(&forward) || stored.eq_ignore_ascii_case(&trimmed);
    let is_right = computed(claims, &[Form::IssuerSerial]).iter().any(|computed| matches(stored, computed));
    (written_forward && !is_right).then_some("the serial number is stored as shown: its bytes must be reversed")
}

fn issuer(claims: &Claims) -> Result<String, Missing> {
    claims.issuer().windows().map_err(|why| Missing::Refused(format!("issuer: {why}")))
}

fn subject(claims: &Claims) -> Result<String, Missing> {
    if claims.subject().is_empty() {
        return Err(Missing::Absent("no subject in the certificate"));
    }
    claims.subject().windows().map_err(|why| Missing::Refused(format!("subject: {why}")))
}

/// The serial number's bytes reversed; with and without its sign octet, for tools differ.
fn serials(serial: &[u8]) -> Result<Vec<(String, &'static str)>, Missing> {
    let reversed = |bytes: &[u8]| hex(&bytes.iter().rev().copied().collect::<Vec<_>>());
    match serial {
        [] => Err(Missing::Refused("the serial number is empty".to_owned())),
        [0] => Err(Missing::Refused("the serial number is zero".to_owned())),
        [first, ..] if first & 0x80 != 0 => Err(Missing::Refused("the serial number is negative".to_owned())),
        [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 == 0) => {
            Err(Missing::Refused("the serial number is not DER".to_owned()))
        }
        [0, rest @ ..] => Ok(vec![(reversed(serial), "with the sign octet"), (reversed(rest), "without the sign octet")]),
        _ => Ok(vec![(reversed(serial), "")]),
    }
}

#[cfg(test)]
mod tests;
