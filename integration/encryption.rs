//! Encryption types on the real domain: RC4 only where a back end allows it by name, and what is said of accounts that want repair.
//!
//! `svc-legacy` (HTTP/mbx2003) has the explicit value 4; nobody ever set one for `svc-unset` and `svc-mended`; `svc-oldbridge` delegates
//! with an RC4 key of its own. Samba 4.22 treats an account without a value as Windows has since November 2022: RC4 ticket, AES session
//! key. It does not refuse such tickets, as Windows does since 2026.

use std::process::Command;
use std::sync::Arc;

use http::Method;
use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::kerberos::acquire::gss::acceptor::Acceptor;
use kcd_bridge::kerberos::config::{Engine, KerberosConfig};
use kcd_bridge::kerberos::delegator::Delegator;
use kcd_bridge::kerberos::encryption::Etypes;
use kcd_bridge::kerberos::relay::RelayObserver;
use kcd_bridge::kerberos::{PendingReply, TicketFacts, TokenSource, Verdict};
use kcd_bridge::naming::name::OwnPrincipal;
use kcd_bridge::policy::{Target, TokenFormat};
use serde_json::Value;

use crate::delegation::{grant, kerberos_config, mapped, mbx1, negotiate, raw, soon, target};
use crate::isolation::account;
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::Device;
use crate::support::{Lab, eventually};

const LEGACY: &str = "HTTP/mbx2003.corp.example";
const UNSET: &str = "HTTP/unset.corp.example";
const MENDED: &str = "HTTP/mended.corp.example";
const AES: &str = "aes256-cts-hmac-sha1-96";
const RC4: &str = "arcfour-hmac";

/// The configuration of the lab permits RC4 to the whole process: whatever keeps it away here does so for one acquisition.
fn delegator(config: KerberosConfig) -> Delegator {
    Delegator::start(config, RelayObserver::default()).expect("the engine starts")
}

/// A token for alice that the back end accepted and answered, or why there is none.
async fn accepted(delegator: &Delegator, target: &Arc<Target>) -> Result<TicketFacts, Failure> {
    let lab = Lab::get();
    let issued = delegator.token(&grant(mapped(&lab, "alice").unwrap(), target), None, soon()).await?;
    let replays = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let acceptor = Acceptor::new(&lab.keytab("mbx"), Some(&replays)).expect("an acceptor");
    let accepted = acceptor.accept(&raw(issued.token), None).expect("the token is accepted");
    assert!(accepted.client.starts_with("alice"), "{accepted:?}");
    assert_eq!(issued.reply.judge(&[negotiate(&accepted.answer.unwrap())]), Ok(Verdict::Proved));
    Ok(issued.facts)
}

fn lax(spn: &str) -> Arc<Target> {
    target(spn, true, TokenFormat::Spnego)
}

fn strict(spn: &str) -> Arc<Target> {
    target(spn, false, TokenFormat::Spnego)
}

#[tokio::test]
async fn rc4_is_for_the_back_end_that_allows_it_and_for_no_other_of_the_same_process() {
    for engine in [Engine::Native, Engine::Gssapi] {
        let delegator = delegator(kerberos_config(&Lab::get(), engine));
        for round in ["cold", "with the other's ticket cached"] {
            let refused = accepted(&delegator, &strict(LEGACY)).await.unwrap_err();
            assert_eq!(refused.cause, Cause::WeakEtypeRefused, "{engine:?}, {round}: {refused}");
            // The KDC's own word: it was not offered RC4 for this one.
            assert!(refused.detail.contains("KDC has no support for encryption type"), "{engine:?}, {round}: {refused}");
            let legacy = accepted(&delegator, &lax(LEGACY)).await.unwrap();
            assert_eq!(legacy.etypes(), Etypes { ticket: 23, session_key: 23, evidence: 18 }, "{engine:?}, {round}");
            let modern = accepted(&delegator, &mbx1()).await.unwrap();
            assert_eq!(modern.etypes(), Etypes { ticket: 18, session_key: 18, evidence: 18 }, "{engine:?}, {round}");
        }
        let spared = accepted(&delegator, &lax("HTTP/mbx1.corp.example")).await.unwrap();
        assert_eq!((spared.ticket_etype, spared.session_etype), (18, 18), "{engine:?}: allowed is not wished for");
        let rc4: Vec<_> = delegator.encryption().rc4().into_iter().map(|rc4| (rc4.spn, rc4.users, rc4.unset)).collect();
        assert_eq!(rc4, [(LEGACY.to_owned(), 1, false)]);
    }
}

