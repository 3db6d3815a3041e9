use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use http_body::Frame;

const BIG: usize = 30 << 20;

const PERIOD: usize = 65521;

/// A pattern whose period fits no buffer size.
fn pattern() -> Vec<u8> {
    (0..PERIOD as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Whether these bytes stand at this place of the repeated pattern.
fn continues(pattern: &[u8], at: usize, mut bytes: &[u8]) -> bool {
    let mut at = at % PERIOD;
    while !bytes.is_empty() {
        let step = bytes.len().min(PERIOD - at);
        if bytes[..step] != pattern[at..at + step] {
            return false;
        }
        (at, bytes) = ((at + step) % PERIOD, &bytes[step..]);
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_megabytes_go_up_and_thirty_come_down_unchanged() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let (head, mut body) = request.into_parts();
        if head.method == "OPTIONS" {
            return proved(&head.headers, 200, "");
        }
        let (pattern, mut received) = (pattern(), 0);
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(continues(&pattern, received, &data), "altered after {received} bytes");
            received += data.len();
        }
        let proof = proved(&head.headers, 200, "").headers()["www-authenticate"].to_str().unwrap().to_owned();
        let blocks = Blocks { block: Bytes::from(pattern), left: BIG };
        let page = with(Response::new(blocks.boxed_unsync()), "content-length", &BIG.to_string());
        with(with(page, "www-authenticate", &proof), "x-received", &received.to_string())
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send(format!("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: {BIG}\r\n\r\n")).await;
    let (pattern, mut left) = (pattern(), BIG);
    while left > 0 {
        let step = left.min(PERIOD);
        device.send(&pattern[..step]).await;
        left -= step;
    }
    let head = device.head().await;
    assert_eq!(head.header("x-received"), Some(BIG.to_string().as_str()));
    let mut received = 0;
    while received < BIG {
        assert!(continues(&pattern, received, &device.buffer), "altered after {received} bytes");
        received += std::mem::take(&mut device.buffer).len();
        assert!(received == BIG || device.more().await);
    }
    let event = &bridge.finish().await[0];
    assert_eq!((&event["bytes_up"], &event["bytes_down"], &event["outcome"]), (&BIG.into(), &BIG.into(), &"served".into()));
}

/// A body of blocks that are made when they are asked for.
struct Blocks {
    block: Bytes,
    left: usize,
}

impl http_body::Body for Blocks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let step = self.left.min(self.block.len());
        self.left -= step;
        Poll::Ready((step > 0).then(|| Ok(Frame::data(self.block.slice(..step)))))
    }
}

/// Writes until nothing more goes in for a while; returns how much went in.
async fn fill(stream: &mut TcpStream, limit: usize) -> usize {
    let piece = vec![b'x'; 65536];
    let mut written = 0;
    while written < limit {
        match tokio::time::timeout(Duration::from_millis(300), stream.write(&piece)).await {
            Ok(result) => written += result.unwrap(),
            Err(_) => break,
        }
    }
    written
}

