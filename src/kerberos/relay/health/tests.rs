use super::*;

const KDC_TIMEOUT: Duration = Duration::from_secs(2);
const HOSTS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "2001:db8::3"];

fn health() -> Health {
    Health::new(Realm::parse("CORP.EXAMPLE").unwrap())
}

fn kdc(host: &str) -> Kdc {
    Kdc { host: host.into(), address: SocketAddr::new(host.parse().unwrap(), 88) }
}

/// The order to ask in, and the probe if this is one; `None` where the circuit is open.
fn ask(health: &Health) -> Option<(Vec<String>, Option<Probe<'_>>)> {
    match health.plan(HOSTS.map(kdc).to_vec(), KDC_TIMEOUT) {
        Plan::Ask(kdcs, probe) => Some((kdcs.iter().map(|kdc| kdc.host.to_string()).collect(), probe)),
        Plan::Fail(_) | Plan::Wait(_) => None,
    }
}

fn order(health: &Health) -> Vec<String> {
    ask(health).expect("somebody to ask").0
}

fn refusal(health: &Health) -> String {
    match health.plan(HOSTS.map(kdc).to_vec(), KDC_TIMEOUT) {
        Plan::Ask(..) | Plan::Wait(_) => panic!("the circuit is closed, or this is the probe"),
        Plan::Fail(why) => why,
    }
}

fn fail(health: &Health, host: &str) {
    health.failed(&kdc(host), AttemptError::TimedOut);
}

fn fail_all(health: &Health) {
    for host in HOSTS {
        fail(health, host);
    }
}

