//! Revocation as the bridge finds out about it: lists by file, HTTP and LDAP, OCSP responders, and what changes while devices
//! are connected. The certificates throwaway1 to throwaway8 are each revoked by one test only.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::Full;

use crate::support::Lab;
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH, handshake, tls_config};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Status of one request on a connection of its own; none if the connection is refused.
async fn attempt(lab: &Lab, bridge: &Bridge, certificate: &str) -> Option<u16> {
    let stream = handshake(bridge.address, tls_config(lab, certificate)).await.ok()?;
    let mut device = Device::over(stream).await;
    let request = http::Request::builder().method(Method::OPTIONS).uri(PATH).header("host", "bridge.corp.example");
    let answer = device.send(request.body(Full::default()).expect("a request")).await.ok()?;
    Some(answer.status)
}

async fn is_let_in(lab: &Lab, bridge: &Bridge, certificate: &str) {
    assert_eq!(attempt(lab, bridge, certificate).await, Some(200), "{certificate}: {:#?}", bridge.audit());
}

async fn is_refused(lab: &Lab, bridge: &Bridge, certificate: &str, reason: &str) {
    let status = attempt(lab, bridge, certificate).await;
    assert_ne!(status, Some(200), "{certificate}");
    bridge.audited(&format!("{certificate}: {reason}"), |event| event["reason"] == reason);
}

fn settings(lab: &Lab, revocation: &str) -> Settings {
    let mut settings = Settings::new(lab).with_issuing_cas();
    settings.revocation = format!("{{ policy = \"require\", {revocation} }}");
    settings
}

fn files(lab: &Lab, names: &[&str]) -> String {
    let files: Vec<_> = names.iter().map(|name| lab.pki(&format!("{name}.crl"))).collect();
    format!("crl_files = {files:?}")
}

#[tokio::test]
async fn a_list_is_fetched_from_the_web_server_that_certificates_name_if_it_is_allowed() {
    let lab = Lab::get();
    let bridge = Bridge::start(&settings(&lab, "distribution_points = [\"http://pki.corp.example/\"]"));
    is_let_in(&lab, &bridge, "alice-issued").await;
    is_let_in(&lab, &bridge, "alice-reissued").await;
    is_refused(&lab, &bridge, "alice-revoked-ca", "certificate-revoked").await;
    let elsewhere = Bridge::start(&settings(&lab, "distribution_points = [\"http://elsewhere.example/\"]"));
    is_refused(&lab, &elsewhere, "alice-issued", "revocation-unknown").await;
}

#[tokio::test]
async fn a_list_is_fetched_from_the_directory() {
    let lab = Lab::get();
    let _restored = lab.revoke("throwaway1", &[]);
    let device_ca = files(&lab, &["device-ca"]);
    let settings = settings(&lab, &format!("{device_ca}, distribution_points = [\"ldap:///\"]")).with_directory("");
    let bridge = Bridge::start(&settings);
    is_let_in(&lab, &bridge, "alice-issued").await;
    is_let_in(&lab, &bridge, "alice-reissued").await;
    is_refused(&lab, &bridge, "throwaway1", "certificate-revoked").await;
}

#[tokio::test]
async fn two_lists_of_one_name_and_two_keys_stand_side_by_side_in_either_order() {
    let lab = Lab::get();
    for order in [["device-ca", "issuing-ca", "issuing-ca-renewed"], ["issuing-ca-renewed", "issuing-ca", "device-ca"]] {
        let bridge = Bridge::start(&settings(&lab, &files(&lab, &order)));
        is_let_in(&lab, &bridge, "alice-issued").await;
        is_let_in(&lab, &bridge, "alice-reissued").await;
    }
    let bridge = Bridge::start(&settings(&lab, &files(&lab, &["device-ca", "issuing-ca"])));
    is_let_in(&lab, &bridge, "alice-issued").await;
    is_refused(&lab, &bridge, "alice-reissued", "revocation-unknown").await;
}

#[tokio::test]
async fn a_responder_vouches_for_certificates_and_names_the_revoked() {
    let lab = Lab::get();
    let _restored = lab.revoke("throwaway2", &["--reason", "affiliationChanged"]);
    let device_ca = files(&lab, &["device-ca"]);
    for ocsp in [
        "responders = [\"http://ocsp.corp.example:8888/\"]",
        "url = \"http://ocsp.corp.example:8888/\", nonce = true",
        "url = \"http://ocsp.corp.example:8888/ca\"",
    ] {
        let bridge = Bridge::start(&settings(&lab, &format!("{device_ca}, ocsp = {{ {ocsp} }}")));
        is_let_in(&lab, &bridge, "alice-issued").await;
        is_refused(&lab, &bridge, "throwaway2", "certificate-revoked").await;
    }
}

