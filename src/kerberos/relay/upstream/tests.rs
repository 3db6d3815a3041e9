use super::*;
use crate::dns::testkit::{A, NameServer, SRV, srv};
use crate::kerberos::config::KdcAddress;
use crate::kerberos::relay::request::tests::Ask;
use crate::kerberos::relay::tests::{Does, FakeKdc, krb_error, tgt_reply};

const KDC_TIMEOUT: Duration = Duration::from_secs(2);
const EXCHANGE: Duration = Duration::from_secs(5);

fn corp() -> Realm {
    Realm::parse("CORP.EXAMPLE").unwrap()
}

fn kdc(fake: &FakeKdc) -> Kdc {
    Kdc { host: "127.0.0.1".into(), address: ([127, 0, 0, 1], fake.port).into() }
}

fn with(locator: Locator, source: KdcSource) -> Upstream {
    Upstream::new(BTreeMap::from([(corp(), source)]), locator, (KDC_TIMEOUT, EXCHANGE), RelayObserver::default())
}

fn upstream(fakes: &[&FakeKdc]) -> Upstream {
    let list = fakes.iter().map(|fake| KdcAddress { host: "127.0.0.1".into(), port: fake.port }).collect();
    with(Locator::system(), KdcSource::List(list))
}

fn silent(count: usize) -> Vec<FakeKdc> {
    (0..count).map(|_| FakeKdc::start(Does::Silent)).collect()
}

/// An exchange for our own ticket.
async fn exchange(
    upstream: &Upstream,
    deadline: Option<std::time::Instant>,
    only: Option<&FakeKdc>,
) -> Result<Answered, Unanswered> {
    let message = Ask::tgt().encode();
    let question = Question { realm: "CORP.EXAMPLE", kind: Kind::As, message: &message, deadline, only: only.map(kdc) };
    upstream.exchange(&question).await
}

fn reasons(failed: &Unanswered) -> Vec<AttemptError> {
    failed.attempts.iter().map(|(_, reason)| *reason).collect()
}

/// With paused time nothing but the timers counts: what waits for a silent KDC waits exactly as long as it may.
#[tokio::test(start_paused = true)]
async fn a_silent_kdc_costs_its_timeout_and_never_more_than_half_of_the_time_that_is_left() {
    let kdcs = silent(4);
    let upstream = upstream(&kdcs.iter().collect::<Vec<_>>());
    let started = Instant::now();
    let failed = exchange(&upstream, None, None).await.unwrap_err();
    // 2 s, 1.5 s, 0.75 s, and the last one gets what is left.
    assert_eq!(reasons(&failed), [AttemptError::TimedOut; 4]);
    assert_close(started.elapsed(), EXCHANGE);
}

