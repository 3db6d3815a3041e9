//! The rules over a whole path, whose signatures, validity, names and constraints the path builder has verified.
//!
//! All judgement of extended key usage is here, because what a leaf may be let in with depends on the CAs above it.

use std::collections::HashSet;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::certificate::{Certificate, KeyFingerprint, dotted, key_usage, name_text};
use crate::der::DerError;
use crate::failure::Cause;
use crate::revocation::{Authority, Link};
use crate::tls::authorities::{IssuerRules, NtAuthStore, Rules};
use crate::tls::refusal::{Refusal, shown};
use crate::tls::{Usage, key};

/// szOID_ANY_APPLICATION_POLICY 1.3.6.1.4.1.311.10.12.1
const ANY_APPLICATION_POLICY: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0A, 0x0C, 0x01];
/// anyPolicy 2.5.29.32.0
const ANY_POLICY: &[u8] = &[0x55, 0x1D, 0x20, 0x00];

/// Usages and policies named in a refusal.
const MAX_NAMED: usize = 8;

/// The path builder's own question about extended key usage: only whether each list can be read.
pub(in crate::tls) struct ReadableUsages;

impl ExtendedKeyUsageValidator for ReadableUsages {
    fn validate(&self, mut usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        usages.try_for_each(|usage| usage.map(drop))
    }
}

/// A leaf and the CAs above it, each of which signed the one before.
pub(in crate::tls) struct Path<'a> {
    pub(in crate::tls) leaf: Certificate<'a>,
    /// Nearest first, the anchor last; at least one.
    issuers: Vec<Issuer<'a>>,
}

struct Issuer<'a> {
    certificate: Certificate<'a>,
    key: KeyFingerprint,
}

