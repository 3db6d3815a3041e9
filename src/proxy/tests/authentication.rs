use super::*;
use sha2::{Digest, Sha256};
use tracing::level_filters::LevelFilter;

/// A back end that answers as the script says, and then proves itself; it notes token and body of every request.
struct Scripted {
    address: SocketAddr,
    seen: Seen,
}

/// Token and body of every request.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// One answer: a status and the `WWW-Authenticate` values.
type Step = (u16, &'static [&'static str]);

const NEGOTIATE: Step = (401, &["Negotiate", "NTLM"]);
const NTLM: Step = (401, &["NTLM"]);
const MODIFIED: Step = (401, &["=modified"]);
const SKEW: Step = (401, &["=skew"]);
const REJECT: Step = (401, &["=reject"]);
const PROVED_401: Step = (401, &["proof"]);
const GARBAGE: Step = (401, &["=garbage"]);

impl Scripted {
    async fn new(steps: &'static [Step]) -> Self {
        let seen = Seen::default();
        let notes = Arc::clone(&seen);
        let address = backend(move |request: Request<Incoming>, _| {
            let notes = Arc::clone(&notes);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes().to_vec();
                let token = token_of(head.headers["authorization"].to_str().unwrap());
                let number = {
                    let mut notes = notes.lock().unwrap();
                    notes.push((token.clone(), body));
                    notes.len() - 1
                };
                let Some((status, values)) = steps.get(number) else { return proved(&head.headers, 200, "welcome") };
                let mut page = page(*status, "internal words of the back end");
                for value in *values {
                    let value = match value.strip_prefix('=') {
                        Some(data) => negotiate(data),
                        None if *value == "proof" => negotiate(&format!("proof|{token}")),
                        None => (*value).to_owned(),
                    };
                    page = with(page, "www-authenticate", &value);
                }
                page
            }
        })
        .await;
        Self { address, seen }
    }

    /// Ticket generation and body of every request.
    fn tickets(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(token, _)| token.split('|').nth(1).unwrap().to_owned()).collect()
    }
}

async fn outcome(steps: &'static [Step]) -> (Answer, Vec<String>, Value) {
    let scripted = Scripted::new(steps).await;
    let bridge = Bridge::to(scripted.address);
    let answer = bridge.device("alice").await.post("a body that has to arrive whole").await;
    let mut events = bridge.finish().await;
    assert_eq!(events.len(), 1);
    for (_, body) in &*scripted.seen.lock().unwrap() {
        assert_eq!(body, b"a body that has to arrive whole");
    }
    let tokens: std::collections::HashSet<_> = scripted.seen.lock().unwrap().iter().map(|(token, _)| token.clone()).collect();
    assert_eq!(tokens.len(), scripted.seen.lock().unwrap().len(), "a token is used once");
    assert!(answer.header("www-authenticate").is_none());
    (answer, scripted.tickets(), events.remove(0))
}

#[tokio::test]
async fn a_first_401_is_answered_by_a_fresh_token_of_the_same_ticket() {
    for steps in [&[NEGOTIATE], &[SKEW], &[REJECT], &[GARBAGE], &[PROVED_401]] as [&'static [Step]; 5] {
        let (answer, tickets, event) = outcome(steps).await;
        assert_eq!((answer.status, answer.text()), (200, "welcome"), "{steps:?}");
        assert_eq!(tickets, ["0", "0"], "{steps:?}");
        assert_eq!((&event["attempts"], &event["outcome"], &event["backend_status"]), (&2.into(), &"served".into(), &200.into()));
    }
}

