//! A CA, its delegates, and an encoder of responses that says whatever it is told.

use rcgen::{BasicConstraints, DnType, SerialNumber};
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer as Signer, KeyPair, SigningKey as _};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::certificate::Certificate;
use crate::der::{self, tag};
use crate::revocation::{Authority, Link, RevocationPolicy};

/// 2026-06-01 00:00:00 UTC
pub(super) const NOW: i64 = 1_780_272_000;

pub(super) const GOOD: &[u8] = &[0x80, 0x00];
pub(super) const UNKNOWN: &[u8] = &[0x82, 0x00];

pub(super) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag, contents);
    out
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, &parts.concat())
}

pub(super) fn time(seconds: i64) -> Vec<u8> {
    element(tag::GENERALIZED_TIME, &der::format_kerberos_time(seconds))
}

pub(super) fn revoked(reason: Option<u8>, since: i64) -> Vec<u8> {
    let reason = reason.map(|reason| element(0xA0, &element(tag::ENUMERATED, &[reason]))).unwrap_or_default();
    element(0xA1, &[time(since), reason].concat())
}

pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xFF] } else { &[] };
    sequence(&[&element(tag::OID, oid), critical, &element(tag::OCTET_STRING, value)])
}

/// A CA or a delegate: certificate and key.
pub(super) struct Holder {
    pub(super) der: Vec<u8>,
    pub(super) key: KeyPair,
    params: CertificateParams,
}

impl Holder {
    pub(super) fn authority(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { der: params.self_signed(&key).unwrap().der().to_vec(), key, params }
    }

    pub(super) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.signer()).unwrap().der().to_vec();
        Self { der, key, params }
    }

    pub(super) fn delegate(&self) -> Self {
        self.issue("Responder", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            params.custom_extensions = vec![nocheck()];
        })
    }

    /// A device's certificate that names these responders.
    pub(super) fn leaf(&self, serial: u64, responders: &[String]) -> Vec<u8> {
        let access = |url: &String| {
            let method = element(tag::OID, &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01]);
            sequence(&[&method, &element(0x86, url.as_bytes())])
        };
        let list = responders.iter().map(access).collect::<Vec<_>>().concat();
        let leaf = self.issue("device", |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            if !list.is_empty() {
                let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], element(tag::SEQUENCE, &list));
                params.custom_extensions.push(extension);
            }
        });
        leaf.der
    }

    pub(super) fn certificate(&self) -> Certificate<'_> {
        Certificate::read(&self.der).unwrap()
    }

    pub(super) fn link<'a>(&'a self, leaf: &'a [u8]) -> Link<'a> {
        let own = self.certificate();
        let issuer = Authority { subject: own.subject, public_key: own.public_key, key_identifier: None, may_sign_crls: true };
        Link { certificate: Certificate::read(leaf).unwrap(), issuer, policy: RevocationPolicy::Require }
    }

    fn signer(&self) -> Signer<'_, &KeyPair> {
        Signer::from_params(&self.params, &self.key)
    }

    fn key_bits(&self) -> Vec<u8> {
        let mut info = der::Reader::new(der::only(self.certificate().public_key, tag::SEQUENCE).unwrap());
        info.read(tag::SEQUENCE).unwrap();
        info.read(tag::BIT_STRING).unwrap()[1..].to_vec()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// One SingleResponse.
#[derive(Clone)]
pub(super) struct Said {
    pub(super) id: Vec<u8>,
    pub(super) status: Vec<u8>,
    pub(super) this_update: Vec<u8>,
    pub(super) next_update: Option<Vec<u8>>,
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Said {
    pub(super) fn of(ca: &Holder, serial: &[u8], status: &[u8]) -> Self {
        Self {
            id: certificate_id(ca, serial, false),
            status: status.to_vec(),
            this_update: time(NOW - 60),
            next_update: Some(time(NOW + 3600)),
            extensions: Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let next = self.next_update.as_ref().map(|next| element(0xA0, next)).unwrap_or_default();
        let extensions = optional_list(0xA1, &self.extensions);
        sequence(&[&self.id, &self.status, &self.this_update, &next, &extensions])
    }
}

/// CertID, in SHA-1 or SHA-256.
pub(super) fn certificate_id(ca: &Holder, serial: &[u8], sha256: bool) -> Vec<u8> {
    let own = ca.certificate();
    let (name, key) = (sequence(&[own.subject]), ca.key_bits());
    let (oid, name, key) = if sha256 {
        let oid: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
        (oid, Sha256::digest(&name).to_vec(), Sha256::digest(&key).to_vec())
    } else {
        (&[0x2B, 0x0E, 0x03, 0x02, 0x1A][..], Sha1::digest(&name).to_vec(), Sha1::digest(&key).to_vec())
    };
    let algorithm = sequence(&[&element(tag::OID, oid), &[0x05, 0x00]]);
    let (name, key) = (element(tag::OCTET_STRING, &name), element(tag::OCTET_STRING, &key));
    sequence(&[&algorithm, &name, &key, &element(tag::INTEGER, serial)])
}

/// A response in the making.
pub(super) struct Draft {
    pub(super) version: Vec<u8>,
    pub(super) responder: Vec<u8>,
    pub(super) produced: Vec<u8>,
    pub(super) said: Vec<Said>,
    pub(super) extensions: Vec<Vec<u8>>,
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) signature: Option<Vec<u8>>,
    pub(super) kind: Vec<u8>,
}

impl Draft {
    /// By this signer, who is named by name.
    pub(super) fn by(signer: &Holder, said: Said) -> Self {
        Self {
            version: Vec::new(),
            responder: by_name(signer),
            produced: time(NOW - 30),
            said: vec![said],
            extensions: Vec::new(),
            certificates: Vec::new(),
            signature: None,
            kind: vec![0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01],
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Signed with a key of P-256.
    pub(super) fn sign(&self, key: &KeyPair) -> Vec<u8> {
        let said: Vec<Vec<u8>> = self.said.iter().map(Said::encode).collect();
        let list = sequence(&[&said.concat()]);
        let extensions = optional_list(0xA1, &self.extensions);
        let data = sequence(&[&self.version, &self.responder, &self.produced, &list, &extensions]);
        let signature = self.signature.clone().unwrap_or_else(|| key.sign(&data).unwrap());
        let bits = element(tag::BIT_STRING, &[vec![0], signature].concat());
        let algorithm = sequence(&[&element(tag::OID, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02])]);
        let basic = sequence(&[&data, &algorithm, &bits, &optional_list(0xA0, &self.certificates)]);
        let bytes = sequence(&[&element(tag::OID, &self.kind), &element(tag::OCTET_STRING, &basic)]);
        sequence(&[&element(tag::ENUMERATED, &[0]), &element(0xA0, &bytes)])
    }
}

pub(super) fn by_name(signer: &Holder) -> Vec<u8> {
    element(0xA1, &sequence(&[signer.certificate().subject]))
}

pub(super) fn by_key(signer: &Holder) -> Vec<u8> {
    element(0xA2, &element(tag::OCTET_STRING, &Sha1::digest(signer.key_bits())))
}

/// An OCSPResponse that is only a status.
pub(super) fn status(value: u8) -> Vec<u8> {
    sequence(&[&element(tag::ENUMERATED, &[value])])
}

fn optional_list(tag: u8, members: &[Vec<u8>]) -> Vec<u8> {
    if members.is_empty() { Vec::new() } else { element(tag, &sequence(&[&members.concat()])) }
}

/// id-pkix-ocsp-nocheck.
pub(super) fn nocheck() -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], vec![5, 0])
}