fn rest(health: &Health, host: &str) -> Duration {
    health.state().ill[&kdc(host).address].rest
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn kdcs_are_tried_in_the_order_given_and_failed_ones_last() {
    let health = health();
    assert_eq!(order(&health), HOSTS);
    fail(&health, HOSTS[0]);
    assert_eq!(order(&health), [HOSTS[1], HOSTS[2], HOSTS[0]]);
    fail(&health, HOSTS[2]);
    assert_eq!(order(&health), [HOSTS[1], HOSTS[0], HOSTS[2]]);
    health.answered(&kdc(HOSTS[2]));
    assert_eq!(order(&health), [HOSTS[1], HOSTS[2], HOSTS[0]]);
}

#[tokio::test(start_paused = true)]
async fn behind_the_exchange_that_asks_a_crowd_waits_for_its_word_and_no_longer_than_a_kdc_that_is_well_needs() {
    let health = health();
    fail_all(&health);
    // A night passes without a request.
    pass(Duration::from_hours(8)).await;
    let (_, probe) = ask(&health).unwrap();
    let Plan::Wait(patience) = health.plan(HOSTS.map(kdc).to_vec(), KDC_TIMEOUT) else { panic!("refused at once") };
    assert_eq!(patience, PROBE_PATIENCE);
    let crowd = async { tokio::join!(health.probe_ended(patience), health.probe_ended(patience), health.probe_ended(patience)) };
    let found = async {
        pass(Duration::from_millis(20)).await;
        health.answered(&kdc(HOSTS[1]));
        drop(probe);
    };
    let started = Instant::now();
    tokio::join!(crowd, found);
    assert_eq!(started.elapsed(), Duration::from_millis(20));
    assert!(ask(&health).is_some_and(|(_, probe)| probe.is_none()), "the circuit is closed");

    fail_all(&health);
    pass(PROBE_PAUSE).await;
    let (_, _still_silent) = ask(&health).unwrap();
    pass(PROBE_PATIENCE).await;
    assert!(refusal(&health).contains("circuit open"), "whoever comes later does not wait");
    health.probe_ended(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn after_its_rest_one_exchange_alone_finds_out_whether_a_kdc_is_back() {
    let health = health();
    fail(&health, HOSTS[0]);
    pass(FIRST_REST).await;
    assert_eq!(order(&health), HOSTS, "fail-back: the configured order");
    assert_eq!(order(&health), [HOSTS[1], HOSTS[2], HOSTS[0]], "while it is probed the others leave it alone");
    health.answered(&kdc(HOSTS[0]));
    assert_eq!(order(&health), HOSTS);

    for host in &HOSTS[..2] {
        fail(&health, host);
    }
    pass(FIRST_REST).await;
    assert_eq!(order(&health), [HOSTS[0], HOSTS[2], HOSTS[1]], "one exchange does not wait for two of them");
}

#[tokio::test(start_paused = true)]
async fn every_failed_probe_doubles_the_rest_up_to_a_bound_and_simultaneous_failures_do_not() {
    let health = health();
    fail(&health, HOSTS[0]);
    fail(&health, HOSTS[0]);
    assert_eq!(rest(&health, HOSTS[0]), FIRST_REST);
    let mut last = FIRST_REST;
    for expected in [FIRST_REST * 2, FIRST_REST * 4, FIRST_REST * 8, LONGEST_REST, LONGEST_REST] {
        pass(last).await;
        order(&health);
        fail(&health, HOSTS[0]);
        assert_eq!(rest(&health, HOSTS[0]), expected);
        last = expected;
    }
    health.answered(&kdc(HOSTS[0]));
    fail(&health, HOSTS[0]);
    assert_eq!(rest(&health, HOSTS[0]), FIRST_REST);
}

#[tokio::test(start_paused = true)]
async fn when_every_kdc_has_failed_exchanges_fail_at_once_and_say_who_failed_when_and_why() {
    let health = health();
    fail(&health, HOSTS[0]);
    pass(Duration::from_secs(3)).await;
    fail(&health, HOSTS[1]);
    health.failed(&kdc(HOSTS[2]), AttemptError::Refused);
    assert_eq!(
        refusal(&health),
        "circuit open for 0 s: 192.0.2.1:88: no answer in time 3 s ago; 192.0.2.2:88: no answer in time 0 s ago; \
         [2001:db8::3]:88: connection refused 0 s ago"
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_one_exchange_a_second_and_one_at_a_time_asks() {
    let health = health();
    fail_all(&health);
    refusal(&health);
    pass(PROBE_PAUSE).await;
    let (asked, probe) = ask(&health).unwrap();
    assert_eq!((asked.len(), probe.is_some()), (3, true));
    for _ in 0..100 {
        pass(PROBE_PAUSE).await;
        refusal(&health);
    }
    drop(probe);
    refusal(&health);
    pass(PROBE_PAUSE.saturating_sub(Duration::from_millis(1))).await;
    refusal(&health);
    pass(Duration::from_millis(1)).await;
    assert!(ask(&health).is_some(), "however the one before ended, and however long the outage");
}

#[tokio::test(start_paused = true)]
async fn kdcs_that_say_at_once_that_they_are_not_there_are_asked_by_everybody_until_one_falls_silent() {
    let health = health();
    for host in HOSTS {
        health.failed(&kdc(host), AttemptError::Refused);
    }
    for _ in 0..3 {
        assert_eq!(order(&health), HOSTS, "it costs nothing, and finds them back at once");
    }
    fail(&health, HOSTS[1]);
    pass(PROBE_PAUSE).await;
    let (_, probe) = ask(&health).unwrap();
    assert!(probe.is_some());
    pass(PROBE_PATIENCE).await;
    assert!(refusal(&health).contains("192.0.2.2:88: no answer in time 1 s ago"));
}

#[tokio::test(start_paused = true)]
async fn each_probe_starts_with_the_kdc_that_was_left_alone_longest() {
    let health = health();
    for host in [HOSTS[1], HOSTS[2], HOSTS[0]] {
        fail(&health, host);
        pass(Duration::from_millis(1)).await;
    }
    refusal(&health);
    pass(PROBE_PAUSE).await;
    let (asked, probe) = ask(&health).unwrap();
    assert_eq!(asked, [HOSTS[1], HOSTS[2], HOSTS[0]]);
    fail(&health, HOSTS[1]);
    drop(probe);
    pass(PROBE_PAUSE).await;
    assert_eq!(order(&health), [HOSTS[2], HOSTS[0], HOSTS[1]]);
}

#[tokio::test(start_paused = true)]
async fn one_answer_closes_the_circuit_and_the_others_are_tried_again_at_once_one_by_one() {
    let health = health();
    fail_all(&health);
    for _ in 0..20 {
        pass(PROBE_PAUSE).await;
        let _probe = ask(&health);
        fail_all(&health);
    }
    pass(PROBE_PAUSE).await;
    let (_, probe) = ask(&health).unwrap();
    health.answered(&kdc(HOSTS[1]));
    drop(probe);
    assert_eq!(order(&health), [HOSTS[0], HOSTS[1], HOSTS[2]], "the preferred one may be back as well");
    assert_eq!(order(&health), [HOSTS[1], HOSTS[2], HOSTS[0]], "and another exchange tries the next");
    assert_eq!(order(&health), [HOSTS[1], HOSTS[0], HOSTS[2]]);
    fail(&health, HOSTS[0]);
    assert_eq!(rest(&health, HOSTS[0]), FIRST_REST * 2, "an outage does not make the rest long");
}

#[tokio::test(start_paused = true)]
async fn a_kdc_that_dns_names_anew_closes_the_circuit() {
    let health = health();
    fail_all(&health);
    refusal(&health);
    let mut kdcs = HOSTS.map(kdc).to_vec();
    kdcs.push(kdc("192.0.2.4"));
    let Plan::Ask(asked, None) = health.plan(kdcs, KDC_TIMEOUT) else { panic!() };
    assert_eq!(&*asked[0].host, "192.0.2.4");
}

#[tokio::test(start_paused = true)]
async fn datagrams_that_get_lost_are_not_sent_for_a_while() {
    let health = health();
    let first = kdc(HOSTS[0]);
    assert!(health.takes_datagrams(&first));
    health.lost_datagrams(&first);
    assert!(!health.takes_datagrams(&first) && health.takes_datagrams(&kdc(HOSTS[1])));
    pass(DATAGRAMS_LOST).await;
    assert!(health.takes_datagrams(&first));
}
