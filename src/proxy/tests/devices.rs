use super::*;
use crate::proxy::server::MAX_REFUSALS;

/// Takes a request, answers with `answer` if there is one, and tells when the bridge has closed the connection.
async fn parking(answer: &'static str) -> (SocketAddr, Arc<tokio::sync::Notify>, Arc<tokio::sync::Notify>) {
    let (arrived, gone) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell_arrived, tell_gone) = (Arc::clone(&arrived), Arc::clone(&gone));
    let address = raw_backend(move |mut stream, _| {
        let (arrived, gone) = (Arc::clone(&tell_arrived), Arc::clone(&tell_gone));
        async move {
            let Some(head) = raw_head(&mut stream).await else { return };
            let length = header_of(&head, "content-length").map_or(0, |value| value.parse().unwrap());
            let _ = stream.read_exact(&mut vec![0; length]).await;
            if !answer.is_empty() {
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{}{answer}", raw_proof(&head)).as_bytes()).await;
            }
            arrived.notify_one();
            let _ = stream.read(&mut [0]).await;
            gone.notify_one();
        }
    })
    .await;
    (address, arrived, gone)
}

async fn within_a_second(event: &tokio::sync::Notify) {
    tokio::time::timeout(Duration::from_secs(1), event.notified()).await.expect("within a second");
}

#[tokio::test]
async fn a_device_that_hangs_up_cancels_its_parked_request_within_a_second() {
    for request in [
        "POST /eas?Cmd=Ping HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nping",
        "GET /eas HTTP/1.1\r\nHost: a\r\n\r\n",
        // Also when the next request is on its way already.
        "GET /eas HTTP/1.1\r\nHost: a\r\n\r\nGET /eas HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (address, arrived, gone) = parking("").await;
        let bridge = Bridge::to(address);
        let mut device = bridge.device("alice").await;
        device.send(request).await;
        soon(arrived.notified()).await;
        drop(device);
        within_a_second(&gone).await;
        let events = bridge.finish().await;
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!((&events[0]["outcome"], &events[0]["reason"]), (&"client-gone".into(), &"client-gone".into()));
    }
}

#[tokio::test]
async fn a_device_that_hangs_up_in_the_middle_of_the_answer_cancels_it_within_a_second() {
    let (address, arrived, gone) = parking("Content-Length: 100\r\n\r\nhello").await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(arrived.notified()).await;
    assert_eq!(device.head().await.status, 200);
    drop(device);
    within_a_second(&gone).await;
    let events = bridge.finish().await;
    assert_eq!((events.len(), &events[0]["outcome"], &events[0]["status"]), (1, &"client-gone".into(), &200.into()));
}

#[tokio::test]
async fn a_device_that_hangs_up_in_the_middle_of_its_body_cancels_the_request() {
    let (address, _, gone) = parking("").await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf").await;
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > 0).await;
    drop(device);
    within_a_second(&gone).await;
    let events = bridge.finish().await;
    assert_eq!((events.len(), &events[0]["outcome"]), (1, &"client-gone".into()));
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_lets_requests_in_flight_end() {
    let (release, released) = tokio::sync::watch::channel(false);
    let address = backend(move |request: Request<Incoming>, _| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|go| *go).await;
            proved(request.headers(), 200, "done")
        }
    })
    .await;
    let bridge = Bridge::to(address);
    let (mut idle, mut busy) = (bridge.device("alice").await, bridge.device("bob").await);
    busy.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > 0).await;
    let finishing = tokio::spawn(bridge.finish());
    assert!(idle.is_closed().await);
    release.send_replace(true);
    let answer = busy.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("done", Some("close")));
    assert!(busy.is_closed().await);
    drop((idle, busy));
    assert_eq!(soon(finishing).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_is_answered_503() {
    let (address, arrived, gone) = parking("").await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("POST /eas?Cmd=Ping HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    soon(arrived.notified()).await;
    let Bridge { trigger, proxy, tokens, writer, log } = bridge;
    assert!(!trigger.stop(Duration::from_millis(20)).await);
    let answer = device.answer().await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("connection")), (503, Some("5"), Some("close")));
    within_a_second(&gone).await;
    drop((proxy, tokens));
    soon(tokio::task::spawn_blocking(|| writer.finish())).await.unwrap();
    let event: Value = serde_json::from_slice(&log.lock().unwrap()).unwrap();
    assert_eq!((&event["reason"], &event["outcome"]), (&"shutting-down".into(), &"failed".into()));
}

