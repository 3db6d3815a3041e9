//! Distribution points and responders.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;
use tokio::sync::Semaphore;

use super::judging::counted;
use super::{Place, at, cause, config, is_clear, refusal, status};
use crate::der::tag;
use crate::failure::{Cause, Failure};
use crate::revocation::fetch::testkit::{Reply, Server, ok};
use crate::revocation::ocsp::OcspAnswer;
use crate::revocation::outside::{CrlSource, Later, Responder};
use crate::revocation::testkit::{Ca, DAY, Device, NOW, element, extension, full_name, points};
use crate::revocation::{Link, OcspConfig, Revocation, RevocationOrder, RevocationPolicy, Verdict};

const SERIAL: &[u8] = &[0x1A, 5];
const URI: &str = "http://pki/a.crl";
const DELTA: &str = "http://pki/a+.crl";

/// Serves lists by URI; a permit is needed for each answer.
struct Web {
    pages: Mutex<HashMap<String, Vec<u8>>>,
    asked: AtomicUsize,
    permits: Semaphore,
}

impl Web {
    fn with(pages: &[(&str, Vec<u8>)]) -> Arc<Self> {
        let web = Self { pages: Mutex::default(), asked: AtomicUsize::new(0), permits: Semaphore::new(1000) };
        for (uri, page) in pages {
            web.put(uri, page.clone());
        }
        Arc::new(web)
    }

    fn put(&self, uri: &str, page: Vec<u8>) {
        self.pages.lock().unwrap().insert(uri.to_owned(), page);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl CrlSource for Web {
    fn allows(&self, uri: &str) -> bool {
        uri.starts_with("http://pki/")
    }

    fn crl<'a>(&'a self, uri: &'a str, _: Instant) -> Later<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            let page = self.pages.lock().unwrap().get(uri).cloned();
            page.ok_or_else(|| Failure::new(Cause::RevocationUnknown, "404"))
        })
    }
}

/// Answers with one answer, known after the first question.
struct Oracle {
    answer: OcspAnswer,
    asked: AtomicUsize,
}

impl Responder for Oracle {
    fn known(&self, _: &Link<'_>, _: UnixTime) -> Option<OcspAnswer> {
        (self.asked.load(Ordering::SeqCst) > 0).then(|| self.answer.clone())
    }

    fn ask<'a>(&'a self, _: &'a Link<'a>, _: UnixTime, _: Instant) -> Later<'a, OcspAnswer> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { self.answer.clone() })
    }
}

fn oracle(answer: OcspAnswer) -> Arc<Oracle> {
    Arc::new(Oracle { answer, asked: AtomicUsize::new(0) })
}

fn fetching(web: &Arc<Web>) -> Arc<Revocation> {
    Revocation::assemble(&config(), Vec::new(), Some(Arc::clone(web) as Arc<dyn CrlSource>), None).unwrap()
}

async fn settled_at(engine: &Revocation, device: &Device, now: i64) -> Verdict {
    let verdict = engine.settle(&[device.link()], at(now), Instant::now() + Duration::from_mins(1)).await;
    assert!(!matches!(verdict, Verdict::Open(_)));
    verdict
}

async fn settled(engine: &Revocation, device: &Device) -> Verdict {
    settled_at(engine, device, NOW).await
}

#[tokio::test]
async fn a_list_is_fetched_from_the_certificates_own_point_and_known_from_then_on() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).revoke(SERIAL, None).sign())]);
    let engine = fetching(&web);
    let device = ca.device(&[9]).at(&[URI]);
    assert!(matches!(status(&engine, &device), Verdict::Open(_)));
    assert!(is_clear(&settled(&engine, &device).await) && is_clear(&status(&engine, &device)));
    assert_eq!(cause(status(&engine, &ca.device(SERIAL).at(&[URI]))), Cause::CertificateRevoked);
    assert_eq!((web.asked(), counted(&engine, "fetched")), (1, 1));
}

#[tokio::test]
async fn points_that_are_not_allowed_are_never_asked() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[("http://elsewhere/a.crl", ca.list(1).sign())]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&["http://elsewhere/a.crl"]);
    assert_eq!(cause(status(&engine, &device)), Cause::RevocationUnknown, "nobody to ask");
    assert_eq!(cause(settled(&engine, &device).await), Cause::RevocationUnknown);
    assert_eq!(web.asked(), 0);
}

