//! Which accounts may be impersonated now, by what the directory says of them. The KDC and the PAC judge again.

use std::fmt;
use std::time::Duration;

use crate::directory::Account;
use crate::failure::{Cause, Failure};
use crate::identity::{AccountKind, Strength};
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
            backdating: Duration::from_mins(10),
            positive_ttl: Duration::from_mins(2),
            negative_ttl: Duration::from_secs(30),
            max_ride_through: Duration::from_hours(4),
        }
    }
}

/// userAccountControl (MS-ADTS 2.2.16) and msDS-User-Account-Control-Computed (MS-ADTS 3.1.1.4.5.17).
mod control {
    pub(super) const DISABLED: u32 = 0x2;
    pub(super) const LOCKED: u32 = 0x10;
    pub(super) const USER: u32 = 0x200;
    pub(super) const TRUST: u32 = 0x800;
    pub(super) const WORKSTATION: u32 = 0x1000;
    pub(super) const DOMAIN_CONTROLLER: u32 = 0x2000;
    pub(super) const NOT_DELEGATED: u32 = 0x0010_0000;
    pub(super) const PASSWORD_EXPIRED: u32 = 0x0080_0000;
    pub(super) const READ_ONLY_DOMAIN_CONTROLLER: u32 = 0x0400_0000;
    /// Of all kinds of account exactly one.
    pub(super) const KINDS: u32 = USER | TRUST | WORKSTATION | DOMAIN_CONTROLLER | READ_ONLY_DOMAIN_CONTROLLER;
}

/// sAMAccountType (MS-SAMR 2.2.1.9): SAM_USER_OBJECT, SAM_MACHINE_ACCOUNT.
const USER_OBJECT: u32 = 0x3000_0000;
const MACHINE_ACCOUNT: u32 = 0x3000_0001;
/// Primary groups (MS-DTYP 2.4.2.4): Domain Computers; Domain Controllers, Read-only Domain Controllers.
const COMPUTERS: u32 = 515;
const DOMAIN_CONTROLLERS: [u32; 2] = [516, 521];
/// Protected Users.
const PROTECTED_USERS: u32 = 525;
/// krbtgt, whose tickets are everybody's.
const KRBTGT: u32 = 502;

impl AccountRules {
    /// Whether this account may be impersonated at this time (seconds since 1970), by a certificate that begins to be valid at
    /// `not_before` and was mapped with this strength.
    pub(super) fn judge(
        &self,
        account: &Account,
        (kind, strength, not_before): (AccountKind, Strength, i64),
        now: i64,
    ) -> Result<(), Failure> {
        let deny = |cause, why: String| Err(Failure::new(cause, format!("{}{why}", account.dn)));
        let Some(sid) = &account.sid else { return deny(Cause::DirectoryInvalid, " has no objectSid".to_owned()) };
        if let Some(why) = wrong_kind(account, sid, kind) {
            return deny(Cause::AccountKindDenied, format!(" is {why}"));
        }
        let has = |flag| account.control & flag != 0;
        let has_computed = |flag| account.computed_control & flag != 0;
        if has(control::DISABLED) {
            return deny(Cause::AccountDisabled, String::new());
        }
        if has(control::LOCKED) || has_computed(control::LOCKED) {
            return deny(Cause::AccountLocked, String::new());
        }
        if account.expires.is_some_and(|end| end <= now) {
            return deny(Cause::AccountExpired, String::new());
        }
        let password_expired = has_computed(control::PASSWORD_EXPIRED) || account.must_change_password;
        if self.deny_expired_passwords && password_expired {
            return deny(Cause::AccountPasswordExpired, String::new());
        }
        if has(control::NOT_DELEGATED) {
            return deny(Cause::AccountNotDelegated, String::new());
        }
        let protected = sid.domain().and_then(|domain| domain.with_rid(PROTECTED_USERS).ok());
        if protected.is_some_and(|group| account.groups.contains(&group)) {
            return deny(Cause::AccountProtected, String::new());
        }
        if let Some(list) = self.denying_list(account, sid) {
            return deny(Cause::AccountDenied, format!(": {list}"));
        }
        if !self.required_groups.is_empty() && !self.required_groups.iter().any(|group| is_member(account, sid, group)) {
            return deny(Cause::AccountGroupMissing, String::new());
        }
        if self.enforce_logon_hours && account.logon_hours.is_some_and(|hours| !within_hours(&hours, now)) {
            return deny(Cause::AccountOutsideHours, String::new());
        }
        match strength {
            Strength::Weak => self.judge_age(account, not_before),
            Strength::Strong => Ok(()),
        }
    }

