//! What becomes the audit event. It is written when the record is dropped: at the end of the answer, or wherever the request was
//! cut short. There is no way through a request without it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::request::Parts;

use crate::audit::{Certificate, Event, Outcome, Slot, StageTime, timestamp};
use crate::failure::{Answer, Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::TicketFacts;
use crate::proxy::caller::Account;
use crate::proxy::guard::Flight;
use crate::proxy::upload::Upload;
use crate::proxy::{BackendConfig, Connection};
use crate::shutdown::Shutdown;

/// One request, as far as it got.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) event: Event,
    started: Instant,
    slot: Option<Slot>,
    failure: Option<Failure>,
    upload: Option<Upload>,
    shutdown: Shutdown,
    account: Arc<Account>,
    // Last: the next request of this connection may start when everything about this one is over.
    _flight: Option<Flight>,
}

impl Record {
    /// Takes the event's place in the log, then starts the record.
    pub(super) async fn begin<T>(connection: &Connection<T>, flight: Option<Flight>) -> Self {
        let started = Instant::now();
        let slot = connection.proxy.audit.reserve().await;
        let event = Event {
            correlation_id: correlation_id(),
            peer: connection.peer.to_string(),
            certificate: Some(Certificate::of(&connection.caller.certificate)),
            ..Event::default()
        };
        let (shutdown, account) = (connection.shutdown.clone(), Arc::clone(&connection.account));
        Self { event, started, slot, failure: None, upload: None, shutdown, account, _flight: flight }
    }

    /// Notes whom the certificate stands for.
    pub(super) fn note_account(&mut self, judged: &Result<Arc<Principal>, Failure>, unvouched: Option<Failure>) {
        let Ok(principal) = judged else { return };
        self.event.unvouched = unvouched.map(|failure| format!("{}: {}", failure.cause.code(), failure.detail));
        self.event.mapper = Some(principal.rule().name());
        self.event.strength = Some(principal.strength().name());
        self.event.principal = Some(principal.to_string());
    }

    /// Notes what is asked for.
    pub(super) fn note_request(&mut self, head: &Parts) {
        self.event.method = Some(shortened(head.method.as_str()));
        self.event.path = Some(shortened(head.uri.path()));
        let eas = EasQuery::parse(head.uri.query().unwrap_or_default());
        self.event.eas_command = eas.command;
        self.event.eas_device_id = eas.device_id;
        self.event.eas_device_type = eas.device_type;
    }

    /// The device, as it names itself.
    pub(super) fn device(&self) -> Option<&str> {
        self.event.eas_device_id.as_deref()
    }

    /// Notes where it goes.
    pub(super) fn note_backend(&mut self, backend: &BackendConfig) {
        self.event.backend = Some(backend.target.name.to_string());
        self.event.spn = Some(backend.target.spn.to_string());
    }

    /// Notes the body, to count it at the end.
    pub(super) fn note_upload(&mut self, upload: &Upload) {
        self.upload = Some(upload.clone());
    }

    /// Notes the ticket behind a token.
    pub(super) fn note_ticket(&mut self, facts: &TicketFacts, took: std::time::Duration) {
        self.event.note_ticket(facts);
        self.note_stage("token", took);
    }

    /// Notes how long a step took.
    pub(super) fn note_stage(&mut self, name: &'static str, took: std::time::Duration) {
        self.event.stages.push(StageTime::new(name, took));
    }

    /// Notes why the request ends.
    pub(super) fn fail(&mut self, failure: Failure) {
        let outcome = match failure.cause.answer() {
            _ if failure.cause == Cause::ClientGone => Outcome::ClientGone,
            Answer::Unavailable => Outcome::Failed,
            Answer::Malformed | Answer::Refused | Answer::Closed => Outcome::Refused,
        };
        self.event.ended_by(&failure, outcome);
        self.failure = Some(failure);
    }

    /// Notes that the answer was handed on to its end.
    pub(super) fn served(&mut self) {
        if self.failure.is_none() {
            self.event.outcome = Outcome::Served;
        }
    }