#[tokio::test]
async fn a_responder_that_may_not_be_believed_vouches_for_nobody() {
    let lab = Lab::get();
    let device_ca = files(&lab, &["device-ca"]);
    for (kind, reason) in [
        ("device", "revocation-untrusted"),
        ("badsig", "revocation-untrusted"),
        ("try-later", "revocation-unknown"),
        ("no-next-update", "revocation-unknown"),
        ("huge", "revocation-unknown"),
        ("silent", "revocation-unknown"),
    ] {
        let ocsp = format!("{device_ca}, ocsp = {{ url = \"http://ocsp.corp.example:8888/{kind}\", timeout = \"1s\" }}");
        let bridge = Bridge::start(&settings(&lab, &ocsp));
        is_refused(&lab, &bridge, "alice-issued", reason).await;
        // What a responder says that is not believed counts for nothing; a list still vouches.
        let both = format!("{}, {}", files(&lab, &["device-ca", "issuing-ca"]), ocsp.split_once(", ").expect("two keys").1);
        let bridge = Bridge::start(&settings(&lab, &both));
        is_let_in(&lab, &bridge, "alice-issued").await;
    }
}

#[tokio::test]
async fn a_certificate_revoked_while_connected_is_refused_within_the_interval_and_its_next_handshake_too() {
    let lab = Lab::get();
    let lists = files(&lab, &["device-ca", "issuing-ca"]);
    let mut settings = settings(&lab, &format!("{lists}, scan_interval = \"100ms\""));
    settings.trust.push_str("recheck_interval = \"1s\"\n");
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "throwaway3").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    let revoked = lab.revoke("throwaway3", &[]);
    ended(&mut device).await;
    is_refused(&lab, &bridge, "throwaway3", "certificate-revoked").await;
    is_let_in(&lab, &bridge, "alice-issued").await;
    drop(revoked);
    until_served(&lab, &bridge, "throwaway3", true).await;
}

/// Asks on one connection until it is refused or gone; ten seconds at most.
async fn ended(device: &mut Device) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = http::Request::builder().method(Method::OPTIONS).uri(PATH).header("host", "bridge.corp.example");
        match device.send(request.body(Full::default()).expect("a request")).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(_) | Err(_) => return,
        }
        assert!(Instant::now() < deadline, "still served");
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_delta_list_revokes_and_takes_back_between_two_base_lists() {
    let lab = Lab::get();
    // Its first delta list, which says nothing.
    lab.revocation(&["publish", "issuing-ca"], &[]);
    let lists = files(&lab, &["device-ca", "issuing-ca", "issuing-ca+"]);
    let bridge = Bridge::start(&settings(&lab, &format!("{lists}, scan_interval = \"100ms\"")));
    is_let_in(&lab, &bridge, "throwaway4").await;
    let held = lab.revoke("throwaway4", &["--delta", "--reason", "certificateHold"]);
    until_served(&lab, &bridge, "throwaway4", false).await;
    bridge.audited("the reason", |event| event["reason"] == "certificate-revoked");
    drop(held);
    until_served(&lab, &bridge, "throwaway4", true).await;
}

/// Connects anew until the answer is the expected one; ten seconds at most.
async fn until_served(lab: &Lab, bridge: &Bridge, certificate: &str, served: bool) {
    let deadline = Instant::now() + PATIENCE;
    while (attempt(lab, bridge, certificate).await == Some(200)) != served {
        assert!(Instant::now() < deadline, "{certificate}: not within ten seconds: served is {served}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn only_cas_in_the_forests_ntauth_store_may_issue_where_that_is_asked() {
    let lab = Lab::get();
    let lists = files(&lab, &["device-ca", "issuing-ca"]);
    let mut settings = settings(&lab, &lists).with_directory("");
    settings.trust.push_str("nt_auth = \"directory\"\n");
    let bridge = Bridge::start(&settings);
    is_let_in(&lab, &bridge, "alice-issued").await;
    is_refused(&lab, &bridge, "alice", "not-in-ntauth").await;
}

#[tokio::test]
async fn an_account_that_is_disabled_while_connected_is_denied_when_the_directorys_answer_runs_out() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab).with_issuing_cas().with_directory("cache_ttl = \"1s\"\nnegative_ttl = \"0s\"");
    settings.revocation = format!("{{ policy = \"require\", {} }}", files(&lab, &["device-ca", "issuing-ca"]));
    settings.mapping = "[[mapping]]\nrule = \"sid\"\n".into();
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "leaver2").await;
    let first = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!((first.status, first.user()), (200, Some("leaver2@CORP.EXAMPLE")), "{:#?}", bridge.audit());
    let _enabled_again = lab.disable("leaver2");
    ended(&mut device).await;
    bridge.audited("the reason", |event| event["reason"] == "account-disabled");
}
