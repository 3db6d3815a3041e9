//! From a failed GSS call at a known stage to a line of the failure table: by the KRB-ERROR's code, and by the NTSTATUS beside it
//! where the relay saw one. Neither is authenticated: they tell refusals apart and never make one an acceptance.

use crate::failure::{Cause, Failure, Stage};
use crate::kerberos::acquire::gss::GssError;
use crate::kerberos::relay::UNANSWERED;

/// KRB-ERROR codes that decide (RFC 4120 section 7.5.9).
pub(in crate::kerberos) mod code {
    /// KDC_ERR_NAME_EXP: the client's account has expired
    pub(in crate::kerberos) const NAME_EXPIRED: i32 = 1;
    /// KDC_ERR_SERVICE_EXP: the service's has
    pub(in crate::kerberos) const SERVICE_EXPIRED: i32 = 2;
    /// KDC_ERR_C_PRINCIPAL_UNKNOWN
    pub(in crate::kerberos) const CLIENT_UNKNOWN: i32 = 6;
    /// KDC_ERR_S_PRINCIPAL_UNKNOWN
    pub(in crate::kerberos) const SERVER_UNKNOWN: i32 = 7;
    /// KDC_ERR_PRINCIPAL_NOT_UNIQUE
    pub(in crate::kerberos) const NOT_UNIQUE: i32 = 8;
    /// KDC_ERR_POLICY
    pub(in crate::kerberos) const POLICY: i32 = 12;
    /// KDC_ERR_BADOPTION
    pub(in crate::kerberos) const BADOPTION: i32 = 13;
    /// KDC_ERR_ETYPE_NOSUPP
    pub(in crate::kerberos) const ETYPE_NOSUPP: i32 = 14;
    /// KDC_ERR_CLIENT_REVOKED
    pub(in crate::kerberos) const CLIENT_REVOKED: i32 = 18;
    /// KDC_ERR_SERVICE_REVOKED
    pub(in crate::kerberos) const SERVICE_REVOKED: i32 = 19;
    /// KDC_ERR_CLIENT_NOTYET
    pub(in crate::kerberos) const CLIENT_NOT_YET: i32 = 21;
    /// KDC_ERR_KEY_EXPIRED
    pub(in crate::kerberos) const KEY_EXPIRED: i32 = 23;
    /// KDC_ERR_PREAUTH_FAILED
    pub(in crate::kerberos) const PREAUTH_FAILED: i32 = 24;
    /// KDC_ERR_MUST_USE_USER2USER: the server has no service principal name (MS-KILE 3.3.5.1.2)
    pub(in crate::kerberos) const USER_TO_USER: i32 = 27;
    /// KDC_ERR_SVC_UNAVAILABLE
    pub(in crate::kerberos) const SVC_UNAVAILABLE: i32 = 29;
    /// What a KDC says of a TGT it cannot use: KDC_ERR_TGT_REVOKED, KRB_AP_ERR_BAD_INTEGRITY, TKT_EXPIRED, MODIFIED, BADKEYVER, NOKEY
    pub(in crate::kerberos) const ABOUT_THE_TGT: [i32; 6] = [20, 31, 32, 41, 44, 45];
    /// KRB_AP_ERR_TKT_NYV: the KDC's clock is behind what it was when it issued our ticket
    pub(in crate::kerberos) const NOT_YET_VALID: i32 = 33;
    /// KRB_AP_ERR_SKEW
    pub(in crate::kerberos) const SKEW: i32 = 37;
    /// KDC_ERR_WRONG_REALM
    pub(in crate::kerberos) const WRONG_REALM: i32 = 68;
}

