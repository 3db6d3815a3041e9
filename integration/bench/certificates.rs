//! What certificates cost: a known one on every request, a new one in a handshake, and a large CRL. Needs no lab. Run by `make bench`;
//! prints figures, judges nothing but reports the goals. The same figures go as JSON to the file that `KCD_BENCH_JSON` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    missing_docs,
    unreachable_pub,
    reason = "a measurement ends at the first surprise and prints what it saw"
)]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcd_bridge::identity::{AccountRules, Mapper, RuleConfig, RuleSettings};
use kcd_bridge::revocation::bench::List;
use kcd_bridge::revocation::{RevocationConfig, RevocationOrder, RevocationPolicy};
use kcd_bridge::tls::{Acceptor, ClientCertificate, ClientTrustConfig, ListenerConfig, NtAuth, Recheck, Trust};
use kcd_bridge::x509::Claims;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustix::time::{ClockId, clock_gettime};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

const ROUNDS: usize = 9;
/// Handshakes of one case in one round.
const HANDSHAKES: usize = 300;
/// Certificates known at a time, and entries of the CA's list.
const DEVICES: usize = 1000;
const LISTED: u32 = 100_000;
const LARGE: u32 = 1_000_000;

fn main() {
    let site = Site::new();
    let figures = json!({ "known": known(&site), "handshake": handshakes(&site), "list": list(&site) });
    if let Some(file) = std::env::var_os("KCD_BENCH_JSON") {
        std::fs::write(file, figures.to_string()).expect("the figures are written");
    }
}

/// A root, an issuing CA and a server, as files.
struct Site {
    directory: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
    issuing: CertifiedIssuer<'static, KeyPair>,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

impl Site {
    fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("Root CA"), KeyPair::generate().unwrap()).unwrap();
        let issuing = CertifiedIssuer::signed_by(ca("Issuing CA"), KeyPair::generate().unwrap(), &root).unwrap();
        let site = Self { directory: tempfile::tempdir().unwrap(), root, issuing };
        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(vec!["bridge.example".into()]).unwrap();
        server.not_after = date_time_ymd(2090, 1, 1);
        site.write("server.pem", server.signed_by(&key, &site.root).unwrap().pem());
        site.write("server.key", key.serialize_pem());
        site.write("root.pem", site.root.pem());
        site.write("issuing.pem", site.issuing.pem());
        site.write("root.crl", revoking(&site.root, 10));
        site.write("issuing.crl", revoking(&site.issuing, LISTED));
        site.write("issuing-small.crl", revoking(&site.issuing, 10));
        site
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A device's certificate with its key: UPN and SID as AD CS writes them.
    fn device(&self, number: usize) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("device {number}"));
        let upn = format!("user{number}@corp.example");
        params.subject_alt_names = vec![SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], upn.as_str().into()))];
        params.custom_extensions = vec![sid_extension(&format!("S-1-5-21-1-2-3-{}", 1104 + number))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&[&[0x7F; 12][..], &number.to_be_bytes()].concat()));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuing).unwrap();
        (vec![leaf.der().clone(), self.issuing.der().clone()], key)
    }

    fn trust(&self) -> Trust {
        let config = ClientTrustConfig {
            trust_anchors: vec![self.path("root.pem")],
            intermediates: vec![self.path("issuing.pem")],
            issuing_cas: vec![],
            issuers: vec![],
            nt_auth: NtAuth::Off,
            send_ca_names: true,
            recheck_interval: Duration::from_hours(1),
            expiry_forecast: Duration::from_hours(720),
            revocation: RevocationConfig {
                policy: RevocationPolicy::Require,
                crl_files: vec![self.path("root.crl"), self.path("issuing.crl")],
                crl_directories: vec![],
                scan_interval: Duration::from_secs(10),
                distribution_points: vec![],
                fetch_trust_anchors: vec![],
                fetch_timeout: Duration::from_secs(10),
                max_crl_bytes: 64 << 20,
                grace: Duration::ZERO,
                order: RevocationOrder::default(),
                ocsp: None,
            },
        };
        Trust::load_once(&config, None).unwrap()
    }

    fn listener(&self) -> ListenerConfig {
        ListenerConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            max_connections: 100,
            max_header_bytes: 65536,
            drain_timeout: Duration::ZERO,
        }
    }
}

fn sid_extension(sid: &str) -> CustomExtension {
    let element = |tag: u8, contents: &[u8]| {
        let mut out = Vec::new();
        kcd_bridge::der::write(&mut out, tag, contents);
        out
    };
    let kind = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    let text = element(0xA0, &element(0x04, sid.as_bytes()));
    let value = element(0x30, &element(0xA0, &[kind.as_slice(), &text].concat()));
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 25, 2], value)
}

