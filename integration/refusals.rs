//! Refusals told apart: every line of the failure table that the lab's domain can be made to give, each by an account or a back end
//! with that one defect (lab/defects.py); and the bridge's own account, judged.

use http::Method;
use serde_json::Value;

use crate::doctor::{fails_at, report, run, seen};
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually};

const ALICE: &str = "alice@corp.example";

/// A configuration in which `account` is the bridge's.
fn settings(lab: &Lab, account: &str) -> Settings {
    let mut settings = Settings::new(lab);
    if account != "svc-bridge" {
        settings.principal = format!("{account}@CORP.EXAMPLE");
        settings.keytab = lab.keytab(account);
    }
    settings
}

fn remedy(report: &Value) -> &str {
    let last = report["stages"].as_array().and_then(|stages| stages.last()).expect("a stage");
    last["remedy"].as_str().expect("a remedy")
}

#[test]
fn each_state_of_a_user_is_a_cause_of_its_own() {
    let lab = Lab::get();
    for (user, stage, reason) in [
        ("nobody", "s4u2self", "user-unknown"),
        ("dave", "s4u2self", "user-disabled"),
        ("locked", "s4u2self", "user-locked"),
        ("expired", "s4u2self", "user-expired"),
        ("nohours", "s4u2self", "user-outside-hours"),
        // Samba notices at the second ticket only.
        ("mustchange", "s4u2proxy", "user-password-expired"),
        ("carol", "s4u2proxy", "user-not-delegable"),
    ] {
        let user = format!("{user}@corp.example");
        fails_at(&report(&settings(&lab, "svc-bridge"), &["--user", &user, "--backend", "mbx1"]), stage, reason);
    }
    let carol = report(&settings(&lab, "svc-bridge"), &["--user", "carol@corp.example", "--backend", "mbx1"]);
    assert!(remedy(&carol).starts_with("Set-ADUser carol -AccountNotDelegated $false"), "{carol:#}");
}

/// Our account, the stage, the cause, and the command that mends it: from the KDC alone.
#[test]
fn each_defect_of_our_own_account_is_a_cause_of_its_own() {
    let lab = Lab::get();
    for (account, stage, reason, command) in [
        ("svc-oldkeys", "tgt", "own-key-refused", "export the keytab again"),
        ("svc-off", "tgt", "own-account-revoked", "Enable-ADAccount svc-off"),
        ("svc-mustchange", "tgt", "own-password-expired", "Set-ADUser svc-mustchange -PasswordNeverExpires $true"),
        ("svc-nospn", "s4u2self", "own-spn-missing", "setspn -S HTTP/bridge.your.domain svc-nospn"),
        ("svc-rc4", "s4u2self", "own-etype-not-supported", "Set-ADUser svc-rc4 -KerberosEncryptionType AES128,AES256"),
        ("svc-sensitive", "s4u2proxy", "own-tgt-not-forwardable", "Set-ADUser svc-sensitive -AccountNotDelegated $false"),
        ("svc-protected", "s4u2proxy", "own-tgt-not-forwardable", "Remove-ADGroupMember 'Protected Users' svc-protected"),
        (
            "svc-notransition",
            "s4u2proxy",
            "protocol-transition-off",
            "Set-ADAccountControl svc-notransition -TrustedToAuthForDelegation $true",
        ),
        (
            "svc-nolist",
            "s4u2proxy",
            "spn-not-listed",
            "Set-ADUser svc-nolist -Add @{'msDS-AllowedToDelegateTo'='HTTP/mbx1.corp.example'}",
        ),
    ] {
        let report = report(&settings(&lab, account), &["--user", ALICE, "--backend", "mbx1"]);
        fails_at(&report, stage, reason);
        assert!(remedy(&report).contains(command), "{account}: {report:#}");
    }
}

#[test]
fn each_defect_of_the_back_ends_account_is_a_cause_of_its_own() {
    let lab = Lab::get();
    let to = |spn: &str| report(&settings(&lab, "svc-bridge"), &["--user", ALICE, "--spn", spn]);
    fails_at(&to("HTTP/nosuch.corp.example"), "s4u2proxy", "spn-unknown");
    fails_at(&to("HTTP/notlisted.corp.example"), "s4u2proxy", "spn-not-listed");
    let mut strict = settings(&lab, "svc-bridge");
    strict.more = "[[backend]]\nname = \"old\"\nurl = \"http://mbx2003.corp.example\"\ntransport = \"http\"\n\
                   spn = \"HTTP/mbx2003.corp.example\"\n[[route]]\npath = \"/old\"\nbackend = \"old\"\n"
        .into();
    fails_at(&report(&strict, &["--user", ALICE, "--backend", "old"]), "s4u2proxy", "weak-etype-refused");
}

