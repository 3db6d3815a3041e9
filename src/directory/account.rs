//! One account as the directory describes it.

use crate::directory::dn::domain_of;
use crate::naming::sid::Sid;

/// What is read of an account; nothing in it is decided yet. Times are FILETIME-free: seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// distinguishedName.
    pub dn: String,
    /// objectSid.
    pub sid: Option<Sid>,
    /// sAMAccountName.
    pub account_name: String,
    /// userPrincipalName, where one is set.
    pub user_principal_name: Option<String>,
    /// sAMAccountType (MS-SAMR 2.2.1.9).
    pub account_type: u32,
    /// userAccountControl (MS-ADTS 2.2.16).
    pub control: u32,
    /// msDS-User-Account-Control-Computed (MS-ADTS 3.1.1.4.5.17): lockout and password expiry.
    pub computed_control: u32,
    /// accountExpires; none: never.
    pub expires: Option<i64>,
    /// pwdLastSet is 0: the password must be changed.
    pub must_change_password: bool,
    /// primaryGroupID.
    pub primary_group: u32,
    /// adminCount is 1: protected by AdminSDHolder.
    pub admin_count: bool,
    /// whenCreated.
    pub created: i64,
    /// tokenGroups: every group, nested ones included.
    pub groups: Vec<Sid>,
    /// altSecurityIdentities.
    pub alt_security_identities: Vec<String>,
    /// userCertificate, DER.
    pub certificates: Vec<Vec<u8>>,
    /// mail.
    pub mail: Vec<String>,
    /// dNSHostName.
    pub dns_host_name: Option<String>,
    /// servicePrincipalName.
    pub service_principal_names: Vec<String>,
    /// logonHours: 21 octets, one bit an hour from Sunday 00:00 UTC; none: at any hour.
    pub logon_hours: Option<[u8; 21]>,
}

impl Account {
    /// The DNS name of its domain, from the DC components of its name, in lower case; empty where there are none.
    pub fn domain(&self) -> String {
        domain_of(&self.dn)
    }
}
