//! A device: a TLS connection with a client certificate that speaks HTTP/1.1.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Lab;

pub const PATH: &str = "/Microsoft-Server-ActiveSync";

/// One kept-alive connection.
pub struct Device {
    sender: SendRequest<Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }

    /// Who the back end saw.
    pub fn user(&self) -> Option<&str> {
        self.header("x-backend-user")
    }
}

/// TLS settings of a device with the certificate `pki/NAME.pem`, without session resumption unless shared.
pub fn tls_config(lab: &Lab, name: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for anchor in certificates(&lab.pki("server-ca.pem")) {
        roots.add(anchor).expect("the server CA is a trust anchor");
    }
    let key = PrivateKeyDer::from_pem_file(lab.pki(&format!("{name}.key"))).expect("the device's key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&lab.pki(&format!("{name}.pem"))), key)
        .expect("the device's certificate fits its key");
    Arc::new(config)
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let found: Result<_, _> = CertificateDer::pem_file_iter(path).expect("a PEM file").collect();
    found.expect("certificates")
}

/// A TLS connection; in TLS 1.3 a refusal of the certificate shows only at the first read.
pub async fn handshake(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("bridge.corp.example").expect("a server name");
    TlsConnector::from(config).connect(name, tcp).await
}

impl Device {
    pub async fn connect(lab: &Lab, address: SocketAddr, name: &str) -> Self {
        let stream = handshake(address, tls_config(lab, name)).await.expect("the TLS handshake");
        Self::over(stream).await
    }

    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self { sender }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let response: Response<_> = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    pub async fn request(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "bridge.corp.example");
        self.send(request.body(Full::new(body.into())).expect("a request")).await.expect("an answer")
    }
}
