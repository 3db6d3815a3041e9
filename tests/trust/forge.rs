//! Certificates that no ordinary CA tool makes: changed behind the CA's back and signed again, or made by the openssl command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kcd_bridge::der::{Reader, tag, write};
use rcgen::{CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use rustls_pki_types::CertificateDer;

use crate::pki::Ca;

/// A DER element.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, &parts.concat());
    out
}

pub(crate) fn extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

/// An extension that lists these policies (contents octets of their OIDs), as certificatePolicies and application policies do.
pub(crate) fn policies(oid: &[u64], critical: bool, policies: &[&[u8]]) -> CustomExtension {
    let each: Vec<Vec<u8>> = policies.iter().map(|policy| element(tag::SEQUENCE, &[&element(tag::OID, &[policy])])).collect();
    extension(oid, critical, element(tag::SEQUENCE, &each.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// Changes the fields of the TBSCertificate, each with its header, and has the CA sign the result.
pub(crate) fn resign(der: &CertificateDer<'_>, ca: &Ca, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> CertificateDer<'static> {
    let mut certificate = Reader::new(der).nested(tag::SEQUENCE).unwrap();
    let mut tbs = certificate.nested(tag::SEQUENCE).unwrap();
    let (_, algorithm) = certificate.raw().unwrap();
    let mut fields = Vec::new();
    while !tbs.is_empty() {
        fields.push(tbs.raw().unwrap().1.to_vec());
    }
    change(&mut fields);
    let tbs = element(tag::SEQUENCE, &[&fields.concat()]);
    let signature = ca.issuer.key().sign(&tbs).unwrap();
    element(tag::SEQUENCE, &[&tbs, algorithm, &element(tag::BIT_STRING, &[&[0], &signature])]).into()
}

/// Another serial number.
pub(crate) fn with_serial(der: &CertificateDer<'_>, ca: &Ca, serial: &[u8]) -> CertificateDer<'static> {
    resign(der, ca, |fields| fields[1] = element(tag::INTEGER, &[serial]))
}

/// The openssl command in a directory of its own.
pub(crate) struct Openssl(tempfile::TempDir);

impl Openssl {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(command.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A key: what follows `-algorithm`.
    pub(crate) fn key(&self, name: &str, algorithm: &str) {
        self.run(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
    }

    /// A self-signed CA with this key.
    pub(crate) fn ca(&self, name: &str, options: &str) -> Ca {
        let extensions = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign";
        self.run(&format!("req -x509 -new -key {name}.key -subj /CN={name} -days 3650 {extensions} {options} -out {name}.pem"));
        let (pem, der) = self.read(name);
        Ca { der, pem, ..Ca::root("unused") }
    }

    /// Writes key and certificate of a CA made elsewhere.
    pub(crate) fn adopt(&self, name: &str, ca: &Ca) {
        fs::write(self.path(&format!("{name}.pem")), &ca.pem).unwrap();
        fs::write(self.path(&format!("{name}.key")), ca.issuer.key().serialize_pem()).unwrap();
    }

    /// A device's certificate with this key, signed by this CA.
    pub(crate) fn device(&self, name: &str, ca: &str, options: &str) -> (CertificateDer<'static>, Option<KeyPair>) {
        fs::write(self.path("device.ext"), "keyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n").unwrap();
        self.sign(name, ca, &format!("-extfile device.ext {options}"))
    }

    /// One without any extension: version 1.
    pub(crate) fn version_1(&self, name: &str, ca: &str) -> (CertificateDer<'static>, Option<KeyPair>) {
        self.sign(name, ca, "-sha256")
    }

    fn sign(&self, name: &str, ca: &str, options: &str) -> (CertificateDer<'static>, Option<KeyPair>) {
        self.run(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let by = format!("-CA {ca}.pem -CAkey {ca}.key -set_serial 10 -days 3000");
        self.run(&format!("x509 -req -in {name}.csr {by} {options} -out {name}.pem"));
        let key = fs::read_to_string(self.path(&format!("{name}.key"))).unwrap();
        (self.read(name).1, KeyPair::from_pem(&key).ok().filter(|key| key.is_compatible(&PKCS_ECDSA_P256_SHA256)))
    }

    fn read(&self, name: &str) -> (String, CertificateDer<'static>) {
        let path = self.path(&format!("{name}.pem"));
        let der = kcd_bridge::certificate::read_certificate_chain(&path).unwrap().remove(0);
        (fs::read_to_string(path).unwrap(), der)
    }
}
