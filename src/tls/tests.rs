//! Both stages, with revocation as a script says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::certificate::{CertificateFacts, name_text};
use crate::failure::{Cause, Failure};
use crate::revocation::{Link, RevocationConfig, RevocationOrder, RevocationPolicy, Verdict};
use crate::tls::oracle::Oracle;
use crate::tls::{
    Acceptor, ClientCertificate, ClientTrustConfig, Credentials, HandshakeRefused, IssuerConfig, ListenerConfig, NtAuth, Recheck,
    Trust, Usage,
};

/// What revocation says.
#[derive(Debug)]
pub(in crate::tls) struct Script {
    known: Mutex<Verdict>,
    settled: Mutex<Verdict>,
    silent: AtomicBool,
    generation: AtomicU64,
    settles: AtomicUsize,
    /// Subject of every certificate asked about, with its issuer and what it is held to.
    asked: Mutex<Vec<(String, String, RevocationPolicy)>>,
}

impl Script {
    fn new(known: Verdict, settled: Verdict) -> Arc<Self> {
        let (known, settled) = (Mutex::new(known), Mutex::new(settled));
        let (generation, settles) = (AtomicU64::new(7), AtomicUsize::new(0));
        Arc::new(Self { known, settled, silent: AtomicBool::new(false), generation, settles, asked: Mutex::default() })
    }

