//! Explanations for people, in 100 columns; strings and filters are never broken, so that they can be copied.

use std::fmt::Write as _;

use crate::cli::explain::report::{CertificateReport, DecisionReport, Mapped, Refusal, RuleReport, StringReport};
use crate::cli::explain::summary::Summary;

const WIDTH: usize = 100;
/// Where values begin.
const COLUMN: usize = 14;

/// One certificate in full.
pub(super) fn certificate(report: &CertificateReport) -> String {
    let mut page = Page::default();
    page.line(0, &report.source);
    let facts = &report.certificate;
    page.field("subject", &facts.subject);
    page.field("issuer", &facts.issuer);
    page.field("serial", &facts.serial);
    if let (Some(from), Some(to)) = (&facts.not_before, &facts.not_after) {
        page.field("valid", &format!("{from} to {to}"));
    }
    page.field("sha-256", &facts.sha256);
    page.field("sha-1", &facts.sha1);
    claims(&mut page, report);
    match &report.chain.refusal {
        None if report.chain.not_asked.is_empty() => page.field("chain", "verified"),
        None => page.prose("chain", &format!("verified; not asked: {}", report.chain.not_asked.join(", "))),
        Some(refusal) => page.refusal("chain", "refused", refusal),
    }
    for rule in &report.rules {
        rule_lines(&mut page, rule);
    }
    if !report.strings.is_empty() {
        page.line(2, "strings for altSecurityIdentities");
        report.strings.iter().for_each(|string| string_line(&mut page, string));
    }
    match &report.decision {
        DecisionReport::Mapped { rule, mapped } => {
            page.prose("decision", &format!("{}: {}, by {rule}", report.verdict, account(mapped)));
        }
        DecisionReport::Refused(refusal) if !report.chain.verified => {
            page.prose("decision", &format!("refused: {}, see chain", refusal.reason));
        }
        DecisionReport::Refused(refusal) => page.refusal("decision", "refused", refusal),
        DecisionReport::Undecided { detail } => page.prose("decision", &format!("undecided: {detail}")),
    }
    page.text.push('\n');
    page.text
}

/// The counts, why certificates are refused, and which.
pub(super) fn summary(summary: &Summary) -> String {
    let report = summary.report();
    let mut page = Page::default();
    let mut counts =
        format!("{} strong, {} weak, {} refused", grouped(report.strong), grouped(report.weak), grouped(report.refused));
    for (count, what) in [(report.undecided, "undecided"), (report.skipped_files, "skipped"), (report.unreadable, "unreadable")] {
        if count > 0 {
            let _infallible = write!(counts, ", {} {what}", grouped(count));
        }
    }
    page.line(0, &counts);
    for (rule, count) in report.by_rule {
        page.line(2, &format!("{:>9}  mapped by {rule}", grouped(*count)));
    }
    for (reason, count) in report.by_reason {
        page.line(2, &format!("{:>9}  refused: {reason}", grouped(*count)));
    }
    if !report.refusals.is_empty() {
        page.line(0, "refused:");
    }
    for refused in report.refusals {
        page.line(2, &refused.source);
        page.wrapped(6, &format!("{}: {}", refused.reason, refused.detail));
    }
    if report.refusals_not_listed > 0 {
        page.line(2, &format!("and {} more", grouped(report.refusals_not_listed)));
    }
    page.text
}

