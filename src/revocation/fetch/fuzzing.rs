//! Addresses in certificates.

use super::url::{AllowList, Url, shown};

/// What is shown of an address fits on a line; an address that is allowed by itself is one.
pub(crate) fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(!shown(text).chars().any(char::is_control));
    let parsed = Url::parse(text);
    let _ = AllowList::parse(&[text.to_owned()]).map(|list| parsed.map(|url| list.allows(&url)));
}
