//! The event: what `docs/audit.md` documents, and nothing secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::certificate::CertificateFacts;
use crate::der::format_kerberos_time;
use crate::failure::Failure;
use crate::kerberos::TicketFacts;
use crate::kerberos::wire::crypto::Etype;

/// One line of the audit log. Absent fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Event {
    /// When the event was written: RFC 3339, UTC, microseconds.
    pub time: String,
    /// What happened.
    pub event: Kind,
    /// The id that log, audit event and response header share.
    pub correlation_id: String,
    /// The device's address and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// The client certificate, as far as it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Why the certificate was let in although nothing says whether it is revoked (policy `prefer`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unvouched: Option<String>,
    /// Mapping rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapper: Option<&'static str>,
    /// How much the mapping proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<&'static str>,
    /// The account the certificate was mapped to, by the name the KDC was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The account's name, `DOMAIN\account`, from the evidence ticket's PAC: the same for every name it was mapped by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The account's SID from the evidence ticket's PAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The back end's service principal name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spn: Option<String>,
    /// The back end's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The service ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// Whether the last token's ticket came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_hit: Option<bool>,
    /// Steps with their durations, in the order they ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
    /// Request method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Request path as it came, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// ActiveSync command of a plain-text query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eas_command: Option<String>,
    /// ActiveSync device id of a plain-text query, as the device claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eas_device_id: Option<String>,
    /// ActiveSync device type of a plain-text query, as the device claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eas_device_type: Option<String>,
    /// Status sent to the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Last status the back end answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_status: Option<u16>,
    /// Requests sent to the back end, priming included.
    pub attempts: u32,
    /// Body bytes received from the device.
    pub bytes_up: u64,
    /// Body bytes handed on to the device.
    pub bytes_down: u64,
    /// From the request's head to the end of the answer.
    pub duration_ms: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Stage at which it ended, unless served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// Code of the cause, unless served (`docs/failures.md`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One request.
    #[default]
    Request,
    /// One TLS connection that was not let in.
    HandshakeRefused,
    /// One connection that was let in and is no longer: its certificate or account was judged again.
    ConnectionEnded,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The back end's answer was handed on to its end.
    Served,
    /// The device, its request or its account was refused.
    Refused,
    /// We or the back end failed.
    Failed,
    /// The device went away before the end.
    #[default]
    ClientGone,
}

/// What identifies a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// SHA-256 of its DER, hex.
    pub sha256: String,
    /// Issuer's distinguished name.
    pub issuer: String,
    /// Serial number, hex.
    pub serial: String,
    /// End of validity: RFC 3339, UTC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_after: String,
    /// AD CS templates it was issued from, by name or OID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<String>,
    /// Certificate policies it asserts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

/// The service ticket, without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// Client name and realm as the KDC wrote them.
    pub client: String,
    /// Encryption type of the ticket.
    pub etype: String,
    /// Encryption type of the session key.
    pub session_etype: String,
    /// Encryption type of the evidence ticket: of our own account's key.
    pub evidence_etype: String,
    /// Flags by name (RFC 4120 section 5.3).
    pub flags: Vec<&'static str>,
    /// Flags as they stand in the ticket.
    pub flags_hex: String,
    /// End of validity.
    pub end: String,
}

/// One step's duration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Step.
    pub name: &'static str,
    /// Milliseconds.
    pub ms: f64,
}

impl Certificate {
    /// Names a certificate by what it says of itself.
    pub fn of(facts: &CertificateFacts) -> Self {
        let not_after = if facts.not_after == 0 { String::new() } else { rfc3339(facts.not_after, None) };
        Self {
            sha256: facts.fingerprint.to_string(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            not_after,
            templates: facts.templates.clone(),
            policies: facts.policies.clone(),
        }
    }
}

impl StageTime {
    /// A step and how long it took.
    pub fn new(name: &'static str, took: Duration) -> Self {
        Self { name, ms: milliseconds(took) }
    }
}

impl Event {
    /// An event about a refused handshake.
    pub fn handshake_refused(correlation_id: String, peer: String, failure: &Failure, certificate: Option<Certificate>) -> Self {
        let mut event = Self { event: Kind::HandshakeRefused, correlation_id, peer, certificate, ..Self::default() };
        event.ended_by(failure, Outcome::Refused);
        event
    }

    /// An event about a connection that is no longer let in.
    pub fn connection_ended(correlation_id: String, peer: String, failure: &Failure, certificate: Certificate) -> Self {
        let event = Kind::ConnectionEnded;
        let mut event = Self { event, correlation_id, peer, certificate: Some(certificate), ..Self::default() };
        event.ended_by(failure, Outcome::Refused);
        event
    }

    /// Notes why it ended.
    pub fn ended_by(&mut self, failure: &Failure, outcome: Outcome) {
        self.outcome = outcome;
        self.stage = Some(failure.cause.stage().name());
        self.reason = Some(failure.cause.code());
        self.detail = Some(failure.detail.clone()).filter(|detail| !detail.is_empty());
    }

    /// Notes the ticket behind a token.
    pub fn note_ticket(&mut self, facts: &TicketFacts) {
        self.account = Some(facts.account.clone()).filter(|account| !account.is_empty());
        self.sid = facts.sid.as_ref().map(ToString::to_string).or_else(|| self.sid.take());
        self.cache_hit = Some(facts.cache_hit);
        self.stages.extend(facts.stages.iter().map(|(name, took)| StageTime::new(name, *took)));
        self.ticket = Some(Ticket {
            client: facts.client.clone(),
            etype: Etype::name_of(facts.ticket_etype),
            session_etype: Etype::name_of(facts.session_etype),
            evidence_etype: Etype::name_of(facts.evidence_etype),
            flags: flag_names(facts.flags),
            flags_hex: format!("{:08x}", facts.flags),
            end: rfc3339(facts.end_time, None),
        });
    }
}

/// Names of ticket flags (RFC 4120 section 5.3, RFC 6112, RFC 6806 section 11).
pub fn flag_names(flags: u32) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 16] = [
        (1, "forwardable"),
        (2, "forwarded"),
        (3, "proxiable"),
        (4, "proxy"),
        (5, "may-postdate"),
        (6, "postdated"),
        (7, "invalid"),
        (8, "renewable"),
        (9, "initial"),
        (10, "pre-authent"),
        (11, "hw-authent"),
        (12, "transited-policy-checked"),
        (13, "ok-as-delegate"),
        (14, "request-anonymous"),
        (15, "enc-pa-rep"),
        (16, "anonymous"),
    ];
    NAMES.iter().filter(|(bit, _)| flags & (1 << (31 - bit)) != 0).map(|(_, name)| *name).collect()
}

/// RFC 3339, UTC, microseconds.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), Some(since.subsec_micros()))
}

pub(crate) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

fn rfc3339(seconds: i64, micros: Option<u32>) -> String {
    let compact = format_kerberos_time(seconds);
    let text = String::from_utf8_lossy(&compact);
    let part = |range| text.get(range).unwrap_or_default();
    let fraction = micros.map(|micros| format!(".{micros:06}")).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}{fraction}Z", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12), part(12..14))
}
