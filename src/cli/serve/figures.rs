//! Figures and forecasts of the running bridge: the metrics file, and a word a day about certificates that end soon.

mod kdcs;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::cli::metrics::{self, Source};
use crate::cli::serve::devices::Devices;
use crate::config::MetricsConfig;
use crate::directory::Directory;
use crate::identity::Mapper;
use crate::kerberos::relay::RelayObserver;
use crate::revocation::Revocation;
use crate::roster::Ending;
use crate::shutdown::Shutdown;
use kdcs::KdcFigures;

/// The first forecast, when most devices have connected since the start, and the time between two.
const FIRST_FORECAST: Duration = Duration::from_hours(1);
const FORECAST_INTERVAL: Duration = Duration::from_hours(24);
/// Certificates named one by one, in a forecast of the log and in the metrics.
const MAX_NAMED: usize = 500;

/// Writes the metrics file and the forecasts until the bridge stops.
pub(super) async fn keep(devices: Arc<Devices>, relay: RelayObserver, config: Option<MetricsConfig>, shutdown: Shutdown) {
    let mut next_forecast = Instant::now() + FIRST_FORECAST;
    let mut broken = false;
    loop {
        let within = i64::try_from(devices.admission().expiry_forecast.as_secs()).unwrap_or(i64::MAX);
        if let Some(config) = &config {
            let (file, devices, kdcs) = (config.file.clone(), Arc::clone(&devices), KdcFigures(relay.clone()));
            // Neither the disk nor a long roster is for a thread that serves connections.
            let write = move || metrics::write(&file, &metrics::render(&[&Figures { devices: &devices, within }, &kdcs]));
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

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// What certificates, revocation, mapping and the directory have to say.
struct Figures<'a> {
    devices: &'a Devices,
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
