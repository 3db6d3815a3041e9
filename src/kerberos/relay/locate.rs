//! Where a realm's KDCs are: the configured list, or DNS SRV records (RFC 4120 section 7.2.3.2, RFC 2782).
//!
//! The system's resolv.conf is read only when a name has to be looked up, and then anew: it may have changed. What was found is
//! kept by the caller.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::kerberos::config::{KdcAddress, KdcSource};
use crate::naming::name::Realm;

/// A realm has no more KDCs than this for us, whatever DNS says.
const MAX_KDCS: usize = 32;
/// And this many SRV records are looked at.
const MAX_RECORDS: usize = 256;
/// An answer of DNS is asked for again neither more often nor more seldom than this.
const MIN_TTL: Duration = Duration::from_secs(10);
const MAX_TTL: Duration = Duration::from_hours(1);

/// One KDC at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kdc {
    /// Host as configured or as DNS names it.
    pub host: Arc<str>,
    /// Where it is asked.
    pub address: SocketAddr,
}

impl fmt::Display for Kdc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.ip().to_string() == *self.host {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{} ({})", self.host, self.address)
        }
    }
}

/// A realm's KDCs in the order they are to be tried, and how long that holds.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) kdcs: Vec<Kdc>,
    /// `None`: for ever, no name was looked up.
    pub(super) until: Option<Instant>,
}

/// Finds KDCs.
pub(super) struct Locator {
    resolver: Box<dyn Fn() -> Result<TokioResolver, String> + Send + Sync>,
}

impl Locator {
    /// Looks names up as the system does.
    pub(super) fn system() -> Self {
        Self::with(|| {
            let built = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
            built.map_err(|error| format!("the resolver cannot be set up: {error}"))
        })
    }

    /// Looks names up with the resolver this makes.
    fn with(resolver: impl Fn() -> Result<TokioResolver, String> + Send + Sync + 'static) -> Self {
        Self { resolver: Box::new(resolver) }
    }

    /// The realm's KDCs, or why there are none.
    pub(super) async fn locate(&self, realm: &Realm, source: &KdcSource) -> Result<Located, String> {
        let names = match source {
            KdcSource::List(list) => list.iter().any(|kdc| kdc.host.parse::<IpAddr>().is_err()),
            KdcSource::Dns => true,
        };
        let resolver = if names { (self.resolver)() } else { Err("no name was to be looked up".to_owned()) };
        let (hosts, mut until) = match source {
            KdcSource::List(list) => (list.clone(), None),
            KdcSource::Dns => service_records(resolver.as_ref()?, realm).await.map(|(hosts, until)| (hosts, Some(until)))?,
        };
        let mut kdcs = Vec::new();
        let mut trouble = String::from("no KDC is configured");
        for KdcAddress { host, port } in hosts.into_iter().take(MAX_KDCS) {
            match addresses(resolver.as_ref(), &host).await {
                Ok((addresses, valid)) => {
                    let host: Arc<str> = host.into();
                    kdcs.extend(addresses.into_iter().map(|ip| Kdc { host: host.clone(), address: SocketAddr::new(ip, port) }));
                    until = [until, valid].into_iter().flatten().min();
                }
                Err(reason) => {
                    tracing::warn!(realm = %realm, kdc = %host, %reason, "a KDC's name cannot be looked up");
                    trouble = reason;
                    until = [until, Some(Instant::now() + MIN_TTL)].into_iter().flatten().min();
                }
            }
        }
        kdcs.truncate(MAX_KDCS);
        if kdcs.is_empty() { Err(trouble) } else { Ok(Located { kdcs, until }) }
    }
}

async fn addresses(resolver: Result<&TokioResolver, &String>, host: &str) -> Result<(Vec<IpAddr>, Option<Instant>), String> {
    if let Ok(address) = host.parse() {
        return Ok((vec![address], None));
    }
    let found = resolver?.lookup_ip(host).await.map_err(|error| format!("{host}: {error}"))?;
    Ok((found.iter().collect(), Some(bounded(found.valid_until()))))
}

/// `_kerberos._tcp`, and `_kerberos._udp` where there is no such record.
async fn service_records(resolver: &TokioResolver, realm: &Realm) -> Result<(Vec<KdcAddress>, Instant), String> {
    let mut trouble = String::new();
    for protocol in ["_tcp", "_udp"] {
        let query = format!("_kerberos.{protocol}.{realm}.");
        match resolver.srv_lookup(query.as_str()).await {
            Ok(found) => {
                let records = found.answers().iter().filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(Service {
                        priority: srv.priority,
                        weight: srv.weight,
                        target: KdcAddress {
                            host: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                            port: srv.port,
                        },
                    }),
                    _ => None,
                });
                let hosts = in_order(records.collect(), random_below);
                if !hosts.is_empty() {
                    return Ok((hosts, bounded(found.valid_until())));
                }
                trouble = format!("{query}: no usable SRV record");
            }
            Err(error) => trouble = format!("{query}: {error}"),
        }
    }
    Err(trouble)
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
    target: KdcAddress,
}

/// RFC 2782: priority ascending; within a priority drawn by weight. `random_below(n)` is uniform in `0..n`. A target of the
/// root (`.`) means that the service is not offered.
fn in_order(mut records: Vec<Service>, mut random_below: impl FnMut(u32) -> u32) -> Vec<KdcAddress> {
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
mod tests;
