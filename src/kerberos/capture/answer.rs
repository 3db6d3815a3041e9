//! A back end's answer to a token, made again with published keys: framing, encryption types, state and MIC are those that came.

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::der::{self, Reader, tag};
use crate::kerberos::reply::Reply;
use crate::kerberos::wire::ap_rep::{self, ApRepExpectation};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::challenge::{Offers, Token};
use crate::kerberos::wire::crypto::{Etype, Key, usage};
use crate::kerberos::wire::framing;
use crate::kerberos::wire::krb_error::KrbError;
use crate::kerberos::wire::spnego::{self, NegState, NegTokenResp};
use crate::kerberos::{PendingReply as _, Verdict};
use crate::policy::TokenFormat;

use super::krb_error::element;
use super::pseudonyms::{Pseudonyms, Unreadable};
use super::published;

/// What stands before the token.
const SCHEME: &str = "Negotiate ";
/// Header of a MIC token (RFC 4121 section 4.2.6.1).
const MIC_HEADER: usize = 16;

/// The value of `WWW-Authenticate` as it can be shown to anybody; none if the answer holds no token.
pub(super) fn redact(
    (expectation, format): (&ApRepExpectation, TokenFormat),
    values: &[HeaderValue],
    names: &mut Pseudonyms,
) -> Result<Option<String>, Unreadable> {
    match Offers::read(values.iter().map(HeaderValue::as_bytes)).negotiate {
        Token::None => Ok(None),
        Token::Several => Err(Unreadable("several Negotiate answers")),
        Token::One(text) => {
            let token = base64_simd::STANDARD.decode_to_vec(text).map_err(|_| Unreadable("not Base64"))?;
            let redacted = negotiation(&token, expectation, format, names)?;
            // Base64 hides names from the search that follows.
            if names.stands_in(&redacted) {
                return Err(Unreadable("a name would have been left in it"));
            }
            Ok(Some(SCHEME.to_owned() + &base64_simd::STANDARD.encode_to_string(&redacted)))
        }
    }
}

pub(super) fn negotiation(
    token: &[u8],
    expectation: &ApRepExpectation,
    format: TokenFormat,
    names: &mut Pseudonyms,
) -> Result<Vec<u8>, Unreadable> {
    if format == TokenFormat::Kerberos {
        return kerberos(token, expectation, names).map(|(token, _)| token);
    }
    let answer = NegTokenResp::parse(token)?;
    let known = [framing::KRB5_MECHANISM, framing::MS_KRB5_MECHANISM, framing::NTLMSSP_MECHANISM, framing::SPNEGO_MECHANISM];
    if answer.mechanism.is_some_and(|mechanism| !known.contains(&mechanism)) {
        return Err(Unreadable("a mechanism that is not known"));
    }
    if written(&answer) != token {
        return Err(Unreadable("a NegTokenResp that is not written as it came"));
    }
    let response = answer.response.map(|response| kerberos(response, expectation, names)).transpose()?;
    let mic = match (answer.mic, answer.response, &response) {
        (None, ..) => None,
        (Some(mic), Some(before), Some((after, _))) if mic == before => Some(after.clone()),
        (Some(mic), Some(before), Some((_, context))) => Some(mic_again(mic, before, expectation, format, context.as_ref())?),
        (Some(_), ..) => return Err(Unreadable("a mechListMIC without a token")),
    };
    let response = response.as_ref().map(|(token, _)| token.as_slice());
    Ok(written(&NegTokenResp { response, mic: mic.as_deref(), ..answer }))
}

/// A Kerberos token, and the key of its context if it is an AP-REP.
fn kerberos(token: &[u8], expectation: &ApRepExpectation, names: &mut Pseudonyms) -> Result<(Vec<u8>, Option<Key>), Unreadable> {
    let (mechanism, _) = framing::unframe(token)?;
    let (id, message) = framing::unframe_kerberos(token)?;
    let (message, context) = match id {
        framing::AP_REP => ap_rep_again(message, expectation).map(|(message, key)| (message, Some(key)))?,
        framing::KRB_ERROR => (super::krb_error::redact(message, names)?, None),
        _ => return Err(Unreadable("neither an AP-REP nor a KRB-ERROR")),
    };
    Ok((element(framing::FRAME, &[mechanism, &id, &message].concat()), context))
}

/// An AP-REP under published keys, with a published time.
fn ap_rep_again(message: &[u8], expectation: &ApRepExpectation) -> Result<(Vec<u8>, Key), Unreadable> {
    let undecryptable = Unreadable("an AP-REP that the session key does not open");
    let encrypted = ap_rep::enc_part(message)?;
    let plaintext = expectation.decrypt(message).map_err(|_| undecryptable)?;
    let etype = Etype::from_number(encrypted.etype).ok_or(undecryptable)?;
    if ap_rep_around(encrypted.etype, encrypted.kvno, encrypted.cipher) != message {
        return Err(Unreadable("an AP-REP that is not written as it came"));
    }
    let (plaintext, context) = enc_part_again(plaintext.expose(), etype)?;
    let key = published::session_key(etype).ok_or(undecryptable)?;
    let cipher = key.encrypt_with(usage::AP_REP, published::CONFOUNDER, &plaintext).map_err(|_| undecryptable)?;
    Ok((ap_rep_around(encrypted.etype, encrypted.kvno, &cipher), context.ok_or(undecryptable)?))
}

