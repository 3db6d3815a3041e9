//! Figures of the KDC relay: how each KDC does, and what became of requests.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::cli::metrics::Source;
use crate::kerberos::relay::{KdcNumbers, Kind, Latency, RelayObserver};

/// What the KDC relay has to say.
pub(super) struct KdcFigures(pub(super) RelayObserver);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KdcLabels {
    realm: String,
    kdc: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    realm: String,
    kdc: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    realm: String,
    kdc: String,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExchangeLabels {
    realm: String,
    kdc: String,
    exchange: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

impl Source for KdcFigures {
    fn add_to(&self, registry: &mut Registry) {
        let kdcs = self.0.kdcs();
        health(&kdcs, registry);
        exchanges(&kdcs, registry);
        let numbers = self.0.numbers();
        let results = Family::<ResultLabels, Counter>::default();
        let counts = [
            ("passed-on", numbers.served),
            ("circuit-open", numbers.circuit_open),
            ("realm-unlisted", numbers.unlisted),
            ("other-user", numbers.foreign),
            ("limited", numbers.limited),
            ("malformed", numbers.malformed),
        ];
        for (result, count) in counts {
            results.get_or_create(&ResultLabels { result }).inc_by(count);
        }
        registry.register("kdc_relay_requests", "What became of the Kerberos library's requests to the relay", results);
    }
}

/// Those that are still named, by the configuration or by DNS.
fn health(kdcs: &[KdcNumbers], registry: &mut Registry) {
    let (up, skew) = (Family::<KdcLabels, Gauge>::default(), Family::<KdcLabels, Gauge<f64, AtomicU64>>::default());
    for numbers in kdcs.iter().filter(|numbers| numbers.listed) {
        let labels = KdcLabels { realm: numbers.realm.clone(), kdc: numbers.kdc.to_string() };
        up.get_or_create(&labels).set(i64::from(numbers.up));
        if let Some(millis) = numbers.skew {
            skew.get_or_create(&labels).set(seconds(millis));
        }
    }
    registry.register("kdc_up", "Whether a KDC answered when it was last asked", up);
    let help = "A KDC's clock minus ours, at least, when it was last seen";
    registry.register_with_unit("kdc_clock_skew", help, Unit::Seconds, skew);
}

fn exchanges(kdcs: &[KdcNumbers], registry: &mut Registry) {
    let requests = Family::<KdcLabels, Counter>::default();
    let failures = Family::<FailureLabels, Counter>::default();
    let errors = Family::<ErrorLabels, Counter>::default();
    let mut latencies = Vec::new();
    for numbers in kdcs.iter().filter(|numbers| numbers.requests > 0) {
        let (realm, kdc) = (numbers.realm.clone(), numbers.kdc.to_string());
        requests.get_or_create(&KdcLabels { realm: realm.clone(), kdc: kdc.clone() }).inc_by(numbers.requests);
        for (&reason, count) in &numbers.failures {
            failures.get_or_create(&FailureLabels { realm: realm.clone(), kdc: kdc.clone(), reason }).inc_by(*count);
        }
        for (&error, count) in &numbers.errors {
            errors.get_or_create(&ErrorLabels { realm: realm.clone(), kdc: kdc.clone(), error }).inc_by(*count);
        }
        let of = |kind: &Kind| ExchangeLabels { realm: realm.clone(), kdc: kdc.clone(), exchange: kind.name() };
        latencies.extend(numbers.answers.iter().map(|(kind, latency)| (of(kind), latency.clone())));
    }
    registry.register("kdc_requests", "Requests sent to a KDC", requests);
    registry.register("kdc_failures", "Requests that a KDC did not answer, by reason", failures);
    registry.register("kdc_errors", "KRB-ERRORs that a KDC answered, by name; PREAUTH_REQUIRED is part of the usual way", errors);
    let help = "How long a KDC's answers took, by exchange";
    registry.register_with_unit("kdc_answer_duration", help, Unit::Seconds, Histograms(latencies));
}

/// Histograms that were counted elsewhere.
#[derive(Debug)]
struct Histograms(Vec<(ExchangeLabels, Latency)>);

impl EncodeMetric for Histograms {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = || Latency::BOUNDS.iter().map(|millis| seconds(i64::from(*millis))).chain([f64::INFINITY]);
        self.0.iter().try_for_each(|(labels, latency)| {
            let buckets: Vec<_> = bounds().zip(latency.counts).collect();
            let sum = latency.sum.as_secs_f64();
            encoder.encode_family(labels)?.encode_histogram::<ExchangeLabels>(sum, latency.count(), &buckets, None)
        })
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::metrics::render;
    use crate::kerberos::relay::testkit;

    #[test]
    fn every_kdc_has_its_health_counts_and_latencies_in_base_units() {
        let text = render(&[&KdcFigures(testkit::observer())]);
        let kdc = r#"realm="CORP.EXAMPLE",kdc="dc1.corp.example (192.0.2.1:88)""#;
        for line in [
            format!("kcd_bridge_kdc_up{{{kdc}}} 0"),
            format!("kcd_bridge_kdc_clock_skew_seconds{{{kdc}}} -61.5"),
            format!("kcd_bridge_kdc_requests_total{{{kdc}}} 3"),
            format!("kcd_bridge_kdc_failures_total{{{kdc},reason=\"timeout\"}} 1"),
            format!("kcd_bridge_kdc_errors_total{{{kdc},error=\"KDC_ERR_BADOPTION\"}} 1"),
            format!("kcd_bridge_kdc_answer_duration_seconds_bucket{{le=\"0.002\",{kdc},exchange=\"s4u2self\"}} 0"),
            format!("kcd_bridge_kdc_answer_duration_seconds_bucket{{le=\"0.005\",{kdc},exchange=\"s4u2self\"}} 1"),
            format!("kcd_bridge_kdc_answer_duration_seconds_bucket{{le=\"+Inf\",{kdc},exchange=\"s4u2proxy\"}} 1"),
            format!("kcd_bridge_kdc_answer_duration_seconds_count{{{kdc},exchange=\"s4u2proxy\"}} 1"),
            format!("kcd_bridge_kdc_answer_duration_seconds_sum{{{kdc},exchange=\"s4u2proxy\"}} 9.0"),
            "kcd_bridge_kdc_relay_requests_total{result=\"circuit-open\"} 0".to_owned(),
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_kdc_that_nobody_names_any_more_has_counts_and_no_health() {
        let text = render(&[&KdcFigures(testkit::observer())]);
        let gone = "192.0.2.9:88";
        assert!(text.contains(&format!("kcd_bridge_kdc_requests_total{{realm=\"CORP.EXAMPLE\",kdc=\"{gone}\"}} 1\n")), "{text}");
        assert!(!text.contains(&format!("kcd_bridge_kdc_up{{realm=\"CORP.EXAMPLE\",kdc=\"{gone}\"}}")), "{text}");
    }
}