#[tokio::test]
async fn a_second_401_is_answered_by_a_new_ticket() {
    let (answer, tickets, _) = outcome(&[NEGOTIATE, NEGOTIATE]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(tickets, ["0", "0", "1"]);
}

#[tokio::test]
async fn a_krb_error_that_a_new_ticket_may_cure_gets_one_at_once() {
    let (answer, tickets, _) = outcome(&[MODIFIED]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(tickets, ["0", "1"]);
}

#[tokio::test]
async fn a_401_to_a_new_ticket_is_503_and_nothing_more_is_sent() {
    let (answer, tickets, event) = outcome(&[NEGOTIATE, NEGOTIATE, NEGOTIATE]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("300")));
    assert_eq!(answer.text(), "The service is temporarily unavailable.\n");
    assert_eq!(tickets, ["0", "0", "1"]);
    assert_eq!(
        (&event["reason"], &event["stage"], &event["outcome"]),
        (&"token-refused".into(), &"upstream-auth".into(), &"failed".into())
    );
    let (answer, tickets, _) = outcome(&[MODIFIED, MODIFIED]).await;
    assert_eq!((answer.status, tickets), (503, vec!["0".to_owned(), "1".to_owned()]));
}

#[tokio::test]
async fn a_401_from_a_server_that_proved_itself_twice_costs_no_new_ticket() {
    let (answer, tickets, event) = outcome(&[PROVED_401, PROVED_401]).await;
    assert_eq!((answer.status, tickets), (503, vec!["0".to_owned(), "0".to_owned()]));
    assert!(event["detail"].as_str().unwrap().contains("no right"));
}

#[tokio::test]
async fn a_server_that_offers_ntlm_alone_gets_nothing_but_the_first_request() {
    let (answer, tickets, event) = outcome(&[NTLM]).await;
    assert_eq!((answer.status, tickets.len()), (503, 1));
    assert_eq!(event["reason"], "ntlm-only");
}

#[tokio::test]
async fn a_new_ticket_that_is_refused_by_the_rate_limit_ends_in_503() {
    let scripted = Scripted::new(&[MODIFIED]).await;
    let tokens = FixedTokens { forget_refused: true, ..FixedTokens::default() };
    let bridge = Bridge::with(backend_at(scripted.address), LIMITS, tokens);
    let answer = bridge.device("alice").await.get("/eas").await;
    assert_eq!(answer.status, 503);
    assert_eq!(scripted.tickets(), ["0"]);
    assert_eq!(bridge.finish().await[0]["reason"], "token-key-wrong");
}

#[tokio::test]
async fn a_wrong_proof_is_never_handed_on_whatever_the_status() {
    for status in [200, 207, 302, 404, 449, 500] {
        let address =
            backend(move |_, _| async move { with(page(status, "forged"), "www-authenticate", &negotiate("proof|other")) }).await;
        let bridge = Bridge::to(address);
        let answer = bridge.device("alice").await.get("/eas").await;
        assert_eq!(answer.status, 503, "{status}");
        assert!(!answer.text().contains("forged"));
        assert_eq!(bridge.finish().await[0]["reason"], "mutual-failed");
    }
}

#[tokio::test]
async fn the_connection_of_a_wrong_proof_is_closed() {
    let address = backend(|request: Request<Incoming>, connection| async move {
        if connection == 0 {
            with(page(200, ""), "www-authenticate", &negotiate("proof|other"))
        } else {
            proved(&request.headers().clone(), 200, "")
        }
    })
    .await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.status, 503);
    assert_eq!(device.get("/eas").await.status, 200, "by another connection");
}

#[tokio::test]
async fn a_success_without_a_proof_is_refused_unless_absence_is_tolerated() {
    let address = backend(|_, _| async { page(200, "unproved") }).await;
    let bridge = Bridge::to(address);
    assert_eq!(bridge.device("alice").await.get("/eas").await.status, 503);
    assert_eq!(bridge.finish().await[0]["reason"], "mutual-missing");
    let tolerant = BackendConfig { mutual: Mutual::TolerateAbsence, ..backend_at(address) };
    let bridge = Bridge::with(tolerant, LIMITS, FixedTokens::default());
    assert_eq!(bridge.device("alice").await.get("/eas").await.text(), "unproved");
}

#[tokio::test]
async fn a_wrong_proof_is_refused_even_where_absence_is_tolerated() {
    let address = backend(|_, _| async { with(page(200, ""), "www-authenticate", &negotiate("proof|other")) }).await;
    let tolerant = BackendConfig { mutual: Mutual::TolerateAbsence, ..backend_at(address) };
    let bridge = Bridge::with(tolerant, LIMITS, FixedTokens::default());
    assert_eq!(bridge.device("alice").await.get("/eas").await.status, 503);
}

#[tokio::test]
async fn a_success_that_goes_on_negotiating_is_refused() {
    for value in [negotiate("modified"), negotiate("reject"), "NTLM".into()] {
        let address = backend(move |_, _| {
            let value = value.clone();
            async move { with(page(200, ""), "www-authenticate", &value) }
        })
        .await;
        let bridge = Bridge::to(address);
        assert_eq!(bridge.device("alice").await.get("/eas").await.status, 503);
        assert_eq!(bridge.finish().await[0]["reason"], "negotiation-invalid");
    }
}

