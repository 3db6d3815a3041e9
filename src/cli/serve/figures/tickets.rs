//! Figures of the delegation engine: tickets kept, acquisitions that wait and that were begun.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::cli::metrics::Source;
use crate::kerberos::delegator::Delegator;

/// What the engine has to say.
pub(super) struct TicketFigures(pub(super) Delegator);

impl Source for TicketFigures {
    fn add_to(&self, registry: &mut Registry) {
        let numbers = self.0.numbers();
        let kept = ConstGauge::new(i64::try_from(numbers.tickets).unwrap_or(i64::MAX));
        registry.register("tickets_cached", "Service tickets in the cache", kept);
        let waiting = ConstGauge::new(i64::try_from(numbers.waiting).unwrap_or(i64::MAX));
        registry.register("acquisitions_waiting", "Ticket acquisitions that wait for a worker", waiting);
        let begun = Counter::<u64>::default();
        begun.inc_by(numbers.acquisitions);
        registry.register("acquisitions", "Ticket acquisitions begun since the start", begun);
    }
}
