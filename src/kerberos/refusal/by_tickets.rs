//! What the tickets at hand say about a refused S4U2Proxy.
//!
//! The evidence ticket is not forwardable for one of three reasons (MS-SFU 3.2.5.1.2, MS-KILE 3.3.5.1): our own ticket was not, the
//! user is sensitive or protected, or our account has a delegation list and no protocol transition. The first is in our own
//! ticket's flags, the second in the PAC; the third is left.

use crate::failure::{Cause, Failure};
use crate::kerberos::proof::pac::Pac;

/// USER_NOT_DELEGATED among the PAC's account flags (MS-SAMR 2.2.1.12).
const NOT_DELEGATED: u32 = 0x0000_4000;
/// Protected Users (MS-DTYP 2.4.2.4).
const PROTECTED_USERS: u32 = 525;

/// The tickets that a refused request was made with.
#[derive(Clone, Copy, Debug)]
pub(in crate::kerberos) struct Seen<'a> {
    /// Whether our own ticket is forwardable, where it could be read.
    pub(in crate::kerberos) tgt_forwardable: Option<bool>,
    /// Whether the evidence ticket is.
    pub(in crate::kerberos) evidence_forwardable: bool,
    /// Who the KDC says the user is.
    pub(in crate::kerberos) pac: Option<&'a Pac>,
    /// The user's realm, where it is not ours.
    pub(in crate::kerberos) foreign_realm: Option<&'a str>,
}

/// The failure of an S4U2Proxy request by the line of the table that the tickets point to.
pub(in crate::kerberos) fn by_tickets(failure: Failure, seen: &Seen<'_>) -> Failure {
    if !matches!(failure.cause, Cause::DelegationRefused | Cause::SpnNotListed | Cause::ResourceListLacksUs) {
        return failure;
    }
    if seen.evidence_forwardable {
        return match failure.cause {
            // Nothing about the user or the tickets is in the way.
            Cause::DelegationRefused => failure.because(Cause::SpnNotListed),
            _ => failure,
        };
    }
    let failure = failure.also("the evidence ticket is not forwardable");
    if seen.tgt_forwardable == Some(false) {
        return failure.because(Cause::OwnTgtNotForwardable).also("nor is our own ticket");
    }
    if seen.pac.is_some_and(|pac| pac.user_account_control() & NOT_DELEGATED != 0) {
        return failure.because(Cause::UserNotDelegable);
    }
    if seen.pac.is_some_and(|pac| pac.groups().contains(&PROTECTED_USERS)) {
        return failure.because(Cause::UserProtected);
    }
    match (seen.foreign_realm, failure.cause) {
        // The trust may hold the flag back as well.
        (Some(realm), _) => failure
            .because(Cause::DelegationRefused)
            .also(&format!("the user is of realm {realm}: a trust may keep its users' tickets from being forwarded")),
        // The KDC has looked at the SPN's own list.
        (None, Cause::ResourceListLacksUs) => failure,
        (None, _) => failure.because(Cause::ProtocolTransitionOff),
    }
}