    /// From now on, and known to have changed.
    fn say(&self, known: Verdict, settled: Verdict) {
        *self.known.lock().unwrap() = known;
        *self.settled.lock().unwrap() = settled;
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn settles(&self) -> usize {
        self.settles.load(Ordering::Relaxed)
    }

    pub(in crate::tls) fn status(&self, path: &[Link<'_>], _: UnixTime) -> Verdict {
        let asked = |link: &Link<'_>| (name_text(link.certificate.subject), name_text(link.issuer.subject), link.policy);
        *self.asked.lock().unwrap() = path.iter().map(asked).collect();
        self.known.lock().unwrap().clone()
    }

    pub(in crate::tls) async fn settle(&self, _: &[Link<'_>], _: UnixTime, _: Instant) -> Verdict {
        self.settles.fetch_add(1, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.settled.lock().unwrap().clone()
    }

    pub(in crate::tls) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

const NOW: u64 = 1_767_312_000;
/// Years after [`NOW`].
const LONG: u64 = NOW + 300_000_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn clear(until: u64) -> Verdict {
    Verdict::Clear { until: at(until), open: None }
}

fn open() -> Verdict {
    Verdict::Open(Failure::new(Cause::RevocationUnknown, "not fetched yet"))
}

fn revoked() -> Verdict {
    Verdict::Refused(Failure::new(Cause::CertificateRevoked, "serial 0a"))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

type Ca = CertifiedIssuer<'static, KeyPair>;

/// A root, an issuing CA below it, and a device below that.
struct Site {
    directory: tempfile::TempDir,
    root: Ca,
    issuing: Ca,
    device: CertificateDer<'static>,
    key: KeyPair,
}

impl Site {
    fn new() -> Self {
        let root = Ca::self_signed(ca_params("Root"), KeyPair::generate().unwrap()).unwrap();
        let issuing = Ca::signed_by(ca_params("Issuing CA"), KeyPair::generate().unwrap(), &root).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = params("alice");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let device = leaf.signed_by(&key, &issuing).unwrap().der().clone();
        Self { directory: tempfile::tempdir().unwrap(), root, issuing, device, key }
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn config(&self) -> ClientTrustConfig {
        ClientTrustConfig {
            trust_anchors: vec![self.write("root.pem", &self.root.pem())],
            intermediates: vec![self.write("issuing.pem", &self.issuing.pem())],
            issuing_cas: vec![],
            issuers: vec![],
            nt_auth: NtAuth::Off,
            send_ca_names: true,
            recheck_interval: Duration::from_mins(1),
            expiry_forecast: Duration::from_hours(720),
            revocation: RevocationConfig {
                policy: RevocationPolicy::Require,
                crl_files: vec![],
                crl_directories: vec![],
                scan_interval: Duration::from_secs(10),
                distribution_points: vec![],
                fetch_trust_anchors: vec![],
                fetch_timeout: Duration::from_secs(10),
                max_crl_bytes: 1 << 20,
                grace: Duration::ZERO,
                order: RevocationOrder::default(),
                ocsp: None,
            },
        }
    }

    fn trust(&self, script: &Arc<Script>) -> Trust {
        Trust::with_oracle(&self.config(), Oracle::Scripted(Arc::clone(script)), None).unwrap()
    }

    fn chain(&self) -> [CertificateDer<'static>; 1] {
        [self.device.clone()]
    }

    async fn admit(&self, trust: &Trust) -> Result<ClientCertificate, Failure> {
        trust.admit(&self.chain(), at(NOW), soon()).await
    }

    /// A listener with a certificate of the root, and a device that keeps its sessions.
    fn listener(&self, trust: Trust, handshake_timeout: Duration) -> (Arc<Acceptor>, TlsConnector) {
        let listener = self.listener_config("server", handshake_timeout);
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain().to_vec(), key)
            .unwrap();
        (Arc::new(Acceptor::new(&listener, trust).unwrap()), TlsConnector::from(Arc::new(client)))
    }

    fn listener_config(&self, name: &str, handshake_timeout: Duration) -> ListenerConfig {
        let mut server = CertificateParams::new(vec!["bridge.example".into()]).unwrap();
        server.distinguished_name.push(DnType::CommonName, name);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        ListenerConfig {
            address: ([127, 0, 0, 1], 0).into(),
            certificate: self.write(&format!("{name}.pem"), &server.signed_by(&key, &self.root).unwrap().pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            handshake_timeout,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(2),
            max_connections: 16,
            max_header_bytes: 65_536,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// One connection; the server greets whom it lets in. The client gets what it read, the kind of handshake and the server's subject.
async fn connect(
    acceptor: &Acceptor,
    connector: &TlsConnector,
) -> (Result<ClientCertificate, HandshakeRefused>, Vec<u8>, Option<HandshakeKind>, String) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serve = async {
        let (mut stream, certificate) = acceptor.accept(far).await?;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        Ok(certificate)
    };
    let visit = async {
        let name = ServerName::try_from("bridge.example").unwrap();
        let mut stream = connector.connect(name, near).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        let connection = stream.get_ref().1;
        let server = connection.peer_certificates().unwrap().first().map(|der| CertificateFacts::of(der).subject);
        (read, connection.handshake_kind(), server.unwrap())
    };
    let (outcome, (read, kind, server)) = tokio::join!(serve, visit);
    (outcome, read, kind, server)
}

#[tokio::test]
async fn a_verified_chain_becomes_a_certificate_only_by_the_second_stage() {
    let site = Site::new();
    let script = Script::new(open(), clear(LONG));
    let trust = site.trust(&script);
    let chain = trust.verify(&site.chain(), at(NOW)).unwrap();
    assert!(chain.is_open() && script.settles() == 0, "nothing is waited for in the first stage");
    let certificate = trust.settle(chain, at(NOW), soon()).await.unwrap();
    assert_eq!((certificate.issuer().subject.as_str(), script.settles()), ("CN=Issuing CA", 1));
    assert_eq!(certificate.path(), [site.device.clone(), site.issuing.der().clone(), site.root.der().clone()]);
}

#[tokio::test]
async fn what_the_second_stage_refuses_or_leaves_open_is_refused() {
    let site = Site::new();
    for (settled, cause) in [(revoked(), Cause::CertificateRevoked), (open(), Cause::RevocationUnknown)] {
        let trust = site.trust(&Script::new(open(), settled));
        assert_eq!(site.admit(&trust).await.unwrap_err().cause, cause);
    }
}

#[tokio::test]
async fn what_memory_knows_is_not_asked_about() {
    let site = Site::new();
    let script = Script::new(clear(LONG), revoked());
    assert!(site.admit(&site.trust(&script)).await.is_ok());
    let refusing = Script::new(revoked(), clear(LONG));
    assert_eq!(site.trust(&refusing).verify(&site.chain(), at(NOW)).unwrap_err().cause, Cause::CertificateRevoked);
    assert_eq!((script.settles(), refusing.settles()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn revocation_that_never_answers_is_not_waited_for_beyond_the_deadline() {
    let site = Site::new();
    let script = Script::new(open(), clear(LONG));
    script.silent.store(true, Ordering::Relaxed);
    let trust = site.trust(&script);
    let begun = tokio::time::Instant::now();
    let deadline = (begun + Duration::from_secs(3)).into_std();
    let refused = trust.admit(&site.chain(), at(NOW), deadline).await.unwrap_err();
    assert_eq!((refused.cause, refused.detail.as_str()), (Cause::RevocationUnknown, "no answer in time"));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn each_certificate_of_the_path_is_asked_about_under_what_its_own_issuer_is_held_to() {
    use RevocationPolicy::{Off, Prefer, Require};
    let site = Site::new();
    let entry = |name: &str, ca: &Ca, revocation| IssuerConfig {
        certificate: site.write(name, &ca.pem()),
        usages: vec![Usage::ClientAuth],
        templates: vec![],
        policies: vec![],
        revocation,
    };
    let root = |revocation| entry("entry-root.pem", &site.root, revocation);
    let issuing = |revocation| entry("entry-issuing.pem", &site.issuing, revocation);
    for (issuers, leaf, intermediate) in [
        (vec![], Require, Require),
        (vec![root(Some(Prefer))], Prefer, Prefer),
        (vec![issuing(Some(Off))], Off, Require),
        (vec![issuing(Some(Off)), root(Some(Prefer))], Off, Prefer),
        (vec![issuing(None), root(Some(Prefer))], Require, Prefer),
    ] {
        let script = Script::new(clear(LONG), revoked());
        let config = ClientTrustConfig { issuers, ..site.config() };
        let trust = Trust::with_oracle(&config, Oracle::Scripted(Arc::clone(&script)), None).unwrap();
        site.admit(&trust).await.unwrap();
        let line = |subject: &str, issuer: &str, policy| (subject.to_owned(), issuer.to_owned(), policy);
        let expected = [line("CN=alice", "CN=Issuing CA", leaf), line("CN=Issuing CA", "CN=Root", intermediate)];
        assert_eq!(*script.asked.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn an_admission_stands_until_revocation_or_the_interval_ends_it() {
    let site = Site::new();
    for (until, last) in [(LONG, NOW + 59), (NOW + 30, NOW + 29)] {
        let trust = site.trust(&Script::new(clear(until), revoked()));
        let certificate = site.admit(&trust).await.unwrap();
        assert_eq!(trust.still_admits(&certificate, at(last)), Recheck::Stands);
        assert_eq!(trust.still_admits(&certificate, at(last + 1)), Recheck::Ask);
        assert_eq!(trust.still_admits(&certificate, at(NOW - 1)), Recheck::Ask, "the clock went back");
    }
}

#[tokio::test]
async fn an_admission_ends_with_the_first_certificate_of_its_path_and_for_good_with_the_leaf() {
    let mut site = Site::new();
    let mut short = ca_params("Issuing CA");
    short.not_after = date_time_ymd(2026, 1, 3);
    site.issuing = Ca::signed_by(short, KeyPair::generate().unwrap(), &site.root).unwrap();
    let mut leaf = params("alice");
    leaf.not_after = date_time_ymd(2027, 1, 1);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    site.device = leaf.signed_by(&site.key, &site.issuing).unwrap().der().clone();
    let config = ClientTrustConfig { recheck_interval: Duration::from_hours(1000), ..site.config() };
    let script = Script::new(clear(LONG), revoked());
    let trust = Trust::with_oracle(&config, Oracle::Scripted(script), None).unwrap();
    let certificate = site.admit(&trust).await.unwrap();
    let end_of_issuer = u64::try_from(date_time_ymd(2026, 1, 3).unix_timestamp()).unwrap();
    assert_eq!(trust.still_admits(&certificate, at(end_of_issuer)), Recheck::Stands);
    assert_eq!(trust.still_admits(&certificate, at(end_of_issuer + 1)), Recheck::Ask);
    assert_eq!(trust.readmit(&certificate, at(end_of_issuer + 1), soon()).await.unwrap_err().cause, Cause::CertificateExpired);
    for outside in [date_time_ymd(2027, 1, 2), date_time_ymd(2019, 1, 1)] {
        let refused = trust.still_admits(&certificate, at(u64::try_from(outside.unix_timestamp()).unwrap()));
        let Recheck::Refused(failure) = refused else { panic!("{refused:?}") };
        assert_eq!(failure.cause, Cause::CertificateExpired);
        assert!(failure.detail.contains("to 2027-01-01 00:00:00 UTC"), "{failure}");
    }
}

#[tokio::test]
async fn what_revocation_learns_ends_an_admission_and_is_asked_for() {
    let site = Site::new();
    let script = Script::new(clear(LONG), revoked());
    let trust = site.trust(&script);
    let certificate = site.admit(&trust).await.unwrap();
    script.say(clear(LONG), revoked());
    assert_eq!(trust.still_admits(&certificate, at(NOW)), Recheck::Ask);
    trust.readmit(&certificate, at(NOW), soon()).await.unwrap();
    assert_eq!(trust.still_admits(&certificate, at(NOW)), Recheck::Stands);
    script.say(open(), revoked());
    assert_eq!(trust.readmit(&certificate, at(NOW), soon()).await.unwrap_err().cause, Cause::CertificateRevoked);
    assert_eq!(trust.still_admits(&certificate, at(NOW)), Recheck::Ask, "a refusal leaves nothing standing");
}

#[tokio::test]
async fn what_revocation_learns_while_it_is_asked_is_asked_about_again() {
    let site = Site::new();
    let script = Script::new(open(), clear(LONG));
    script.silent.store(true, Ordering::Relaxed);
    let trust = site.trust(&script);
    let chain = trust.verify(&site.chain(), at(NOW)).unwrap();
    script.silent.store(false, Ordering::Relaxed);
    let learn = async {
        tokio::task::yield_now().await;
        script.generation.fetch_add(1, Ordering::Relaxed);
    };
    let (certificate, ()) = tokio::join!(trust.settle(chain, at(NOW), soon()), learn);
    assert_eq!(trust.still_admits(&certificate.unwrap(), at(NOW)), Recheck::Ask);
}

#[tokio::test]
async fn another_trust_verifies_again() {
    let site = Site::new();
    let (lenient, strict) = (Script::new(clear(LONG), revoked()), Script::new(revoked(), revoked()));
    let (before, after) = (site.trust(&lenient), site.trust(&strict));
    let certificate = site.admit(&before).await.unwrap();
    assert_eq!(after.still_admits(&certificate, at(NOW)), Recheck::Ask);
    assert_eq!(after.readmit(&certificate, at(NOW), soon()).await.unwrap_err().cause, Cause::CertificateRevoked);
    let verified_before = before.verify(&site.chain(), at(NOW)).unwrap();
    assert_eq!(after.settle(verified_before, at(NOW), soon()).await.unwrap_err().cause, Cause::CertificateRevoked);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_settles_and_all_get_its_result() {
    let site = Site::new();
    for (settled, cause) in [(clear(LONG), None), (revoked(), Some(Cause::CertificateRevoked))] {
        let script = Script::new(clear(LONG), revoked());
        let trust = Arc::new(site.trust(&script));
        let certificate = site.admit(&trust).await.unwrap();
        script.say(open(), settled);
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (trust, certificate) = (Arc::clone(&trust), certificate.clone());
            asking.spawn(async move { trust.readmit(&certificate, at(NOW), soon()).await });
        }
        for result in asking.join_all().await {
            assert_eq!(result.err().map(|failure| failure.cause), cause);
        }
        assert_eq!(script.settles(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_waits_no_longer_than_the_deadline() {
    let site = Site::new();
    let script = Script::new(clear(LONG), revoked());
    let trust = Arc::new(site.trust(&script));
    let certificate = site.admit(&trust).await.unwrap();
    script.say(open(), clear(LONG));
    script.silent.store(true, Ordering::Relaxed);
    let later = |seconds| (tokio::time::Instant::now() + Duration::from_secs(seconds)).into_std();
    let first = trust.readmit(&certificate, at(NOW), later(60));
    let second = trust.readmit(&certificate, at(NOW), later(2));
    tokio::select! {
        biased;
        _ = first => panic!("the silent one answered first"),
        refused = second => assert_eq!(refused.unwrap_err().cause, Cause::RevocationUnknown),
    }
}

#[tokio::test]
async fn a_certificate_let_in_unvouched_says_so_until_somebody_vouches() {
    let site = Site::new();
    let unvouched = Verdict::Clear { until: at(NOW + 5), open: Some(Failure::new(Cause::RevocationUnknown, "unreachable")) };
    let script = Script::new(open(), unvouched);
    let trust = site.trust(&script);
    let certificate = site.admit(&trust).await.unwrap();
    assert_eq!(certificate.unvouched().unwrap().detail, "unreachable");
    script.say(clear(LONG), revoked());
    trust.readmit(&certificate, at(NOW), soon()).await.unwrap();
    assert_eq!(certificate.unvouched(), None);
}

#[tokio::test]
async fn a_handshake_is_handed_out_after_the_second_stage_only() {
    let site = Site::new();
    for (settled, expected) in [(clear(LONG * 2), None), (revoked(), Some(Cause::CertificateRevoked))] {
        let script = Script::new(open(), settled);
        let (acceptor, connector) = site.listener(site.trust(&script), Duration::from_secs(20));
        for kind in [HandshakeKind::Full, if expected.is_some() { HandshakeKind::Full } else { HandshakeKind::Resumed }] {
            let settles = script.settles();
            let (served, read, seen, _) = connect(&acceptor, &connector).await;
            assert_eq!(served.err().map(|refused| refused.failure.cause), expected);
            assert_eq!(read, if expected.is_some() { &b""[..] } else { b"hello" });
            assert_eq!(script.settles(), settles + 1);
            if expected.is_none() {
                assert_eq!(seen, Some(kind));
            }
        }
    }
}

#[tokio::test]
async fn a_session_resumed_after_a_revocation_is_refused_and_forgotten() {
    let site = Site::new();
    let script = Script::new(clear(LONG * 2), revoked());
    let (acceptor, connector) = site.listener(site.trust(&script), Duration::from_secs(20));
    assert!(connect(&acceptor, &connector).await.0.is_ok());
    script.say(open(), revoked());
    // TLS 1.3 gave the device tickets, each good for one refusal at most.
    let mut resumed = Vec::new();
    for _ in 0..3 {
        let (served, read, ..) = connect(&acceptor, &connector).await;
        let refused = served.unwrap_err();
        assert_eq!((refused.failure.cause, read.as_slice()), (Cause::CertificateRevoked, &b""[..]));
        resumed.push(refused.resumed);
    }
    assert_eq!((resumed.first(), resumed.last()), (Some(&true), Some(&false)), "{resumed:?}");
}

#[tokio::test]
async fn the_second_stage_ends_with_the_time_for_the_handshake() {
    let site = Site::new();
    let script = Script::new(open(), clear(LONG));
    script.silent.store(true, Ordering::Relaxed);
    let (acceptor, connector) = site.listener(site.trust(&script), Duration::from_millis(50));
    let (served, read, ..) = connect(&acceptor, &connector).await;
    let refused = served.unwrap_err();
    assert_eq!((refused.failure.cause, read.as_slice()), (Cause::RevocationUnknown, &b""[..]));
    assert_eq!(refused.certificate.unwrap().subject, "CN=alice");
}

#[tokio::test]
async fn credentials_and_trust_are_replaced_together() {
    let site = Site::new();
    let lenient = Script::new(clear(LONG * 2), revoked());
    let (acceptor, connector) = site.listener(site.trust(&lenient), Duration::from_secs(20));
    let (outcome, _, _, server) = connect(&acceptor, &connector).await;
    assert_eq!((outcome.is_ok(), server.as_str()), (true, "CN=server"));

    let renewed = Credentials::load(&site.listener_config("renewed", Duration::from_secs(20))).unwrap();
    acceptor.replace(renewed, site.trust(&Script::new(open(), revoked()))).unwrap();
    let fresh = site.listener(site.trust(&lenient), Duration::from_secs(20)).1;
    let (outcome, _, _, server) = connect(&acceptor, &fresh).await;
    assert_eq!((outcome.unwrap_err().failure.cause, server.as_str()), (Cause::CertificateRevoked, "CN=renewed"));
    let (outcome, ..) = connect(&acceptor, &connector).await;
    assert!(outcome.unwrap_err().resumed, "a session of before is judged by the trust of now");

    acceptor.replace_trust(site.trust(&lenient)).unwrap();
    let (outcome, _, _, server) = connect(&acceptor, &fresh).await;
    assert_eq!((outcome.is_ok(), server.as_str()), (true, "CN=renewed"));
}

/// Not a bound that depends on the machine: far above what is measured, far below a verification.
#[tokio::test]
async fn the_short_way_is_short() {
    let site = Site::new();
    let trust = site.trust(&Script::new(clear(LONG), revoked()));
    let certificate = site.admit(&trust).await.unwrap();
    let rounds = 20_000;
    let begun = Instant::now();
    for _ in 0..rounds {
        assert_eq!(std::hint::black_box(&trust).still_admits(&certificate, at(NOW)), Recheck::Stands);
    }
    assert!(begun.elapsed() / rounds < Duration::from_micros(20), "{:?}", begun.elapsed() / rounds);
}
