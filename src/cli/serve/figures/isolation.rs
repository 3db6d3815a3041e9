//! Figures of the back ends' self-tests.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::cli::metrics::Source;
use crate::proxy::Isolation;

/// What the self-tests say of the back ends: 1 for the state each is in, 0 for the others.
pub(super) struct IsolationFigures(pub(super) Vec<(Arc<str>, Isolation)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IsolationLabels {
    backend: String,
    state: &'static str,
}

impl Source for IsolationFigures {
    fn add_to(&self, registry: &mut Registry) {
        let states = Family::<IsolationLabels, Gauge>::default();
        for (backend, now) in &self.0 {
            for state in Isolation::NAMES {
                let labels = IsolationLabels { backend: backend.to_string(), state };
                states.get_or_create(&labels).set(i64::from(state == now.name()));
            }
        }
        let help = "What the self-test shows of a back end's isolation of users: 1 for its state";
        registry.register("backend_isolation", help, states);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::metrics;

    #[test]
    fn a_back_ends_isolation_is_one_of_four_states() {
        let backends = vec![("mbx1".into(), Isolation::Proved), ("mbx2".into(), Isolation::Failed("an answer names bob".into()))];
        let text = metrics::render(&[&IsolationFigures(backends)]);
        for (backend, now) in [("mbx1", "proved"), ("mbx2", "failed")] {
            for state in Isolation::NAMES {
                let value = i32::from(state == now);
                let line = format!("kcd_bridge_backend_isolation{{backend=\"{backend}\",state=\"{state}\"}} {value}");
                assert!(text.lines().any(|found| found == line), "{line}: {text}");
            }
        }
    }
}
