//! Which accounts may be impersonated now, by what the directory says of them. The KDC and the PAC judge again.

use std::time::Duration;

use crate::naming::sid::Sid;

/// `[directory]`: conditions on accounts, and how long an answer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRules {
    /// `deny_expired_passwords` (default false: Windows' KDC ignores both for S4U2Self): password expired, or must be changed
    pub deny_expired_passwords: bool,
    /// `deny_admin_count` (default false): accounts protected by AdminSDHolder, now or once
    pub deny_admin_count: bool,
    /// `denied_accounts` (default none)
    pub denied_accounts: Vec<SidOrRid>,
    /// `denied_groups` (default none): nested membership counts
    pub denied_groups: Vec<SidOrRid>,
    /// `required_groups` (default none): one of them is enough; nested membership counts
    pub required_groups: Vec<SidOrRid>,
    /// `enforce_logon_hours` (default false)
    pub enforce_logon_hours: bool,
    /// `backdating` (default 10 minutes): how much older than its account a weakly mapped certificate may be
    pub backdating: Duration,
    /// `positive_ttl` (default 120 s, 60 to 300 s): how long an account's mapping counts
    pub positive_ttl: Duration,
    /// `negative_ttl` (default 30 s, at most that): how long a refusal counts
    pub negative_ttl: Duration,
    /// `max_ride_through` (default 4 h): how much longer a mapping counts while no directory server answers
    pub max_ride_through: Duration,
}

/// An account or group: in one domain by SID, or in every domain and `S-1-5-32` by RID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SidOrRid {
    /// `S-1-5-21-…-1103`
    Sid(Sid),
    /// `512`
    Rid(u32),
}

impl Default for AccountRules {
    fn default() -> Self {
        Self {
            deny_expired_passwords: false,
            deny_admin_count: false,
            denied_accounts: Vec::new(),
            denied_groups: Vec::new(),
            required_groups: Vec::new(),
            enforce_logon_hours: false,
            backdating: Duration::from_secs(600),
            positive_ttl: Duration::from_secs(120),
            negative_ttl: Duration::from_secs(30),
            max_ride_through: Duration::from_secs(4 * 60 * 60),
        }
    }
}
