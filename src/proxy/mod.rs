//! One request as a list of steps: `steps` is the way of a request, top to bottom.
//!
//! ```text
//! guard      the bytes are one well-formed request               framing.rs guard.rs
//! judge      the certificate still counts, and for whom          caller.rs
//! route      which back end                                      route.rs
//! gate       the back end is known to keep users apart           isolation.rs self_test.rs
//! grant      this principal may use this back end                policy
//! exchange   token, connection, request, verdict                 exchange.rs upstream/ upload.rs hygiene.rs
//! answer     the back end's answer, or one of three texts        answer.rs
//! record     one audit event, always                             record.rs
//! ```

#![forbid(unsafe_code)]

mod answer;
mod caller;
mod config;
mod exchange;
mod framing;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guard;
mod hygiene;
mod isolation;
mod probe;
mod record;
mod route;
mod self_test;
mod serve;
mod server;
#[cfg(test)]
mod tests;
mod upload;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::audit::AuditLog;
use crate::certificate::Fingerprint;
use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::TokenSource;
use crate::policy::Grant;
use crate::shutdown::Shutdown;
use answer::AnswerBody;
use caller::Account;
use exchange::{Accepted, Exchange};
use guard::{HeadLimits as Limits, Shared};
use record::Record;
use route::Routes;
use upload::Upload;
use upstream::Backend;

pub use answer::CORRELATION_HEADER;
pub use caller::{Caller, Judgement, Standing};
pub use config::{Authority, BackendConfig, Mutual, Profile, RouteConfig, SelfTestConfig, Transport};
pub use guard::HeadLimits;
pub use isolation::Isolation;
pub use probe::{ProbeReport, probe};
pub use route::host_leading_to;
pub use self_test::prove_isolation;
pub use serve::serve_connection;
pub use server::{Acceptor, Refusal, ServerLimits, serve};
pub use upstream::ConnectorError;

/// Everything the requests of all connections share.
#[derive(Debug)]
pub struct Proxy<T> {
    tokens: T,
    backends: Vec<Backend>,
    routes: Routes,
    audit: AuditLog,
    limits: Limits,
    token_timeout: Duration,
}

/// One device's connection, as its requests see it.
#[derive(Debug)]
struct Connection<T> {
    proxy: Arc<Proxy<T>>,
    caller: Caller,
    account: Arc<Account>,
    peer: SocketAddr,
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

impl<T: TokenSource> Proxy<T> {
    /// A proxy over these back ends. Reads their trust anchors; must be called inside the runtime. `token_timeout` bounds the wait
    /// for one token, acquisition of both tickets included.
    pub fn new(
        tokens: T,
        backends: Vec<BackendConfig>,
        routes: Vec<RouteConfig>,
        audit: AuditLog,
        limits: HeadLimits,
        token_timeout: Duration,
    ) -> Result<Self, ConnectorError> {
        let backends = backends.into_iter().map(Backend::new).collect::<Result<_, _>>()?;
        Ok(Self { tokens, backends, routes: Routes::new(routes), audit, limits, token_timeout })
    }

    /// Where the tokens come from.
    pub fn tokens(&self) -> &T {
        &self.tokens
    }

    /// The account a connection speaks for now. Where that ends, its tickets and its upstream connections end with it.
    async fn judge(&self, caller: &Caller, account: &Account) -> Result<Arc<Principal>, Failure> {
        let judged = caller.standing.account().settled().await;
        if let Some(principal) = account.note(&judged) {
            let tickets = self.tokens.evict(&principal);
            self.close_upstream(caller.certificate.fingerprint);
            tracing::warn!(%principal, certificate = %caller.certificate.fingerprint, tickets, "no longer let in: tickets and upstream connections dropped");
        }
        judged
    }

    /// Closes the kept upstream connections that this certificate's requests made.
    pub fn close_upstream(&self, certificate: Fingerprint) {
        for backend in &self.backends {
            backend.close(certificate);
        }
    }
}

/// One request, from its head to its answer's head. The record goes with the answer's body, or is dropped with this future.
async fn handle<T: TokenSource>(connection: &Connection<T>, request: Request<Incoming>) -> Response<AnswerBody> {
    let Connection { proxy, caller, account, shared, shutdown, .. } = connection;
    let refusal = shared.take_refusal();
    let mut record = Record::begin(connection, Some(shared.flight())).await;
    let judged = proxy.judge(caller, account).await;
    record.note_account(&judged, caller.standing.unvouched());
    if let Some(failure) = refusal {
        return answer::refuse(failure, record);
    }
    if !record.is_audited() {
        return answer::refuse(Failure::new(Cause::ShuttingDown, "the audit log is closed"), record);
    }
    let (head, body) = request.into_parts();
    record.note_request(&head);
    if let (Ok(_), Some(device)) = (&judged, record.device()) {
        caller.standing.note_device(device);
    }
    let answered = tokio::select! {
        answered = steps(proxy, caller, judged, &head, body, &mut record) => answered,
        failure = account.ended() => Err(failure),
        () = shutdown.cancelled() => Err(Cause::ShuttingDown.into()),
    };
    match answered {
        Ok((accepted, upload)) => answer::relay(accepted, upload, record),
        Err(failure) => answer::refuse(failure, record),
    }
}

/// The way of a request.
async fn steps<T: TokenSource>(
    proxy: &Proxy<T>,
    caller: &Caller,
    judged: Result<Arc<Principal>, Failure>,
    head: &Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<(Accepted, Upload), Failure> {
    let index = proxy.routes.find(head)?;
    let backend = proxy.backends.get(index).ok_or(Cause::NoRoute)?;
    record.note_backend(&backend.config);
    let principal = judged?;
    backend.gate.admits(&principal)?;
    let grant = Grant::authorize(principal, caller.certificate.fingerprint, Arc::clone(&backend.config.target));
    let upload = Upload::new(body, backend.config.replay_buffer_bytes, backend.config.max_body_bytes)?;
    record.note_upload(&upload);
    let exchange = Exchange {
        tokens: &proxy.tokens,
        token_timeout: proxy.token_timeout,
        backend,
        grant: &grant,
        head,
        upload: &upload,
        record,
    };
    let accepted = exchange.run().await?;
    // Once more: what the back end said while it was found out is handed to nobody.
    backend.gate.admits(grant.principal())?;
    Ok((accepted, upload))
}
