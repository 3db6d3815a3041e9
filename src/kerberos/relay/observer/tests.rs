use super::*;

fn name(text: &str) -> PrincipalName {
    PrincipalName { name_type: 1, components: vec![text.into()] }
}

fn report(user: &str, outcome: Outcome) -> KdcReport {
    KdcReport {
        at: Instant::now(),
        exchange: Exchange::Tgs,
        realm: "CORP.EXAMPLE".into(),
        subject: Some(Subject { name: name(user), realm: "CORP.EXAMPLE".into() }),
        sname: None,
        proxy: false,
        kdc: None,
        duration: Duration::ZERO,
        outcome,
    }
}

fn error(code: i32, ntstatus: Option<u32>) -> Outcome {
    Outcome::Error { code, ntstatus, text: String::new(), skew: 0 }
}

fn last(observer: &RelayObserver, user: &str, since: Instant, code: Option<i32>) -> Option<Outcome> {
    let sought = Sought { whom: Whom::User(&name(user), None), spn: None, since, code };
    observer.report(&sought).map(|report| report.outcome)
}

#[test]
fn reports_that_agree_are_one_and_reports_that_disagree_are_none() {
    let (observer, since) = (RelayObserver::default(), Instant::now());
    assert_eq!(last(&observer, "alice", since, None), None);
    observer.failed(report("alice", error(18, Some(0xC000_0072))));
    observer.failed(report("bob", error(18, Some(0xC000_0234))));
    observer.failed(report("alice", error(18, Some(0xC000_0072))));
    assert_eq!(last(&observer, "alice", since, Some(18)), Some(error(18, Some(0xC000_0072))));
    observer.failed(report("alice", error(18, Some(0xC000_0234))));
    assert_eq!(last(&observer, "alice", since, Some(18)), None, "two acquisitions for one user: whose is whose?");
    observer.failed(report("alice", error(6, None)));
    assert_eq!(last(&observer, "alice", since, Some(6)), Some(error(6, None)), "the code tells them apart");
    assert_eq!(last(&observer, "bob", since, None), Some(error(18, Some(0xC000_0234))));
}

#[test]
fn an_earlier_acquisitions_failure_is_not_a_later_ones() {
    let observer = RelayObserver::default();
    observer.failed(report("alice", error(18, None)));
    let since = Instant::now();
    assert_eq!(last(&observer, "alice", since, None), None);
    observer.failed(report("alice", error(6, None)));
    assert_eq!(last(&observer, "alice", since, None), Some(error(6, None)));
}

#[test]
fn an_unanswered_exchange_matches_the_code_the_relay_gave_for_it() {
    let (observer, since) = (RelayObserver::default(), Instant::now());
    let unanswered = Outcome::Unanswered { attempts: Vec::new(), trouble: None };
    observer.failed(report("alice", unanswered.clone()));
    assert_eq!(last(&observer, "alice", since, Some(UNANSWERED)), Some(unanswered));
    assert_eq!(last(&observer, "alice", since, Some(6)), None);
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let (observer, since) = (RelayObserver::default(), Instant::now());
    observer.failed(report("first", error(6, None)));
    for _ in 0..FAILURES {
        observer.failed(report("alice", error(6, None)));
    }
    assert_eq!(last(&observer, "first", since, None), None);
    let digest = |n: usize| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    };
    for n in 0..=TICKETS {
        observer.issued(digest(n), Subject { name: name("alice"), realm: String::new() });
    }
    assert_eq!(observer.whose(&digest(0)), None);
    assert!(observer.whose(&digest(1)).is_some() && observer.whose(&digest(TICKETS)).is_some());
    for port in 0..2000 {
        let kdc = Kdc { host: "kdc".into(), address: SocketAddr::new([192, 0, 2, 1].into(), port) };
        observer.asked("CORP.EXAMPLE", &kdc, None, None);
    }
    assert!(observer.kdcs().len() <= KDCS);
}

#[test]
fn numbers_keep_the_last_known_latency_and_skew() {
    let observer = RelayObserver::default();
    let kdc = Kdc { host: "kdc".into(), address: SocketAddr::new([192, 0, 2, 1].into(), 88) };
    observer.asked("CORP.EXAMPLE", &kdc, Some(Duration::from_millis(3)), Some(-7));
    observer.asked("CORP.EXAMPLE", &kdc, None, None);
    let numbers = &observer.kdcs()[0];
    assert_eq!((numbers.requests, numbers.failures), (2, 1));
    assert_eq!((numbers.last_latency, numbers.skew), (Some(Duration::from_millis(3)), Some(-7)));
}

#[test]
fn errors_are_copied_for_a_recording_with_what_was_asked_for_and_only_once_somebody_asks() {
    let observer = RelayObserver::default();
    let request = |exchange, subject: bool, evidence: bool| KdcRequest {
        exchange,
        realm: "CORP.EXAMPLE".into(),
        sname: None,
        subject: subject.then(|| Subject { name: name("alice"), realm: "CORP.EXAMPLE".into() }),
        evidence: evidence.then_some([7; 32]),
        header: None,
    };
    observer.copy_error(&request(Exchange::As, true, false), b"before");
    let copies = observer.copy_errors();
    for (exchange, subject, evidence) in
        [(Exchange::As, true, false), (Exchange::Tgs, false, false), (Exchange::Tgs, true, false), (Exchange::Tgs, true, true)]
    {
        observer.copy_error(&request(exchange, subject, evidence), b"error");
    }
    let asked: Vec<_> = copies.try_iter().map(|(asked, message)| (asked, message == b"error")).collect();
    assert_eq!(asked, [("as", true), ("tgs", true), ("s4u2self", true), ("s4u2proxy", true)]);
    drop(copies);
    observer.copy_error(&request(Exchange::As, true, false), b"nobody listens");
}
