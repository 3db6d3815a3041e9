//! Real handshakes over loopback: who gets in, which alert the others get, and what is known of them.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcd_bridge::failure::Cause;
use kcd_bridge::tls::{Acceptor, ClientCertificate, HandshakeRefused, ListenerConfig, Trust, Usage};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, ConfigBuilder, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::pki::{Ca, Device, Files, pem};

const GREETING: &[u8] = b"hello";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

pub(crate) struct Listener {
    acceptor: Arc<Acceptor>,
    roots: Arc<RootCertStore>,
}

/// What both sides saw.
pub(crate) struct Outcome {
    server: Result<ClientCertificate, HandshakeRefused>,
    client: Result<Vec<u8>, io::Error>,
    kind: Option<HandshakeKind>,
}

impl Listener {
    pub(crate) fn new(trust: Trust) -> Self {
        Self::with_timeout(trust, Duration::from_secs(10))
    }

    fn with_timeout(trust: Trust, handshake_timeout: Duration) -> Self {
        let server_ca = Ca::root("Server CA");
        let server = server_ca.device(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.subject_alt_names = vec![SanType::DnsName("bridge.example".try_into().unwrap())];
        });
        let files = Files::trusting(&[]);
        let config = ListenerConfig {
            address: ([127, 0, 0, 1], 0).into(),
            certificate: files.write("server.pem", pem("CERTIFICATE", &server.der)),
            key: files.write("server.key", server.key.serialize_pem()),
            handshake_timeout,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(2),
            max_connections: 16,
            max_header_bytes: 65_536,
            drain_timeout: Duration::from_secs(10),
        };
        let mut roots = RootCertStore::empty();
        roots.add(server_ca.der).unwrap();
        Self { acceptor: Arc::new(Acceptor::new(&config, trust).unwrap()), roots: Arc::new(roots) }
    }

    /// A device with its own session cache.
    fn client(&self, version: &'static SupportedProtocolVersion, device: Option<&Device>) -> Arc<ClientConfig> {
        match device {
            Some(device) => self.client_with(version, Arc::new(SingleCertAndKey::from(device.certified()))),
            None => Arc::new(self.builder(version).with_no_client_auth()),
        }
    }

    /// A device that presents this chain.
    pub(crate) fn client_with_chain(&self, device: &Device, chain: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
        let certified = CertifiedKey::new(chain.to_vec(), Arc::clone(&device.certified().key));
        self.client_with(&rustls::version::TLS13, Arc::new(SingleCertAndKey::from(certified)))
    }

    fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        resolver: Arc<dyn ResolvesClientCert>,
    ) -> Arc<ClientConfig> {
        Arc::new(self.builder(version).with_client_cert_resolver(resolver))
    }

    fn builder(&self, version: &'static SupportedProtocolVersion) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
    }

    /// One connection; the server greets whom it lets in.
    pub(crate) async fn connect(&self, client: &Arc<ClientConfig>) -> Outcome {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let (mut stream, certificate) = self.acceptor.accept(tcp).await?;
            stream.write_all(GREETING).await.unwrap();
            stream.shutdown().await.unwrap();
            Ok(certificate)
        };
        let visit = async {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::try_from("bridge.example").unwrap();
            let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, tcp).await?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await?;
            Ok((received, stream.get_ref().1.handshake_kind()))
        };
        let (server, visit): (_, Result<_, io::Error>) = tokio::join!(serve, visit);
        let (client, kind) = match visit {
            Ok((received, kind)) => (Ok(received), kind),
            Err(error) => (Err(error), None),
        };
        Outcome { server, client, kind }
    }
}

impl Device {
    fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let signer = default_provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(self.chain(), signer))
    }
}

impl Outcome {
    pub(crate) fn refused(self) -> HandshakeRefused {
        self.server.unwrap_err()
    }

