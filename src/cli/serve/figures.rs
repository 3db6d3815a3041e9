//! Figures and forecasts of the running bridge: the metrics file, and a word a day about certificates that end soon and SPNs that
//! use RC4.

mod canary;
mod isolation;
mod kdcs;
mod tickets;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::audit;
use crate::cli::metrics::{self, Source};
use crate::cli::serve::devices::Devices;
use crate::config::MetricsConfig;
use crate::directory::Directory;
use crate::identity::Mapper;
use crate::kerberos::canary::Canaries;
use crate::kerberos::delegator::Delegator;
use crate::kerberos::encryption::{Count, Encryption, Rc4Use};
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::wire::crypto::Etype;
use crate::proxy::Proxy;
use crate::revocation::Revocation;
use crate::roster::Ending;
use crate::shutdown::Shutdown;
use canary::CanaryFigures;
use isolation::IsolationFigures;
use kdcs::KdcFigures;
use tickets::TicketFigures;

/// The first forecast, when most devices have connected since the start, and the time between two.
const FIRST_FORECAST: Duration = Duration::from_hours(1);
const FORECAST_INTERVAL: Duration = Duration::from_hours(24);
/// Certificates named one by one, in a forecast of the log and in the metrics.
const MAX_NAMED: usize = 500;

/// The proxy with the engine behind it, and the relay behind the engine, and the canaries.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) proxy: Arc<Proxy<Delegator>>,
    pub(super) relay: RelayObserver,
    pub(super) canaries: Canaries,
}

/// Writes the metrics file and the forecasts until the bridge stops.
pub(super) async fn keep(devices: Arc<Devices>, engine: Engine, config: Option<MetricsConfig>, shutdown: Shutdown) {
    let encryption = engine.proxy.tokens().encryption();
    let mut next_forecast = Instant::now() + FIRST_FORECAST;
    let mut broken = false;
    loop {
        let within = i64::try_from(devices.admission().expiry_forecast.as_secs()).unwrap_or(i64::MAX);
        if let Some(config) = &config {
            let (file, devices, engine, encryption) =
                (config.file.clone(), Arc::clone(&devices), engine.clone(), Arc::clone(&encryption));
            // Neither the disk nor a long roster is for a thread that serves connections.
            let write = move || {
                let (tickets, kdcs) = (TicketFigures(engine.proxy.tokens().clone()), KdcFigures(engine.relay));
                let canaries = CanaryFigures(engine.canaries.signs());
                let isolation = IsolationFigures(engine.proxy.isolation());
                let figures = Figures { devices: &devices, encryption: &encryption, within };
                metrics::write(&file, &metrics::render(&[&figures, &tickets, &kdcs, &canaries, &isolation]))
            };
            let writing = tokio::task::spawn_blocking(write).await;
            let outcome =
                writing.map_err(|error| error.to_string()).and_then(|written| written.map_err(|error| error.to_string()));
            match (&outcome, broken) {
                (Err(error), false) => error!(file = %config.file.display(), "the metrics cannot be written: {error}"),
                (Ok(()), true) => info!(file = %config.file.display(), "the metrics are written again"),
                _ => {}
            }
            broken = outcome.is_err();
        }
        let wait = config.as_ref().map_or(FORECAST_INTERVAL, |config| config.interval);
        tokio::select! {
            () = tokio::time::sleep(wait), if config.is_some() => {}
            () = tokio::time::sleep_until(next_forecast) => {
                let devices = Arc::clone(&devices);
                let telling = tokio::task::spawn_blocking(move || tell(&devices.roster.ending(now(), within), within));
                if let Err(error) = telling.await {
                    error!("the certificates that end soon cannot be told: {error}");
                }
                tell_encryption(&encryption.rc4());
                next_forecast += FORECAST_INTERVAL;
            }
            () = shutdown.draining() => return,
        }
    }
}

/// One line for each certificate that nobody renewed, and one for all.
fn tell(ending: &[Ending], within: i64) {
    let lasting: Vec<_> = ending.iter().filter(|ending| !ending.renewed).collect();
    for ending in lasting.iter().take(MAX_NAMED) {
        let Ending { principal, devices, issuer, serial, days_left, .. } = ending;
        let devices = devices.join(" ");
        warn!(principal, devices, issuer, serial, days_left, "a client certificate in use ends soon and was not renewed");
    }
    let (days, renewed) = (within / (24 * 3600), ending.len() - lasting.len());
    info!(count = lasting.len(), renewed, days, "client certificates in use that end soon");
}

