//! The bridge as a process: a device's certificate goes in, the back end answers as that user, and every refusal has its reason.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use http::{Method, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::isolation::account;
use crate::support::bridge::{Bridge, Settings, free_address};
use crate::support::device::{Device, PATH, handshake, tls_config};
use crate::support::{Lab, eventually};

#[tokio::test]
async fn options_and_a_post_reach_the_back_end_as_the_certificates_user() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    for user in ["alice", "bob", "frank", "alice-rsa"] {
        let mut device = Device::connect(&lab, bridge.address, user).await;
        let options = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!(options.status, 200, "{options:?}");
        assert!(options.header("ms-asprotocolversions").is_some(), "the back end's headers pass: {options:?}");
        assert!(options.header("www-authenticate").is_none(), "the AP-REP does not: {options:?}");
        assert!(options.header("x-kcd-correlation-id").is_some());
        let post = device.request(Method::POST, &format!("{PATH}?Cmd=Sync&DeviceId=x%2Fy"), "body").await;
        assert_eq!((post.status, &post.body[..]), (200, &b"body"[..]));
        let expected = user.split('-').next().unwrap();
        assert_eq!((account(options.user()), account(post.user())), (expected, expected));
    }
}

#[tokio::test]
async fn an_audit_event_tells_the_whole_story_of_a_request() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let first = device.request(Method::OPTIONS, PATH, "").await;
    let second = device.request(Method::OPTIONS, PATH, "").await;
    let id = first.header("x-kcd-correlation-id").unwrap().to_owned();
    let cold = bridge.audited("the first request's event", |event| event["correlation_id"] == *id);
    assert_eq!(cold["outcome"], "served");
    assert_eq!(cold["backend_status"], 200);
    assert_eq!(cold["mapper"], "upn-with-sid");
    assert_eq!(cold["strength"], "strong");
    assert_eq!(cold["sid"], *lab.sid("alice"));
    assert_eq!(cold["spn"], "HTTP/mbx1.corp.example");
    assert_eq!(cold["ticket"]["etype"], "aes256-cts-hmac-sha1-96");
    assert!(cold["ticket"]["flags"].to_string().contains("forwardable"), "{cold}");
    assert_eq!(cold["cache_hit"], false);
    let stages = cold["stages"].to_string();
    assert!(stages.contains("s4u2self") && stages.contains("s4u2proxy"), "{cold}");
    for field in ["sha256", "issuer", "serial"] {
        assert!(cold["certificate"][field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {cold}");
    }
    let id = second.header("x-kcd-correlation-id").unwrap().to_owned();
    let warm = bridge.audited("the second request's event", |event| event["correlation_id"] == *id);
    assert_eq!(warm["cache_hit"], true);
    assert_ne!(cold["correlation_id"], warm["correlation_id"]);
}

/// Certificate, audit reason. Every refusal is a 403 with one public text, so that certificates cannot probe for accounts.
#[tokio::test]
async fn every_refused_certificate_gets_the_same_403_and_the_log_says_why() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let cases = [
        ("carol", "user-not-delegable"),
        ("dave", "user-disabled"),
        ("admin1", "privileged-refused"),
        ("dollar", "account-kind-refused"),
        ("alice-wrong-sid", "sid-mismatch"),
        ("alice-no-sid", "weak-mapping-only"),
        ("alice-uri-sid", "no-mapping"),
    ];
    let mut texts = std::collections::HashSet::new();
    for (certificate, reason) in cases {
        let mut device = Device::connect(&lab, bridge.address, certificate).await;
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!(answer.status, 403, "{certificate}: {answer:?}");
        assert!(answer.header("www-authenticate").is_none());
        let id = answer.header("x-kcd-correlation-id").unwrap().to_owned();
        let event = bridge.audited("the refusal's event", |event| event["correlation_id"] == *id);
        assert_eq!((&event["reason"], &event["outcome"]), (&reason.into(), &"refused".into()), "{certificate}: {event}");
        texts.insert(String::from_utf8_lossy(&answer.body).replace(&id, ""));
    }
    assert_eq!(texts.len(), 1, "{texts:?}");

    // And the bridge goes on serving the others.
    let mut device = Device::connect(&lab, bridge.address, "bob").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_ends_in_the_handshake_with_an_audited_reason() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let cases = [
        ("alice-foreign", "unknown-issuer"),
        ("alice-expired", "certificate-expired"),
        ("alice-not-yet", "certificate-expired"),
        ("alice-revoked", "certificate-revoked"),
    ];
    for (certificate, reason) in cases {
        let ended = match handshake(bridge.address, tls_config(&lab, certificate)).await {
            Err(_) => true,
            Ok(mut stream) => {
                // In TLS 1.3 the client hears of it at its first read.
                let _ = stream.write_all(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n").await;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.is_err() && answer.is_empty()
            }
        };
        assert!(ended, "{certificate}: the connection must end with an alert");
        let event = bridge.audited(certificate, |event| event["reason"] == reason);
        assert_eq!((&event["event"], &event["stage"]), (&"handshake-refused".into(), &"tls".into()), "{event}");
    }
    let seen = bridge.audit().iter().filter(|event| event["event"] == "handshake-refused").count();
    assert_eq!(seen, cases.len(), "one event for each refused handshake");
}

#[tokio::test]
async fn with_an_expired_crl_nobody_is_let_in() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.revocation = format!("{{ policy = \"require\", crl_files = [{:?}] }}", lab.pki("expired.crl"));
    let bridge = Bridge::start(&settings);
    if let Ok(mut stream) = handshake(bridge.address, tls_config(&lab, "alice")).await {
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).await.is_err());
    }
    bridge.audited("the refusal", |event| event["reason"] == "crl-expired");
}

