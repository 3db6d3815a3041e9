//! Accepting connections: how many, how long a handshake may take, and what to do when descriptors run out.
//!
//! Handshakes have no limit of their own: whoever merely connects would use it up. Their work is done on the runtime's threads,
//! and only when bytes have come; what waits for bytes counts as a connection and has `handshake_timeout`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::{Certificate, Event, Slot, timestamp};
use crate::certificate::CertificateFacts;
use crate::failure::{Cause, Failure};
use crate::kerberos::TokenSource;
use crate::proxy::record::{correlation_id, one_line};
use crate::proxy::{Caller, Proxy, serve_connection};
use crate::shutdown::Shutdown;

const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Connections over the limit whose events wait for a place in the audit log; then nobody is accepted until one is written.
pub(super) const MAX_REFUSALS: usize = 64;

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time, handshakes included.
    pub max_connections: usize,
    /// For one handshake.
    pub handshake_timeout: Duration,
    /// Until a connection ends on which the device takes no byte of what it is sent.
    pub stall_timeout: Duration,
}

/// Makes a caller out of a TCP connection: TLS, admission of the certificate, mapping to an account.
pub trait Acceptor: Send + Sync + 'static {
    /// The stream HTTP is spoken on.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Runs the handshake.
    fn accept(&self, tcp: TcpStream, peer: SocketAddr) -> impl Future<Output = Result<(Self::Io, Caller), Refusal>> + Send;
}

/// Why a connection was not let in, and by which certificate it tried.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The cause.
    pub failure: Failure,
    /// The certificate, if one was seen.
    pub certificate: Option<Box<CertificateFacts>>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, certificate: None }
    }
}

/// Accepts until told to drain. The connections go on in their own tasks; the trigger of `shutdown` knows when they are done.
pub async fn serve<A: Acceptor, T: TokenSource>(
    listener: TcpListener,
    acceptor: Arc<A>,
    proxy: Arc<Proxy<T>>,
    limits: ServerLimits,
    shutdown: Shutdown,
) {
    let connections = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut back_off = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.draining() => return,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                back_off = pause_after(&error, back_off);
                tokio::select! {
                    () = tokio::time::sleep(back_off) => continue,
                    () = shutdown.draining() => return,
                }
            }
        };
        back_off = Duration::ZERO;
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            drop(tcp);
            let turn = tokio::select! {
                turn = Arc::clone(&refusals).acquire_owned() => turn.ok(),
                () = shutdown.draining() => None,
            };
            let failure = Failure::new(Cause::TooManyConnections, limits.max_connections.to_string());
            let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
            tokio::spawn(async move {
                refused(&proxy, peer, failure.into()).await;
                drop((turn, shutdown));
            });
            continue;
        };
        let (acceptor, proxy, shutdown) = (Arc::clone(&acceptor), Arc::clone(&proxy), shutdown.clone());
        tokio::spawn(async move {
            let _permit: OwnedSemaphorePermit = permit;
            match admitted(&*acceptor, tcp, peer, limits, &shutdown).await {
                Ok((io, caller)) => serve_connection(proxy, io, caller, peer, shutdown).await,
                Err(refusal) => refused(&proxy, peer, refusal).await,
            }
        });
    }
}

async fn admitted<A: Acceptor>(
    acceptor: &A,
    tcp: TcpStream,
    peer: SocketAddr,
    limits: ServerLimits,
    shutdown: &Shutdown,
) -> Result<(A::Io, Caller), Refusal> {
    configure(&tcp, limits.stall_timeout).map_err(|error| Failure::new(Cause::HandshakeFailed, error.to_string()))?;
    let limit = limits.handshake_timeout;
    tokio::select! {
        accepted = tokio::time::timeout(limit, acceptor.accept(tcp, peer)) => {
            accepted.unwrap_or_else(|_| Err(Failure::new(Cause::HandshakeTimeout, format!("{limit:?}")).into()))
        }
        () = shutdown.draining() => Err(Failure::new(Cause::HandshakeFailed, "the bridge is stopping").into()),
    }
}

fn configure(tcp: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    // Without it a device that acknowledges and reads nothing holds its request, and a connection to the back end, for ever.
    let milliseconds = u32::try_from(stall_timeout.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(tcp, milliseconds)?;
    rustix::net::sockopt::set_socket_keepalive(tcp, true)?;
    rustix::net::sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
    rustix::net::sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL)?;
    Ok(())
}

/// How long not to accept after an error. Errors of one connection cost nothing; when descriptors or memory run out, connections
/// in progress need the time to end.
fn pause_after(error: &io::Error, before: Duration) -> Duration {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        return Duration::ZERO;
    }
    let pause = (before * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
    tracing::error!(%error, ?pause, "cannot accept connections; check the process's descriptor limit against listener.max_connections");
    pause
}

/// Audits and logs a connection that was not let in.
async fn refused<T: TokenSource>(proxy: &Proxy<T>, peer: SocketAddr, refusal: Refusal) {
    let Refusal { failure, certificate } = refusal;
    if let (Cause::CertificateRevoked, Some(revoked)) = (failure.cause, &certificate) {
        proxy.close_upstream(revoked.fingerprint);
    }
    let slot = proxy.audit.reserve().await;
    let certificate = certificate.as_deref().map(Certificate::of);
    let mut event = Event::handshake_refused(correlation_id(), peer.to_string(), &failure, certificate);
    event.time = timestamp(std::time::SystemTime::now());
    let (id, reason, remedy) = (&event.correlation_id, failure.cause.code(), failure.remedy());
    tracing::warn!(correlation_id = id, stage = "tls", reason, %peer, remedy, "{}", one_line(&failure));
    Slot::emit_or_log(slot, event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_pauses_when_descriptors_run_out_and_not_for_one_bad_connection() {
        let emfile = io::Error::from_raw_os_error(24);
        let first = pause_after(&emfile, Duration::ZERO);
        assert_eq!(first, Duration::from_millis(50));
        assert_eq!(pause_after(&emfile, first), Duration::from_millis(100));
        assert_eq!(pause_after(&emfile, Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(pause_after(&io::ErrorKind::ConnectionAborted.into(), first), Duration::ZERO);
    }
}
