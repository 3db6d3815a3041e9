//! Figures of the canaries.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::cli::metrics::Source;
use crate::kerberos::canary::Sign;

/// What the canaries saw last.
pub(super) struct CanaryFigures(pub(super) Vec<Sign>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CanaryLabels {
    realm: String,
    kdc: String,
    spn: String,
}

impl Source for CanaryFigures {
    fn add_to(&self, registry: &mut Registry) {
        let (up, took) = (Family::<CanaryLabels, Gauge>::default(), Family::<CanaryLabels, Gauge<f64, AtomicU64>>::default());
        for sign in &self.0 {
            let labels = CanaryLabels { realm: sign.realm.to_string(), kdc: sign.kdc.clone(), spn: sign.spn.clone() };
            up.get_or_create(&labels).set(i64::from(sign.up));
            took.get_or_create(&labels).set(sign.took.as_secs_f64());
        }
        registry.register("canary_up", "Whether the canary was delegated to this SPN by way of this KDC", up);
        let help = "How long the canary's last tickets took, or their failure";
        registry.register_with_unit("canary_duration", help, Unit::Seconds, took);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::metrics;
    use crate::naming::name::Realm;

    #[test]
    fn each_kdc_and_spn_is_up_or_not_and_took_its_time() {
        let sign = |kdc: &str, up, millis| Sign {
            realm: Realm::parse("CORP.EXAMPLE").unwrap(),
            kdc: kdc.into(),
            spn: "HTTP/mbx1".into(),
            up,
            took: Duration::from_millis(millis),
        };
        let text = metrics::render(&[&CanaryFigures(vec![sign("dc1", true, 125), sign("dc2", false, 2000)])]);
        for (kdc, up, took) in [("dc1", 1, "0.125"), ("dc2", 0, "2.0")] {
            let labels = format!("{{realm=\"CORP.EXAMPLE\",kdc=\"{kdc}\",spn=\"HTTP/mbx1\"}}");
            for line in
                [format!("kcd_bridge_canary_up{labels} {up}"), format!("kcd_bridge_canary_duration_seconds{labels} {took}")]
            {
                assert!(text.lines().any(|found| found == line), "{line}: {text}");
            }
        }
    }
}
