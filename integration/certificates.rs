//! Which of the domain's certificates are let in, by the rules of their issuers.

use std::time::Duration;

use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::identity::{AccountRules, RuleSettings};
use kcd_bridge::tls::{ClientCertificate, ClientTrustConfig, IssuerConfig, NtAuth, Trust, Usage};
use rustls::pki_types::UnixTime;

use crate::support::Lab;
use crate::support::domain::{deadline, mapper, now, resolve};

async fn admit_at(lab: &Lab, config: &ClientTrustConfig, name: &str, at: UnixTime) -> Result<ClientCertificate, Failure> {
    let trust = Trust::load_once(config, None).expect("the trust can be loaded");
    trust.admit(&[lab.certificate(name)], at, deadline()).await
}

async fn refusal(lab: &Lab, config: &ClientTrustConfig, name: &str) -> Option<Cause> {
    admit_at(lab, config, name, now()).await.map_err(|failure| failure.cause).err()
}

fn rules(lab: &Lab, ca: &str) -> IssuerConfig {
    IssuerConfig {
        certificate: lab.pki(&format!("{ca}.pem")),
        usages: vec![Usage::ClientAuth],
        templates: Vec::new(),
        policies: Vec::new(),
        revocation: None,
    }
}

#[tokio::test]
async fn usages_templates_and_policies_are_those_that_the_issuer_is_allowed() {
    let lab = Lab::get();
    let with = |issuer: IssuerConfig| ClientTrustConfig { issuers: vec![issuer], ..lab.trust_config() };
    let plain = with(rules(&lab, "device-ca"));
    assert_eq!(refusal(&lab, &plain, "alice").await, None);
    assert_eq!(refusal(&lab, &plain, "alice-smartcard").await, Some(Cause::CertificateUnsuitable));
    let smart_card = with(IssuerConfig { usages: vec![Usage::SmartCardLogon], ..rules(&lab, "device-ca") });
    assert_eq!(refusal(&lab, &smart_card, "alice-smartcard").await, None);
    assert_eq!(refusal(&lab, &smart_card, "alice").await, Some(Cause::CertificateUnsuitable));
    let template = with(IssuerConfig { templates: vec!["1.3.6.1.4.1.311.21.8.1.2.3.4.5".into()], ..rules(&lab, "device-ca") });
    assert_eq!(refusal(&lab, &template, "alice").await, None);
    assert!(refusal(&lab, &template, "alice-other-template").await.is_some());
    let policy = with(IssuerConfig { policies: vec!["1.3.6.1.4.1.32473.1.1".into()], ..rules(&lab, "device-ca") });
    assert_eq!(refusal(&lab, &policy, "alice-policy").await, None);
    assert!(refusal(&lab, &policy, "alice").await.is_some());
}

#[tokio::test]
async fn the_rules_of_the_ca_nearest_to_the_device_hold() {
    let lab = Lab::get();
    let anchor = IssuerConfig { usages: vec![Usage::SmartCardLogon], ..rules(&lab, "device-ca") };
    let both = ClientTrustConfig { issuers: vec![anchor, rules(&lab, "issuing-ca")], ..lab.trust_config() };
    assert_eq!(refusal(&lab, &both, "alice-issued").await, None);
    assert_eq!(refusal(&lab, &both, "alice").await, Some(Cause::CertificateUnsuitable));
}

#[tokio::test]
async fn issuing_cas_are_pinned_by_key_and_not_by_name() {
    let lab = Lab::get();
    let pinned = ClientTrustConfig { issuing_cas: vec![lab.pki("issuing-ca.pem")], ..lab.trust_config() };
    assert_eq!(refusal(&lab, &pinned, "alice-issued").await, None);
    for certificate in ["alice-reissued", "alice"] {
        assert!(refusal(&lab, &pinned, certificate).await.is_some(), "{certificate}");
    }
    let nt_auth = ClientTrustConfig { nt_auth: NtAuth::Files(vec![lab.pki("issuing-ca.pem")]), ..lab.trust_config() };
    assert_eq!(refusal(&lab, &nt_auth, "alice-issued").await, None);
    assert_eq!(refusal(&lab, &nt_auth, "alice-reissued").await, Some(Cause::NotInNtAuth));
    assert_eq!(refusal(&lab, &nt_auth, "alice").await, Some(Cause::NotInNtAuth));
}

#[tokio::test]
async fn a_renewed_certificate_works_beside_the_old_one_and_each_ends_when_it_says() {
    let lab = Lab::get();
    let config = lab.trust_config();
    let mapper = mapper(&lab, RuleSettings::Sid { san_uri_sid_issuers: Vec::new() }, &AccountRules::default());
    let mut principals = Vec::new();
    for certificate in ["alice", "alice-renewed", "alice-expiring"] {
        principals.push(resolve(&lab, &mapper, certificate).await.expect(certificate));
    }
    assert!(principals.iter().all(|principal| principal == &principals[0]), "{principals:?}");
    let in_eleven_days = UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() + 11 * 86_400));
    let later = async |name| admit_at(&lab, &config, name, in_eleven_days).await.map_err(|failure| failure.cause).err();
    assert_eq!(later("alice-expiring").await, Some(Cause::CertificateExpired));
    assert_eq!(later("alice-renewed").await, None);
}