#[tokio::test]
async fn an_error_may_come_without_a_proof() {
    for status in [302, 400, 403, 404, 449, 451, 500, 503] {
        let address = backend(move |_, _| async move { page(status, "as it came") }).await;
        let bridge = Bridge::to(address);
        let answer = bridge.device("alice").await.get("/eas").await;
        assert_eq!((answer.status, answer.text()), (status, "as it came"));
    }
}

/// Proves itself to the first request of each connection only.
async fn proves_once() -> SocketAddr {
    let proved_connections = Arc::new(Mutex::new(std::collections::HashSet::new()));
    backend(move |request: Request<Incoming>, connection| {
        let first = proved_connections.lock().unwrap().insert(connection);
        async move {
            if first { proved(request.headers(), 200, "first") } else { with(page(200, "later"), "persistent-auth", "true") }
        }
    })
    .await
}

#[tokio::test]
async fn an_identity_bound_server_proves_itself_once_a_connection() {
    let config = BackendConfig { identity_bound: true, ..backend_at(proves_once().await) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.text(), "first");
    let later = device.get("/eas").await;
    assert_eq!((later.text(), later.header("persistent-auth")), ("later", None));
}

#[tokio::test]
async fn a_server_that_is_not_marked_identity_bound_has_to_prove_itself_every_time() {
    let bridge = Bridge::to(proves_once().await);
    let mut device = bridge.device("alice").await;
    assert_eq!(device.get("/eas").await.status, 200);
    assert_eq!(device.get("/eas").await.status, 503);
}

