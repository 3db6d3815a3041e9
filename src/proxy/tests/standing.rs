//! Certificates that stop counting while their connection is open.

use super::*;
use crate::failure::Answer as Told;

const SOON: Duration = Duration::from_millis(20);

/// A back end that keeps GET until its connection ends, and counts those that ended so.
async fn parks() -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (parked, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun, ended) = (Arc::clone(&parked), Arc::clone(&dropped));
    let address = backend(move |request: Request<Incoming>, connection| {
        let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
        async move {
            if request.uri().path() == "/eas/ping" {
                let _dropped = Dropped(ended);
                begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            proved(request.headers(), 200, connection.to_string())
        }
    })
    .await;
    (address, parked, dropped)
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn caller_with(user: &str, standing: &Arc<Judged>) -> Caller {
    Caller { standing: Arc::clone(standing) as Arc<dyn Standing>, ..Bridge::caller(user) }
}

#[tokio::test]
async fn a_certificate_revoked_while_a_request_waits_ends_the_request_its_tickets_and_its_upstream_connection() {
    let (address, parked, dropped) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged { recheck: SOON, ..Judged::new(Ok(account("alice"))) });
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    device.send("GET /eas/ping HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| parked.load(Ordering::SeqCst) == 1).await;
    assert!(bridge.tokens.evicted.lock().unwrap().is_empty());
    standing.now(Err(Cause::CertificateRevoked.into()));
    let answer = device.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    assert!(device.is_closed().await);
    until(|| dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(*bridge.tokens.evicted.lock().unwrap(), ["alice"]);
    let events = bridge.finish().await;
    let told: Vec<_> = events.iter().map(|event| (&event["event"], &event["reason"], &event["principal"])).collect();
    let (reason, alice) = (&"certificate-revoked".into(), &"alice".into());
    assert_eq!(told, [(&"connection-ended".into(), reason, alice), (&"request".into(), reason, alice)]);
}

#[tokio::test]
async fn the_audit_says_that_nobody_vouched_for_a_certificate_that_was_let_in() {
    let bridge = Bridge::to(backend(echo_user).await);
    let unvouched = Some(Failure::new(Cause::RevocationUnknown, "no responder answered in time"));
    for unvouched in [unvouched, None] {
        let standing = Arc::new(Judged { unvouched, ..Judged::new(Ok(account("alice"))) });
        let mut device = bridge.device_as(caller_with("alice", &standing)).await;
        assert_eq!(device.get("/eas").await.text(), "alice");
    }
    let events = bridge.finish().await;
    let told: Vec<_> = events.iter().map(|event| event.get("unvouched").and_then(|why| why.as_str())).collect();
    assert_eq!(told, [Some("revocation-unknown: no responder answered in time"), None]);
}

#[tokio::test]
async fn an_idle_connection_whose_certificate_was_revoked_is_closed_within_the_interval() {
    let (address, ..) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged { recheck: SOON, ..Judged::new(Ok(account("alice"))) });
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    assert_eq!(device.get("/eas").await.status, 200);
    standing.now(Err(Cause::CertificateRevoked.into()));
    assert!(device.is_closed().await);
    assert_eq!(*bridge.tokens.evicted.lock().unwrap(), ["alice"]);
    let events = bridge.finish().await;
    assert_eq!((&events[1]["event"], &events[1]["outcome"]), (&"connection-ended".into(), &"refused".into()));
}

#[tokio::test]
async fn a_request_after_the_account_was_disabled_is_refused_and_leaves_no_upstream_connection() {
    let (address, ..) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged::new(Ok(account("alice"))));
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    assert_eq!(device.get("/eas").await.text(), "0");
    standing.now(Err(Cause::AccountDisabled.into()));
    assert_eq!(device.get("/eas").await.status, 403);
    assert_eq!(device.get("/eas").await.status, 403);
    assert_eq!(*bridge.tokens.evicted.lock().unwrap(), ["alice"], "once");
    standing.now(Ok(account("alice")));
    assert_eq!(device.get("/eas").await.text(), "1", "the kept connection is gone");
    let reasons: Vec<_> = bridge.finish().await.iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "account-disabled").count(), 2);
}

#[tokio::test]
async fn trouble_of_our_own_is_no_verdict_on_the_certificate() {
    assert_eq!(Cause::DirectoryUnreachable.answer(), Told::Unavailable);
    let (address, parked, dropped) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged { recheck: SOON, ..Judged::new(Ok(account("alice"))) });
    let mut waiting = bridge.device_as(caller_with("alice", &standing)).await;
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    waiting.send("GET /eas/ping HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| parked.load(Ordering::SeqCst) == 1).await;
    standing.now(Err(Cause::DirectoryUnreachable.into()));
    let answer = device.get("/eas").await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    let judgements = standing.judgements.load(Ordering::SeqCst);
    until(|| standing.judgements.load(Ordering::SeqCst) > judgements + 5).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "the waiting request goes on");
    assert!(bridge.tokens.evicted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_revocation_data_ends_a_waiting_request_but_drops_no_tickets() {
    let (address, parked, dropped) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged { recheck: SOON, ..Judged::new(Ok(account("alice"))) });
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    device.send("GET /eas/ping HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| parked.load(Ordering::SeqCst) == 1).await;
    standing.now(Err(Cause::CrlExpired.into()));
    let answer = device.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    until(|| dropped.load(Ordering::SeqCst) == 1).await;
    assert!(bridge.tokens.evicted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_certificate_that_stands_for_another_account_now_shares_nothing_with_the_old_one() {
    let (address, ..) = parks().await;
    let bridge = Bridge::to(address);
    let standing = Arc::new(Judged { asking: true, ..Judged::new(Ok(account("alice"))) });
    let mut device = bridge.device_as(caller_with("alice", &standing)).await;
    assert_eq!(device.get("/eas").await.text(), "0");
    standing.now(Ok(account("bob")));
    assert_eq!(device.get("/eas").await.text(), "1");
    assert_eq!(*bridge.tokens.evicted.lock().unwrap(), ["alice"]);
    let principals: Vec<_> = bridge.finish().await.iter().map(|event| event["principal"].clone()).collect();
    assert_eq!(principals, ["alice", "bob"]);
}
