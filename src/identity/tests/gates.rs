//! Which accounts may be impersonated now.

use super::*;

/// Wednesday, 2025-06-04 10:30 UTC.
const NOW: i64 = 1_749_033_000;

fn judge_as(kind: AccountKind, rules: &AccountRules, account: &Account) -> Result<(), Cause> {
    rules.judge(account, (kind, Strength::Strong, ISSUED), NOW).map_err(|failure| failure.cause)
}

fn judge(rules: &AccountRules, account: &Account) -> Result<(), Cause> {
    judge_as(AccountKind::User, rules, account)
}

fn alice() -> Account {
    user("alice", OWN)
}

fn in_group(group: &str) -> Account {
    let mut account = alice();
    account.groups.push(sid(group));
    account
}

#[test]
fn an_ordinary_user_passes_whatever_conditions_do_not_concern_it() {
    assert_eq!(judge(&AccountRules::default(), &alice()), Ok(()));
    let strict = AccountRules {
        deny_expired_passwords: true,
        deny_admin_count: true,
        denied_accounts: vec![SidOrRid::Rid(500), SidOrRid::Sid(sid(OTHER))],
        denied_groups: vec![SidOrRid::Rid(512), SidOrRid::Rid(1104)],
        enforce_logon_hours: true,
        ..AccountRules::default()
    };
    assert_eq!(judge(&strict, &alice()), Ok(()));
    // DONT_EXPIRE_PASSWORD, SMARTCARD_REQUIRED; expires tomorrow; Protected Users of another domain.
    let odd = Account { control: 0x5_0200, expires: Some(NOW + 86_400), ..in_group("S-1-5-21-9-9-9-525") };
    assert_eq!(judge(&strict, &odd), Ok(()));
}

#[test]
fn what_the_account_says_is_a_refusal_with_its_own_reason() {
    let rules = AccountRules::default();
    for (account, expected) in [
        (Account { control: 0x202, ..alice() }, Cause::AccountDisabled),
        (Account { computed_control: 0x10, ..alice() }, Cause::AccountLocked),
        (Account { expires: Some(NOW), ..alice() }, Cause::AccountExpired),
        (Account { expires: Some(0), ..alice() }, Cause::AccountExpired),
        (Account { control: 0x0010_0200, ..alice() }, Cause::AccountNotDelegated),
        (in_group("S-1-5-21-1-2-3-525"), Cause::AccountProtected),
        (Account { sid: None, ..alice() }, Cause::DirectoryInvalid),
    ] {
        assert_eq!(judge(&rules, &account), Err(expected));
    }
}

#[test]
fn only_users_pass_as_users_and_only_computers_as_computers() {
    let rules = AccountRules::default();
    assert_eq!(judge_as(AccountKind::Computer, &rules, &computer("ws1", OWN)), Ok(()));
    let never = [
        ("krbtgt", Account { sid: Some(sid("S-1-5-21-1-2-3-502")), ..alice() }),
        ("trust", Account { control: 0xA00, ..alice() }),
        ("trust alone", Account { control: 0x800, account_type: 0x3000_0002, ..alice() }),
        ("domain controller", Account { control: 0x2000, ..computer("dc1", OWN) }),
        ("domain controller that is a workstation too", Account { control: 0x3000, ..computer("dc1", OWN) }),
        ("read-only domain controller", Account { control: 0x0400_1000, ..computer("rodc", OWN) }),
        ("primary group Domain Controllers", Account { primary_group: 516, ..computer("dc1", OWN) }),
        ("primary group Read-only Domain Controllers", Account { primary_group: 521, ..computer("dc1", OWN) }),
        ("user in Domain Controllers", Account { primary_group: 516, ..alice() }),
        ("unknown kind", Account { control: 0, account_type: 0, ..alice() }),
        ("user and workstation", Account { control: 0x1200, ..alice() }),
    ];
    for (name, account) in &never {
        for kind in [AccountKind::User, AccountKind::Computer] {
            assert_eq!(judge_as(kind, &rules, account), Err(Cause::AccountKindDenied), "{name} as {kind:?}");
        }
    }
    let computers = [
        computer("ws1", OWN),
        // Renamed without its $: noPac.
        Account { account_name: "dc1".into(), ..computer("dc1", OWN) },
        Account { account_name: "alice$".into(), ..alice() },
        Account { primary_group: 515, ..alice() },
    ];
    for account in &computers {
        assert_eq!(judge(&rules, account), Err(Cause::AccountKindDenied), "{}", account.account_name);
    }
    assert_eq!(judge_as(AccountKind::Computer, &rules, &alice()), Err(Cause::AccountKindDenied));
    assert_eq!(judge_as(AccountKind::Computer, &rules, &computers[1]), Err(Cause::AccountKindDenied));
}