/// A CRL of this CA with so many entries, none of them a device's, in DER.
fn revoking(ca: &CertifiedIssuer<'static, KeyPair>, entries: u32) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: (0..entries).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().der().to_vec()
}

fn serial(number: u32) -> [u8; 16] {
    let mut serial = [0x11; 16];
    serial[..4].copy_from_slice(&(0x2000_0000 | number.wrapping_mul(2_654_435_761) >> 3).to_be_bytes());
    serial[4..8].copy_from_slice(&number.to_be_bytes());
    serial
}

fn revoked(number: u32) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial(number)),
        revocation_time: date_time_ymd(2023, 1, 1),
        reason_code: None,
        invalidity_date: None,
    }
}

/// What is asked before every request of a kept connection: does the certificate stand, and for whom?
fn known(site: &Site) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trust = site.trust();
    let rule = RuleConfig::for_all(RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![] });
    let mapper = Mapper::load(&[rule], &AccountRules::default(), None).unwrap();
    let soon = || Instant::now() + Duration::from_secs(20);
    let devices: Vec<ClientCertificate> = (0..DEVICES)
        .map(|number| {
            let admitted = runtime.block_on(trust.admit(&site.device(number).0, UnixTime::now(), soon())).unwrap();
            let claims = Claims::read(&admitted).unwrap();
            runtime.block_on(mapper.resolve(&admitted, &claims, soon())).unwrap();
            admitted
        })
        .collect();
    let mut each = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for device in devices.iter().cycle().take(100 * DEVICES) {
            assert!(trust.still_admits(device, UnixTime::now()) == Recheck::Stands);
            black_box(mapper.known(device).unwrap().unwrap());
        }
        each.push(start.elapsed().as_nanos() as f64 / (100 * DEVICES) as f64);
    }
    let nanoseconds = median(&each);
    println!("known certificate, {DEVICES} of them in turn: {nanoseconds:.0} ns a request   (goal: at most 2000)");
    json!({ "nanoseconds": nanoseconds, "goal_at_most": 2000 })
}

/// Who looks at a client certificate.
#[derive(Clone, Copy, PartialEq)]
enum Looks {
    /// Everything the bridge asks.
    Bridge,
    /// The TLS library's own verifier, with the same CAs and lists.
    Stock,
    /// The same with lists of ten entries: it reads the whole list at every handshake.
    StockSmall,
    /// Nobody: any certificate is good.
    Nobody,
}

/// Full TLS 1.3 handshakes with a client certificate, CPU of the server's side alone.
fn handshakes(site: &Site) -> Value {
    let device = site.device(1);
    let mut cases = [Looks::Bridge, Looks::Stock, Looks::StockSmall, Looks::Nobody].map(|looks| (looks, Vec::new()));
    for round in 0..=ROUNDS {
        for (looks, each) in &mut cases {
            let cpu = server_cpu(site, *looks, &device);
            if round > 0 {
                each.push(cpu);
            }
        }
    }
    let [bridge, stock, small, nobody] = cases.map(|(_, each)| each);
    let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
    let (to_stock, to_small, to_nobody) = (ratio(&bridge, &stock), ratio(&bridge, &small), ratio(&bridge, &nobody));
    println!("\nfull handshakes with a client certificate, CPU of the server's side, median of {ROUNDS} rounds taking turns");
    println!("  the bridge's verification, a CRL of {LISTED} entries: {:7.0} us", median(&bridge));
    println!("  the TLS library's own, the same CRL:                 {:7.0} us", median(&stock));
    println!("  the TLS library's own, a CRL of 10 entries:          {:7.0} us", median(&small));
    println!("  no verification:                                     {:7.0} us", median(&nobody));
    println!(
        "  bridge / library, same CRL: {to_stock:.3}; bridge / library with 10 entries: {to_small:.3}   (goal: at most 1.10)"
    );
    println!("  bridge / no verification: {to_nobody:.3}");
    let trust = site.trust();
    let chain = &device.0;
    let alone: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..HANDSHAKES {
                black_box(trust.verify(chain, UnixTime::now()).unwrap());
            }
            start.elapsed().as_micros() as f64 / HANDSHAKES as f64
        })
        .collect();
    println!("  of which the bridge's verification alone:            {:7.0} us", median(&alone));
    json!({
        "microseconds": { "bridge": median(&bridge), "library": median(&stock), "library_with_a_list_of_ten": median(&small), "none": median(&nobody), "verification": median(&alone) },
        "bridge_to_library": { "median": to_stock },
        "bridge_to_library_with_a_list_of_ten": { "median": to_small, "goal_at_most": 1.1 },
        "bridge_to_none": { "median": to_nobody },
    })
}