#[tokio::test]
async fn weaker_mappings_work_where_they_are_named_and_say_weak() {
    let lab = Lab::get();
    let ca = lab.pki("device-ca.pem");
    let mut settings = Settings::new(&lab);
    settings.mapping = format!(
        "[[mapping]]\nrule = \"upn-with-sid\"\nsan_uri_sid_issuers = [{ca:?}]\n\
         [[mapping]]\nrule = \"upn\"\n[[mapping.issuer]]\ncertificate = {ca:?}\nallowed_suffixes = [\"corp.example\"]\n"
    );
    let bridge = Bridge::start(&settings);
    for (certificate, strength) in [("alice-no-sid", "weak"), ("alice-uri-sid", "strong")] {
        let mut device = Device::connect(&lab, bridge.address, certificate).await;
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!((answer.status, account(answer.user())), (200, "alice"), "{certificate}");
        let id = answer.header("x-kcd-correlation-id").unwrap().to_owned();
        let event = bridge.audited("the event", |event| event["correlation_id"] == *id);
        assert_eq!(event["strength"], strength, "{event}");
    }
}

#[tokio::test]
async fn a_static_row_maps_a_certificate_to_an_account_whose_sid_is_checked() {
    let lab = Lab::get();
    let pem = crate::support::read(&lab.pki("alice-no-sid.pem"));
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
    let der: rustls::pki_types::CertificateDer<'_> = der;
    let digest: String = {
        use sha2::Digest;
        sha2::Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for (sid, status) in [(lab.sid("bob"), 200), (lab.sid("alice"), 403)] {
        let mut settings = Settings::new(&lab);
        settings.mapping = format!(
            "[[mapping]]\nrule = \"static\"\n[[mapping.entry]]\ncertificate_sha256 = \"{digest}\"\nprincipal = \"bob@CORP.EXAMPLE\"\nsid = \"{sid}\"\n"
        );
        let bridge = Bridge::start(&settings);
        let mut device = Device::connect(&lab, bridge.address, "alice-no-sid").await;
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 200 {
            assert_eq!(account(answer.user()), "bob");
        }
    }
}

#[tokio::test]
async fn identity_headers_and_authorization_of_the_device_never_reach_the_back_end() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let request = Request::builder().method(Method::OPTIONS).uri(PATH).header("host", "bridge.corp.example");
    let request = request
        .header("authorization", "Basic Ym9iOnB3")
        .header("proxy-authorization", "Basic Ym9iOnB3")
        .header("x-forwarded-user", "bob")
        .header("x-remote-user", "bob");
    let answer = device.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!((answer.status, account(answer.user())), (200, "alice"));
}

#[tokio::test]
async fn the_reference_engine_serves_the_same() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.kerberos = "engine = \"gssapi\"".into();
    let bridge = Bridge::start(&settings);
    for user in ["alice", "bob", "alice"] {
        let mut device = Device::connect(&lab, bridge.address, user).await;
        for _ in 0..3 {
            let answer = device.request(Method::POST, PATH, "x").await;
            assert_eq!((answer.status, account(answer.user())), (200, user), "{answer:?}");
        }
    }
}