#[tokio::test]
async fn a_thousand_waiting_ask_once() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).sign())]);
    web.permits.forget_permits(1000);
    let engine = fetching(&web);
    let waiting: Vec<_> = (0..1000_u32)
        .map(|n| {
            let (engine, device) = (Arc::clone(&engine), ca.device(&n.to_be_bytes()).at(&[URI]));
            tokio::spawn(async move { settled(&engine, &device).await })
        })
        .collect();
    while web.asked() == 0 {
        tokio::task::yield_now().await;
    }
    web.permits.add_permits(1);
    for waiter in waiting {
        assert!(is_clear(&waiter.await.unwrap()));
    }
    assert_eq!(web.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_longer_is_refused_and_the_answer_still_comes() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).sign())]);
    web.permits.forget_permits(1000);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI]);
    let soon = tokio::time::Instant::now().into_std() + Duration::from_secs(1);
    assert_eq!(cause(engine.settle(&[device.link()], at(NOW), soon).await), Cause::RevocationUnknown);
    let mut changes = engine.changes();
    web.permits.add_permits(1);
    changes.changed().await.unwrap();
    assert!(is_clear(&status(&engine, &device)));
}

#[tokio::test]
async fn a_silent_point_is_not_asked_again_at_once_and_the_next_one_is_tried() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI, "http://pki/b.crl"]);
    assert_eq!(cause(settled(&engine, &device).await), Cause::RevocationUnknown);
    assert_eq!(web.asked(), 2);
    assert_eq!(cause(status(&engine, &device)), Cause::RevocationUnknown, "not open: nothing can be learnt now");
    let failure = refusal(settled(&engine, &device).await);
    assert!(failure.cause == Cause::RevocationUnknown && failure.detail.contains("http://pki/b.crl: 404"), "{failure}");
    assert_eq!(web.asked(), 2);
    web.put("http://pki/b.crl", ca.list(1).sign());
    assert!(is_clear(&settled_at(&engine, &device, NOW + 60).await));
}

#[tokio::test]
async fn what_is_fetched_must_be_signed_by_the_issuer_and_about_it() {
    let (ca, forger, other) = (Ca::new("Device CA"), Ca::new("Device CA"), Ca::new("Other CA"));
    let device = || ca.device(SERIAL).at(&[URI]).held_to(RevocationPolicy::Prefer);
    let fetched = async |page: Vec<u8>| settled(&fetching(&Web::with(&[(URI, page)])), &device()).await;
    assert_eq!(cause(fetched(ca.list(1).signed_by(&forger)).await), Cause::RevocationUntrusted);
    for page in [other.list(1).sign(), b"<html>".to_vec(), Vec::new()] {
        assert!(matches!(fetched(page).await, Verdict::Clear { open: Some(_), .. }), "policy prefer");
    }
    let mut sha1 = ca.list(1);
    sha1.algorithm = vec![6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5, 5, 0];
    match fetched(sha1.sign()).await {
        Verdict::Clear { open: Some(why), .. } => assert!(why.detail.contains("SHA-1"), "{why}"),
        other => panic!("{other:?}"),
    }
    let split = ca.list(1).scope(&[&full_name(&["ldap:///CN=x"])]).sign();
    assert!(matches!(fetched(split).await, Verdict::Clear { open: Some(_), .. }), "of another distribution point");
}

#[tokio::test]
async fn an_older_list_from_the_net_does_not_replace_a_newer_one() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(5).valid(NOW - DAY, NOW + 100).revoke(SERIAL, None).sign())]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI]);
    assert_eq!(cause(settled(&engine, &device).await), Cause::CertificateRevoked);
    web.put(URI, ca.list(4).valid(NOW - 2 * DAY, NOW + 9 * DAY).sign());
    let other = ca.device(&[9]).at(&[URI]);
    assert_eq!(cause(settled_at(&engine, &other, NOW + 200).await), Cause::CrlExpired);
    assert_eq!(cause(settled_at(&engine, &device, NOW + 200).await), Cause::CertificateRevoked);
    assert_eq!(counted(&engine, "rollback-refused"), 1);
}

#[tokio::test]
async fn an_expired_list_is_fetched_anew() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).valid(NOW - DAY, NOW + 100).sign())]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI]);
    assert!(is_clear(&settled(&engine, &device).await));
    web.put(URI, ca.list(2).valid(NOW, NOW + DAY).revoke(SERIAL, None).sign());
    assert!(matches!(engine.status(&[device.link()], at(NOW + 200)), Verdict::Open(_)));
    assert_eq!(cause(settled_at(&engine, &device, NOW + 200).await), Cause::CertificateRevoked);
}

