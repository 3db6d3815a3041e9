//! The directory, the trust and the mapper as the bridge would have them, straight from the library.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kcd_bridge::directory::{
    Account, Accounts, Directory, DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource, Filter,
};
use kcd_bridge::failure::Failure;
use kcd_bridge::identity::{AccountRules, Mapper, Principal, RuleConfig, RuleSettings, WeakIssuer};
use kcd_bridge::revocation::{RevocationConfig, RevocationOrder, RevocationPolicy};
use kcd_bridge::tls::{ClientCertificate, ClientTrustConfig, IssuerConfig, NtAuth, Trust, Usage};
use kcd_bridge::x509::Claims;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::Lab;

/// For one question to the lab's servers; far more than any takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock"))
}

impl Lab {
    /// By LDAPS, a global catalogue first.
    pub fn directory_config(&self) -> DirectoryConfig {
        DirectoryConfig {
            source: DirectorySource::Servers(vec![self.directory_server(DirectorySecurity::Ldaps)]),
            global_catalog: true,
            trust_anchors: vec![self.pki("ldap-ca.pem")],
            bind_user: self.variable("KCD_LDAP_USER"),
            bind_password_file: self.path("svc-ldap.password"),
            base: None,
            connections: 2,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(5),
        }
    }

    pub fn directory_server(&self, security: DirectorySecurity) -> DirectoryServer {
        let port = if security == DirectorySecurity::Ldaps { 636 } else { 389 };
        DirectoryServer { host: self.variable("KCD_LDAP_HOST"), port, security }
    }

    pub fn directory(&self) -> Directory {
        Directory::load(&self.directory_config()).expect("the directory's configuration")
    }

    pub fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.pki(&format!("{name}.pem"))).expect("a certificate of the lab")
    }

    pub fn claims(&self, name: &str) -> Claims {
        Claims::of_leaf(&self.certificate(name)).expect("the certificate can be read")
    }

    /// All of the lab's device certificates, whatever their usage; nothing is asked about revocation.
    pub fn trust_config(&self) -> ClientTrustConfig {
        let anchor = self.pki("device-ca.pem");
        ClientTrustConfig {
            trust_anchors: vec![anchor.clone()],
            intermediates: ["issuing-ca", "issuing-ca-renewed", "revoked-ca"].map(|ca| self.pki(&format!("{ca}.pem"))).to_vec(),
            issuing_cas: Vec::new(),
            issuers: vec![IssuerConfig {
                certificate: anchor,
                usages: vec![Usage::ClientAuth, Usage::SmartCardLogon],
                templates: Vec::new(),
                policies: Vec::new(),
                revocation: None,
            }],
            nt_auth: NtAuth::Off,
            send_ca_names: true,
            recheck_interval: Duration::from_mins(1),
            expiry_forecast: Duration::from_hours(720),
            revocation: revocation_config(RevocationPolicy::Off),
        }
    }

    /// Admits `pki/NAME.pem` as a device would present it.
    pub async fn admit(&self, name: &str) -> ClientCertificate {
        let trust = Trust::load_once(&self.trust_config(), None).expect("the trust can be loaded");
        trust.admit(&[self.certificate(name)], now(), deadline()).await.expect("the certificate is admitted")
    }

    /// A CA that a weak rule names, for the lab's suffixes.
    pub fn weak_issuers(&self, ca: &str) -> Vec<WeakIssuer> {
        let allowed_suffixes = vec!["corp.example".to_owned()];
        vec![WeakIssuer { certificate: self.pki(&format!("{ca}.pem")), allowed_suffixes }]
    }

    /// SHA-1 of a CA's certificate, as Windows shows it.
    pub fn thumbprint(&self, ca: &str) -> String {
        use sha1::Digest as _;
        sha1::Sha1::digest(self.certificate(ca)).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
    }

    pub fn issuer_file(&self, ca: &str) -> Vec<PathBuf> {
        vec![self.pki(&format!("{ca}.pem"))]
    }
}

pub fn revocation_config(policy: RevocationPolicy) -> RevocationConfig {
    RevocationConfig {
        policy,
        crl_files: Vec::new(),
        crl_directories: Vec::new(),
        scan_interval: Duration::from_secs(1),
        distribution_points: Vec::new(),
        fetch_trust_anchors: Vec::new(),
        fetch_timeout: Duration::from_secs(5),
        max_crl_bytes: 1024 * 1024,
        grace: Duration::ZERO,
        order: RevocationOrder::CrlFirst,
        ocsp: None,
    }
}

/// Asks the directory.
pub async fn find(directory: &Directory, filter: &Filter) -> Result<Vec<Account>, Failure> {
    directory.find(filter, deadline()).await
}

/// One rule for every certificate.
pub fn mapper(lab: &Lab, rule: RuleSettings, accounts: &AccountRules) -> Mapper {
    let directory: Arc<dyn Accounts> = Arc::new(lab.directory());
    Mapper::load(&[RuleConfig::for_all(rule)], accounts, Some(directory)).expect("the mapper can be loaded")
}

/// Who `pki/NAME.pem` stands for.
pub async fn resolve(lab: &Lab, mapper: &Mapper, name: &str) -> Result<Arc<Principal>, Failure> {
    let certificate = lab.admit(name).await;
    mapper.resolve(&certificate, &lab.claims(name), deadline()).await
}
