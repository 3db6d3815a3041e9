use super::*;
use crate::kerberos::proof::pac::testkit::{Account, DOMAIN};

const DENIED_GROUPS: [u32; 5] = [512, 516, 518, 519, 521];
const DENIED_ACCOUNTS: [u32; 1] = [500];

fn verdict(account: &Account) -> Result<(), Cause> {
    judge_account(&account.verified(), AccountKind::User, &DENIED_GROUPS, &DENIED_ACCOUNTS).map_err(|failure| failure.cause)
}

fn with_extra(sid: &str) -> Account {
    Account { extra_sids: vec!["S-1-18-2".into(), sid.into()], ..Account::default() }
}

#[test]
fn an_ordinary_user_passes() {
    assert_eq!(verdict(&Account::default()), Ok(()));
    // NORMAL_ACCOUNT, DONT_EXPIRE_PASSWORD, NOT_DELEGATED, TRUSTED_FOR_DELEGATION: none of them says what kind of account it is.
    assert_eq!(verdict(&Account { user_account_control: 0x10 | 0x200 | 0x4000 | 0x2000, ..Account::default() }), Ok(()));
    let groups = vec![513, 525, 553, 572, 1111, 5120];
    assert_eq!(verdict(&Account { groups, ..Account::default() }), Ok(()));
}

#[test]
fn computers_domain_controllers_trusts_and_krbtgt_are_refused_by_kind() {
    for (name, account) in [
        ("trust", Account { user_account_control: 0x40, ..Account::default() }),
        ("workstation", Account { user_account_control: 0x80, ..Account::default() }),
        ("domain controller", Account { user_account_control: 0x100, ..Account::default() }),
        ("workstation that calls itself a user", Account { user_account_control: 0x90, ..Account::default() }),
        ("primary group Domain Computers", Account { primary_group: 515, ..Account::default() }),
        ("primary group Domain Controllers", Account { primary_group: 516, ..Account::default() }),
        ("primary group Read-only Domain Controllers", Account { primary_group: 521, ..Account::default() }),
        ("krbtgt", Account { rid: 502, ..Account::default() }),
        ("SIDHistory of krbtgt", with_extra("S-1-5-21-1-2-3-502")),
    ] {
        assert_eq!(verdict(&account), Err(Cause::AccountKindRefused), "{name}");
        let unrestricted = judge_account(&account.verified(), AccountKind::User, &[], &[]).map_err(|failure| failure.cause);
        assert_eq!(unrestricted, Err(Cause::AccountKindRefused), "{name}, whatever is configured");
    }
}

#[test]
fn a_workstation_passes_only_where_the_mapping_is_for_computers() {
    let judge = |account: &Account| {
        let verdict = judge_account(&account.verified(), AccountKind::Computer, &DENIED_GROUPS, &DENIED_ACCOUNTS);
        verdict.map_err(|failure| failure.cause)
    };
    let workstation = Account { user_account_control: 0x80, primary_group: 515, groups: vec![515], ..Account::default() };
    assert_eq!(verdict(&workstation), Err(Cause::AccountKindRefused));
    assert_eq!(judge(&workstation), Ok(()));
    for (name, account) in [
        ("trust", Account { user_account_control: 0xC0, ..workstation.clone() }),
        ("domain controller", Account { user_account_control: 0x180, ..workstation.clone() }),
        ("primary group Domain Controllers", Account { primary_group: 516, ..workstation.clone() }),
        ("primary group Read-only Domain Controllers", Account { primary_group: 521, ..workstation.clone() }),
        ("krbtgt", Account { rid: 502, ..workstation.clone() }),
        ("SIDHistory of krbtgt", Account { extra_sids: vec!["S-1-5-21-1-2-3-502".into()], ..workstation.clone() }),
    ] {
        assert_eq!(judge(&account), Err(Cause::AccountKindRefused), "{name}");
    }
    let privileged = Account { groups: vec![515, 512], ..workstation };
    assert_eq!(judge(&privileged), Err(Cause::PrivilegedRefused));
}