#[tokio::test]
async fn an_answer_that_outlasts_the_drain_is_cut_and_audited() {
    let (address, arrived, gone) = parking("Content-Length: 100\r\n\r\nhello").await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(arrived.notified()).await;
    assert_eq!(device.head().await.status, 200);
    let events = bridge.finish().await;
    within_a_second(&gone).await;
    assert_eq!((events.len(), &events[0]["reason"]), (1, &"shutting-down".into()));
}

const SERVER_LIMITS: ServerLimits =
    ServerLimits { max_connections: 1000, handshake_timeout: PATIENCE, stall_timeout: Duration::from_mins(5) };

/// Lets everybody in as the user that the first line names; refuses `mallory`.
struct ByName;

impl Acceptor for ByName {
    type Io = TcpStream;

    async fn accept(&self, mut tcp: TcpStream, _: SocketAddr) -> Result<(TcpStream, Caller), Refusal> {
        let mut name = String::new();
        while !name.ends_with('\n') {
            name.push(char::from(tcp.read_u8().await.map_err(|error| Failure::new(Cause::HandshakeFailed, error.to_string()))?));
        }
        let caller = Bridge::caller(name.trim());
        if name.trim() == "mallory" {
            return Err(Refusal {
                failure: Failure::new(Cause::UnknownIssuer, "CN=Mallory"),
                certificate: Some(Box::new(caller.certificate)),
            });
        }
        Ok((tcp, caller))
    }
}

#[tokio::test]
async fn the_accept_loop_lets_in_refuses_counts_and_stops() {
    let bridge = Bridge::to(backend(echo_user).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits { max_connections: 2, handshake_timeout: Duration::from_millis(200), ..SERVER_LIMITS };
    let serving = tokio::spawn(serve(listener, Arc::new(ByName), Arc::clone(&bridge.proxy), limits, bridge.trigger.listen()));
    let connect = || async { Device { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() } };
    let mut alice = connect().await;
    alice.send("alice\n").await;
    assert_eq!(alice.get("/eas").await.text(), "alice");
    let mut mallory = connect().await;
    mallory.send("mallory\n").await;
    assert!(mallory.is_closed().await);
    let mut silent = connect().await;
    assert!(silent.is_closed().await, "after the handshake time");
    let mut bob = connect().await;
    bob.send("bob\n").await;
    assert_eq!(bob.get("/eas").await.text(), "bob");
    let mut third = connect().await;
    assert!(third.is_closed().await, "over the limit");
    let finishing = tokio::spawn(bridge.finish());
    soon(serving).await.unwrap();
    assert!(alice.is_closed().await && bob.is_closed().await);
    drop((alice, bob));
    let events = soon(finishing).await.unwrap();
    let summary: Vec<_> =
        events.iter().map(|event| (event["event"].as_str().unwrap(), event["reason"].as_str().unwrap_or("-"))).collect();
    assert_eq!(
        summary,
        [
            ("request", "-"),
            ("handshake-refused", "unknown-issuer"),
            ("handshake-refused", "handshake-timeout"),
            ("request", "-"),
            ("handshake-refused", "too-many-connections"),
        ]
    );
    assert_eq!(events[1]["certificate"]["issuer"], "CN=Device CA");
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn devices_that_connect_and_say_nothing_keep_nobody_out() {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: files.maximum, ..files })
        .unwrap();
    let bridge = Bridge::to(backend(echo_user).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits { handshake_timeout: 2 * PATIENCE, ..SERVER_LIMITS };
    tokio::spawn(serve(listener, Arc::new(ByName), Arc::clone(&bridge.proxy), limits, bridge.trigger.listen()));
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(soon(TcpStream::connect(address)).await.unwrap());
    }
    let mut alice = Device { stream: soon(TcpStream::connect(address)).await.unwrap(), buffer: Vec::new() };
    alice.send("alice\n").await;
    assert_eq!(alice.get("/eas").await.text(), "alice");
    drop(silent);
}