/// Wants a body of `size` bytes; refuses the first request after reading `read` bytes of it.
async fn refuses_first(read: usize) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let bodies = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&bodies);
    let address = raw_backend(move |mut stream, connection| {
        let notes = Arc::clone(&notes);
        async move {
            while let Some(head) = raw_head(&mut stream).await {
                let length: usize = header_of(&head, "content-length").unwrap().parse().unwrap();
                if connection == 0 {
                    let mut part = vec![0; read];
                    stream.read_exact(&mut part).await.unwrap();
                    let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(refusal.as_bytes()).await.unwrap();
                    // Never reads on, never closes.
                    std::future::pending::<()>().await;
                }
                let mut body = vec![0; length];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                notes.lock().unwrap().push(format!("{:?}", Sha256::digest(&body)));
                let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", raw_proof(&head));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, bodies)
}

fn noise(size: usize) -> Vec<u8> {
    (0..size as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test]
async fn a_401_in_the_middle_of_an_upload_neither_hangs_nor_loses_a_byte() {
    let body = noise(800_000);
    for sent_before in [0, 1, 100_000] {
        let (address, bodies) = refuses_first(sent_before).await;
        let bridge = Bridge::to(address);
        let mut device = bridge.device("alice").await;
        device.send(format!("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        device.send(&body).await;
        assert_eq!(device.answer().await.status, 200, "{sent_before}");
        assert_eq!(*bodies.lock().unwrap(), [format!("{:?}", Sha256::digest(&body))]);
        let event = &bridge.finish().await[0];
        assert_eq!((&event["bytes_up"], &event["attempts"]), (&body.len().into(), &2.into()));
    }
}

#[tokio::test]
async fn a_body_over_the_replay_buffer_is_preceded_by_an_authenticated_request_without_a_body() {
    let requests = Arc::<Mutex<Vec<(String, usize)>>>::default();
    let notes = Arc::clone(&requests);
    let address = backend(move |request: Request<Incoming>, connection| {
        let notes = Arc::clone(&notes);
        async move {
            let (head, body) = request.into_parts();
            let length = body.collect().await.unwrap().to_bytes().len();
            notes.lock().unwrap().push((format!("{} {} {connection}", head.method, head.uri), length));
            // The first token of all is refused, as IIS does.
            if notes.lock().unwrap().len() == 1 {
                with(page(401, ""), "www-authenticate", "Negotiate")
            } else {
                proved(&head.headers, 200, "")
            }
        }
    })
    .await;
    let config = BackendConfig { replay_buffer_bytes: 1000, ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let mut device = bridge.device("alice").await;
    for _ in 0..2 {
        assert_eq!(device.post(&"x".repeat(5000)).await.status, 200);
    }
    let expected = [("OPTIONS /eas 0", 0), ("OPTIONS /eas 0", 0), ("POST /eas?Cmd=Sync 0", 5000), ("POST /eas?Cmd=Sync 0", 5000)];
    assert_eq!(*requests.lock().unwrap(), expected.map(|(line, length)| (line.to_owned(), length)));
    let events = bridge.finish().await;
    assert_eq!((&events[0]["attempts"], &events[1]["attempts"]), (&3.into(), &1.into()));
}

#[tokio::test]
async fn a_401_to_a_body_that_can_not_be_replayed_is_503() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let (head, body) = request.into_parts();
        let _ = body.collect().await;
        if head.method == "OPTIONS" {
            proved(&head.headers, 200, "")
        } else {
            with(page(401, ""), "www-authenticate", "Negotiate")
        }
    })
    .await;
    let config = BackendConfig { replay_buffer_bytes: 1000, ..backend_at(address) };
    let bridge = Bridge::with(config, LIMITS, FixedTokens::default());
    let answer = bridge.device("alice").await.post(&"x".repeat(5000)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(bridge.finish().await[0]["reason"], "replay-buffer-full");
}

#[tokio::test]
async fn no_token_no_connection_and_the_device_learns_only_that_it_is_refused() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let address = raw_backend(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let bridge = Bridge::to(address);
    let causes = [Cause::UserUnknown, Cause::DelegationRefused, Cause::SidMismatch, Cause::PrivilegedRefused];
    let mut answers = Vec::new();
    for cause in causes {
        bridge.tokens.refused.lock().unwrap().insert("carol".into(), cause);
        let answer = bridge.device("carol").await.get("/eas").await;
        answers.push((answer.status, answer.text().to_owned()));
    }
    let mut unmapped = Bridge::caller("dave");
    unmapped.standing = Arc::new(Judged::new(Err(Failure::new(Cause::NoMapping, "secret detail"))));
    let answer = bridge.device_as(unmapped).await.get("/eas").await;
    answers.push((answer.status, answer.text().to_owned()));
    let answer = bridge.device("alice").await.get("/elsewhere").await;
    answers.push((answer.status, answer.text().to_owned()));
    answers.dedup();
    assert_eq!(answers, [(403, "The request is not permitted.\n".to_owned())]);
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    let events = bridge.finish().await;
    let mut reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["delegation-refused", "no-mapping", "no-route", "privileged-refused", "sid-mismatch", "user-unknown"]);
    assert!(events.iter().all(|event| event["outcome"] == "refused" && event["status"] == 403));
}

#[tokio::test]
async fn trouble_with_the_kdc_is_503_with_retry_after() {
    let bridge = Bridge::to(backend(echo_user).await);
    bridge.tokens.refused.lock().unwrap().insert("alice".into(), Cause::KdcUnreachable);
    let answer = bridge.device("alice").await.get("/eas").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")));
    assert!(!answer.text().contains("secret"));
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_connection_is_open_gets_nothing_more() {
    let bridge = Bridge::to(backend(echo_user).await);
    let mut caller = Bridge::caller("alice");
    caller.standing = Arc::new(Judged::new(Err(Cause::CertificateExpired.into())));
    let mut device = bridge.device_as(caller).await;
    assert_eq!(device.get("/eas").await.status, 403);
    assert!(device.is_closed().await);
    assert_eq!(bridge.finish().await[0]["reason"], "certificate-expired");
}

#[tokio::test]
async fn a_server_that_says_it_authenticates_connections_is_noted_once_and_the_key_named() {
    for (value, identity_bound, times) in [("true", false, 1), ("True", false, 1), ("true", true, 0), ("false", false, 0)] {
        let address = backend(move |request: Request<Incoming>, _| async move {
            with(proved(request.headers(), 200, ""), "persistent-auth", value)
        })
        .await;
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let process_log = Arc::clone(&said);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_writer(move || Memory(Arc::clone(&process_log)))
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let bridge = Bridge::with(BackendConfig { identity_bound, ..backend_at(address) }, LIMITS, FixedTokens::default());
        for _ in 0..2 {
            assert_eq!(bridge.device("alice").await.get("/eas").await.header("persistent-auth"), None);
        }
        let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("identity_bound = true").count(), times, "{value} {identity_bound}: {said}");
    }
}
