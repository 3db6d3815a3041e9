//! Against the responder of OpenSSL.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::kit::*;
use crate::certificate::hex;
use crate::revocation::ocsp::*;

struct Responder {
    process: Child,
    port: u16,
}

impl Responder {
    /// For this CA, on a port of its own choice; `signer` signs.
    fn start(directory: &Path, ca: &Holder, signer: &Holder, index: &str) -> Self {
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut process = Command::new("openssl")
            .args(["ocsp", "-port", "0", "-ndays", "1", "-index"])
            .arg(file("index.txt", index))
            .arg("-CA")
            .arg(file("ca.pem", &pem("CERTIFICATE", &ca.der)))
            .arg("-rsigner")
            .arg(file("signer.pem", &pem("CERTIFICATE", &signer.der)))
            .arg("-rkey")
            .arg(file("signer.key", &signer.key.serialize_pem()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is needed for this test");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // ACCEPT [::]:12345 PID=678
        let port = line.split(' ').nth(1).and_then(|address| address.rsplit(':').next()).unwrap_or_default();
        let port = port.parse().unwrap_or_else(|_| panic!("openssl said {line:?}"));
        Self { process, port }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn now() -> UnixTime {
    UnixTime::now()
}

async fn asked(nonce: bool, delegated: bool) {
    let directory = tempfile::tempdir().unwrap();
    let ca = Holder::authority("Issuing CA");
    let delegate = ca.delegate();
    let leaves = [ca.leaf(0xA1, &[]), ca.leaf(0xA2, &[]), ca.leaf(0xA3, &[])];
    let serial = |leaf: &Vec<u8>| {
        let text = hex(ca.link(leaf).certificate.serial).to_uppercase();
        text.strip_prefix("00").map(str::to_owned).unwrap_or(text)
    };
    let index = format!(
        "V\t300101000000Z\t\t{}\tunknown\t/CN=device\nR\t300101000000Z\t260102030405Z,keyCompromise\t{}\tunknown\t/CN=device\n",
        serial(&leaves[0]),
        serial(&leaves[1]),
    );
    let signer = if delegated { &delegate } else { &ca };
    let responder = Responder::start(directory.path(), &ca, signer, &index);
    let config = OcspConfig {
        responders: Vec::new(),
        url: Some(format!("http://127.0.0.1:{}/", responder.port)),
        timeout: Duration::from_secs(20),
        nonce,
        max_age: Duration::from_hours(1),
    };
    let ocsp = Ocsp::new(&config, &Http::new(&[]).unwrap()).unwrap();
    let ask = async |leaf: &Vec<u8>| ocsp.ask(&ca.link(leaf), now(), Instant::now() + Duration::from_secs(20)).await;
    let good = ask(&leaves[0]).await;
    assert!(matches!(good, OcspAnswer::Good { .. }), "{good:?}");
    // 2026-01-02 03:04:05, keyCompromise
    assert_eq!(ask(&leaves[1]).await, OcspAnswer::Revoked { reason: Some(1), since: 1_767_323_045 });
    let OcspAnswer::Unvouched(failure) = ask(&leaves[2]).await else { panic!("a certificate nobody knows") };
    assert!(failure.detail.ends_with("the responder does not know the certificate"), "{failure}");
    // A CA that is not the responder's gets no word it could believe.
    let other = Holder::authority("Issuing CA");
    let foreign = other.leaf(0xA1, &[]);
    let answer = ocsp.ask(&other.link(&foreign), now(), Instant::now() + Duration::from_secs(20)).await;
    assert!(matches!(answer, OcspAnswer::Untrusted(_) | OcspAnswer::Unvouched(_)), "{answer:?}");
}

#[tokio::test]
async fn an_openssl_responder_is_understood_by_get_when_the_issuer_signs() {
    asked(false, false).await;
}

#[tokio::test]
async fn an_openssl_responder_is_understood_by_post_with_a_nonce_when_a_delegate_signs() {
    asked(true, true).await;
}
