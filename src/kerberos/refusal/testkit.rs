//! Accounts and facts for tests.

use crate::directory::{AccessList, ServiceAccount};
use crate::kerberos::refusal::Facts;
use crate::naming::name::{OwnPrincipal, Spn};
use crate::naming::sid::Sid;

pub(in crate::kerberos) const TRANSITION: u32 = 0x0100_0000;
pub(in crate::kerberos) const SENSITIVE: u32 = 0x0010_0000;
pub(in crate::kerberos) const DISABLED: u32 = 0x2;

pub(in crate::kerberos) fn own() -> OwnPrincipal {
    OwnPrincipal::parse("svc-bridge@CORP.EXAMPLE").unwrap()
}

pub(in crate::kerberos) fn spn() -> Spn {
    Spn::parse("HTTP/mbx1.corp.example").unwrap()
}

pub(in crate::kerberos) fn sid(rid: u32) -> Sid {
    Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap()
}

/// An account with nothing to it.
pub(in crate::kerberos) fn account(name: &str, rid: u32) -> ServiceAccount {
    ServiceAccount {
        dn: format!("CN={name},CN=Users,DC=corp,DC=example"),
        sid: sid(rid),
        account_name: name.to_owned(),
        control: 0x200,
        service_principal_names: Vec::new(),
        delegates_to: Vec::new(),
        delegated_to_by: None,
        encryption_types: Some(0x18),
        key_version: Some(2),
        password_set: None,
        groups: vec![sid(513)],
    }
}

/// Our account as it should be.
pub(in crate::kerberos) fn our_account() -> ServiceAccount {
    let mut own = account("svc-bridge", 1103);
    own.control |= TRANSITION;
    own.service_principal_names = vec!["HTTP/bridge.corp.example".to_owned()];
    own.delegates_to = vec!["HTTP/mbx1.corp.example".to_owned()];
    own
}

/// The SPN's account.
pub(in crate::kerberos) fn owner() -> ServiceAccount {
    let mut owner = account("svc-mbx", 1104);
    owner.service_principal_names = vec![spn().to_string()];
    owner
}

/// Somebody, but not us, may delegate to it.
pub(in crate::kerberos) fn others() -> AccessList {
    AccessList::of(&[sid(4711)])
}

/// A domain in which delegation works.
pub(in crate::kerberos) fn facts() -> Facts {
    Facts { own: Some(our_account()), owners: vec![owner()], by_host: false }
}