#[tokio::test]
async fn an_account_without_an_explicit_value_gets_an_aes_session_key_until_the_value_is_set() {
    let lab = Lab::get();
    let delegator_before = delegator(kerberos_config(&lab, Engine::Native));
    let before = accepted(&delegator_before, &lax(MENDED)).await.unwrap();
    assert_eq!(before.etypes(), Etypes { ticket: 23, session_key: 18, evidence: 18 });
    assert!(delegator_before.encryption().rc4()[0].unset);
    let refused = accepted(&delegator_before, &strict(MENDED)).await.unwrap_err();
    assert_eq!(refused.cause, Cause::WeakEtypeRefused);
    assert!(refused.detail.contains("Set-ADComputer MENDED"), "the detail names the repair: {refused}");

    // The repair as it is advised for Windows 2003.
    let _value = lab.set_encryption_types("svc-mended", 4);
    let delegator_after = delegator(kerberos_config(&lab, Engine::Native));
    let after = accepted(&delegator_after, &lax(MENDED)).await.unwrap();
    assert_eq!(after.etypes(), Etypes { ticket: 23, session_key: 23, evidence: 18 });
    assert_eq!(after.etypes().advice_on(MENDED, true), None);
}

/// As domain controllers of 2026 do with accounts that say nothing.
#[tokio::test]
async fn an_aes_ticket_for_a_back_end_that_allows_rc4_is_told_with_the_repair() {
    let lab = Lab::get();
    let delegator = delegator(kerberos_config(&lab, Engine::Native));
    let facts = accepted(&delegator, &lax("HTTP/mbx1.corp.example")).await.unwrap();
    assert_eq!(facts.etypes(), Etypes { ticket: 18, session_key: 18, evidence: 18 });
    let advice = facts.etypes().advice_on(&facts.spn, true).unwrap();
    assert!(advice.finding.contains("AES ticket") && advice.repair.contains("Set-ADComputer MBX1"), "{advice}");
    assert!(delegator.encryption().rc4().is_empty(), "nothing of it stops when RC4 is refused");
}

#[tokio::test]
async fn an_rc4_key_of_our_own_account_serves_only_where_rc4_is_allowed_and_is_counted() {
    let lab = Lab::get();
    let config = KerberosConfig {
        principal: OwnPrincipal::parse("svc-oldbridge@CORP.EXAMPLE").unwrap(),
        keytab: lab.keytab("oldbridge"),
        ..kerberos_config(&lab, Engine::Native)
    };
    let delegator = delegator(config);
    let refused = accepted(&delegator, &mbx1()).await.unwrap_err();
    assert_eq!(refused.cause, Cause::OwnEtypeNotSupported);
    assert!(refused.detail.contains("svc-oldbridge@CORP.EXAMPLE has no AES key"), "{refused}");
    let facts = accepted(&delegator, &lax("HTTP/mbx1.corp.example")).await.unwrap();
    assert_eq!(facts.etypes(), Etypes { ticket: 18, session_key: 18, evidence: 23 });
    let rc4 = delegator.encryption().rc4();
    assert_eq!((rc4[0].evidence, rc4[0].ticket, rc4[0].session_key), (1, 0, 0));
    assert!(rc4[0].repair.contains("kerberos.principal"), "{rc4:?}");
}

/// A back end of this name and its route.
fn backend(name: &str, host: &str, allow_rc4: bool) -> String {
    format!(
        "[[backend]]\nname = \"{name}\"\nurl = \"http://{host}.corp.example\"\ntransport = \"http\"\n\
         spn = \"HTTP/{host}.corp.example\"\nallow_rc4 = {allow_rc4}\n[[route]]\npath = \"/{name}\"\nbackend = \"{name}\"\n"
    )
}

/// mbx1 as ever; two more that allow RC4, and one that ought to.
fn settings(lab: &Lab) -> Settings {
    let more = [backend("legacy", "mbx2003", true), backend("unset", "unset", true), backend("wary", "mbx2003", false)].concat();
    Settings { more: format!("{more}[metrics]\nfile = \"bridge.prom\"\ninterval = \"1s\"\n"), ..Settings::new(lab) }
}