/// What peers wrote, made safe for a terminal: control characters, and those that change how the rest of a line looks.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}');
        if c.is_control() || hidden {
            let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn claims(page: &mut Page, report: &CertificateReport) {
    let Some(claims) = &report.claims else { return };
    let one = |page: &mut Page, label, value: &Option<String>| value.iter().for_each(|value| page.field(label, value));
    let list = |page: &mut Page, label, values: &[String]| values.iter().for_each(|value| page.field(label, value));
    one(page, "UPN", &claims.upn);
    one(page, "SID", &claims.extension_sid);
    if let Some(sid) = &claims.uri_sid {
        page.field("SID (URI)", sid);
    }
    list(page, "e-mail", &claims.rfc822_names);
    list(page, "DNS name", &claims.dns_names);
    list(page, "template", &claims.templates);
    list(page, "policy", &claims.policies);
    match claims.extended_key_usages.as_deref() {
        None => page.field("usage", "any: no extended key usage in the certificate"),
        Some(usages) => usages.iter().for_each(|usage| match usage_name(usage) {
            Some(name) => page.field("usage", &format!("{usage} {name}")),
            None => page.field("usage", usage),
        }),
    }
    if let Some(usages) = &claims.key_usages {
        page.field("key usage", &usages.join(", "));
    }
}

fn usage_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "1.3.6.1.5.5.7.3.1" => "server authentication",
        "1.3.6.1.5.5.7.3.2" => "client authentication",
        "1.3.6.1.5.5.7.3.4" => "e-mail protection",
        "1.3.6.1.4.1.311.20.2.2" => "smart card logon",
        "1.3.6.1.4.1.311.10.3.4" => "encrypting file system",
        "1.3.6.1.5.2.3.4" => "PKINIT client authentication",
        "2.5.29.37.0" => "any",
        _ => return None,
    })
}

fn rule_lines(page: &mut Page, rule: &RuleReport) {
    let outcome = match (&rule.mapped, rule.outcome) {
        (Some(mapped), _) => format!("maps to {}", account(mapped)),
        (None, "not-selected") => "not for this certificate".to_owned(),
        (None, "not-asked") => "would ask the directory".to_owned(),
        (None, "lacks") => "does not map".to_owned(),
        (None, _) => format!("refuses: {}", rule.reason.unwrap_or_default()),
    };
    page.prose(&format!("rule {}", rule.number), &format!("{} ({}): {outcome}", rule.rule, rule.strength));
    if let Some(why) = &rule.why {
        page.wrapped(COLUMN + 2, why);
    }
    for labelled in &rule.computed {
        page.line(COLUMN + 2, &format!("{}  {}", labelled.label, labelled.value));
    }
    if let Some(filter) = &rule.filter {
        page.line(COLUMN + 2, &format!("filter  {filter}"));
    }
    for hit in &rule.hits {
        let sid = hit.sid.as_deref().unwrap_or("no SID");
        page.line(COLUMN + 2, &format!("found  {} ({}, {sid})", hit.dn, hit.account_name));
    }
}

fn string_line(page: &mut Page, string: &StringReport) {
    let strength = if string.strong { "strong" } else { "weak" };
    let label = format!("{} ({strength})", string.form);
    match (&string.value, &string.missing) {
        (Some(value), _) if string.note.is_empty() => page.line(4, &format!("{label:<32} {value}")),
        (Some(value), _) => {
            page.line(4, &format!("{label:<32} {value}"));
            page.line(37, string.note);
        }
        (None, Some(why)) if string.refused => page.line(4, &format!("{label:<32} REFUSED: {why}")),
        (None, why) => page.line(4, &format!("{label:<32} none: {}", why.as_deref().unwrap_or_default())),
    }
}

fn account(mapped: &Mapped) -> String {
    let sid = mapped.expected_sid.as_ref().map_or_else(|| "any SID".to_owned(), |sid| format!("SID {sid}"));
    format!("{} ({}, {sid})", mapped.principal, mapped.kind)
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        let _infallible = writeln!(self.text, "{:indent$}{}", "", shown(text));
    }

    fn field(&mut self, label: &str, value: &str) {
        let _infallible = writeln!(self.text, "  {label:<width$}{}", shown(value), width = COLUMN - 2);
    }

    /// A field whose value is broken between words.
    fn prose(&mut self, label: &str, value: &str) {
        let lines = lines(&shown(value), WIDTH - COLUMN);
        for (number, line) in lines.iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            let _infallible = writeln!(self.text, "  {label:<width$}{line}", width = COLUMN - 2);
        }
    }

    fn wrapped(&mut self, indent: usize, text: &str) {
        for line in lines(&shown(text), WIDTH - indent) {
            let _infallible = writeln!(self.text, "{:indent$}{line}", "");
        }
    }

    fn refusal(&mut self, label: &str, what: &str, refusal: &Refusal) {
        self.prose(label, &format!("{what}: {}: {}", refusal.reason, refusal.meaning));
        if !refusal.detail.is_empty() {
            self.prose("  seen", &refusal.detail);
        }
        self.prose("  remedy", refusal.remedy);
    }
}

