//! Our own keys, while the domain's idea of them changes.

use http::Method;

use crate::isolation::account;
use crate::support::Lab;
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};

/// integration/lab/password.py
fn password(lab: &Lab, action: &[&str]) -> String {
    lab.domain_script("password.py", action)
}

/// A bridge of its own account, with a keytab that is good for now.
fn changing(lab: &Lab, account: &str) -> (Settings, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(lab);
    settings.principal = format!("{account}@CORP.EXAMPLE");
    settings.keytab = directory.path().join("bridge.keytab");
    password(lab, &["change", account, settings.keytab.to_str().unwrap()]);
    (settings, directory)
}

async fn served(lab: &Lab, bridge: &Bridge, user: &str) {
    let mut device = Device::connect(lab, bridge.address, user).await;
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!((answer.status, account(answer.user())), (200, user), "{answer:?}\n{}", bridge.log());
}

#[tokio::test]
async fn a_change_of_password_with_a_new_keytab_needs_no_restart() {
    let lab = Lab::get();
    let (settings, _directory) = changing(&lab, "svc-roll1");
    let bridge = Bridge::start(&settings);
    served(&lab, &bridge, "alice").await;
    password(&lab, &["change", "svc-roll1", settings.keytab.to_str().unwrap()]);
    // For the next user the KDC writes evidence with the new key.
    served(&lab, &bridge, "bob").await;
    assert!(bridge.log().contains("the keytab has changed and was read again"), "{}", bridge.log());
    served(&lab, &bridge, "alice").await;
}

#[tokio::test]
async fn a_change_of_password_without_a_new_keytab_is_named_and_those_with_tickets_are_served() {
    let lab = Lab::get();
    let (settings, _directory) = changing(&lab, "svc-roll2");
    let bridge = Bridge::start(&settings);
    served(&lab, &bridge, "alice").await;
    password(&lab, &["change", "svc-roll2"]);
    let mut device = Device::connect(&lab, bridge.address, "bob").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 503);
    let event = bridge.audited("the refusal", |event| event["outcome"] != "served");
    // Which of the two depends on whether the worker had a ticket-granting ticket.
    assert!(["keytab-unusable", "own-key-refused"].contains(&event["reason"].as_str().unwrap()), "{event}");
    assert!(event["detail"].as_str().unwrap().contains("version"), "{event}");
    served(&lab, &bridge, "alice").await;
}

#[tokio::test]
async fn a_keytab_that_is_ahead_of_the_domain_serves_with_the_version_that_is_taken() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.keytab = lab.keytab("ahead");
    let bridge = Bridge::start(&settings);
    served(&lab, &bridge, "alice").await;
    served(&lab, &bridge, "bob").await;
    assert!(bridge.log().contains("does not take the newest key"), "{}", bridge.log());
}

#[tokio::test]
async fn a_wrong_keytab_does_not_lock_the_account_out() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.keytab = lab.keytab("wrong-key");
    let bridge = Bridge::start(&settings);
    let guessed = || password(&lab, &["guessed", "svc-bridge"]).parse::<u32>().unwrap();
    let before = guessed();
    let mut requests = tokio::task::JoinSet::new();
    for number in 1..=16 {
        let (lab, address) = (lab.clone(), bridge.address);
        requests.spawn(async move {
            let mut device = Device::connect(&lab, address, &format!("user{number:02}")).await;
            device.request(Method::OPTIONS, PATH, "").await.status
        });
    }
    assert_eq!(requests.join_all().await, [503; 16]);
    bridge.audited("the reason", |event| event["reason"] == "own-key-refused");
    let tried = bridge.log();
    assert!(guessed() <= before + 2, "{before}, then {}\n{tried}", guessed());
}
