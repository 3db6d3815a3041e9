//! Token, connection, request, verdict: from a grant to an answer that may be handed on.
//!
//! The rules after a 401 are those of a server that may refuse the first token of all (IIS with kernel-mode authentication) or
//! hold another key than the ticket's: once more from the same ticket, once more from a new ticket, then give up. The body is
//! sent again for no other reason.

use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::failure::{Cause, Failure};
use crate::kerberos::wire::krb_error;
use crate::kerberos::{IssuedToken, PendingReply, TicketId, TokenSource, Verdict};
use crate::policy::Grant;
use crate::proxy::Mutual;
use crate::proxy::hygiene::clean_request;
use crate::proxy::record::Record;
use crate::proxy::upload::{AttemptBody, Upload};
use crate::proxy::upstream::{Backend, Owned, SendError};

/// A refusal's body is read to its end, up to these limits, to use the connection again.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// An answer that was judged, and the connection its body comes from.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Owned,
}

/// One request on its way to one back end.
pub(super) struct Exchange<'a, T: TokenSource> {
    pub(super) tokens: &'a T,
    pub(super) token_timeout: Duration,
    pub(super) backend: &'a Backend,
    pub(super) grant: &'a Grant,
    pub(super) head: &'a Parts,
    pub(super) upload: &'a Upload,
    pub(super) record: &'a mut Record,
}

/// What was tried since the last answer that was not a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Once,
    FreshToken,
    FreshTicket,
}

/// What to do about a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    FreshToken,
    FreshTicket,
    GiveUp,
}

/// The rules after a 401.
fn after_401(tried: Tried, verdict: Option<&Verdict>) -> Next {
    match (tried, verdict) {
        // A server without Negotiate accepts no ticket at all. One that holds the ticket's key and still says no is not changed by
        // another ticket.
        (_, Some(Verdict::NtlmOnly)) | (Tried::FreshToken, Some(Verdict::Proved)) | (Tried::FreshTicket, _) => Next::GiveUp,
        (Tried::Once, Some(Verdict::KrbError { reacquire: true, .. })) | (Tried::FreshToken, _) => Next::FreshTicket,
        (Tried::Once, _) => Next::FreshToken,
    }
}

/// What is sent in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// The device's request.
    Request,
    /// `OPTIONS` for the same path without a body, to authenticate a cold connection before a body that could not be sent again.
    Priming,
}

/// What came of one attempt.
struct Attempted<R> {
    response: Response<Incoming>,
    connection: Owned,
    reply: R,
    ticket: TicketId,
}