    pub(crate) fn alert(&self) -> AlertDescription {
        let error = self.client.as_ref().unwrap_err();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => *alert,
            other => panic!("{error}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_good_certificate_is_let_in_over_tls_1_2_and_1_3() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).crls(&[ca.crl(1, 2026, &[])]).trust());
        let outcome = listener.connect(&listener.client(version, Some(&device))).await;
        assert_eq!(outcome.client.unwrap(), GREETING);
        assert_eq!(outcome.server.unwrap().leaf(), &device.der);
    }
}

#[tokio::test]
async fn each_refusal_has_its_alert_its_cause_and_what_the_certificate_said() {
    type Change = fn(&mut CertificateParams);
    let as_issued: Change = |_| {};
    let expired: Change = |params| params.not_after = date_time_ymd(2021, 1, 1);
    let not_yet: Change = |params| params.not_before = date_time_ymd(2089, 1, 1);
    let server: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let twice: Change = |params| {
        let extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        params.custom_extensions = vec![extension.clone(), extension];
    };
    let ca = Ca::root("Device CA");
    let foreign = Ca::root("Foreign CA");
    let current = ca.crl(1, 2026, &[]);
    let cases = [
        (&foreign, as_issued, vec![current.clone()], Cause::UnknownIssuer, AlertDescription::UnknownCA),
        (&ca, expired, vec![current.clone()], Cause::CertificateExpired, AlertDescription::CertificateExpired),
        (&ca, not_yet, vec![current.clone()], Cause::CertificateExpired, AlertDescription::CertificateExpired),
        (&ca, as_issued, vec![ca.crl(2, 2026, &[10])], Cause::CertificateRevoked, AlertDescription::CertificateRevoked),
        (&ca, as_issued, vec![], Cause::RevocationUnknown, AlertDescription::UnknownCA),
        (&ca, as_issued, vec![ca.crl(1, 2010, &[])], Cause::CrlExpired, AlertDescription::UnknownCA),
        (&ca, server, vec![current.clone()], Cause::CertificateUnsuitable, AlertDescription::UnsupportedCertificate),
        (&ca, twice, vec![current], Cause::CertificateUnsuitable, AlertDescription::BadCertificate),
    ];
    for (issuer, change, crls, cause, alert) in cases {
        let device = issuer.device(change);
        for version in VERSIONS {
            let listener = Listener::new(Files::trusting(&[&ca]).crls(&crls).trust());
            let outcome = listener.connect(&listener.client(version, Some(&device))).await;
            assert_eq!(outcome.alert(), alert, "{cause:?}");
            let refused = outcome.refused();
            assert_eq!(refused.failure.cause, cause);
            assert!(!refused.resumed);
            let facts = refused.certificate.unwrap();
            assert_eq!(facts.fingerprint, kcd_bridge::certificate::Fingerprint::of(&device.der));
            if alert != AlertDescription::BadCertificate {
                assert_eq!((facts.subject.as_str(), facts.serial.as_str()), ("CN=alice", "0a"));
            }
        }
    }
}

#[tokio::test]
async fn a_good_certificate_that_is_not_allowed_is_told_so() {
    let (ca, other) = (Ca::root("Device CA"), Ca::root("Other CA"));
    let device = ca.device(|_| {});
    let files = || Files::trusting(&[&ca]);
    let client = [Usage::ClientAuth];
    for (files, cause) in [
        (files().pinned(&[&other]), Cause::IssuerNotAllowed),
        (files().nt_auth(&[&other]), Cause::NotInNtAuth),
        (files().issuer(&ca, &client, |issuer| issuer.templates = vec!["User".into()]), Cause::TemplateNotAllowed),
        (files().issuer(&ca, &client, |issuer| issuer.policies = vec!["1.2.3".into()]), Cause::PolicyNotAsserted),
    ] {
        for version in VERSIONS {
            let listener = Listener::new(files.trust());
            let outcome = listener.connect(&listener.client(version, Some(&device))).await;
            assert_eq!(outcome.alert(), AlertDescription::AccessDenied, "{cause:?}");
            assert_eq!(outcome.refused().failure.cause, cause);
        }
    }
}

#[tokio::test]
async fn a_device_without_a_certificate_is_refused() {
    let ca = Ca::root("Device CA");
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).trust());
        let outcome = listener.connect(&listener.client(version, None)).await;
        assert_eq!(outcome.alert(), AlertDescription::CertificateRequired);
        let refused = outcome.refused();
        assert_eq!((refused.failure.cause, refused.certificate), (Cause::NoCertificate, None));
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let ca = Ca::root("Device CA");
    let stolen = Device { der: ca.device(|_| {}).der, key: ca.device(|_| {}).key };
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).trust());
        let outcome = listener.connect(&listener.client(version, Some(&stolen))).await;
        assert_eq!(outcome.alert(), AlertDescription::DecryptError);
        let refused = outcome.refused();
        assert_eq!(refused.failure.cause, Cause::HandshakeFailed);
        assert_eq!(refused.certificate.unwrap().subject, "CN=alice");
    }
}

