//! The request's body on its way up: streamed, and its beginning kept so that it can be sent again after a first 401.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::failure::{Cause, Failure};

const REPLAY_CHUNK: usize = 64 * 1024;

/// The body of one request, shared by the attempts to send it. Only the newest attempt may read on.
#[derive(Clone, Debug)]
pub(super) struct Upload(Arc<Mutex<Source>>);

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    length: Option<u64>,
    kept: Vec<u8>,
    keep: usize,
    keeping: Keeping,
    received: u64,
    max: u64,
    ended: bool,
    failure: Option<Failure>,
    attempt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Yes,
    Overflowed,
    Released,
}

impl Upload {
    /// A body of at most `max` bytes of which `keep` can be replayed.
    pub(super) fn new(incoming: Incoming, keep: usize, max: u64) -> Result<Self, Failure> {
        let length = incoming.size_hint().exact();
        if length.is_some_and(|length| length > max) {
            return Err(too_large(max));
        }
        let ended = incoming.is_end_stream();
        Ok(Self(Arc::new(Mutex::new(Source {
            incoming,
            length,
            kept: Vec::new(),
            keep,
            keeping: Keeping::Yes,
            received: 0,
            max,
            ended,
            failure: None,
            attempt: 0,
        }))))
    }

    /// Its length, unless chunked.
    pub(super) fn length(&self) -> Option<u64> {
        self.lock().length
    }

    /// Whether there is no body.
    pub(super) fn is_empty(&self) -> bool {
        self.length() == Some(0)
    }

    /// Whether the whole body is sure to fit into the replay buffer.
    pub(super) fn is_replayable(&self) -> bool {
        let source = self.lock();
        source.length.is_some_and(|length| length <= source.keep as u64)
    }

    /// The body from its first byte on, for one more attempt. The attempt before it can read no further.
    pub(super) fn attempt(&self) -> Result<AttemptBody, Failure> {
        let mut source = self.lock();
        if source.keeping != Keeping::Yes {
            return Err(Failure::new(Cause::ReplayBufferFull, format!("over {} bytes were sent already", source.keep)));
        }
        source.attempt += 1;
        Ok(AttemptBody {
            upload: Some(self.clone()),
            attempt: source.attempt,
            position: 0,
            length: source.length,
            ended: source.length == Some(0),
        })
    }

    /// The body will not be sent again: gives the kept bytes back.
    pub(super) fn release(&self) {
        let mut source = self.lock();
        source.kept = Vec::new();
        if source.keeping == Keeping::Yes {
            source.keeping = Keeping::Released;
        }
    }

    /// Whether everything was read from the device.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().ended
    }

    /// Bytes received from the device.
    pub(super) fn received(&self) -> u64 {
        self.lock().received
    }

    /// Why reading it failed, if it did.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.lock().failure.take()
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_large(max: u64) -> Failure {
    Failure::new(Cause::BodyTooLarge, format!("over max_body_bytes = {max}"))
}

/// A body that ends before its end: the device is gone, unless the bytes themselves were wrong.
fn broken_off(error: &hyper::Error) -> Failure {
    let kind = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    let malformed = matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
    let cause = if malformed { Cause::MalformedRequest } else { Cause::ClientGone };
    Failure::new(cause, format!("the body broke off: {error}"))
}

impl Source {
    /// The next new bytes from the device; they are kept while they fit.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let data = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.failure.get_or_insert_with(|| broken_off(&error));
                    return Poll::Ready(Some(Err(Aborted)));
                }
                // Trailers are not forwarded: their names were not announced to us in a way that can be checked.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            self.received += data.len() as u64;
            self.ended = self.incoming.is_end_stream();
            if self.received > self.max {
                self.failure.get_or_insert(too_large(self.max));
                return Poll::Ready(Some(Err(Aborted)));
            }
            if self.keeping == Keeping::Yes {
                if self.kept.len() + data.len() <= self.keep {
                    self.kept.extend_from_slice(&data);
                } else {
                    self.kept = Vec::new();
                    self.keeping = Keeping::Overflowed;
                }
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(super) struct AttemptBody {
    upload: Option<Upload>,
    attempt: u64,
    position: usize,
    length: Option<u64>,
    ended: bool,
}

impl AttemptBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { upload: None, attempt: 0, position: 0, length: Some(0), ended: true }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let Some(upload) = &self.upload else { return Poll::Ready(None) };
        let mut source = upload.lock();
        if source.attempt != self.attempt {
            return Poll::Ready(Some(Err(Aborted)));
        }
        let bytes = match source.kept.get(self.position..) {
            Some(rest) if !rest.is_empty() => Bytes::copy_from_slice(rest.get(..REPLAY_CHUNK).unwrap_or(rest)),
            _ => match ready!(source.poll_next(cx)) {
                Some(Ok(bytes)) => bytes,
                other => {
                    self.ended |= other.is_none();
                    return Poll::Ready(other);
                }
            },
        };
        self.position += bytes.len();
        self.ended = source.ended && self.position as u64 >= source.received;
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_bytes(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let sent = self.position as u64;
        self.length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(sent)))
    }
}

/// The attempt cannot go on; the reason is kept with the [`Upload`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body cannot be sent on")]
pub(super) struct Aborted;
