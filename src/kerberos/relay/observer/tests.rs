use std::time::UNIX_EPOCH;

use super::*;
use crate::kerberos::relay::request::tests::ticket;

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
    Outcome::Error { code, ntstatus, text: String::new(), skew: 0, data: None }
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
        issue(&observer, digest(n));
    }
    assert_eq!(observer.whose(&digest(0)), None);
    assert!(observer.whose(&digest(1)).is_some() && observer.whose(&digest(TICKETS)).is_some());
}

fn kdc() -> Kdc {
    Kdc { host: "192.0.2.1".into(), address: ([192, 0, 2, 1], 88).into() }
}

/// A ticket of ours, from one second before 1,000,000 to one after it.
fn issue(observer: &RelayObserver, digest: TicketDigest) {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let subject = Subject { name: name("alice"), realm: "CORP.EXAMPLE".into() };
    observer.issued(digest, subject, "CORP.EXAMPLE", &kdc(), Window::new(at(999_999), at(1_000_001)));
}

#[test]
fn the_detail_of_an_error_names_its_status_and_what_the_kdc_has_keys_of() {
    let with = |ntstatus, data: Option<&str>| {
        let outcome = Outcome::Error { code: 12, ntstatus, text: "no".into(), skew: 31, data: data.map(str::to_owned) };
        KdcReport { kdc: Some(kdc()), ..report("alice", outcome) }.to_string()
    };
    assert_eq!(
        with(Some(0xC000_006E), None),
        "KDC 192.0.2.1:88: 12 KDC_ERR_POLICY, NTSTATUS 0xC000006E ACCOUNT_RESTRICTION, \"no\", its clock is 31 s from ours"
    );
    assert!(with(None, Some("it has keys of arcfour-hmac")).contains(", \"no\", it has keys of arcfour-hmac, "));
}

#[test]
fn the_start_of_a_ticket_shows_the_clock_of_the_kdc_that_issued_it() {
    let skew = |start, authenticated| {
        let observer = RelayObserver::default();
        let issued = ticket(&["svc-bridge"], b"for alice");
        issue(&observer, ticket_digest(&issued).unwrap());
        observer.ticket_starts(&issued, start, authenticated);
        observer.kdcs().first().and_then(|numbers| numbers.skew)
    };
    assert_eq!(skew(1_000_000, 900_000), Some(0));
    assert_eq!(skew(999_999, 900_000), Some(0), "a second has no fraction");
    assert_eq!(skew(1_000_061, 900_000), Some(60_000));
    assert_eq!(skew(999_939, 900_000), Some(-59_001));
    assert_eq!(skew(900_000, 900_000), None, "it starts when the user was authenticated: that may be long ago");
    assert_eq!(skew(1_000_000, 1_000_000), None, "and says nothing");
    assert_eq!(skew(1_000_061, 1_000_061), Some(60_000), "but is never in the KDC's future");
}

#[test]
fn the_start_of_a_ticket_that_nobody_saw_says_nothing() {
    let observer = RelayObserver::default();
    for unseen in [&ticket(&["svc-bridge"], b"from elsewhere")[..], b"no ticket"] {
        observer.ticket_starts(unseen, 5, 4);
    }
    assert_eq!(observer.kdcs(), []);
}

#[test]
fn a_clocks_degree_follows_its_skew_and_the_configured_tolerance() {
    let observer = RelayObserver::default();
    observer.tolerate(Duration::from_secs(10));
    let degree = |skew| {
        observer.clock("CORP.EXAMPLE", &kdc(), skew);
        observer.kdcs()[0].degree
    };
    assert_eq!([degree(2000), degree(-2001), degree(9000)], [Degree::Good, Degree::Notable, Degree::Grave]);
    assert_eq!([degree(0), observer.kdcs()[0].degree], [Degree::Good; 2]);
}

#[test]
fn a_realms_kdcs_are_those_it_has_now() {
    let observer = RelayObserver::default();
    let other = Kdc { host: "192.0.2.2".into(), address: ([192, 0, 2, 2], 88).into() };
    let corp = Realm::parse("CORP.EXAMPLE").unwrap();
    assert_eq!(observer.kdcs_of(&corp), []);
    observer.located("CORP.EXAMPLE", &[kdc(), other.clone()]);
    assert_eq!(observer.kdcs_of(&corp), [kdc(), other.clone()]);
    observer.located("CORP.EXAMPLE", std::slice::from_ref(&other));
    assert_eq!(observer.kdcs_of(&corp), [other]);
    assert_eq!(observer.kdcs_of(&Realm::parse("USERS.EXAMPLE").unwrap()), []);
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