/// A device that notes which CAs it is asked for.
#[derive(Debug)]
struct Noting {
    asked_for: Mutex<Vec<Vec<u8>>>,
    certified: Arc<CertifiedKey>,
}

impl ResolvesClientCert for Noting {
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.asked_for.lock().unwrap() = names.iter().map(|name| name.to_vec()).collect();
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn devices_are_asked_for_certificates_of_the_known_cas_unless_those_are_too_many_to_name() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let device = issuing.device(|_| {});
    let many: Vec<Ca> = (0..400).map(|index| Ca::root(&format!("{index}{}", "x".repeat(100)))).collect();
    let all: Vec<&Ca> = std::iter::once(&root).chain(&many).collect();
    for version in VERSIONS {
        for (anchors, expected) in [(&all[..1], vec!["Issuing CA", "Root"]), (&all[..], vec![])] {
            let listener = Listener::new(Files::trusting(anchors).intermediate(&issuing).trust());
            let noting = Arc::new(Noting { asked_for: Mutex::default(), certified: device.certified() });
            let outcome = listener.connect(&listener.client_with(version, Arc::clone(&noting) as Arc<_>)).await;
            assert!(outcome.server.is_ok());
            let mut names = noting.asked_for.lock().unwrap().clone();
            names.sort_by_key(Vec::len);
            names.reverse();
            assert_eq!(names.len(), expected.len());
            for (name, expected) in names.iter().zip(expected) {
                assert!(name.ends_with(expected.as_bytes()), "{name:02x?}");
            }
        }
    }
}

#[tokio::test]
async fn devices_are_told_only_the_cas_that_may_issue_or_none_if_so_configured() {
    let root = Ca::root("Root");
    let (issuing, other) = (root.subordinate("Issuing CA", |_| {}), root.subordinate("Other CA", |_| {}));
    let device = issuing.device(|_| {});
    let files = || Files::trusting(&[&root]).intermediate(&issuing).intermediate(&other);
    for (files, expected) in [
        (files().pinned(&[&issuing]), vec!["Issuing CA"]),
        (files().with(|config| config.send_ca_names = false), vec![]),
        (files().pinned(&[&issuing]).with(|config| config.send_ca_names = false), vec![]),
    ] {
        let listener = Listener::new(files.trust());
        let noting = Arc::new(Noting { asked_for: Mutex::default(), certified: device.certified() });
        let client = listener.client_with(&rustls::version::TLS13, Arc::clone(&noting) as Arc<_>);
        assert!(listener.connect(&client).await.server.is_ok());
        let names = noting.asked_for.lock().unwrap().clone();
        assert_eq!(names.len(), expected.len());
        assert!(names.iter().zip(expected).all(|(name, expected)| name.ends_with(expected.as_bytes())));
    }
}

#[tokio::test]
async fn only_http_1_1_is_negotiated() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    let listener = Listener::new(Files::trusting(&[&ca]).trust());
    let mut client = Arc::unwrap_or_clone(listener.client(&rustls::version::TLS13, Some(&device)));
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert!(listener.connect(&Arc::new(client.clone())).await.server.is_ok());
    client.alpn_protocols = vec![b"h2".to_vec()];
    let outcome = listener.connect(&Arc::new(client)).await;
    assert_eq!(outcome.alert(), AlertDescription::NoApplicationProtocol);
    assert_eq!(outcome.refused().failure.cause, Cause::HandshakeFailed);
}

#[tokio::test]
async fn a_session_is_resumed_and_its_certificate_admitted_again() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).crls(&[ca.crl(1, 2026, &[])]).trust());
        let client = listener.client(version, Some(&device));
        let first = listener.connect(&client).await;
        assert_eq!(first.kind, Some(HandshakeKind::Full));
        let second = listener.connect(&client).await;
        assert_eq!(second.kind, Some(HandshakeKind::Resumed));
        assert_eq!(second.client.unwrap(), GREETING);
        assert_eq!(second.server.unwrap(), first.server.unwrap());
    }
}

