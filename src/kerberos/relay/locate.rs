//! Where a realm's KDCs are: the configured list, or DNS SRV records (RFC 4120 section 7.2.3.2).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::dns::{Dns, Found, Lookup, MIN_TTL};
use crate::kerberos::config::{KdcAddress, KdcSource};
use crate::naming::name::Realm;

/// A realm has no more KDCs than this for us, whatever DNS says.
const MAX_KDCS: usize = 32;

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
    dns: Dns,
}

impl Locator {
    /// Looks names up as the system does.
    pub(super) fn system() -> Self {
        Self { dns: Dns::system() }
    }

    /// Looks names up there and nowhere else.
    #[cfg(test)]
    pub(super) fn with(dns: Dns) -> Self {
        Self { dns }
    }

    /// The realm's KDCs, or why there are none.
    pub(super) async fn locate(&self, realm: &Realm, source: &KdcSource) -> Result<Located, String> {
        let names = match source {
            KdcSource::List(list) => list.iter().any(|kdc| kdc.host.parse::<IpAddr>().is_err()),
            KdcSource::Dns => true,
        };
        let lookup = if names { self.dns.open() } else { Err("no name was to be looked up".to_owned()) };
        let (hosts, mut until) = match source {
            KdcSource::List(list) => (list.clone(), None),
            KdcSource::Dns => service_records(lookup.as_ref()?, realm).await.map(|found| (found.what, found.until))?,
        };
        let mut kdcs = Vec::new();
        let mut trouble = String::from("no KDC is configured");
        for KdcAddress { host, port } in hosts.into_iter().take(MAX_KDCS) {
            match addresses(lookup.as_ref(), &host).await {
                Ok(Found { what: addresses, until: valid }) => {
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

async fn addresses(lookup: Result<&Lookup, &String>, host: &str) -> Result<Found<Vec<IpAddr>>, String> {
    match host.parse() {
        Ok(address) => Ok(Found { what: vec![address], until: None }),
        Err(_) => lookup?.addresses(host).await,
    }
}

/// `_kerberos._tcp`, and `_kerberos._udp` where there is no such record.
async fn service_records(lookup: &Lookup, realm: &Realm) -> Result<Found<Vec<KdcAddress>>, String> {
    let found = match lookup.services(&format!("_kerberos._tcp.{realm}")).await {
        Ok(found) => found,
        Err(_) => lookup.services(&format!("_kerberos._udp.{realm}")).await?,
    };
    let hosts = found.what.into_iter().map(|target| KdcAddress { host: target.host, port: target.port });
    Ok(Found { what: hosts.collect(), until: found.until })
}

#[cfg(test)]
mod tests;