#[test]
fn the_privileged_are_refused_however_their_membership_is_written() {
    let in_group = |rid| Account { groups: vec![513, rid], ..Account::default() };
    let resource = |domain: &str, rid| Account { resource_groups: Some((domain.into(), vec![1, rid])), ..Account::default() };
    for (name, account) in [
        ("Domain Admins", in_group(512)),
        ("Domain Controllers", in_group(516)),
        ("Schema Admins", in_group(518)),
        ("Enterprise Admins", in_group(519)),
        ("Read-only Domain Controllers", in_group(521)),
        ("Domain Admins as the primary group", Account { primary_group: 512, groups: Vec::new(), ..Account::default() }),
        ("Enterprise Admins of the forest's root", with_extra("S-1-5-21-1-2-3-519")),
        ("SIDHistory of Domain Admins", with_extra("S-1-5-21-4-5-6-512")),
        ("resource group", resource("S-1-5-21-7-8-9", 512)),
        ("Administrator", Account { rid: 500, ..Account::default() }),
        ("SIDHistory of an Administrator", with_extra("S-1-5-21-1-2-3-500")),
    ] {
        assert_eq!(verdict(&account), Err(Cause::PrivilegedRefused), "{name}");
        assert_eq!(judge_account(&account.verified(), AccountKind::User, &[], &[]), Ok(()), "{name}, allowed by configuration");
    }
}

#[test]
fn groups_of_the_built_in_domain_are_refused_where_the_list_says_so() {
    for rid in [544, 548, 549, 550, 551] {
        let extra = with_extra(&format!("S-1-5-32-{rid}"));
        let resource = Account { resource_groups: Some(("S-1-5-32".into(), vec![rid])), ..Account::default() };
        for account in [extra, resource] {
            assert_eq!(verdict(&account), Ok(()), "{rid} is not on the list");
            let denied = judge_account(&account.verified(), AccountKind::User, &[rid], &[]).map_err(|failure| failure.cause);
            assert_eq!(denied, Err(Cause::PrivilegedRefused), "{rid}");
        }
    }
}

#[test]
fn sids_that_only_end_like_a_privileged_one_are_not_groups() {
    for sid in [
        "S-1-18-512",
        "S-1-5-512",
        "S-1-5-80-1-2-3-512",
        "S-1-5-21-512",
        "S-1-5-21-1-2-3-4-512",
        "S-1-5-5-0-500",
        "S-1-5-32-1-512",
    ] {
        assert_eq!(verdict(&with_extra(sid)), Ok(()), "{sid}");
    }
}

#[test]
fn an_ordinary_rid_may_be_denied_as_a_group_or_as_the_account_itself() {
    let account = with_extra("S-1-5-21-1-2-3-1103");
    assert!(judge_account(&account.verified(), AccountKind::User, &[1103], &[]).is_err(), "a group of another domain");
    assert!(judge_account(&Account::default().verified(), AccountKind::User, &[], &[1103]).is_err(), "the account");
    let other = Account { rid: 1104, ..account };
    assert_eq!(
        judge_account(&other.verified(), AccountKind::User, &[], &[1103]),
        Ok(()),
        "another domain's ordinary RID is another account"
    );
}

#[test]
fn a_user_known_by_an_extra_sid_only_is_judged_by_that_sid() {
    let foreign = |sid: &str| Account { rid: 0, domain: None, extra_sids: vec![sid.into()], ..Account::default() };
    assert_eq!(verdict(&foreign("S-1-5-21-1-2-3-1500")), Ok(()));
    assert_eq!(verdict(&foreign("S-1-5-21-1-2-3-500")), Err(Cause::PrivilegedRefused));
    assert_eq!(verdict(&foreign("S-1-5-21-1-2-3-502")), Err(Cause::AccountKindRefused));
}

#[test]
fn a_refusal_names_the_account_and_the_reason() {
    let failure = judge_account(&Account { groups: vec![512], ..Account::default() }.verified(), AccountKind::User, &[512], &[])
        .unwrap_err();
    assert_eq!(failure.detail, format!("CORP\\alice ({DOMAIN}-1103): a member of a group with RID 512 is not delegated"));
}
