//! One HTTP exchange with somebody a certificate named: no redirects, no decoding, and a limit on everything.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::certificate::{LoadError, read_certificate_chain};
use crate::revocation::fetch::url::Origin;

const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 << 10;
/// Of one name; all of them share the time there is.
const MAX_ADDRESSES: usize = 4;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error("no complete answer in time")]
    Timeout,
    #[error("its host name does not resolve: {0}")]
    Resolve(io::Error),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    #[error("https without client_certificates.revocation.fetch_trust_anchors")]
    NoAnchors,
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
    #[error("not a well-formed answer: {0}")]
    Protocol(#[from] hyper::Error),
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the answer is encoded, which was not asked for")]
    Encoded,
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    #[error("empty")]
    Empty,
}

impl HttpError {
    /// The server itself is in trouble, whatever it is asked for.
    pub(crate) fn is_trouble(&self) -> bool {
        !matches!(self, Self::Status(status) if status.is_client_error())
    }
}

/// What is asked.
pub(crate) enum Question {
    /// For this request target.
    Get(String),
    /// To this request target, a body of this media type.
    Post(String, &'static str, Vec<u8>),
}

/// Makes connections, one an exchange.
#[derive(Clone)]
pub(crate) struct Http {
    tls: Option<TlsConnector>,
}

impl Http {
    /// Servers of https URLs must chain to a certificate of these files; none: https URLs are refused.
    pub(crate) fn new(trust_anchors: &[std::path::PathBuf]) -> Result<Self, LoadError> {
        let mut roots = RootCertStore::empty();
        for path in trust_anchors {
            let cannot = |problem: String| LoadError::new(path, problem, "fetch_trust_anchors are CA certificates in PEM");
            for certificate in read_certificate_chain(path)? {
                roots.add(certificate).map_err(|error| cannot(error.to_string()))?;
            }
        }
        if roots.is_empty() {
            return Ok(Self { tls: None });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| LoadError::new("fetch_trust_anchors".as_ref(), error.to_string(), "report this"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    pub(crate) fn can_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The body of the answer: status 200, as it is, at most `limit` bytes, complete before the deadline.
    pub(crate) async fn ask(
        &self,
        origin: &Origin,
        question: Question,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, HttpError> {
        let exchange = async {
            let stream = connect(origin, deadline).await?;
            if !origin.secure {
                return exchange(stream, origin, question, limit).await;
            }
            let tls = self.tls.as_ref().ok_or(HttpError::NoAnchors)?;
            let name = ServerName::try_from(origin.host.clone())
                .map_err(|error| HttpError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let stream = tls.connect(name, stream).await.map_err(HttpError::Tls)?;
            exchange(stream, origin, question, limit).await
        };
        timeout_at(deadline.into(), exchange).await.map_err(|_| HttpError::Timeout)?
    }
}

/// The first of the name's addresses that answers; each has an equal share of the time that is left.
async fn connect(origin: &Origin, deadline: Instant) -> Result<TcpStream, HttpError> {
    let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(HttpError::Resolve)?;
    let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
        let share = share.max(Duration::from_millis(1));
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => problem = error,
            Err(_) => problem = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(HttpError::Connect(problem))
}

async fn exchange<IO>(stream: IO, origin: &Origin, question: Question, limit: u64) -> Result<Vec<u8>, HttpError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let request = request(origin, question)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await?;
    let answer = async { read(sender.send_request(request).await?, limit).await };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    // The connection is driven here, so that dropping this future ends everything.
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

fn request(origin: &Origin, question: Question) -> Result<Request<Full<Bytes>>, http::Error> {
    let (method, target, kind, body) = match question {
        Question::Get(target) => (Method::GET, target, None, Vec::new()),
        Question::Post(target, kind, body) => (Method::POST, target, Some(kind), body),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, origin.to_string())
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close");
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    request.body(Full::from(body))
}

async fn read(response: Response<Incoming>, limit: u64) -> Result<Vec<u8>, HttpError> {
    if response.status() != StatusCode::OK {
        return Err(HttpError::Status(response.status()));
    }
    if is_encoded(response.headers()) {
        return Err(HttpError::Encoded);
    }
    let mut body = response.into_body();
    if body.size_hint().lower() > limit {
        return Err(HttpError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let total = bytes.len().saturating_add(data.len());
        if u64::try_from(total).map_or(true, |total| total > limit) {
            return Err(HttpError::TooLarge(limit));
        }
        bytes.extend_from_slice(&data);
    }
    if bytes.is_empty() { Err(HttpError::Empty) } else { Ok(bytes) }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let other = |name, plain: &str| {
        headers.get_all(name).iter().any(|value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(plain.as_bytes()))
    };
    other(CONTENT_ENCODING, "identity") || other(TRANSFER_ENCODING, "chunked")
}