fn ap_rep_around(etype: i32, kvno: Option<u32>, cipher: &[u8]) -> Vec<u8> {
    let mut encrypted = Vec::new();
    asn1::write_explicit_integer(&mut encrypted, 0, etype.into());
    if let Some(kvno) = kvno {
        asn1::write_explicit_integer(&mut encrypted, 1, kvno.into());
    }
    asn1::write_explicit(&mut encrypted, 2, tag::OCTET_STRING, cipher);
    let mut fields = Vec::new();
    asn1::write_explicit_integer(&mut fields, 0, 5);
    asn1::write_explicit_integer(&mut fields, 1, 15);
    asn1::write_explicit(&mut fields, 2, tag::SEQUENCE, &encrypted);
    element(tag::application(15), &element(tag::SEQUENCE, &fields))
}

/// EncAPRepPart (RFC 4120 section 5.5.2) with published time and subkey, and the key of the context. The sequence number stays.
fn enc_part_again(plaintext: &[u8], session: Etype) -> Result<(Vec<u8>, Option<Key>), Unreadable> {
    let mut fields = Reader::new(der::only(der::only(plaintext, tag::application(27))?, tag::SEQUENCE)?);
    der::kerberos_time(fields.explicit(0, tag::GENERALIZED_TIME)?)?;
    der::unsigned32(fields.explicit(1, tag::INTEGER)?)?;
    let subkey = fields.explicit_optional(2, tag::SEQUENCE)?.map(asn1::key_fields).transpose()?;
    let sequence_number = fields.explicit_optional(3, tag::INTEGER)?;
    fields.finish()?;
    let mut out = Vec::new();
    asn1::write_explicit(&mut out, 0, tag::GENERALIZED_TIME, &der::format_kerberos_time(published::TIME.ctime));
    asn1::write_explicit_integer(&mut out, 1, published::TIME.cusec.into());
    let mut context = published::own_subkey(session);
    if let Some((etype, _)) = subkey {
        let unknown = Unreadable("a subkey of a type that is not known");
        let published = Etype::from_number(etype).and_then(published::acceptor_subkey).ok_or(unknown)?;
        let mut key = Vec::new();
        asn1::write_explicit_integer(&mut key, 0, etype.into());
        asn1::write_explicit(&mut key, 1, tag::OCTET_STRING, published.expose());
        asn1::write_explicit(&mut out, 2, tag::SEQUENCE, &key);
        context = Some(published);
    }
    if let Some(number) = sequence_number {
        der::unsigned32(number)?;
        asn1::write_explicit(&mut out, 3, tag::INTEGER, number);
    }
    Ok((element(tag::application(27), &element(tag::SEQUENCE, &out)), context))
}

/// A MIC that was right, made again by the context's published key.
fn mic_again(
    mic: &[u8],
    token: &[u8],
    expectation: &ApRepExpectation,
    format: TokenFormat,
    context: Option<&Key>,
) -> Result<Vec<u8>, Unreadable> {
    let unverified = Unreadable("a mechListMIC that cannot be verified");
    let list = spnego::mech_type_list(format).ok_or(unverified)?;
    let (_, message) = framing::unframe_kerberos(token)?;
    let server = expectation.check_message(message).map_err(|_| unverified)?;
    let header = mic.get(..MIC_HEADER).filter(|_| server.verify_mic(list, mic)).ok_or(unverified)?;
    let key = context.ok_or(unverified)?;
    let checksum = key.checksum(usage::ACCEPTOR_SIGN, &[list, header].concat()).map_err(|_| unverified)?;
    Ok([header, &checksum].concat())
}

/// A whole negTokenResp.
fn written(answer: &NegTokenResp<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(state) = answer.state {
        let number = match state {
            NegState::AcceptCompleted => 0,
            NegState::AcceptIncomplete => 1,
            NegState::Reject => 2,
            NegState::RequestMic => 3,
        };
        asn1::write_explicit(&mut out, 0, tag::ENUMERATED, &[number]);
    }
    if let Some(mechanism) = answer.mechanism {
        der::write(&mut out, tag::context(1), mechanism);
    }
    for (number, octets) in [(2, answer.response), (3, answer.mic)] {
        if let Some(octets) = octets {
            asn1::write_explicit(&mut out, number, tag::OCTET_STRING, octets);
        }
    }
    element(tag::context(1), &element(tag::SEQUENCE, &out))
}

