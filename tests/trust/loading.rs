//! Files that cannot be used: the error names the file and the remedy.

use std::path::PathBuf;
use std::time::Duration;

use kcd_bridge::certificate::{LoadError, read_certificate_chain};
use kcd_bridge::tls::{Acceptor, ListenerConfig};
use rcgen::KeyPair;

use crate::pki::{AtOnce as _, Ca, Files, params, pem, year};

fn problem(result: Result<impl Sized, LoadError>) -> String {
    let Err(error) = result else { panic!("loaded") };
    assert!(!error.remedy.is_empty());
    error.to_string()
}

#[test]
fn a_missing_file_is_named() {
    let error = problem(read_certificate_chain(&PathBuf::from("/nonexistent/device-ca.pem")));
    assert!(error.starts_with("/nonexistent/device-ca.pem: cannot be read"), "{error}");
}

#[test]
fn a_trust_anchor_must_be_the_certificate_of_a_ca() {
    let ca = Ca::root("Device CA");
    let device = pem("CERTIFICATE", &ca.device(|_| {}).der);
    for (contents, expected) in [
        (String::new(), "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_owned(), "nor valid PEM"),
        (pem("CERTIFICATE", b"nonsense"), "not a usable CA certificate"),
        (device, "CN=alice is not marked as a CA"),
    ] {
        let fake = Ca { pem: contents, ..Ca::root("x") };
        let error = problem(Files::trusting(&[&fake]).load());
        assert!(error.contains("anchor-0.pem") && error.contains(expected), "{error}");
    }
}

#[test]
fn lists_are_read_as_der_or_as_several_pem_blocks() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other CA"));
    let chain = root.device(|_| {}).chain();
    let both = [pem("X509 CRL", &other.crl(1, 2025, &[])), pem("X509 CRL", &root.crl(1, 2025, &[]))].concat();
    for contents in [both.into_bytes(), root.crl(1, 2025, &[])] {
        let trust = Files::trusting(&[&root]).crl_file("device-ca.crl", contents).trust();
        assert!(trust.admit_now(&chain, year(2026)).is_ok());
    }
}

fn listener(files: &Files, certificate: &str, key: &str) -> Result<Acceptor, LoadError> {
    let config = ListenerConfig {
        address: ([127, 0, 0, 1], 0).into(),
        certificate: files.write("server.pem", certificate),
        key: files.write("server.key", key),
        handshake_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_mins(2),
        max_connections: 16,
        max_header_bytes: 65_536,
        drain_timeout: Duration::from_secs(10),
    };
    Acceptor::new(&config, files.trust())
}

#[test]
fn the_listeners_certificate_and_key_must_belong_together() {
    let ca = Ca::root("Server CA");
    let files = Files::trusting(&[&ca]);
    let (server, other) = (ca.device(|_| {}), KeyPair::generate().unwrap());
    let certificate = pem("CERTIFICATE", &server.der);
    let key = server.key.serialize_pem();
    assert!(listener(&files, &certificate, &key).is_ok());

    let error = problem(listener(&files, &certificate, &other.serialize_pem()));
    assert!(error.contains("server.pem: does not belong to the key in") && error.contains("server.key"), "{error}");
    let error = problem(listener(&files, &format!("{}{certificate}", ca.pem), &key));
    assert!(error.contains("does not start with the server's own certificate"), "{error}");
    let error = problem(listener(&files, &certificate, &pem("ENCRYPTED PRIVATE KEY", b"x")));
    assert!(error.contains("server.key: holds no unencrypted PEM private key"), "{error}");
    let error = problem(listener(&files, &certificate, &pem("PRIVATE KEY", b"x")));
    assert!(error.contains("server.key: cannot be used"), "{error}");
    assert!(!error.contains("BEGIN"), "the key is not echoed");
}

#[test]
fn a_chain_file_is_read_leaf_first_and_a_der_file_as_one_certificate() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    let files = Files::trusting(&[&ca]);
    let path = files.write("alice.pem", format!("{}{}", pem("CERTIFICATE", &device.der), ca.pem));
    let chain = read_certificate_chain(&path).unwrap();
    assert_eq!(chain, [device.der.clone(), ca.der.clone()]);
    assert_eq!(read_certificate_chain(&files.write("alice.cer", &device.der)).unwrap(), [device.der]);
    assert!(files.trust().admit_now(&chain, year(2026)).is_ok());
    let foreign = params("alice").self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(files.trust().admit_now(&[foreign.der().clone()], year(2026)).is_err());
}
