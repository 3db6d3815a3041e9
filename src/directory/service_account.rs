//! An account as somebody who delegates, or is delegated to: what explains a KDC's refusal.

use crate::directory::access_list::AccessList;
use crate::directory::dn::domain_of;
use crate::naming::sid::Sid;

/// userAccountControl (MS-ADTS 2.2.16).
mod control {
    pub(super) const DISABLED: u32 = 0x2;
    pub(super) const TRUSTED_FOR_DELEGATION: u32 = 0x0008_0000;
    pub(super) const NOT_DELEGATED: u32 = 0x0010_0000;
    pub(super) const TRUSTED_TO_AUTH_FOR_DELEGATION: u32 = 0x0100_0000;
}

/// Protected Users (MS-DTYP 2.4.2.4).
const PROTECTED_USERS: u32 = 525;

/// What is read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// distinguishedName.
    pub dn: String,
    /// objectSid.
    pub sid: Sid,
    /// sAMAccountName.
    pub account_name: String,
    /// userAccountControl (MS-ADTS 2.2.16).
    pub control: u32,
    /// servicePrincipalName.
    pub service_principal_names: Vec<String>,
    /// msDS-AllowedToDelegateTo: the delegation list.
    pub delegates_to: Vec<String>,
    /// msDS-AllowedToActOnBehalfOfOtherIdentity: who may delegate to it, where it says so itself.
    pub delegated_to_by: Option<AccessList>,
    /// msDS-SupportedEncryptionTypes (MS-KILE 2.2.7), where it is set.
    pub encryption_types: Option<u32>,
    /// msDS-KeyVersionNumber.
    pub key_version: Option<u32>,
    /// pwdLastSet, seconds since 1970; none: must be changed, or not shown.
    pub password_set: Option<i64>,
    /// tokenGroups: every group, nested ones included; empty where they are not shown to us.
    pub groups: Vec<Sid>,
}

impl ServiceAccount {
    /// The account is disabled.
    pub const fn is_disabled(&self) -> bool {
        self.control & control::DISABLED != 0
    }

    /// "Account is sensitive and cannot be delegated".
    pub const fn is_sensitive(&self) -> bool {
        self.control & control::NOT_DELEGATED != 0
    }

    /// Protocol transition: "use any authentication protocol".
    pub const fn may_transition(&self) -> bool {
        self.control & control::TRUSTED_TO_AUTH_FOR_DELEGATION != 0
    }

    /// Unconstrained delegation.
    pub const fn is_unconstrained(&self) -> bool {
        self.control & control::TRUSTED_FOR_DELEGATION != 0
    }

    /// A member of Protected Users.
    pub fn is_protected(&self) -> bool {
        let group = self.sid.domain().and_then(|domain| domain.with_rid(PROTECTED_USERS).ok());
        group.is_some_and(|group| self.groups.contains(&group))
    }

    /// Itself and its groups, as an access list may name them: with Everyone and Authenticated Users.
    pub fn sids(&self) -> Vec<Sid> {
        let well_known = ["S-1-1-0", "S-1-5-11"].into_iter().filter_map(|sid| Sid::parse(sid).ok());
        std::iter::once(self.sid.clone()).chain(self.groups.iter().cloned()).chain(well_known).collect()
    }

    /// The DNS name of its domain, in lower case.
    pub fn domain(&self) -> String {
        domain_of(&self.dn)
    }
}
