//! Messages of the library to a KDC and of KDCs to it.

use super::request::{Exchange, KdcRequest, reply_kind};

pub(crate) fn request(bytes: &[u8]) {
    let _ = KdcRequest::parse(bytes);
}

pub(crate) fn reply(bytes: &[u8]) {
    let _ = reply_kind(Exchange::As, bytes);
    let _ = reply_kind(Exchange::Tgs, bytes);
}
