//! `kcd-bridge explain` over certificates of the lab, with its directory: what an administrator rehearses before the switch.

use std::process::Command;

use serde_json::Value;

use crate::support::Lab;
use crate::support::bridge::Settings;

/// The JSON report over these certificates, and the exit status.
fn explain(lab: &Lab, certificates: &[&str]) -> (Value, Option<i32>) {
    let mut settings = Settings::new(lab).with_issuing_cas().with_directory("");
    settings.mapping = "[[mapping]]\nrule = \"sid\"\n[[mapping]]\nrule = \"alt-security-identities\"\n".into();
    settings.revocation = "{ policy = \"require\", distribution_points = [\"ldap:///\", \"http://pki.corp.example/\"] }".into();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("kcd-bridge.toml");
    std::fs::write(&config, settings.text(directory.path())).expect("the configuration is written");
    let files = certificates.iter().map(|name| lab.pki(&format!("{name}.pem")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
    let output = command.args(["explain", "--json", "--config"]).arg(&config).args(files).output().expect("explain runs");
    let said = String::from_utf8_lossy(&output.stderr);
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")), output.status.code())
}

#[test]
fn a_population_is_judged_as_the_bridge_would_and_each_refusal_says_why() {
    let lab = Lab::get();
    let expected = [
        ("alice-issued", None),
        ("alice-reissued", None),
        ("asi-sr", None),
        ("asi-is", Some("account-not-found")),
        ("alice-no-sid", Some("weak-mapping-only")),
        ("alice-revoked", Some("certificate-revoked")),
        ("alice-revoked-ca", Some("certificate-revoked")),
        ("alice-foreign", Some("unknown-issuer")),
        ("locked", Some("account-locked")),
        ("nestedprotected", Some("account-protected")),
        ("twin", Some("ambiguous-account")),
        ("dollar", Some("account-kind-denied")),
        ("trail-spaced", Some("certificate-malformed")),
    ];
    let (report, status) = explain(&lab, &expected.map(|(name, _)| name));
    assert_eq!(status, Some(1), "some are refused");
    let found = report["certificates"].as_array().expect("certificates");
    assert_eq!(found.len(), expected.len());
    for (found, (name, reason)) in found.iter().zip(expected) {
        assert!(found["source"].as_str().is_some_and(|source| source.ends_with(&format!("/{name}.pem"))), "{name}: {found:#}");
        assert_eq!(found["verdict"], if reason.is_some() { "refused" } else { "strong" }, "{name}: {found:#}");
        assert_eq!(found["decision"]["reason"].as_str(), reason, "{name}: {found:#}");
    }
    assert_eq!((&report["summary"]["strong"], &report["summary"]["refused"]), (&3.into(), &10.into()), "{:#}", report["summary"]);
}

#[test]
fn a_serial_number_stored_the_wrong_way_round_is_recognised() {
    let lab = Lab::get();
    let (report, status) = explain(&lab, &["asi-sr-forward"]);
    assert_eq!(status, Some(1));
    let detail = report["certificates"][0]["decision"]["detail"].as_str().expect("a detail");
    assert!(detail.contains("its bytes must be reversed"), "{detail}");
    let (good, status) = explain(&lab, &["asi-sr"]);
    assert_eq!((status, good["certificates"][0]["decision"]["rule"].as_str()), (Some(0), Some("alt-security-identities")));
}