/// NTSTATUS values that decide (MS-ERREF 2.3.1; when a KDC sends which: MS-SFU 3.2.5.2, MS-KILE 3.3.5.6.1).
mod status {
    pub(super) const ACCOUNT_RESTRICTION: u32 = 0xC000_006E;
    pub(super) const INVALID_LOGON_HOURS: u32 = 0xC000_006F;
    pub(super) const INVALID_WORKSTATION: u32 = 0xC000_0070;
    pub(super) const PASSWORD_EXPIRED: u32 = 0xC000_0071;
    pub(super) const ACCOUNT_DISABLED: u32 = 0xC000_0072;
    /// The delegation list is empty.
    pub(super) const NOT_SUPPORTED: u32 = 0xC000_00BB;
    pub(super) const ACCOUNT_EXPIRED: u32 = 0xC000_0193;
    pub(super) const PASSWORD_MUST_CHANGE: u32 = 0xC000_0224;
    /// The SPN's account lets others delegate to it, and not us.
    pub(super) const NOT_FOUND: u32 = 0xC000_0225;
    pub(super) const ACCOUNT_LOCKED_OUT: u32 = 0xC000_0234;
    /// The delegation list has other SPNs.
    pub(super) const NO_MATCH: u32 = 0xC000_0272;
    pub(super) const CROSSREALM_DELEGATION_FAILURE: u32 = 0xC000_040B;
}

/// libkrb5's own codes (krb5_err.et), which never came from a KDC.
mod library {
    pub(super) const REALM_UNKNOWN: i32 = -1_765_328_230;
    pub(super) const KDC_UNREACHABLE: i32 = -1_765_328_228;
    pub(super) const CANNOT_CONTACT_REALM: i32 = -1_765_328_164;
    pub(super) const KEYTAB_KEY_NOT_FOUND: i32 = -1_765_328_203;
    /// KRB5_KDCREP_MODIFIED: an answer, and to another request
    pub(super) const REPLY_NOT_OURS: i32 = -1_765_328_237;
    /// The table asn1_err.et: an answer that cannot be read
    pub(super) const REPLY_UNREADABLE: std::ops::RangeInclusive<i32> = 1_859_794_432..=1_859_794_687;
}

/// The cause of a failed call at this stage. What only the tickets can tell apart (a refused delegation) is told apart by the caller.
pub(in crate::kerberos) fn classify(stage: Stage, error: &GssError, status: Option<u32>) -> Failure {
    Failure::new(cause(stage, error, status), error.to_string())
}

fn cause(stage: Stage, error: &GssError, status: Option<u32>) -> Cause {
    let Some(code) = error.kerberos_code() else {
        return match error.minor() {
            // Whoever sent what is not ours, it was no KDC's answer to us.
            library::KDC_UNREACHABLE | library::CANNOT_CONTACT_REALM | library::REPLY_NOT_OURS => Cause::KdcUnreachable,
            minor if library::REPLY_UNREADABLE.contains(&minor) => Cause::KdcUnreachable,
            library::REALM_UNKNOWN => Cause::RealmUnknown,
            library::KEYTAB_KEY_NOT_FOUND => Cause::KeytabUnusable,
            _ => Cause::KdcOther,
        };
    };
    match (stage, code) {
        (_, UNANSWERED | code::SVC_UNAVAILABLE) => Cause::KdcUnreachable,
        (_, code::SKEW | code::NOT_YET_VALID) => Cause::ClockSkew,
        (_, code::WRONG_REALM) => Cause::RealmUnknown,
        (Stage::Tgt, _) => about_us(code, status),
        (Stage::S4u2Self, code::SERVER_UNKNOWN | code::USER_TO_USER) => Cause::OwnSpnMissing,
        (Stage::S4u2Self, code::BADOPTION) => Cause::S4u2SelfRefused,
        (Stage::S4u2Self, code::ETYPE_NOSUPP) => Cause::OwnEtypeNotSupported,
        (Stage::S4u2Proxy, code::BADOPTION) => match status {
            Some(status::NOT_FOUND) => Cause::ResourceListLacksUs,
            Some(status::NOT_SUPPORTED | status::NO_MATCH) => Cause::SpnNotListed,
            _ => Cause::DelegationRefused,
        },
        (Stage::S4u2Proxy, code::SERVER_UNKNOWN) => Cause::SpnUnknown,
        (Stage::S4u2Proxy, code::NOT_UNIQUE) => Cause::SpnDuplicate,
        (Stage::S4u2Proxy, code::SERVICE_REVOKED | code::SERVICE_EXPIRED) => Cause::SpnOwnerRevoked,
        (Stage::S4u2Proxy, code::POLICY) if status == Some(status::CROSSREALM_DELEGATION_FAILURE) => {
            Cause::DelegationAcrossRealms
        }
        (Stage::S4u2Proxy, code::POLICY) => match about_the_user(code, status) {
            // What is not said of the user may be about the two of them: another back end may be allowed.
            Cause::UserRestricted => Cause::PolicyRefused,
            user => user,
        },
        (_, code::ETYPE_NOSUPP) => Cause::EtypeNotSupported,
        (Stage::S4u2Self | Stage::S4u2Proxy, _) => about_the_user(code, status),
        _ => Cause::KdcOther,
    }
}

