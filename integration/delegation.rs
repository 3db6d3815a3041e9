//! S4U2Self and S4U2Proxy in this process against the domain: the allow/deny matrix, and who comes out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::identity::{AccountRules, Mapper, Principal, RequestedName, RuleConfig, RuleSettings};
use kcd_bridge::kerberos::acquire::gss::acceptor::Acceptor;
use kcd_bridge::kerberos::acquire::gss::{Impersonator, ReferenceContext};
use kcd_bridge::kerberos::config::{Engine, KdcAddress, KdcSource, KerberosConfig};
use kcd_bridge::kerberos::delegator::Delegator;
use kcd_bridge::kerberos::relay::RelayObserver;
use kcd_bridge::kerberos::{ChannelBinding, IssuedToken, PendingReply, TokenSource, Verdict};
use kcd_bridge::naming::name::{OwnPrincipal, Spn};
use kcd_bridge::policy::{Fingerprint, Grant, Target, TokenFormat};
use kcd_bridge::revocation::{RevocationConfig, RevocationPolicy};
use kcd_bridge::tls::{ClientTrustConfig, Trust};
use kcd_bridge::x509::Claims;

use crate::support::Lab;
use crate::support::domain::{deadline, now, revocation_config};

pub fn kerberos_config(lab: &Lab, engine: Engine) -> KerberosConfig {
    let principal = OwnPrincipal::parse(&lab.variable("KCD_PRINCIPAL")).unwrap();
    let kdc = KdcAddress { host: lab.variable("KCD_KDC"), port: 88 };
    KerberosConfig {
        realms: [(principal.realm().clone(), KdcSource::List(vec![kdc]))].into(),
        canaries: std::collections::BTreeMap::new(),
        paces: std::collections::BTreeMap::new(),
        principal,
        keytab: lab.keytab("bridge"),
        engine,
        workers: 2,
        queue: 64,
        acquire_timeout: Duration::from_secs(5),
        kdc_timeout: Duration::from_secs(2),
        soft_age: Duration::from_mins(15),
        max_ride_through: Duration::from_hours(1),
        clock_skew: Duration::from_mins(5),
        cache_bytes: 64 << 20,
        denied_groups: vec![512, 516, 518, 519, 521],
        denied_accounts: vec![500],
        runtime_directory: lab.path("unused"),
    }
}

pub fn target(spn: &str, allow_rc4: bool, token_format: TokenFormat) -> Arc<Target> {
    Arc::new(Target { name: "test".into(), spn: Spn::parse(spn).unwrap(), allow_rc4, token_format })
}

pub fn mbx1() -> Arc<Target> {
    target("HTTP/mbx1.corp.example", false, TokenFormat::Spnego)
}

/// The principal a certificate of the lab maps to, by the same way the bridge takes.
pub fn mapped(lab: &Lab, certificate: &str) -> Result<Arc<Principal>, Failure> {
    mapped_by(lab, certificate, RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![] })
}

fn mapped_by(lab: &Lab, certificate: &str, rule: RuleSettings) -> Result<Arc<Principal>, Failure> {
    let revocation =
        RevocationConfig { crl_files: vec![lab.pki("device-ca.crl")], ..revocation_config(RevocationPolicy::Require) };
    let trust = Trust::load_once(&ClientTrustConfig { revocation, ..lab.trust_config() }, None).expect("the trust loads");
    let mapper = Mapper::load(&[RuleConfig::for_all(rule)], &AccountRules::default(), None).expect("the rules load");
    let chain = [lab.certificate(certificate)];
    let resolve = async {
        let admitted = trust.admit(&chain, now(), deadline()).await?;
        mapper.resolve(&admitted, &Claims::read(&admitted)?, deadline()).await
    };
    // Called within runtimes, which may not wait for another one on their own thread.
    let wait = || tokio::runtime::Runtime::new().expect("a runtime").block_on(resolve);
    std::thread::scope(|scope| scope.spawn(wait).join()).expect("no panic")
}

/// The engine without a relay: krb5.conf of the lab names the KDC itself.
fn start(config: KerberosConfig) -> Result<Arc<Delegator>, Failure> {
    Delegator::start(config, RelayObserver::default()).map(Arc::new)
}