#[tokio::test]
async fn deltas_are_fetched_with_the_list_that_names_them() {
    let ca = Ca::new("Device CA");
    let base = ca.list(10).revoke(&[6], Some(6)).freshest(&[DELTA, "http://elsewhere/d"]).sign();
    let delta = ca.list(11).delta_of(10).revoke(SERIAL, None).revoke(&[6], Some(8)).sign();
    let web = Web::with(&[(URI, base), (DELTA, delta)]);
    let engine = fetching(&web);
    assert_eq!(cause(settled(&engine, &ca.device(SERIAL).at(&[URI])).await), Cause::CertificateRevoked);
    assert!(is_clear(&settled(&engine, &ca.device(&[6]).at(&[URI])).await));
    assert_eq!(web.asked(), 2);
}

#[tokio::test]
async fn deltas_that_the_certificate_names_or_a_list_from_a_file_are_fetched_too() {
    let ca = Ca::new("Device CA");
    let delta = || ca.list(11).delta_of(10).revoke(SERIAL, None).sign();
    let web = Web::with(&[(URI, ca.list(10).sign()), (DELTA, delta())]);
    let own_delta = extension(&[0x55, 0x1D, 0x2E], false, &points(&[DELTA]));
    let own_point = extension(&[0x55, 0x1D, 0x1F], false, &points(&[URI]));
    let device = ca.device(SERIAL).with(&[own_point, own_delta]);
    assert_eq!(cause(settled(&fetching(&web), &device).await), Cause::CertificateRevoked);

    let (place, web) = (Place::new(), Web::with(&[(DELTA, delta())]));
    let mut config = config();
    config.crl_files = vec![place.put("a.crl", &ca.list(10).freshest(&[DELTA]).sign())];
    let engine = Revocation::assemble(&config, vec![ca.authority()], Some(web.clone()), None).unwrap();
    engine.shared().refresh(NOW);
    assert_eq!(web.asked(), 0, "no certificate needs it");
    assert!(is_clear(&status(&engine, &ca.device(SERIAL))));
    let mut changes = engine.changes();
    changes.borrow_and_update();
    engine.shared().refresh(NOW);
    changes.changed().await.unwrap();
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
}

#[tokio::test]
async fn points_about_some_reasons_or_of_another_signer_are_never_asked() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).sign())]);
    let engine = fetching(&web);
    for limit in [element(tag::context_primitive(1), &[&[0, 0x80]]), element(tag::context(2), &[&[0xA4, 0]])] {
        let value = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&full_name(&[URI]), &limit])]);
        let device = ca.device(SERIAL).with(&[extension(&[0x55, 0x1D, 0x1F], false, &value)]);
        assert_eq!(cause(settled(&engine, &device).await), Cause::RevocationUnknown);
    }
    assert_eq!(web.asked(), 0);
}

#[tokio::test]
async fn a_fetched_list_that_the_administrator_also_configured_counts_as_configured() {
    let (ca, place) = (Ca::new("Device CA"), Place::new());
    let list = ca.list(1).scope(&[&full_name(&["ldap:///CN=x"])]).sign();
    let mut config = config();
    config.crl_directories = vec![place.directory.path().to_owned()];
    let web = Web::with(&[(URI, list.clone())]);
    let engine = Revocation::assemble(&config, Vec::new(), Some(web), None).unwrap();
    let device = ca.device(SERIAL).at(&[URI]);
    assert_eq!(cause(settled(&engine, &device).await), Cause::RevocationUnknown);
    place.put("a.crl", &list);
    engine.shared().rescan_files(NOW);
    assert!(is_clear(&status(&engine, &device)), "verified at once: its signer was seen");
    assert_eq!(engine.facts().len(), 1);
}

#[tokio::test]
async fn a_forged_list_is_forgotten_when_its_point_gives_another() {
    let (ca, forger) = (Ca::new("Device CA"), Ca::new("Device CA"));
    let web = Web::with(&[(URI, ca.list(9).signed_by(&forger))]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI]);
    assert_eq!(cause(settled(&engine, &device).await), Cause::RevocationUntrusted);
    web.put(URI, ca.list(1).sign());
    assert!(is_clear(&settled_at(&engine, &device, NOW + 60).await));
    assert_eq!(engine.facts().len(), 1);
}

