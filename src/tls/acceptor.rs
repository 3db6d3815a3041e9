//! From a TCP connection to a TLS stream with an admitted client certificate.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::{CertificateFacts, LoadError};
use crate::failure::{Cause, Failure};
use crate::tls::sessions::Sessions;
use crate::tls::verifier::{Attempt, Verifier};
use crate::tls::{ClientCertificate, Credentials, ListenerConfig, Trust, VerifiedChain};

/// How long a refused device gets to take the closing message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts TLS 1.2 and 1.3 with a client certificate, ALPN http/1.1, resumption without early data.
pub struct Acceptor {
    provider: Arc<CryptoProvider>,
    sessions: Arc<Sessions>,
    handshake_timeout: Duration,
    serving: RwLock<Serving>,
}

/// One trust, the listener's credentials, and the TLS configuration made of both.
#[derive(Clone)]
struct Serving {
    trust: Arc<Trust>,
    credentials: Credentials,
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
    pub fn new(listener: &ListenerConfig, trust: impl Into<Arc<Trust>>) -> Result<Self, LoadError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let sessions = Sessions::new();
        let serving = Serving::new(trust.into(), Credentials::load(listener)?, &provider, &sessions)
            .map_err(|error| LoadError::new(&listener.certificate, error.to_string(), "see the TLS library's message"))?;
        let serving = RwLock::new(serving);
        Ok(Self { provider, sessions, handshake_timeout: listener.handshake_timeout, serving })
    }

    /// Today's trust.
    pub fn trust(&self) -> Arc<Trust> {
        self.serving().trust
    }

    /// From now on admits by this trust; sessions resumed later are asked about it too.
    pub fn replace_trust(&self, trust: impl Into<Arc<Trust>>) -> Result<(), Failure> {
        self.change(trust.into(), Credentials::clone)
    }

    /// From now on shows these credentials and admits by this trust, both from the same handshake on.
    pub fn replace(&self, credentials: Credentials, trust: impl Into<Arc<Trust>>) -> Result<(), Failure> {
        self.change(trust.into(), |_| credentials)
    }

    fn change(&self, trust: Arc<Trust>, credentials: impl FnOnce(&Credentials) -> Credentials) -> Result<(), Failure> {
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        let credentials = credentials(&serving.credentials);
        *serving = Serving::new(trust, credentials, &self.provider, &self.sessions)
            .map_err(|error| Failure::new(Cause::HandshakeFailed, error.to_string()))?;
        Ok(())
    }

    /// Completes a handshake, and finds out whether the certificate is revoked where that was not known during it, within
    /// `handshake_timeout` in all. A connection that is handed out has a certificate that today's trust admits, resumed or not.
    pub async fn accept<IO>(&self, io: IO) -> Result<(TlsStream<IO>, ClientCertificate), HandshakeRefused>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + self.handshake_timeout;
        let handshake = TlsAcceptor::from(self.serving().config).accept(io);
        let (outcome, attempt) = Attempt::observe(timeout_at(deadline.into(), handshake)).await;
        let mut stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refused(failure_of(&error), attempt)),
            Err(_) => {
                let limit = format!("{:?}", self.handshake_timeout);
                return Err(refused(Failure::new(Cause::HandshakeTimeout, limit), attempt));
            }
        };
        let connection = stream.get_ref().1;
        let chain: Vec<_> = connection.peer_certificates().unwrap_or_default().to_vec();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        match self.admit(&chain, attempt.verdict, deadline).await {
            Ok(certificate) => Ok((stream, certificate)),
            Err(failure) => {
                self.sessions.forget(&attempt.sessions);
                let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
                let certificate = chain.first().map(|leaf| Box::new(CertificateFacts::of(leaf)));
                Err(HandshakeRefused { failure, certificate, resumed })
            }
        }
    }

    /// The second stage for the chain that the verifier saw, or both for the restored one where it was not asked because a session
    /// was resumed; by today's trust.
    async fn admit(
        &self,
        chain: &[CertificateDer<'_>],
        verdict: Option<Result<VerifiedChain, (Failure, CertificateFacts)>>,
        deadline: Instant,
    ) -> Result<ClientCertificate, Failure> {
        let (trust, now) = (self.trust(), UnixTime::now());
        match verdict {
            Some(Ok(verified)) => trust.settle(verified, now, deadline).await,
            Some(Err((failure, _))) => Err(failure),
            None => trust.admit(chain, now, deadline).await,
        }
    }

    fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Serving {
    fn new(
        trust: Arc<Trust>,
        credentials: Credentials,
        provider: &Arc<CryptoProvider>,
        sessions: &Arc<Sessions>,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(Verifier::new(Arc::clone(&trust))))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&credentials.0))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::clone(sessions) as Arc<_>;
        config.max_early_data_size = 0;
        Ok(Self { trust, credentials, config: Arc::new(config) })
    }
}

/// A handshake that the TLS library ended: the verifier's refusal where that was the reason.
fn refused(otherwise: Failure, attempt: Attempt) -> HandshakeRefused {
    let (failure, certificate) = match attempt.verdict {
        Some(Err((failure, facts))) => (failure, Some(Box::new(facts))),
        Some(Ok(chain)) => (otherwise, Some(Box::new(chain.facts().clone()))),
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
