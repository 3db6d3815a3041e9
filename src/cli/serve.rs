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
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::audit::AuditLog;
use crate::cli::{Exit, Output, check, kerberos_process, telemetry};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::identity::Mapper;
use crate::kerberos::delegator::Delegator;
use crate::kerberos::relay::{BoundRelay, RelayConfig};
use crate::proxy::{self, Caller, HeadLimits, Proxy, Refusal, ServerLimits, Standing};
use crate::shutdown::ShutdownTrigger;
use crate::tls::{self, ClientCertificate, HandshakeRefused, Trust};
use crate::x509::Claims;

/// Beyond the acquisition's own deadline: the time a token may take when the machine is busy.
const TOKEN_MARGIN: Duration = Duration::from_secs(1);

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
    let Config { listener, client_certificates, kerberos, mapping, backends, routes, audit, log: _ } = config;

    let trust = Trust::load(&client_certificates).map_err(|error| error.to_string())?;
    let acceptor = tls::Acceptor::new(&listener, trust).map_err(|error| error.to_string())?;
    let mapper = Mapper::load(&mapping).map_err(|error| error.to_string())?;
    let token_timeout = kerberos.acquire_timeout + TOKEN_MARGIN;
    let relay_config = RelayConfig::from(&kerberos);
    let tokens = Delegator::start(kerberos, relay.observer()).map_err(|failure| with_remedy(&failure))?;
    let (audit, audit_writer) = AuditLog::open(&audit, 2 * listener.max_connections)
        .map_err(|error| format!("the audit log cannot be opened: {error}"))?;
    let limits = HeadLimits {
        max_header_bytes: listener.max_header_bytes,
        header_timeout: listener.header_timeout,
        idle_timeout: listener.idle_timeout,
    };
    let proxy = Proxy::new(tokens, backends, routes, audit, limits, token_timeout).map_err(|error| error.to_string())?;
    let socket = bind(listener.address).await?;

    let shutdown = ShutdownTrigger::new();
    let (relay_ends, relay_end) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.serve(relay_config, async { drop(relay_end.await) }));
    let server_limits = ServerLimits { max_connections: listener.max_connections, handshake_timeout: listener.handshake_timeout };
    let devices = Arc::new(Devices { acceptor: Arc::new(acceptor), mapper });
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    info!(%address, "listening");
    let accepting = tokio::spawn(proxy::serve(socket, devices, Arc::new(proxy), server_limits, shutdown.listen()));

    told_to_stop().await.map_err(|error| format!("signals cannot be received: {error}"))?;
    info!(drain_timeout = ?listener.drain_timeout, "stopping: no new connections, requests in flight may end");
    if !shutdown.stop(listener.drain_timeout).await {
        warn!("the drain deadline passed with requests in flight; they were cancelled");
    }
    let _ = accepting.await;
    drop(relay_ends);
    if let Ok(Err(error)) = relay.await {
        error!(%error, "the KDC relay ended with an error");
    }
    let _ = tokio::task::spawn_blocking(move || audit_writer.finish()).await;
    info!("stopped");
    Ok(())
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

async fn told_to_stop() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
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
        let standing = Arc::new(Admitted { acceptor: Arc::clone(&self.acceptor), certificate });
        Ok((stream, Caller { certificate: facts, standing, mapping }))
    }
}

/// A certificate that was let in, judged again by today's trust.
struct Admitted {
    acceptor: Arc<tls::Acceptor>,
    certificate: ClientCertificate,
}

impl Standing for Admitted {
    fn still_admitted(&self) -> Result<(), Failure> {
        self.acceptor.trust().still_admits(&self.certificate, UnixTime::now())
    }
}

fn refusal(refused: HandshakeRefused) -> Refusal {
    Refusal { failure: refused.failure, certificate: refused.certificate }
}