    /// Whether the audit log will take its event. Without a place in its queue nothing is done for a request.
    pub(super) fn is_audited(&self) -> bool {
        self.slot.is_some()
    }

    pub(super) fn correlation_id(&self) -> &str {
        &self.event.correlation_id
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.failure.is_none() && self.event.outcome == Outcome::ClientGone {
            let otherwise = || if self.shutdown.is_cancelled() { Cause::ShuttingDown } else { Cause::ClientGone }.into();
            self.fail(self.account.why_ended().unwrap_or_else(otherwise));
        }
        let mut event = std::mem::take(&mut self.event);
        event.time = timestamp(SystemTime::now());
        event.duration_ms = crate::audit::milliseconds(self.started.elapsed());
        event.bytes_up = self.upload.as_ref().map_or(0, Upload::received);
        if let Some(failure) = self.failure.take() {
            log(&event, &failure);
        }
        Slot::emit_or_log(self.slot.take(), event);
    }
}

/// One line for each request that was not served.
fn log(event: &Event, failure: &Failure) {
    let (id, stage, reason, remedy) =
        (&event.correlation_id, failure.cause.stage().name(), failure.cause.code(), failure.remedy());
    let (peer, principal, backend) = (&event.peer, event.principal.as_deref(), event.backend.as_deref());
    let text = one_line(failure);
    if failure.cause == Cause::ClientGone {
        tracing::debug!(correlation_id = id, stage, reason, peer, principal, backend, "{text}");
    } else {
        tracing::warn!(correlation_id = id, stage, reason, peer, principal, backend, remedy, "{text}");
    }
}

/// A detail may quote what a peer or the directory said: one event stays one line.
pub(super) fn one_line(failure: &Failure) -> String {
    failure.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// 128 bits in hex: 48 bits of milliseconds, so that ids sort by time, and 80 random bits.
pub(super) fn correlation_id() -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() & 0xFFFF_FFFF_FFFF;
    let mut random = [0; 10];
    if getrandom::fill(&mut random).is_err() {
        tracing::error!("the system has no random numbers; correlation ids repeat");
    }
    let mut id = format!("{millis:012x}");
    for byte in random {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// What a device says about itself in the plain form of the query (MS-ASHTTP 2.2.1.1.1). Believed by nobody.
#[derive(Debug, Default, PartialEq, Eq)]
struct EasQuery {
    command: Option<String>,
    device_id: Option<String>,
    device_type: Option<String>,
}

impl EasQuery {
    fn parse(query: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let place = match name {
                _ if name.eq_ignore_ascii_case("cmd") => &mut found.command,
                _ if name.eq_ignore_ascii_case("deviceid") => &mut found.device_id,
                _ if name.eq_ignore_ascii_case("devicetype") => &mut found.device_type,
                _ => continue,
            };
            place.get_or_insert_with(|| value.chars().take(64).collect());
        }
        found
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_query_is_read_by_name_in_any_order_and_case() {
        let eas = EasQuery::parse("User=alice&DeviceId=v140Device&devicetype=iPad&Cmd=Ping&Cmd=Sync");
        let found = (eas.command.as_deref(), eas.device_id.as_deref(), eas.device_type.as_deref());
        assert_eq!(found, (Some("Ping"), Some("v140Device"), Some("iPad")));
    }

    #[test]
    fn the_base64_query_and_garbage_yield_nothing() {
        for query in ["", "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l", "=&=&&", "Cmd", "jREHBBB5as2MmCK7PBjTcygvbVXsBAAAAAA="] {
            assert_eq!(EasQuery::parse(query), EasQuery::default(), "{query}");
        }
    }

    #[test]
    fn a_failure_is_told_on_one_line_whatever_its_detail_quotes() {
        let failure = Failure::new(Cause::AccountDisabled, "CN=a\nWARN forged\r\u{1b}[31m");
        assert!(one_line(&failure).ends_with("(CN=a?WARN forged??[31m)"), "{}", one_line(&failure));
    }

    #[test]
    fn correlation_ids_are_128_bits_and_differ() {
        let (one, two) = (correlation_id(), correlation_id());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