#[tokio::test]
async fn a_back_end_that_does_not_read_stops_the_device_from_sending() {
    let address = raw_backend(|mut stream, _| async move {
        while let Some(head) = raw_head(&mut stream).await {
            if head.starts_with("POST") {
                std::future::pending::<()>().await;
            }
            let _ =
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", raw_proof(&head)).as_bytes()).await;
        }
    })
    .await;
    let config = BackendConfig { max_body_bytes: 1 << 40, ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut device = bridge.device("alice").await;
    device.send(format!("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1u64 << 34)).await;
    let taken = fill(&mut device.stream, 256 << 20).await;
    assert!(taken < 32 << 20, "{taken} bytes went into socket buffers and the bridge");
}

#[tokio::test]
async fn a_device_that_does_not_read_stops_the_back_end_from_sending() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let address = raw_backend(move |mut stream, _| {
        let tell = tell.lock().unwrap().take();
        async move {
            let head = raw_head(&mut stream).await.unwrap();
            let _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n", raw_proof(&head), 1u64 << 34).as_bytes())
                .await;
            tell.unwrap().send(fill(&mut stream, 256 << 20).await).unwrap();
        }
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let taken = soon(told).await.unwrap();
    assert!(taken < 32 << 20, "{taken} bytes went into socket buffers and the bridge");
}

#[tokio::test]
async fn a_body_over_the_limit_is_400_announced_or_not() {
    let config = BackendConfig { max_body_bytes: 1000, ..backend_at(backend(echo_user).await) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let chunk = "x".repeat(600);
    for request in [
        "POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(),
        format!(
            "POST /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n"
        ),
    ] {
        let mut device = bridge.device("alice").await;
        assert_eq!(device.ask(request).await.status, 400);
        assert!(device.is_closed().await);
    }
    assert!(bridge.finish().await.iter().all(|event| event["reason"] == "body-too-large"));
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_behind_a_priming_request_whatever_the_method() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let (head, body) = request.into_parts();
        let chunked = head.headers.contains_key("transfer-encoding");
        let body = body.collect().await.unwrap().to_bytes();
        proved(&head.headers, 200, format!("{} {chunked} {}", head.method, String::from_utf8_lossy(&body)))
    })
    .await;
    let bridge = Bridge::to(address);
    for method in ["POST", "GET", "PROPFIND"] {
        let request = format!(
            "{method} /eas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-Trailer: x\r\n\r\n"
        );
        assert_eq!(bridge.device("alice").await.ask(request).await.text(), format!("{method} true hello!"));
    }
    let attempts: Vec<_> = bridge.finish().await.iter().map(|event| event["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [2, 1, 1], "only the cold connection is primed");
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_complete_to_the_device() {
    for rest in ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 10\r\n\r\nhello"] {
        let address = raw_backend(move |mut stream, _| async move {
            let head = raw_head(&mut stream).await.unwrap();
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{}{rest}", raw_proof(&head)).as_bytes()).await;
        })
        .await;
        let bridge = Bridge::to(address);
        let mut device = bridge.device("alice").await;
        device.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(device.head().await.status, 200);
        while device.more().await {}
        let body = String::from_utf8(device.buffer.clone()).unwrap();
        assert!(!body.ends_with("0\r\n\r\n") && body.contains("hello"), "{body:?}");
        let event = &bridge.finish().await[0];
        assert_eq!(
            (&event["outcome"], &event["reason"], &event["status"]),
            (&"failed".into(), &"upstream-closed".into(), &200.into())
        );
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_end_of_the_upload_reaches_the_device() {
    let address = raw_backend(|mut stream, _| async move {
        let _ = raw_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge").await;
        std::future::pending::<()>().await;
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nthe beginning").await;
    let answer = device.answer().await;
    assert_eq!((answer.line.as_str(), answer.text()), ("HTTP/1.1 413 Too Large", "large"));
    // The rest never comes; the connection cannot be used again.
    assert!(device.is_closed().await);
    assert_eq!(bridge.finish().await[0]["outcome"], "served");
}

#[tokio::test]
async fn a_refusal_before_the_upload_reaches_a_device_that_goes_on_sending() {
    let bridge = Bridge::to(backend(echo_user).await);
    bridge.tokens.refused.lock().unwrap().insert("carol".into(), Cause::UserNotDelegable);
    let device = bridge.device("carol").await;
    let (mut reading, mut writing) = device.stream.into_split();
    let sending = tokio::spawn(async move {
        let _ = writing.write_all(b"POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n").await;
        let _ = writing.write_all(&vec![0; 4_000_000]).await;
    });
    let mut answer = Vec::new();
    let _ = soon(reading.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 Forbidden\r\n"), "{:?}", String::from_utf8_lossy(&answer));
    soon(sending).await.unwrap();
    assert_eq!(bridge.finish().await[0]["reason"], "user-not-delegable");
}
