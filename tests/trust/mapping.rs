//! From an admitted certificate to one principal, with rules as they are configured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcd_bridge::certificate::LoadError;
use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::identity::{
    AccountRules, ExpectedSid, Mapper, Principal, RequestedName, RuleConfig, RuleSettings, StaticEntry, Strength, WeakIssuer,
};
use kcd_bridge::naming::sid::Sid;
use kcd_bridge::tls::ClientCertificate;
use kcd_bridge::x509::Claims;
use rcgen::CertificateParams;

use crate::pki::{AtOnce as _, Ca, Files, pem, runtime, sid_extension, upn, uri, year};

const SID: &str = "S-1-5-21-1-2-3-1104";

struct Site {
    root: Ca,
    issuing: Ca,
    files: Files,
}

impl Site {
    fn new() -> Self {
        let root = Ca::root("Root");
        let issuing = root.subordinate("Issuing CA", |_| {});
        let files = Files::trusting(&[&root]).intermediate(&issuing);
        Self { root, issuing, files }
    }

    fn admit(&self, ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        self.files.trust().admit_now(&ca.device(change).chain(), year(2026)).unwrap()
    }

    fn weak(&self, suffixes: &[&str]) -> RuleSettings {
        let certificate = self.files.write("weak.pem", &self.issuing.pem);
        let allowed_suffixes = suffixes.iter().map(|&suffix| suffix.to_owned()).collect();
        RuleSettings::Upn { issuers: vec![WeakIssuer { certificate, allowed_suffixes }] }
    }
}

fn load(rules: &[RuleSettings]) -> Result<Mapper, LoadError> {
    let rules: Vec<_> = rules.iter().cloned().map(RuleConfig::for_all).collect();
    Mapper::load(&rules, &AccountRules::default(), None)
}

fn resolve(rules: &[RuleSettings], certificate: &ClientCertificate) -> Result<Principal, Failure> {
    let (mapper, claims) = (load(rules).unwrap(), Claims::read(certificate)?);
    let resolving = mapper.resolve(certificate, &claims, Instant::now() + Duration::from_secs(20));
    runtime().block_on(resolving).map(Arc::unwrap_or_clone)
}

fn strong() -> RuleSettings {
    RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![] }
}

fn expected() -> ExpectedSid {
    ExpectedSid::Is(Sid::parse(SID).unwrap())
}

fn sid_uri() -> String {
    format!("tag:microsoft.com,2022-09-14:sid:{SID}")
}

#[test]
fn a_certificate_as_ad_cs_issues_it_is_mapped_strongly() {
    let site = Site::new();
    let certificate = site.admit(&site.issuing, |params| {
        params.subject_alt_names = vec![upn("Alice@Corp.Example")];
        params.custom_extensions = vec![sid_extension(SID)];
    });
    let principal = resolve(&[strong()], &certificate).unwrap();
    assert_eq!(principal.name(), &RequestedName::Enterprise("alice@corp.example".into()));
    assert_eq!((principal.expected_sid(), principal.strength()), (&expected(), Strength::Strong));
}

#[test]
fn the_issuer_is_the_key_that_signed_the_certificate_and_not_its_root() {
    let site = Site::new();
    let change = |params: &mut CertificateParams| params.subject_alt_names = vec![upn("alice@corp.example"), uri(&sid_uri())];
    let (by_issuing, by_root) = (site.admit(&site.issuing, change), site.admit(&site.root, change));
    for (flagged, believed, other) in [(&site.issuing, &by_issuing, &by_root), (&site.root, &by_root, &by_issuing)] {
        let path = site.files.write("flagged.pem", &flagged.pem);
        let rule = [RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![path] }];
        assert_eq!(resolve(&rule, believed).unwrap().expected_sid(), &expected());
        assert_eq!(resolve(&rule, other).unwrap_err().cause, Cause::NoMapping);
    }
}