/// What is said of our own account when it asks for its own ticket.
fn about_us(code: i32, status: Option<u32>) -> Cause {
    match code {
        code::CLIENT_UNKNOWN => Cause::OwnAccountUnknown,
        code::KEY_EXPIRED => Cause::OwnPasswordExpired,
        code::PREAUTH_FAILED => Cause::OwnKeyRefused,
        code::ETYPE_NOSUPP => Cause::OwnEtypeNotSupported,
        code::CLIENT_REVOKED | code::NAME_EXPIRED | code::CLIENT_NOT_YET | code::POLICY => match status {
            Some(status::PASSWORD_EXPIRED | status::PASSWORD_MUST_CHANGE) => Cause::OwnPasswordExpired,
            _ => Cause::OwnAccountRevoked,
        },
        _ => Cause::KdcOther,
    }
}

/// What is said of the user. A KDC that sends no status does not say which of several it is.
fn about_the_user(code: i32, status: Option<u32>) -> Cause {
    match (code, status) {
        (code::CLIENT_UNKNOWN, _) => Cause::UserUnknown,
        (code::KEY_EXPIRED, _) => Cause::UserPasswordExpired,
        (code::NAME_EXPIRED, _) => Cause::UserExpired,
        (code::CLIENT_REVOKED | code::CLIENT_NOT_YET | code::POLICY, Some(status)) => match status {
            status::ACCOUNT_DISABLED => Cause::UserDisabled,
            status::ACCOUNT_LOCKED_OUT => Cause::UserLocked,
            status::ACCOUNT_EXPIRED => Cause::UserExpired,
            status::PASSWORD_EXPIRED | status::PASSWORD_MUST_CHANGE => Cause::UserPasswordExpired,
            status::INVALID_LOGON_HOURS => Cause::UserOutsideHours,
            status::INVALID_WORKSTATION => Cause::UserWorkstationDenied,
            status::ACCOUNT_RESTRICTION => Cause::UserRestricted,
            _ if code == code::POLICY => Cause::UserRestricted,
            _ => Cause::UserRevoked,
        },
        (code::POLICY, None) => Cause::UserRestricted,
        (code::CLIENT_REVOKED | code::CLIENT_NOT_YET, None) => Cause::UserRevoked,
        _ => Cause::KdcOther,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: Stage, code: i32) -> Cause {
        cause(stage, &GssError::for_test(code), None)
    }

    fn with(stage: Stage, code: i32, status: u32) -> Cause {
        cause(stage, &GssError::for_test(code), Some(status))
    }

    #[test]
    fn the_same_code_means_different_things_at_different_stages() {
        for (code, ours, of_the_user, of_the_service) in [
            (code::CLIENT_UNKNOWN, Cause::OwnAccountUnknown, Cause::UserUnknown, Cause::UserUnknown),
            (code::CLIENT_REVOKED, Cause::OwnAccountRevoked, Cause::UserRevoked, Cause::UserRevoked),
            (code::KEY_EXPIRED, Cause::OwnPasswordExpired, Cause::UserPasswordExpired, Cause::UserPasswordExpired),
            (code::ETYPE_NOSUPP, Cause::OwnEtypeNotSupported, Cause::OwnEtypeNotSupported, Cause::EtypeNotSupported),
            (code::POLICY, Cause::OwnAccountRevoked, Cause::UserRestricted, Cause::PolicyRefused),
            (code::SERVER_UNKNOWN, Cause::KdcOther, Cause::OwnSpnMissing, Cause::SpnUnknown),
            (code::BADOPTION, Cause::KdcOther, Cause::S4u2SelfRefused, Cause::DelegationRefused),
            (code::SERVICE_REVOKED, Cause::KdcOther, Cause::KdcOther, Cause::SpnOwnerRevoked),
            (code::NOT_UNIQUE, Cause::KdcOther, Cause::KdcOther, Cause::SpnDuplicate),
            (code::PREAUTH_FAILED, Cause::OwnKeyRefused, Cause::KdcOther, Cause::KdcOther),
        ] {
            let causes = [Stage::Tgt, Stage::S4u2Self, Stage::S4u2Proxy].map(|stage| at(stage, code));
            assert_eq!(causes, [ours, of_the_user, of_the_service], "{code}");
        }
    }

    #[test]
    fn kdc_trouble_is_told_apart_from_refusals_at_every_stage() {
        for stage in [Stage::Tgt, Stage::S4u2Self, Stage::S4u2Proxy] {
            assert_eq!(at(stage, code::SVC_UNAVAILABLE), Cause::KdcUnreachable);
            assert_eq!(at(stage, UNANSWERED), Cause::KdcUnreachable);
            assert_eq!(at(stage, code::SKEW), Cause::ClockSkew);
            assert_eq!(at(stage, code::NOT_YET_VALID), Cause::ClockSkew);
            assert_eq!(at(stage, 60), Cause::KdcOther);
        }
    }

    #[test]
    fn what_is_no_answer_to_us_is_as_good_as_no_answer() {
        for minor in [library::REPLY_NOT_OURS, *library::REPLY_UNREADABLE.start(), *library::REPLY_UNREADABLE.start() + 5] {
            assert_eq!(cause(Stage::Tgt, &GssError::of_library(minor), None), Cause::KdcUnreachable, "{minor}");
        }
        assert_eq!(cause(Stage::Tgt, &GssError::of_library(library::KEYTAB_KEY_NOT_FOUND), None), Cause::KeytabUnusable);
    }

    #[test]
    fn a_status_says_why_a_user_is_revoked_or_against_policy() {
        for code in [code::CLIENT_REVOKED, code::POLICY] {
            for (status, expected) in [
                (0xC000_0072, Cause::UserDisabled),
                (0xC000_0234, Cause::UserLocked),
                (0xC000_0193, Cause::UserExpired),
                (0xC000_0071, Cause::UserPasswordExpired),
                (0xC000_0224, Cause::UserPasswordExpired),
                (0xC000_006F, Cause::UserOutsideHours),
                (0xC000_0070, Cause::UserWorkstationDenied),
            ] {
                assert_eq!(with(Stage::S4u2Self, code, status), expected, "{code} {status:#x}");
                assert_eq!(with(Stage::S4u2Proxy, code, status), expected, "{code} {status:#x}");
            }
        }
        assert_eq!(with(Stage::S4u2Self, code::CLIENT_REVOKED, 0xC000_0001), Cause::UserRevoked);
        assert_eq!(with(Stage::S4u2Self, code::POLICY, 0xC000_006E), Cause::UserRestricted);
        // STATUS_AUTHENTICATION_FIREWALL_FAILED: selective authentication, of this back end.
        for status in [0xC000_006E, 0xC000_0413] {
            assert_eq!(with(Stage::S4u2Proxy, code::POLICY, status), Cause::PolicyRefused);
        }
        assert_eq!(with(Stage::Tgt, code::CLIENT_REVOKED, 0xC000_0224), Cause::OwnPasswordExpired);
        assert_eq!(with(Stage::Tgt, code::CLIENT_REVOKED, 0xC000_0072), Cause::OwnAccountRevoked);
    }

    /// MS-SFU 3.2.5.2.1, 3.2.5.2.2 and 3.2.5.2.3.
    #[test]
    fn a_status_says_which_list_refuses_a_delegation() {
        assert_eq!(with(Stage::S4u2Proxy, code::BADOPTION, 0xC000_00BB), Cause::SpnNotListed);
        assert_eq!(with(Stage::S4u2Proxy, code::BADOPTION, 0xC000_0272), Cause::SpnNotListed);
        assert_eq!(with(Stage::S4u2Proxy, code::BADOPTION, 0xC000_0225), Cause::ResourceListLacksUs);
        assert_eq!(with(Stage::S4u2Proxy, code::BADOPTION, 0xC000_006E), Cause::DelegationRefused);
        assert_eq!(with(Stage::S4u2Proxy, code::POLICY, 0xC000_040B), Cause::DelegationAcrossRealms);
    }
}
