use std::io::Write as _;
use std::sync::Mutex;

use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, SerialNumber};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::testkit::{Reply, Server, ok};
use super::*;
use crate::revocation::{RevocationOrder, RevocationPolicy};

const LIMIT: u64 = 4096;

fn config(prefixes: &[&str]) -> RevocationConfig {
    RevocationConfig {
        policy: RevocationPolicy::Require,
        crl_files: Vec::new(),
        crl_directories: Vec::new(),
        scan_interval: Duration::from_secs(10),
        distribution_points: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        fetch_trust_anchors: Vec::new(),
        fetch_timeout: Duration::from_secs(20),
        max_crl_bytes: LIMIT,
        grace: Duration::ZERO,
        order: RevocationOrder::OcspFirst,
        ocsp: None,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn crl() -> rcgen::CertificateRevocationList {
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let (this_update, next_update) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2036, 1, 1));
    let number = SerialNumber::from(7_u64);
    let lists = Vec::new();
    CertificateRevocationListParams {
        this_update,
        next_update,
        crl_number: number,
        issuing_distribution_point: None,
        revoked_certs: lists,
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(&issuer)
    .unwrap()
}

/// What comes of one answer, with a prefix that allows it.
async fn fetched(reply: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> Result<Vec<u8>, Failure> {
    let server = Server::start(reply).await;
    let url = server.url("/crl/ca.crl");
    Fetcher::new(&config(&[&server.url("/crl")]), None).unwrap().crl(&url, soon()).await
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat()
}

#[tokio::test]
async fn a_crl_is_fetched_in_der_or_pem_and_handed_on_in_der() {
    let list = crl();
    let (der, pem) = (list.der().to_vec(), list.pem().unwrap());
    let chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice()]
        .into_iter()
        .map(<[u8]>::to_vec)
        .chain(der.chunks(50).map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()))
        .chain([b"0\r\n\r\n".to_vec()])
        .collect::<Vec<_>>()
        .concat();
    let answers = [
        ok(&der),
        ok(pem.as_bytes()),
        answer("HTTP/1.1 200 OK\nContent-Encoding: identity", &der),
        answer("HTTP/1.0 200 OK", &der),
        chunked,
    ];
    for bytes in answers {
        let server = Server::start(move |_| Reply::Bytes(bytes.clone())).await;
        let fetcher = Fetcher::new(&config(&[&server.url("/")]), None).unwrap();
        assert_eq!(fetcher.crl(&server.url("/a%20b.crl?x=1"), soon()).await.unwrap(), der);
        let sent = String::from_utf8(server.requests().concat()).unwrap().to_ascii_lowercase();
        assert!(sent.starts_with("get /a%20b.crl?x=1 http/1.1\r\n"), "{sent}");
        for header in [format!("host: 127.0.0.1:{}", server.port), "accept-encoding: identity".into(), "connection: close".into()]
        {
            assert!(sent.contains(&format!("\r\n{header}\r\n")), "{header} in {sent}");
        }
        assert_eq!(fetcher.counts(), FetchCounts { asked: 1, errors: 0, bytes: der.len() as u64 });
    }
}