/// Broken between words; a word longer than a line stays whole.
fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::{Certificate, CertificateFacts, test_certificate};
    use crate::cli::explain::input::Presented;
    use crate::cli::explain::judge::{Chain, Decision, Explanation};
    use crate::cli::explain::report::{HitReport, Labelled};
    use crate::failure::{Cause, Failure};
    use crate::x509::Claims;

    proptest! {
        #[test]
        fn whatever_a_certificate_says_its_page_has_only_line_ends_for_control_characters(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut der = test_certificate(&[(&[0x55, 0x1D, 0x11], &[0x30, 5, 0x82, 3, b'a', b'.', b'b'])]);
            for (index, value) in flips {
                let at = index.index(der.len());
                der[at] = value;
            }
            let refused = Failure::new(Cause::UnknownIssuer, "");
            let page = certificate(&CertificateReport::new(&Explanation {
                facts: CertificateFacts::of(&der),
                validity: Certificate::read(&der).ok().map(|read| (read.not_before, read.not_after)),
                chain: Chain::Refused(refused.clone()),
                claims: Claims::of_leaf(&der),
                tried: Vec::new(),
                decision: Decision::Refused(refused),
                presented: Presented { source: "a.der".to_owned(), chain: vec![der.into()] },
            }));
            prop_assert!(!page.chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn thousands_are_grouped() {
        let shown: Vec<_> = [0, 7, 999, 1000, 3912, 1_234_567].map(grouped).into();
        assert_eq!(shown, ["0", "7", "999", "1,000", "3,912", "1,234,567"]);
    }

    #[test]
    fn prose_is_broken_between_words_only() {
        assert_eq!(lines("aa bb cccccccc d", 5), ["aa bb", "cccccccc", "d"]);
        assert_eq!(lines("", 5), [""]);
    }

    #[test]
    fn a_rule_shows_its_question_and_every_account_that_was_named() {
        let rule = RuleReport {
            number: 2,
            rule: "alt-security-identities",
            strength: "strong",
            outcome: "refused",
            computed: vec![Labelled { label: "subject-key-identifier", value: "X509:<SKI>0a0b".to_owned() }],
            filter: Some("(altSecurityIdentities=X509:<SKI>0a0b)".to_owned()),
            hits: ["a", "b"]
                .map(|name| HitReport { dn: format!("CN={name}\u{7}"), sid: None, account_name: name.to_owned() })
                .into(),
            mapped: None,
            why: Some("two accounts have it".to_owned()),
            reason: Some("ambiguous-account"),
        };
        let mut page = Page::default();
        rule_lines(&mut page, &rule);
        assert_eq!(
            page.text,
            "  rule 2      alt-security-identities (strong): refuses: ambiguous-account
                two accounts have it
                subject-key-identifier  X509:<SKI>0a0b
                filter  (altSecurityIdentities=X509:<SKI>0a0b)
                found  CN=a\\u{7} (a, no SID)
                found  CN=b\\u{7} (b, no SID)
"
        );
    }

    #[test]
    fn what_peers_wrote_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2J\r\n\u{202e}ü"), "a\\u{1b}[2J\\u{d}\\u{a}\\u{202e}ü");
    }
}
