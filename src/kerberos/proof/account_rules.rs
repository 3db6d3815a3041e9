//! Which accounts are never impersonated, whatever a certificate says: domain controllers, trusts, krbtgt, computers unless the
//! mapping is for computers, and by default the privileged. Judged by the PAC alone, which the KDC signed; no directory is asked.

use std::collections::BTreeSet;

use crate::failure::{Cause, Failure};
use crate::identity::AccountKind;
use crate::kerberos::proof::pac::Pac;
use crate::naming::sid::Sid;

/// USER_ACCOUNT codes (MS-SAMR 2.2.1.12) of accounts that are no people, what they are, and the mapping that they are for.
const KINDS: [(u32, &str, Option<AccountKind>); 3] = [
    (0x0000_0040, "an inter-domain trust account", None),
    (0x0000_0080, "a workstation or managed service account", Some(AccountKind::Computer)),
    (0x0000_0100, "a domain controller account", None),
];
/// Primary groups (MS-DTYP 2.4.2.4) of computers. The attribute can be changed, so this only adds to the flags.
const COMPUTER_GROUPS: [(u32, &str, Option<AccountKind>); 3] = [
    (515, "Domain Computers", Some(AccountKind::Computer)),
    (516, "Domain Controllers", None),
    (521, "Read-only Domain Controllers", None),
];
/// RID of krbtgt, whose tickets are everybody's.
const KRBTGT: u32 = 502;
/// Below it, RIDs mean the same in every domain.
const FIRST_ORDINARY_RID: u32 = 1000;

/// Refuses an account by kind and by privilege. A workstation is let through where the mapping is for computers.
///
/// `denied_groups` and `denied_accounts` are RIDs. A group's RID is compared with every group the PAC names: those of the
/// account's own domain, those of any other domain (universal groups of the forest, SIDHistory), domain-local ones and, for RIDs
/// such as 544 (Administrators), those of `S-1-5-32`. Two domains may use one RID above 999 for different groups: then it is
/// denied in both.
pub fn judge_account(pac: &Pac, kind: AccountKind, denied_groups: &[u32], denied_accounts: &[u32]) -> Result<(), Failure> {
    let refuse = |cause, what: &str| Err(Failure::new(cause, format!("{} ({}): {what}", pac.logon_name(), pac.sid())));

    let wrong = |right: &Option<AccountKind>| *right != Some(kind);
    if let Some((_, what, _)) = KINDS.iter().find(|(flag, _, right)| pac.user_account_control() & flag != 0 && wrong(right)) {
        return refuse(Cause::AccountKindRefused, what);
    }
    if let Some((_, group, _)) = COMPUTER_GROUPS.iter().find(|(rid, _, right)| pac.primary_group() == *rid && wrong(right)) {
        return refuse(Cause::AccountKindRefused, &format!("its primary group is {group}"));
    }
    // SIDHistory lends an account the rights of another: its SIDs count as the account's own where their RID is well-known.
    let own = pac.sid().rid();
    let lent = pac.extra_sids().iter().filter_map(domain_rid).filter(|rid| *rid < FIRST_ORDINARY_RID);
    for rid in std::iter::once(own).chain(lent) {
        if rid == KRBTGT {
            return refuse(Cause::AccountKindRefused, "krbtgt");
        }
        if denied_accounts.contains(&rid) {
            return refuse(Cause::PrivilegedRefused, &format!("an account with RID {rid} is not delegated"));
        }
    }
    let groups = group_rids(pac);
    match denied_groups.iter().find(|rid| groups.contains(rid)) {
        Some(rid) => refuse(Cause::PrivilegedRefused, &format!("a member of a group with RID {rid} is not delegated")),
        None => Ok(()),
    }
}

/// RIDs of every group of a domain or of `S-1-5-32` that the PAC names.
fn group_rids(pac: &Pac) -> BTreeSet<u32> {
    let of_domain = std::iter::once(pac.primary_group()).chain(pac.groups().iter().copied());
    let by_sid = pac.extra_sids().iter().chain(pac.resource_groups());
    of_domain.chain(by_sid.filter_map(|sid| domain_rid(sid).or_else(|| builtin_rid(sid)))).collect()
}

/// The RID of an account or group of a domain: `S-1-5-21-a-b-c-RID`.
fn domain_rid(sid: &Sid) -> Option<u32> {
    let text = sid.to_string();
    let parts = text.strip_prefix("S-1-5-21-")?.split('-').count();
    (parts == 4).then(|| sid.rid())
}

/// The RID of a group of the built-in domain: `S-1-5-32-RID`.
fn builtin_rid(sid: &Sid) -> Option<u32> {
    let text = sid.to_string();
    let parts = text.strip_prefix("S-1-5-32-")?.split('-').count();
    (parts == 1).then(|| sid.rid())
}

#[cfg(test)]
mod tests;
