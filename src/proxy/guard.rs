//! The device's side of a connection, seen before the HTTP library: only well-formed heads get through, one at a time.
//!
//! A head that is refused is replaced by a well-formed stand-in with `Connection: close`; the service finds the refusal in
//! [`Shared`] and answers 400 in its turn, so that pipelined answers stay in order and every refusal is audited. While a request is
//! in flight the guard goes on reading, into a bounded buffer, only to notice that the device is gone.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::failure::{Cause, Failure};
use crate::proxy::framing::{Chunks, Framing, check_head, head_length};

const STAND_IN: &[u8] = b"GET /refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const READ_CHUNK: usize = 8192;

/// Limits on one request's head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Request line and headers, in bytes.
    pub max_header_bytes: usize,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
}

/// What the guard and the service of one connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_flight: bool,
    refusal: Option<Failure>,
    broken: Option<Failure>,
    ended: bool,
    reader: Option<Waker>,
}

/// Held while a request is in flight: the next head waits until this is dropped.
#[derive(Debug)]
pub(super) struct Flight(Arc<Shared>);

impl Shared {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the head behind the stand-in that was just read is refused.
    pub(super) fn take_refusal(&self) -> Option<Failure> {
        self.with(|state| state.refusal.take())
    }

    /// Why the connection ended inside a head.
    pub(super) fn take_broken(&self) -> Option<Failure> {
        self.with(|state| state.broken.take())
    }

