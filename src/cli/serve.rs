//! `kcd-bridge serve`: wires the rooms together, in the order that security asks for.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::audit::{AuditLog, AuditWriter};
use crate::cli::{Exit, Output, check, kerberos_process, telemetry};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::identity::{Mapper, Principal};
use crate::kerberos::delegator::Delegator;
use crate::kerberos::relay::{BoundRelay, RelayConfig};
use crate::proxy::{self, Caller, HeadLimits, Judgement, Proxy, Refusal, ServerLimits, Standing};
use crate::shutdown::ShutdownTrigger;
use crate::tls::{self, ClientCertificate, HandshakeRefused, Trust};
use crate::x509::Claims;

/// Beyond the acquisition's own deadline: the time a token may take when the machine is busy.
const TOKEN_MARGIN: Duration = Duration::from_secs(1);

/// Devices sleep and change networks, but whoever takes nothing for so long in the middle of an answer is gone.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// After the drain deadline.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Runs the bridge until it is told to stop.
pub(in crate::cli) fn run(path: &Path, output: &mut Output) -> Exit {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            output.error(format_args!("the configuration cannot be used:\n{problems}"));
            return Exit::CouldNotRun;
        }
    };
    match start(config) {
        Ok(()) => Exit::Good,
        Err(reason) => {
            output.error(reason);
            Exit::CouldNotRun
        }
    }
}

/// What must happen while the process has one thread, then the runtime.
fn start(config: Config) -> Result<(), String> {
    telemetry::start(&config.log)?;
    kerberos_process::forbid_core_dumps();
    let allow_rc4 = config.backends.iter().any(|backend| backend.target.allow_rc4);
    let (relay, _krb5_conf) = kerberos_process::prepare(&config.kerberos, allow_rc4)?;
    let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
    let served = runtime.block_on(serve(config, relay));
    // Workers may still wait inside the library; they hold nothing that must be given back.
    runtime.shutdown_background();
    served
}

async fn serve(config: Config, relay: BoundRelay) -> Result<(), String> {
    // Every weak setting was asked for by name, and is said at every start.
    for (key, message, remedy) in check::notable_settings(&config) {
        warn!(key, remedy, "{message}");
    }
    let Config { listener, client_certificates, kerberos, mapping, backends, routes, audit, log: _, .. } = config;

    let trust = Trust::load(&client_certificates).map_err(|error| error.to_string())?;
    let acceptor = tls::Acceptor::new(&listener, trust).map_err(|error| error.to_string())?;
    let mapper = Mapper::load(&mapping).map_err(|error| error.to_string())?;
    let token_timeout = kerberos.acquire_timeout + TOKEN_MARGIN;
    let relay_config = RelayConfig::from(&kerberos);
    let tokens = Delegator::start(kerberos, relay.observer()).map_err(|failure| with_remedy(&failure))?;
    let (audit, audit_writer) = AuditLog::open(&audit, 2 * listener.max_connections)
        .map_err(|error| format!("audit.file cannot be opened: {error} (it must be no pipe and no symbolic link)"))?;
    let limits = HeadLimits {
        max_header_bytes: listener.max_header_bytes,
        header_timeout: listener.header_timeout,
        idle_timeout: listener.idle_timeout,
    };
    let proxy = Proxy::new(tokens, backends, routes, audit, limits, token_timeout).map_err(|error| error.to_string())?;
    let socket = bind(listener.address).await?;

    let told = stop_signals().map_err(|error| format!("signals cannot be received: {error}"))?;

    let shutdown = ShutdownTrigger::new();
    let (relay_ends, relay_end) = oneshot::channel::<()>();
    let relay = tokio::spawn(relay.serve(relay_config, async { drop(relay_end.await) }));
    let server_limits = ServerLimits {
        max_connections: listener.max_connections,
        handshake_timeout: listener.handshake_timeout,
        stall_timeout: STALL_TIMEOUT,
    };
    let devices = Arc::new(Devices { acceptor: Arc::new(acceptor), mapper });
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    info!(%address, "listening");
    let accepting = tokio::spawn(proxy::serve(socket, devices, Arc::new(proxy), server_limits, shutdown.listen()));
    Running { accepting, relay, relay_ends, audit_writer, shutdown, drain_timeout: listener.drain_timeout, last_wait: LAST_WAIT }
        .until_told(told)
        .await
}

