//! The back end's answer to one token: `WWW-Authenticate` to verdict (RFC 4559 section 4, RFC 4178, RFC 4120).

use http::HeaderValue;

use crate::der::DerError;
use crate::failure::{Cause, Failure};
use crate::kerberos::ap_rep::ApRepExpectation;
use crate::kerberos::challenge::{Offers, Token};
use crate::kerberos::krb_error::KrbError;
use crate::kerberos::spnego::{self, NegState, NegTokenResp};
use crate::kerberos::{PendingReply, Verdict, gss};
use crate::policy::TokenFormat;

/// What every NTLM message begins with.
const NTLMSSP: &[u8] = b"NTLMSSP\0";

/// The answer to one token of our own.
#[derive(Debug)]
pub struct NativeReply {
    expectation: ApRepExpectation,
    format: TokenFormat,
}

impl NativeReply {
    /// The answer to the token that came with this expectation, in the format it was asked for.
    pub fn new(expectation: ApRepExpectation, format: TokenFormat) -> Self {
        Self { expectation, format }
    }

    fn judge_token(self, token: &[u8]) -> Result<Verdict, Failure> {
        if token.starts_with(NTLMSSP) {
            return Ok(Verdict::NtlmOnly);
        }
        match self.format {
            TokenFormat::Kerberos => self.judge_kerberos(token, None),
            TokenFormat::Spnego | TokenFormat::SpnegoMicrosoft => {
                let answer = NegTokenResp::parse(token).map_err(|error| invalid(format!("malformed NegTokenResp: {error}")))?;
                self.judge_spnego(answer)
            }
        }
    }

    fn judge_spnego(self, answer: NegTokenResp<'_>) -> Result<Verdict, Failure> {
        match answer.mechanism {
            Some(gss::NTLMSSP_MECHANISM) => return Ok(Verdict::NtlmOnly),
            Some(other) if !gss::is_kerberos(other) => return Err(invalid("the server chose a mechanism that we did not offer")),
            _ => {}
        }
        match (answer.response, answer.state) {
            (Some(token), _) => self.judge_kerberos(token, Some(answer)),
            (None, Some(NegState::Reject)) => Ok(Verdict::Rejected),
            // Accepted without proof: the same as no answer.
            (None, Some(NegState::AcceptCompleted)) if answer.mic.is_none() => Ok(Verdict::Absent),
            (None, state) => Err(unfinished(state)),
        }
    }

    /// A Kerberos token, by itself or as the response of a SPNEGO answer.
    fn judge_kerberos(self, token: &[u8], answer: Option<NegTokenResp<'_>>) -> Result<Verdict, Failure> {
        let (id, message) =
            gss::unframe_kerberos(token).map_err(|error| invalid(format!("malformed Kerberos token: {error}")))?;
        let state = answer.and_then(|answer| answer.state);
        match id {
            gss::KRB_ERROR if state == Some(NegState::AcceptCompleted) => Err(invalid("a KRB-ERROR that accepts")),
            gss::KRB_ERROR => {
                let error =
                    KrbError::parse(message).map_err(|error: DerError| invalid(format!("malformed KRB-ERROR: {error}")))?;
                Ok(Verdict::KrbError { code: error.code, reacquire: error.reacquire() })
            }
            gss::AP_REP if matches!(state, None | Some(NegState::AcceptCompleted)) => {
                let list = spnego::mech_type_list(self.format);
                let server = self.expectation.verify_message(message)?;
                match (list, answer.and_then(|answer| answer.mic)) {
                    // Old Windows repeats the response token in the place of the MIC.
                    (Some(list), Some(mic)) if mic != token && !server.verify_mic(list, mic) => {
                        Err(invalid("the mechListMIC is wrong or of a kind that is not verified"))
                    }
                    _ => Ok(Verdict::Proved),
                }
            }
            gss::AP_REP => Err(unfinished(state)),
            [a, b] => Err(invalid(format!("token {a:02x} {b:02x} is neither an AP-REP nor a KRB-ERROR"))),
        }
    }
}

impl PendingReply for NativeReply {
    fn judge(self, www_authenticate: &[HeaderValue]) -> Result<Verdict, Failure> {
        let offers = Offers::read(www_authenticate.iter().map(HeaderValue::as_bytes));
        match offers.negotiate {
            Token::One(text) => {
                let token =
                    base64_simd::STANDARD.decode_to_vec(text).map_err(|_| invalid("the Negotiate token is not Base64"))?;
                self.judge_token(&token)
            }
            Token::Several => Err(invalid("several Negotiate answers")),
            Token::None if offers.ntlm && !offers.bare_negotiate => Ok(Verdict::NtlmOnly),
            Token::None => Ok(Verdict::Absent),
        }
    }
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Cause::NegotiationInvalid, what)
}

fn unfinished(state: Option<NegState>) -> Failure {
    invalid(match state {
        None => "neither a state nor a token",
        Some(NegState::AcceptCompleted) => "a mechListMIC without an AP-REP",
        Some(NegState::AcceptIncomplete) => "accept-incomplete: the server expects another token",
        Some(NegState::RequestMic) => "request-mic: the server expects another token",
        Some(NegState::Reject) => "reject, but with an AP-REP",
    })
}

#[cfg(test)]
mod tests;
