//! What CAs publish and responders answer.

use super::crl::Crl;

pub(crate) use super::fetch::fuzzing::address;
pub(crate) use super::ocsp::fuzzing::response as ocsp_response;

pub(crate) fn crl(bytes: &[u8]) {
    let _ = Crl::read(bytes);
}