/// One line for each SPN that uses RC4, and one for all.
fn tell_encryption(rc4: &[Rc4Use]) {
    for Rc4Use { spn, requests, users, last_seen, unset, repair, .. } in rc4 {
        let stops = if *unset { "now, where domain controllers have the updates of 2026" } else { "when the domain refuses RC4" };
        let last_seen = audit::timestamp(UNIX_EPOCH + Duration::from_secs(u64::try_from(*last_seen).unwrap_or_default()));
        warn!(spn, acquisitions = requests, users, last_seen, stops, repair, "an SPN uses RC4 and will stop working");
    }
    info!(count = rc4.len(), "SPNs that use RC4");
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// What certificates, revocation, mapping, the directory, and the tickets have to say.
struct Figures<'a> {
    devices: &'a Devices,
    encryption: &'a Encryption,
    within: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabels {
    user: String,
    device: String,
    serial: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    issuer: String,
    key: String,
    kind: &'static str,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
    strength: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TicketLabels {
    spn: String,
    etype: String,
    session_etype: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvidenceLabels {
    etype: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RenewedLabels {
    renewed: &'static str,
}

impl Source for Figures<'_> {
    fn add_to(&self, registry: &mut Registry) {
        self.certificates(registry);
        let admission = self.devices.admission();
        revocation(&admission.revocation, registry);
        mapping(&admission.mapper, registry);
        if let Some(directory) = &admission.directory {
            servers(directory, registry);
        }
        encryption(&self.encryption.counts(), registry);
    }
}

impl Figures<'_> {
    fn certificates(&self, registry: &mut Registry) {
        let roster = &self.devices.roster;
        let seen = ConstGauge::new(i64::try_from(roster.len()).unwrap_or(i64::MAX));
        registry.register("client_certificates", "Client certificates seen since the start", seen);
        let ending = roster.ending(now(), self.within);
        let counts = Family::<RenewedLabels, Gauge>::default();
        let ends = Family::<EndingLabels, Gauge>::default();
        for (renewed, word) in [(true, "yes"), (false, "no")] {
            let count = ending.iter().filter(|ending| ending.renewed == renewed).count();
            counts.get_or_create(&RenewedLabels { renewed: word }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for ending in ending.iter().filter(|ending| !ending.renewed).take(MAX_NAMED) {
            let labels =
                EndingLabels { user: ending.principal.clone(), device: ending.devices.join(" "), serial: ending.serial.clone() };
            ends.get_or_create(&labels).set(ending.not_after);
        }
        registry.register("client_certificates_ending", "Client certificates in use that end within the forecast", counts);
        registry.register_with_unit(
            "client_certificate_end_timestamp",
            "End of a client certificate in use that was not renewed, as seconds since 1970",
            Unit::Seconds,
            ends,
        );
    }
}

/// How old the CRLs are, and what was decided by them and by OCSP.
fn revocation(revocation: &Revocation, registry: &mut Registry) {
    let (ages, ends, entries) =
        (Family::<ListLabels, Gauge>::default(), Family::<ListLabels, Gauge>::default(), Family::<ListLabels, Gauge>::default());
    for list in revocation.facts().into_iter().filter(|list| list.verified) {
        let kind = if list.delta { "delta" } else { "base" };
        let labels = ListLabels { issuer: list.issuer, key: list.key_identifier.unwrap_or_default(), kind, source: list.source };
        ages.get_or_create(&labels).set(now() - list.this_update);
        ends.get_or_create(&labels).set(list.next_update);
        entries.get_or_create(&labels).set(i64::try_from(list.entries).unwrap_or(i64::MAX));
    }
    registry.register_with_unit("crl_age", "Time since a CRL's thisUpdate", Unit::Seconds, ages);
    registry.register_with_unit("crl_next_update_timestamp", "nextUpdate of a CRL, as seconds since 1970", Unit::Seconds, ends);
    registry.register("crl_entries", "Certificates on a CRL", entries);
    let decisions = Family::<DecisionLabels, Counter>::default();
    for (decision, count) in revocation.decisions() {
        decisions.get_or_create(&DecisionLabels { decision: decision.name() }).inc_by(count);
    }
    registry.register("revocation_decisions", "How revocation was decided, and what became of CRLs", decisions);
    let answers = Family::<AnswerLabels, Counter>::default();
    for (answer, count) in revocation.ocsp_counts() {
        answers.get_or_create(&AnswerLabels { answer }).inc_by(count);
    }
    let fetches = Family::<AnswerLabels, Counter>::default();
    for (answer, count) in revocation.fetch_counts() {
        fetches.get_or_create(&AnswerLabels { answer }).inc_by(count);
    }
    registry.register(
        "crl_fetches",
        "CRLs asked for at distribution points, those not obtained, and bytes of the others",
        fetches,
    );
    registry.register("ocsp_answers", "What came of questions to OCSP responders", answers);
}

/// Who was mapped by which rule, and why others were not.
fn mapping(mapper: &Mapper, registry: &mut Registry) {
    let counts = mapper.counts();
    let by_rule = Family::<RuleLabels, Counter>::default();
    for (rule, strength, count) in &counts.mapped {
        by_rule.get_or_create(&RuleLabels { rule: rule.name(), strength: strength.name() }).inc_by(*count);
    }
    registry.register("mappings", "Certificates mapped, by rule and strength; answers from memory are not counted", by_rule);
    let refused = Family::<ReasonLabels, Counter>::default();
    for (cause, count) in &counts.refused {
        refused.get_or_create(&ReasonLabels { reason: cause.code() }).inc_by(*count);
    }
    registry.register("mappings_refused", "Certificates not mapped, by reason", refused);
    let ridden = Counter::<u64>::default();
    ridden.inc_by(counts.ridden);
    registry.register("mappings_ridden", "Accounts believed past cache_ttl because no directory server answered", ridden);
}

/// Which directory servers are asked now.
fn servers(directory: &Directory, registry: &mut Registry) {
    let up = Family::<ServerLabels, Gauge>::default();
    for server in directory.health() {
        up.get_or_create(&ServerLabels { server: server.server }).set(i64::from(server.rests.is_none()));
    }
    registry.register("directory_server_up", "Whether a directory server is asked, or left alone after a failure", up);
}

/// Which encryption types tickets have. The SPNs are those of the configuration.
fn encryption(counts: &[Count], registry: &mut Registry) {
    let (tickets, evidence) = (Family::<TicketLabels, Counter>::default(), Family::<EvidenceLabels, Counter>::default());
    for Count { spn, etypes, count } in counts {
        let [etype, session_etype] = [etypes.ticket, etypes.session_key].map(Etype::name_of);
        tickets.get_or_create(&TicketLabels { spn: spn.clone(), etype, session_etype }).inc_by(*count);
        evidence.get_or_create(&EvidenceLabels { etype: Etype::name_of(etypes.evidence) }).inc_by(*count);
    }
    registry.register("service_tickets", "Service tickets acquired, by SPN and encryption types", tickets);
    let help = "Tickets to ourselves that they were acquired with, by encryption type: our own account's key";
    registry.register("evidence_tickets", help, evidence);
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::kerberos::encryption::{Etypes, TicketUse};

    fn seen() -> Encryption {
        let encryption = Encryption::default();
        let uses = [
            ("HTTP/mbx1", Etypes { ticket: 18, session_key: 18, evidence: 18 }),
            ("HTTP/mbx1", Etypes { ticket: 18, session_key: 18, evidence: 18 }),
            ("HTTP/mbx2003", Etypes { ticket: 23, session_key: 23, evidence: 23 }),
            ("HTTP/unset", Etypes { ticket: 23, session_key: 18, evidence: 18 }),
        ];
        for (spn, etypes) in uses {
            encryption.note(&TicketUse { spn, user: "alice", etypes, at: 1_800_000_000 });
        }
        encryption
    }

    struct Encrypted(Encryption);

    impl Source for Encrypted {
        fn add_to(&self, registry: &mut Registry) {
            encryption(&self.0.counts(), registry);
        }
    }

    #[test]
    fn tickets_are_counted_by_spn_and_encryption_types_and_evidence_tickets_by_our_own_key() {
        let text = metrics::render(&[&Encrypted(seen())]);
        let (aes, rc4) = ("aes256-cts-hmac-sha1-96", "arcfour-hmac");
        for line in [
            format!("kcd_bridge_service_tickets_total{{spn=\"HTTP/mbx1\",etype=\"{aes}\",session_etype=\"{aes}\"}} 2"),
            format!("kcd_bridge_service_tickets_total{{spn=\"HTTP/mbx2003\",etype=\"{rc4}\",session_etype=\"{rc4}\"}} 1"),
            format!("kcd_bridge_service_tickets_total{{spn=\"HTTP/unset\",etype=\"{rc4}\",session_etype=\"{aes}\"}} 1"),
            format!("kcd_bridge_evidence_tickets_total{{etype=\"{aes}\"}} 3"),
            format!("kcd_bridge_evidence_tickets_total{{etype=\"{rc4}\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_names_each_spn_that_uses_rc4_when_it_stops_and_the_repair() {
        let lines = Lines::default();
        let into = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || into.clone()).finish();
        tracing::subscriber::with_default(subscriber, || tell_encryption(&seen().rc4()));
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let of = |spn: &str| said.lines().find(|line| line.contains(&format!("spn=\"{spn}\""))).unwrap_or_default();
        for (spn, stops, repair) in [
            ("HTTP/mbx2003", "when the domain refuses RC4", "kerberos.principal"),
            ("HTTP/unset", "2026", "Set-ADComputer UNSET"),
        ] {
            assert!(of(spn).contains("WARN") && of(spn).contains(stops) && of(spn).contains(repair), "{spn}: {said}");
            assert!(of(spn).contains("2027-01-15T08:00:00"), "{said}");
        }
        assert_eq!((of("HTTP/mbx1"), said.lines().count()), ("", 3), "{said}");
        assert!(said.lines().last().unwrap().contains("count=2"), "{said}");
    }
}