#[tokio::test]
async fn what_was_fetched_counts_on_when_the_configuration_changes() {
    let ca = Ca::new("Device CA");
    let first = fetching(&Web::with(&[(URI, ca.list(5).revoke(SERIAL, None).sign())]));
    let device = ca.device(SERIAL).at(&[URI]).held_to(RevocationPolicy::Prefer);
    assert_eq!(cause(settled(&first, &device).await), Cause::CertificateRevoked);

    let gone = Revocation::assemble_after(&first, &config(), Some(Web::with(&[]))).unwrap();
    assert_eq!(cause(settled(&gone, &device).await), Cause::CertificateRevoked, "although nobody answers now");

    let older = Web::with(&[(URI, ca.list(4).sign())]);
    let rolled_back = Revocation::assemble_after(&gone, &config(), Some(older.clone())).unwrap();
    rolled_back.shared().refresh(NOW);
    let uri = URI.into();
    rolled_back.shared().fetch(&uri, &ca.authority(), NOW, Instant::now() + Duration::from_mins(1)).await;
    assert!(older.asked() > 0 && counted(&rolled_back, "rollback-refused") > 0);
    assert_eq!(cause(status(&rolled_back, &device)), Cause::CertificateRevoked);
}

#[tokio::test]
async fn a_list_in_use_is_fetched_again_as_soon_as_the_configuration_changed() {
    let ca = Ca::new("Device CA");
    let device = ca.device(SERIAL).at(&[URI]);
    let first = fetching(&Web::with(&[(URI, ca.list(1).sign())]));
    assert!(is_clear(&settled(&first, &device).await));
    let second = Revocation::assemble_after(&first, &config(), Some(Web::with(&[(URI, ca.list(2).revoke(SERIAL, None).sign())])));
    let second = second.unwrap();
    assert!(is_clear(&status(&second, &device)));
    let mut changes = second.changes();
    second.shared().refresh(NOW);
    changes.changed().await.unwrap();
    assert_eq!(cause(status(&second, &device)), Cause::CertificateRevoked);
}

#[tokio::test]
async fn a_list_that_nobody_signed_is_left_behind_when_the_configuration_changes() {
    let (ca, forger) = (Ca::new("Device CA"), Ca::new("Device CA"));
    let first = fetching(&Web::with(&[(URI, ca.list(9).signed_by(&forger))]));
    assert_eq!(cause(settled(&first, &ca.device(SERIAL).at(&[URI])).await), Cause::RevocationUntrusted);
    let second = Revocation::assemble_after(&first, &config(), None).unwrap();
    assert_eq!((first.facts().len(), second.facts().len()), (1, 0));
}

#[tokio::test]
async fn a_revocation_that_a_responder_tells_moves_the_generation() {
    let ca = Ca::new("Device CA");
    let answers = [OcspAnswer::Good { until: at(NOW + 50) }, OcspAnswer::Revoked { reason: None, since: NOW }];
    let mut moved = Vec::new();
    for answer in answers {
        let engine = Revocation::assemble(&config(), Vec::new(), None, Some(oracle(answer))).unwrap();
        settled(&engine, &ca.device(SERIAL)).await;
        moved.push(engine.generation());
    }
    assert_eq!(moved, [0, 1]);
}

#[tokio::test]
async fn a_list_in_use_is_fetched_again_before_it_ends_and_an_unused_one_is_not() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).valid(NOW - 100, NOW + 300).sign())]);
    let engine = fetching(&web);
    let device = ca.device(SERIAL).at(&[URI]);
    assert!(is_clear(&settled(&engine, &device).await));
    web.put(URI, ca.list(2).valid(NOW + 200, NOW + DAY).revoke(SERIAL, None).sign());
    engine.shared().refresh(NOW + 170);
    assert_eq!(web.asked(), 1, "not yet");
    let mut changes = engine.changes();
    changes.borrow_and_update();
    engine.shared().refresh(NOW + 230);
    changes.changed().await.unwrap();
    assert_eq!(cause(status(&engine, &device)), Cause::CertificateRevoked);
    engine.shared().refresh(NOW + 3 * DAY);
    engine.shared().expire(NOW, NOW + 3 * DAY);
    assert_eq!((web.asked(), engine.facts().len()), (2, 0));
}

#[tokio::test]
async fn responders_and_lists_are_asked_in_the_configured_order() {
    let ca = Ca::new("Device CA");
    let until = at(NOW + 50);
    for (order, expected, asked) in
        [(RevocationOrder::OcspFirst, until, (0, 1)), (RevocationOrder::CrlFirst, at(NOW + DAY), (1, 0))]
    {
        let (web, oracle) = (Web::with(&[(URI, ca.list(1).sign())]), oracle(OcspAnswer::Good { until }));
        let mut config = config();
        config.order = order;
        let engine = Revocation::assemble(&config, Vec::new(), Some(web.clone()), Some(oracle.clone())).unwrap();
        let device = ca.device(SERIAL).at(&[URI]);
        assert!(matches!(status(&engine, &device), Verdict::Open(_)));
        assert_eq!(settled(&engine, &device).await, Verdict::Clear { until: expected, open: None });
        assert_eq!((web.asked(), oracle.asked.load(Ordering::SeqCst)), asked);
        assert_eq!(status(&engine, &device), Verdict::Clear { until: expected, open: None });
    }
}

