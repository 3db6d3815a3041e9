//! Figures and forecasts of the running bridge: the metrics file, and a word a day about certificates that end soon.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::cli::metrics::{self, Source};
use crate::cli::serve::devices::Devices;
use crate::config::MetricsConfig;
use crate::roster::Ending;
use crate::shutdown::Shutdown;

/// The first forecast, when most devices have connected since the start, and the time between two.
const FIRST_FORECAST: Duration = Duration::from_hours(1);
const FORECAST_INTERVAL: Duration = Duration::from_hours(24);
/// Certificates named one by one, in a forecast of the log and in the metrics.
const MAX_NAMED: usize = 500;

/// Writes the metrics file and the forecasts until the bridge stops.
pub(super) async fn keep(devices: Arc<Devices>, config: Option<MetricsConfig>, forecast: Duration, shutdown: Shutdown) {
    let within = i64::try_from(forecast.as_secs()).unwrap_or(i64::MAX);
    let mut next_forecast = Instant::now() + FIRST_FORECAST;
    let mut broken = false;
    loop {
        if let Some(config) = &config {
            let text = metrics::render(&[&Figures { devices: &devices, within }]);
            let file = config.file.clone();
            let writing = tokio::task::spawn_blocking(move || metrics::write(&file, &text)).await;
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
                tell(&devices.roster.ending(now(), within), within);
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
struct RenewedLabels {
    renewed: &'static str,
}

impl Source for Figures<'_> {
    fn add_to(&self, registry: &mut Registry) {
        self.certificates(registry);
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
