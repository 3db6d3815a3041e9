//! What the listener and the trust in client certificates are configured with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::certificate::oid;
use crate::revocation::{RevocationConfig, RevocationPolicy};

/// `[listener]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// `address`
    pub address: SocketAddr,
    /// `certificate`: PEM chain, leaf first
    pub certificate: PathBuf,
    /// `key`: PEM private key
    pub key: PathBuf,
    /// `handshake_timeout` (default 10 s)
    pub handshake_timeout: Duration,
    /// `header_timeout`: time for a request's header block once its first byte came (default 30 s)
    pub header_timeout: Duration,
    /// `idle_timeout`: time between requests on a kept connection (default 120 s)
    pub idle_timeout: Duration,
    /// `max_connections` (default 16384)
    pub max_connections: usize,
    /// `max_header_bytes`: request line and headers (default 65536)
    pub max_header_bytes: usize,
    /// `drain_timeout`: how long a stop waits for requests in flight (default 10 s)
    pub drain_timeout: Duration,
}

/// `[client_certificates]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTrustConfig {
    /// `trust_anchors`: PEM files
    pub trust_anchors: Vec<PathBuf>,
    /// `intermediates`: PEM files, for devices that send only their leaf
    pub intermediates: Vec<PathBuf>,
    /// `issuing_cas`: PEM files; the leaf must be signed by the key of one of them. None: by any CA under the anchors
    pub issuing_cas: Vec<PathBuf>,
    /// `issuer`: what a CA's certificates are held to
    pub issuers: Vec<IssuerConfig>,
    /// `nt_auth`
    pub nt_auth: NtAuth,
    /// `send_ca_names`: whether devices are told which CAs are known
    pub send_ca_names: bool,
    /// `recheck_interval`: how long an admission is believed at most
    pub recheck_interval: Duration,
    /// `expiry_forecast`: certificates in use that end within it are reported (default 30 days)
    pub expiry_forecast: Duration,
    /// `revocation`
    pub revocation: RevocationConfig,
}

/// `[[client_certificates.issuer]]`: holds for all certificates below this CA unless a CA nearer to the leaf has its own. Where a CA is
/// certified by several others a device chooses the path by what it presents: only the entry of its issuing CA holds on each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// `certificate`: PEM file with exactly the CA's certificate; it counts by its key
    pub certificate: PathBuf,
    /// `usages`: extended key usages a leaf may be let in with
    pub usages: Vec<Usage>,
    /// `templates`: names (version 1) or OIDs (version 2) of the AD CS templates allowed; none: any
    pub templates: Vec<String>,
    /// `policies`: dotted OIDs, of which a leaf must assert one; none: any or none
    pub policies: Vec<String>,
    /// `revocation`: in place of `client_certificates.revocation.policy`
    pub revocation: Option<RevocationPolicy>,
}

/// An extended key usage that a leaf may be let in with (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// id-kp-clientAuth 1.3.6.1.5.5.7.3.2: the default, and the only one
    ClientAuth,
    /// szOID_KP_SMARTCARD_LOGON 1.3.6.1.4.1.311.20.2.2
    SmartCardLogon,
    /// id-pkinit-KPClientAuth 1.3.6.1.5.2.3.4 (RFC 4556 section 3.2.2)
    KpClientAuth,
    /// anyExtendedKeyUsage 2.5.29.37.0 (weak)
    Any,
    /// no extended key usage at all (weak: ESC2)
    None,
}

impl Usage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::ClientAuth, Self::SmartCardLogon, Self::KpClientAuth, Self::Any, Self::None];

    /// Name in the configuration and in refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientAuth => "client-auth",
            Self::SmartCardLogon => "smart-card-logon",
            Self::KpClientAuth => "kp-client-auth",
            Self::Any => "any",
            Self::None => "none",
        }
    }

    /// Contents octets of its OID; nothing stands for an absent extension.
    pub(in crate::tls) const fn oid(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::ClientAuth => oid::CLIENT_AUTH,
            Self::SmartCardLogon => &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x02],
            Self::KpClientAuth => &[0x2B, 0x06, 0x01, 0x05, 0x02, 0x03, 0x04],
            Self::Any => &[0x55, 0x1D, 0x25, 0x00],
            Self::None => return None,
        })
    }
}

/// `client_certificates.nt_auth`: the CAs that may speak for accounts of the forest. The leaf's issuing CA must be among them, by its
/// subject and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NtAuth {
    /// Not asked.
    #[default]
    Off,
    /// PEM or DER files.
    Files(Vec<PathBuf>),
    /// `cACertificate` of `CN=NTAuthCertificates` in the directory.
    Directory,
}
