//! Whole questions over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::kit::*;
use crate::der::{Reader, tag};
use crate::revocation::fetch::testkit::{Reply, Server, body, ok};
use crate::revocation::ocsp::request::NONCE;
use crate::revocation::ocsp::*;

fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn config(prefixes: &[&str]) -> OcspConfig {
    OcspConfig {
        responders: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        url: None,
        timeout: Duration::from_secs(20),
        nonce: false,
        max_age: Duration::from_secs(1000),
    }
}

fn ocsp(config: &OcspConfig) -> Ocsp {
    Ocsp::new(config, &Http::new(&[]).unwrap()).unwrap()
}

/// The OCSPRequest in an HTTP request, however it was sent.
fn question(request: &[u8]) -> Vec<u8> {
    if request.starts_with(b"POST ") {
        return body(request).to_vec();
    }
    let target = std::str::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned();
    let encoded = target.rsplit('/').next().unwrap().replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    base64_simd::STANDARD.decode_to_vec(encoded).unwrap()
}

/// The serial number that is asked about, and the nonce's extension value.
fn asked(request: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let question = question(request);
    let mut tbs = Reader::new(crate::der::only(&question, tag::SEQUENCE).unwrap()).nested(tag::SEQUENCE).unwrap();
    let mut request = tbs.nested(tag::SEQUENCE).unwrap().nested(tag::SEQUENCE).unwrap();
    let mut id = request.nested(tag::SEQUENCE).unwrap();
    for expected in [tag::SEQUENCE, tag::OCTET_STRING, tag::OCTET_STRING] {
        id.read(expected).unwrap();
    }
    let serial = id.read(tag::INTEGER).unwrap().to_vec();
    let nonce = tbs.explicit_optional(2, tag::SEQUENCE).unwrap().map(|list| {
        let mut extension = Reader::new(list).nested(tag::SEQUENCE).unwrap();
        assert_eq!(extension.read(tag::OID).unwrap(), NONCE);
        extension.read(tag::OCTET_STRING).unwrap().to_vec()
    });
    (serial, nonce)
}

/// Answers every question by the issuer with this status.
fn says(ca: &Arc<Holder>, status: &[u8]) -> impl Fn(&[u8]) -> Reply + Send + Sync + 'static {
    let (ca, status) = (Arc::clone(ca), status.to_vec());
    move |request| Reply::Bytes(ok(&Draft::by(&ca, Said::of(&ca, &asked(request).0, &status)).sign(&ca.key)))
}

fn ca() -> Arc<Holder> {
    Arc::new(Holder::authority("Issuing CA"))
}