/// What our decoder reads in a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenAnswer {
    /// `proved`, `krb-error`, `rejected`, `absent`, `ntlm-only`, or the code of the failure
    pub verdict: String,
    /// `spnego` or `kerberos`
    pub framing: String,
    /// negState, if there is one
    pub state: Option<String>,
    /// supportedMech: `krb5`, `ms-krb5` or another, if there is one
    pub mechanism: Option<String>,
    /// encryption type of the AP-REP
    pub etype: Option<i32>,
    /// encryption type of the acceptor's subkey
    pub acceptor_subkey: Option<i32>,
    /// mechListMIC: `none`, `token-repeated` or `signed`
    pub mech_list_mic: String,
    /// code of the KRB-ERROR
    pub krb_error: Option<i32>,
    /// NTSTATUS in it
    pub ntstatus: Option<String>,
}

/// Reads a capture as the answer to a token with the published keys is read.
pub(super) fn examine(value: &[u8]) -> Result<SeenAnswer, Unreadable> {
    let text = value.strip_prefix(SCHEME.as_bytes()).ok_or(Unreadable("no Negotiate answer"))?;
    let token = base64_simd::STANDARD.decode_to_vec(text).map_err(|_| Unreadable("not Base64"))?;
    let spnego = NegTokenResp::parse(&token).ok();
    let inner = spnego.map_or(Some(token.as_slice()), |answer| answer.response);
    let kerberos = inner.map(framing::unframe_kerberos).transpose()?;
    let etype = match kerberos {
        Some((framing::AP_REP, message)) => Some(ap_rep::enc_part(message)?.etype),
        _ => None,
    };
    let error = match kerberos {
        Some((framing::KRB_ERROR, message)) => Some(KrbError::parse(message)?),
        _ => None,
    };
    let expected = Etype::from_number(etype.unwrap_or(Etype::Aes256Sha1.number())).and_then(published::expectation);
    let acceptor_subkey = match (kerberos, &expected) {
        (Some((framing::AP_REP, message)), Some(expectation)) => subkey_type(message, expectation)?,
        _ => None,
    };
    let formats: &[TokenFormat] =
        if spnego.is_some() { &[TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft] } else { &[TokenFormat::Kerberos] };
    let value = HeaderValue::from_bytes(value).map_err(|_| Unreadable("not a header's value"))?;
    Ok(SeenAnswer {
        verdict: verdict(etype, &value, formats)?,
        framing: if spnego.is_some() { "spnego" } else { "kerberos" }.into(),
        state: spnego.and_then(|answer| answer.state).map(|state| state_name(state).into()),
        mechanism: spnego.and_then(|answer| answer.mechanism).map(|mechanism| mechanism_name(mechanism).into()),
        etype,
        acceptor_subkey,
        mech_list_mic: match spnego.map(|answer| (answer.mic, answer.response)) {
            None | Some((None, _)) => "none",
            Some((mic, response)) if mic == response => "token-repeated",
            Some(_) => "signed",
        }
        .into(),
        krb_error: error.as_ref().map(|error| error.code),
        ntstatus: error.as_ref().and_then(KrbError::nt_status).map(|status| format!("{status:#010x}")),
    })
}

fn subkey_type(message: &[u8], expectation: &ApRepExpectation) -> Result<Option<i32>, Unreadable> {
    let plaintext = expectation.decrypt(message).map_err(|_| Unreadable("an AP-REP that the published key does not open"))?;
    let mut fields = Reader::new(der::only(der::only(plaintext.expose(), tag::application(27))?, tag::SEQUENCE)?);
    fields.explicit(0, tag::GENERALIZED_TIME)?;
    fields.explicit(1, tag::INTEGER)?;
    Ok(fields.explicit_optional(2, tag::SEQUENCE)?.map(asn1::key_fields).transpose()?.map(|(etype, _)| etype))
}

/// The judgement in the format of the token that was answered, which only a MIC tells.
fn verdict(etype: Option<i32>, value: &HeaderValue, formats: &[TokenFormat]) -> Result<String, Unreadable> {
    let etype = Etype::from_number(etype.unwrap_or(Etype::Aes256Sha1.number())).ok_or(Unreadable("an unknown etype"))?;
    let mut last = Err(Unreadable("no format"));
    for &format in formats {
        let expectation = published::expectation(etype).ok_or(Unreadable("no published key"))?;
        match Reply::native(expectation, format).judge(std::slice::from_ref(value)) {
            Ok(verdict) => return Ok(verdict_name(&verdict).into()),
            Err(failure) => last = Ok(failure.cause.code().into()),
        }
    }
    last
}

const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Proved => "proved",
        Verdict::Absent => "absent",
        Verdict::KrbError { .. } => "krb-error",
        Verdict::Rejected => "rejected",
        Verdict::NtlmOnly => "ntlm-only",
    }
}

const fn state_name(state: NegState) -> &'static str {
    match state {
        NegState::AcceptCompleted => "accept-completed",
        NegState::AcceptIncomplete => "accept-incomplete",
        NegState::Reject => "reject",
        NegState::RequestMic => "request-mic",
    }
}

fn mechanism_name(mechanism: &[u8]) -> &'static str {
    match mechanism {
        framing::KRB5_MECHANISM => "krb5",
        framing::MS_KRB5_MECHANISM => "ms-krb5",
        framing::NTLMSSP_MECHANISM => "ntlmssp",
        framing::SPNEGO_MECHANISM => "spnego",
        _ => "other",
    }
}