#[tokio::test]
async fn log_audit_metrics_and_forecast_name_the_encryption_types_and_the_account_that_wants_repair() {
    let lab = Lab::get();
    let bridge = Bridge::start(&settings(&lab));
    for user in ["alice", "bob"] {
        let mut device = Device::connect(&lab, bridge.address, user).await;
        for path in ["/Microsoft-Server-ActiveSync", "/legacy", "/unset"] {
            let answer = device.request(Method::POST, path, "body").await;
            assert_eq!((answer.status, account(answer.user())), (200, user), "{path}: {answer:?}");
        }
        assert_eq!(device.request(Method::POST, "/wary", "body").await.status, 503);
    }
    let types = |event: &Value| ["etype", "session_etype", "evidence_etype"].map(|field| event["ticket"][field].clone());
    for (backend, expected) in [("mbx1", [AES, AES, AES]), ("legacy", [RC4, RC4, AES]), ("unset", [RC4, AES, AES])] {
        let event = bridge.audited(backend, |event| event["backend"] == backend);
        assert_eq!(types(&event), expected.map(Value::from), "{event}");
    }
    let refused = bridge.audited("the refusal", |event| event["backend"] == "wary");
    assert_eq!((&refused["reason"], &refused["ticket"]), (&"weak-etype-refused".into(), &Value::Null), "{refused}");

    let log = bridge.log();
    let acquired = format!("spn=\"{LEGACY}\"");
    let line = log.lines().find(|line| line.contains("ticket acquired") && line.contains(&acquired)).expect("the log line");
    for said in [format!("etype=\"{RC4}\""), format!("session_etype=\"{RC4}\""), format!("evidence_etype=\"{AES}\"")] {
        assert!(line.contains(&said), "{said}: {line}");
    }
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("says nothing of encryption types") && line.contains("WARN")).collect();
    assert_eq!(told.len(), 1, "once, not once a user: {told:?}");
    assert!(told[0].contains(UNSET) && told[0].contains("Set-ADComputer UNSET") && told[0].contains("=4"), "{}", told[0]);

    let metric = |spn: &str, etype: &str, session: &str| {
        format!("kcd_bridge_service_tickets_total{{spn=\"{spn}\",etype=\"{etype}\",session_etype=\"{session}\"}} 2")
    };
    let wanted = [metric("HTTP/mbx1.corp.example", AES, AES), metric(LEGACY, RC4, RC4), metric(UNSET, RC4, AES)];
    eventually("the metrics", || {
        let text = std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).unwrap_or_default();
        let evidence = format!("kcd_bridge_evidence_tickets_total{{etype=\"{AES}\"}} 6");
        wanted.iter().chain([&evidence]).all(|line| text.lines().any(|found| found == line)).then_some(())
    });

    eventually("all events", || (bridge.audit().len() >= 8).then_some(()));
    let forecast = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"))
        .args(["forecast", "--json"])
        .arg(bridge.directory.path().join("audit.jsonl"))
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&forecast.stdout).unwrap();
    let stops: Vec<_> = report["rc4"].as_array().unwrap().iter().map(|rc4| (&rc4["spn"], &rc4["users"], &rc4["unset"])).collect();
    assert_eq!(stops, [(&LEGACY.into(), &2.into(), &false.into()), (&UNSET.into(), &2.into(), &true.into())]);
    assert_eq!((&report["spns"], forecast.status.code()), (&3.into(), Some(1)));
}

#[tokio::test]
async fn a_process_that_allows_rc4_nowhere_refuses_an_rc4_back_end_by_name() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.more = [backend("wary", "mbx2003", false), backend("unset", "unset", false)].concat();
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    for path in ["/wary", "/unset"] {
        assert_eq!(device.request(Method::POST, path, "body").await.status, 503);
        let event = bridge.audited(path, |event| event["path"] == path);
        assert_eq!(event["reason"], "weak-etype-refused", "{event}");
    }
}

#[test]
fn the_doctor_warns_of_an_account_without_an_explicit_value_and_names_the_repair() {
    let lab = Lab::get();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("kcd-bridge.toml");
    std::fs::write(&config, settings(&lab).text(directory.path())).unwrap();
    let doctor = |backend: &str, json: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
        command.arg("doctor").arg("--config").arg(&config);
        command.args(["--user", "alice@corp.example", "--backend", backend]).args(json);
        command.output().expect("the doctor runs")
    };
    let stage = |backend: &str| {
        let output = doctor(backend, &["--json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "s4u2proxy").cloned().unwrap()
    };
    let unset = stage("unset");
    assert!(unset["seen"].as_str().unwrap().contains(&format!("{RC4}, session key {AES}")), "{unset}");
    assert!(unset["warning"].as_str().unwrap().contains("says nothing of encryption types"), "{unset}");
    assert!(unset["remedy"].as_str().unwrap().contains("Set-ADComputer UNSET"), "{unset}");
    for silent in ["legacy", "mbx1"] {
        assert_eq!((&stage(silent)["warning"], &stage(silent)["remedy"]), (&Value::Null, &Value::Null));
    }
    let text = String::from_utf8(doctor("unset", &[]).stdout).unwrap();
    assert!(
        text.contains("       warning: RC4 ticket") && text.contains("       remedy: Windows 2003: Set-ADComputer"),
        "{text}"
    );
}

#[test]
fn the_doctor_warns_of_an_rc4_key_of_our_own_account() {
    let lab = Lab::get();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("kcd-bridge.toml");
    let principal = "svc-oldbridge@CORP.EXAMPLE".into();
    let settings = Settings { principal, keytab: lab.keytab("oldbridge"), ..settings(&lab) };
    std::fs::write(&config, settings.text(directory.path())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
    command.arg("doctor").arg("--config").arg(&config).args(["--user", "alice@corp.example", "--backend", "legacy", "--json"]);
    let output = command.output().expect("the doctor runs");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["good"], true, "{report:#}");
    let identity = report["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "identity").unwrap();
    assert!(identity["seen"].as_str().unwrap().ends_with(RC4), "{identity}");
    assert!(identity["warning"].as_str().unwrap().contains("own account has no AES key"), "{identity}");
    assert!(identity["remedy"].as_str().unwrap().contains("AES128,AES256"), "{identity}");
}
