//! From a TCP connection to a TLS stream with an admitted client certificate.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::{CertificateFacts, LoadError};
use crate::failure::{Cause, Failure};
use crate::tls::sessions::Sessions;
use crate::tls::verifier::{Attempt, Verifier};
use crate::tls::{ClientCertificate, ListenerConfig, Trust, credentials};

/// How long a refused device gets to take the closing message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts TLS 1.2 and 1.3 with a client certificate, ALPN http/1.1, resumption without early data.
pub struct Acceptor {
    provider: Arc<CryptoProvider>,
    credentials: Arc<CertifiedKey>,
    sessions: Arc<Sessions>,
    handshake_timeout: Duration,
    serving: RwLock<Serving>,
}

/// One trust and the TLS configuration that asks it.
#[derive(Clone)]
struct Serving {
    trust: Arc<Trust>,
    config: Arc<ServerConfig>,
}

/// A handshake that ended without an admitted certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeRefused {
    /// Why.
    pub failure: Failure,
    /// What the presented certificate said of itself, if one was presented. Nobody vouches for it.
    pub certificate: Option<Box<CertificateFacts>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Acceptor {
    /// Reads the listener's certificate and key.
    pub fn new(listener: &ListenerConfig, trust: Trust) -> Result<Self, LoadError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let credentials = credentials::load(&listener.certificate, &listener.key, &provider)?;
        let sessions = Sessions::new();
        let serving = Serving::new(Arc::new(trust), &provider, &credentials, &sessions)
            .map_err(|error| LoadError::new(&listener.certificate, error.to_string(), "see the TLS library's message"))?;
        let serving = RwLock::new(serving);
        Ok(Self { provider, credentials, sessions, handshake_timeout: listener.handshake_timeout, serving })
    }

    /// Today's trust.
    pub fn trust(&self) -> Arc<Trust> {
        self.serving().trust
    }

    /// From now on admits by this trust; sessions resumed later are asked about it too.
    pub fn replace_trust(&self, trust: Trust) -> Result<(), Failure> {
        let serving = Serving::new(Arc::new(trust), &self.provider, &self.credentials, &self.sessions)
            .map_err(|error| Failure::new(Cause::HandshakeFailed, error.to_string()))?;
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        Ok(())
    }

    /// Completes a handshake. A connection that is handed out has a certificate that today's trust admits, resumed or not.
    pub async fn accept<IO>(&self, io: IO) -> Result<(TlsStream<IO>, ClientCertificate), HandshakeRefused>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.serving().config).accept(io);
        let (outcome, attempt) = Attempt::observe(timeout(self.handshake_timeout, handshake)).await;
        let mut stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refused(failure_of(&error), attempt)),
            Err(_) => {
                let limit = format!("{:?}", self.handshake_timeout);
                return Err(refused(Failure::new(Cause::HandshakeTimeout, limit), attempt));
            }
        };
        match self.admit(stream.get_ref().1, attempt.verdict) {
            Ok(certificate) => Ok((stream, certificate)),
            Err(refused) => {
                self.sessions.forget(&attempt.sessions);
                let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
                Err(refused)
            }
        }
    }

    /// The verifier's certificate, or, where it was not asked because a session was resumed, the restored one; by today's trust.
    fn admit(
        &self,
        connection: &ServerConnection,
        verdict: Option<Result<ClientCertificate, (Failure, CertificateFacts)>>,
    ) -> Result<ClientCertificate, HandshakeRefused> {
        let (trust, now) = (self.trust(), UnixTime::now());
        let chain = connection.peer_certificates().unwrap_or_default();
        let admitted = match verdict {
            Some(Ok(certificate)) => trust.still_admits(&certificate, now).map(|()| certificate),
            Some(Err((failure, _))) => Err(failure),
            None => trust.admit(chain, now),
        };
        admitted.map_err(|failure| HandshakeRefused {
            failure,
            certificate: chain.first().map(|leaf| Box::new(CertificateFacts::of(leaf))),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Serving {
    fn new(
        trust: Arc<Trust>,
        provider: &Arc<CryptoProvider>,
        credentials: &Arc<CertifiedKey>,
        sessions: &Arc<Sessions>,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(Verifier::new(Arc::clone(&trust))))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(credentials))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::clone(sessions) as Arc<_>;
        config.max_early_data_size = 0;
        Ok(Self { trust, config: Arc::new(config) })
    }
}

/// A handshake that the TLS library ended: the verifier's refusal where that was the reason.
fn refused(otherwise: Failure, attempt: Attempt) -> HandshakeRefused {
    let (failure, certificate) = match attempt.verdict {
        Some(Err((failure, facts))) => (failure, Some(Box::new(facts))),
        Some(Ok(certificate)) => (otherwise, Some(Box::new(certificate.facts().clone()))),
        None => (otherwise, None),
    };
    HandshakeRefused { failure, certificate, resumed: false }
}

fn failure_of(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Cause::NoCertificate.into(),
        Some(other) => Failure::new(Cause::HandshakeFailed, other.to_string()),
        None => Failure::new(Cause::HandshakeFailed, error.to_string()),
    }
}

impl fmt::Display for HandshakeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for HandshakeRefused {}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("trust", &self.trust()).finish_non_exhaustive()
    }
}
