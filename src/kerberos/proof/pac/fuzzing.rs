//! A PAC's buffers without its signature, which no fuzzer finds.

use super::{Buffers, ClientInfo, UpnInfo, buffer_type, logon_info};

pub(crate) fn pac(bytes: &[u8]) {
    let Ok(buffers) = Buffers::parse(bytes) else { return };
    let _ = buffers.signature(buffer_type::SERVER_CHECKSUM, "server signature");
    let _ = buffers.optional(buffer_type::LOGON_INFO).map(logon_info::decode);
    let _ = buffers.optional(buffer_type::CLIENT_INFO).map(ClientInfo::parse);
    let _ = buffers.optional(buffer_type::UPN_DNS_INFO).map(UpnInfo::parse);
}

pub(crate) fn logon_information(bytes: &[u8]) {
    let _ = logon_info::decode(bytes);
}
