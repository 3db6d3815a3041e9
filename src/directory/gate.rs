//! Between TLS and the LDAP library: nothing of the peer's reaches the library that is not exactly a part of an answer to a
//! search, and not more of it than the question allows.
//!
//! The library buffers whatever length a peer announces, and its BER parser recurses as deep as a peer nests, which would end
//! the process. So it never has the network: it speaks through a pair of sockets inside this process, and each message is
//! measured and checked here first. Therefore too TLS is begun, and the password sent, before the library exists.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::der::tag;
use crate::directory::ber::{self, Header, Malformed};

/// Read at a time.
const CHUNK: usize = 16 * 1024;

/// What may pass, and why nothing does any more.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Bytes that may still come; none when nothing was asked.
    allowance: AtomicUsize,
    /// Number of the question under way: the library counts them from 1.
    question: AtomicU32,
    shut: Mutex<Option<String>>,
    malformed: Mutex<Option<Malformed>>,
}

impl Gate {
    /// A question is about to be asked; its answer may have this many bytes.
    pub(super) fn expect(&self, bytes: usize) {
        self.question.fetch_add(1, Ordering::Relaxed);
        self.allowance.store(bytes, Ordering::Relaxed);
    }

    /// What the peer sent that it must not.
    pub(super) fn malformed(&self) -> Option<Malformed> {
        *self.malformed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection ended.
    pub(super) fn ended(&self) -> Option<String> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes messages both ways until one side ends or the peer misbehaves; then both sides are closed.
    pub(super) async fn run<P, L>(&self, peer: P, library: L)
    where
        P: AsyncRead + AsyncWrite + Send,
        L: AsyncRead + AsyncWrite + Send,
    {
        let (mut from_peer, mut to_peer) = tokio::io::split(peer);
        let (mut from_library, mut to_library) = tokio::io::split(library);
        let ended = tokio::select! {
            ended = self.inward(&mut from_peer, &mut to_library) => ended,
            ended = tokio::io::copy(&mut from_library, &mut to_peer) => ended.map(drop),
        };
        let why = ended.map_or_else(|error| error.to_string(), |()| "the server closed the connection".to_owned());
        *self.shut.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        // Said or not, it is over.
        let _ = to_peer.shutdown().await;
    }

    async fn inward(&self, peer: &mut (impl AsyncRead + Unpin), library: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(length) = self.measure(&buffer).map_err(|malformed| self.refuse(malformed))? {
                let message = buffer.get(..length).unwrap_or_default();
                let part = ber::check_answer(message).map_err(|malformed| self.refuse(malformed))?;
                if part.number != self.question.load(Ordering::Relaxed) {
                    return Err(self.refuse(Malformed::Unasked));
                }
                let left = self.allowance.load(Ordering::Relaxed).saturating_sub(length);
                self.allowance.store(if part.last { 0 } else { left }, Ordering::Relaxed);
                library.write_all(message).await?;
                buffer.advance(length);
            }
            buffer.reserve(CHUNK);
            if peer.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Length of the message that starts the buffer, once it is whole; refused as soon as it is known to be too long.
    fn measure(&self, buffer: &[u8]) -> Result<Option<usize>, Malformed> {
        let allowance = self.allowance.load(Ordering::Relaxed);
        if allowance == 0 && !buffer.is_empty() {
            return Err(Malformed::Unasked);
        }
        match Header::read(buffer)? {
            Some(header) if header.tag != tag::SEQUENCE => Err(Malformed::Ber),
            Some(header) if header.total() > allowance => Err(Malformed::TooLarge),
            Some(header) if header.total() <= buffer.len() => Ok(Some(header.total())),
            _ => Ok(None),
        }
    }

    fn refuse(&self, malformed: Malformed) -> io::Error {
        *self.malformed.lock().unwrap_or_else(PoisonError::into_inner) = Some(malformed);
        io::Error::new(io::ErrorKind::InvalidData, malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::testkit::{done, element, entry, message_of};

    /// What reaches the library of what a peer sends after a question of this size, and why the gate shut.
    async fn passed(bytes: usize, sent: &[u8]) -> (Vec<u8>, Option<Malformed>) {
        let (gate, (peer, mut far), (library, mut near)) =
            (Gate::default(), tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        gate.expect(bytes);
        far.write_all(sent).await.unwrap();
        far.shutdown().await.unwrap();
        gate.run(peer, library).await;
        let mut out = Vec::new();
        near.read_to_end(&mut out).await.unwrap();
        assert!(gate.ended().is_some());
        (out, gate.malformed())
    }

    #[tokio::test]
    async fn an_answer_passes_whole_and_nothing_after_it() {
        let answer = [message_of(1, &entry("CN=a", &[])), message_of(1, &done(0))].concat();
        assert_eq!(passed(1000, &answer).await, (answer.clone(), None));
        let more = [answer.as_slice(), &message_of(1, &done(0))].concat();
        assert_eq!(passed(1000, &more).await, (answer, Some(Malformed::Unasked)));
    }

    #[tokio::test]
    async fn what_is_announced_too_large_is_refused_before_it_comes() {
        let first = message_of(1, &entry("CN=a", &[]));
        let sent = [first.as_slice(), &[0x30, 0x83, 0x01, 0x00, 0x00]].concat();
        assert_eq!(passed(1000, &sent).await, (first.clone(), Some(Malformed::TooLarge)));
        assert_eq!(passed(first.len() - 1, &first).await, (Vec::new(), Some(Malformed::TooLarge)));
    }

    #[tokio::test]
    async fn many_small_messages_count_together() {
        let one = message_of(1, &entry("CN=a", &[]));
        let (out, why) = passed(one.len() * 3 + 1, &one.repeat(10)).await;
        assert_eq!((out, why), (one.repeat(3), Some(Malformed::TooLarge)));
    }

    #[tokio::test]
    async fn half_a_message_and_another_questions_answer_do_not_pass() {
        let message = message_of(1, &done(0));
        assert_eq!(passed(1000, &message[..5]).await, (Vec::new(), None));
        assert_eq!(passed(1000, &message_of(2, &done(0))).await, (Vec::new(), Some(Malformed::Unasked)));
        assert_eq!(passed(0, &message).await, (Vec::new(), Some(Malformed::Unasked)));
        assert_eq!(passed(1000, &element(0x31, b"")).await, (Vec::new(), Some(Malformed::Ber)));
    }

    #[tokio::test]
    async fn what_the_library_says_passes_and_its_end_ends_the_connection() {
        let (gate, (peer, mut far), (library, mut near)) = (Gate::default(), tokio::io::duplex(64), tokio::io::duplex(64));
        near.write_all(b"request").await.unwrap();
        drop(near);
        gate.run(peer, library).await;
        let mut out = Vec::new();
        far.read_to_end(&mut out).await.unwrap();
        assert_eq!(out, b"request");
    }
}
