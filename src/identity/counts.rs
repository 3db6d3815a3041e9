//! How much was decided, and how: for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{Cause, Failure};
use crate::identity::{Principal, RuleKind, Strength};

/// What was decided since the start. Answers from memory are not counted. What never happened is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingCounts {
    /// Certificates mapped, by rule and strength.
    pub mapped: Vec<(RuleKind, Strength, u64)>,
    /// Refusals, by cause.
    pub refused: Vec<(Cause, u64)>,
    /// Mappings used past their time because no directory server answered.
    pub ridden: u64,
}

impl MappingCounts {
    /// Certificates mapped by nothing but a name.
    pub fn weak(&self) -> u64 {
        self.mapped.iter().filter(|(_, strength, _)| *strength == Strength::Weak).map(|(_, _, count)| count).sum()
    }
}

#[derive(Debug)]
pub(super) struct Counts {
    strong: [AtomicU64; RuleKind::ALL.len()],
    weak: [AtomicU64; RuleKind::ALL.len()],
    refused: [AtomicU64; Cause::ALL.len()],
    ridden: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        let zero = |_| AtomicU64::new(0);
        Self {
            strong: std::array::from_fn(zero),
            weak: std::array::from_fn(zero),
            refused: std::array::from_fn(zero),
            ridden: AtomicU64::new(0),
        }
    }
}

impl Counts {
    pub(super) fn note(&self, answer: &Result<Arc<Principal>, Failure>) {
        let count = match answer {
            Ok(principal) => {
                let counts = if principal.strength() == Strength::Weak { &self.weak } else { &self.strong };
                RuleKind::ALL.iter().position(|kind| *kind == principal.rule()).and_then(|at| counts.get(at))
            }
            Err(failure) => Cause::ALL.iter().position(|cause| *cause == failure.cause).and_then(|at| self.refused.get(at)),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn note_ride(&self) {
        self.ridden.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> MappingCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let of = |strength, counts: &[AtomicU64]| {
            let counts = RuleKind::ALL.into_iter().zip(counts.iter().map(read));
            counts.filter(|(_, count)| *count > 0).map(move |(kind, count)| (kind, strength, count)).collect::<Vec<_>>()
        };
        let mut mapped = of(Strength::Strong, &self.strong);
        mapped.extend(of(Strength::Weak, &self.weak));
        let refused = Cause::ALL.iter().copied().zip(self.refused.iter().map(read)).filter(|(_, count)| *count > 0).collect();
        MappingCounts { mapped, refused, ridden: read(&self.ridden) }
    }
}
