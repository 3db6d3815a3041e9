use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// What a strict reader refuses, as the administrator sees the reason.
const MALFORMED: &[(&str, &str)] = &[
    (
        "POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "both Transfer-Encoding",
    ),
    (
        "POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "both Transfer-Encoding",
    ),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "more than one Content-Length"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "more than one Content-Length"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", "not a number"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "not a number"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "not a number"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not chunked alone"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "not chunked alone"),
    (
        "POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "not chunked alone",
    ),
    ("POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "not a token"),
    ("POST /eas HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\nhello", "folded"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\nX-Long: one\r\n two\r\n\r\n", "folded"),
    ("GET /eas HTTP/1.1\nHost: a\n\n", "bare LF"),
    ("GET /eas HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bare LF"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "control character"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "control character"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "no colon"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n", "not a token"),
    ("GET /eas HTTP/1.1\r\n\r\n", "no Host"),
    ("GET /eas HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host"),
    ("GET /eas HTTP/1.1\r\nHost:\r\n\r\n", "not a host"),
    ("GET /eas HTTP/1.1\r\nHost: user@a\r\n\r\n", "not a host"),
    ("GET /eas HTTP/1.1\r\nHost: a/b\r\n\r\n", "not a host"),
    ("GET /eas HTTP/1.0\r\nHost: a\r\n\r\n", "not HTTP/1.1"),
    ("GET /eas HTTP/2.0\r\nHost: a\r\n\r\n", "not HTTP/1.1"),
    ("PRI * HTTP/2.0\r\n\r\n", "not HTTP/1.1"),
    ("GET /eas\r\nHost: a\r\n\r\n", "method, target, version"),
    ("GET  /eas HTTP/1.1\r\nHost: a\r\n\r\n", "method, target, version"),
    ("GET /e as HTTP/1.1\r\nHost: a\r\n\r\n", "method, target, version"),
    ("G@T /eas HTTP/1.1\r\nHost: a\r\n\r\n", "not a token"),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "not served"),
    ("TRACE /eas HTTP/1.1\r\nHost: a\r\n\r\n", "not served"),
    ("TRACK /eas HTTP/1.1\r\nHost: a\r\n\r\n", "not served"),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path"),
    ("GET eas HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path"),
    ("GET ftp://a/eas HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path"),
    ("GET http://user@a/eas HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path"),
    ("GET http://b/eas HTTP/1.1\r\nHost: a\r\n\r\n", "different hosts"),
    ("GET /eas#fragment HTTP/1.1\r\nHost: a\r\n\r\n", "percent-encoded"),
    ("GET /eas\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", "percent-encoded"),
    ("GET /eas/ä HTTP/1.1\r\nHost: a\r\n\r\n", "percent-encoded"),
    ("GET /eas/../x HTTP/1.1\r\nHost: a\r\n\r\n", "dot segment"),
    ("GET /eas/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", "dot segment"),
    ("GET /eas/..%2fx HTTP/1.1\r\nHost: a\r\n\r\n", "encoded slash"),
    ("GET /eas\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n", "backslash"),
    ("\x16\x03\x01\x02\r\n\r\n", "method, target, version"),
];

#[tokio::test]
async fn every_malformed_request_is_answered_400_closed_audited_once_and_reaches_no_back_end() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let address = raw_backend(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let bridge = Bridge::to(address);
    for (request, _) in MALFORMED {
        let mut device = bridge.device("alice").await;
        let answer = device.ask(request).await;
        assert_eq!(answer.status, 400, "{request:?}");
        assert_eq!(answer.text(), "The request is malformed.\n");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        assert!(answer.header("x-kcd-correlation-id").is_some());
        assert!(device.is_closed().await, "{request:?}");
    }
    let events = bridge.finish().await;
    assert_eq!(events.len(), MALFORMED.len());
    for (event, (request, reason)) in events.iter().zip(MALFORMED) {
        assert_eq!((event["stage"].as_str(), event["outcome"].as_str()), (Some("request"), Some("refused")), "{request:?}");
        assert!(event["detail"].as_str().unwrap().contains(reason), "{request:?}: {}", event["detail"]);
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn oversized_heads_are_answered_400_whole_or_unfinished() {
    let bridge = Bridge::to(backend(echo_user).await);
    let long = "x".repeat(20_000);
    let many = "a: b\r\n".repeat(101);
    for request in [
        format!("GET /eas HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
        format!("GET /eas HTTP/1.1\r\nHost: a\r\nX: {long}"),
        format!("GET /eas?{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /eas HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!("GET /eas HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(2000)),
        format!("{} /eas HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(2000)),
    ] {
        let mut device = bridge.device("alice").await;
        assert_eq!(device.ask(&request).await.status, 400);
        assert!(device.is_closed().await);
    }
    let events = bridge.finish().await;
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    let (large, malformed) = ("headers-too-large", "malformed-request");
    assert_eq!(reasons, [large, large, large, malformed, malformed, malformed]);
}

#[tokio::test]
async fn a_head_up_to_the_limit_is_served() {
    let bridge = Bridge::to(backend(echo_user).await);
    let long = "x".repeat(16_000);
    let answer = bridge.device("alice").await.ask(format!("GET /eas HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_come_whole_in_time_ends_the_connection_and_is_audited() {
    let limits = HeadLimits { header_timeout: Duration::from_millis(50), ..LIMITS };
    let bridge = Bridge::with(backend_at(backend(echo_user).await), limits, FixedTokens::default());
    let mut slow = bridge.device("alice").await;
    slow.send("GET /eas HTTP/1.1\r\nHo").await;
    assert!(slow.is_closed().await);
    let mut cut = bridge.device("alice").await;
    cut.send("GET /eas HTTP/1.1\r\nHo").await;
    cut.stream.shutdown().await.unwrap();
    assert!(cut.is_closed().await);
    let events = bridge.finish().await;
    let mut reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["malformed-request", "request-timeout"]);
}

/// A device's connection that holds the beginning of a head; then it is reset, or tells that the bridge waits for more.
struct HalfHead {
    sent: bool,
    reset: bool,
    waiting: Arc<tokio::sync::Notify>,
}

impl AsyncRead for HalfHead {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if !std::mem::replace(&mut self.sent, true) {
            out.put_slice(b"GET /eas HTTP/1.1\r\nHo");
            return Poll::Ready(Ok(()));
        }
        if self.reset {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        self.waiting.notify_one();
        Poll::Pending
    }
}

impl AsyncWrite for HalfHead {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_head_that_a_reset_or_a_stop_cuts_off_is_audited() {
    for (reset, reason, outcome) in [(true, "malformed-request", "refused"), (false, "shutting-down", "failed")] {
        let bridge = Bridge::to("127.0.0.1:1".parse().unwrap());
        let waiting = Arc::<tokio::sync::Notify>::default();
        let io = HalfHead { sent: false, reset, waiting: Arc::clone(&waiting) };
        let peer = "127.0.0.1:1".parse().unwrap();
        let serving = serve_connection(Arc::clone(&bridge.proxy), io, Bridge::caller("alice"), peer, bridge.trigger.listen());
        let serving = tokio::spawn(serving);
        if reset {
            soon(serving).await.unwrap();
        } else {
            soon(waiting.notified()).await;
        }
        let events = bridge.finish().await;
        let found: Vec<_> = events.iter().map(|event| (event["reason"].as_str(), event["outcome"].as_str())).collect();
        assert_eq!(found, [(Some(reason), Some(outcome))]);
    }
}

#[tokio::test]
async fn a_connection_without_a_request_closes_after_the_idle_time_without_an_event() {
    let limits = HeadLimits { idle_timeout: Duration::from_millis(50), ..LIMITS };
    let bridge = Bridge::with(backend_at(backend(echo_user).await), limits, FixedTokens::default());
    assert!(bridge.device("alice").await.is_closed().await);
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.status, 200);
    assert!(device.is_closed().await);
    assert_eq!(bridge.finish().await.len(), 1);
}

#[tokio::test]
async fn a_malformed_chunked_body_is_refused_and_the_connection_closed() {
    let bridge = Bridge::to(backend(echo_user).await);
    for body in
        ["zz\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "-1\r\n\r\n", "fffffffffffffffff\r\n"]
    {
        let mut device = bridge.device("alice").await;
        let answer = device.ask(format!("POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert!(device.is_closed().await, "{body:?}");
    }
    let events = bridge.finish().await;
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["reason"] == "malformed-request"), "{events:#?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_the_other_and_a_malformed_one_in_its_turn() {
    let bridge = Bridge::to(backend(echo_user).await);
    let mut device = bridge.device("alice").await;
    let good = "GET /eas HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n";
    device.send(format!("{good}{post}\r\n{good}GET /eas HTTP/1.0\r\n\r\n{good}")).await;
    for _ in 0..3 {
        assert_eq!(device.answer().await.status, 200);
    }
    assert_eq!(device.answer().await.status, 400);
    assert!(device.is_closed().await);
    assert_eq!(bridge.finish().await.len(), 4);
}

proptest::proptest! {
    #[test]
    fn framing_never_panics_and_never_claims_more_than_it_was_given(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256), from in 0usize..300) {
        use super::super::framing::{Chunks, check_head, head_length};
        let _ = check_head(&bytes);
        let _ = head_length(&bytes, from);
        if let Ok(length) = Chunks::default().follow(&bytes) {
            proptest::prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn chunked_framing_finds_the_same_end_however_the_bytes_are_cut(chunks in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40), 0..5), cut in 1usize..20) {
        use super::super::framing::Chunks;
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let end = wire.len();
        wire.extend_from_slice(b"GET / HTTP/1.1");
        let (mut state, mut at) = (Chunks::default(), 0);
        while !state.is_done() {
            let part = &wire[at..wire.len().min(at + cut)];
            proptest::prop_assert!(!part.is_empty());
            at += state.follow(part).unwrap();
        }
        proptest::prop_assert_eq!(at, end);
    }
}

/// What gets past the guard is taken by the HTTP library: no answer is made behind the audit log's back.
#[tokio::test]
async fn whatever_bytes_arrive_every_answer_is_ours_and_has_one_event() {
    let good = b"GET /eas/a?b=c HTTP/1.1\r\nHost: mail.example:443\r\nX-Name: value, \xE4\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    let limits = HeadLimits { header_timeout: Duration::from_millis(20), ..LIMITS };
    let bridge = Bridge::with(backend_at(backend(echo_user).await), limits, FixedTokens::default());
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    let mut ids = Vec::new();
    for _ in 0..600 {
        let mut bytes = good.to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, u8::try_from(next(256)).unwrap()),
                2 => bytes[at] = b"\r\n \t:\0/%.\\?#@,;"[next(15)],
                _ => bytes[at] = u8::try_from(next(256)).unwrap(),
            }
        }
        let mut device = bridge.device("alice").await;
        device.send(&bytes).await;
        // A length that grew makes the bridge wait for a body that does not come.
        let mut chunk = [0; 4096];
        if let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_millis(100), device.stream.read(&mut chunk)).await {
            let answer = String::from_utf8(chunk[..read].to_vec()).unwrap();
            ids.push(header_of(&answer, "x-kcd-correlation-id").unwrap_or_else(|| panic!("{answer:?} to {bytes:?}")).to_owned());
        }
    }
    let events = bridge.finish().await;
    let mut audited: Vec<_> = events.iter().map(|event| event["correlation_id"].as_str().unwrap().to_owned()).collect();
    audited.sort_unstable();
    audited.dedup();
    assert_eq!(audited.len(), events.len());
    assert!(ids.len() > 300 && ids.iter().all(|id| audited.binary_search(id).is_ok()), "{} answers", ids.len());
}