impl<'a> Path<'a> {
    /// Leaf first, anchor last.
    pub(in crate::tls) fn read(certificates: &'a [CertificateDer<'_>]) -> Result<Self, Refusal> {
        let mut read = certificates.iter().map(|der| {
            Certificate::read(der).map_err(|error| Refusal::malformed(format!("a certificate of the chain: {error}")))
        });
        let leaf = read.next().unwrap_or_else(|| Err(Refusal::malformed("an empty path")))?;
        let issuer = |certificate: Certificate<'a>| Issuer { key: KeyFingerprint::of(certificate.public_key), certificate };
        let issuers = read.map(|certificate| certificate.map(issuer)).collect::<Result<Vec<_>, _>>()?;
        if issuers.is_empty() { Err(Refusal::malformed("a path without an issuer")) } else { Ok(Self { leaf, issuers }) }
    }

    /// The key that signed the leaf.
    pub(in crate::tls) fn issuer_key(&self) -> Option<KeyFingerprint> {
        self.issuers.first().map(|issuer| issuer.key)
    }

    /// The last second (since 1970) at which every certificate is valid, the anchor's too.
    pub(in crate::tls) fn valid_until(&self) -> i64 {
        self.issuers.iter().map(|issuer| issuer.certificate.not_after).fold(self.leaf.not_after, i64::min)
    }

    /// The path builder does not look at the time of an anchor; an issuing CA may be one.
    pub(in crate::tls) fn check_anchor_time(&self, now: UnixTime) -> Result<(), Refusal> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let Some(anchor) = self.issuers.last() else { return Ok(()) };
        if now > anchor.certificate.not_after {
            let ended = shown(anchor.certificate.not_after);
            return Err(Refusal::expired(format!("the trust anchor {} ended {ended}", anchor.name())));
        }
        Ok(())
    }

    /// Every certificate with the CA that signed it, and what that CA's certificates are held to.
    pub(in crate::tls) fn links(&self, rules: &Rules) -> Result<Vec<Link<'a>>, Refusal> {
        let below = std::iter::once(&self.leaf).chain(self.issuers.iter().map(|issuer| &issuer.certificate));
        let link = |(depth, (certificate, issuer)): (usize, (&Certificate<'a>, &Issuer<'a>))| {
            let policy = rules.nearest(self.issuers.iter().skip(depth).map(|issuer| issuer.key)).0.revocation;
            let authority = Authority::of(&issuer.certificate).map_err(|error| issuer.malformed("an extension", error))?;
            Ok(Link { certificate: certificate.clone(), issuer: authority, policy })
        };
        below.zip(&self.issuers).enumerate().map(link).collect()
    }

    /// Every rule but revocation.
    pub(in crate::tls) fn check(&self, rules: &Rules) -> Result<(), Refusal> {
        let (own, depth) = rules.nearest(self.issuers.iter().map(|issuer| issuer.key));
        self.check_authorities()?;
        self.check_leaf()?;
        self.check_usages(own)?;
        self.check_issuer(rules)?;
        self.check_templates(own)?;
        self.check_policies(own, depth.unwrap_or(0))
    }

    /// keyCertSign and path length of every CA (RFC 5280 section 6.1.4 (l) to (n)): the path builder does not know those of an anchor.
    fn check_authorities(&self) -> Result<(), Refusal> {
        let mut below = 0;
        for issuer in &self.issuers {
            let length = issuer.certificate.path_length().map_err(|error| issuer.malformed("basic constraints", error))?;
            if length.is_some_and(|length| below > length) {
                let detail = format!("the path length constraint of {} allows no CA that deep below it", issuer.name());
                return Err(Refusal::unsuitable(detail));
            }
            // Self-issued certificates do not count.
            below += usize::from(issuer.certificate.subject != issuer.certificate.issuer);
            let usage = issuer.certificate.key_usage().map_err(|error| issuer.malformed("key usage", error))?;
            if usage.is_some_and(|bits| bits & key_usage::KEY_CERT_SIGN == 0) {
                return Err(Refusal::unsuitable(format!("the key usage of {} lacks keyCertSign", issuer.name())));
            }
        }
        Ok(())
    }

    fn check_leaf(&self) -> Result<(), Refusal> {
        if self.leaf.is_ca().map_err(|error| malformed("basic constraints", error))? {
            return Err(Refusal::unsuitable("it is a CA certificate"));
        }
        if let Some(problem) = key::problem(self.leaf.public_key) {
            return Err(Refusal::unsuitable(format!("its key {problem}")));
        }
        match self.leaf.key_usage().map_err(|error| malformed("key usage", error))? {
            Some(bits) if bits & key_usage::DIGITAL_SIGNATURE == 0 => {
                Err(Refusal::unsuitable("its key usage lacks digitalSignature"))
            }
            _ => Ok(()),
        }
    }

    /// The usages that the leaf names, its CAs allow and its issuer's rules accept must not run out. Application policies grant
    /// nothing: where they are present they narrow the usages further (ESC15, CVE-2024-49019).
    fn check_usages(&self, rules: &IssuerRules) -> Result<(), Refusal> {
        let listed = self.leaf.extended_key_usages().map_err(|error| malformed("extended key usage", error))?;
        let mut accepted = accepted(listed.as_deref(), rules);
        if accepted.is_empty() {
            return Err(Refusal::unsuitable(usage_refusal(listed.as_deref(), rules)));
        }
        if let Some(policies) = self.leaf.application_policies().map_err(|error| malformed("application policies", error))? {
            // "Any" in a leaf is as weak here as it is there.
            let any = rules.usages.contains(&Usage::Any) && names_any(&policies);
            if !any && !policies.iter().any(|policy| accepted.contains(policy)) {
                return Err(Refusal::unsuitable(format!(
                    "its application policies are {}, without a usage it is accepted for: {}",
                    list(&policies),
                    names(rules)
                )));
            }
            accepted.retain(|usage| any || policies.contains(usage));
        }
        for issuer in &self.issuers {
            let certificate = &issuer.certificate;
            let usages = certificate.extended_key_usages().map_err(|error| issuer.malformed("extended key usage", error))?;
            let policies = certificate.application_policies().map_err(|error| issuer.malformed("application policies", error))?;
            for allowed in [usages, policies].into_iter().flatten().filter(|allowed| !names_any(allowed)) {
                accepted.retain(|usage| allowed.contains(usage));
                if accepted.is_empty() {
                    let (ca, allowed) = (issuer.name(), list(&allowed));
                    return Err(Refusal::unsuitable(format!(
                        "{ca} may issue only for {allowed}, and not for what the leaf is accepted with"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether the CA that signed the leaf may: pinned by key, and in the NTAuth store by key and name.
    fn check_issuer(&self, rules: &Rules) -> Result<(), Refusal> {
        let Some(issuer) = self.issuers.first() else { return Err(Refusal::malformed("a path without an issuer")) };
        if rules.issuing_keys.as_ref().is_some_and(|keys| !keys.contains(&issuer.key)) {
            let detail = format!("{} with key {} is not among issuing_cas", issuer.name(), issuer.key);
            return Err(Refusal::not_allowed(Cause::IssuerNotAllowed, detail));
        }
        match &rules.nt_auth {
            NtAuthStore::Off => Ok(()),
            NtAuthStore::Unread => {
                let detail = "the directory's NTAuth store has not been read, so no CA counts as listed";
                Err(Refusal::not_allowed(Cause::NotInNtAuth, detail))
            }
            NtAuthStore::Listed(listed) if listed.contains(&(issuer.key, issuer.certificate.subject.into())) => Ok(()),
            NtAuthStore::Listed(listed) => {
                let detail = format!("{} with key {} is not among its {} CAs", issuer.name(), issuer.key, listed.len());
                Err(Refusal::not_allowed(Cause::NotInNtAuth, detail))
            }
        }
    }

    /// Every template that the leaf names must be allowed, and it must name one.
    fn check_templates(&self, rules: &IssuerRules) -> Result<(), Refusal> {
        if rules.templates.is_empty() {
            return Ok(());
        }
        let templates = self.leaf.templates().map_err(|error| malformed("certificate template", error))?;
        match templates.iter().find(|template| !rules.templates.contains(template)) {
            Some(other) => Err(Refusal::not_allowed(Cause::TemplateNotAllowed, format!("it was issued from {other:?}"))),
            None if templates.is_empty() => Err(Refusal::not_allowed(Cause::TemplateNotAllowed, "it names no template")),
            None => Ok(()),
        }
    }

    /// The leaf must assert one of the policies, and so must every CA between it and the CA the rules are about, unless that one
    /// asserts anyPolicy (RFC 5280 section 6.1.3 (d), without mappings).
    fn check_policies(&self, rules: &IssuerRules, depth: usize) -> Result<(), Refusal> {
        if rules.policies.is_empty() {
            return Ok(());
        }
        let refused = |detail: String| Err(Refusal::not_allowed(Cause::PolicyNotAsserted, detail));
        let asserted = self.leaf.policies().map_err(|error| malformed("certificate policies", error))?;
        let mut valid: HashSet<&[u8]> =
            asserted.iter().copied().filter(|policy| rules.policies.contains(&dotted(policy))).collect();
        if valid.is_empty() {
            let found = if asserted.is_empty() { "none".to_owned() } else { list(&asserted) };
            return refused(format!("it asserts {found}"));
        }
        for issuer in self.issuers.iter().take(depth) {
            let policies = issuer.certificate.policies().map_err(|error| issuer.malformed("certificate policies", error))?;
            if !policies.contains(&ANY_POLICY) {
                valid.retain(|policy| policies.contains(policy));
            }
            if valid.is_empty() {
                return refused(format!("it asserts {}, which {} may not issue under", list(&asserted), issuer.name()));
            }
        }
        Ok(())
    }
}

impl Issuer<'_> {
    fn name(&self) -> String {
        name_text(self.certificate.subject)
    }

    fn malformed(&self, what: &str, error: DerError) -> Refusal {
        Refusal::malformed(format!("{what} of {}: {error}", self.name()))
    }
}

/// The usages that a leaf counts as named for and that its issuer's rules accept. One without restriction, where that is accepted,
/// counts for clientAuth and whatever else the rules name.
fn accepted(listed: Option<&[&[u8]]>, rules: &IssuerRules) -> Vec<&'static [u8]> {
    let restricted = |usage: &Usage| !matches!(usage, Usage::Any | Usage::None);
    let by_name = rules.usages.iter().filter(|usage| restricted(usage)).filter_map(|usage| usage.oid());
    let unrestricted = match listed {
        None => rules.usages.contains(&Usage::None),
        Some(listed) => rules.usages.contains(&Usage::Any) && Usage::Any.oid().is_some_and(|any| listed.contains(&any)),
    };
    if unrestricted {
        return by_name.chain(Usage::ClientAuth.oid()).collect();
    }
    let listed = listed.unwrap_or_default();
    by_name.filter(|usage| listed.contains(usage)).collect()
}

/// Whether a list of usages or application policies restricts nothing.
fn names_any(usages: &[&[u8]]) -> bool {
    usages.contains(&ANY_APPLICATION_POLICY) || Usage::Any.oid().is_some_and(|any| usages.contains(&any))
}

fn usage_refusal(listed: Option<&[&[u8]]>, rules: &IssuerRules) -> String {
    let accepted = names(rules);
    match listed {
        None => format!("it has no extended key usage; accepted for its issuer: {accepted}"),
        Some(listed) => format!("its extended key usage is {}; accepted for its issuer: {accepted}", list(listed)),
    }
}

fn names(rules: &IssuerRules) -> String {
    rules.usages.iter().map(|usage| usage.name()).collect::<Vec<_>>().join(" ")
}

fn list(oids: &[&[u8]]) -> String {
    let mut named: Vec<_> = oids.iter().take(MAX_NAMED).map(|oid| dotted(oid)).collect();
    if oids.len() > MAX_NAMED {
        named.push("…".to_owned());
    }
    named.join(" ")
}

fn malformed(what: &str, error: DerError) -> Refusal {
    Refusal::malformed(format!("{what}: {error}"))
}