#[tokio::test]
async fn answers_that_are_no_crl_within_the_limits_are_refused_by_name() {
    let der = crl().der().to_vec();
    let pem = crl().pem().unwrap();
    let big = vec![0x30; usize::try_from(LIMIT).unwrap() + 1];
    let trailing = [der.as_slice(), b"\n"].concat();
    let headers = "X: y\n".repeat(100);
    let long_header = format!("HTTP/1.1 200 OK\nX: {}", "y".repeat(64 << 10));
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a redirect", answer("HTTP/1.1 302 Found\nLocation: http://127.0.0.1:1/\nContent-Length: 0", b""), "status 302"),
        ("a permanent redirect", answer("HTTP/1.1 308 Moved\nLocation: /crl/other", b""), "status 308"),
        ("not found", answer("HTTP/1.1 404 Not Found\nContent-Length: 2", b"no"), "status 404"),
        ("not modified", answer("HTTP/1.1 304 Not Modified", b""), "status 304"),
        ("a part", answer("HTTP/1.1 206 Partial Content", &der), "status 206"),
        ("no content", answer("HTTP/1.1 204 No Content", b""), "status 204"),
        ("gzip", answer("HTTP/1.1 200 OK\nContent-Encoding: gzip", &der), "encoded"),
        ("gzip behind identity", answer("HTTP/1.1 200 OK\nContent-Encoding: identity\nContent-Encoding: gzip", &der), "encoded"),
        ("gzip as transfer coding", answer("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked", b"0\r\n\r\n"), "encoded"),
        ("too long by its own word", answer("HTTP/1.1 200 OK\nContent-Length: 5000", b""), "larger than 4096 bytes"),
        ("huge by its own word", answer("HTTP/1.1 200 OK\nContent-Length: 18446744073709551615", b""), "answer"),
        ("too long without a word", answer("HTTP/1.1 200 OK", &big), "larger than 4096 bytes"),
        ("cut off", answer("HTTP/1.1 200 OK\nContent-Length: 4000", &der), "not a well-formed answer"),
        ("two lengths", answer("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2", b"xx"), "not a well-formed answer"),
        ("too many headers", answer(&format!("HTTP/1.1 200 OK\n{headers}Y: z"), &der), "not a well-formed answer"),
        ("too long a header", answer(&long_header, &der), "not a well-formed answer"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not a well-formed answer"),
        ("nothing", Vec::new(), "not a well-formed answer"),
        ("an empty body", ok(b""), "empty"),
        ("a page", ok(b"<html>"), "neither a CRL in DER nor in PEM"),
        ("two lists", ok(format!("{pem}{pem}").as_bytes()), "more than one CRL"),
        ("a certificate", ok(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), "neither a CRL"),
        ("broken PEM", ok(b"-----BEGIN X509 CRL-----\n%%\n-----END X509 CRL-----\n"), "not a CRL"),
        ("trailing bytes", ok(&trailing), "trailing bytes"),
        ("a cut list", ok(&der[..der.len() - 1]), "truncated"),
    ];
    for (name, bytes, reason) in rows {
        let failure = fetched(move |_| Reply::Bytes(bytes.clone())).await.unwrap_err();
        assert_eq!(failure.cause, Cause::RevocationUnknown, "{name}");
        let named = failure.detail.starts_with("http://127.0.0.1:") && failure.detail.contains("/crl/ca.crl: ");
        assert!(named && failure.detail.contains(reason), "{name}: {}", failure.detail);
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let target = Server::start(|_| Reply::Bytes(ok(b"x"))).await;
    let location = target.url("/crl/ca.crl");
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} Elsewhere\nLocation: {location}\nContent-Length: 0");
        let failure = fetched(move |_| Reply::Bytes(answer(&head, b""))).await.unwrap_err();
        assert!(failure.detail.ends_with(&format!("status {status}")), "{failure}");
    }
    assert_eq!(target.requests().len(), 0);
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_limit() {
    let chunk = [b"400\r\n".as_slice(), &[0x30; 1024], b"\r\n"].concat();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for (head, chunk) in [(head, chunk), (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![0x30; 1024])] {
        let failure = fetched(move |_| Reply::Endless(head.clone(), chunk.clone())).await.unwrap_err();
        assert!(failure.detail.ends_with("larger than 4096 bytes"), "{failure}");
    }
}

