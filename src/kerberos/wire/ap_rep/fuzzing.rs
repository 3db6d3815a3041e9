//! What a back end answers: the token, and what stands encrypted in it.

use super::{EncApRepPart, enc_part};
use crate::kerberos::wire::framing;
use crate::kerberos::wire::spnego::NegTokenResp;

pub(crate) fn token(bytes: &[u8]) {
    let inside = NegTokenResp::parse(bytes).ok().and_then(|answer| answer.response).unwrap_or(bytes);
    let _ = framing::unframe(bytes);
    let message = framing::unframe_kerberos(inside).map_or(inside, |(_, message)| message);
    let _ = enc_part(message);
}

pub(crate) fn decrypted(bytes: &[u8]) {
    let _ = EncApRepPart::parse(bytes);
}