pub fn grant(principal: Arc<Principal>, target: &Arc<Target>) -> Grant {
    Grant::authorize(principal, Fingerprint([0; 32]), Arc::clone(target))
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn token_for(
    engine: Engine,
    principal: Arc<Principal>,
    target: &Arc<Target>,
) -> Result<IssuedToken<<Delegator as TokenSource>::Reply>, Failure> {
    let delegator = start(kerberos_config(&Lab::get(), engine)).expect("the engine starts");
    delegator.token(&grant(principal, target), None, soon()).await
}

async fn refusal(principal: Arc<Principal>, target: &Arc<Target>) -> Failure {
    token_for(Engine::Native, principal, target).await.map(|_| ()).expect_err("a refusal")
}

fn account(name: &str) -> Arc<Principal> {
    Arc::new(Principal::for_diagnosis(RequestedName::Enterprise(name.into())))
}

/// Negotiate header value of a token, decoded again: what the acceptor is fed.
pub fn raw(token: kcd_bridge::kerberos::NegotiateToken) -> Vec<u8> {
    let header = token.into_header();
    let text = header.to_str().unwrap().strip_prefix("Negotiate ").unwrap().to_owned();
    base64_simd::STANDARD.decode_to_vec(text).unwrap()
}

pub fn negotiate(answer: &[u8]) -> http::HeaderValue {
    format!("Negotiate {}", base64_simd::STANDARD.encode_to_string(answer)).parse().unwrap()
}

fn acceptor(keytab: &Path) -> Acceptor {
    let replays = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    Acceptor::new(keytab, Some(&replays)).expect("an acceptor")
}

#[tokio::test]
async fn a_user_is_delegated_and_the_service_sees_that_user_from_both_engines() {
    let lab = Lab::get();
    for engine in [Engine::Native, Engine::Gssapi] {
        for user in ["alice", "bob", "frank"] {
            let issued = token_for(engine, mapped(&lab, user).unwrap(), &mbx1()).await.unwrap();
            assert_eq!(issued.facts.sid.as_ref().unwrap().to_string(), lab.sid(user));
            assert_eq!((issued.facts.ticket_etype, issued.facts.session_etype), (18, 18));
            let accepted = acceptor(&lab.keytab("mbx")).accept(&raw(issued.token), None).unwrap();
            let account = accepted.client.split(['\\', '@']).next();
            assert_eq!(account, Some(user), "{engine:?}: {accepted:?}");
            assert!(accepted.complete);
            let verdict = issued.reply.judge(&[negotiate(&accepted.answer.unwrap())]);
            assert_eq!(verdict, Ok(Verdict::Proved), "{engine:?}");
        }
    }
}

#[tokio::test]
async fn a_token_used_twice_is_refused_as_a_replay() {
    let lab = Lab::get();
    let acceptor = acceptor(&lab.keytab("mbx"));
    for engine in [Engine::Native, Engine::Gssapi] {
        let token = raw(token_for(engine, mapped(&lab, "alice").unwrap(), &mbx1()).await.unwrap().token);
        acceptor.accept(&token, None).unwrap();
        let error = acceptor.accept(&token, None).unwrap_err();
        // KRB_AP_ERR_REPEAT (RFC 4120 section 7.5.9), in the library's own numbering of duplicate tokens.
        assert!(error.to_string().contains("replay"), "{error}");
    }
}

#[tokio::test]
async fn a_user_who_cannot_be_delegated_is_named_as_such() {
    let failure = refusal(mapped(&Lab::get(), "carol").unwrap(), &mbx1()).await;
    assert_eq!(failure.cause, Cause::UserNotDelegable, "{failure}");
}

#[tokio::test]
async fn a_disabled_account_is_refused_at_s4u2self() {
    let failure = refusal(mapped(&Lab::get(), "dave").unwrap(), &mbx1()).await;
    assert_eq!(failure.cause, Cause::UserRevoked, "{failure}");
}

#[tokio::test]
async fn an_unknown_user_is_refused_at_s4u2self() {
    let failure = refusal(account("nobody@corp.example"), &mbx1()).await;
    assert_eq!(failure.cause, Cause::UserUnknown, "{failure}");
}

#[tokio::test]
async fn an_spn_that_is_not_on_the_delegation_list_is_refused() {
    let target = target("HTTP/notlisted.corp.example", false, TokenFormat::Spnego);
    let failure = refusal(mapped(&Lab::get(), "alice").unwrap(), &target).await;
    assert_eq!(failure.cause, Cause::SpnNotListed, "{failure}");
}

#[tokio::test]
async fn an_spn_that_does_not_exist_is_named_as_such() {
    let target = target("HTTP/nosuch.corp.example", false, TokenFormat::Spnego);
    let failure = refusal(mapped(&Lab::get(), "alice").unwrap(), &target).await;
    assert_eq!(failure.cause, Cause::SpnUnknown, "{failure}");
}

/// CVE-2021-42287 and its kin: without `$` the KDC finds the domain controller's machine account, and the ticket's name hides it.
#[tokio::test]
async fn a_upn_that_the_kdc_resolves_to_a_machine_account_is_refused() {
    let lab = Lab::get();
    // The certificate names the machine's own SID, so only the kind of the account can refuse it.
    let failure = refusal(mapped(&lab, "dollar").unwrap(), &mbx1()).await;
    assert_eq!(failure.cause, Cause::AccountKindRefused, "{failure}");
    let failure = refusal(account("dc1@corp.example"), &mbx1()).await;
    assert_eq!(failure.cause, Cause::AccountKindRefused, "{failure}");
}

/// The ticket's name is the one that was asked for and does not say that it is our own account; the PAC does.
#[tokio::test]
async fn the_bridges_own_account_is_never_delegated_whatever_name_it_is_asked_for_by() {
    for name in ["svc-bridge@corp.example", "SVC-Bridge@CORP.EXAMPLE"] {
        let failure = refusal(account(name), &mbx1()).await;
        assert!(matches!(failure.cause, Cause::AccountKindRefused | Cause::IdentityFallback), "{name}: {failure}");
    }
}

#[tokio::test]
async fn a_certificate_with_another_accounts_sid_is_refused() {
    let failure = refusal(mapped(&Lab::get(), "alice-wrong-sid").unwrap(), &mbx1()).await;
    assert_eq!(failure.cause, Cause::SidMismatch, "{failure}");
}

#[tokio::test]
async fn a_privileged_account_is_refused_unless_the_deny_list_is_changed() {
    let lab = Lab::get();
    let admin = mapped(&lab, "admin1").unwrap();
    let failure = refusal(Arc::clone(&admin), &mbx1()).await;
    assert_eq!(failure.cause, Cause::PrivilegedRefused, "{failure}");

    let config = KerberosConfig { denied_groups: vec![], ..kerberos_config(&lab, Engine::Native) };
    let delegator = start(config).unwrap();
    delegator.token(&grant(admin, &mbx1()), None, soon()).await.expect("allowed when no group is denied");
}

#[tokio::test]
async fn a_wrong_key_in_the_keytab_is_named_as_such() {
    let lab = Lab::get();
    let config = KerberosConfig { keytab: lab.keytab("wrong-key"), ..kerberos_config(&lab, Engine::Native) };
    let delegator = start(config).unwrap();
    let failure = delegator.token(&grant(mapped(&lab, "alice").unwrap(), &mbx1()), None, soon()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::OwnKeyRefused, "{failure}");
}

#[tokio::test]
async fn a_keytab_without_our_principal_is_refused_at_start_and_lists_what_it_has() {
    let lab = Lab::get();
    let config = KerberosConfig { keytab: lab.keytab("mbx"), ..kerberos_config(&lab, Engine::Native) };
    let failure = start(config).map(|_| ()).unwrap_err();
    assert_eq!(failure.cause, Cause::KeytabUnusable);
    assert!(failure.detail.contains("svc-bridge") && failure.detail.contains("mbx1"), "{failure}");
}

#[tokio::test]
async fn the_second_token_comes_from_the_cache_and_differs_from_the_first() {
    let lab = Lab::get();
    for engine in [Engine::Native, Engine::Gssapi] {
        let delegator = start(kerberos_config(&lab, engine)).unwrap();
        let grant = grant(mapped(&lab, "alice").unwrap(), &mbx1());
        let first = delegator.token(&grant, None, soon()).await.unwrap();
        let second = delegator.token(&grant, None, soon()).await.unwrap();
        assert!(!first.facts.cache_hit && second.facts.cache_hit);
        assert!(!first.facts.stages.is_empty() && second.facts.stages.is_empty());
        assert_ne!(raw(first.token), raw(second.token));
    }
}

#[tokio::test]
async fn many_requests_for_one_user_cost_one_acquisition() {
    let lab = Lab::get();
    let delegator = start(kerberos_config(&lab, Engine::Native)).unwrap();
    let grant = grant(mapped(&lab, "alice").unwrap(), &mbx1());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (delegator, grant) = (Arc::clone(&delegator), grant.clone());
        waiting.spawn(async move { delegator.token(&grant, None, soon()).await.unwrap().facts.end_time });
    }
    waiting.join_all().await;
    assert_eq!(delegator.acquisitions(), 1);
}