/// Timers have a resolution of a millisecond.
fn assert_close(took: Duration, expected: Duration) {
    assert!(took >= expected && took < expected + Duration::from_millis(10), "{took:?} instead of {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn the_acquisitions_deadline_ends_an_exchange_and_the_next_kdc_is_tried_before_it() {
    let (mute, good) = (FakeKdc::start(Does::Silent), FakeKdc::start(Does::Answers(tgt_reply())));
    let upstream = upstream(&[&mute, &good]);
    let started = Instant::now();
    let deadline = (started + Duration::from_secs(1)).into_std();
    assert_eq!(exchange(&upstream, Some(deadline), None).await.unwrap().kdc, kdc(&good));
    assert_close(started.elapsed(), Duration::from_millis(500));
}

#[tokio::test]
async fn a_kdc_that_refuses_for_the_time_is_believed_only_when_no_other_says_anything_else() {
    for code in [error::SKEW, error::NOT_YET_VALID] {
        let wrong = [0, 1].map(|_| FakeKdc::start(Does::Answers(krb_error(code, None, None))));
        let (good, refusing) = (Does::Answers(tgt_reply()), Does::Answers(krb_error(13, None, None)));
        for other in [good, refusing].map(FakeKdc::start) {
            let upstream = upstream(&[&wrong[0], &wrong[1], &other]);
            assert_eq!(exchange(&upstream, None, None).await.unwrap().kdc, kdc(&other), "{code}");
        }
        let gone = FakeKdc::start(Does::Silent);
        let upstream = upstream(&[&wrong[0], &wrong[1], &gone]);
        let soon = std::time::Instant::now() + Duration::from_millis(500);
        let answered = exchange(&upstream, Some(soon), None).await.unwrap();
        let Content::Error(Some(said)) = answered.content else { panic!("{:?}", answered.content) };
        assert_eq!((answered.kdc, said.code), (kdc(&wrong[0]), code), "the first that said it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_asks_nobody_and_judges_nobody() {
    let fake = FakeKdc::start(Does::Answers(tgt_reply()));
    let upstream = upstream(&[&fake]);
    let now = Instant::now();
    let failed = exchange(&upstream, Some(now.into_std()), None).await.unwrap_err();
    assert_eq!((reasons(&failed), failed.trouble.as_deref()), (vec![], Some("no time was left to ask any")));
    assert_eq!(fake.counts(), (0, 0));
    assert!(exchange(&upstream, None, None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_kdc_that_had_hardly_any_time_is_not_judged() {
    let kdcs = silent(1);
    let upstream = upstream(&[&kdcs[0]]);
    for (time, judged) in [(KDC_TIMEOUT / 8, false), (KDC_TIMEOUT / 2, true)] {
        let deadline = (Instant::now() + time).into_std();
        assert_eq!(reasons(&exchange(&upstream, Some(deadline), None).await.unwrap_err()), [AttemptError::TimedOut]);
        assert_eq!(upstream.observer.kdcs()[0].up, !judged);
    }
}

#[tokio::test(start_paused = true)]
async fn when_every_kdc_is_silent_only_one_exchange_at_a_time_waits_for_them() {
    let kdcs = silent(2);
    let upstream = upstream(&kdcs.iter().collect::<Vec<_>>());
    exchange(&upstream, None, None).await.unwrap_err();
    let before = kdcs[0].counts();
    for _ in 0..50 {
        let started = Instant::now();
        let failed = exchange(&upstream, None, None).await.unwrap_err();
        assert_close(started.elapsed(), Duration::ZERO);
        let trouble = failed.trouble.unwrap();
        assert!(trouble.starts_with("circuit open for 0 s: ") && trouble.contains(": no answer in time "), "{trouble}");
    }
    assert_eq!(kdcs[0].counts(), before);
    assert_eq!(upstream.observer.numbers().circuit_open, 50);

    tokio::time::advance(Duration::from_secs(2)).await;
    let started = Instant::now();
    let (one, other) = tokio::join!(exchange(&upstream, None, None), exchange(&upstream, None, None));
    assert_eq!([one, other].map(|failed| reasons(&failed.unwrap_err()).len()), [2, 0]);
    assert_close(started.elapsed(), 2 * KDC_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_realm_is_served_again_within_seconds_of_its_kdcs_return() {
    let fake = FakeKdc::start(Does::Answers(tgt_reply()));
    let upstream = upstream(&[&fake]);
    let realm = &upstream.realms["CORP.EXAMPLE"];
    for _ in 0..100 {
        realm.health.failed(&kdc(&fake), AttemptError::TimedOut);
    }
    assert!(exchange(&upstream, None, None).await.is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    let answered = exchange(&upstream, None, None).await.unwrap();
    assert_eq!((answered.bytes, answered.kdc), (tgt_reply(), kdc(&fake)));
    assert!(exchange(&upstream, None, None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_steered_exchange_asks_its_kdc_alone_well_or_not() {
    let (first, second) = (FakeKdc::start(Does::Answers(tgt_reply())), FakeKdc::start(Does::Silent));
    let upstream = upstream(&[&first, &second]);
    for _ in 0..3 {
        let failed = exchange(&upstream, None, Some(&second)).await.unwrap_err();
        assert_eq!(failed.attempts, [(kdc(&second), AttemptError::TimedOut)]);
    }
    assert_eq!(first.counts(), (0, 0), "no fail-over");
    for _ in 0..9 {
        upstream.realms["CORP.EXAMPLE"].health.failed(&kdc(&first), AttemptError::Refused);
    }
    assert_eq!(exchange(&upstream, None, Some(&first)).await.unwrap().kdc, kdc(&first), "although it rests");
    assert_eq!(exchange(&upstream, None, None).await.unwrap().kdc, kdc(&first), "and what was learnt counts");
}

#[tokio::test(start_paused = true)]
async fn datagrams_that_a_firewall_drops_cost_one_exchange_and_not_the_next() {
    let fake = FakeKdc::start(Does::Datagrams(Vec::new(), tgt_reply()));
    let upstream = upstream(&[&fake]);
    let started = Instant::now();
    assert!(exchange(&upstream, None, None).await.is_ok());
    assert_close(started.elapsed(), KDC_TIMEOUT / 2);
    let started = Instant::now();
    assert!(exchange(&upstream, None, None).await.is_ok());
    assert_close(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn what_every_kdc_did_is_counted() {
    let (bad, good) = (FakeKdc::start(Does::Refuses), FakeKdc::start(Does::Answers(tgt_reply())));
    let upstream = upstream(&[&bad, &good]);
    exchange(&upstream, None, None).await.unwrap();
    let numbers = upstream.observer.kdcs();
    let of = |fake: &FakeKdc| numbers.iter().find(|numbers| numbers.kdc == kdc(fake)).unwrap();
    assert_eq!((of(&bad).failures.clone(), of(&bad).up), (BTreeMap::from([("refused", 1)]), false));
    assert_eq!((of(&good).answers[&Kind::As].count(), of(&good).up), (1, true));
}

fn stale(until: Instant) -> Located {
    let kdc = Kdc { host: "dc1.corp.example".into(), address: ([192, 0, 2, 1], 88).into() };
    Located { kdcs: vec![kdc], until: Some(until.into_std()) }
}

async fn located(upstream: &Upstream) -> Result<Vec<String>, String> {
    let kdcs = upstream.locate(&upstream.realms["CORP.EXAMPLE"], KDC_TIMEOUT).await?;
    Ok(kdcs.iter().map(|kdc| kdc.host.to_string()).collect())
}

#[tokio::test]
async fn known_addresses_serve_while_the_name_service_does_not() {
    let upstream = with(Locator::with(crate::dns::Dns::with(|| Err("gone".into()))), KdcSource::Dns);
    let realm = &upstream.realms["CORP.EXAMPLE"];
    realm.known().located = Some(stale(Instant::now()));
    assert_eq!(located(&upstream).await.unwrap(), ["dc1.corp.example"]);
    let until = realm.known().located.as_ref().unwrap().until.unwrap();
    assert!(until > Instant::now().into_std(), "and it is not asked every time");
}

#[tokio::test]
async fn while_one_exchange_looks_up_the_others_use_the_old_addresses() {
    let upstream = with(Locator::with(crate::dns::Dns::with(|| Err("gone".into()))), KdcSource::Dns);
    let realm = &upstream.realms["CORP.EXAMPLE"];
    realm.known().located = Some(stale(Instant::now()));
    let _looking_up = realm.lookup.lock().await;
    assert_eq!(located(&upstream).await.unwrap(), ["dc1.corp.example"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_service_that_failed_is_left_alone_for_a_second_and_exchanges_fail_at_once() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let dns = crate::dns::Dns::with(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err("gone".into())
    });
    let upstream = with(Locator::with(dns), KdcSource::Dns);
    for _ in 0..5 {
        let failed = exchange(&upstream, None, None).await.unwrap_err();
        assert_eq!(failed.trouble.as_deref(), Some("gone"));
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    tokio::time::advance(UNKNOWN_PAUSE).await;
    exchange(&upstream, None, None).await.unwrap_err();
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn kdcs_are_asked_in_the_order_of_their_srv_records_and_failed_ones_last() {
    let server = NameServer::start(vec![
        ("_kerberos._tcp.CORP.EXAMPLE", SRV, srv(20, 88, "dc2.corp.example")),
        ("_kerberos._tcp.CORP.EXAMPLE", SRV, srv(10, 88, "dc1.corp.example")),
        ("dc1.corp.example", A, vec![192, 0, 2, 1]),
        ("dc2.corp.example", A, vec![192, 0, 2, 2]),
    ])
    .await;
    let upstream = with(Locator::with(server.dns()), KdcSource::Dns);
    assert_eq!(located(&upstream).await.unwrap(), ["dc1.corp.example", "dc2.corp.example"]);
    let known: Vec<_> = upstream.observer.kdcs_of(&corp()).iter().map(|kdc| kdc.host.to_string()).collect();
    assert_eq!(known, ["dc1.corp.example", "dc2.corp.example"], "and everybody may know them");
    let realm = &upstream.realms["CORP.EXAMPLE"];
    let kdcs = upstream.locate(realm, KDC_TIMEOUT).await.unwrap();
    realm.health.failed(&kdcs[0], AttemptError::TimedOut);
    let Plan::Ask(order, None) = realm.health.plan(kdcs, KDC_TIMEOUT) else { panic!() };
    assert_eq!(order[0].address, ([192, 0, 2, 2], 88).into());
}
