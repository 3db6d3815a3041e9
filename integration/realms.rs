//! Users and back ends of other realms, and resource-based delegation: MIT realms with trusts (`integration/lab/realms.py`), and Samba
//! where its answers differ. The table in `docs/realms.md` is what these tests found.
//!
//! ```text
//! EAST.EXAMPLE (the bridge) <-> WEST.EXAMPLE <-> SOUTH.EXAMPLE        NORTH.EXAMPLE: referred to, not listed
//! HTTP/mbx.*      on the bridge's list          (classic)
//! HTTP/open.*     have the bridge on their list (resource-based)
//! HTTP/closed.*   neither
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::Method;
use kcd_bridge::failure::{Failure, Stage};
use kcd_bridge::kerberos::TokenSource;
use kcd_bridge::kerberos::acquire::gss::acceptor::Acceptor;
use kcd_bridge::kerberos::config::{Engine, KerberosConfig};
use kcd_bridge::kerberos::delegator::Delegator;
use kcd_bridge::kerberos::relay::RelayObserver;
use kcd_bridge::naming::name::OwnPrincipal;
use kcd_bridge::policy::TokenFormat;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::delegation::{grant, kerberos_config, mapped, raw, soon, target};
use crate::doctor::{fails_at, report, seen};
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Answer, Device, PATH};
use crate::support::{Lab, read};

/// With protocol transition; the same list without it; without any list; as the second, at a KDC that treats evidence as Windows does.
const TRANSITION: &str = "svc-transition";
const PLAIN: &str = "svc-plain";
const LISTLESS: &str = "svc-listless";
const WINDOWS: &str = "svc-windows";

/// Enterprise name, account, and the name that stands for it in log and audit.
const USERS: [[&str; 3]; 7] = [
    ["alice@east.example", "alice@EAST.EXAMPLE", "EAST\\alice"],
    ["alice@alias.example", "alice@EAST.EXAMPLE", "EAST\\alice"],
    ["alice@west.example", "alice@WEST.EXAMPLE", "WEST\\alice"],
    ["wendy@west.example", "wendy@WEST.EXAMPLE", "WEST\\wendy"],
    ["wendy@brand.example", "wendy@WEST.EXAMPLE", "WEST\\wendy"],
    ["walter.w@brand.example", "walter@WEST.EXAMPLE", "WEST\\walter"],
    ["susan@south.example", "susan@SOUTH.EXAMPLE", "SOUTH\\susan"],
];
const ONE_OF_EACH_REALM: [&str; 3] = ["alice@east.example", "wendy@west.example", "susan@south.example"];

impl Lab {
    /// The SID of an account of the MIT realms.
    fn realm_sid(&self, account: &str) -> String {
        let table = read(&self.path("realms/sids.tsv"));
        let sid = table.lines().find_map(|row| row.strip_prefix(account)?.strip_prefix('\t'));
        sid.unwrap_or_else(|| panic!("{account} is in sids.tsv")).to_owned()
    }

    /// `host:port` of a realm's KDC.
    pub fn realm_kdc(&self, realm: &str) -> String {
        let table = read(&self.path("realms/kdcs.tsv"));
        let kdc = table.lines().find_map(|row| row.strip_prefix(realm)?.strip_prefix('\t'));
        kdc.unwrap_or_else(|| panic!("{realm} is in kdcs.tsv")).replace('\t', ":")
    }
}

/// A bridge in EAST.EXAMPLE that has these other realms in its configuration.
pub fn in_east(lab: &Lab, account: &str, others: &[&str]) -> Settings {
    let listed = others.iter().map(|realm| format!("[kerberos.realms.{realm:?}]\nkdcs = [{:?}]\n", lab.realm_kdc(realm)));
    Settings {
        keytab: lab.path(&format!("realms/{account}.keytab")),
        principal: format!("{account}@EAST.EXAMPLE"),
        kdcs: format!("kdcs = [{:?}]", lab.realm_kdc("EAST.EXAMPLE")),
        more: listed.collect(),
        ..Settings::new(lab)
    }
}

fn with_all_realms(lab: &Lab, account: &str) -> Settings {
    in_east(lab, account, &["WEST.EXAMPLE", "SOUTH.EXAMPLE"])
}

fn examine(settings: &Settings, user: &str, host: &str) -> Value {
    report(settings, &["--user", user, "--spn", &format!("HTTP/{host}.example")])
}

