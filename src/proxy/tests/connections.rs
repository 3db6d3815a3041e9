use super::*;
use crate::proxy::upstream::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_interleaved_requests_of_two_principals_never_share_a_connection() {
    let users = Arc::<Mutex<HashMap<usize, String>>>::default();
    let notes = Arc::clone(&users);
    let mixed = Arc::new(AtomicUsize::new(0));
    let mixing = Arc::clone(&mixed);
    let address = backend(move |request: Request<Incoming>, connection| {
        let user = token_of(request.headers()["authorization"].to_str().unwrap()).split('|').next().unwrap().to_owned();
        if notes.lock().unwrap().entry(connection).or_insert_with(|| user.clone()) != &user {
            mixing.fetch_add(1, Ordering::SeqCst);
        }
        echo_user(request, connection)
    })
    .await;
    let config = BackendConfig { max_idle_per_principal: 10, ..backend_at(address) };
    let bridge = Arc::new(Bridge::with(config, LIMITS, FixedTokens::default()));
    let work = (0..10).map(|number| {
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move {
            let names = ["alice", "bob"];
            let mut devices = [bridge.device(names[0]).await, bridge.device(names[1]).await];
            for request in 0..100 {
                let who = (request + number) % 2;
                let answer = if request % 3 == 0 { devices[who].get("/eas").await } else { devices[who].post("body").await };
                assert_eq!((answer.status, answer.text()), (200, names[who]));
            }
        })
    });
    for worker in work.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert_eq!(mixed.load(Ordering::SeqCst), 0);
    let connections = users.lock().unwrap().len();
    assert!((2..=20).contains(&connections), "{connections} connections for 1000 requests");
    let bridge = Arc::into_inner(bridge).unwrap();
    let events = bridge.finish().await;
    assert_eq!(events.len(), 1000);
    assert!(events.iter().all(|event| event["outcome"] == "served"));
}

#[tokio::test]
async fn another_certificate_of_the_same_principal_gets_a_connection_of_its_own() {
    let address =
        backend(|request: Request<Incoming>, connection| async move { proved(request.headers(), 200, connection.to_string()) })
            .await;
    let bridge = Bridge::to(address);
    let mut other = Bridge::caller("alice");
    other.certificate.fingerprint = Fingerprint([7; 32]);
    assert_eq!(bridge.device("alice").await.get("/eas").await.text(), "0");
    assert_eq!(bridge.device_as(other).await.get("/eas").await.text(), "1");
    assert_eq!(bridge.device("alice").await.get("/eas").await.text(), "0", "and the first is kept");
}