#[test]
fn a_renewed_ca_certificate_with_the_same_key_is_the_same_issuer() {
    let site = Site::new();
    let certificate = site.admit(&site.issuing, |params| params.subject_alt_names = vec![upn("alice@corp.example")]);
    let renewed = {
        let mut params = crate::pki::params("Issuing CA, renewed");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.signed_by(site.issuing.issuer.key(), &site.root.issuer).unwrap()
    };
    let path = site.files.write("renewed.pem", renewed.pem());
    let issuer = WeakIssuer { certificate: path, allowed_suffixes: vec!["corp.example".into()] };
    assert!(resolve(&[RuleSettings::Upn { issuers: vec![issuer] }], &certificate).is_ok());
}

#[test]
fn a_upn_alone_needs_the_weak_rule_of_its_issuer_and_an_allowed_suffix() {
    let site = Site::new();
    let change = |params: &mut CertificateParams| params.subject_alt_names = vec![upn("alice@corp.example")];
    let certificate = site.admit(&site.issuing, change);
    assert_eq!(resolve(&[strong()], &certificate).unwrap_err().cause, Cause::WeakMappingOnly);
    let principal = resolve(&[strong(), site.weak(&["corp.example"])], &certificate).unwrap();
    assert_eq!((principal.strength(), principal.expected_sid()), (Strength::Weak, &ExpectedSid::PinOnFirstUse));
    assert_eq!(resolve(&[site.weak(&["example"])], &certificate).unwrap_err().cause, Cause::SuffixNotAllowed);
    let by_root = site.admit(&site.root, change);
    assert_eq!(resolve(&[site.weak(&["corp.example"])], &by_root).unwrap_err().cause, Cause::WeakMappingOnly);
}

#[test]
fn a_static_row_names_a_certificate_by_its_digest() {
    let site = Site::new();
    let certificate = site.admit(&site.issuing, |_| {});
    let name = RequestedName::Enterprise("alice@corp.example".into());
    let row = |key| RuleSettings::Static {
        entries: BTreeMap::from([(key, StaticEntry { name: name.clone(), expected_sid: expected() })]),
    };
    let principal = resolve(&[row(certificate.fingerprint().0)], &certificate).unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&name, &expected()));
    assert_eq!(resolve(&[row([0; 32])], &certificate).unwrap_err().cause, Cause::NoMapping);
}

#[test]
fn the_sid_of_the_extension_and_of_the_uri_must_be_the_same() {
    let site = Site::new();
    let certificate = site.admit(&site.issuing, |params| {
        params.subject_alt_names = vec![upn("alice@corp.example"), uri(&sid_uri())];
        params.custom_extensions = vec![sid_extension("S-1-5-21-1-2-3-500")];
    });
    assert_eq!(resolve(&[strong()], &certificate).unwrap_err().cause, Cause::SidConflict);
}

#[test]
fn an_issuer_file_must_hold_exactly_one_ca_certificate() {
    let site = Site::new();
    let device = pem("CERTIFICATE", &site.issuing.device(|_| {}).der);
    for (contents, expected) in [
        (format!("{}{}", site.issuing.pem, site.root.pem), "holds 2 certificates"),
        (device, "not the certificate of a CA"),
        (String::new(), "holds no certificate"),
    ] {
        let path = site.files.write("issuer.pem", contents);
        let error = load(&[RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![path] }]).unwrap_err().to_string();
        assert!(error.contains("issuer.pem") && error.contains(expected), "{error}");
    }
}

#[test]
fn an_issuer_may_be_named_once() {
    let site = Site::new();
    let issuer = |name: &str| WeakIssuer {
        certificate: site.files.write(name, &site.issuing.pem),
        allowed_suffixes: vec!["corp.example".into()],
    };
    let twice = RuleSettings::Upn { issuers: vec![issuer("one.pem"), issuer("two.pem")] };
    assert!(load(&[twice]).unwrap_err().to_string().contains("two.pem"));
}
