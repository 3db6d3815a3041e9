//! What a certificate claims, and what stands in a directory about it.

use super::Claims;
use super::alt_security::{self, Form, Stored};
use super::distinguished_name::DistinguishedName;
use super::name_match::NameMatchPolicy;

/// Whatever can be read can be computed from; what is computed is well-formed, and is itself.
pub(crate) fn certificate(bytes: &[u8]) {
    let Ok(claims) = Claims::of_leaf(bytes) else { return };
    for computed in alt_security::computed(&claims, &Form::ALL) {
        assert!(alt_security::matches(&computed.value, &computed));
        assert!(Stored::parse(&computed.value).is_ok(), "{}", computed.value);
        let _ = alt_security::hint(&computed.value, &claims);
    }
}

pub(crate) fn distinguished_name(bytes: &[u8]) {
    let Ok(name) = DistinguishedName::read(bytes) else { return };
    let _ = name.common_name();
    if let Ok(text) = name.windows() {
        assert!(!text.contains(['\0', '\r', '\n']) && !text.contains("<SR>"), "{text:?}");
    }
}

pub(crate) fn stored_identity(bytes: &[u8]) {
    let _ = std::str::from_utf8(bytes).map(Stored::parse);
}

pub(crate) fn name_match_policy(bytes: &[u8]) {
    let _ = std::str::from_utf8(bytes).map(NameMatchPolicy::parse);
}
