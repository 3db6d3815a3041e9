//! One request with one token to one back end, for `kcd-bridge doctor`: what the server offers without a token, what it says to one.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::failure::{Cause, Failure};
use crate::kerberos::{ChannelBinding, NegotiateToken, PendingReply, Verdict};
use crate::policy::Grant;
use crate::proxy::upload::AttemptBody;
use crate::proxy::upstream::{Backend, SendError};
use crate::proxy::{BackendConfig, ConnectorError};

/// What was seen.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// status without a token
    pub anonymous_status: u16,
    /// schemes offered without a token, as the server lists them
    pub offered: Vec<String>,
    /// status with the token
    pub status: u16,
    /// what the answer to the token proves
    pub verdict: Result<Verdict, Failure>,
}

/// Asks `OPTIONS path` twice on one connection of its own: without a token, then with the one that `mint` makes for it.
pub async fn probe<R: PendingReply>(
    config: BackendConfig,
    grant: &Grant,
    path: &str,
    mint: impl FnOnce(Option<&ChannelBinding>) -> Result<(NegotiateToken, R), Failure>,
) -> Result<ProbeReport, Failure> {
    let host = config.host_header.clone();
    let limit = config.connect_timeout.saturating_mul(4);
    let backend = Backend::new(config).map_err(|error: ConnectorError| Failure::new(Cause::UpstreamTls, error.to_string()))?;
    let asked = async {
        let anonymous = ask(&backend, grant, request(path, &host, None)?).await?;
        let offered = offers(anonymous.headers());
        let mut connection = backend.connect(grant).await?;
        let (token, reply) = mint(connection.binding())?;
        let answer = connection.send(request(path, &host, Some(token.into_header()))?).await.map_err(|error| closed(&error))?;
        let challenges: Vec<_> = answer.headers().get_all(header::WWW_AUTHENTICATE).iter().cloned().collect();
        Ok(ProbeReport {
            anonymous_status: anonymous.status().as_u16(),
            offered,
            status: answer.status().as_u16(),
            verdict: reply.judge(&challenges),
        })
    };
    let timed_out = |_| Err(Failure::new(Cause::UpstreamTimeout, format!("{limit:?}")));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(timed_out)
}

async fn ask(backend: &Backend, grant: &Grant, request: Request<AttemptBody>) -> Result<Response<Incoming>, Failure> {
    backend.connect(grant).await?.send(request).await.map_err(|error| closed(&error))
}

fn request(path: &str, host: &str, authorization: Option<HeaderValue>) -> Result<Request<AttemptBody>, Failure> {
    let mut request = Request::builder().method(Method::OPTIONS).uri(path).header(header::HOST, host);
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(AttemptBody::empty()).map_err(|error| Failure::new(Cause::UpstreamMalformed, error.to_string()))
}

/// `Negotiate`, `NTLM`, `Basic`: the scheme of each challenge.
fn offers(headers: &HeaderMap) -> Vec<String> {
    let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    challenges.flat_map(|value| value.split(',')).filter_map(|offer| offer.split_whitespace().next()).map(str::to_owned).collect()
}

fn closed(error: &SendError) -> Failure {
    Failure::new(Cause::UpstreamClosed, format!("{error:?}"))
}