    /// A name may have been somebody else's before the account was made (KB5014754, event 40).
    fn judge_age(&self, account: &Account, not_before: i64) -> Result<(), Failure> {
        if account.created <= 0 {
            return Err(Failure::new(Cause::DirectoryInvalid, format!("{} has no whenCreated", account.dn)));
        }
        let backdating = i64::try_from(self.backdating.as_secs()).unwrap_or(i64::MAX);
        if not_before.saturating_add(backdating) < account.created {
            let detail = format!("{}: issued {} s before", account.dn, account.created.saturating_sub(not_before));
            return Err(Failure::new(Cause::CertificateOlderThanAccount, detail));
        }
        Ok(())
    }

    fn denying_list(&self, account: &Account, sid: &Sid) -> Option<String> {
        if let Some(entry) = self.denied_accounts.iter().find(|entry| entry.is(sid)) {
            return Some(format!("directory.denied_accounts has {entry}"));
        }
        if let Some(entry) = self.denied_groups.iter().find(|entry| is_member(account, sid, entry)) {
            return Some(format!("a member of {entry}, which directory.denied_groups has"));
        }
        (self.deny_admin_count && account.admin_count).then(|| "adminCount is 1, and directory.deny_admin_count".to_owned())
    }
}

impl SidOrRid {
    /// A RID means the account or group of any domain, or of the built-in one.
    fn is(&self, sid: &Sid) -> bool {
        match self {
            Self::Sid(own) => own == sid,
            Self::Rid(rid) => sid.rid() == *rid && (sid.is_of_domain() || sid.is_builtin()),
        }
    }
}

impl fmt::Display for SidOrRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sid(sid) => sid.fmt(f),
            Self::Rid(rid) => write!(f, "RID {rid}"),
        }
    }
}

/// Flags, type, primary group, SID and name must all say the kind that the rule is for.
fn wrong_kind(account: &Account, sid: &Sid, kind: AccountKind) -> Option<&'static str> {
    let flags = account.control & control::KINDS;
    if sid.rid() == KRBTGT {
        return Some("krbtgt");
    }
    if flags & control::TRUST != 0 {
        return Some("a trust");
    }
    if flags & (control::DOMAIN_CONTROLLER | control::READ_ONLY_DOMAIN_CONTROLLER) != 0
        || DOMAIN_CONTROLLERS.contains(&account.primary_group)
    {
        return Some("a domain controller");
    }
    let computer = flags == control::WORKSTATION && account.account_type == MACHINE_ACCOUNT;
    let user = flags == control::USER
        && account.account_type == USER_OBJECT
        && account.primary_group != COMPUTERS
        && !account.account_name.ends_with('$');
    match kind {
        AccountKind::User if !user => Some("no user"),
        AccountKind::Computer if !computer || !account.account_name.ends_with('$') => Some("no computer"),
        _ => None,
    }
}

/// tokenGroups has nested groups and the primary one; the latter is looked at by itself too.
fn is_member(account: &Account, sid: &Sid, group: &SidOrRid) -> bool {
    let primary = sid.domain().and_then(|domain| domain.with_rid(account.primary_group).ok());
    account.groups.iter().chain(&primary).any(|member| group.is(member))
}

/// logonHours (MS-ADA1): one bit an hour, the lowest bit of an octet first, from Sunday 00:00 UTC.
fn within_hours(hours: &[u8; 21], now: i64) -> bool {
    // 1970 began on a Thursday.
    let hour = (now.div_euclid(3600) + 4 * 24).rem_euclid(7 * 24);
    let Ok(hour) = usize::try_from(hour) else { return false };
    hours.get(hour / 8).is_some_and(|octet| octet & (1 << (hour % 8)) != 0)
}
