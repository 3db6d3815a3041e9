//! `[kerberos]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::identity::RequestedName;
use crate::naming::name::{OwnPrincipal, Realm};

/// `[kerberos]`, and the runtime directory it writes its private krb5.conf to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KerberosConfig {
    /// `principal`: the delegating account, `name@REALM`
    pub principal: OwnPrincipal,
    /// `keytab`: file with the account's keys
    pub keytab: PathBuf,
    /// KDCs of every realm on a trust path: `kdcs` for our own, `[kerberos.realms."REALM"] kdcs` for others
    pub realms: BTreeMap<Realm, KdcSource>,
    /// `max_concurrent`, `max_rate`: how fast each realm's KDCs may be asked, by realm; see [`pace`](Self::pace)
    pub paces: BTreeMap<Realm, Pace>,
    /// `canary`, `canary_interval`: who is asked for by way of each KDC of a realm, by realm
    pub canaries: BTreeMap<Realm, CanaryConfig>,
    /// `engine`: who mints tokens (default native)
    pub engine: Engine,
    /// `workers`: acquisitions at a time (default 8)
    pub workers: usize,
    /// `queue`: acquisitions waiting at most (default 65536)
    pub queue: usize,
    /// `acquire_timeout`: for both tickets of one user, all exchanges together (default 5 s)
    pub acquire_timeout: Duration,
    /// `kdc_timeout`: for one exchange with one KDC (default 2 s)
    pub kdc_timeout: Duration,
    /// `soft_age`: after it an active user's S4U2Self is run again (default 15 min)
    pub soft_age: Duration,
    /// `max_ride_through`: how long past the soft age a ticket serves while no KDC answers (default 4 h; 0 = not at all)
    pub max_ride_through: Duration,
    /// `clock_skew`: taken off every ticket's end; a KDC's clock is told of at a fifth of it (default 300 s)
    pub clock_skew: Duration,
    /// `cache_bytes`: tickets kept at most, in bytes (default 512 MiB)
    pub cache_bytes: u64,
    /// `denied_groups`: RIDs of groups whose members are never delegated (default 512, 516, 518, 519, 521, 525)
    pub denied_groups: Vec<u32>,
    /// `denied_accounts`: RIDs of accounts never delegated (default 500; 502 is always denied)
    pub denied_accounts: Vec<u32>,
    /// `[server] runtime_directory`: private (0700, ours); holds the generated krb5.conf
    pub runtime_directory: PathBuf,
}

impl KerberosConfig {
    /// How fast this realm's KDCs may be asked: all workers for our own realm, half of them for another, unless configured.
    pub fn pace(&self, realm: &Realm) -> Pace {
        let share = if realm == self.principal.realm() { self.workers } else { self.workers.div_ceil(2) };
        let configured = self.paces.get(realm).copied().unwrap_or_default();
        Pace { max_concurrent: configured.max_concurrent.or(Some(share)), ..configured }
    }
}

/// How fast the KDCs of one realm may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Acquisitions for its users at a time; `None`: as many as there are workers.
    pub max_concurrent: Option<usize>,
    /// Acquisitions for its users a second; `None`: as fast as it answers.
    pub max_rate: Option<NonZeroU32>,
}

/// The canary of one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryConfig {
    /// `canary`: an account of the realm that nobody works with
    pub user: RequestedName,
    /// `canary_interval`: from one round to the next (default 5 min)
    pub interval: Duration,
}

/// Where a realm's KDCs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KdcSource {
    /// an ordered list of `host`, `host:port`, `address` or `[v6]:port`; default port 88
    List(Vec<KdcAddress>),
    /// DNS SRV `_kerberos._tcp.REALM` / `_kerberos._udp.REALM`
    Dns,
}

/// One KDC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KdcAddress {
    /// host name or IP address
    pub host: String,
    /// port
    pub port: u16,
}

/// Who mints the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// `native`: our own AP-REQ from the cached ticket
    #[default]
    Native,
    /// `gssapi`: the reference engine, one blocking library call a token
    Gssapi,
}
