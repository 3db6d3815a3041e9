//! From a directory entry to a [`ServiceAccount`].

use super::{Attributes, FILETIME_1970, GROUPS, SID, complete, integer, sid, text, unsigned};
use crate::directory::access_list::AccessList;
use crate::directory::entry::Entry;
use crate::directory::service_account::ServiceAccount;
use crate::failure::Failure;

/// What is read of it.
pub(in crate::directory) const ATTRIBUTES: [&str; 10] = [
    SID,
    "sAMAccountName",
    "userAccountControl",
    "servicePrincipalName",
    "msDS-AllowedToDelegateTo",
    "msDS-AllowedToActOnBehalfOfOtherIdentity",
    "msDS-SupportedEncryptionTypes",
    "msDS-KeyVersionNumber",
    "pwdLastSet",
    GROUPS,
];

/// The account that an entry describes. It only explains what a KDC has refused, so what is not shown is taken for not there.
pub(in crate::directory) fn service_account(entry: &Entry) -> Result<ServiceAccount, Failure> {
    complete(entry)?;
    let attributes = Attributes(entry);
    Ok(ServiceAccount {
        dn: entry.dn.clone(),
        sid: attributes.required(SID, sid)?,
        account_name: attributes.required("sAMAccountName", text)?,
        control: attributes.required("userAccountControl", unsigned)?,
        service_principal_names: attributes.all("servicePrincipalName", text)?,
        delegates_to: attributes.all("msDS-AllowedToDelegateTo", text)?,
        delegated_to_by: attributes.optional("msDS-AllowedToActOnBehalfOfOtherIdentity", AccessList::parse)?,
        encryption_types: attributes.optional("msDS-SupportedEncryptionTypes", unsigned)?,
        key_version: attributes.optional("msDS-KeyVersionNumber", unsigned)?,
        password_set: attributes.optional("pwdLastSet", integer)?.filter(|time| *time > 0).map(seconds),
        groups: attributes.all(GROUPS, sid)?,
    })
}

/// FILETIME as seconds since 1970.
fn seconds(filetime: i64) -> i64 {
    filetime.saturating_sub(FILETIME_1970).div_euclid(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::sid::Sid;

    fn read(more: &[(&str, &[&[u8]])]) -> Result<ServiceAccount, Failure> {
        let sid = Sid::new(5, vec![21, 1, 2, 3, 1110]).unwrap().to_binary();
        let least: [(&str, &[&[u8]]); 3] =
            [("objectSid", &[&sid]), ("sAMAccountName", &[b"svc-bridge"]), ("userAccountControl", &[b"16843264"])];
        let named = |(name, values): &(&str, &[&[u8]])| ((*name).to_owned(), values.iter().map(|value| value.to_vec()).collect());
        let attributes = least.iter().chain(more).map(named).collect();
        service_account(&Entry { dn: "CN=svc-bridge,DC=corp,DC=example".to_owned(), attributes })
    }

    #[test]
    fn a_service_account_is_read_whole() {
        let account = read(&[
            ("servicePrincipalName", &[b"HTTP/bridge.corp.example"]),
            ("msDS-AllowedToDelegateTo", &[b"HTTP/mbx1.corp.example", b"HTTP/mbx2.corp.example"]),
            ("msDS-SupportedEncryptionTypes", &[b"24"]),
            ("msDS-KeyVersionNumber", &[b"3"]),
            ("pwdLastSet", &[b"116444736010000000"]),
        ])
        .unwrap();
        assert_eq!((account.control, account.encryption_types, account.key_version), (0x0101_0200, Some(24), Some(3)));
        assert_eq!((account.delegates_to.len(), account.password_set), (2, Some(1)));
        assert!(account.may_transition() && !account.is_sensitive());
    }

    #[test]
    fn what_is_not_shown_is_not_there_and_what_is_malformed_is_named() {
        let account = read(&[]).unwrap();
        assert!(
            account.service_principal_names.is_empty() && account.delegated_to_by.is_none() && account.password_set.is_none()
        );
        for name in ["msDS-AllowedToActOnBehalfOfOtherIdentity", "msDS-KeyVersionNumber", "pwdLastSet"] {
            let failure = read(&[(name, &[b"x"])]).unwrap_err();
            assert!(failure.detail.contains(name), "{failure}");
        }
    }
}
