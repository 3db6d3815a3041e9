//! What a ticket belongs to.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::identity::{Principal, RequestedName};
use crate::naming::name::Spn;
use crate::policy::{Grant, Target};

/// A ticket belongs to one principal (with everything its mapping expects), one SPN and one answer to the RC4 question. Back ends that
/// agree in these share it.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct TicketKey {
    pub(super) principal: Arc<Principal>,
    target: Arc<Target>,
}

impl PartialEq for TicketKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.principal, self.spn(), self.target.allow_rc4) == (&other.principal, other.spn(), other.target.allow_rc4)
    }
}

impl Eq for TicketKey {}

impl Hash for TicketKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.principal, self.spn(), self.target.allow_rc4).hash(state);
    }
}

impl TicketKey {
    pub(in crate::kerberos) fn of(grant: &Grant) -> Self {
        Self { principal: Arc::clone(grant.principal()), target: Arc::clone(grant.target()) }
    }

    pub(super) fn spn(&self) -> &Spn {
        &self.target.spn
    }

    pub(super) fn names(&self, name: &RequestedName) -> bool {
        self.principal.name() == name
    }
}
