//! For which certificates a rule speaks.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::certificate::{KeyFingerprint, LoadError, Template, issuing_key};
use crate::identity::{KeyUsage, Selector};
use crate::x509::Claims;

/// A certificate as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'a> {
    /// DER
    pub(super) leaf: &'a [u8],
    /// the key that signed it; none: not verified, so no issuer is believed
    pub(super) issuer_key: Option<KeyFingerprint>,
    pub(super) claims: &'a Claims,
}

impl Presented<'_> {
    pub(super) fn issued_by(&self, issuers: &HashSet<KeyFingerprint>) -> bool {
        self.issuer_key.is_some_and(|key| issuers.contains(&key))
    }
}

/// A selector with its issuers' keys in place of their files.
#[derive(Debug, PartialEq)]
pub(super) struct Selection {
    issuers: HashSet<KeyFingerprint>,
    usages: Vec<String>,
    key_usages: Vec<KeyUsage>,
    templates: Vec<String>,
    policies: Vec<String>,
}

impl Selection {
    pub(super) fn load(selector: &Selector) -> Result<Self, LoadError> {
        let Selector { issuers, usages, key_usages, templates, policies } = selector.clone();
        Ok(Self { issuers: issuing_keys(&issuers)?, usages, key_usages, templates, policies })
    }

    /// Whether the certificate fits every list, or which one it does not fit.
    pub(super) fn admits(&self, presented: &Presented<'_>) -> Result<(), String> {
        let claims = presented.claims;
        let unless = |fits: bool, why: &str| if fits { Ok(()) } else { Err(why.to_owned()) };
        unless(self.issuers.is_empty() || presented.issued_by(&self.issuers), "its issuer is not one the rule selects")?;
        let usages = claims.extended_key_usages().unwrap_or_default();
        unless(any_of(&self.usages, usages), "it has no extended key usage that the rule selects")?;
        let bits = claims.key_usage().unwrap_or_default();
        let key_usage = self.key_usages.is_empty() || self.key_usages.iter().any(|usage| bits & usage.bit() != 0);
        unless(key_usage, "it has no key usage that the rule selects")?;
        let named = |template: &Template| match template {
            Template::Name(name) | Template::Oid(name) => self.templates.contains(name),
        };
        let template = self.templates.is_empty() || claims.templates().iter().any(named);
        unless(template, "its template is not one the rule selects")?;
        unless(any_of(&self.policies, claims.policies()), "it asserts no policy that the rule selects")
    }
}

pub(super) fn issuing_keys(paths: &[PathBuf]) -> Result<HashSet<KeyFingerprint>, LoadError> {
    paths.iter().map(|path| issuing_key(path)).collect()
}

fn any_of(selected: &[String], has: &[String]) -> bool {
    selected.is_empty() || selected.iter().any(|selected| has.contains(selected))
}
