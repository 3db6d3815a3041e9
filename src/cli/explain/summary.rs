//! Counts over all certificates of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::explain::report::{CertificateReport, DecisionReport};

/// Refused certificates that are listed one by one: enough to work on, and memory stays bounded.
const MOST_LISTED: usize = 10_000;
/// Of what was seen of each of them.
const LONGEST_DETAIL: usize = 300;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Summary {
    strong: u64,
    weak: u64,
    refused: u64,
    undecided: u64,
    skipped: u64,
    troubles: u64,
    /// by rule
    mapped_by: BTreeMap<&'static str, u64>,
    /// by reason code
    reasons: BTreeMap<&'static str, u64>,
    listed: Vec<Listed>,
}

/// One that was refused.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listed {
    pub(super) source: String,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// The documented shape of `--json`, version 1.
#[derive(Debug, Serialize)]
pub(super) struct SummaryReport<'a> {
    pub(super) certificates: u64,
    pub(super) strong: u64,
    pub(super) weak: u64,
    pub(super) refused: u64,
    pub(super) undecided: u64,
    /// files of directories without a certificate
    pub(super) skipped_files: u64,
    /// files that could not be read, named on standard error
    pub(super) unreadable: u64,
    pub(super) by_rule: &'a BTreeMap<&'static str, u64>,
    pub(super) by_reason: &'a BTreeMap<&'static str, u64>,
    pub(super) refusals: &'a [Listed],
    pub(super) refusals_not_listed: u64,
}

impl Summary {
    pub(super) fn add(&mut self, report: &CertificateReport) {
        match report.verdict {
            "strong" => self.strong += 1,
            "weak" => self.weak += 1,
            "refused" => self.refused += 1,
            _ => self.undecided += 1,
        }
        match &report.decision {
            DecisionReport::Mapped { rule, .. } => *self.mapped_by.entry(rule).or_default() += 1,
            DecisionReport::Refused(refusal) => {
                *self.reasons.entry(refusal.reason).or_default() += 1;
                if self.listed.len() < MOST_LISTED {
                    let detail = refusal.detail.chars().take(LONGEST_DETAIL).collect();
                    self.listed.push(Listed { source: report.source.clone(), reason: refusal.reason, detail });
                }
            }
            DecisionReport::Undecided { .. } => {}
        }
    }

    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    pub(super) fn trouble(&mut self) {
        self.troubles += 1;
    }

    /// Good only where every certificate is mapped strongly, and there is one.
    pub(super) fn exit(&self) -> Exit {
        if self.troubles > 0 || self.certificates() == 0 {
            Exit::CouldNotRun
        } else if self.strong == self.certificates() {
            Exit::Good
        } else {
            Exit::Finding
        }
    }

    pub(super) fn report(&self) -> SummaryReport<'_> {
        SummaryReport {
            certificates: self.certificates(),
            strong: self.strong,
            weak: self.weak,
            refused: self.refused,
            undecided: self.undecided,
            skipped_files: self.skipped,
            unreadable: self.troubles,
            by_rule: &self.mapped_by,
            by_reason: &self.reasons,
            refusals: &self.listed,
            refusals_not_listed: self.refused.saturating_sub(u64::try_from(self.listed.len()).unwrap_or(u64::MAX)),
        }
    }

    fn certificates(&self) -> u64 {
        self.strong + self.weak + self.refused + self.undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::CertificateFacts;
    use crate::cli::explain::input::Presented;
    use crate::cli::explain::judge::{Chain, Decision, Explanation};
    use crate::failure::{Cause, Failure};

    fn refused(detail: &str) -> CertificateReport {
        let failure = Failure::new(Cause::NoMapping, detail);
        CertificateReport::new(&Explanation {
            presented: Presented { source: "a.pem".to_owned(), chain: Vec::new() },
            facts: CertificateFacts::of(&[]),
            validity: None,
            chain: Chain::Refused(failure.clone()),
            claims: Err(failure.clone()),
            tried: Vec::new(),
            decision: Decision::Refused(failure),
        })
    }

    #[test]
    fn however_many_are_refused_the_list_stays_bounded() {
        let mut summary = Summary::default();
        let report = refused(&"x".repeat(1000));
        for _ in 0..MOST_LISTED + 5 {
            summary.add(&report);
        }
        let shown = summary.report();
        assert_eq!((shown.refused, shown.refusals.len(), shown.refusals_not_listed), (10_005, MOST_LISTED, 5));
        assert!(shown.refusals.iter().all(|listed| listed.detail.len() == LONGEST_DETAIL));
        assert_eq!(shown.by_reason["no-mapping"], 10_005);
    }

    #[test]
    fn nothing_explained_is_not_good() {
        let mut summary = Summary::default();
        assert_eq!(summary.exit(), Exit::CouldNotRun);
        summary.add(&refused(""));
        assert_eq!(summary.exit(), Exit::Finding);
        summary.trouble();
        assert_eq!(summary.exit(), Exit::CouldNotRun);
    }
}