/// What the KDC alone leaves open, the directory tells.
#[test]
fn the_directory_tells_apart_what_the_kdc_does_not() {
    let lab = Lab::get();
    for (account, spn, alone, reason, said, command) in [
        (
            "svc-bridge",
            "otherresource",
            "spn-not-listed",
            "resource-list-lacks-us",
            "the list is that of CN=svc-otherresource,",
            "samba-tool delegation add-principal svc-otherresource svc-bridge",
        ),
        (
            "svc-notransition",
            "resource",
            "protocol-transition-off",
            "resource-list-lacks-us",
            "the list is that of CN=svc-resource,",
            "samba-tool delegation add-principal svc-resource svc-notransition",
        ),
        (
            "svc-notransition",
            "mbx1",
            "protocol-transition-off",
            "protocol-transition-off",
            "HTTP/mbx1.corp.example is on the list",
            "samba-tool delegation for-any-protocol svc-notransition on",
        ),
        (
            "svc-nolist",
            "mbx1",
            "spn-not-listed",
            "spn-not-listed",
            "our account's list is empty",
            "samba-tool delegation add-service svc-nolist HTTP/mbx1.corp.example",
        ),
        (
            "svc-bridge",
            "notlisted",
            "spn-not-listed",
            "spn-not-listed",
            "our account's list has 5 other SPNs",
            "samba-tool delegation add-service svc-bridge HTTP/notlisted.corp.example",
        ),
        ("svc-careless", "twice", "spn-unknown", "spn-duplicate", "CN=svc-twice2,", "setspn -Q HTTP/twice.corp.example"),
        (
            "svc-bridge",
            "nosuch",
            "spn-unknown",
            "spn-unknown",
            "no account that the directory shows has the SPN",
            "setspn -S HTTP/nosuch.corp.example",
        ),
        (
            "svc-sensitive",
            "mbx1",
            "own-tgt-not-forwardable",
            "own-tgt-not-forwardable",
            "CN=svc-sensitive,CN=Users,DC=corp,DC=example is marked sensitive",
            "Set-ADUser svc-sensitive -AccountNotDelegated $false",
        ),
    ] {
        let spn = format!("HTTP/{spn}.corp.example");
        let arguments = ["--user", ALICE, "--spn", &spn];
        fails_at(&report(&settings(&lab, account), &arguments), "s4u2proxy", alone);
        let told = report(&settings(&lab, account).with_directory(""), &arguments);
        fails_at(&told, "s4u2proxy", reason);
        assert!(seen(&told, "s4u2proxy").contains(said), "{told:#}");
        assert!(remedy(&told).contains(command), "{told:#}");
    }
}

/// Who is on the list of the SPN's own account needs no list of its own, nor protocol transition.
#[test]
fn an_account_on_the_resources_list_is_let_through_and_the_directory_takes_nothing_from_it() {
    let lab = Lab::get();
    for (account, spn) in [("svc-bridge", "HTTP/resource.corp.example"), ("svc-nolist", "HTTP/otherresource.corp.example")] {
        for settings in [settings(&lab, account), settings(&lab, account).with_directory("")] {
            let report = report(&settings, &["--user", ALICE, "--spn", spn]);
            assert_eq!(report["good"], true, "{account}: {report:#}");
        }
    }
}

#[test]
fn a_back_end_without_the_spns_key_is_told_apart_and_the_directory_names_who_has_it() {
    let lab = Lab::get();
    let arguments = ["--user", ALICE, "--spn", "HTTP/resource.corp.example", "--url", "http://mbx1.corp.example/"];
    let report = report(&settings(&lab, "svc-bridge").with_directory(""), &arguments);
    fails_at(&report, "http", "token-key-wrong");
    assert!(seen(&report, "http").contains("CN=svc-resource,CN=Users,DC=corp,DC=example has the SPN"), "{report:#}");
    assert!(remedy(&report).contains("(svc-resource)"), "{report:#}");
}

