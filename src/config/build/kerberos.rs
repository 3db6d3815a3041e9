//! `[kerberos]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::config::section::Section;
use crate::config::value;
use crate::identity::RequestedName;
use crate::kerberos::config::{CanaryConfig, Engine, KdcSource, KerberosConfig, Pace};
use crate::naming::name::{OwnPrincipal, Realm};

pub(super) fn config(section: &Section<'_>, runtime_directory: Option<PathBuf>) -> Option<KerberosConfig> {
    let principal = section.text("principal", value::own_principal);
    let keytab = section.path("keytab");
    let realms = realms(section, principal.as_ref());
    let engine = section.choice("engine").and_then(engine);
    let workers = section.count("workers");
    let queue = section.count("queue");
    let acquire_timeout = section.duration("acquire_timeout");
    let kdc_timeout = section.duration("kdc_timeout");
    let soft_age = section.duration("soft_age");
    let max_ride_through = section.duration("max_ride_through");
    let clock_skew = section.duration("clock_skew");
    let cache_bytes = section.size("cache_bytes");
    let denied_groups = section.rids("denied_groups");
    let denied_accounts = section.rids("denied_accounts");
    if let Some((kdc, whole)) = kdc_timeout.zip(acquire_timeout)
        && kdc > whole
    {
        let name = if section.has("kdc_timeout") { "kdc_timeout" } else { "acquire_timeout" };
        section.problem(
            name,
            "kdc_timeout is longer than acquire_timeout",
            "one exchange is part of an acquisition: make it the shorter one",
        );
    }
    let Realms { sources, paces, canaries } = realms?;
    Some(KerberosConfig {
        principal: principal?,
        keytab: keytab?,
        realms: sources,
        paces,
        canaries,
        engine: engine?,
        workers: workers?,
        queue: queue?,
        acquire_timeout: acquire_timeout?,
        kdc_timeout: kdc_timeout?,
        soft_age: soft_age?,
        max_ride_through: max_ride_through?,
        clock_skew: clock_skew?,
        cache_bytes: cache_bytes?,
        denied_groups: denied_groups?,
        denied_accounts: denied_accounts?,
        runtime_directory: runtime_directory?,
    })
}

/// That the realm of an account that `key` names is one of those whose KDCs are known.
pub(super) fn known_realm(section: &Section<'_>, key: &str, account: &RequestedName, kerberos: Option<&KerberosConfig>) {
    let (RequestedName::Account { realm, .. }, Some(kerberos)) = (account, kerberos) else { return };
    if !kerberos.realms.contains_key(realm) {
        let known: Vec<_> = kerberos.realms.keys().map(ToString::to_string).collect();
        let remedy = format!("known: {}; add others as [kerberos.realms.\"REALM\"]", known.join(", "));
        section.problem(key, format!("the realm {realm} is not configured"), remedy);
    }
}

/// What is said realm by realm.
#[derive(Default)]
struct Realms {
    sources: BTreeMap<Realm, KdcSource>,
    paces: BTreeMap<Realm, Pace>,
    canaries: BTreeMap<Realm, CanaryConfig>,
}

/// Where each realm's KDCs are, how fast they may be asked and by which canary: our own realm here, the others in `realms`.
fn realms(section: &Section<'_>, principal: Option<&OwnPrincipal>) -> Option<Realms> {
    let mut all = Realms::default();
    let mut complete = true;
    let own = principal.map(OwnPrincipal::realm);
    for (name, realm_section) in section.named("realms") {
        let realm = match value::realm(name) {
            Ok(realm) => Some(realm),
            Err(complaint) => {
                realm_section.problem_here(complaint.message, complaint.remedy);
                None
            }
        };
        if realm.is_some() && realm.as_ref() == own {
            realm_section.problem_here("this is our own realm", "its KDCs are kerberos.kdcs");
        }
        complete &= all.add(&realm_section, realm.as_ref()).is_some();
    }
    complete &= all.add(section, own).is_some();
    complete.then_some(all)
}

impl Realms {
    /// Reads every key before it gives up on one. The realm may not be known.
    fn add(&mut self, section: &Section<'_>, realm: Option<&Realm>) -> Option<()> {
        let (pace, source) = (pace(section), kdcs(section));
        let canary = section.has("canary").then(|| canary(section, realm));
        if canary.is_none() {
            section.refuse("canary_interval", "there is no canary");
        }
        let realm = realm?;
        self.sources.insert(realm.clone(), source?);
        self.paces.insert(realm.clone(), pace);
        if let Some(canary) = canary {
            self.canaries.insert(realm.clone(), canary?);
        }
        Some(())
    }
}

fn canary(section: &Section<'_>, realm: Option<&Realm>) -> Option<CanaryConfig> {
    let user = section.text("canary", value::user);
    let interval = section.duration("canary_interval");
    if let Some((RequestedName::Account { realm: named, .. }, realm)) = user.as_ref().zip(realm)
        && named != realm
    {
        section.problem("canary", format!("an account of {named} and not of {realm}"), "take one of this realm");
    }
    Some(CanaryConfig { user: user?, interval: interval? })
}

/// What is configured of how fast a realm may be asked; the rest follows from the number of workers.
fn pace(section: &Section<'_>) -> Pace {
    let max_rate = section.count("max_rate").and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?));
    Pace { max_concurrent: section.count("max_concurrent"), max_rate }
}

fn kdcs(section: &Section<'_>) -> Option<KdcSource> {
    if section.has("kdcs") { section.texts("kdcs", value::kdc_address).map(KdcSource::List) } else { Some(KdcSource::Dns) }
}

fn engine(name: &str) -> Option<Engine> {
    match name {
        "native" => Some(Engine::Native),
        "gssapi" => Some(Engine::Gssapi),
        _ => None,
    }
}
