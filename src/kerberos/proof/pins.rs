//! The last word on identity: the PAC's SID against what the mapping expects.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use crate::failure::{Cause, Failure};
use crate::identity::{ExpectedSid, Principal, RequestedName, RuleKind};
use crate::naming::sid::Sid;

/// SIDs seen first for principals whose mapping names none; the same ever after in this process.
#[derive(Debug, Default)]
pub(in crate::kerberos) struct SidPins(Mutex<HashMap<RequestedName, Sid>>);

impl SidPins {
    /// Accepts the SID the KDC vouched for, or refuses.
    pub(in crate::kerberos) fn judge(&self, principal: &Principal, found: &Sid) -> Result<(), Failure> {
        let expected = match principal.expected_sid() {
            ExpectedSid::Is(sid) => sid.clone(),
            ExpectedSid::PinOnFirstUse => self.pinned(principal, found),
        };
        if expected == *found {
            return Ok(());
        }
        Err(Failure::new(Cause::SidMismatch, format!("{principal}: expected {expected}, the KDC says {found}")))
    }

    fn pinned(&self, principal: &Principal, found: &Sid) -> Sid {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pins.entry(principal.name().clone())
            .or_insert_with(|| {
                if !matches!(principal.rule(), RuleKind::Diagnosis | RuleKind::SelfTest | RuleKind::Canary) {
                    warn!(%principal, sid = %found, rule = principal.rule().name(), "weak mapping: SID pinned on first use");
                }
                found.clone()
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(rid: u32) -> Sid {
        Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap()
    }

    #[test]
    fn another_sid_than_the_certificates_is_refused() {
        let pins = SidPins::default();
        let alice = Principal::for_test("alice@corp.example", ExpectedSid::Is(sid(1103)));
        assert_eq!(pins.judge(&alice, &sid(1103)), Ok(()));
        assert_eq!(pins.judge(&alice, &sid(1000)).unwrap_err().cause, Cause::SidMismatch);
    }

    #[test]
    fn a_principal_without_a_sid_is_pinned_to_the_first_one_seen() {
        let pins = SidPins::default();
        let weak = Principal::for_test("weak@corp.example", ExpectedSid::PinOnFirstUse);
        assert_eq!(pins.judge(&weak, &sid(1103)), Ok(()));
        assert_eq!(pins.judge(&weak, &sid(1103)), Ok(()));
        assert_eq!(pins.judge(&weak, &sid(1104)).unwrap_err().cause, Cause::SidMismatch);
    }
}