impl<T: TokenSource> Exchange<'_, T> {
    /// Runs the exchange to an answer that may be handed on.
    pub(super) async fn run(mut self) -> Result<Accepted, Failure> {
        let mut connection = self.backend.kept(self.grant).await;
        if !self.upload.is_replayable() && !connection.as_ref().is_some_and(Owned::is_warm) {
            connection = Some(self.primed(connection).await?);
        }
        let accepted = self.authenticated(connection, Message::Request).await?;
        self.upload.release();
        Ok(accepted)
    }

    /// A connection on which a token was accepted, for a body that could not be sent again.
    async fn primed(&mut self, connection: Option<Owned>) -> Result<Owned, Failure> {
        let primed = self.authenticated(connection, Message::Priming).await?;
        self.reusable(primed.response, primed.connection).await.ok_or_else(|| {
            let detail =
                "it closes connections after one answer, and this body is too large to be sent twice: raise replay_buffer_bytes";
            Failure::new(Cause::UpstreamClosed, detail)
        })
    }

    /// Sends the message until it is answered by something else than a 401, within the rules.
    async fn authenticated(&mut self, mut connection: Option<Owned>, message: Message) -> Result<Accepted, Failure> {
        let mut tried = Tried::Once;
        loop {
            let attempted = self.attempt(connection.take(), message).await?;
            if attempted.response.status() != StatusCode::UNAUTHORIZED {
                return self.judged(attempted);
            }
            let verdict = attempted.reply.judge(&www_authenticate(attempted.response.headers()));
            tried = match after_401(tried, verdict.as_ref().ok()) {
                Next::FreshToken => Tried::FreshToken,
                Next::FreshTicket if self.tokens.forget(self.grant, attempted.ticket) => Tried::FreshTicket,
                Next::FreshTicket => {
                    let failure = refused(&verdict).also("a new ticket was asked for too recently");
                    return Err(self.tokens.explain(self.grant, failure).await);
                }
                Next::GiveUp => return Err(self.tokens.explain(self.grant, refused(&verdict)).await),
            };
            // A server that refused a body may not have read it, and may close without a word: its next answer is not waited for.
            if message == Message::Priming || self.upload.is_empty() {
                connection = self.reusable(attempted.response, attempted.connection).await;
            }
        }
    }

    /// One token, one request, one answer. A kept connection that turns out to be closed is replaced once, if nothing can have
    /// been done twice by it.
    async fn attempt(&mut self, mut connection: Option<Owned>, message: Message) -> Result<Attempted<T::Reply>, Failure> {
        let mut primed_again = false;
        loop {
            let kept = connection.is_some();
            let (mut connection_now, issued) = self.equipped(connection.take()).await?;
            let IssuedToken { token, reply, facts } = issued;
            let request = self.request(message, token.into_header())?;
            self.record.event.attempts += 1;
            let started = Instant::now();
            let limit = self.backend.config.response_timeout;
            let sent = tokio::time::timeout(limit, connection_now.send(request)).await;
            match sent {
                Ok(Ok(response)) => {
                    self.record.note_stage("response", started.elapsed());
                    self.record.event.backend_status = Some(response.status().as_u16());
                    return Ok(Attempted { response, connection: connection_now, reply, ticket: facts.id });
                }
                Err(_) => return Err(Failure::new(Cause::UpstreamTimeout, format!("no answer within {limit:?}"))),
                // A warm connection was lost before the body began: the next one has to be authenticated first, too.
                Ok(Err(SendError::Unsent))
                    if kept && message == Message::Request && !self.upload.is_replayable() && !primed_again =>
                {
                    primed_again = true;
                    connection = Some(Box::pin(self.primed(None)).await?);
                }
                Ok(Err(SendError::Unsent)) if kept => {}
                Ok(Err(SendError::Broken(error))) if kept && is_lost(&error) && self.is_repeatable(message) => {}
                Ok(Err(SendError::Unsent)) => return Err(Failure::new(Cause::UpstreamClosed, "before the request was sent")),
                Ok(Err(SendError::Broken(error))) => return Err(self.broken(&error)),
            }
            // The body was not begun or is not there: the next attempt starts it anew.
        }
    }

    /// A connection and a token for it. The token comes first wherever it can, so that a principal who gets none opens no connection.
    async fn equipped(&mut self, connection: Option<Owned>) -> Result<(Owned, IssuedToken<T::Reply>), Failure> {
        if let Some(connection) = connection {
            let issued = self.token(Some(&connection)).await?;
            return Ok((connection, issued));
        }
        if self.backend.binds_tokens() {
            let connection = self.connected().await?;
            let issued = self.token(Some(&connection)).await?;
            return Ok((connection, issued));
        }
        let issued = self.token(None).await?;
        Ok((self.connected().await?, issued))
    }

    async fn connected(&mut self) -> Result<Owned, Failure> {
        let started = Instant::now();
        let connection = self.backend.connect(self.grant).await?;
        self.record.note_stage("connect", started.elapsed());
        Ok(connection)
    }

    async fn token(&mut self, connection: Option<&Owned>) -> Result<IssuedToken<T::Reply>, Failure> {
        let started = Instant::now();
        let deadline = started + self.token_timeout;
        let asking = self.tokens.token(self.grant, connection.and_then(Owned::binding), deadline);
        let issued =
            tokio::time::timeout_at(deadline.into(), asking).await.unwrap_or_else(|_| Err(Cause::AcquisitionTimeout.into()))?;
        self.record.note_ticket(&issued.facts, started.elapsed());
        Ok(issued)
    }

    /// The request as the back end gets it: cleaned, its own Host, exactly one Authorization, the query as it came.
    fn request(&self, message: Message, authorization: HeaderValue) -> Result<Request<AttemptBody>, Failure> {
        let mut headers = self.head.headers.clone();
        clean_request(&mut headers);
        let internal = |detail: &str| Failure::new(Cause::TokenFailed, detail);
        let host = HeaderValue::from_str(&self.backend.config.host_header).map_err(|_| internal("host is not a header value"))?;
        headers.insert(header::HOST, host);
        headers.insert(header::AUTHORIZATION, authorization);
        headers.remove(header::CONTENT_LENGTH);
        let (method, uri, body) = match message {
            Message::Request => {
                let target = self.head.uri.path_and_query().cloned();
                (self.head.method.clone(), target, self.upload.attempt()?)
            }
            Message::Priming => {
                headers.remove(header::CONTENT_TYPE);
                headers.remove(header::CONTENT_ENCODING);
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                (Method::OPTIONS, PathAndQuery::try_from(self.head.uri.path()).ok(), AttemptBody::empty())
            }
        };
        if message == Message::Request {
            match body.size_hint().exact() {
                None => headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
                // A server may insist on a length from a method that usually has a body.
                Some(0) if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) => None,
                Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
            };
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.map(Uri::from).ok_or_else(|| internal("no path"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Judges an answer that is not a 401, before anything of it is handed on.
    fn judged(&self, attempted: Attempted<T::Reply>) -> Result<Accepted, Failure> {
        let Attempted { response, mut connection, reply, ticket: _ } = attempted;
        let status = response.status();
        // `?` drops the connection on a wrong AP-REP: whoever answered, nothing more is said to them.
        let verdict = reply.judge(&www_authenticate(response.headers()))?;
        self.backend.note_persistence(response.headers());
        let unasked = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        if unasked || status.as_u16() >= 600 {
            return Err(Failure::new(Cause::UpstreamMalformed, format!("status {status}, which nothing asked for")));
        }
        if status.is_success() {
            let vouched = connection.is_proved() && self.backend.config.identity_bound;
            match &verdict {
                Verdict::Proved => {}
                Verdict::Absent if vouched || self.backend.config.mutual == Mutual::TolerateAbsence => {}
                Verdict::Absent => return Err(Failure::new(Cause::MutualMissing, format!("status {status}"))),
                other => return Err(Failure::new(Cause::NegotiationInvalid, format!("status {status} with {other:?}"))),
            }
        }
        connection.accepted(verdict == Verdict::Proved);
        Ok(Accepted { response, connection })
    }

    /// The connection of an answer that nobody gets, if it can be used again: the request went out whole, the answer came in whole.
    async fn reusable(&self, response: Response<Incoming>, mut connection: Owned) -> Option<Owned> {
        let mut body = response.into_body();
        let drained = tokio::time::timeout(REFUSAL_TIME, async {
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
                if read > REFUSAL_BYTES {
                    return None;
                }
            }
            Some(())
        });
        // Without its end the request still occupies the connection.
        drained.await.ok()??;
        connection.is_reusable(Duration::from_millis(100)).await.then_some(connection)
    }

    /// Whether sending it a second time does nothing that sending it once does not: safe methods without a body (RFC 9110 section 9.2.1).
    fn is_repeatable(&self, message: Message) -> bool {
        message == Message::Priming
            || (self.upload.is_empty() && matches!(self.head.method, Method::GET | Method::HEAD | Method::OPTIONS))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        if let Some(failure) = self.upload.take_failure() {
            return failure;
        }
        let cause = if error.is_parse() { Cause::UpstreamMalformed } else { Cause::UpstreamClosed };
        Failure::new(cause, error.to_string())
    }
}

/// Whether the connection was closed under the request, before any byte of an answer.
fn is_lost(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user() && !error.is_timeout()
}

fn www_authenticate(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(header::WWW_AUTHENTICATE).iter().cloned().collect()
}

/// A token that is refused for good.
fn refused(verdict: &Result<Verdict, Failure>) -> Failure {
    Failure::new(verdict.as_ref().map_or(Cause::TokenRefused, Verdict::refusal), seen(verdict))
}

/// What a 401 said, for the administrator.
fn seen(verdict: &Result<Verdict, Failure>) -> String {
    match verdict {
        Ok(Verdict::Proved) => "the token was accepted, yet the answer is 401: the account has no right to this".into(),
        Ok(Verdict::Absent) => "401 without a reason".into(),
        Ok(Verdict::KrbError { code, .. }) => format!("401 with KRB-ERROR {code} {}", krb_error::name(*code)),
        Ok(Verdict::Rejected) => "401 with a SPNEGO reject".into(),
        Ok(Verdict::NtlmOnly) => "401 that offers NTLM alone".into(),
        Err(failure) => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: Verdict = Verdict::KrbError { code: 41, reacquire: true };
    const SKEW: Verdict = Verdict::KrbError { code: 37, reacquire: false };

    #[test]
    fn a_first_401_gets_a_fresh_token_from_the_same_ticket() {
        for verdict in [None, Some(&Verdict::Absent), Some(&Verdict::Rejected), Some(&SKEW), Some(&Verdict::Proved)] {
            assert_eq!(after_401(Tried::Once, verdict), Next::FreshToken, "{verdict:?}");
        }
    }

    #[test]
    fn a_first_401_whose_error_a_new_ticket_may_cure_gets_a_new_ticket_at_once() {
        assert_eq!(after_401(Tried::Once, Some(&MODIFIED)), Next::FreshTicket);
    }

    #[test]
    fn a_second_401_gets_a_new_ticket_unless_the_server_has_proved_that_the_old_one_works() {
        for verdict in [None, Some(&Verdict::Absent), Some(&Verdict::Rejected), Some(&SKEW), Some(&MODIFIED)] {
            assert_eq!(after_401(Tried::FreshToken, verdict), Next::FreshTicket, "{verdict:?}");
        }
        assert_eq!(after_401(Tried::FreshToken, Some(&Verdict::Proved)), Next::GiveUp);
    }

    #[test]
    fn a_401_after_a_new_ticket_is_the_last() {
        for verdict in [None, Some(&Verdict::Absent), Some(&MODIFIED), Some(&Verdict::Proved)] {
            assert_eq!(after_401(Tried::FreshTicket, verdict), Next::GiveUp, "{verdict:?}");
        }
    }

    #[test]
    fn a_refusal_for_good_is_told_apart_by_what_the_server_said_last() {
        let cause = |verdict| refused(&Ok(verdict)).cause;
        for code in [35, 41, 44, 45] {
            assert_eq!(cause(Verdict::KrbError { code, reacquire: true }), Cause::TokenKeyWrong, "{code}");
        }
        assert_eq!(cause(SKEW), Cause::BackEndClockSkew);
        assert_eq!(cause(Verdict::NtlmOnly), Cause::NtlmOnly);
        for verdict in [Verdict::Absent, Verdict::Rejected, Verdict::Proved, Verdict::KrbError { code: 34, reacquire: false }] {
            assert_eq!(cause(verdict), Cause::TokenRefused);
        }
    }

    #[test]
    fn a_server_that_offers_ntlm_alone_gets_nothing_more() {
        for tried in [Tried::Once, Tried::FreshToken, Tried::FreshTicket] {
            assert_eq!(after_401(tried, Some(&Verdict::NtlmOnly)), Next::GiveUp);
        }
    }
}