#[tokio::test]
async fn a_forgotten_ticket_is_acquired_anew_and_forgetting_is_rate_limited() {
    let lab = Lab::get();
    let delegator = start(kerberos_config(&lab, Engine::Native)).unwrap();
    let grant = grant(mapped(&lab, "alice").unwrap(), &mbx1());
    let first = delegator.token(&grant, None, soon()).await.unwrap().facts.id;
    assert!(delegator.forget(&grant, first));
    let second = delegator.token(&grant, None, soon()).await.unwrap().facts;
    assert!(!second.cache_hit && second.id != first);
    assert!(!delegator.forget(&grant, second.id), "not twice in a row");
}

#[tokio::test]
async fn a_wrong_channel_binding_is_refused_by_the_acceptor_and_the_right_one_accepted() {
    let lab = Lab::get();
    let binding = ChannelBinding { certificate_hash: vec![7; 32] };
    let other = ChannelBinding { certificate_hash: vec![8; 32] };
    let acceptor = acceptor(&lab.keytab("mbx"));
    for engine in [Engine::Native, Engine::Gssapi] {
        let delegator = start(kerberos_config(&lab, engine)).unwrap();
        let grant = grant(mapped(&lab, "alice").unwrap(), &mbx1());
        let right = raw(delegator.token(&grant, Some(&binding), soon()).await.unwrap().token);
        acceptor.accept(&right, Some(&binding.application_data())).unwrap_or_else(|error| panic!("{engine:?}: {error}"));
        let wrong = raw(delegator.token(&grant, Some(&other), soon()).await.unwrap().token);
        // GSS_S_BAD_BINDINGS is routine error 4 (RFC 2744 section 3.9.1).
        assert_eq!(acceptor.accept(&wrong, Some(&binding.application_data())).unwrap_err().routine(), 4, "{engine:?}");
    }
}

