//! Opening a connection: TCP, perhaps TLS, then HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::{Cause, Failure};
use crate::kerberos::ChannelBinding;
use crate::policy::Grant;
use crate::proxy::upstream::binding::end_point_hash;
use crate::proxy::upstream::places::Place;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::{Closing, Owned};
use crate::proxy::{Authority, BackendConfig, Transport};

const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Why a back end cannot be set up.
#[derive(Debug, Error)]
pub enum ConnectorError {
    /// A trust anchor file that cannot be used.
    #[error("backend {backend}: trust_anchors: {file}: {problem}")]
    TrustAnchors {
        /// the back end's name
        backend: String,
        /// the file
        file: String,
        /// what is wrong with it
        problem: String,
    },
    /// A host that a certificate cannot name.
    #[error("backend {backend}: url: {host} is not a host name or address")]
    Host {
        /// the back end's name
        backend: String,
        /// the host
        host: String,
    },
    /// No usable TLS parameters.
    #[error("backend {backend}: {problem}")]
    Tls {
        /// the back end's name
        backend: String,
        /// what is wrong
        problem: String,
    },
}

/// How one back end is reached.
#[derive(Debug)]
pub(super) struct Connector {
    authority: Authority,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    bind: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.name)
    }
}

impl Connector {
    pub(super) fn new(config: &BackendConfig) -> Result<Self, ConnectorError> {
        let tls = match &config.transport {
            Transport::Http => None,
            Transport::Tls { trust_anchors } => Some(Tls::new(config, trust_anchors)?),
        };
        Ok(Self { authority: config.authority.clone(), tls })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects for this grant; the connection's task holds the place until the connection is closed.
    pub(super) async fn open(&self, grant: &Grant, pool: &Arc<Pool>, place: Place) -> Result<Owned, Failure> {
        let tcp = self.tcp().await.map_err(|error| {
            let Authority { host, port } = &self.authority;
            Failure::new(Cause::UpstreamUnreachable, format!("{host}:{port}: {error}"))
        })?;
        let Some(tls) = &self.tls else { return start(tcp, None, grant, pool, place).await };
        let failed = |problem: String| Failure::new(Cause::UpstreamTls, format!("{}: {problem}", self.authority.host));
        let stream = tls.connector.connect(tls.name.clone(), tcp).await.map_err(|error| failed(error.to_string()))?;
        let binding = if tls.bind {
            let leaf =
                stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or_else(|| failed("no certificate".into()))?;
            let certificate_hash =
                end_point_hash(leaf).map_err(|problem| failed(format!("{problem}; channel_binding = \"off\" does without")))?;
            Some(ChannelBinding { certificate_hash })
        } else {
            None
        };
        start(stream, binding, grant, pool, place).await
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.authority.host.as_str(), self.authority.port)).await?;
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
        rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
        Ok(stream)
    }
}

impl Tls {
    fn new(config: &BackendConfig, trust_anchors: &[std::path::PathBuf]) -> Result<Self, ConnectorError> {
        let backend = || config.target.name.to_string();
        let mut roots = RootCertStore::empty();
        for path in trust_anchors {
            let problem =
                |problem: String| ConnectorError::TrustAnchors { backend: backend(), file: path.display().to_string(), problem };
            let before = roots.len();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| problem(error.to_string()))? {
                let certificate = certificate.map_err(|error| problem(error.to_string()))?;
                roots.add(certificate).map_err(|error| problem(error.to_string()))?;
            }
            if roots.len() == before {
                return Err(problem("no certificate in it".into()));
            }
        }
        let host = &config.authority.host;
        let name =
            ServerName::try_from(host.clone()).map_err(|_| ConnectorError::Host { backend: backend(), host: host.clone() })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectorError::Tls { backend: backend(), problem: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // One principal's session must not be continued by another's connection.
        tls.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(tls)), name, bind: config.channel_binding })
    }
}

async fn start<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: IO,
    binding: Option<ChannelBinding>,
    grant: &Grant,
    pool: &Arc<Pool>,
    place: Place,
) -> Result<Owned, Failure> {
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Failure::new(Cause::UpstreamUnreachable, error.to_string()))?;
    let task = tokio::spawn(async move {
        let _place = place;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Owned {
        grant: grant.clone(),
        sender,
        pool: Arc::clone(pool),
        task: Closing(task.abort_handle()),
        binding,
        proved: false,
        warm: false,
    })
}