/// Microseconds of CPU of one handshake.
fn server_cpu(site: &Site, looks: Looks, device: &(Vec<CertificateDer<'static>>, KeyPair)) -> f64 {
    let pairs: Vec<_> = (0..HANDSHAKES).map(|_| UnixStream::pair().unwrap()).collect();
    let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let config = Arc::new(client(site, device));
    let connecting = std::thread::spawn(move || clients.into_iter().for_each(|stream| connect(&config, stream)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bridge = (looks == Looks::Bridge).then(|| Acceptor::new(&site.listener(), site.trust()).unwrap());
    let other = TlsAcceptor::from(Arc::new(server(site, looks)));
    let before = clock_gettime(ClockId::ThreadCPUTime);
    runtime.block_on(async {
        for stream in servers {
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::UnixStream::from_std(stream).unwrap();
            match &bridge {
                Some(bridge) => drop(black_box(bridge.accept(stream).await.unwrap())),
                None => drop(black_box(other.accept(stream).await.unwrap())),
            }
        }
    });
    let after = clock_gettime(ClockId::ThreadCPUTime);
    connecting.join().unwrap();
    let micros = |time: rustix::time::Timespec| time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3;
    (micros(after) - micros(before)) / HANDSHAKES as f64
}

fn client(site: &Site, (chain, key): &(Vec<CertificateDer<'static>>, KeyPair)) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(site))
        .with_client_auth_cert(chain.clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn connect(config: &Arc<ClientConfig>, mut stream: UnixStream) {
    let name = ServerName::try_from("bridge.example").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    let _ = stream.flush();
    // Until the server is done and closes.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn roots(site: &Site) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(site.root.der().clone()).unwrap();
    roots
}

fn server(site: &Site, looks: Looks) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let issuing = if looks == Looks::StockSmall { "issuing-small.crl" } else { "issuing.crl" };
    let lists = ["root.crl", issuing].map(|name| std::fs::read(site.path(name)).unwrap().into());
    let verifier: Arc<dyn ClientCertVerifier> = match looks {
        Looks::Nobody => Arc::new(Anybody(provider.signature_verification_algorithms)),
        _ => WebPkiClientVerifier::builder_with_provider(Arc::new(roots(site)), Arc::clone(&provider))
            .with_crls(lists)
            .enforce_revocation_expiration()
            .build()
            .unwrap(),
    };
    let (certificate, key) = (read(&site.path("server.pem")), read(&site.path("server.key")));
    let certificate: CertificateDer<'static> = rustls::pki_types::pem::PemObject::from_pem_slice(&certificate).unwrap();
    let key: PrivateKeyDer<'static> = rustls::pki_types::pem::PemObject::from_pem_slice(&key).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Believes every certificate; the handshake's signature is verified.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A CRL of a million entries: reading it, which happens beside the requests, and looking into it.
fn list(site: &Site) -> Value {
    let der = revoking(&site.issuing, LARGE);
    let mut reading = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        black_box(List::read(&der).unwrap());
        reading.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let list = List::read(&der).unwrap();
    assert!(list.entries() == LARGE as usize && list.names(&serial(12_345)) && !list.names(&[0x7F; 16]));
    let lookups = |serials: &[[u8; 16]], expected: bool| {
        let each: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for serial in serials {
                    assert!(black_box(list.names(serial)) == expected);
                }
                start.elapsed().as_nanos() as f64 / serials.len() as f64
            })
            .collect();
        median(&each)
    };
    let listed: Vec<_> = (0..200_000_u32).map(|n| serial(n.wrapping_mul(7_919) % LARGE)).collect();
    let others: Vec<_> = listed.iter().map(|serial| serial.map(|byte| byte ^ 0x5A)).collect();
    let (hit, miss) = (lookups(&listed, true), lookups(&others, false));
    let per_entry = list.bytes() as f64 / f64::from(LARGE);
    println!(
        "\nCRL of {LARGE} entries, {} MB: read in {:.0} ms, {per_entry:.0} bytes of memory an entry",
        der.len() / 1_000_000,
        median(&reading)
    );
    println!("  lookup of a listed certificate {hit:.0} ns, of another one {miss:.0} ns   (goal: less than 1000)");
    json!({
        "entries": LARGE,
        "read_milliseconds": median(&reading),
        "bytes_per_entry": per_entry,
        "lookup_nanoseconds": { "listed": hit, "other": miss, "goal_below": 1000 },
    })
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
