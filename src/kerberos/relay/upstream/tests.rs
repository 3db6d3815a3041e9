use super::*;
use crate::kerberos::config::KdcAddress;
use crate::kerberos::relay::request::tests::Ask;
use crate::kerberos::relay::tests::{Does, FakeKdc, tgt_reply};

const KDC_TIMEOUT: Duration = Duration::from_mins(1);

fn realm(hosts: &[&str]) -> RealmKdcs {
    let list = hosts.iter().map(|host| KdcAddress { host: (*host).into(), port: 88 }).collect();
    RealmKdcs {
        realm: Realm::parse("CORP.EXAMPLE").unwrap(),
        source: KdcSource::List(list),
        located: tokio::sync::Mutex::default(),
        health: Mutex::default(),
    }
}

async fn order(realm: &RealmKdcs) -> Vec<String> {
    let kdcs = realm.in_order(&Locator::system(), KDC_TIMEOUT).await.unwrap();
    kdcs.iter().map(|kdc| kdc.host.to_string()).collect()
}

fn at(host: &str) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), 88)
}

fn fail(realm: &RealmKdcs, host: &str) {
    realm.failed(&Kdc { host: host.into(), address: at(host) }, AttemptError::TimedOut);
}

fn end_rest(realm: &RealmKdcs, host: &str) {
    realm.health().get_mut(&at(host)).unwrap().rests_until = Instant::now();
}

fn rest(realm: &RealmKdcs, host: &str) -> Duration {
    realm.health()[&at(host)].rest
}

const HOSTS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "2001:db8::3"];

#[tokio::test]
async fn kdcs_are_tried_as_configured_and_failed_ones_last() {
    let realm = realm(&HOSTS);
    assert_eq!(order(&realm).await, HOSTS);
    fail(&realm, HOSTS[0]);
    assert_eq!(order(&realm).await, [HOSTS[1], HOSTS[2], HOSTS[0]]);
    fail(&realm, HOSTS[2]);
    assert_eq!(order(&realm).await, [HOSTS[1], HOSTS[0], HOSTS[2]]);
    fail(&realm, HOSTS[1]);
    assert_eq!(order(&realm).await, HOSTS, "all of them are still tried when none is well");
    realm.answered(at(HOSTS[2]));
    assert_eq!(order(&realm).await, [HOSTS[2], HOSTS[0], HOSTS[1]]);
}

#[tokio::test]
async fn after_its_rest_one_exchange_alone_finds_out_whether_a_kdc_is_back() {
    let realm = realm(&HOSTS);
    fail(&realm, HOSTS[0]);
    end_rest(&realm, HOSTS[0]);
    assert_eq!(order(&realm).await, HOSTS, "fail-back: the configured order");
    assert_eq!(order(&realm).await, [HOSTS[1], HOSTS[2], HOSTS[0]], "while it is probed the others leave it alone");
    realm.answered(at(HOSTS[0]));
    assert_eq!(order(&realm).await, HOSTS);

    for host in &HOSTS[..2] {
        fail(&realm, host);
        end_rest(&realm, host);
    }
    assert_eq!(order(&realm).await, [HOSTS[0], HOSTS[2], HOSTS[1]], "one exchange does not wait for two of them");
}

#[tokio::test]
async fn every_failed_probe_doubles_the_rest_up_to_a_bound_and_simultaneous_failures_do_not() {
    let realm = realm(&HOSTS);
    fail(&realm, HOSTS[0]);
    fail(&realm, HOSTS[0]);
    assert_eq!(rest(&realm, HOSTS[0]), FIRST_REST);
    for expected in [FIRST_REST * 2, FIRST_REST * 4, FIRST_REST * 8, LONGEST_REST, LONGEST_REST] {
        end_rest(&realm, HOSTS[0]);
        order(&realm).await;
        fail(&realm, HOSTS[0]);
        assert_eq!(rest(&realm, HOSTS[0]), expected);
    }
    realm.answered(at(HOSTS[0]));
    fail(&realm, HOSTS[0]);
    assert_eq!(rest(&realm, HOSTS[0]), FIRST_REST);
}

#[tokio::test]
async fn known_addresses_serve_while_the_name_service_does_not() {
    let mut realm = realm(&[]);
    let kdc = Kdc { host: "dc1.corp.example".into(), address: at(HOSTS[0]) };
    realm.located = tokio::sync::Mutex::new(Some(Located { kdcs: vec![kdc], until: Some(Instant::now()) }));
    assert_eq!(order(&realm).await, ["dc1.corp.example"]);
    assert!(realm.located.lock().await.as_ref().unwrap().until.unwrap() > Instant::now(), "and it is not asked every time");
}

#[tokio::test]
async fn a_kdc_that_answers_is_well_again() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let list = KdcSource::List(vec![KdcAddress { host: "127.0.0.1".into(), port: kdc.port }]);
    let realms = BTreeMap::from([(Realm::parse("CORP.EXAMPLE").unwrap(), list)]);
    let upstream = Upstream::new(realms, Locator::system(), (KDC_TIMEOUT, KDC_TIMEOUT), RelayObserver::default());
    let realm = &upstream.realms["CORP.EXAMPLE"];
    let address = SocketAddr::from(([127, 0, 0, 1], kdc.port));
    realm.failed(&Kdc { host: "127.0.0.1".into(), address }, AttemptError::Refused);
    assert!(!realm.health().is_empty());
    let answered = upstream.exchange("CORP.EXAMPLE", Exchange::As, &Ask::tgt().encode()).await.unwrap();
    assert_eq!((answered.bytes, answered.kdc.address), (tgt_reply(), address));
    assert!(realm.health().is_empty());
}
