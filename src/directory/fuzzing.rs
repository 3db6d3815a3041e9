//! What a directory server sends.

use ldap3::ResultEntry;
use ldap3::asn1::{PL, parse_tag};

use super::access_list::AccessList;
use super::ber::{self, BIND_RESPONSE, EXTENDED_RESPONSE, Header};
use super::decode;
use super::dn;
use super::entry::Entry;
use super::root_dse::RootDse;

/// A message that is let through to the library is one that it reads, and an entry in it is judged.
pub(crate) fn answer(bytes: &[u8]) {
    let _ = Header::read(bytes);
    let _ = ber::response(bytes, 1, BIND_RESPONSE);
    let _ = ber::response(bytes, 1, EXTENDED_RESPONSE);
    if ber::check_answer(bytes).is_err() {
        return;
    }
    let Ok((rest, message)) = parse_tag(bytes) else { panic!("let through, and the library does not read it") };
    assert!(rest.is_empty());
    let PL::C(mut parts) = message.payload else { panic!("a message without parts") };
    let Some(operation) = parts.pop() else { panic!("a message without an operation") };
    if let Some(entry) = Entry::read(ResultEntry::new(operation)) {
        let _ =
            (decode::account(&entry), decode::service::service_account(&entry), decode::sid_of(&entry), RootDse::read(&entry));
    }
}

pub(crate) fn distinguished_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = dn::parts(text);
    let _ = dn::domain_of(text);
}

/// Who may delegate to an account.
pub(crate) fn access_list(bytes: &[u8]) {
    if let Some(list) = AccessList::parse(bytes) {
        assert!(!list.is_empty() || !list.allows(&[]));
    }
}
