//! One request with one token to one back end, for `kcd-bridge doctor`: what the server offers without a token, what it says to one.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::failure::{Cause, Failure};
use crate::kerberos::{ChannelBinding, NegotiateToken, PendingReply, Verdict};
use crate::policy::Grant;
use crate::proxy::upload::AttemptBody;
use crate::proxy::upstream::{Backend, SendError};
use crate::proxy::{BackendConfig, ConnectorError};

/// How long a connection may take to be ready for the second token.
const REUSE: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// status without a token
    pub anonymous_status: u16,
    /// schemes offered without a token, as the server lists them
    pub offered: Vec<String>,
    /// whether a first token was answered 401 and this is what a second got
    pub refused_before: bool,
    /// status with the token
    pub status: u16,
    /// what the answer to the token proves
    pub verdict: Result<Verdict, Failure>,
}

/// Asks `OPTIONS path` without a token, then, on another connection, with the one that `mint` makes for it. A server may refuse the first
/// token on a connection (IIS with kernel-mode authentication): a 401 is answered once, with a fresh token, as the bridge does.
pub async fn probe<R: PendingReply>(
    config: BackendConfig,
    grant: &Grant,
    path: &str,
    mut mint: impl FnMut(Option<&ChannelBinding>) -> Result<(NegotiateToken, R), Failure>,
) -> Result<ProbeReport, Failure> {
    let host = config.host_header.clone();
    let limit = config.connect_timeout.saturating_mul(4);
    let backend = Backend::new(config).map_err(|error: ConnectorError| Failure::new(Cause::UpstreamTls, error.to_string()))?;
    let asked = async {
        let anonymous = ask(&backend, grant, request(path, &host, None)?).await?;
        let offered = offers(anonymous.headers());
        let mut connection = backend.connect(grant).await?;
        let mut refused_before = false;
        loop {
            let (token, reply) = mint(connection.binding())?;
            let answer =
                connection.send(request(path, &host, Some(token.into_header()))?).await.map_err(|error| closed(&error))?;
            let challenges: Vec<_> = answer.headers().get_all(header::WWW_AUTHENTICATE).iter().cloned().collect();
            let (status, verdict) = (answer.status(), reply.judge(&challenges));
            if status == StatusCode::UNAUTHORIZED && !refused_before && !matches!(verdict, Ok(Verdict::NtlmOnly)) {
                refused_before = true;
                let drained = answer.into_body().collect().await.is_ok();
                if !drained || !connection.is_reusable(REUSE).await {
                    connection = backend.connect(grant).await?;
                }
                continue;
            }
            return Ok(ProbeReport {
                anonymous_status: anonymous.status().as_u16(),
                offered,
                refused_before,
                status: status.as_u16(),
                verdict,
            });
        }
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
