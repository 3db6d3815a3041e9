//! Connections to back ends, each owned by one principal.
//!
//! A connection is made for one [`Grant`] and can be had again only by presenting an equal one: the same principal by the same
//! certificate to the same back end. The key travels inside [`Owned`] and nobody can change it.

mod binding;
mod connect;
mod places;
mod pool;

use std::future::Future;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use crate::certificate::Fingerprint;
use crate::failure::{Cause, Failure};
use crate::kerberos::ChannelBinding;
use crate::policy::Grant;
use crate::proxy::BackendConfig;
use crate::proxy::isolation::Gate;
use crate::proxy::upload::AttemptBody;
use connect::Connector;
use places::{Place, Places};
use pool::Pool;

pub use connect::ConnectorError;

/// One back end: its configuration, how it is reached and its kept connections.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) config: BackendConfig,
    connector: Connector,
    pool: Arc<Pool>,
    places: Arc<Places>,
    persistence: Once,
    pub(super) gate: Gate,
}

/// A connection that belongs to one grant. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Owned {
    grant: Grant,
    sender: SendRequest<AttemptBody>,
    pool: Arc<Pool>,
    #[expect(dead_code, reason = "held: dropping it closes the connection")]
    task: Closing,
    binding: Option<ChannelBinding>,
    /// The back end has proved itself on it.
    proved: bool,
    /// A token was accepted on it.
    warm: bool,
}

/// Ends the task that drives a connection, and with it the connection.
#[derive(Debug)]
struct Closing(AbortHandle);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How sending failed.
#[derive(Debug)]
pub(super) enum SendError {
    /// Nothing of the request was written: it may be sent elsewhere.
    Unsent,
    /// Something may have been written.
    Broken(hyper::Error),
}

impl Backend {
    /// A back end; reads its trust anchors. Must run inside the runtime, which sweeps the pool.
    pub(super) fn new(config: BackendConfig) -> Result<Self, ConnectorError> {
        let connector = Connector::new(&config)?;
        let places = Arc::new(Places::new(config.max_connections, config.max_connections_per_principal));
        let pool = Arc::new(Pool::new(config.max_idle_per_principal, config.idle_timeout, Arc::clone(&places)));
        Pool::spawn_sweeper(&pool);
        let gate = Gate::new(config.self_test.is_some());
        Ok(Self { config, connector, pool, places, persistence: Once::new(), gate })
    }

    /// Whether a token can only be made for a connection that is there already.
    pub(super) fn binds_tokens(&self) -> bool {
        self.connector.is_tls() && self.config.channel_binding
    }

    /// Notes, once, that the back end says it authenticates connections (`Persistent-Auth: true`, as IIS does) and nobody told us.
    pub(super) fn note_persistence(&self, headers: &HeaderMap) {
        let persistent = headers.get("persistent-auth").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        if persistent && !self.config.identity_bound {
            self.persistence.call_once(|| {
                let backend = &*self.config.target.name;
                tracing::debug!(
                    backend,
                    "it authenticates connections (Persistent-Auth: true); identity_bound = true if later answers carry no proof"
                );
            });
        }
    }

    /// A kept connection of this grant, if there is one that is still open.
    pub(super) async fn kept(&self, grant: &Grant) -> Option<Owned> {
        while let Some(mut connection) = self.pool.take(grant) {
            // The last answer may still be being wound up; a connection that is gone says so at once.
            let ready = tokio::time::timeout(Duration::from_millis(100), connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(connection);
            }
        }
        None
    }

    /// Closes the kept connections that requests with this certificate made.
    pub(super) fn close(&self, certificate: Fingerprint) {
        self.pool.close(certificate);
    }

    /// How many connections are kept.
    #[cfg(test)]
    pub(super) fn kept_connections(&self) -> usize {
        self.pool.len()
    }

    /// Closes every kept connection.
    pub(super) fn close_all(&self) {
        self.pool.close_all();
    }

    /// A new connection for this grant.
    pub(super) async fn connect(&self, grant: &Grant) -> Result<Owned, Failure> {
        let limit = self.config.connect_timeout;
        let connecting = async {
            let place = self.place(grant).await?;
            self.connector.open(grant, &self.pool, place).await
        };
        tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
            let detail = format!("{}:{}: no connection within {limit:?}", self.config.authority.host, self.config.authority.port);
            Err(Failure::new(Cause::UpstreamUnreachable, detail))
        })
    }

    /// One of the principal's places and one of all. A kept connection that nobody uses makes room: the principal's own for its own.
    async fn place(&self, grant: &Grant) -> Result<Place, Failure> {
        let (started, principal) = (Instant::now(), grant.principal());
        let until = started + self.config.connect_timeout / 2;
        let none_free = |key: &str, limit: usize, whose: &str| {
            let detail = format!("{key} = {limit} are in use{whose} (waited {:?})", started.elapsed());
            Failure::new(Cause::UpstreamUnreachable, detail)
        };
        let own = self.places.share(principal, until, || self.pool.drop_oldest(Some(principal))).await.ok_or_else(|| {
            none_free("max_connections_per_principal", self.config.max_connections_per_principal, &format!(" by {principal}"))
        })?;
        let place = self.places.place(own, until, || self.pool.drop_oldest(None)).await;
        place.ok_or_else(|| none_free("max_connections", self.config.max_connections, ""))
    }
}

impl Owned {
    /// Binding data of its TLS session.
    pub(super) fn binding(&self) -> Option<&ChannelBinding> {
        self.binding.as_ref()
    }

    /// Whether a token was accepted on it before.
    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    /// Whether the back end has proved itself on it before.
    pub(super) fn is_proved(&self) -> bool {
        self.proved
    }

    /// Notes that a token was accepted, and whether the back end proved itself.
    pub(super) fn accepted(&mut self, proved: bool) {
        self.warm = true;
        self.proved |= proved;
    }

    /// Sends a request; the future ends with the response's head.
    pub(super) fn send(
        &mut self,
        request: Request<AttemptBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> + Send + use<> {
        let sending = self.sender.try_send_request(request);
        async move {
            sending.await.map_err(|mut error| match error.take_message() {
                Some(_) => SendError::Unsent,
                None => SendError::Broken(error.into_error()),
            })
        }
    }

    /// Waits until it can take another request; `false` when it is closed.
    pub(super) async fn is_reusable(&mut self, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Keeps it for the next request of the same grant.
    pub(super) fn give_back(self) {
        let pool = Arc::clone(&self.pool);
        pool.put(self);
    }
}
