//! Between TLS and the LDAP library: nothing of the peer's reaches the library that is not exactly a part of an answer to a
//! search, and not more of it than the question allows.
//!
//! The library buffers whatever length a peer announces, and its BER parser recurses as deep as a peer nests, which would end
//! the process. So it never has the network: it speaks through a pair of sockets inside this process, and each message is
//! measured and checked here first. Therefore too TLS is begun, and the password sent, before the library exists.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::directory::ber::{self, Header, Malformed};

/// Read at a time.
const CHUNK: usize = 16 * 1024;

/// What may pass, and why nothing does any more.
#[derive(Debug, Default)]
pub(super) struct Gate {
    allowance: AtomicUsize,
    shut: Mutex<Option<String>>,
    malformed: Mutex<Option<Malformed>>,
}

impl Gate {
    /// For the next answer, this many bytes.
    pub(super) fn allow(&self, bytes: usize) {
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
                ber::check_answer(message).map_err(|malformed| self.refuse(malformed))?;
                self.allowance.fetch_sub(length, Ordering::Relaxed);
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