fn detail(answer: &OcspAnswer) -> &str {
    match answer {
        OcspAnswer::Unvouched(failure) => {
            assert_eq!(failure.cause, Cause::RevocationUnknown);
            &failure.detail
        }
        OcspAnswer::Untrusted(failure) => {
            assert_eq!(failure.cause, Cause::RevocationUntrusted);
            &failure.detail
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_answer_is_remembered_until_its_end_or_the_configured_age() {
    let ca = ca();
    let server = Server::start(says(&ca, GOOD)).await;
    let leaf = ca.leaf(9, &[server.url("/ocsp")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/ocsp")]));
    assert_eq!(ocsp.known(&link, at(NOW)), None);
    let good = OcspAnswer::Good { until: at(NOW + 1000) };
    assert_eq!(ocsp.ask(&link, at(NOW), soon()).await, good);
    assert_eq!(ocsp.ask(&link, at(NOW + 999), soon()).await, good);
    assert_eq!(ocsp.known(&link, at(NOW + 999)), Some(good));
    assert_eq!(ocsp.known(&link, at(NOW + 1000)), None);
    assert_eq!(ocsp.ask(&link, at(NOW + 3000), soon()).await, OcspAnswer::Good { until: at(NOW + 3600) });
    let counts = ocsp.counts();
    assert_eq!((counts.asked, counts.good, counts.fetch_errors), (2, 2, 0));
    assert!(counts.bytes > 200);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn answers_are_kept_apart_by_serial_number_and_issuer() {
    let (ca, other) = (ca(), ca());
    let server = Server::start(says(&ca, GOOD)).await;
    let urls = [server.url("/")];
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let (leaf, next, foreign) = (ca.leaf(9, &urls), ca.leaf(10, &urls), other.leaf(9, &urls));
    ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await;
    assert_eq!(ocsp.known(&ca.link(&next), at(NOW)), None);
    assert_eq!(ocsp.known(&other.link(&foreign), at(NOW)), None);
    // The responder speaks for its own CA only.
    let answer = ocsp.ask(&other.link(&foreign), at(NOW), soon()).await;
    assert!(matches!(answer, OcspAnswer::Untrusted(_)), "{answer:?}");
    assert!(detail(&answer).ends_with("it is about another certificate"), "{answer:?}");
}

#[tokio::test]
async fn a_revocation_outlives_its_answer_and_gives_way_only_to_a_newer_good_one() {
    let ca = ca();
    // What is said, and how much later than the first time.
    let (step, later) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(0)));
    let (said_step, said_later, signer) = (Arc::clone(&step), Arc::clone(&later), Arc::clone(&ca));
    let server = Server::start(move |request| {
        let shift = said_later.load(Ordering::SeqCst);
        let mut said = Said::of(&signer, &asked(request).0, &revoked(Some(1), NOW - 100));
        said.this_update = time(NOW - 60 + shift);
        said.next_update = Some(time(NOW + 500));
        match said_step.load(Ordering::SeqCst) {
            0 => {}
            1 => return Reply::Bytes(ok(&status(3))),
            2 => return Reply::Bytes(ok(&Draft::by(&Holder::authority("Other"), said).sign(&signer.key))),
            _ => (said.status, said.next_update) = (GOOD.to_vec(), Some(time(NOW + 5500))),
        }
        Reply::Bytes(ok(&Draft::by(&signer, said).sign(&signer.key)))
    })
    .await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let gone = OcspAnswer::Revoked { reason: Some(1), since: NOW - 100 };
    assert_eq!(ocsp.ask(&link, at(NOW), soon()).await, gone);
    assert_eq!(ocsp.known(&link, at(NOW + 999)), Some(gone.clone()));
    // Try later, badly signed, a good one of before the revocation, one of the same time.
    let mut now = NOW;
    for (said, shift) in [(1, 0), (2, 0), (3, -1), (3, 0)] {
        step.store(said, Ordering::SeqCst);
        later.store(shift, Ordering::SeqCst);
        now += 1000;
        assert_eq!(ocsp.known(&link, at(now)), None);
        assert_eq!(ocsp.ask(&link, at(now), soon()).await, gone, "{said} {shift}");
        assert_eq!(ocsp.known(&link, at(now + 29)), Some(gone.clone()));
    }
    later.store(1, Ordering::SeqCst);
    assert_eq!(ocsp.ask(&link, at(now + 1000), soon()).await, OcspAnswer::Good { until: at(NOW + 5500) });
    let counts = ocsp.counts();
    assert_eq!((counts.revoked, counts.unvouched, counts.untrusted, counts.good), (3, 1, 1, 1));
}

#[tokio::test]
async fn a_hold_is_asked_about_again_when_its_answer_ends() {
    let ca = ca();
    let server = Server::start(says(&ca, &revoked(Some(6), NOW - 100))).await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let hold = OcspAnswer::Revoked { reason: Some(6), since: NOW - 100 };
    assert_eq!(ocsp.ask(&link, at(NOW), soon()).await, hold);
    assert_eq!(ocsp.known(&link, at(NOW + 999)), Some(hold));
    assert_eq!(ocsp.known(&link, at(NOW + 1000)), None);
}

#[tokio::test]
async fn no_usable_answer_is_remembered_for_five_seconds() {
    let ca = ca();
    let server = Server::start(says(&ca, UNKNOWN)).await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let answer = ocsp.ask(&link, at(NOW), soon()).await;
    assert_eq!(detail(&answer), format!("{}: the responder does not know the certificate", server.url("/")));
    assert_eq!(ocsp.known(&link, at(NOW + 4)), Some(answer));
    assert_eq!(ocsp.known(&link, at(NOW + 5)), None);
    assert_eq!(ocsp.counts().unvouched, 1);
}

#[tokio::test]
async fn everybody_with_the_same_question_waits_for_one_request() {
    let ca = ca();
    let gate = Arc::new(Notify::new());
    let (inner, held) = (says(&ca, GOOD), Arc::clone(&gate));
    let server = Server::start(move |request| Reply::Later(Arc::clone(&held), Box::new(inner(request)))).await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let open = async { gate.notify_one() };
    let ask = || ocsp.ask(&link, at(NOW), soon());
    let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), open);
    assert_eq!(one, OcspAnswer::Good { until: at(NOW + 1000) });
    assert_eq!((&two, &three), (&one, &one));
    assert_eq!(server.requests().len(), 1);
    assert!(ocsp.0.lock().is_empty());
}

#[tokio::test]
async fn a_question_goes_on_when_nobody_waits_any_longer() {
    let ca = ca();
    let gate = Arc::new(Notify::new());
    let (inner, held) = (says(&ca, GOOD), Arc::clone(&gate));
    let server = Server::start(move |request| Reply::Later(Arc::clone(&held), Box::new(inner(request)))).await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let link = ca.link(&leaf);
    let ocsp = ocsp(&config(&[&server.url("/")]));
    let answer = ocsp.ask(&link, at(NOW), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(detail(&answer), "no responder answered in time");
    assert_eq!(ocsp.known(&link, at(NOW)), None);
    gate.notify_one();
    assert_eq!(ocsp.ask(&link, at(NOW), soon()).await, OcspAnswer::Good { until: at(NOW + 1000) });
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_responder_costs_the_configured_time() {
    let ca = ca();
    let server = Server::start(|_| Reply::Silence(Vec::new())).await;
    let leaf = ca.leaf(9, &[server.url("/")]);
    let ocsp = ocsp(&OcspConfig { timeout: Duration::from_millis(50), ..config(&[&server.url("/")]) });
    let answer = ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await;
    assert!(detail(&answer).ends_with("no complete answer in time"), "{answer:?}");
    assert_eq!(ocsp.counts().fetch_errors, 1);
}

#[tokio::test]
async fn a_responder_that_fails_three_times_in_a_row_is_not_asked_again() {
    let ca = ca();
    let server = Server::start(|_| Reply::Bytes(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_vec())).await;
    let ocsp = ocsp(&config(&[&server.url("/")]));
    for serial in 1..=5 {
        let leaf = ca.leaf(serial, &[server.url("/")]);
        let answer = ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await;
        let reason = if serial <= 3 { "status 500" } else { "failed repeatedly and is left alone" };
        assert!(detail(&answer).contains(reason), "{serial}: {answer:?}");
    }
    assert_eq!(server.requests().len(), 3);
    let counts = ocsp.counts();
    assert_eq!((counts.breaker_open, counts.unvouched), (2, 5));
}

#[tokio::test]
async fn answers_about_unknown_certificates_do_not_count_as_failures() {
    let ca = ca();
    let server = Server::start(|_| Reply::Bytes(ok(&status(6)))).await;
    let ocsp = ocsp(&config(&[&server.url("/")]));
    for serial in 1..=5 {
        let leaf = ca.leaf(serial, &[server.url("/")]);
        let answer = ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await;
        assert!(detail(&answer).ends_with("the responder answers \"unauthorized\""), "{answer:?}");
    }
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn what_is_known_to_be_revoked_is_taken_over_and_what_is_good_is_asked_again() {
    let ca = ca();
    for (status, kept) in [(revoked(Some(1), NOW - 50), true), (GOOD.to_vec(), false)] {
        let server = Server::start(says(&ca, &status)).await;
        let leaf = ca.leaf(9, &[server.url("/ocsp")]);
        let link = ca.link(&leaf);
        let (before, after) = (ocsp(&config(&[&server.url("/ocsp")])), ocsp(&config(&[&server.url("/ocsp")])));
        let answer = before.ask(&link, at(NOW), soon()).await;
        assert_eq!(after.known(&link, at(NOW)), None);
        after.inherit(&before);
        assert_eq!(after.known(&link, at(NOW)), kept.then_some(answer));
    }
}

#[tokio::test]
async fn only_permitted_responders_are_asked() {
    let ca = ca();
    let server = Server::start(says(&ca, GOOD)).await;
    let ocsp = ocsp(&config(&[&server.url("/ocsp")]));
    let url = server.url("/ocsp/../x");
    let rows = [
        (vec![], "the certificate names no OCSP responder".to_owned()),
        (vec![url.clone()], format!("{url}: not below any of ocsp.responders")),
        (vec![server.url("/other"), "ldap:///CN=a,DC=b?certificateRevocationList".into()], "not below any".into()),
    ];
    for (urls, reason) in rows {
        let leaf = ca.leaf(9, &urls);
        let link = ca.link(&leaf);
        let answer = ocsp.ask(&link, at(NOW), soon()).await;
        assert!(detail(&answer).contains(&reason), "{answer:?}");
        assert_eq!(ocsp.known(&link, at(NOW)), Some(answer), "memory says so too: there is nobody to ask");
    }
    assert_eq!((server.requests().len(), ocsp.counts()), (0, OcspCounts::default()));
}

#[tokio::test]
async fn the_configured_responder_is_asked_whatever_the_certificate_says() {
    let (ca, port) = (ca(), 1);
    let server = Server::start(says(&ca, GOOD)).await;
    let ocsp = ocsp(&OcspConfig { url: Some(server.url("/here?a")), ..config(&[]) });
    for (serial, urls) in [(1, vec![]), (2, vec![format!("http://127.0.0.1:{port}/elsewhere")])] {
        let leaf = ca.leaf(serial, &urls);
        assert!(matches!(ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await, OcspAnswer::Good { .. }));
    }
    // With a query of its own it cannot be asked by GET.
    assert!(server.requests().iter().all(|request| request.starts_with(b"POST /here?a HTTP/1.1\r\n")));
}

#[tokio::test]
async fn questions_go_by_get_unless_they_have_a_nonce_or_the_responder_knows_no_get() {
    let ca = ca();
    let inner = says(&ca, GOOD);
    let server = Server::start(move |request| {
        if request.starts_with(b"GET /new") || request.starts_with(b"POST ") {
            return inner(request);
        }
        Reply::Bytes(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".to_vec())
    })
    .await;
    let leaf = |serial, path| ca.leaf(serial, &[server.url(path)]);
    let plain = ocsp(&config(&[&server.url("/")]));
    let with_nonce = ocsp(&OcspConfig { nonce: true, ..config(&[&server.url("/")]) });
    let (new, old, own) = (leaf(1, "/new/"), leaf(2, "/old"), leaf(3, "/new"));
    for (ocsp, leaf) in [(&plain, &new), (&plain, &old), (&with_nonce, &own)] {
        let answer = ocsp.ask(&ca.link(leaf), at(NOW), soon()).await;
        assert!(matches!(answer, OcspAnswer::Good { .. }), "{answer:?}");
    }
    let starts: Vec<_> = server.requests().iter().map(|request| request[..9].to_vec()).collect();
    assert_eq!(starts, [b"GET /new/", b"GET /old/", b"POST /old", b"POST /new"].map(|start| start.to_vec()));
    let post = String::from_utf8_lossy(&server.requests()[3]).to_ascii_lowercase();
    assert!(post.contains("\r\ncontent-type: application/ocsp-request\r\n"), "{post}");
    let nonces: Vec<_> = server.requests().iter().map(|request| asked(request).1.map(|value| value.len())).collect();
    assert_eq!(nonces, [None, None, None, Some(34)]);
}

#[tokio::test]
async fn a_nonce_that_comes_back_is_good_and_another_one_is_not() {
    let ca = ca();
    let signer = Arc::clone(&ca);
    let server = Server::start(move |request| {
        let (serial, nonce) = asked(request);
        let mut value = nonce.unwrap();
        if serial == [2] {
            value[5] ^= 1;
        }
        let draft = Draft::by(&signer, Said::of(&signer, &serial, GOOD));
        Reply::Bytes(ok(&draft.with(|draft| draft.extensions.push(extension(NONCE, false, &value))).sign(&signer.key)))
    })
    .await;
    let ocsp = ocsp(&OcspConfig { nonce: true, ..config(&[&server.url("/")]) });
    let (honest, forged) = (ca.leaf(1, &[server.url("/")]), ca.leaf(2, &[server.url("/")]));
    assert!(matches!(ocsp.ask(&ca.link(&honest), at(NOW), soon()).await, OcspAnswer::Good { .. }));
    let answer = ocsp.ask(&ca.link(&forged), at(NOW), soon()).await;
    assert!(matches!(answer, OcspAnswer::Untrusted(_)) && detail(&answer).contains("nonce"), "{answer:?}");
    assert_eq!(ocsp.counts().untrusted, 1);
    let sent: Vec<_> = server.requests().iter().map(|request| asked(request).1).collect();
    assert_ne!(sent[0], sent[1]);
}

#[tokio::test]
async fn the_next_responder_is_asked_when_one_says_nothing_and_bad_outweighs_silent() {
    let ca = ca();
    let good = Server::start(says(&ca, GOOD)).await;
    let silent = Server::start(|_| Reply::Bytes(ok(&status(3)))).await;
    let foreign = Arc::new(Holder::authority("Issuing CA"));
    let bad = Server::start(says(&foreign, GOOD)).await;
    let ocsp = ocsp(&config(&[&good.url("/"), &silent.url("/"), &bad.url("/")]));
    let leaf = ca.leaf(1, &[silent.url("/"), bad.url("/"), good.url("/")]);
    assert!(matches!(ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await, OcspAnswer::Good { .. }));
    for (serial, urls) in [(2, [bad.url("/"), silent.url("/")]), (3, [silent.url("/"), bad.url("/")])] {
        let leaf = ca.leaf(serial, &urls);
        let answer = ocsp.ask(&ca.link(&leaf), at(NOW), soon()).await;
        assert!(matches!(answer, OcspAnswer::Untrusted(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_response_above_64_kib_is_not_read() {
    let ca = ca();
    let server = Server::start(|_| Reply::Bytes(ok(&vec![0x30; (64 << 10) + 1]))).await;
    let leaf = ca.leaf(1, &[server.url("/")]);
    let answer = ocsp(&config(&[&server.url("/")])).ask(&ca.link(&leaf), at(NOW), soon()).await;
    assert!(detail(&answer).ends_with("larger than 65536 bytes"), "{answer:?}");
}

#[test]
fn unusable_settings_are_load_errors() {
    let http = Http::new(&[]).unwrap();
    let rows = [
        (OcspConfig { url: Some("ldap:///CN=a,DC=b?certificateRevocationList".into()), ..config(&[]) }, "cannot be asked"),
        (OcspConfig { url: Some("https://a/".into()), ..config(&[]) }, "no trust anchor"),
        (config(&["https://a/"]), "no trust anchor"),
        (config(&["http://a b/"]), "no usable prefix"),
    ];
    for (config, reason) in rows {
        let error = Ocsp::new(&config, &http).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