fn is_delegated(settings: &Settings, user: &str, host: &str) {
    let report = examine(settings, user, host);
    assert_eq!(report["good"], true, "{user} to {host}: {report:#}");
    let realm = host.rsplit_once('.').expect("a realm").1.to_ascii_uppercase();
    let ticket = seen(&report, "s4u2proxy");
    assert!(ticket.contains(&format!("HTTP/{host}.example@{realm}.EXAMPLE")), "{user}: {ticket}");
}

/// S4U2Proxy is refused with `KDC_ERR_BADOPTION` by the KDC of `realm`, which says `text` (MIT's own words).
fn is_refused(settings: &Settings, user: &str, host: &str, realm: &str, text: &str) {
    let report = examine(settings, user, host);
    assert_eq!(report["good"], false, "{user} to {host}: {report:#}");
    let words = seen(&report, "s4u2proxy");
    let expected = format!("KDC {}: 13 KDC_ERR_BADOPTION, \"{text}\"", settings.lab.realm_kdc(realm));
    assert!(words.contains(&expected), "{user} to {host}: {words}");
}

/// An account may be called by many names; SID and logon name are one.
#[test]
fn users_of_every_realm_and_of_every_upn_suffix_are_found_by_their_enterprise_names() {
    let lab = Lab::get();
    let settings = with_all_realms(&lab, TRANSITION);
    for [upn, account, logon_name] in USERS {
        let report = examine(&settings, upn, "mbx.east");
        assert_eq!(report["good"], true, "{upn}: {report:#}");
        let identity = seen(&report, "identity");
        let expected = format!(" is {logon_name}, SID {}, forwardable", lab.realm_sid(account));
        assert!(identity.contains(&expected), "{upn}: {identity}");
    }
}

#[test]
fn a_user_whom_the_realm_that_was_referred_to_does_not_know_is_refused_there() {
    let lab = Lab::get();
    let settings = with_all_realms(&lab, TRANSITION);
    let rows = [
        ("nobody@west.example", "WEST.EXAMPLE"),
        ("nobody@south.example", "SOUTH.EXAMPLE"),
        ("nobody@nowhere.example", "EAST.EXAMPLE"),
    ];
    for (user, realm) in rows {
        let report = examine(&settings, user, "mbx.east");
        fails_at(&report, "s4u2self", "user-unknown");
        let words = seen(&report, "s4u2self");
        assert!(words.contains(&format!("KDC {}: 6 ", lab.realm_kdc(realm))), "{user}: {words}");
    }
}

