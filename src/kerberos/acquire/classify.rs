//! From a failed GSS call at a known stage to a line of the failure table.

use crate::failure::{Cause, Failure, Stage};
use crate::kerberos::acquire::gss::GssError;
use crate::kerberos::relay::UNANSWERED;

/// KRB-ERROR codes that decide (RFC 4120 section 7.5.9).
pub(in crate::kerberos) mod code {
    /// KDC_ERR_NAME_EXP: the client's account has expired
    pub(in crate::kerberos) const NAME_EXPIRED: i32 = 1;
    /// KDC_ERR_C_PRINCIPAL_UNKNOWN
    pub(in crate::kerberos) const CLIENT_UNKNOWN: i32 = 6;
    /// KDC_ERR_S_PRINCIPAL_UNKNOWN
    pub(in crate::kerberos) const SERVER_UNKNOWN: i32 = 7;
    /// KDC_ERR_POLICY
    pub(in crate::kerberos) const POLICY: i32 = 12;
    /// KDC_ERR_BADOPTION
    pub(in crate::kerberos) const BADOPTION: i32 = 13;
    /// KDC_ERR_ETYPE_NOSUPP
    pub(in crate::kerberos) const ETYPE_NOSUPP: i32 = 14;
    /// KDC_ERR_CLIENT_REVOKED
    pub(in crate::kerberos) const CLIENT_REVOKED: i32 = 18;
    /// KDC_ERR_CLIENT_NOTYET
    pub(in crate::kerberos) const CLIENT_NOT_YET: i32 = 21;
    /// KDC_ERR_KEY_EXPIRED
    pub(in crate::kerberos) const KEY_EXPIRED: i32 = 23;
    /// KDC_ERR_PREAUTH_FAILED
    pub(in crate::kerberos) const PREAUTH_FAILED: i32 = 24;
    /// KDC_ERR_SVC_UNAVAILABLE
    pub(in crate::kerberos) const SVC_UNAVAILABLE: i32 = 29;
    /// What a KDC says of a TGT it cannot use: KDC_ERR_TGT_REVOKED, KRB_AP_ERR_BAD_INTEGRITY, TKT_EXPIRED, MODIFIED, BADKEYVER, NOKEY
    pub(in crate::kerberos) const ABOUT_THE_TGT: [i32; 6] = [20, 31, 32, 41, 44, 45];
    /// KRB_AP_ERR_SKEW
    pub(in crate::kerberos) const SKEW: i32 = 37;
    /// KDC_ERR_WRONG_REALM
    pub(in crate::kerberos) const WRONG_REALM: i32 = 68;
}

/// libkrb5's own codes (krb5_err.et), which never came from a KDC.
mod library {
    pub(super) const REALM_UNKNOWN: i32 = -1_765_328_230;
    pub(super) const KDC_UNREACHABLE: i32 = -1_765_328_228;
    pub(super) const CANNOT_CONTACT_REALM: i32 = -1_765_328_164;
    pub(super) const KEYTAB_KEY_NOT_FOUND: i32 = -1_765_328_203;
}

/// The cause of a failed call at this stage. What only more knowledge can tell apart (a refused delegation) is told apart by the caller.
pub(in crate::kerberos) fn classify(stage: Stage, error: &GssError) -> Failure {
    Failure::new(cause(stage, error), error.to_string())
}

fn cause(stage: Stage, error: &GssError) -> Cause {
    match (stage, error.kerberos_code()) {
        (_, Some(UNANSWERED | code::SVC_UNAVAILABLE)) => Cause::KdcUnreachable,
        (_, Some(code::SKEW)) => Cause::ClockSkew,
        (_, Some(code::WRONG_REALM)) => Cause::RealmUnknown,
        (Stage::Tgt, Some(code::CLIENT_UNKNOWN)) => Cause::OwnAccountUnknown,
        (Stage::Tgt, Some(code::CLIENT_REVOKED | code::NAME_EXPIRED | code::CLIENT_NOT_YET)) => Cause::OwnAccountRevoked,
        (Stage::Tgt, Some(code::PREAUTH_FAILED | code::KEY_EXPIRED)) => Cause::OwnKeyRefused,
        (Stage::S4u2Self, Some(code::CLIENT_UNKNOWN)) => Cause::UserUnknown,
        (
            Stage::S4u2Self,
            Some(code::CLIENT_REVOKED | code::POLICY | code::NAME_EXPIRED | code::CLIENT_NOT_YET | code::KEY_EXPIRED),
        )
        | (Stage::S4u2Proxy, Some(code::CLIENT_REVOKED)) => Cause::UserRevoked,
        (Stage::S4u2Self, Some(code::BADOPTION | code::SERVER_UNKNOWN)) => Cause::S4u2SelfRefused,
        (Stage::S4u2Proxy, Some(code::BADOPTION | code::POLICY)) => Cause::DelegationRefused,
        (Stage::S4u2Proxy, Some(code::SERVER_UNKNOWN)) => Cause::SpnUnknown,
        (_, Some(code::ETYPE_NOSUPP)) => Cause::EtypeNotSupported,
        (_, Some(_)) => Cause::KdcOther,
        (_, None) => match error.minor() {
            library::KDC_UNREACHABLE | library::CANNOT_CONTACT_REALM => Cause::KdcUnreachable,
            library::REALM_UNKNOWN => Cause::RealmUnknown,
            library::KEYTAB_KEY_NOT_FOUND => Cause::KeytabUnusable,
            _ => Cause::KdcOther,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: Stage, code: i32) -> Cause {
        cause(stage, &GssError::for_test(code))
    }

    #[test]
    fn the_same_code_means_different_things_at_different_stages() {
        assert_eq!(at(Stage::Tgt, code::CLIENT_UNKNOWN), Cause::OwnAccountUnknown);
        assert_eq!(at(Stage::S4u2Self, code::CLIENT_UNKNOWN), Cause::UserUnknown);
        assert_eq!(at(Stage::Tgt, code::CLIENT_REVOKED), Cause::OwnAccountRevoked);
        assert_eq!(at(Stage::S4u2Self, code::CLIENT_REVOKED), Cause::UserRevoked);
        assert_eq!(at(Stage::S4u2Self, code::BADOPTION), Cause::S4u2SelfRefused);
        assert_eq!(at(Stage::S4u2Proxy, code::BADOPTION), Cause::DelegationRefused);
        assert_eq!(at(Stage::S4u2Proxy, code::SERVER_UNKNOWN), Cause::SpnUnknown);
    }

    #[test]
    fn kdc_trouble_is_told_apart_from_refusals_at_every_stage() {
        for stage in [Stage::Tgt, Stage::S4u2Self, Stage::S4u2Proxy] {
            assert_eq!(at(stage, code::SVC_UNAVAILABLE), Cause::KdcUnreachable);
            assert_eq!(at(stage, UNANSWERED), Cause::KdcUnreachable);
            assert_eq!(at(stage, code::SKEW), Cause::ClockSkew);
            assert_eq!(at(stage, 60), Cause::KdcOther);
        }
    }
}