#[test]
fn expired_passwords_count_only_where_that_is_asked_for() {
    let asked = AccountRules { deny_expired_passwords: true, ..AccountRules::default() };
    for account in [Account { computed_control: 0x0080_0000, ..alice() }, Account { must_change_password: true, ..alice() }] {
        assert_eq!(judge(&AccountRules::default(), &account), Ok(()));
        assert_eq!(judge(&asked, &account), Err(Cause::AccountPasswordExpired));
    }
}

#[test]
fn deny_lists_name_accounts_and_groups_by_sid_or_rid() {
    let accounts = |entry| AccountRules { denied_accounts: vec![entry], ..AccountRules::default() };
    let groups = |entry| AccountRules { denied_groups: vec![entry], ..AccountRules::default() };
    let of_sid = |text| SidOrRid::Sid(sid(text));
    assert_eq!(judge(&accounts(of_sid(OWN)), &alice()), Err(Cause::AccountDenied));
    assert_eq!(judge(&accounts(SidOrRid::Rid(1104)), &alice()), Err(Cause::AccountDenied));
    assert_eq!(judge(&accounts(of_sid("S-1-5-21-9-9-9-1104")), &alice()), Ok(()), "another domain's");

    let admin = in_group("S-1-5-21-1-2-3-512");
    assert_eq!(judge(&groups(SidOrRid::Rid(512)), &admin), Err(Cause::AccountDenied));
    assert_eq!(judge(&groups(of_sid("S-1-5-21-1-2-3-512")), &admin), Err(Cause::AccountDenied));
    assert_eq!(judge(&groups(of_sid("S-1-5-21-9-9-9-512")), &admin), Ok(()));
    assert_eq!(judge(&groups(SidOrRid::Rid(544)), &in_group("S-1-5-32-544")), Err(Cause::AccountDenied));
    assert_eq!(judge(&groups(SidOrRid::Rid(512)), &in_group("S-1-18-512")), Ok(()), "no group of a domain");
    let primary = Account { primary_group: 512, groups: vec![], ..alice() };
    assert_eq!(judge(&groups(SidOrRid::Rid(512)), &primary), Err(Cause::AccountDenied));

    let protected = Account { admin_count: true, ..alice() };
    assert_eq!(judge(&AccountRules::default(), &protected), Ok(()));
    let asked = AccountRules { deny_admin_count: true, ..AccountRules::default() };
    assert_eq!(judge(&asked, &protected), Err(Cause::AccountDenied));
}

#[test]
fn one_of_the_required_groups_is_enough() {
    let required = vec![SidOrRid::Sid(sid("S-1-5-21-1-2-3-2001")), SidOrRid::Sid(sid("S-1-5-21-1-2-3-2002"))];
    let rules = AccountRules { required_groups: required, ..AccountRules::default() };
    assert_eq!(judge(&rules, &in_group("S-1-5-21-1-2-3-2002")), Ok(()));
    for outsider in [alice(), in_group("S-1-5-21-9-9-9-2002"), in_group("S-1-5-21-1-2-3-20020")] {
        assert_eq!(judge(&rules, &outsider), Err(Cause::AccountGroupMissing));
    }
}

#[test]
fn logon_hours_count_from_sunday_midnight_utc_where_they_are_enforced() {
    let enforced = AccountRules { enforce_logon_hours: true, ..AccountRules::default() };
    // Wednesday 10 to 11: hour 82.
    let mut only = [0_u8; 21];
    only[10] = 0b100;
    let open = Account { logon_hours: Some(only), ..alice() };
    let closed = Account { logon_hours: Some(only.map(|octet| !octet)), ..alice() };
    assert_eq!(judge(&enforced, &open), Ok(()));
    assert_eq!(judge(&enforced, &closed), Err(Cause::AccountOutsideHours));
    assert_eq!(judge(&AccountRules::default(), &closed), Ok(()));
    let at = |now| enforced.judge(&open, (AccountKind::User, Strength::Strong, ISSUED), now).is_ok();
    assert!(at(NOW + 29 * 60) && !at(NOW + 30 * 60) && at(NOW - 30 * 60) && !at(NOW - 31 * 60));
    assert!(at(NOW + 7 * 86_400) && !at(NOW + 86_400));
}

#[test]
fn a_weakly_mapped_certificate_may_not_be_older_than_the_account() {
    let rules = AccountRules::default();
    let judge = |strength, created| {
        let account = Account { created, ..alice() };
        rules.judge(&account, (AccountKind::User, strength, ISSUED), NOW).map_err(|failure| failure.cause)
    };
    assert_eq!(judge(Strength::Weak, ISSUED + 600), Ok(()), "CAs backdate by ten minutes");
    assert_eq!(judge(Strength::Weak, ISSUED + 601), Err(Cause::CertificateOlderThanAccount));
    assert_eq!(judge(Strength::Strong, ISSUED + 601), Ok(()));
    assert_eq!(judge(Strength::Weak, 0), Err(Cause::DirectoryInvalid), "nobody knows when it was made");
}