    /// The request that was just let through.
    pub(super) fn flight(self: &Arc<Self>) -> Flight {
        Flight(Arc::clone(self))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let reader = self.0.with(|state| {
            state.in_flight = false;
            state.reader.take()
        });
        // The next head may be here already, or its time starts to run.
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// Where the guard is in the stream of requests.
#[derive(Debug)]
enum Position {
    /// Collecting a head; this many bytes hold no end of it.
    Head(usize),
    /// Handing on so many bytes of a checked head.
    Released(usize, Framing),
    Body(u64),
    Chunked(Chunks),
    /// Handing on the stand-in from this byte on.
    StandIn(usize),
    /// The device was too slow; nothing is read any more.
    Closed,
}

/// The guarded stream.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    buffer: BytesMut,
    position: Position,
    shared: Arc<Shared>,
    limits: HeadLimits,
    timer: Pin<Box<Sleep>>,
    timing: Timing,
}

/// What the timer is running for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    Nothing,
    Idle,
    Head,
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    pub(super) fn new(io: IO, limits: HeadLimits, shared: Arc<Shared>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + limits.idle_timeout));
        Self { io, buffer: BytesMut::new(), position: Position::Head(0), shared, limits, timer, timing: Timing::Nothing }
    }

    /// The stream below, when HTTP is over, if the device may still be sending what nobody will read.
    pub(super) fn into_unread(self) -> Option<IO> {
        let between_requests = matches!(self.position, Position::Head(_) | Position::Closed) && self.buffer.is_empty();
        (!between_requests && !self.shared.with(|state| state.ended)).then_some(self.io)
    }

    /// Whether bytes of a request have come that HTTP was not given.
    pub(super) fn holds_part_of_a_request(&self) -> bool {
        matches!(self.position, Position::Head(_)) && !self.buffer.is_empty()
    }

    fn refuse(&mut self, cause: Cause, detail: &str) {
        self.shared.with(|state| {
            state.in_flight = true;
            state.refusal = Some(Failure::new(cause, detail));
        });
        self.buffer = BytesMut::new();
        self.position = Position::StandIn(0);
    }

    /// Reads once into the buffer; `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut chunk = [0; READ_CHUNK];
        let mut read = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        let more = !read.filled().is_empty();
        self.shared.with(|state| state.ended |= !more);
        Poll::Ready(Ok(more))
    }

    /// One step towards a head. `Ready(Ok(false))`: the stream has ended.
    fn poll_head(&mut self, scanned: usize, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let in_flight = self.shared.with(|state| {
            state.reader = state.in_flight.then(|| cx.waker().clone());
            state.in_flight
        });
        if in_flight {
            self.timing = Timing::Nothing;
            if self.buffer.len() > self.limits.max_header_bytes {
                return Poll::Pending;
            }
            return self.poll_fill(cx);
        }
        // One empty line before a request line is tolerated (RFC 9112 section 2.2).
        if scanned == 0 && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        match head_length(&self.buffer, scanned) {
            Err(detail) => self.refuse(Cause::MalformedRequest, detail),
            Ok(Some(length)) if length <= self.limits.max_header_bytes => {
                match check_head(self.buffer.get(..length).unwrap_or_default()) {
                    Err(detail) => self.refuse(Cause::MalformedRequest, detail),
                    Ok(framing) => {
                        self.timing = Timing::Nothing;
                        self.shared.with(|state| state.in_flight = true);
                        self.position = Position::Released(length, framing);
                    }
                }
            }
            Ok(None) if self.buffer.len() <= self.limits.max_header_bytes => {
                self.position = Position::Head(self.buffer.len().saturating_sub(1));
                return self.poll_more_head(cx);
            }
            Ok(_) => self.refuse(Cause::HeadersTooLarge, "over listener.max_header_bytes"),
        }
        Poll::Ready(Ok(true))
    }

    fn poll_more_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self.poll_fill(cx) {
            Poll::Ready(Ok(false)) if !self.buffer.is_empty() => {
                self.broken(Cause::MalformedRequest, "the connection ended inside a request's head");
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Err(error)) if !self.buffer.is_empty() => {
                self.broken(Cause::MalformedRequest, &format!("the connection broke inside a request's head: {error}"));
                Poll::Ready(Err(error))
            }
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                let wanted = if self.buffer.is_empty() { Timing::Idle } else { Timing::Head };
                if self.timing != wanted {
                    self.timing = wanted;
                    let wait = if wanted == Timing::Idle { self.limits.idle_timeout } else { self.limits.header_timeout };
                    self.timer.as_mut().reset(Instant::now() + wait);
                }
                ready!(self.timer.as_mut().poll(cx));
                self.position = Position::Closed;
                if wanted == Timing::Head {
                    self.broken(Cause::RequestTimeout, "the head was not complete within listener.header_timeout");
                }
                Poll::Ready(Ok(false))
            }
        }
    }

    fn broken(&self, cause: Cause, detail: &str) {
        self.shared.with(|state| state.broken = Some(Failure::new(cause, detail)));
    }

    /// Hands on up to `limit` buffered bytes.
    fn hand_on(&mut self, limit: usize, out: &mut ReadBuf<'_>) -> usize {
        let count = limit.min(self.buffer.len()).min(out.remaining());
        out.put_slice(self.buffer.get(..count).unwrap_or_default());
        self.buffer.advance(count);
        if self.buffer.is_empty() {
            // Parked connections keep no buffer.
            self.buffer = BytesMut::new();
        }
        count
    }

    fn poll_body(&mut self, left: u64, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        let count = if self.buffer.is_empty() {
            let count = if limit >= out.remaining() {
                let before = out.filled().len();
                ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
                out.filled().len() - before
            } else {
                let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
                let count = part.filled().len();
                out.advance(count);
                count
            };
            self.shared.with(|state| state.ended |= count == 0);
            count
        } else {
            self.hand_on(limit, out)
        };
        let left = left - count as u64;
        self.position = if left == 0 { Position::Head(0) } else { Position::Body(left) };
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.position {
                Position::Head(scanned) => {
                    let scanned = *scanned;
                    if !ready!(this.poll_head(scanned, cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Position::Released(left, framing) => {
                    let (left, framing) = (*left, *framing);
                    let rest = left - this.hand_on(left, out);
                    this.position = match framing {
                        _ if rest > 0 => Position::Released(rest, framing),
                        Framing::Length(0) => Position::Head(0),
                        Framing::Length(length) => Position::Body(length),
                        Framing::Chunked => Position::Chunked(Chunks::default()),
                    };
                    return Poll::Ready(Ok(()));
                }
                Position::Body(left) => {
                    let left = *left;
                    return this.poll_body(left, cx, out);
                }
                Position::Chunked(chunks) => {
                    if this.buffer.is_empty() {
                        if !ready!(this.poll_fill(cx))? {
                            return Poll::Ready(Ok(()));
                        }
                        continue;
                    }
                    let window = this.buffer.len().min(out.remaining());
                    let belongs = chunks
                        .follow(this.buffer.get(..window).unwrap_or_default())
                        .map_err(|detail| io::Error::new(io::ErrorKind::InvalidData, detail))?;
                    if chunks.is_done() {
                        this.position = Position::Head(0);
                    }
                    this.hand_on(belongs, out);
                    return Poll::Ready(Ok(()));
                }
                Position::StandIn(at) => {
                    let rest = STAND_IN.get(*at..).unwrap_or_default();
                    if rest.is_empty() {
                        // The answer closes the connection; until it is written there is nothing to read.
                        return Poll::Pending;
                    }
                    let count = rest.len().min(out.remaining());
                    out.put_slice(rest.get(..count).unwrap_or_default());
                    *at += count;
                    return Poll::Ready(Ok(()));
                }
                Position::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
