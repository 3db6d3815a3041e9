//! What a failed acquisition means for tickets: whether it was a word at all, whom it is about, how long it is remembered.

use std::time::Duration;

use crate::failure::{Answer, Cause, Stage};

/// No KDC said anything about the user: the only causes that let a cached ticket serve past its soft age. A full queue is one of them: a
/// rush of new users must not end the service of those who are there. So is a wrong clock: the KDC looks at nothing else before it is
/// right.
pub(super) fn is_outage(cause: Cause) -> bool {
    matches!(cause, Cause::KdcUnreachable | Cause::AcquisitionTimeout | Cause::Overloaded | Cause::ClockSkew)
}

/// The KDC, or we, said no: to this user, or to everybody because of how the accounts are set up.
pub(super) fn is_refusal(cause: Cause) -> bool {
    let of_set_up = matches!(cause.stage(), Stage::S4u2Self | Stage::S4u2Proxy) || cause == Cause::OwnTgtNotForwardable;
    of_set_up || cause.answer() == Answer::Refused
}

/// What a KDC or a PAC says of an account, whatever certificate or back end it is asked for with.
pub(super) fn is_about_the_account(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::UserUnknown
            | Cause::UserDisabled
            | Cause::UserLocked
            | Cause::UserExpired
            | Cause::UserPasswordExpired
            | Cause::UserOutsideHours
            | Cause::UserWorkstationDenied
            | Cause::UserRestricted
            | Cause::UserRevoked
            | Cause::UserNotDelegable
            | Cause::UserProtected
            | Cause::AccountKindRefused
            | Cause::PrivilegedRefused
    )
}

/// How long a failure is remembered, so that what is refused does not cost the KDC an exchange a request: an account it does not
/// know or does not let in a little longer, a refusal that an administrator may be repairing just now for short, trouble of KDCs
/// only for as long as a burst lasts. The line's own state is never remembered.
pub(super) fn memory(cause: Cause) -> Option<Duration> {
    let seconds = match cause {
        Cause::Overloaded | Cause::ShuttingDown => return None,
        cause if is_about_the_account(cause) => 10,
        cause if is_refusal(cause) => 5,
        _ => 1,
    };
    Some(Duration::from_secs(seconds))
}
