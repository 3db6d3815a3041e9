//! Whether a response is about this certificate, from somebody who may speak for its issuer, and of now (RFC 6960 section 3.2).

use thiserror::Error;

use crate::certificate::{Certificate, SignatureError, Signed, dotted, key_usage, oid};
use crate::der::{self, DerError, Reader, tag};
use crate::revocation::ocsp::request::{CertId, Nonce, key_hash};
use crate::revocation::ocsp::response::{Basic, ResponderId, ResponseError, Single, Status, extensions};

/// How far clocks may differ, in seconds.
pub(super) const SKEW: i64 = 300;

/// id-kp-OCSPSigning 1.3.6.1.5.5.7.3.9
const OCSP_SIGNING: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
/// id-pkix-ocsp-nocheck 1.3.6.1.5.5.7.48.1.5
const NO_CHECK: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05];
/// CRLReason certificateHold.
const HOLD: u8 = 6;

/// Who issued the certificate that is asked about.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    /// Contents of its Name.
    pub(super) subject: Vec<u8>,
    /// SubjectPublicKeyInfo, header included.
    pub(super) public_key: Vec<u8>,
}

/// What an authorised responder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) word: Word,
    /// Seconds since 1970.
    pub(super) this_update: i64,
    /// Seconds since 1970; of an outdated revocation the past.
    pub(super) next_update: i64,
}

/// Revoked or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Good,
    Revoked { since: i64, reason: Option<u8> },
}

/// Why a response says nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error("it speaks twice about the certificate")]
    Twice,
    #[error("the issuer's key: {0}")]
    IssuerKey(DerError),
    #[error("its signature: {0}")]
    Signature(SignatureError),
    #[error("it names a signer that is neither the issuer nor a certificate in it")]
    NoSigner,
    #[error("its signer's certificate: {0}")]
    Delegate(DelegateError),
    #[error("a critical extension that we do not know")]
    CriticalExtension,
    #[error("it answers another question: the nonce differs")]
    Nonce,
    #[error("it is from the future")]
    Future,
    #[error("it has no nextUpdate")]
    NoNextUpdate,
    #[error("it is outdated")]
    Outdated,
    #[error("the responder does not know the certificate")]
    Unknown,
}

/// Why a certificate in the response gives nobody a right to sign it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum DelegateError {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is not from the CA whose certificate is asked about")]
    OtherIssuer,
    #[error("is not signed by that CA: {0}")]
    Signature(SignatureError),
    #[error("is not valid now")]
    NotValid,
    #[error("is not for OCSP signing")]
    Purpose,
    #[error("may not sign data")]
    KeyUsage,
    #[error("is that of a CA")]
    Authority,
    #[error("lacks id-pkix-ocsp-nocheck, and nobody says whether it is revoked itself")]
    Unchecked,
    #[error("has the critical extension {0}, which we do not know")]
    CriticalExtension(String),
}

impl Refusal {
    /// Somebody without a right to it spoke, or about something else; otherwise nobody said anything that counts.
    pub(super) fn is_untrusted(&self) -> bool {
        !matches!(
            self,
            Self::Response(_) | Self::IssuerKey(_) | Self::Future | Self::NoNextUpdate | Self::Outdated | Self::Unknown
        )
    }

    /// The responder itself is in trouble, whatever it is asked about.
    pub(super) fn is_trouble(&self) -> bool {
        match self {
            Self::Response(ResponseError::Status(status)) => *status != "unauthorized",
            Self::Response(_) => true,
            _ => false,
        }
    }
}

/// What a response says about a certificate at `now`.
///
/// A revocation for good is believed whatever its age: it never becomes untrue.
pub(super) fn judge(
    response: &[u8],
    id: &CertId,
    issuer: &Issuer,
    nonce: Option<&Nonce>,
    now: i64,
) -> Result<Statement, Refusal> {
    let basic = Basic::read(response)?;
    let single = single(&basic, id)?;
    signer(&basic, issuer, now)?;
    if basic.unknown_critical || single.unknown_critical {
        return Err(Refusal::CriticalExtension);
    }
    // Responders that answer in advance have no nonce; the times bound what a replay is worth.
    if let (Some(sent), Some(returned)) = (nonce, basic.nonce)
        && sent != returned
    {
        return Err(Refusal::Nonce);
    }
    let word = match single.status {
        Status::Revoked { since, reason } => Word::Revoked { since, reason },
        Status::Good => Word::Good,
        Status::Unknown => return Err(Refusal::Unknown),
    };
    let for_good = matches!(word, Word::Revoked { reason, .. } if !is_hold(reason));
    if !for_good {
        check_times(&basic, &single, now)?;
    }
    let next_update = single.next_update.unwrap_or(single.this_update);
    Ok(Statement { word, this_update: single.this_update, next_update })
}

/// Whether a revocation may end.
pub(super) fn is_hold(reason: Option<u8>) -> bool {
    reason == Some(HOLD)
}

