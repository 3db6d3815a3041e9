//! What CAs publish and responders answer.

pub(crate) use super::fetch::fuzzing::address;
pub(crate) use super::ocsp::fuzzing::response as ocsp_response;