#[tokio::test]
async fn who_does_not_vouch_is_made_up_for_by_the_other() {
    let ca = Ca::new("Device CA");
    let silence = || Failure::new(Cause::RevocationUnknown, "timeout");
    let forged = || Failure::new(Cause::RevocationUntrusted, "by somebody else");
    for order in [RevocationOrder::OcspFirst, RevocationOrder::CrlFirst] {
        let judged = async |page: Option<Vec<u8>>, answer: OcspAnswer, policy: RevocationPolicy| {
            let mut config = config();
            config.order = order;
            let web = Web::with(&page.map(|page| (URI, page)).into_iter().collect::<Vec<_>>());
            let engine = Revocation::assemble(&config, Vec::new(), Some(web), Some(oracle(answer))).unwrap();
            settled(&engine, &ca.device(SERIAL).at(&[URI]).held_to(policy)).await
        };
        let (require, prefer) = (RevocationPolicy::Require, RevocationPolicy::Prefer);
        let good = || OcspAnswer::Good { until: at(NOW + 50) };
        let list = || Some(ca.list(1).sign());
        assert!(is_clear(&judged(list(), OcspAnswer::Unvouched(silence()), require).await));
        assert!(is_clear(&judged(list(), OcspAnswer::Untrusted(forged()), require).await));
        assert!(is_clear(&judged(None, good(), require).await));
        let failure = refusal(judged(None, OcspAnswer::Unvouched(silence()), require).await);
        assert!(failure.cause == Cause::RevocationUnknown && failure.detail.contains("OCSP: timeout"), "{failure}");
        assert!(matches!(judged(None, OcspAnswer::Unvouched(silence()), prefer).await, Verdict::Clear { open: Some(_), .. }));
        assert_eq!(cause(judged(None, OcspAnswer::Untrusted(forged()), prefer).await), Cause::RevocationUntrusted);
        let revoked = OcspAnswer::Revoked { reason: Some(1), since: NOW };
        let by_responder = judged(None, revoked, prefer).await;
        assert!(refusal(by_responder).detail.contains("keyCompromise"));
        let listed = Some(ca.list(1).revoke(SERIAL, None).sign());
        if order == RevocationOrder::CrlFirst {
            assert_eq!(cause(judged(listed, good(), prefer).await), Cause::CertificateRevoked);
        }
    }
}

#[tokio::test]
async fn a_list_in_memory_that_revokes_overrules_a_responder_that_does_not() {
    let ca = Ca::new("Device CA");
    let web = Web::with(&[(URI, ca.list(1).revoke(SERIAL, None).sign())]);
    let oracle = oracle(OcspAnswer::Good { until: at(NOW + 50) });
    let mut config = config();
    config.order = RevocationOrder::CrlFirst;
    let engine = Revocation::assemble(&config, Vec::new(), Some(web), Some(oracle.clone())).unwrap();
    oracle.asked.store(1, Ordering::SeqCst);
    let device = ca.device(SERIAL).at(&[URI]);
    assert_eq!(cause(settled(&engine, &device).await), Cause::CertificateRevoked);
    assert_eq!(cause(status(&engine, &device)), Cause::CertificateRevoked);
}

#[tokio::test]
async fn the_engine_as_configured_fetches_over_http_and_asks_no_responder_that_is_not_named() {
    let ca = Ca::new("Device CA");
    let list = ca.list(1).revoke(SERIAL, None).sign();
    let server = Server::start(move |_| Reply::Bytes(ok(&list))).await;
    let mut config = config();
    config.distribution_points = vec![server.url("/")];
    let (responders, timeout) = (vec![server.url("/ocsp")], Duration::from_secs(3));
    config.ocsp = Some(OcspConfig { responders, url: None, timeout, nonce: false, max_age: Duration::from_hours(1) });
    let engine = Revocation::load(&config, Vec::new(), None, None).unwrap();
    let uri = server.url("/a.crl");
    let device = ca.device(&[9]).at(&[&uri]);
    assert!(is_clear(&settled(&engine, &device).await));
    assert!(is_clear(&status(&engine, &device)));
    assert_eq!(cause(status(&engine, &ca.device(SERIAL).at(&[&uri]))), Cause::CertificateRevoked);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(engine.fetch_counts()[0], ("asked", 1));
    assert_eq!(engine.ocsp_counts()[0], ("asked", 0));
}