#[tokio::test]
async fn a_stop_ends_the_accept_loop_although_the_audit_log_takes_nothing() {
    let bridge = Bridge::to("127.0.0.1:1".parse().unwrap());
    let mut places = Vec::new();
    for _ in 0..AUDIT_PLACES {
        places.push(soon(bridge.proxy.audit.reserve()).await);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits { max_connections: 0, ..SERVER_LIMITS };
    let serving = tokio::spawn(serve(listener, Arc::new(ByName), Arc::clone(&bridge.proxy), limits, bridge.trigger.listen()));
    for _ in 0..=MAX_REFUSALS {
        let mut refused = Device { stream: soon(TcpStream::connect(address)).await.unwrap(), buffer: Vec::new() };
        assert!(refused.is_closed().await);
    }
    let stopping = tokio::spawn(bridge.trigger.stop(PATIENCE));
    soon(serving).await.unwrap();
    drop(places);
    assert!(soon(stopping).await.unwrap(), "and the events are written when it does");
}

#[tokio::test]
async fn a_device_that_takes_nothing_of_its_answer_loses_the_connection() {
    let address = raw_backend(|mut stream, _| async move {
        let Some(head) = raw_head(&mut stream).await else { return };
        let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n", raw_proof(&head), 1u64 << 34);
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(&[0; 4096]).await.is_ok() {}
    })
    .await;
    let bridge = Bridge::to(address);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits { stall_timeout: Duration::from_millis(500), ..SERVER_LIMITS };
    tokio::spawn(serve(listener, Arc::new(ByName), Arc::clone(&bridge.proxy), limits, bridge.trigger.listen()));
    let mut device = Device { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() };
    device.send("alice\nGET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(device.head().await.status, 200);
    until(|| !bridge.log.lock().unwrap().is_empty()).await;
    let event = &bridge.finish().await[0];
    assert_eq!((&event["outcome"], &event["status"]), (&"client-gone".into(), &200.into()));
    drop(device);
}

#[tokio::test]
async fn a_hang_up_over_tls_cancels_within_a_second_with_and_without_a_farewell() {
    let (server, client) = tls_pair();
    for farewell in [true, false] {
        let (address, arrived, gone) = parking("").await;
        let bridge = Bridge::to(address);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tcp, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (accepted, peer) = accepted.unwrap();
        let name = rustls_pki_types::ServerName::try_from("bridge").unwrap();
        let (device, io) = tokio::join!(client.connect(name, tcp.unwrap()), server.accept(accepted));
        let (mut device, io) = (device.unwrap(), io.unwrap());
        tokio::spawn(serve_connection(Arc::clone(&bridge.proxy), io, Bridge::caller("alice"), peer, bridge.trigger.listen()));
        device.write_all(b"GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        soon(arrived.notified()).await;
        if farewell {
            device.shutdown().await.unwrap();
        }
        drop(device);
        within_a_second(&gone).await;
        assert_eq!(bridge.finish().await[0]["outcome"], "client-gone");
    }
}

fn tls_pair() -> (tokio_rustls::TlsAcceptor, tokio_rustls::TlsConnector) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["bridge".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

#[tokio::test]
async fn a_parked_request_costs_little_memory() {
    let bridge = Bridge::to("127.0.0.1:1".parse().unwrap());
    let (io, _device) = tokio::io::duplex(64);
    let peer = "127.0.0.1:1".parse().unwrap();
    let connection = serve_connection(Arc::clone(&bridge.proxy), io, Bridge::caller("alice"), peer, bridge.trigger.listen());
    let size = size_of_val(&connection);
    assert!(size < 8192, "{size} bytes for a connection's task");
}
