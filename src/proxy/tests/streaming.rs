use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use sha2::{Digest, Sha256};

use super::*;

const BIG: usize = 30 << 20;

fn block(number: usize) -> Vec<u8> {
    (0..65536u64).map(|n| ((n + number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_megabytes_go_up_and_thirty_come_down_unchanged() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let (head, mut body) = request.into_parts();
        if head.method == "OPTIONS" {
            return proved(&head.headers, 200, "");
        }
        let mut hash = Sha256::new();
        while let Some(frame) = body.frame().await {
            hash.update(frame.unwrap().into_data().unwrap());
        }
        let hash = format!("{:?}", hash.finalize());
        let body = Blocks(0).boxed_unsync();
        let proof = proved(&head.headers, 200, "").headers()["www-authenticate"].to_str().unwrap().to_owned();
        with(with(Response::new(body), "www-authenticate", &proof), "x-hash", &hash)
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send(format!("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: {BIG}\r\n\r\n")).await;
    let (mut up, mut down) = (Sha256::new(), Sha256::new());
    for number in 0..BIG / 65536 {
        let block = block(number);
        up.update(&block);
        device.send(&block).await;
    }
    let answer = device.answer().await;
    assert_eq!(answer.header("x-hash"), Some(format!("{:?}", up.finalize()).as_str()));
    (1..=BIG / 65536).for_each(|number| down.update(block(number)));
    assert_eq!(Sha256::digest(&answer.body), down.finalize());
    let event = &bridge.finish().await[0];
    assert_eq!((&event["bytes_up"], &event["bytes_down"], &event["outcome"]), (&BIG.into(), &BIG.into(), &"served".into()));
}

/// A body of blocks that are made when they are asked for.
struct Blocks(usize);

impl http_body::Body for Blocks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0 += 1;
        Poll::Ready((self.0 <= BIG / 65536).then(|| Ok(Frame::data(Bytes::from(block(self.0))))))
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
    assert!(taken < 64 << 20, "{taken} bytes went into socket buffers and the bridge");
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
    assert!(taken < 64 << 20, "{taken} bytes went into socket buffers and the bridge");
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
