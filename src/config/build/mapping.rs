//! `[[mapping]]`

use std::collections::BTreeMap;

use crate::config::build::kerberos::known_realm;
use crate::config::problem::Complaint;
use crate::config::section::Section;
use crate::config::value;
use crate::identity::{ExpectedSid, KeyUsage, RuleConfig, RuleSettings, Selector, StaticEntry, WeakIssuer};
use crate::kerberos::config::KerberosConfig;
use crate::policy::Fingerprint;
use crate::x509::alt_security::Form;

/// Rules that a name alone decides: they need the issuers they are for.
const WEAK: [&str; 6] = ["upn", "rfc822", "subject-cn", "issuer-subject", "subject", "dns-name"];

/// Keys that belong to some rules only.
const RULE_KEYS: [(&str, &[&str]); 6] = [
    ("san_uri_sid_issuers", &["upn-with-sid", "sid"]),
    ("forms", &["alt-security-identities"]),
    ("policy_file", &["strong-name-match"]),
    ("policy_issuers", &["strong-name-match"]),
    ("entry", &["static"]),
    ("issuer", &WEAK),
];

/// Rules that need no directory.
const WITHOUT_DIRECTORY: [&str; 4] = ["upn-with-sid", "static", "upn", "subject-cn"];

pub(super) fn rules(sections: &[Section<'_>], kerberos: Option<&KerberosConfig>, directory: bool) -> Option<Vec<RuleConfig>> {
    let mut seen = Vec::new();
    let mut rules = Vec::new();
    for section in sections {
        let name = section.choice("rule");
        let select = section.table("match").and_then(|section| selector(&section));
        if let Some(name) = name {
            let this = (name, select.clone());
            if seen.contains(&this) {
                section.problem(
                    "rule",
                    format!("there are two {name:?} rules for the same certificates"),
                    "put both into one [[mapping]]",
                );
            }
            seen.push(this);
            for (key, rules) in RULE_KEYS.iter().filter(|(_, rules)| !rules.contains(&name)) {
                let whose = rules.iter().map(|rule| format!("{rule:?}")).collect::<Vec<_>>().join(" or ");
                section.refuse(key, &format!("belongs to rule {whose}, and this is {name:?}"));
            }
            if !directory && !WITHOUT_DIRECTORY.contains(&name) {
                section.problem("rule", format!("rule {name:?} looks accounts up"), "add [directory]");
            }
        }
        let rule = rule(section, name, kerberos);
        rules.push(rule.zip(select).map(|(rule, selector)| RuleConfig { rule, selector }));
    }
    rules.into_iter().collect()
}

/// Reads every key whatever the rule is, so that no mistake hides behind a wrong rule.
fn rule(section: &Section<'_>, name: Option<&str>, kerberos: Option<&KerberosConfig>) -> Option<RuleSettings> {
    let san_uri_sid_issuers = section.paths_if_any("san_uri_sid_issuers");
    let forms = section.texts_if_any("forms", form);
    let policy_file = if section.has("policy_file") { section.path("policy_file") } else { None };
    let policy_issuers = section.paths_if_any("policy_issuers");
    let entries = entries(&section.tables("entry"), kerberos);
    let issuers: Option<Vec<_>> = section.tables("issuer").iter().map(issuer).collect::<Vec<_>>().into_iter().collect();
    let name = name?;
    if WEAK.contains(&name) {
        section.need("issuer", &format!("rule {name:?} needs the issuers it trusts"));
        let issuers = issuers?;
        return Some(match name {
            "upn" => RuleSettings::Upn { issuers },
            "rfc822" => RuleSettings::Rfc822 { issuers },
            "subject-cn" => RuleSettings::SubjectCn { issuers },
            "issuer-subject" => RuleSettings::IssuerSubject { issuers },
            "subject" => RuleSettings::Subject { issuers },
            _ => RuleSettings::DnsName { issuers },
        });
    }
    match name {
        "upn-with-sid" => Some(RuleSettings::UpnWithSid { san_uri_sid_issuers: san_uri_sid_issuers? }),
        "sid" => Some(RuleSettings::Sid { san_uri_sid_issuers: san_uri_sid_issuers? }),
        "alt-security-identities" => Some(RuleSettings::AltSecurityIdentities { forms: forms? }),
        "user-certificate" => Some(RuleSettings::UserCertificate),
        "static" => {
            section.need("entry", "rule \"static\" needs rows");
            Some(RuleSettings::Static { entries: entries? })
        }
        "strong-name-match" => {
            section.need("policy_file", "rule \"strong-name-match\" needs the policy");
            section.need("policy_issuers", "rule \"strong-name-match\" needs the CAs of the policy");
            Some(RuleSettings::StrongNameMatch { policy_file: policy_file?, issuers: policy_issuers? })
        }
        _ => None,
    }
}

fn selector(section: &Section<'_>) -> Option<Selector> {
    let issuers = section.paths_if_any("issuers");
    let usages = section.texts_if_any("usages", value::object_identifier);
    let key_usages = section.texts_if_any("key_usages", key_usage);
    let templates = section.texts_if_any("templates", value::template);
    let policies = section.texts_if_any("policies", value::object_identifier);
    Some(Selector { issuers: issuers?, usages: usages?, key_usages: key_usages?, templates: templates?, policies: policies? })
}

fn key_usage(text: &str) -> Result<KeyUsage, Complaint> {
    value::word(text, "key usage", KeyUsage::ALL.map(|usage| (usage.name(), usage)))
}

/// The strong ones: weak forms are rules of their own.
fn form(text: &str) -> Result<Form, Complaint> {
    let forms = [
        ("issuer-serial", Form::IssuerSerial),
        ("subject-key-identifier", Form::SubjectKeyIdentifier),
        ("sha1-public-key", Form::Sha1PublicKey),
        ("issuer-sid", Form::IssuerSid),
    ];
    value::word(text, "strong form of altSecurityIdentities", forms)
}

fn entries(sections: &[Section<'_>], kerberos: Option<&KerberosConfig>) -> Option<BTreeMap<[u8; 32], StaticEntry>> {
    let mut entries = BTreeMap::new();
    let mut complete = true;
    for section in sections {
        let fingerprint = section.text("certificate_sha256", value::sha256).map(Fingerprint);
        let entry = entry(section, kerberos);
        if let Some(fingerprint) = fingerprint
            && entries.contains_key(&StaticEntry::key(fingerprint))
        {
            section.problem(
                "certificate_sha256",
                "this certificate has a row already",
                "remove one: a certificate stands for one account",
            );
        }
        match fingerprint.zip(entry) {
            Some((fingerprint, entry)) => drop(entries.insert(StaticEntry::key(fingerprint), entry)),
            None => complete = false,
        }
    }
    complete.then_some(entries)
}

fn entry(section: &Section<'_>, kerberos: Option<&KerberosConfig>) -> Option<StaticEntry> {
    let account = section.text("principal", value::account);
    let upn = section.text("upn", value::upn);
    if let Some(account) = &account {
        known_realm(section, "principal", account, kerberos);
    }
    let sid = section.text("sid", value::sid).map(ExpectedSid::Is);
    let pin = section.choice("pin").map(|_| ExpectedSid::PinOnFirstUse);
    exactly_one(section, "principal", "upn", "who the certificate stands for");
    exactly_one(section, "sid", "pin", "which SID the KDC must name");
    Some(StaticEntry { name: account.or(upn)?, expected_sid: sid.or(pin)? })
}

fn exactly_one(section: &Section<'_>, first: &str, second: &str, purpose: &str) {
    match (section.has(first), section.has(second)) {
        (false, false) => section.problem(first, format!("missing: {purpose}"), format!("add {first} or {second}")),
        (true, true) => section.problem(second, format!("both {first} and {second} say {purpose}"), "remove one"),
        _ => {}
    }
}

fn issuer(section: &Section<'_>) -> Option<WeakIssuer> {
    let certificate = section.path("certificate");
    let allowed_suffixes = section.texts("allowed_suffixes", value::upn_suffix);
    Some(WeakIssuer { certificate: certificate?, allowed_suffixes: allowed_suffixes? })
}