#[tokio::test]
async fn a_session_resumed_after_the_certificate_was_revoked_is_refused() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).crls(&[ca.crl(1, 2026, &[])]).trust());
        let client = listener.client(version, Some(&device));
        assert!(listener.connect(&client).await.server.is_ok());
        listener.acceptor.replace_trust(Files::trusting(&[&ca]).crls(&[ca.crl(2, 2026, &[10])]).trust()).unwrap();

        let resumed = listener.connect(&client).await;
        assert_eq!(resumed.kind, Some(HandshakeKind::Resumed));
        assert_eq!(resumed.client.as_deref().unwrap(), b"", "nothing was served");
        let refused = resumed.refused();
        assert_eq!(refused.failure.cause, Cause::CertificateRevoked);
        assert!(refused.resumed);
        assert_eq!(refused.certificate.unwrap().subject, "CN=alice");
    }
}

#[tokio::test]
async fn a_session_resumed_after_its_ca_was_removed_is_refused() {
    let (ca, other) = (Ca::root("Device CA"), Ca::root("Other CA"));
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).trust());
        let client = listener.client(version, Some(&device));
        assert!(listener.connect(&client).await.server.is_ok());
        listener.acceptor.replace_trust(Files::trusting(&[&other]).trust()).unwrap();
        let refused = listener.connect(&client).await.refused();
        assert_eq!((refused.failure.cause, refused.resumed), (Cause::UnknownIssuer, true));
    }
}

/// A device in whose handshake the listener's trust changes, after its start and before its certificate is seen.
#[derive(Debug)]
struct RevokedMeanwhile {
    acceptor: Arc<Acceptor>,
    revoked: Mutex<Option<Trust>>,
    certified: Arc<CertifiedKey>,
}

impl ResolvesClientCert for RevokedMeanwhile {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        if let Some(trust) = self.revoked.lock().unwrap().take() {
            self.acceptor.replace_trust(trust).unwrap();
        }
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_revoked_during_the_handshake_is_refused() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).trust());
        let resolver = RevokedMeanwhile {
            acceptor: Arc::clone(&listener.acceptor),
            revoked: Mutex::new(Some(Files::trusting(&[&ca]).crls(&[ca.crl(1, 2026, &[10])]).trust())),
            certified: device.certified(),
        };
        let outcome = listener.connect(&listener.client_with(version, Arc::new(resolver))).await;
        assert_eq!(outcome.client.as_deref().unwrap(), b"", "nothing was served");
        let refused = outcome.refused();
        assert_eq!((refused.failure.cause, refused.resumed), (Cause::CertificateRevoked, false));
    }
}

#[tokio::test]
async fn a_refused_session_is_forgotten_so_that_the_certificate_is_offered_again() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    for version in VERSIONS {
        let listener = Listener::new(Files::trusting(&[&ca]).trust());
        let client = listener.client(version, Some(&device));
        assert!(listener.connect(&client).await.server.is_ok());
        listener.acceptor.replace_trust(Files::trusting(&[&ca]).crls(&[ca.crl(2, 2026, &[10])]).trust()).unwrap();
        // TLS 1.3 gave the device two tickets, each good for one refusal.
        let mut refusals = Vec::new();
        for _ in 0..3 {
            refusals.push(listener.connect(&client).await.refused().resumed);
        }
        assert_eq!(refusals.last(), Some(&false), "{refusals:?}");
        listener.acceptor.replace_trust(Files::trusting(&[&ca]).trust()).unwrap();
        assert!(listener.connect(&client).await.server.is_ok());
    }
}

#[tokio::test]
async fn a_silent_device_is_dropped_after_the_handshake_timeout() {
    let ca = Ca::root("Device CA");
    let listener = Listener::with_timeout(Files::trusting(&[&ca]).trust(), Duration::from_millis(20));
    let (_silent, server_side) = tokio::io::duplex(64);
    let refused = listener.acceptor.accept(server_side).await.unwrap_err();
    assert_eq!((refused.failure.cause, refused.certificate), (Cause::HandshakeTimeout, None));
}

#[tokio::test]
async fn a_device_that_speaks_no_tls_or_hangs_up_is_refused() {
    let ca = Ca::root("Device CA");
    let listener = Listener::new(Files::trusting(&[&ca]).trust());
    for said in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b""] {
        let (mut device, server_side) = tokio::io::duplex(64);
        device.write_all(said).await.unwrap();
        device.shutdown().await.unwrap();
        let refused = listener.acceptor.accept(server_side).await.unwrap_err();
        assert_eq!(refused.failure.cause, Cause::HandshakeFailed);
        assert!(!refused.failure.detail.is_empty());
    }
}
