//! Names and services by DNS: addresses, and SRV records in their order (RFC 2782).
//!
//! The system's resolv.conf is read only when a name has to be looked up, and then anew: it may have changed. What was found is
//! kept by the caller.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

/// This many SRV records of an answer are looked at.
const MAX_RECORDS: usize = 256;
/// An answer of DNS is asked for again neither more often nor more seldom than this.
pub(crate) const MIN_TTL: Duration = Duration::from_secs(10);
const MAX_TTL: Duration = Duration::from_hours(1);

/// Makes resolvers.
pub(crate) struct Dns {
    resolver: Box<dyn Fn() -> Result<TokioResolver, String> + Send + Sync>,
}

/// A resolver with the configuration of the moment.
pub(crate) struct Lookup(TokioResolver);

/// A host that offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Its name in lower case, without the final dot.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What was looked up, and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    pub(crate) what: T,
    /// `None`: for ever, no name was looked up.
    pub(crate) until: Option<Instant>,
}

impl Dns {
    /// Looks names up as the system does.
    pub(crate) fn system() -> Self {
        Self::with(|| {
            let built = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
            built.map_err(|error| format!("the resolver cannot be set up: {error}"))
        })
    }

    /// Looks names up with the resolver this makes.
    pub(crate) fn with(resolver: impl Fn() -> Result<TokioResolver, String> + Send + Sync + 'static) -> Self {
        Self { resolver: Box::new(resolver) }
    }

    /// A resolver, configured as the system is now.
    pub(crate) fn open(&self) -> Result<Lookup, String> {
        (self.resolver)().map(Lookup)
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}

impl Lookup {
    /// The addresses of a host's name.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Found<Vec<IpAddr>>, String> {
        let found = self.0.lookup_ip(host).await.map_err(|error| format!("{host}: {error}"))?;
        Ok(Found { what: found.iter().collect(), until: Some(bounded(found.valid_until())) })
    }

    /// The hosts that offer a service, `_service._protocol.domain`, in the order they are to be tried. At least one.
    pub(crate) async fn services(&self, name: &str) -> Result<Found<Vec<Target>>, String> {
        let found = self.0.srv_lookup(format!("{name}.")).await.map_err(|error| format!("{name}: {error}"))?;
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                target: Target { host: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(), port: srv.port },
            }),
            _ => None,
        });
        let what = in_order(records.collect(), random_below);
        if what.is_empty() {
            return Err(format!("{name}: no usable SRV record"));
        }
        Ok(Found { what, until: Some(bounded(found.valid_until())) })
    }
}

fn bounded(valid_until: Instant) -> Instant {
    let now = Instant::now();
    valid_until.clamp(now + MIN_TTL, now + MAX_TTL)
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    priority: u16,
    weight: u16,
    target: Target,
}

/// RFC 2782: priority ascending; within a priority drawn by weight. `random_below(n)` is uniform in `0..n`. A target of the
/// root (`.`) means that the service is not offered.
fn in_order(mut records: Vec<Service>, mut random_below: impl FnMut(u32) -> u32) -> Vec<Target> {
    records.retain(|record| !record.target.host.is_empty());
    records.truncate(MAX_RECORDS);
    // Weight 0 first, so that such a record is drawn only by the lowest number.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let class = records.iter().take_while(|record| record.priority == priority);
        let total: u32 = class.clone().map(|record| u32::from(record.weight)).sum();
        let drawn = random_below(total.saturating_add(1));
        let mut sum = 0_u32;
        let chosen = class
            .clone()
            .position(|record| {
                sum = sum.saturating_add(u32::from(record.weight));
                sum >= drawn
            })
            .unwrap_or(0);
        ordered.push(records.remove(chosen).target);
    }
    ordered
}

/// Not secret, only spread: the modulo's bias does not matter.
fn random_below(bound: u32) -> u32 {
    getrandom::u32().unwrap_or(0) % bound.max(1)
}

#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