/// The library's identity fallback (a default credential in reach) as an operator could set it up by accident.
#[tokio::test]
async fn default_credentials_in_the_environment_are_out_of_reach() {
    let lab = Lab::get();
    for engine in ["native", "gssapi"] {
        let mut settings = Settings::new(&lab);
        settings.kerberos = format!("engine = \"{engine}\"");
        let keytab = lab.keytab("bridge");
        let bridge = Bridge::start_with(&settings, |mut command| {
            command.env("KRB5_CLIENT_KTNAME", &keytab).env("KRB5_KTNAME", &keytab).env("KRB5CCNAME", "MEMORY:default");
            command
        });
        let mut device = Device::connect(&lab, bridge.address, "alice").await;
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!((answer.status, account(answer.user())), (200, "alice"), "{engine}");
    }
}

#[tokio::test]
async fn a_wrong_key_in_the_keytab_is_a_503_that_names_the_remedy_in_the_log() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.keytab = lab.keytab("wrong-key");
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    bridge.audited("the failure", |event| event["reason"] == "own-key-refused");
    eventually("the remedy in the log", || bridge.log().contains("export the keytab again").then_some(()));
}

#[tokio::test]
async fn with_unreachable_kdcs_new_users_get_503_in_time_and_the_answer_names_the_kdc() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    // One refuses, one is silent (a listener that never answers).
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.kdcs = format!("kdcs = [\"{}\", \"{}\"]", free_address(), silent.local_addr().unwrap());
    settings.kerberos = "kdc_timeout = \"300ms\"\nacquire_timeout = \"2s\"".into();
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let start = Instant::now();
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!(answer.status, 503);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    bridge.audited("the failure", |event| event["reason"] == "kdc-unreachable" || event["reason"] == "acquisition-timeout");
}

#[tokio::test]
async fn a_dead_first_kdc_costs_its_timeout_and_the_second_serves() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.kdcs = format!("kdcs = [\"{}\", \"127.0.0.1\"]", silent.local_addr().unwrap());
    settings.kerberos = "kdc_timeout = \"300ms\"".into();
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!((answer.status, account(answer.user())), (200, "alice"));
}

#[tokio::test]
async fn kdcs_are_found_by_dns_srv_when_none_is_configured() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.kdcs = String::new();
    let bridge = Bridge::start(&settings);
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    assert_eq!((answer.status, account(answer.user())), (200, "alice"), "{answer:?}");
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_refused_and_audited_and_the_next_device_is_served() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let oversized = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "a".repeat(200_000));
    let both = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    for bytes in ["NOT HTTP\r\n\r\n".to_owned(), oversized, both] {
        let mut stream = handshake(bridge.address, tls_config(&lab, "alice")).await.unwrap();
        let _ = stream.write_all(bytes.as_bytes()).await;
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        let status = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(status.starts_with("HTTP/1.1 4"), "{:?}: {status}", &bytes[..20]);
    }
    eventually("three events of the request stage", || {
        let events = bridge.audit();
        (events.iter().filter(|event| event["stage"] == "request").count() == 3).then_some(())
    });
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
}