/// That a list holds an SPN of another realm is of no use: that realm's KDC asks the back end's own list (MS-SFU 3.2.5.2.2).
#[test]
fn classic_delegation_reaches_back_ends_of_the_bridges_realm_for_users_of_every_realm_and_no_others() {
    let settings = with_all_realms(&Lab::get(), TRANSITION);
    for user in ONE_OF_EACH_REALM {
        is_delegated(&settings, user, "mbx.east");
        is_refused(&settings, user, "closed.east", "EAST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
        is_refused(&settings, user, "mbx.west", "WEST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
        is_refused(&settings, user, "mbx.south", "SOUTH.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
    }
}

#[test]
fn resource_based_delegation_reaches_back_ends_of_every_realm_for_users_of_every_realm() {
    let lab = Lab::get();
    for account in [TRANSITION, LISTLESS] {
        let settings = with_all_realms(&lab, account);
        for user in ONE_OF_EACH_REALM {
            for host in ["open.east", "open.west", "open.south"] {
                is_delegated(&settings, user, host);
            }
        }
        is_refused(&settings, "wendy@west.example", "closed.east", "EAST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
        is_refused(&settings, "alice@east.example", "closed.west", "WEST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
        is_refused(&settings, "susan@south.example", "closed.south", "SOUTH.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
    }
    is_refused(&with_all_realms(&lab, LISTLESS), "alice@east.example", "mbx.east", "EAST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
}

/// MIT's KDC as it is takes such evidence for nothing.
#[test]
fn mits_kdc_refuses_evidence_that_is_not_forwardable_for_either_kind_of_delegation() {
    let lab = Lab::get();
    let rows = [
        (PLAIN, "alice@east.example"),
        (PLAIN, "wendy@west.example"),
        (TRANSITION, "carol@east.example"),
        (TRANSITION, "wcarol@west.example"),
        (LISTLESS, "wcarol@west.example"),
    ];
    for (account, user) in rows {
        let settings = with_all_realms(&lab, account);
        for host in ["mbx.east", "open.east", "open.west"] {
            is_refused(&settings, user, host, "EAST.EXAMPLE", "EVIDENCE_TKT_NOT_FORWARDABLE");
        }
    }
}

/// MS-SFU 3.2.5.2.2, by the database module, which hides the lack of the flag from MIT's KDC for this account.
#[test]
fn where_the_kdc_takes_it_such_evidence_serves_for_resource_based_delegation_of_all_but_sensitive_users() {
    let settings = with_all_realms(&Lab::get(), WINDOWS);
    for user in ONE_OF_EACH_REALM {
        for host in ["open.east", "open.west", "open.south"] {
            is_delegated(&settings, user, host);
        }
        let report = examine(&settings, user, "mbx.east");
        assert!(seen(&report, "identity").contains(", NOT forwardable,"), "{report:#}");
        is_refused(&settings, user, "mbx.east", "EAST.EXAMPLE", "NOT_ALLOWED_TO_DELEGATE");
    }
    for sensitive in ["carol@east.example", "wcarol@west.example"] {
        for host in ["open.east", "open.west"] {
            is_refused(&settings, sensitive, host, "EAST.EXAMPLE", "HANDLE_AUTHDATA");
        }
    }
}

#[test]
fn a_realm_that_the_configuration_does_not_list_is_named_wherever_it_is_needed() {
    let lab = Lab::get();
    let everything = with_all_realms(&lab, TRANSITION);
    let no_south = in_east(&lab, TRANSITION, &["WEST.EXAMPLE"]);
    let no_west = in_east(&lab, TRANSITION, &["SOUTH.EXAMPLE"]);
    let rows = [
        (&everything, "x@north.example", "mbx.east", "s4u2self", "NORTH.EXAMPLE"),
        (&everything, "alice@east.example", "x.north", "s4u2proxy", "NORTH.EXAMPLE"),
        (&no_south, "susan@south.example", "mbx.east", "s4u2self", "SOUTH.EXAMPLE"),
        (&no_south, "alice@east.example", "open.south", "s4u2proxy", "SOUTH.EXAMPLE"),
        (&no_west, "wendy@brand.example", "mbx.east", "s4u2self", "WEST.EXAMPLE"),
        // Only on the way there.
        (&no_west, "susan@south.example", "mbx.east", "s4u2self", "WEST.EXAMPLE"),
        (&no_west, "alice@east.example", "open.south", "s4u2proxy", "WEST.EXAMPLE"),
    ];
    for (settings, user, host, stage, realm) in rows {
        let report = examine(settings, user, host);
        fails_at(&report, stage, "realm-unknown");
        let words = seen(&report, stage);
        assert!(words.contains(&format!("realm {realm} is not listed")), "{user} to {host}: {words}");
    }
    // Who needs no other realm is served all the same.
    is_delegated(&in_east(&lab, TRANSITION, &[]), "alice@alias.example", "mbx.east");
}

/// A web server that takes Negotiate only and says whom it saw.
async fn back_end(keytab: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // It ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(converse(connection, keytab.clone()));
        }
    });
    address
}

async fn converse(mut connection: TcpStream, keytab: PathBuf) {
    let mut head = Vec::new();
    loop {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let answer = answer(&String::from_utf8_lossy(&head), &keytab);
        head.clear();
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(head: &str, keytab: &Path) -> String {
    let acceptor = Acceptor::new(keytab, None).expect("an acceptor");
    let token = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.strip_prefix("Negotiate "))?
    });
    let accepted = token.map(|token| base64_simd::STANDARD.decode_to_vec(token).expect("base64"));
    match accepted.map(|token| acceptor.accept(&token, None)) {
        Some(Ok(accepted)) => {
            let proof = base64_simd::STANDARD.encode_to_string(accepted.answer.unwrap_or_default());
            let user = accepted.client;
            format!(
                "HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate {proof}\r\nX-Backend-User: {user}\r\nContent-Length: 0\r\n\r\n"
            )
        }
        refused => {
            eprintln!("the back end refuses: {refused:?}");
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
    }
}

/// Every certificate that names an account does it by UPN and SID; rows for those that name nobody.
fn mapping(lab: &Lab, rows: &[(&str, &str, String)]) -> String {
    use sha2::Digest as _;
    let rows = rows.iter().map(|(certificate, principal, sid)| {
        let digest = sha2::Sha256::digest(lab.certificate(certificate));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[mapping.entry]]\ncertificate_sha256 = {digest:?}\nprincipal = {principal:?}\nsid = {sid:?}\n")
    });
    format!("[[mapping]]\nrule = \"upn-with-sid\"\n[[mapping]]\nrule = \"static\"\n{}", rows.collect::<String>())
}

/// certificate, by what name it is mapped, who the back end sees, the account
const MAPPED: [[&str; 4]; 6] = [
    ["east-alice", "alice@alias.example", "alice\\@alias.example@EAST.EXAMPLE", "alice@EAST.EXAMPLE"],
    ["nobody1", "alice@EAST.EXAMPLE", "alice@EAST.EXAMPLE", "alice@EAST.EXAMPLE"],
    ["west-wendy", "wendy@brand.example", "wendy\\@brand.example@WEST.EXAMPLE", "wendy@WEST.EXAMPLE"],
    ["nobody2", "wendy@WEST.EXAMPLE", "wendy@WEST.EXAMPLE", "wendy@WEST.EXAMPLE"],
    ["south-susan", "susan@south.example", "susan\\@south.example@SOUTH.EXAMPLE", "susan@SOUTH.EXAMPLE"],
    ["nobody3", "susan@SOUTH.EXAMPLE", "susan@SOUTH.EXAMPLE", "susan@SOUTH.EXAMPLE"],
];
/// Account, engine, back ends: the first by its own list, the last without forwardable evidence.
const BRIDGES: [(&str, &str, [&str; 3]); 3] = [
    (TRANSITION, "native", ["mbx.east", "open.west", "open.south"]),
    (TRANSITION, "gssapi", ["mbx.east", "open.west", "open.south"]),
    (WINDOWS, "native", ["open.east", "open.west", "open.south"]),
];

/// The whole bridge: mapping, relay, both engines, token, proof of the server, audit.
#[tokio::test]
async fn an_account_of_any_realm_reaches_back_ends_of_any_realm_and_is_audited_as_one_account_whatever_its_name() {
    let lab = Lab::get();
    let rows = MAPPED.iter().filter(|[certificate, ..]| certificate.starts_with("nobody"));
    let mut rows: Vec<_> = rows.map(|[certificate, name, _, account]| (*certificate, *name, lab.realm_sid(account))).collect();
    // The right name in the wrong realm.
    rows.push(("nobody4", "alice@WEST.EXAMPLE", lab.realm_sid("alice@EAST.EXAMPLE")));
    let address = back_end(lab.path("realms/services.keytab")).await;
    for (account, engine, hosts) in BRIDGES {
        let mut settings = with_all_realms(&lab, account);
        settings.mapping = mapping(&lab, &rows);
        settings.kerberos = format!("engine = {engine:?}\n");
        settings.more.extend(hosts.map(|host| {
            format!(
                "[[backend]]\nname = \"{host}\"\nurl = \"http://{address}\"\ntransport = \"http\"\nspn = \"HTTP/{host}.example\"\n\
                 [[route]]\npath = \"/{host}\"\nbackend = \"{host}\"\n"
            )
        }));
        let bridge = Bridge::start(&settings);
        for [certificate, name, client, account] in MAPPED {
            let (user, realm) = account.split_once('@').expect("a realm");
            let logon_name = format!("{}\\{user}", realm.strip_suffix(".EXAMPLE").expect("a domain"));
            let mut device = Device::connect(&lab, bridge.address, certificate).await;
            for host in hosts {
                let answer = device.request(Method::OPTIONS, &format!("/{host}"), "").await;
                assert_eq!((answer.status, answer.user()), (200, Some(client)), "{engine}: {certificate} to {host}");
                let event = event_of(&bridge, &answer);
                assert_eq!(event["principal"], *name);
                assert_eq!((&event["account"], &event["sid"]), (&(*logon_name).into(), &lab.realm_sid(account).into()));
                assert_eq!(event["ticket"]["client"], *client);
            }
        }
        for certificate in ["two-alices", "nobody4"] {
            let mut device = Device::connect(&lab, bridge.address, certificate).await;
            let answer = device.request(Method::OPTIONS, &format!("/{}", hosts[0]), "").await;
            let event = event_of(&bridge, &answer);
            assert_eq!((answer.status, &event["reason"]), (403, &"sid-mismatch".into()), "{certificate}");
            assert_eq!(event["account"], Value::Null, "nobody was proved");
        }
    }
}

fn event_of(bridge: &Bridge, answer: &Answer) -> Value {
    let id = answer.header("x-kcd-correlation-id").expect("an id");
    bridge.audited("the request's event", |event| event["correlation_id"] == *id)
}

#[tokio::test]
async fn two_names_of_one_account_of_the_domain_are_one_account_in_log_and_audit() {
    let lab = Lab::get();
    let sid = lab.sid("alice");
    let mut settings = Settings::new(&lab);
    settings.mapping = mapping(&lab, &[("nobody1", "alice@CORP.EXAMPLE", sid.clone())]);
    let bridge = Bridge::start(&settings);
    for (certificate, principal) in [("alice", "alice@corp.example"), ("nobody1", "alice@CORP.EXAMPLE")] {
        let mut device = Device::connect(&lab, bridge.address, certificate).await;
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!(answer.status, 200, "{certificate}");
        let event = event_of(&bridge, &answer);
        assert_eq!((&event["principal"], &event["account"]), (&principal.into(), &"CORP\\alice".into()));
        assert_eq!(event["sid"], *sid);
    }
    let acquired = bridge.log().lines().filter(|line| line.contains(r#"account="CORP\\alice""#)).count();
    assert_eq!(acquired, 2, "two tickets, one account");
}

/// The engine in this process, in the domain, as another account.
async fn in_the_domain(account: &str, keytab: &str, user: &str, spn: &str) -> Result<String, Failure> {
    let lab = Lab::get();
    let config = KerberosConfig {
        principal: OwnPrincipal::parse(&format!("{account}@CORP.EXAMPLE")).expect("a principal"),
        keytab: lab.keytab(keytab),
        ..kerberos_config(&lab, Engine::Native)
    };
    let delegator = Delegator::start(config, RelayObserver::default()).expect("the engine starts");
    let grant = grant(mapped(&lab, user).expect("a principal"), &target(spn, false, TokenFormat::Spnego));
    let issued = delegator.token(&grant, None, soon()).await?;
    assert_eq!(issued.facts.sid.as_ref().map(ToString::to_string), Some(lab.sid(user)));
    let accepted = Acceptor::new(&lab.keytab("resource"), None).expect("an acceptor").accept(&raw(issued.token), None);
    Ok(accepted.expect("the back end accepts").client)
}

const RESOURCE: &str = "HTTP/resource.corp.example";

/// The back end's own list is the only one that has us.
#[tokio::test]
async fn on_samba_resource_based_delegation_needs_no_list_of_ours() {
    let client = in_the_domain("svc-bridge", "bridge", "alice", RESOURCE).await.expect("delegated");
    assert!(client.starts_with("alice"), "{client}");
    // Neither list.
    is_refused_by_samba("svc-bridge", "bridge", "alice", "HTTP/notlisted.corp.example").await;
}

/// Samba's KDC, unlike Windows, takes such evidence for nothing. That it was asked shows that the bridge leaves this to the KDC.
#[tokio::test]
async fn on_samba_evidence_that_is_not_forwardable_is_sent_and_refused_whoever_is_the_reason() {
    let rows = [
        ("svc-plain", "plain-bridge", "alice"),
        // Without any list, Windows and MIT give forwardable evidence (MS-SFU 3.2.5.1.2); Samba wants protocol transition.
        ("svc-listless", "listless-bridge", "alice"),
        ("svc-bridge", "bridge", "carol"),
    ];
    for (account, keytab, user) in rows {
        for spn in [RESOURCE, "HTTP/mbx1.corp.example"] {
            is_refused_by_samba(account, keytab, user, spn).await;
        }
    }
}

/// `KDC_ERR_BADOPTION` at S4U2Proxy: the request was made, and Samba says no more than this.
async fn is_refused_by_samba(account: &str, keytab: &str, user: &str, spn: &str) {
    let failure = in_the_domain(account, keytab, user, spn).await.expect_err(account);
    assert_eq!(failure.cause.stage(), Stage::S4u2Proxy, "{account}, {user} to {spn}: {failure}");
    assert!(failure.detail.contains("[KRB-ERROR 13]"), "{account}, {user} to {spn}: {failure}");
}
