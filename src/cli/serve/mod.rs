//! `kcd-bridge serve`: wires the rooms together, in the order that security asks for.

mod account;
mod devices;
mod figures;
mod reload;
mod running;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::audit::AuditLog;
use crate::cli::admission::{self, Admission};
use crate::cli::{Exit, Output, check, kerberos_process, telemetry};
use crate::config::Config;
use crate::failure::Failure;
use crate::kerberos::delegator::Delegator;
use crate::kerberos::relay::{BoundRelay, RelayConfig};
use crate::proxy::{self, HeadLimits, Proxy, ServerLimits};
use crate::shutdown::ShutdownTrigger;
use crate::tls;
use account::TodaysDirectory;
use devices::{Devices, Door};
use reload::Reloader;
use running::{Running, Words};

/// Beyond the acquisition's own deadline: the time a token may take when the machine is busy.
const TOKEN_MARGIN: Duration = Duration::from_secs(1);

/// Beyond the handshake's own deadline: for the reason it ended to be told, to the device and to the audit log.
const HANDSHAKE_MARGIN: Duration = Duration::from_secs(2);

/// Devices sleep and change networks, but whoever takes nothing for so long in the middle of an answer is gone.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// After the drain deadline.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Runs the bridge until it is told to stop.
pub(in crate::cli) fn run(path: &Path, output: &mut Output) -> Exit {
    match admission::read(path).and_then(|config| start(path, config)) {
        Ok(()) => Exit::Good,
        Err(reason) => {
            output.error(reason);
            Exit::CouldNotRun
        }
    }
}

/// What must happen while the process has one thread, then the runtime.
fn start(path: &Path, config: Config) -> Result<(), String> {
    telemetry::start(&config.log)?;
    kerberos_process::forbid_core_dumps();
    let allow_rc4 = config.backends.iter().any(|backend| backend.target.allow_rc4);
    let (relay, _krb5_conf) = kerberos_process::prepare(&config.kerberos, allow_rc4)?;
    let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
    let served = runtime.block_on(serve(path, config, relay));
    // Workers may still wait inside the library; they hold nothing that must be given back.
    runtime.shutdown_background();
    served
}

async fn serve(path: &Path, config: Config, relay: BoundRelay) -> Result<(), String> {
    // Every weak setting was asked for by name, and is said at every start.
    for (key, message, remedy) in check::notable_settings(&config) {
        warn!(key, remedy, "{message}");
    }
    let Words { stop, reload } = running::words().map_err(|error| format!("signals cannot be received: {error}"))?;
    let admission = Arc::new(Admission::load(&config).await?);
    let whole = config.clone();
    let Config { listener, kerberos, backends, routes, audit, metrics, .. } = config;

    let acceptor = tls::Acceptor::new(&listener, Arc::clone(&admission.trust)).map_err(|error| error.to_string())?;
    let devices = Devices::new(acceptor, admission);
    let token_timeout = kerberos.acquire_timeout + TOKEN_MARGIN;
    let relay_config = RelayConfig::from(&kerberos);
    let (observer, directory) = (relay.observer(), TodaysDirectory(Arc::clone(&devices)));
    let tokens = Delegator::start(kerberos.clone(), observer.clone()).map_err(|failure| with_remedy(&failure))?;
    let tokens = tokens.explaining_by(Arc::new(directory.clone()));
    let (audit, audit_writer) = AuditLog::open(&audit, 2 * listener.max_connections)
        .map_err(|error| format!("audit.file cannot be opened: {error} (it must be no pipe and no symbolic link)"))?;
    let limits = HeadLimits {
        max_header_bytes: listener.max_header_bytes,
        header_timeout: listener.header_timeout,
        idle_timeout: listener.idle_timeout,
    };
    let targets: Vec<_> = backends.iter().map(|backend| Arc::clone(&backend.target)).collect();
    let canaries = tokens.start_canaries(&targets).map_err(|error| format!("no thread for the canary: {error}"))?;
    let proxy = Proxy::new(tokens, backends, routes, audit, limits, token_timeout).map_err(|error| error.to_string())?;
    let proxy = Arc::new(proxy);
    let socket = bind(listener.address).await?;

    let shutdown = ShutdownTrigger::new();
    let (relay_ends, relay_end) = oneshot::channel::<()>();
    let relay = tokio::spawn(relay.serve(relay_config, async { drop(relay_end.await) }));
    let server_limits = ServerLimits {
        max_connections: listener.max_connections,
        handshake_timeout: listener.handshake_timeout + HANDSHAKE_MARGIN,
        stall_timeout: STALL_TIMEOUT,
    };
    let (test_again, words) = watch::channel(());
    tokio::spawn(Reloader::new(path.to_owned(), Arc::clone(&devices), whole, test_again, shutdown.listen()).run(reload));
    tokio::spawn(account::judged(kerberos, observer.clone(), directory, shutdown.listen()));
    tokio::spawn(figures::keep(
        Arc::clone(&devices),
        figures::Engine { proxy: Arc::clone(&proxy), relay: observer, canaries },
        metrics,
        shutdown.listen(),
    ));
    tokio::spawn(proxy::prove_isolation(Arc::clone(&proxy), words, shutdown.listen()));
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    info!(%address, "listening");
    let door = Arc::new(Door(devices));
    let accepting = tokio::spawn(proxy::serve(socket, door, proxy, server_limits, shutdown.listen()));
    Running { accepting, relay, relay_ends, audit_writer, shutdown, drain_timeout: listener.drain_timeout, last_wait: LAST_WAIT }
        .until_told(stop)
        .await
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

fn with_remedy(failure: &Failure) -> String {
    format!("{failure}; {}", failure.remedy())
}
