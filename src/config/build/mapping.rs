//! `[[mapping]]`

use std::collections::BTreeMap;

use crate::config::section::Section;
use crate::config::value;
use crate::identity::{ExpectedSid, RequestedName, RuleConfig, RuleSettings, StaticEntry, WeakIssuer};
use crate::kerberos::config::KerberosConfig;
use crate::policy::Fingerprint;

/// Which keys belong to which rule.
const RULE_KEYS: &[(&str, &str)] = &[("san_uri_sid_issuers", "upn-with-sid"), ("entry", "static"), ("issuer", "upn")];

pub(super) fn rules(sections: &[Section<'_>], kerberos: Option<&KerberosConfig>) -> Option<Vec<RuleConfig>> {
    let mut seen = Vec::new();
    let mut rules = Vec::new();
    for section in sections {
        let name = section.choice("rule");
        if let Some(name) = name {
            if seen.contains(&name) {
                section.problem("rule", format!("there are two {name:?} rules"), "put both into one [[mapping]]");
            }
            seen.push(name);
            for (key, rule) in RULE_KEYS.iter().filter(|(_, rule)| *rule != name) {
                section.refuse(key, &format!("belongs to rule {rule:?}, and this is {name:?}"));
            }
        }
        rules.push(rule(section, name, kerberos).map(RuleConfig::for_all));
    }
    rules.into_iter().collect()
}

/// Reads every key whatever the rule is, so that no mistake hides behind a wrong rule.
fn rule(section: &Section<'_>, name: Option<&str>, kerberos: Option<&KerberosConfig>) -> Option<RuleSettings> {
    let san_uri_sid_issuers =
        if section.has("san_uri_sid_issuers") { section.paths("san_uri_sid_issuers") } else { Some(Vec::new()) };
    let entries = entries(&section.tables("entry"), kerberos);
    let issuers: Option<Vec<_>> = section.tables("issuer").iter().map(issuer).collect::<Vec<_>>().into_iter().collect();
    match name? {
        "upn-with-sid" => Some(RuleSettings::UpnWithSid { san_uri_sid_issuers: san_uri_sid_issuers? }),
        "static" => {
            section.need("entry", "rule \"static\" needs rows");
            Some(RuleSettings::Static { entries: entries? })
        }
        "upn" => {
            section.need("issuer", "rule \"upn\" needs the issuers it trusts");
            Some(RuleSettings::Upn { issuers: issuers? })
        }
        _ => None,
    }
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
    if let Some((RequestedName::Account { realm, .. }, kerberos)) = account.as_ref().zip(kerberos)
        && !kerberos.realms.contains_key(realm)
    {
        let known: Vec<_> = kerberos.realms.keys().map(ToString::to_string).collect();
        section.problem(
            "principal",
            format!("the realm {realm} is not configured"),
            format!("known: {}; add others as [kerberos.realms.\"REALM\"]", known.join(", ")),
        );
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
