//! What a check found, and how it is shown.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is. The order is the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It does not work.
    Error,
    /// It works badly, or not for long.
    Warning,
    /// It was asked for, and should be known.
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// key path; empty when the file as a whole is meant
    pub(super) key: String,
    /// line of the configuration file
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

/// The documented shape of `--json`, version 1: fields may be added, none is removed or changes its meaning.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    version: u32,
    config: &'a str,
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: Vec<&'a Finding>,
}

impl Findings {
    pub(super) fn error(&mut self, key: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, key, message, remedy);
    }

    pub(super) fn warning(&mut self, key: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, key, message, remedy);
    }

    pub(super) fn note(&mut self, key: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Note, key, message, remedy);
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Finding { severity, key: key.into(), line: None, message: message.into(), remedy: remedy.into() });
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// The findings themselves.
    pub(super) fn into_list(self) -> impl Iterator<Item = Finding> {
        self.0.into_iter()
    }

    /// Whether there is an error or a warning.
    pub(super) fn bad(&self) -> bool {
        self.0.iter().any(|finding| finding.severity < Severity::Note)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings in the order of their weight.
    pub(super) fn report<'a>(&'a self, config: &'a str) -> Report<'a> {
        let mut findings: Vec<_> = self.0.iter().collect();
        findings.sort_by_key(|finding| finding.severity);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
        Report { version: 1, config, errors, warnings, notes, findings }
    }
}

impl Report<'_> {
    pub(super) fn json(&self) -> String {
        // Strings and numbers only: nothing that JSON cannot say.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            let line = finding.line.map_or_else(String::new, |line| format!(" line {line}:"));
            let key = if finding.key.is_empty() { String::new() } else { format!(" {}:", finding.key) };
            let _infallible = writeln!(text, "{severity}:{line}{key} {}", harmless(&finding.message));
            if !finding.remedy.is_empty() {
                let _infallible = writeln!(text, "    -> {}", harmless(&finding.remedy));
            }
        }
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings, notes) =
            (counted(self.errors, "error"), counted(self.warnings, "warning"), counted(self.notes, "note"));
        let _infallible = writeln!(text, "{}: {errors}, {warnings}, {notes}", self.config);
        text
    }
}

/// Names in certificates may hold anything: nothing of it steers a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