#[tokio::test]
async fn a_path_without_a_route_is_a_403() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    for path in ["/", "/owa", "/Microsoft-Server-ActiveSyncX", "/Microsoft-Server-ActiveSync/../owa"] {
        let answer = device.request(Method::GET, path, "").await;
        assert!(matches!(answer.status, 400 | 403), "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_stop_with_an_idle_device_connected_ends_with_success_and_closes_the_port() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    let address = bridge.address;
    let (status, log) = bridge.stop();
    assert!(status.success(), "{status}\n{log}");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_plain_connection_is_closed_by_the_handshake_timeout_and_audited() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.listener = "handshake_timeout = \"300ms\"".into();
    let bridge = Bridge::start(&settings);
    let mut silent = std::net::TcpStream::connect(bridge.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0, "closed by the bridge");
    bridge.audited("the time-out", |event| event["reason"] == "handshake-timeout");
    let mut plain = std::net::TcpStream::connect(bridge.address).unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    bridge.audited("the failed handshake", |event| event["reason"] == "handshake-failed");
}

#[test]
fn what_cannot_start_says_what_is_wrong_and_exits_with_three() {
    let lab = Lab::get();
    let broken: [(&str, fn(&mut Settings)); 3] = [
        ("nosuch.keytab", |settings| settings.keytab = settings.lab.keytab("nosuch")),
        ("CORP.EXAMPLE", |settings| settings.principal = "svc-bridge@corp.example".into()),
        ("svc-nobody", |settings| settings.principal = "svc-nobody@CORP.EXAMPLE".into()),
    ];
    for (named, breakage) in broken {
        let mut settings = Settings::new(&lab);
        breakage(&mut settings);
        let (status, message) = Bridge::fails_to_start(&settings);
        assert_eq!(status.code(), Some(3), "{named}: {message}");
        assert!(message.contains(named), "{named} is named in: {message}");
    }
}

/// Polls until the condition holds; fails after ten seconds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A KDC that can be taken away: a loopback forwarder to the real one.
struct Line {
    address: std::net::SocketAddr,
    up: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Line {
    fn to_the_kdc() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let works = std::sync::Arc::clone(&up);
        // Ends with the test's process; every connection ends with its peers.
        std::thread::spawn(move || {
            for device in listener.incoming().flatten() {
                if !works.load(std::sync::atomic::Ordering::SeqCst) {
                    continue;
                }
                let kdc = std::net::TcpStream::connect("127.0.0.1:88").unwrap();
                for (mut from, mut to) in [(device.try_clone().unwrap(), kdc.try_clone().unwrap()), (kdc, device)] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        Self { address, up }
    }

    fn cut(&self) {
        self.up.store(false, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A soft age that a test can wait for.
fn a_short_soft_age(lab: &Lab, line: &Line, max_ride_through: &str) -> Settings {
    let mut settings = Settings::new(lab);
    settings.kdcs = format!("kdcs = [\"{}\"]", line.address);
    settings.kerberos = format!(
        "soft_age = \"1s\"\nmax_ride_through = \"{max_ride_through}\"\nkdc_timeout = \"500ms\"\nacquire_timeout = \"2s\""
    );
    settings
}

#[tokio::test]
async fn while_no_kdc_answers_a_cached_user_rides_on_and_a_new_one_gets_503() {
    let lab = Lab::get();
    let line = Line::to_the_kdc();
    let bridge = Bridge::start(&a_short_soft_age(&lab, &line, "1h"));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    let asked_again = async |device: &mut Device| {
        assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
        bridge.log().matches("ticket acquired").count() >= 2
    };
    until("the user of a ticket in use is asked for again", async || asked_again(&mut device).await).await;

    line.cut();
    until("the ride begins", async || {
        let answer = device.request(Method::OPTIONS, PATH, "").await;
        assert_eq!((answer.status, account(answer.user())), (200, "alice"), "{answer:?}");
        bridge.log().contains("riding on the cached ticket")
    })
    .await;
    let mut stranger = Device::connect(&lab, bridge.address, "bob").await;
    let answer = stranger.request(Method::OPTIONS, PATH, "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_ride_ends_where_the_configuration_says_so() {
    let lab = Lab::get();
    let line = Line::to_the_kdc();
    let bridge = Bridge::start(&a_short_soft_age(&lab, &line, "0s"));
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    line.cut();
    let cut = Instant::now();
    until("past the soft age nothing is served", async || device.request(Method::OPTIONS, PATH, "").await.status == 503).await;
    assert!(cut.elapsed() < Duration::from_secs(5), "a second, and what a busy machine takes");
}

#[tokio::test]
async fn a_disabled_account_is_refused_after_the_soft_age_and_does_not_ride_through_an_outage() {
    let lab = Lab::get();
    let line = Line::to_the_kdc();
    let bridge = Bridge::start(&a_short_soft_age(&lab, &line, "1h"));
    let mut device = Device::connect(&lab, bridge.address, "erin").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);

    let _enabled_again = lab.disable("erin");
    until("past the soft age it is refused", async || device.request(Method::OPTIONS, PATH, "").await.status == 403).await;
    bridge.audited("the reason", |event| event["reason"] == "user-disabled");
    line.cut();
    assert_ne!(device.request(Method::OPTIONS, PATH, "").await.status, 200, "known disabled: the old ticket is gone");
}
