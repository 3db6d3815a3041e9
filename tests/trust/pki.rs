//! A certification authority that issues good certificates and every kind of bad one.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kcd_bridge::certificate::LoadError;
use kcd_bridge::failure::Failure;
use kcd_bridge::revocation::{RevocationConfig, RevocationOrder, RevocationPolicy};
use kcd_bridge::tls::{ClientCertificate, ClientTrustConfig, IssuerConfig, NtAuth, Recheck, Trust, Usage};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, OtherNameValue, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, UnixTime};

pub(crate) const UPN: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
pub(crate) const SID_EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 25, 2];

pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

pub(crate) struct Device {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

pub(crate) fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(crate) fn root(common_name: &str) -> Self {
        Self::with_key(common_name, KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(common_name: &str, key: KeyPair) -> Self {
        let params = ca_params(common_name);
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn subordinate(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (ca_params(common_name), KeyPair::generate().unwrap());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A device certificate, serial number 10, fit for client authentication until `change` is done with it.
    pub(crate) fn device(&self, change: impl FnOnce(&mut CertificateParams)) -> Device {
        self.device_of(KeyPair::generate().unwrap(), change)
    }

    pub(crate) fn device_with_key(&self, key: KeyPair) -> Device {
        self.device_of(key, |_| {})
    }

    fn device_of(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Device {
        let mut params = params("alice");
        params.serial_number = Some(SerialNumber::from(10));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        Device { der: params.signed_by(&key, &self.issuer).unwrap().der().clone(), key }
    }

    /// CRL number `number`, made at the start of year `made`, good for ten years.
    pub(crate) fn crl(&self, number: u64, made: i32, revoked: &[u64]) -> Vec<u8> {
        let entry = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 2, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(made, 1, 1),
            next_update: date_time_ymd(made + 10, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

impl Device {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }
}

pub(crate) fn upn(text: &str) -> SanType {
    SanType::OtherName((UPN.to_vec(), OtherNameValue::Utf8String(text.to_owned())))
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.to_owned().try_into().unwrap())
}

pub(crate) fn sid_extension(sid: &str) -> CustomExtension {
    let kind = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    let text = element(0xA0, &element(0x04, sid.as_bytes()));
    let value = element(0x30, &element(0xA0, &[kind.as_slice(), &text].concat()));
    CustomExtension::from_oid_content(SID_EXTENSION, value)
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    kcd_bridge::der::write(&mut out, tag, contents);
    out
}

pub(crate) fn year(year: i32) -> UnixTime {
    let seconds = date_time_ymd(year, 1, 2).unix_timestamp();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()))
}

fn revocation_off() -> RevocationConfig {
    RevocationConfig {
        policy: RevocationPolicy::Off,
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
    }
}

/// Both stages at once, for tests without a runtime.
pub(crate) trait AtOnce {
    fn admit_now(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertificate, Failure>;
    /// As before a request: the short way, or the long one where that is asked for.
    fn recheck_now(&self, certificate: &ClientCertificate, now: UnixTime) -> Result<(), Failure>;
}

impl AtOnce for Trust {
    fn admit_now(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertificate, Failure> {
        let deadline = Instant::now() + Duration::from_secs(20);
        runtime().block_on(self.admit(chain, now, deadline))
    }

    fn recheck_now(&self, certificate: &ClientCertificate, now: UnixTime) -> Result<(), Failure> {
        match self.still_admits(certificate, now) {
            Recheck::Stands => Ok(()),
            Recheck::Refused(failure) => Err(failure),
            Recheck::Ask => {
                let deadline = Instant::now() + Duration::from_secs(20);
                runtime().block_on(self.readmit(certificate, now, deadline))
            }
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// The files of one installation.
pub(crate) struct Files {
    directory: tempfile::TempDir,
    config: ClientTrustConfig,
}

impl Files {
    /// Trust in these CAs, revocation off.
    pub(crate) fn trusting(anchors: &[&Ca]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = ClientTrustConfig {
            trust_anchors: vec![],
            intermediates: vec![],
            issuing_cas: vec![],
            issuers: vec![],
            nt_auth: NtAuth::Off,
            send_ca_names: true,
            recheck_interval: Duration::from_mins(1),
            expiry_forecast: Duration::from_hours(720),
            revocation: revocation_off(),
        };
        let mut files = Self { directory, config };
        for (index, ca) in anchors.iter().enumerate() {
            let path = files.write(&format!("anchor-{index}.pem"), &ca.pem);
            files.config.trust_anchors.push(path);
        }
        files
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn intermediate(mut self, ca: &Ca) -> Self {
        let path = self.write(&format!("intermediate-{}.pem", self.config.intermediates.len()), &ca.pem);
        self.config.intermediates.push(path);
        self
    }

    /// Revocation required, by these lists, one file each.
    pub(crate) fn crls(mut self, lists: &[Vec<u8>]) -> Self {
        let write = |(index, list)| self.write(&format!("list-{index}.crl"), list);
        self.config.revocation.crl_files = lists.iter().enumerate().map(write).collect();
        self.config.revocation.policy = RevocationPolicy::Require;
        self
    }

    pub(crate) fn crl_file(mut self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.config.revocation.crl_files = vec![self.write(name, contents)];
        self.config.revocation.policy = RevocationPolicy::Require;
        self
    }

    /// An entry for this CA that accepts these usages, changed by `change`.
    pub(crate) fn issuer(mut self, ca: &Ca, usages: &[Usage], change: impl FnOnce(&mut IssuerConfig)) -> Self {
        let certificate = self.write(&format!("issuer-{}.pem", self.config.issuers.len()), &ca.pem);
        let (templates, policies, revocation) = (vec![], vec![], None);
        let mut issuer = IssuerConfig { certificate, usages: usages.to_vec(), templates, policies, revocation };
        change(&mut issuer);
        self.config.issuers.push(issuer);
        self
    }

    /// Only these CAs may issue.
    pub(crate) fn pinned(mut self, cas: &[&Ca]) -> Self {
        let write = |(index, ca): (usize, &&Ca)| self.write(&format!("pinned-{index}.pem"), &ca.pem);
        self.config.issuing_cas = cas.iter().enumerate().map(write).collect();
        self
    }

    /// The NTAuth store is a file with these CAs.
    pub(crate) fn nt_auth(mut self, cas: &[&Ca]) -> Self {
        let bundle: String = cas.iter().map(|ca| ca.pem.as_str()).collect();
        self.config.nt_auth = NtAuth::Files(vec![self.write("ntauth.pem", bundle)]);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut ClientTrustConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// With what the directory's NTAuth store says.
    pub(crate) fn trust_with_directory(&self, nt_auth: Option<&[CertificateDer<'static>]>) -> Trust {
        Trust::load_once(&self.config, nt_auth).unwrap()
    }

    pub(crate) fn load(&self) -> Result<Trust, LoadError> {
        Trust::load_once(&self.config, None)
    }

    pub(crate) fn trust(&self) -> Trust {
        self.load().unwrap()
    }
}

/// PEM of any kind of object.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, &octet| (bits << 8) | u32::from(octet)) << (8 * (3 - group.len()));
            for position in 0..4 {
                let digit = ALPHABET[usize::try_from((bits >> (18 - 6 * position)) & 63).unwrap()];
                text.push(if position <= group.len() { char::from(digit) } else { '=' });
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}