/// Serves one request on each connection; what happens at the second is up to `then`.
async fn serves_once<F, R>(then: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    raw_backend(move |mut stream, connection| {
        let then = then.clone();
        async move {
            let Some(head) = raw_head(&mut stream).await else { return };
            let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", raw_proof(&head));
            stream.write_all(answer.as_bytes()).await.unwrap();
            then(stream, connection).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_the_back_end_closed_is_noticed_and_costs_nothing() {
    let closed = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&closed);
    let address = serves_once(move |stream, _| {
        let tell = Arc::clone(&tell);
        async move {
            drop(stream);
            tell.notify_one();
        }
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    for _ in 0..20 {
        assert_eq!(device.ask("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.status, 200);
        soon(closed.notified()).await;
    }
    let events = bridge.finish().await;
    assert!(events.iter().all(|event| event["outcome"] == "served"), "{events:#?}");
}

/// Closes a kept connection when the second request has arrived, without an answer.
async fn closes_under_the_second() -> (SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let address = serves_once(move |mut stream, connection| {
        let count = Arc::clone(&count);
        async move {
            if raw_head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            if connection > 0 {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn a_safe_request_on_a_connection_that_closes_under_it_is_sent_once_more() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let (address, lost) = closes_under_the_second().await;
        let bridge = Bridge::to(address);
        let mut device = bridge.device("alice").await;
        for _ in 0..2 {
            let answer = device.ask(format!("{method} /eas HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(answer.status, 200, "{method}");
        }
        assert_eq!(lost.load(Ordering::SeqCst), 1);
        let events = bridge.finish().await;
        assert_eq!((&events[0]["attempts"], &events[1]["attempts"]), (&1.into(), &2.into()));
    }
}

#[tokio::test]
async fn a_post_is_sent_elsewhere_when_its_connection_closes_before_a_byte_of_it_was_written() {
    let (close, closed) = (Arc::<tokio::sync::Notify>::default(), Arc::<tokio::sync::Notify>::default());
    let (told, tell) = (Arc::clone(&close), Arc::clone(&closed));
    let address = serves_once(move |mut stream, _| {
        let (told, tell) = (Arc::clone(&told), Arc::clone(&tell));
        async move {
            told.notified().await;
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "nothing was written");
            tell.notify_one();
        }
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.status, 200);
    let gate = bridge.tokens.gate.lock().await;
    device.send("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nmail").await;
    until(|| bridge.tokens.asked.load(Ordering::SeqCst) == 2).await;
    close.notify_one();
    soon(closed.notified()).await;
    drop(gate);
    assert_eq!(device.answer().await.status, 200);
    assert_eq!(bridge.finish().await[1]["outcome"], "served");
}

#[tokio::test]
async fn a_post_on_a_connection_that_closes_under_it_is_not_sent_twice() {
    let (address, lost) = closes_under_the_second().await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.status, 200);
    let answer = device.post("mail").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")));
    assert_eq!(lost.load(Ordering::SeqCst), 1);
    assert_eq!(bridge.finish().await[1]["reason"], "upstream-closed");
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time_and_beyond_their_number() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let address = serves_once(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            assert!(raw_head(&mut stream).await.is_none());
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let config = BackendConfig { idle_timeout: Duration::from_millis(50), ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    assert_eq!(bridge.device("alice").await.get("/eas").await.status, 200);
    until(|| ended.load(Ordering::SeqCst) > 0).await;
    let config = BackendConfig { max_idle_per_principal: 0, ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    assert_eq!(bridge.device("alice").await.get("/eas").await.status, 200);
    until(|| ended.load(Ordering::SeqCst) > 1).await;
}

#[tokio::test]
async fn the_limit_of_connections_makes_an_idle_one_give_way_to_another_principal() {
    let config = BackendConfig { max_connections: 1, ..backend_at(backend(echo_user).await) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let (mut alice, mut bob) = (bridge.device("alice").await, bridge.device("bob").await);
    for _ in 0..3 {
        assert_eq!(alice.get("/eas").await.text(), "alice");
        assert_eq!(bob.get("/eas").await.text(), "bob");
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_503_when_none_is_idle() {
    let parked = raw_backend(|mut stream, _| async move {
        let _ = raw_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let config = BackendConfig { max_connections: 1, connect_timeout: Duration::from_millis(100), ..backend_at(parked) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut waiting = bridge.device("alice").await;
    waiting.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > 0).await;
    assert_eq!(bridge.device("bob").await.get("/eas").await.status, 503);
}

/// Parks `GET` until it is released, and counts what is parked; answers other requests at once.
async fn parks_get() -> (SocketAddr, Arc<AtomicUsize>, tokio::sync::watch::Sender<bool>) {
    let (release, released) = tokio::sync::watch::channel(false);
    let parked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&parked);
    let address = backend(move |request: Request<Incoming>, connection| {
        let (count, mut released) = (Arc::clone(&count), released.clone());
        async move {
            if request.method() == "GET" {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = released.wait_for(|go| *go).await;
            }
            echo_user(request, connection).await
        }
    })
    .await;
    (address, parked, release)
}

async fn park(bridge: &Bridge, caller: Caller) -> Device {
    let mut device = bridge.device_as(caller).await;
    device.send("GET /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    device
}

#[tokio::test]
async fn one_principal_cannot_take_every_connection_of_a_back_end() {
    let (address, parked, _release) = parks_get().await;
    let config = BackendConfig { max_connections: 33, connect_timeout: Duration::from_secs(1), ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut waiting = Vec::new();
    for number in 0..33 {
        // Another certificate makes no other principal.
        let mut alice = Bridge::caller("alice");
        alice.certificate.fingerprint = Fingerprint([number; 32]);
        waiting.push(park(&bridge, alice).await);
    }
    until(|| parked.load(Ordering::SeqCst) >= 32).await;
    assert_eq!(bridge.device("bob").await.post("mail").await.text(), "bob");
    let events = bridge.finish().await;
    let refused = events.iter().find(|event| event["reason"] == "upstream-unreachable").expect("one of alice's has no place");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("max_connections_per_principal = 32 are in use by alice"), "{detail}");
    assert_eq!((&refused["principal"], &refused["status"]), (&"alice".into(), &503.into()));
}

#[tokio::test]
async fn a_principal_over_its_limit_gives_up_its_own_idle_connection_and_nobody_elses() {
    let config = BackendConfig { max_connections_per_principal: 1, ..backend_at(backend(echo_connection).await) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut other = Bridge::caller("alice");
    other.certificate.fingerprint = Fingerprint([7; 32]);
    let (mut bob, mut alice, mut other) =
        (bridge.device("bob").await, bridge.device("alice").await, bridge.device_as(other).await);
    for (device, connection) in [(&mut bob, "0"), (&mut alice, "1"), (&mut other, "2")] {
        assert_eq!(device.get("/eas").await.text(), connection);
    }
    assert_eq!(bob.get("/eas").await.text(), "0", "bob's was not touched");
}

/// Answers with the number of the connection, proved.
async fn echo_connection(request: Request<Incoming>, connection: usize) -> Page {
    proved(request.headers(), 200, connection.to_string())
}

#[tokio::test]
async fn a_request_over_the_limit_gets_the_place_of_the_next_one_that_ends() {
    for (per_principal, user) in [(1, "alice"), (64, "bob")] {
        let (address, parked, release) = parks_get().await;
        let config = BackendConfig {
            max_connections_per_principal: per_principal,
            max_connections: 1,
            connect_timeout: 2 * PATIENCE,
            ..backend_at(address)
        };
        let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
        let mut first = park(&bridge, Bridge::caller("alice")).await;
        until(|| parked.load(Ordering::SeqCst) == 1).await;
        let mut second = bridge.device(user).await;
        second.send("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        until(|| bridge.tokens.issued.load(Ordering::SeqCst) == 2).await;
        release.send_replace(true);
        assert_eq!(first.answer().await.text(), "alice");
        assert_eq!(second.answer().await.text(), user, "although the first connection could have been kept");
    }
}

#[tokio::test]
async fn a_back_end_that_is_not_there_does_not_answer_or_speaks_no_http_is_503_with_its_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = raw_backend(|stream, _| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let closing = raw_backend(|mut stream, _| async move { drop(raw_head(&mut stream).await) }).await;
    let babbling = raw_backend(|mut stream, _| async move {
        let _ = raw_head(&mut stream).await;
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
    })
    .await;
    for (address, reason) in [
        (nobody, "upstream-unreachable"),
        (silent, "upstream-timeout"),
        (closing, "upstream-closed"),
        (babbling, "upstream-malformed"),
    ] {
        let config = BackendConfig { response_timeout: Duration::from_millis(100), ..backend_at(address) };
        let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
        let answer = bridge.device("alice").await.get("/eas").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{reason}");
        let events = bridge.finish().await;
        assert_eq!((events.len(), events[0]["reason"].as_str()), (1, Some(reason)));
    }
}

/// A TLS server with a certificate for `127.0.0.1`; returns its address, its certificate as PEM and as DER.
async fn tls_backend() -> (SocketAddr, String, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let address = raw_backend(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let token = token_of(request.headers()["authorization"].to_str().unwrap());
                Ok::<_, std::convert::Infallible>(proved(request.headers(), 200, token))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (address, certificate.pem(), certificate.der().to_vec())
}

fn over_tls(address: SocketAddr, directory: &tempfile::TempDir, pem: &str) -> BackendConfig {
    let file = directory.path().join("anchors.pem");
    std::fs::write(&file, pem).unwrap();
    BackendConfig { transport: Transport::Tls { trust_anchors: vec![file] }, ..backend_at(address) }
}

#[tokio::test]
async fn over_tls_the_token_is_bound_to_the_servers_certificate() {
    use sha2::{Digest, Sha256};
    let directory = tempfile::tempdir().unwrap();
    let (address, pem, der) = tls_backend().await;
    let config = over_tls(address, &directory, &pem);
    let bridge = Bridge::with(config.clone(), LIMITS, FixedTokens::default());
    let mut device = bridge.device("alice").await;
    let expected = format!("{:02x?}", Sha256::digest(&der).as_slice());
    for _ in 0..2 {
        let answer = device.get("/eas").await;
        assert_eq!(answer.text().rsplit('|').next(), Some(expected.as_str()));
    }
    let unbound = BackendConfig { channel_binding: false, ..config };
    let bridge = Bridge::with(unbound, LIMITS, FixedTokens::default());
    let answer = bridge.device("alice").await.get("/eas").await;
    assert_eq!((answer.status, answer.text().rsplit('|').next()), (200, Some("")));
}

#[tokio::test]
async fn a_server_by_another_issuer_or_for_another_name_or_without_tls_is_503() {
    let directory = tempfile::tempdir().unwrap();
    let (address, pem, _) = tls_backend().await;
    let (_, foreign, _) = tls_backend().await;
    let mut misnamed = over_tls(address, &directory, &pem);
    misnamed.authority.host = "localhost".into();
    let plain = over_tls(backend(echo_user).await, &directory, &pem);
    let other_directory = tempfile::tempdir().unwrap();
    for config in [over_tls(address, &other_directory, &foreign), misnamed, plain] {
        let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
        assert_eq!(bridge.device("alice").await.get("/eas").await.status, 503);
        assert_eq!(bridge.finish().await[0]["reason"], "upstream-tls");
    }
}

#[tokio::test]
async fn trust_anchors_that_are_missing_or_hold_no_certificate_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = over_tls("127.0.0.1:1".parse().unwrap(), &directory, "no PEM here");
    assert!(Backend::new(config.clone()).unwrap_err().to_string().contains("anchors.pem: no certificate"));
    std::fs::remove_file(directory.path().join("anchors.pem")).unwrap();
    assert!(Backend::new(config).unwrap_err().to_string().contains("anchors.pem"));
}
