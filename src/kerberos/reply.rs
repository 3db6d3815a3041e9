//! The back end's answer to one token: `WWW-Authenticate` to verdict (RFC 4559 section 4, RFC 4178, RFC 4120).

use http::HeaderValue;

use crate::der::DerError;
use crate::failure::{Cause, Failure};
use crate::kerberos::acquire::gss::ReferenceContext;
use crate::kerberos::wire::ap_rep::{ApRepExpectation, ProvedServer};
use crate::kerberos::wire::challenge::{Offers, Token};
use crate::kerberos::wire::framing;
use crate::kerberos::wire::krb_error::KrbError;
use crate::kerberos::wire::spnego::{self, NegState, NegTokenResp};
use crate::kerberos::{PendingReply, Verdict};
use crate::policy::TokenFormat;

/// What every NTLM message begins with.
const NTLMSSP: &[u8] = b"NTLMSSP\0";

/// The answer to one token, whichever engine minted it.
#[derive(Debug)]
pub struct Reply {
    awaited: Awaited,
    format: TokenFormat,
}

/// What verifies the AP-REP.
#[derive(Debug)]
enum Awaited {
    Native(ApRepExpectation),
    Reference(Box<ReferenceContext>),
}

impl Awaited {
    /// `token` is `message` in its GSS frame.
    fn verify(self, token: &[u8], message: &[u8]) -> Result<ProvedServer, Failure> {
        match self {
            Self::Native(expectation) => expectation.verify_message(message),
            Self::Reference(context) => {
                context.verify(token).map_err(|error| Failure::new(Cause::MutualFailed, error.to_string()))?;
                Ok(ProvedServer::without_key())
            }
        }
    }
}

impl Reply {
    /// The answer to a token of our own that came with this expectation, in the format it was asked for.
    pub fn native(expectation: ApRepExpectation, format: TokenFormat) -> Self {
        Self { awaited: Awaited::Native(expectation), format }
    }

    /// The answer to a token of the reference engine.
    pub fn reference(context: ReferenceContext, format: TokenFormat) -> Self {
        Self { awaited: Awaited::Reference(Box::new(context)), format }
    }

    /// What a recording needs of an answer to a token of our own; none for the reference engine, whose keys the library keeps.
    pub(in crate::kerberos) fn expectation(&self) -> Option<(&ApRepExpectation, TokenFormat)> {
        match &self.awaited {
            Awaited::Native(expectation) => Some((expectation, self.format)),
            Awaited::Reference(_) => None,
        }
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
            Some(framing::NTLMSSP_MECHANISM) => return Ok(Verdict::NtlmOnly),
            Some(other) if !framing::is_kerberos(other) => {
                return Err(invalid("the server chose a mechanism that we did not offer"));
            }
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
            framing::unframe_kerberos(token).map_err(|error| invalid(format!("malformed Kerberos token: {error}")))?;
        let state = answer.and_then(|answer| answer.state);
        match id {
            framing::KRB_ERROR if state == Some(NegState::AcceptCompleted) => Err(invalid("a KRB-ERROR that accepts")),
            framing::KRB_ERROR => {
                let error =
                    KrbError::parse(message).map_err(|error: DerError| invalid(format!("malformed KRB-ERROR: {error}")))?;
                Ok(Verdict::KrbError { code: error.code, reacquire: error.reacquire() })
            }
            framing::AP_REP if matches!(state, None | Some(NegState::AcceptCompleted)) => {
                let list = spnego::mech_type_list(self.format);
                let server = self.awaited.verify(token, message)?;
                match (list, answer.and_then(|answer| answer.mic)) {
                    // Old Windows repeats the response token in the place of the MIC.
                    (Some(list), Some(mic)) if mic != token && !server.verify_mic(list, mic) => {
                        Err(invalid("the mechListMIC is wrong or of a kind that is not verified"))
                    }
                    _ => Ok(Verdict::Proved),
                }
            }
            framing::AP_REP => Err(unfinished(state)),
            [a, b] => Err(invalid(format!("token {a:02x} {b:02x} is neither an AP-REP nor a KRB-ERROR"))),
        }
    }
}

impl PendingReply for Reply {
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
pub(crate) mod tests;