/// The library's identity fallback: a credential impersonated for one mechanism and used with another silently authenticates with a
/// default credential. Shown in a process of its own that has one in reach; the engines' own way is not misled by it.
#[test]
fn with_a_default_credential_in_reach_mixed_mechanisms_speak_for_the_bridge_and_the_engines_still_speak_for_the_user() {
    let lab = Lab::get();
    let probe = |keytab: Option<&Path>| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "delegation::whom_mixed_and_equal_mechanisms_speak_for", "--nocapture"]);
        command.env("KRB5CCNAME", "MEMORY:default").env_remove("KRB5_CLIENT_KTNAME");
        if let Some(keytab) = keytab {
            command.env("KRB5_CLIENT_KTNAME", keytab);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let exposed = probe(Some(&lab.keytab("bridge")));
    assert!(exposed.contains("mixed: svc-bridge@CORP.EXAMPLE"), "the hazard is gone from the library? {exposed}");
    assert!(exposed.contains("engines: alice"), "{exposed}");
    let closed = probe(None);
    assert!(closed.contains("mixed: nobody"), "without a default credential it fails closed: {closed}");
    assert!(closed.contains("engines: alice"), "{closed}");
}

#[test]
fn whom_mixed_and_equal_mechanisms_speak_for() {
    use libgssapi::context::{ClientCtx, CtxFlags};
    use libgssapi::name::Name;
    use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_KRB5_PRINCIPAL};

    let lab = Lab::get();
    let config = kerberos_config(&lab, Engine::Native);
    let spn = Spn::parse("HTTP/mbx1.corp.example").unwrap();
    let ourselves = Impersonator::acquire(&config.principal, &config.keytab, "fallback-test").unwrap();
    let user = ourselves.impersonate(&RequestedName::Enterprise("alice@corp.example".into())).unwrap();
    let accepted_as = |token: &[u8]| acceptor(&lab.keytab("mbx")).accept(token, None).unwrap().client;

    // The hazard: a krb5 credential in a SPNEGO context.
    let name = Name::new(b"HTTP/mbx1.corp.example@CORP.EXAMPLE", Some(GSS_NT_KRB5_PRINCIPAL)).unwrap();
    let mut mixed = ClientCtx::new(Some(user.credential().cred()), name, CtxFlags::GSS_C_MUTUAL_FLAG, Some(GSS_MECH_SPNEGO));
    let spoken_for = match mixed.step(None, None) {
        Ok(token) => accepted_as(&token.unwrap()),
        Err(_) => "nobody".into(),
    };
    assert!(!spoken_for.starts_with("alice"), "the mixture never spoke for the user: {spoken_for}");
    println!("mixed: {spoken_for}");

    // What both engines do: the same mechanism throughout.
    let (token, _) = ReferenceContext::initiate(&user.credential(), &spn, None).unwrap();
    println!("engines: {}", accepted_as(&token));
}