#[tokio::test]
async fn endless_headers_trailers_and_interim_answers_end_too() {
    let (malformed, late) = ("not a well-formed answer", "no complete answer in time");
    let trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n".to_vec();
    let endless = [
        (b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".to_vec(), malformed),
        (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'y'; 1024], malformed),
        (trailers, b"X: y\r\n".to_vec(), malformed),
        (Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), late),
    ];
    for (head, chunk, reason) in endless {
        let server = Server::start(move |_| Reply::Endless(head.clone(), chunk.clone())).await;
        let fetcher = Fetcher::new(&config(&[&server.url("/")]), None).unwrap();
        let deadline = if reason == late { Instant::now() + Duration::from_millis(100) } else { soon() };
        let failure = fetcher.crl(&server.url("/x"), deadline).await.unwrap_err();
        assert!(failure.detail.contains(reason), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_costs_the_deadline_or_the_configured_time_and_no_more() {
    let partly = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0".to_vec();
    for bytes in [Vec::new(), b"HTTP/1.1 200 OK\r\n".to_vec(), partly] {
        let server = Server::start(move |_| Reply::Silence(bytes.clone())).await;
        let mut config = config(&[&server.url("/")]);
        let fetcher = Fetcher::new(&config, None).unwrap();
        let failure = fetcher.crl(&server.url("/x"), Instant::now() + Duration::from_millis(50)).await.unwrap_err();
        assert!(failure.detail.ends_with("no complete answer in time"), "{failure}");
        config.fetch_timeout = Duration::from_millis(50);
        let fetcher = Fetcher::new(&config, None).unwrap();
        let before = Instant::now();
        assert!(fetcher.crl(&server.url("/x"), soon()).await.is_err());
        assert!(before.elapsed() < Duration::from_secs(10));
        assert_eq!(fetcher.counts(), FetchCounts { asked: 1, errors: 1, bytes: 0 });
    }
}

#[tokio::test]
async fn nothing_is_connected_to_that_is_not_allowed() {
    let server = Server::start(|_| Reply::Bytes(ok(b"x"))).await;
    let (port, other) = (server.port, server.port ^ 1);
    let fetcher = Fetcher::new(&config(&[&server.url("/crl"), "http://localhost/crl"]), None).unwrap();
    let tries = [
        format!("http://127.0.0.1:{port}/private"),
        format!("http://127.0.0.1:{port}/crl/../private"),
        format!("http://127.0.0.1:{port}/crl/%2e%2e/private"),
        format!("http://127.0.0.1:{port}/crlx"),
        format!("http://localhost:{port}/crl"),
        format!("http://x@127.0.0.1:{port}/crl"),
        format!("http://127.0.0.1:{other}/crl"),
        format!("https://127.0.0.1:{port}/crl"),
        format!("ldap://127.0.0.1:{port}/CN=a,DC=b?certificateRevocationList"),
        "ldap:///CN=a,DC=b?certificateRevocationList".to_owned(),
        "file:///etc/hostname".to_owned(),
    ];
    for url in &tries {
        assert!(!fetcher.allows(url), "{url}");
        let failure = fetcher.crl(url, soon()).await.unwrap_err();
        assert_eq!(failure.cause, Cause::RevocationUnknown, "{url}");
        assert!(failure.detail.starts_with(&format!("{url}: ")), "{}", failure.detail);
    }
    assert_eq!(server.requests().len(), 0);
    assert!(fetcher.allows(&server.url("/crl/x")));
}

#[tokio::test]
async fn a_closed_port_is_a_failure_with_a_name() {
    // Bound, so that nobody else gets it, and not listening.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/x", closed.local_addr().unwrap());
    let failure = Fetcher::new(&config(&[&url]), None).unwrap().crl(&url, soon()).await.unwrap_err();
    assert!(failure.detail.starts_with(&format!("{url}: no connection: ")), "{failure}");
}

/// A server certificate for 127.0.0.1 from a CA of its own, and that CA in a file.
fn tls_server() -> (TlsAcceptor, tempfile::NamedTempFile) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certificate.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

#[tokio::test]
async fn https_is_believed_only_below_the_configured_anchors() {
    let ((acceptor, anchor), (_, foreign)) = (tls_server(), tls_server());
    let der = crl().der().to_vec();
    let body = ok(&der);
    let server = Server::start_tls(acceptor, move |_| Reply::Bytes(body.clone())).await;
    let (by_address, by_name) = (format!("https://127.0.0.1:{}/x", server.port), format!("https://localhost:{}/x", server.port));
    let with = |anchors: &tempfile::NamedTempFile| {
        let mut config = config(&[&by_address, &by_name]);
        config.fetch_trust_anchors = vec![anchors.path().to_owned()];
        Fetcher::new(&config, None).unwrap()
    };
    assert_eq!(with(&anchor).crl(&by_address, soon()).await.unwrap(), der);
    for (anchors, url) in [(&foreign, &by_address), (&anchor, &by_name)] {
        let failure = with(anchors).crl(url, soon()).await.unwrap_err();
        assert!(failure.detail.contains("no TLS connection"), "{failure}");
    }
    let error = Fetcher::new(&config(&[&by_address]), None).unwrap_err();
    assert!(error.to_string().contains("no trust anchor"), "{error}");
}

#[test]
fn an_unusable_prefix_is_a_load_error_that_quotes_it() {
    let error = Fetcher::new(&config(&["http://a@b/"]), None).unwrap_err().to_string();
    assert!(error.starts_with("http://a@b/: is no usable prefix: it has a user name"), "{error}");
}

/// What was asked, and the values there are by attribute.
#[derive(Debug, Default)]
struct Entries {
    asked: Mutex<Vec<(String, String)>>,
    values: Vec<(&'static str, Vec<u8>)>,
    silent: bool,
}

impl ListSource for Entries {
    fn values<'a>(&'a self, name: &'a str, attribute: &'a str, _: Instant) -> Answer<'a, Vec<Vec<u8>>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((name.into(), attribute.into()));
            if self.silent {
                std::future::pending::<()>().await;
            }
            Ok(self.values.iter().filter(|(known, _)| *known == attribute).map(|(_, value)| value.clone()).collect())
        })
    }
}