/// The same through `serve`: audit event, log, and what the device is told.
#[tokio::test]
async fn a_running_bridge_says_which_list_lacks_what_and_how_to_mend_it() {
    let lab = Lab::get();
    let mut settings = settings(&lab, "svc-bridge").with_directory("");
    settings.more.push_str(
        "[[backend]]\nname = \"resource\"\nurl = \"http://mbx1.corp.example\"\ntransport = \"http\"\n\
         spn = \"HTTP/otherresource.corp.example\"\n[[route]]\npath = \"/resource\"\nbackend = \"resource\"\n",
    );
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let answer = device.request(Method::OPTIONS, "/resource", "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("300")), "{answer:?}");
    let event = bridge.audited("the refusal", |event| event["reason"] == "resource-list-lacks-us");
    assert_eq!(event["stage"], "s4u2proxy", "{event}");
    let command = "samba-tool delegation add-principal svc-otherresource svc-bridge";
    eventually("the log has the command", || bridge.log().contains(command).then_some(()));
    // What is wrong with one back end is nothing to another.
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
}

fn findings(report: &Value) -> Vec<(&str, &str)> {
    let stages = report["stages"].as_array().expect("stages");
    let account = stages.iter().find(|stage| stage["stage"] == "account").expect("the account was judged");
    let findings = account["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(account["verdict"], if findings.is_empty() { "good" } else { "findings" }, "{account:#}");
    for finding in findings {
        assert!(finding["remedy"].as_str().is_some_and(|remedy| !remedy.contains("{account}")), "{finding:#}");
    }
    let text = |finding: &'static str, of: &Value| of[finding].as_str().map(str::to_owned);
    assert!(findings.iter().all(|finding| text("message", finding).is_some() && text("detail", finding).is_some()));
    findings.iter().map(|finding| (finding["code"].as_str().unwrap(), finding["severity"].as_str().unwrap())).collect()
}

/// Account, what the KDC alone shows, what it shows with the directory.
#[test]
fn each_defect_of_the_account_is_a_finding_and_a_good_account_has_none() {
    let lab = Lab::get();
    let none: &[(&str, &str)] = &[];
    for (account, alone, with_directory) in [
        ("svc-bridge", none, none),
        ("svc-nospn", &[("no-spn", "error")][..], &[("no-spn", "error")][..]),
        ("svc-rc4", &[("rc4-tickets", "error")], &[("rc4-tickets", "error")]),
        ("svc-sensitive", &[("tgt-not-forwardable", "error")], &[("sensitive", "error")]),
        ("svc-protected", &[("tgt-not-forwardable", "error")], &[("protected", "error")]),
        ("svc-notransition", &[("no-protocol-transition", "error")], &[("no-protocol-transition", "error")]),
        ("svc-nolist", none, &[("delegation-list-empty", "warning")]),
        ("svc-careless", none, &[("unconstrained", "warning"), ("password-old", "warning")]),
        ("svc-oldkeys", none, &[("keytab-outdated", "error")]),
    ] {
        let arguments = ["--user", ALICE, "--backend", "mbx1"];
        let report_alone = report(&settings(&lab, account), &arguments);
        assert_eq!(findings(&report_alone), alone, "{report_alone:#}");
        let report_told = report(&settings(&lab, account).with_directory(""), &arguments);
        assert_eq!(findings(&report_told), with_directory, "{report_told:#}");
    }
}

#[test]
fn warnings_about_the_account_leave_the_verdict_good_and_are_in_the_text() {
    let lab = Lab::get();
    let output = run(&settings(&lab, "svc-careless").with_directory(""), &["--user", ALICE, "--backend", "mbx1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for said in ["NOTICE account ", "2 findings", "warning password-old: ", "remedy: Set-ADAccountControl svc-careless"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

/// It starts all the same: what is wrong may be mended while it runs.
#[test]
fn a_bridge_says_at_its_start_what_is_wrong_with_its_account_and_starts() {
    let lab = Lab::get();
    for (account, said) in [
        ("svc-bridge", &["nothing is wrong with the bridge's own account"][..]),
        ("svc-careless", &["finding=\"unconstrained\"", "finding=\"password-old\""]),
        ("svc-nospn", &["finding=\"no-spn\"", "setspn -S HTTP/bridge.your.domain svc-nospn"]),
        ("svc-oldkeys", &["finding=\"keytab-outdated\"", "own-key-refused"]),
    ] {
        let bridge = Bridge::start(&settings(&lab, account).with_directory(""));
        for said in said {
            eventually(said, || bridge.log().contains(said).then_some(()));
        }
    }
}

/// A KDC that finds our account disabled refuses whomever it is asked for, in words that could mean that user.
#[tokio::test]
async fn when_our_own_account_is_disabled_while_it_has_a_ticket_no_user_is_taken_for_refused() {
    let lab = Lab::get();
    let mut settings = settings(&lab, "svc-leaver");
    settings.kerberos = "workers = 2\n".into();
    let bridge = Bridge::start(&settings);
    // Both workers have a ticket of ours.
    let request = async |user| Device::connect(&lab, bridge.address, user).await.request(Method::OPTIONS, PATH, "").await.status;
    let both = tokio::join!(request("alice"), request("bob"));
    assert_eq!(both, (200, 200));
    for user in ["user01", "user02", "user03"] {
        assert_eq!(request(user).await, 200, "{user}");
    }
    let _enabled_again = lab.disable_service("svc-leaver");
    for user in ["user04", "user05", "user06", "user07", "user08"] {
        assert_eq!(request(user).await, 503, "{user}: {}", bridge.log());
    }
    let reasons: Vec<_> =
        bridge.audit().iter().filter(|event| event["outcome"] != "served").map(|event| event["reason"].clone()).collect();
    assert!(reasons.iter().all(|reason| reason == "own-account-revoked"), "{reasons:?}");
}
