//! One device's connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::audit::{Certificate, Event, Slot, timestamp};
use crate::failure::{Answer, Cause, Failure, Stage};
use crate::identity::Principal;
use crate::kerberos::TokenSource;
use crate::proxy::caller::{Account, Judgement};
use crate::proxy::guard::{Guard, Shared};
use crate::proxy::record::{Record, correlation_id, one_line};
use crate::proxy::{Caller, Connection, Proxy, handle};
use crate::shutdown::Shutdown;

/// After our last word: what the device still sends is read and dropped, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Serves the requests of one connection, one after the other, until either side ends it.
pub async fn serve_connection<T, IO>(proxy: Arc<Proxy<T>>, io: IO, caller: Caller, peer: SocketAddr, shutdown: Shutdown)
where
    T: TokenSource,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let guard = Guard::new(io, proxy.limits, Arc::clone(&shared));
    let account = Arc::new(Account::new());
    let connection = Arc::new(Connection { proxy, caller, account, peer, shared, shutdown });
    let service = service_fn(|request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(handle(&connection, request).await) }
    });
    // Head limits and timeouts are the guard's.
    let mut http = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(guard), service);
    let (mut draining, mut over) = (false, false);
    let judging = connection.judged_on_a_timer();
    tokio::pin!(judging);
    let result = loop {
        tokio::select! {
            result = &mut http => break Some(result),
            () = &mut judging, if !over => {
                over = true;
                draining = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            () = connection.last_words(), if over => break None,
            () = connection.shutdown.draining(), if !draining => {
                draining = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            () = connection.shutdown.over() => break None,
        }
    };
    let guard = http.into_parts().io.into_inner();
    let cut_off = || Failure::new(Cause::ShuttingDown, "before the request was complete");
    let unserved = connection.shared.take_broken().or_else(|| (draining && guard.holds_part_of_a_request()).then(cut_off));
    if let Some(failure) = unserved {
        let mut record = Record::begin(&connection, None).await;
        if let Judgement::Known(known) = connection.caller.standing.account() {
            record.note_account(&known, connection.caller.standing.unvouched());
        }
        record.fail(failure);
    }
    match result {
        Some(Ok(())) => {
            if let Some(io) = guard.into_unread() {
                linger(io).await;
            }
        }
        Some(Err(error)) => tracing::debug!(%peer, %error, "device connection ended"),
        None => {}
    }
}

impl<T: TokenSource> Connection<T> {
    /// Judges the certificate again and again for as long as it is let in, also while a request waits for its answer: then ends what
    /// is in flight.
    async fn judged_on_a_timer(&self) {
        loop {
            tokio::time::sleep(self.caller.standing.recheck_interval()).await;
            let last = self.account.last();
            match self.proxy.judge(&self.caller, &self.account).await {
                Err(failure) if failure.cause.answer() != Answer::Unavailable || failure.cause.stage() == Stage::Tls => {
                    self.note_end(&failure, last).await;
                    return self.account.end(failure);
                }
                _ => {}
            }
        }
    }

    /// The connection may be idle: its end has an event of its own.
    async fn note_end(&self, failure: &Failure, last: Option<Arc<Principal>>) {
        let certificate = Certificate::of(&self.caller.certificate);
        let slot = self.proxy.audit.reserve().await;
        let mut event = Event::connection_ended(correlation_id(), self.peer.to_string(), failure, certificate);
        event.principal = last.as_ref().map(ToString::to_string);
        event.time = timestamp(std::time::SystemTime::now());
        let (id, stage, reason) = (&event.correlation_id, failure.cause.stage().name(), failure.cause.code());
        tracing::warn!(correlation_id = id, stage, reason, peer = %self.peer, remedy = failure.remedy(), "connection ended: {}", one_line(failure));
        Slot::emit_or_log(slot, event);
    }

    /// Time for the answer to a request that was ended.
    async fn last_words(&self) {
        self.account.ended().await;
        tokio::time::sleep(LINGER).await;
    }
}

async fn linger(mut io: impl AsyncRead + Unpin) {
    let mut scrap = vec![0; 16 * 1024];
    let reading = async { while let Ok(1..) = io.read(&mut scrap).await {} };
    let _ = tokio::time::timeout(LINGER, reading).await;
}