fn single<'a>(basic: &Basic<'a>, id: &CertId) -> Result<Single<'a>, Refusal> {
    let mut found = None;
    for single in &basic.singles {
        if id.is(single.id).map_err(ResponseError::from)? && found.replace(*single).is_some() {
            return Err(Refusal::Twice);
        }
    }
    found.ok_or(Refusal::OtherCertificate)
}

fn check_times(basic: &Basic<'_>, single: &Single<'_>, now: i64) -> Result<(), Refusal> {
    let next_update = single.next_update.ok_or(Refusal::NoNextUpdate)?;
    if single.this_update > now + SKEW || basic.produced > now + SKEW {
        return Err(Refusal::Future);
    }
    if next_update <= now - SKEW || next_update < single.this_update {
        return Err(Refusal::Outdated);
    }
    Ok(())
}

/// Refuses a response unless its issuer, or a delegate of that issuer, signed it.
fn signer(basic: &Basic<'_>, issuer: &Issuer, now: i64) -> Result<(), Refusal> {
    let mut refusal = Refusal::NoSigner;
    if is_responder(basic.responder, &issuer.subject, &issuer.public_key).map_err(Refusal::IssuerKey)? {
        match basic.signed.verify(&issuer.public_key) {
            Ok(()) => return Ok(()),
            Err(error) => refusal = Refusal::Signature(error),
        }
    }
    for &der in &basic.certificates {
        // What is no certificate is nobody's; others may follow.
        let Ok(delegate) = Certificate::read(der) else { continue };
        if !is_responder(basic.responder, delegate.subject, delegate.public_key).unwrap_or(false) {
            continue;
        }
        match check_delegate(der, &delegate, issuer, now) {
            Err(error) => refusal = Refusal::Delegate(error),
            Ok(()) => match basic.signed.verify(delegate.public_key) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Refusal::Signature(error),
            },
        }
    }
    Err(refusal)
}

fn is_responder(responder: ResponderId<'_>, subject: &[u8], public_key: &[u8]) -> Result<bool, DerError> {
    match responder {
        ResponderId::Name(name) => Ok(name == subject),
        ResponderId::Key(hash) => Ok(key_hash(public_key)? == hash),
    }
}

/// RFC 6960 section 4.2.2.2: issued directly by the CA whose certificate is asked about, for this purpose. A CA below it is no
/// delegate even where its extended key usage, meant to bound what it issues, says so.
fn check_delegate(der: &[u8], delegate: &Certificate<'_>, issuer: &Issuer, now: i64) -> Result<(), DelegateError> {
    let unreadable = |error: DerError| DelegateError::Unreadable(error.to_string());
    if delegate.issuer != issuer.subject {
        return Err(DelegateError::OtherIssuer);
    }
    Signed::read(der).map_err(unreadable)?.verify(&issuer.public_key).map_err(DelegateError::Signature)?;
    if !(delegate.not_before..=delegate.not_after).contains(&now) {
        return Err(DelegateError::NotValid);
    }
    let usages = delegate.extended_key_usages().map_err(unreadable)?.unwrap_or_default();
    if !usages.contains(&OCSP_SIGNING) {
        return Err(DelegateError::Purpose);
    }
    if delegate.key_usage().map_err(unreadable)?.is_some_and(|usage| usage & key_usage::DIGITAL_SIGNATURE == 0) {
        return Err(DelegateError::KeyUsage);
    }
    if delegate.is_ca().map_err(unreadable)? {
        return Err(DelegateError::Authority);
    }
    if let Some(oid) = unknown_critical(der).map_err(|error| DelegateError::Unreadable(error.to_string()))? {
        return Err(DelegateError::CriticalExtension(dotted(oid)));
    }
    // Nobody can say whether it is revoked: asking it, or another delegate about it, would only go round in circles.
    if delegate.extension(NO_CHECK).is_none() {
        return Err(DelegateError::Unchecked);
    }
    Ok(())
}

/// The first critical extension of a certificate that is not looked at above (or need not be).
fn unknown_critical(der: &[u8]) -> Result<Option<&[u8]>, ResponseError> {
    const KNOWN: &[&[u8]] = &[oid::BASIC_CONSTRAINTS, oid::KEY_USAGE, oid::EXTENDED_KEY_USAGE, NO_CHECK];
    let mut tbs = Reader::new(der::only(der, tag::SEQUENCE)?).nested(tag::SEQUENCE)?;
    while !tbs.is_empty() {
        if let (kind, contents) = tbs.any()?
            && kind == tag::context(3)
        {
            let list = extensions(der::only(contents, tag::SEQUENCE)?)?;
            let unknown = list.iter().find(|extension| extension.critical && !KNOWN.contains(&extension.oid));
            return Ok(unknown.map(|extension| extension.oid));
        }
    }
    Ok(None)
}