const LDAP: &str = "ldap:///CN=My%20CA,CN=CDP,DC=corp?certificateRevocationList?base?objectClass=cRLDistributionPoint";

#[tokio::test]
async fn ldap_urls_are_read_from_the_configured_directory_with_and_without_binary() {
    let der = crl().der().to_vec();
    for attribute in ["certificateRevocationList;binary", "certificateRevocationList"] {
        let entries = Arc::new(Entries { values: vec![(attribute, der.clone())], ..Entries::default() });
        let fetcher = Fetcher::new(&config(&["ldap:///CN=CDP,DC=corp"]), Some(entries.clone())).unwrap();
        assert!(fetcher.allows(LDAP));
        assert_eq!(fetcher.crl(LDAP, soon()).await.unwrap(), der);
        let asked = entries.asked.lock().unwrap().clone();
        assert_eq!(asked.first().unwrap(), &("CN=My CA,CN=CDP,DC=corp".into(), "certificateRevocationList;binary".into()));
        assert_eq!(asked.last().unwrap().1, attribute);
    }
}

#[tokio::test]
async fn a_directory_with_no_list_several_lists_or_too_large_a_one_is_refused() {
    let der = crl().der().to_vec();
    let binary = "certificateRevocationList;binary";
    let rows = [
        (Vec::new(), "no such list"),
        (vec![(binary, der.clone()), (binary, der)], "has 2 lists"),
        (vec![(binary, vec![0x30; 5000])], "larger than 4096 bytes"),
        (vec![(binary, b"x".to_vec())], "neither a CRL"),
        (vec![("deltaRevocationList", b"x".to_vec())], "no such list"),
    ];
    for (values, reason) in rows {
        let entries = Arc::new(Entries { values, ..Entries::default() });
        let failure = Fetcher::new(&config(&["ldap:///"]), Some(entries)).unwrap().crl(LDAP, soon()).await.unwrap_err();
        assert!(failure.detail.contains(reason), "{failure}");
    }
    let silent = Arc::new(Entries { silent: true, ..Entries::default() });
    let fetcher = Fetcher::new(&config(&["ldap:///"]), Some(silent)).unwrap();
    let failure = fetcher.crl(LDAP, Instant::now() + Duration::from_millis(20)).await.unwrap_err();
    assert!(failure.detail.contains("in time"), "{failure}");
    let failure = Fetcher::new(&config(&["ldap:///"]), None).unwrap().crl(LDAP, soon()).await.unwrap_err();
    assert!(failure.detail.contains("without a configured [directory]"), "{failure}");
}
