//! What changes while the bridge runs: its configuration, and the time that certificates have left.

use std::process::Command;

use http::Method;
use serde_json::Value;

use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually};

const RELOADED: &str = "reloaded: certificates";
const KEPT: &str = "nothing was reloaded";

#[tokio::test]
async fn a_reload_judges_open_connections_by_the_new_mapping_and_a_bad_one_changes_nothing() {
    let lab = Lab::get();
    let settings = Settings::new(&lab);
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);

    // Nobody's certificate stands in this table.
    let row = "[[mapping]]\nrule = \"static\"\n[[mapping.entry]]\ncertificate_sha256 = \"";
    let mapping = format!("{row}{}\"\nupn = \"bob@corp.example\"\npin = \"first-use\"\n", "00".repeat(32));
    let other = Settings { mapping, ..Settings::new(&lab) };
    bridge.reload(&other, RELOADED);
    let refused = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!(refused.status, 403);
    bridge.audited("the reason", |event| event["reason"] == "no-mapping" || event["reason"] == "weak-mapping-only");

    let broken = Settings { mapping: "[[mapping]]\nrule = \"sid\"\n".into(), ..Settings::new(&lab) };
    bridge.reload(&broken, KEPT);
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 403, "as before");

    bridge.reload(&settings, RELOADED);
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200, "on the same connection");
}

#[tokio::test]
async fn a_reload_that_no_longer_trusts_a_ca_ends_the_connections_of_its_devices() {
    let lab = Lab::get();
    let lists = ["device-ca", "issuing-ca"].map(|name| lab.pki(&format!("{name}.crl")));
    let with = |trust: &str| {
        let mut settings = Settings::new(&lab).with_issuing_cas();
        settings.revocation = format!("{{ policy = \"require\", crl_files = {lists:?} }}");
        settings.trust.push_str(trust);
        settings
    };
    let bridge = Bridge::start(&with(""));
    let mut issued = Device::connect(&lab, bridge.address, "alice-issued").await;
    let mut direct = Device::connect(&lab, bridge.address, "bob").await;
    for device in [&mut issued, &mut direct] {
        assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    }
    bridge.reload(&with(&format!("issuing_cas = [{:?}]\n", lab.pki("device-ca.pem"))), RELOADED);
    let refused = issued.request(Method::OPTIONS, PATH, "").await;
    assert_eq!((refused.status, refused.header("connection")), (403, Some("close")));
    assert_eq!(direct.request(Method::OPTIONS, PATH, "").await.status, 200);
    bridge.audited("the reason", |event| event["reason"] == "issuer-not-allowed");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_in_metrics_and_report_with_its_user_and_device_until_it_is_renewed() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.more = "[metrics]\nfile = \"bridge.prom\"\ninterval = \"1s\"\n".into();
    let bridge = Bridge::start(&settings);
    let path = |device: &str| format!("{PATH}?Cmd=Ping&DeviceId={device}&DeviceType=iPhone&User=alice");
    let mut expiring = Device::connect(&lab, bridge.address, "alice-expiring").await;
    assert_eq!(expiring.request(Method::OPTIONS, &path("phone1"), "").await.status, 200);
    let metrics = || std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).unwrap_or_default();
    let ending = |renewed: &str, count: u32| format!("kcd_bridge_client_certificates_ending{{renewed=\"{renewed}\"}} {count}\n");
    let text =
        eventually("the metric", || Some(metrics()).filter(|text| text.contains(&ending("no", 1)) && text.contains("phone1")));
    let line =
        text.lines().find(|line| line.starts_with("kcd_bridge_client_certificate_end_timestamp_seconds")).expect("its end");
    assert!(line.contains("user=\"alice@corp.example\"") && line.contains("device=\"phone1\""), "{line}");

    bridge.audited("the request", |event| event["eas_device_id"] == "phone1");
    let report = forecast(&bridge);
    let found = &report["ending"][0];
    assert_eq!((&found["principal"], &found["devices"][0]), (&"alice@corp.example".into(), &"phone1".into()), "{report}");
    assert!(found["days_left"].as_i64().is_some_and(|days| (8..=10).contains(&days)), "{report}");

    let mut renewed = Device::connect(&lab, bridge.address, "alice-renewed").await;
    assert_eq!(renewed.request(Method::OPTIONS, &path("phone1"), "").await.status, 200);
    eventually("the renewal", || {
        Some(metrics()).filter(|text| text.contains(&ending("yes", 1)) && text.contains(&ending("no", 0)))
    });
    let report = eventually("the renewal", || Some(forecast(&bridge)).filter(|report| report["renewed"] == 1));
    assert_eq!(report["ending"].as_array().map(Vec::len), Some(0), "{report}");
}

fn forecast(bridge: &Bridge) -> Value {
    let log = bridge.directory.path().join("audit.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_kcd-bridge")).args(["forecast", "--json"]).arg(log).output();
    serde_json::from_slice(&output.expect("the forecast runs").stdout).expect("a report")
}