/// What runs until the process is told to stop.
struct Running {
    accepting: JoinHandle<()>,
    relay: JoinHandle<io::Result<()>>,
    relay_ends: oneshot::Sender<()>,
    audit_writer: AuditWriter,
    shutdown: ShutdownTrigger,
    drain_timeout: Duration,
    /// What each part gets to end, and the audit log to write out what it holds, after the drain.
    last_wait: Duration,
}

impl Running {
    /// Waits for the first word to stop, or for a part that ends without one; then stops everything. A second word ends at once.
    async fn until_told(mut self, mut told: mpsc::Receiver<()>) -> Result<(), String> {
        let lost = tokio::select! {
            _ = told.recv() => None,
            ended = &mut self.accepting => Some(format!("connections are no longer accepted: {ended:?}")),
            ended = &mut self.relay => Some(format!("the KDC relay ended: {ended:?}")),
        };
        if let Some(lost) = &lost {
            error!("{lost}; the bridge cannot go on");
        }
        info!(drain_timeout = ?self.drain_timeout, "stopping: no new connections, requests in flight may end");
        let stopped = tokio::select! {
            stopped = self.stop() => stopped,
            Some(()) = told.recv() => {
                warn!("told to stop a second time: ending at once; requests in flight are cut, audit events may be missing");
                Err("ended before the stop was complete".into())
            }
        };
        lost.map_or(stopped, Err)
    }

    /// The orderly stop. Nothing in it waits without a limit.
    async fn stop(self) -> Result<(), String> {
        if !self.shutdown.stop(self.drain_timeout).await {
            warn!("the drain deadline passed with requests in flight; they were cancelled");
        }
        let Self { accepting, relay, relay_ends, audit_writer, last_wait, .. } = self;
        if !accepting.is_finished() && timeout(last_wait, accepting).await.is_err() {
            error!("accepting connections did not end");
        }
        drop(relay_ends);
        if !relay.is_finished() {
            match timeout(last_wait, relay).await {
                Ok(Ok(Ok(()))) => {}
                ended => error!(?ended, "the KDC relay did not end well"),
            }
        }
        let written = tokio::task::spawn_blocking(move || audit_writer.finish());
        if timeout(last_wait, written).await.is_err() {
            error!("AUDIT EVENTS LOST: the audit log takes nothing more");
            return Err("audit events could not be written".into());
        }
        info!("stopped");
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process listens there",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => "; this host has no such address",
            _ => "",
        };
        format!("listener.address {address}: {error}{remedy}")
    })
}

/// One message for each SIGTERM or SIGINT from now on. SIGHUP, whose default is to end the process, is answered with a word.
fn stop_signals() -> io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell, told) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                signal = terminate.recv() => signal,
                signal = interrupt.recv() => signal,
                _ = hangup.recv() => {
                    warn!("SIGHUP: reloading is not available in this version, nothing was changed; restart to apply changes");
                    continue;
                }
            };
            if signal.is_none() || tell.send(()).await.is_err() {
                break;
            }
        }
    });
    Ok(told)
}

fn with_remedy(failure: &Failure) -> String {
    format!("{failure}; {}", failure.cause.remedy())
}

/// From a TCP connection to a caller: TLS, admission, claims, mapping. Once per connection.
struct Devices {
    acceptor: Arc<tls::Acceptor>,
    mapper: Mapper,
}

impl proxy::Acceptor for Devices {
    type Io = TlsStream<TcpStream>;

