//! What the device gets: the back end's answer, or one of three constant texts.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;

use crate::failure::{Answer, Cause, Failure, Stage};
use crate::proxy::exchange::Accepted;
use crate::proxy::hygiene::clean_response;
use crate::proxy::record::Record;
use crate::proxy::upload::Upload;
use crate::proxy::upstream::Owned;

type BoxError = Box<dyn Error + Send + Sync>;

/// The header that carries the correlation id, on every response.
pub const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-kcd-correlation-id");

/// The body of an answer; the request's record ends with it.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// Our own words.
    Text(Option<Bytes>, #[expect(dead_code, reason = "held: dropping it writes the audit event")] Box<Record>),
    /// The back end's.
    Relay(Box<Relay>),
}

/// A back end's body on its way to the device, and the connection it comes from.
#[derive(Debug)]
pub(super) struct Relay {
    incoming: Incoming,
    connection: Option<Owned>,
    upload: Upload,
    record: Record,
}

/// Hands on the back end's answer.
pub(super) fn relay(accepted: Accepted, upload: Upload, mut record: Record) -> Response<AnswerBody> {
    let (mut head, incoming) = accepted.response.into_parts();
    clean_response(&mut head.headers);
    record.event.status = Some(head.status.as_u16());
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.extensions.remove::<ReasonPhrase>() {
        response.extensions_mut().insert(reason);
    }
    stamp(&mut response, &record);
    let relay = Relay { incoming, connection: Some(accepted.connection), upload, record };
    response.map(|()| AnswerBody::Relay(Box::new(relay)))
}

/// Answers for a failure: a constant text for each status, so that nobody learns from it which accounts exist.
pub(super) fn refuse(failure: Failure, mut record: Record) -> Response<AnswerBody> {
    let (status, text) = match failure.cause.answer() {
        Answer::Malformed => (StatusCode::BAD_REQUEST, "The request is malformed.\n"),
        Answer::Refused | Answer::Closed => (StatusCode::FORBIDDEN, "The request is not permitted.\n"),
        Answer::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "The service is temporarily unavailable.\n"),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, retry_after(&failure));
    }
    // A certificate that is no longer let in may have been renewed: the next connection shows it.
    let over = failure.cause.stage() == Stage::Tls || failure.cause == Cause::ShuttingDown;
    if over || matches!(failure.cause.answer(), Answer::Malformed | Answer::Closed) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    stamp(&mut response, &record);
    // Whoever is gone is told nothing, whatever is written.
    record.event.status = Some(status.as_u16()).filter(|_| failure.cause != Cause::ClientGone);
    record.fail(failure);
    response.map(|()| AnswerBody::Text(Some(Bytes::from_static(text.as_bytes())), Box::new(record)))
}

fn stamp(response: &mut Response<()>, record: &Record) {
    if let Ok(id) = HeaderValue::from_str(record.correlation_id()) {
        response.headers_mut().insert(CORRELATION_HEADER, id);
    }
}

/// Nobody is sent away for longer, whatever the line looks like now: in seconds.
const MAX_RETRY_AFTER: u32 = 900;

/// Seconds until a retry makes sense: what is known, else soon for a restart, later for what an administrator has to repair.
fn retry_after(failure: &Failure) -> HeaderValue {
    if let Some(wait) = failure.retry_after {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(MAX_RETRY_AFTER);
        return HeaderValue::from(seconds.saturating_add(1).min(MAX_RETRY_AFTER));
    }
    HeaderValue::from_static(match failure.cause {
        Cause::ShuttingDown => "5",
        Cause::TokenRefused
        | Cause::NtlmOnly
        | Cause::MutualMissing
        | Cause::MutualFailed
        | Cause::NegotiationInvalid
        | Cause::IsolationFailed
        | Cause::TokenKeyWrong
        | Cause::BackEndClockSkew
        | Cause::OwnEtypeNotSupported
        | Cause::OwnPasswordExpired
        | Cause::OwnSpnMissing
        | Cause::OwnTgtNotForwardable
        | Cause::ProtocolTransitionOff
        | Cause::SpnNotListed
        | Cause::ResourceListLacksUs
        | Cause::DelegationAcrossRealms
        | Cause::SpnUnknown
        | Cause::SpnDuplicate
        | Cause::SpnOwnerRevoked
        | Cause::WeakEtypeRefused => "300",
        _ => "30",
    })
}

impl Relay {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers end here, as `Trailer` does.
                    let Ok(data) = frame.into_data() else { continue };
                    self.record.event.bytes_down += data.len() as u64;
                    if self.incoming.is_end_stream() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    // The error makes the server end the device's connection: a cut answer never looks complete.
                    // A device that broke off its upload ended the exchange, whatever the back end makes of it.
                    let cut = || Failure::new(Cause::UpstreamClosed, format!("in the middle of its answer: {error}"));
                    let failure = self.upload.take_failure().unwrap_or_else(cut);
                    self.record.fail(failure);
                    self.connection = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The answer is complete: the connection is free again, provided that the request was sent to its end too.
    fn finish(&mut self) {
        self.record.served();
        if let Some(connection) = self.connection.take().filter(|_| self.upload.is_complete()) {
            connection.give_back();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The server drops an empty body without reading it.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Text(text, _) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text, _) => text.is_none(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text, _) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