    async fn accept(&self, tcp: TcpStream, _peer: SocketAddr) -> Result<(Self::Io, Caller), Refusal> {
        let (stream, certificate) = self.acceptor.accept(tcp).await.map_err(refusal)?;
        let mapping = Claims::read(&certificate).and_then(|claims| self.mapper.resolve(&certificate, &claims)).map(Arc::new);
        let facts = certificate.facts().clone();
        let standing = Arc::new(Admitted { acceptor: Arc::clone(&self.acceptor), certificate, mapping });
        Ok((stream, Caller { certificate: facts, standing }))
    }
}

/// A certificate that was let in, judged again by today's trust.
struct Admitted {
    acceptor: Arc<tls::Acceptor>,
    certificate: ClientCertificate,
    mapping: Result<Arc<Principal>, Failure>,
}

impl Standing for Admitted {
    fn account(&self) -> Judgement<'_> {
        let admitted = self.acceptor.trust().still_admits(&self.certificate, UnixTime::now());
        Judgement::Known(admitted.and_then(|()| self.mapping.clone()))
    }

    fn recheck_interval(&self) -> Duration {
        Duration::from_mins(1)
    }
}

fn refusal(refused: HandshakeRefused) -> Refusal {
    Refusal { failure: refused.failure, certificate: refused.certificate }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::audit::Event;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A sink that takes nothing until its sender is dropped.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Parts that end when they are told to.
    fn running(drain_timeout: Duration) -> (Running, AuditLog) {
        let shutdown = ShutdownTrigger::new();
        let listening = shutdown.listen();
        let accepting = tokio::spawn(async move { listening.draining().await });
        let (relay_ends, relay_end) = oneshot::channel::<()>();
        let relay = tokio::spawn(async move {
            drop(relay_end.await);
            Ok(())
        });
        let (audit, audit_writer) = AuditLog::start(io::sink(), 1).unwrap();
        (Running { accepting, relay, relay_ends, audit_writer, shutdown, drain_timeout, last_wait: PATIENCE }, audit)
    }

    async fn soon<F: Future>(future: F) -> F::Output {
        timeout(PATIENCE, future).await.expect("in time")
    }

    #[tokio::test]
    async fn one_word_stops_everything_in_order() {
        let (running, audit) = running(PATIENCE);
        drop(audit);
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        assert_eq!(soon(running.until_told(told)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_second_word_ends_a_stop_that_waits_for_requests() {
        let (running, _audit) = running(10 * PATIENCE);
        let in_flight = running.shutdown.listen();
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        let stopping = tokio::spawn(running.until_told(told));
        soon(in_flight.draining()).await;
        assert!(!stopping.is_finished());
        tell.send(()).await.unwrap();
        assert!(soon(stopping).await.unwrap().is_err());
        drop(in_flight);
    }

    #[tokio::test]
    async fn a_stop_ends_although_the_audit_log_and_the_parts_are_stuck() {
        let (mut running, _) = running(PATIENCE);
        running.last_wait = Duration::from_millis(20);
        let (release, gate) = std::sync::mpsc::channel();
        let (audit, audit_writer) = AuditLog::start(Stuck(gate), 1).unwrap();
        running.audit_writer = audit_writer;
        audit.reserve().await.unwrap().emit(Event::default());
        running.accepting = tokio::spawn(std::future::pending());
        running.relay = tokio::spawn(std::future::pending());
        let (tell, told) = mpsc::channel(2);
        tell.send(()).await.unwrap();
        assert!(soon(running.until_told(told)).await.is_err());
        drop((release, audit));
    }

    #[tokio::test]
    async fn a_part_that_ends_untold_ends_the_bridge() {
        for relay_first in [true, false] {
            let (mut running, audit) = running(PATIENCE);
            drop(audit);
            if relay_first {
                running.relay = tokio::spawn(async { Err(io::ErrorKind::Other.into()) });
            } else {
                running.accepting = tokio::spawn(async {});
            }
            let (_tell, told) = mpsc::channel(2);
            let reason = soon(running.until_told(told)).await.unwrap_err();
            assert!(reason.contains(if relay_first { "relay" } else { "accepted" }), "{reason}");
        }
    }
}
