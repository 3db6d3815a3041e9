//! The directory as the rooms above see it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ldap3::Scope;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::sync::OnceCell;

use crate::certificate::{LoadError, read_certificate_chain};
use crate::directory::connection::{Connector, Found};
use crate::directory::credential::Credential;
use crate::directory::decode;
use crate::directory::dn::domain_of;
use crate::directory::entry::Entry;
use crate::directory::filter::Pruned;
use crate::directory::pool::{Means, Pool, Source};
use crate::directory::question::{Base, Question};
use crate::directory::server::{Pace, ServerHealth, ServerRole};
use crate::directory::{
    Account, Accounts, Answer, Attribute, DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource, Filter, RootDse,
    ServiceAccount,
};
use crate::dns::Dns;
use crate::failure::{Cause, Failure};

/// Ports that domain controllers answer on.
const LDAPS: u16 = 636;
const CATALOG: u16 = 3268;
const CATALOG_LDAPS: u16 = 3269;
/// A refused password is not shown again for this long.
const PASSWORD_REST: Duration = Duration::from_mins(1);
/// Of an account, all its certificates included.
const ACCOUNT_BYTES: usize = 4 << 20;
/// Of the hits of a search.
const HITS_BYTES: usize = 64 << 10;
/// Of one attribute: a CRL of a million entries is smaller.
const VALUE_BYTES: usize = 64 << 20;
/// The forest's domains and suffixes.
const PARTITIONS: usize = 1000;
/// The second hit says that the answer is ambiguous.
const HITS: usize = 2;
/// Domains other than our own whose servers are remembered.
const MAX_DOMAINS: usize = 64;
/// sAMAccountType of users, computers and trusts (MS-SAMR 2.2.1.9): groups, contacts and the like are no accounts.
const ACCOUNTS_ONLY: &str = "(|(sAMAccountType=805306368)(sAMAccountType=805306369)(sAMAccountType=805306370))";
const NT_AUTH: &str = "CN=NTAuthCertificates,CN=Public Key Services,CN=Services";

/// Active Directory, asked by LDAP over TLS. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    means: Means,
    base: Option<String>,
    source: DirectorySource,
    global_catalog: bool,
    domain: Pool,
    catalog: OnceCell<Pool>,
    others: Mutex<BTreeMap<String, Arc<Pool>>>,
}

impl Directory {
    /// Reads the trust anchors and the password. Nothing is sent before the first question.
    pub fn load(config: &DirectoryConfig) -> Result<Self, LoadError> {
        Self::build(config, Dns::system(), Pace::default(), PASSWORD_REST)
    }

    pub(super) fn build(config: &DirectoryConfig, dns: Dns, pace: Pace, password_rest: Duration) -> Result<Self, LoadError> {
        let connector = Connector {
            tls: Arc::new(trusting(config)?),
            credential: Credential::load(&config.bind_user, &config.bind_password_file, password_rest)?,
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
        };
        let means = Means { connector: Arc::new(connector), dns: Arc::new(dns), pace, connections: config.connections.max(1) };
        let domain = Pool::new(domain_source(&config.source), ServerRole::DomainController, means.clone());
        Ok(Self(Arc::new(Inner {
            means,
            base: config.base.clone(),
            source: config.source.clone(),
            global_catalog: config.global_catalog,
            domain,
            catalog: OnceCell::new(),
            others: Mutex::default(),
        })))
    }

    /// How the servers asked so far are.
    pub fn health(&self) -> Vec<ServerHealth> {
        let others: Vec<_> = self.0.others.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let pools = [Some(&self.0.domain), self.0.catalog.get()].into_iter().flatten().chain(others.iter().map(Arc::as_ref));
        pools.flat_map(Pool::health).collect()
    }

    /// What a server says of itself; the first question of a check.
    pub async fn root_dse(&self, deadline: Instant) -> Result<Arc<RootDse>, Failure> {
        self.0.domain.root_dse(deadline).await
    }

    /// The values of an attribute of one object, empty where it has none. `attribute;binary` is tried first, as certificates and CRLs
    /// are to be asked for (RFC 4523 section 2).
    pub async fn values(&self, dn: &str, attribute: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, Failure> {
        let plain = attribute.strip_suffix(";binary").unwrap_or(attribute);
        let is_name = !plain.is_empty() && plain.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
        if !is_name || dn.is_empty() {
            let detail = format!("{}: {} is no attribute of an object", dn.escape_default(), attribute.escape_default());
            return Err(Failure::new(Cause::DirectoryInvalid, detail));
        }
        let base = Base::Named(dn.to_owned());
        match self.object(base.clone(), &format!("{plain};binary"), deadline).await? {
            values if values.is_empty() => self.object(base, plain, deadline).await,
            values => Ok(values),
        }
    }

    /// The CAs that may issue for accounts of this forest (NTAuthCertificates, MS-WCCE 3.2.2.6.2.1.4.6.2).
    pub async fn nt_auth(&self, deadline: Instant) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let explained = |cause: Cause, what: &str| {
            Failure::new(
                cause,
                format!("NTAuthCertificates: {what}; a CA is published by certutil -dspublish -f ca.cer NTAuthCA"),
            )
        };
        let values = self.object(Base::Configuration(NT_AUTH), "cACertificate", deadline).await;
        let values = values.map_err(|failure| match failure.cause {
            Cause::DirectoryRefused => explained(failure.cause, &failure.detail),
            _ => failure,
        })?;
        if values.is_empty() {
            return Err(explained(Cause::DirectoryInvalid, "it holds no certificate"));
        }
        Ok(values.into_iter().map(CertificateDer::from).collect())
    }

    /// Every suffix that a userPrincipalName of this forest may have: those added by hand, and the DNS names of its domains. In lower
    /// case, each once.
    pub async fn upn_suffixes(&self, deadline: Instant) -> Result<Vec<String>, Failure> {
        // FLAG_CR_NTDS_DOMAIN: crossRef objects of domains, beside the container that holds the suffixes (MS-ADTS 6.1.1.2.1).
        let filter = "(|(objectClass=crossRefContainer)(&(objectClass=crossRef)(systemFlags:1.2.840.113556.1.4.803:=2)))";
        let question = Question {
            base: Base::Configuration("CN=Partitions"),
            scope: Scope::Subtree,
            filter: filter.to_owned(),
            attributes: vec!["uPNSuffixes".to_owned(), "dnsRoot".to_owned()],
            entries: PARTITIONS,
            bytes: ACCOUNT_BYTES,
            slow: false,
        };
        let found = self.0.domain.ask(&question, None, deadline).await?;
        let mut suffixes = Vec::new();
        for entry in &found.entries {
            decode::complete(entry)?;
            for value in ["uPNSuffixes", "dnsRoot"].iter().flat_map(|name| entry.values(name)) {
                let suffix = std::str::from_utf8(value).map_err(|_| malformed(entry, "uPNSuffixes or dnsRoot"))?;
                suffixes.push(suffix.to_ascii_lowercase());
            }
        }
        suffixes.sort();
        suffixes.dedup();
        Ok(suffixes)
    }

    /// One attribute of one object that must exist.
    async fn object(&self, base: Base, attribute: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, Failure> {
        // A CRL may be large.
        let question = Question { slow: true, ..Question::read(base, &[attribute], VALUE_BYTES) };
        let found = self.0.domain.ask(&question, None, deadline).await?;
        let Some(mut entry) = found.entries.into_iter().next() else {
            let what = match &question.base {
                Base::Named(dn) => dn.escape_default().to_string(),
                Base::Domain => "the domain".to_owned(),
                Base::Configuration(below) => (*below).to_owned(),
            };
            return Err(Failure::new(Cause::DirectoryRefused, format!("{what}: no such object, or not one our account may see")));
        };
        decode::complete(&entry)?;
        let plain = attribute.strip_suffix(";binary").unwrap_or(attribute);
        let named = |description: &str| {
            let description = description.strip_suffix(";binary").unwrap_or(description);
            description.eq_ignore_ascii_case(plain)
        };
        let at = entry.attributes.iter().position(|(description, _)| named(description));
        Ok(at.map(|at| entry.attributes.swap_remove(at).1).unwrap_or_default())
    }

    async fn accounts(&self, filter: &Filter, deadline: Instant) -> Result<Vec<Account>, Failure> {
        let filter = match filter.pruned() {
            Pruned::Nothing => return Ok(Vec::new()),
            Pruned::Everything => return Err(Failure::new(Cause::DirectoryInvalid, "a question that every account answers")),
            Pruned::Some(filter) => filter,
        };
        let mut accounts = Vec::new();
        for hit in self.hits(&filter, self.0.base.as_deref(), deadline).await?.entries {
            accounts.push(decode::account(&self.reread(&hit, &decode::ATTRIBUTES, deadline).await?)?);
        }
        Ok(accounts)
    }

    /// Every account that matches, as one that delegates or is delegated to, wherever it stands (`directory.base` is where people are);
    /// at most two, and the second one says that there are more than there should be. Only an explanation of what a KDC refused is made
    /// from it.
    pub async fn service_accounts(&self, filter: &Filter, deadline: Instant) -> Result<Vec<ServiceAccount>, Failure> {
        let Pruned::Some(filter) = filter.pruned() else { return Ok(Vec::new()) };
        let mut accounts = Vec::new();
        for hit in self.hits(&filter, None, deadline).await?.entries {
            let entry = self.reread(&hit, &decode::service::ATTRIBUTES, deadline).await?;
            accounts.push(decode::service::service_account(&entry)?);
        }
        Ok(accounts)
    }

    /// Who matches, by name and SID.
    async fn hits(&self, filter: &Filter, below: Option<&str>, deadline: Instant) -> Result<Found, Failure> {
        let mut question = Question {
            base: Base::Named(String::new()),
            scope: Scope::Subtree,
            filter: format!("(&{ACCOUNTS_ONLY}{filter})"),
            attributes: vec![decode::SID.to_owned()],
            entries: HITS,
            bytes: HITS_BYTES,
            // Active Directory has no index of certificates (MS-ADA3): every account is looked at.
            slow: filter.asks_for(Attribute::UserCertificate),
        };
        let found = if self.0.global_catalog {
            // A catalogue's empty base is the whole forest.
            question.base = Base::Named(below.unwrap_or_default().to_owned());
            self.catalog(deadline).await?.ask(&question, None, deadline).await?
        } else {
            question.base = below.map_or(Base::Domain, |below| Base::Named(below.to_owned()));
            self.0.domain.ask(&question, None, deadline).await?
        };
        if !found.base_exists {
            // Nobody below what does not exist: that would read as an account that is missing.
            let below = below.unwrap_or_default().escape_default();
            let detail = format!("there is nothing to search below \"{below}\"; check directory.base");
            return Err(Failure::new(Cause::DirectoryRefused, detail));
        }
        if found.references > 0 {
            tracing::debug!(references = found.references, "the directory refers to other servers, which are not asked");
        }
        Ok(found)
    }

    /// The object of a hit, from a domain controller of its own domain: a catalogue has neither all attributes nor the newest values.
    async fn reread(&self, hit: &Entry, attributes: &[&str], deadline: Instant) -> Result<Entry, Failure> {
        let sid = decode::sid_of(hit)?;
        let domain = domain_of(&hit.dn);
        if domain.is_empty() {
            return Err(malformed(hit, "distinguishedName"));
        }
        let question = Question::read(Base::Named(format!("<SID={sid}>")), attributes, ACCOUNT_BYTES);
        let found = self.home(&domain, deadline).await?.ask(&question, Some(&domain), deadline).await?;
        let Some(entry) = found.entries.into_iter().next() else {
            let detail = format!("{}: found, and then not there when it was read again by its SID", hit.dn);
            return Err(Failure::new(Cause::DirectoryInvalid, detail));
        };
        if decode::sid_of(&entry)? != sid {
            return Err(malformed(&entry, decode::SID));
        }
        Ok(entry)
    }

    /// The catalogues: the configured servers' other port, or those of the forest by SRV record.
    async fn catalog(&self, deadline: Instant) -> Result<&Pool, Failure> {
        let make = || async {
            let source = match &self.0.source {
                DirectorySource::Servers(servers) => Source::Listed(servers.iter().map(catalog_of).collect()),
                DirectorySource::Domain(_) => {
                    let forest = self.root_dse(deadline).await?.forest();
                    Source::Service { name: format!("_gc._tcp.{forest}"), domain: forest, port: CATALOG_LDAPS }
                }
            };
            Ok(Pool::new(source, ServerRole::GlobalCatalog, self.0.means.clone()))
        };
        self.0.catalog.get_or_try_init(make).await
    }

    /// The domain controllers of a domain. With a list of servers, those of them that are of that domain.
    async fn home(&self, domain: &str, deadline: Instant) -> Result<Home<'_>, Failure> {
        let is_own = match &self.0.source {
            DirectorySource::Servers(_) => true,
            DirectorySource::Domain(own) => own.eq_ignore_ascii_case(domain) || self.root_dse(deadline).await?.domain() == domain,
        };
        if is_own {
            return Ok(Home::Own(&self.0.domain));
        }
        let mut others = self.0.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !others.contains_key(domain) && others.len() >= MAX_DOMAINS {
            return Err(Failure::new(Cause::DirectoryInvalid, format!("{domain}: one domain too many for one forest")));
        }
        let make = || {
            let source = domain_source(&DirectorySource::Domain(domain.to_owned()));
            Arc::new(Pool::new(source, ServerRole::DomainController, self.0.means.clone()))
        };
        Ok(Home::Other(others.entry(domain.to_owned()).or_insert_with(make).clone()))
    }
}

impl Accounts for Directory {
    fn find<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> Answer<'a, Vec<Account>> {
        Box::pin(self.accounts(filter, deadline))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("source", &self.0.source).finish_non_exhaustive()
    }
}

/// The domain controllers of an account's domain.
enum Home<'a> {
    Own(&'a Pool),
    Other(Arc<Pool>),
}

impl Home<'_> {
    async fn ask(&self, question: &Question, domain: Option<&str>, deadline: Instant) -> Result<Found, Failure> {
        match self {
            Self::Own(pool) => pool.ask(question, domain, deadline).await,
            Self::Other(pool) => pool.ask(question, domain, deadline).await,
        }
    }
}

fn domain_source(source: &DirectorySource) -> Source {
    match source {
        DirectorySource::Servers(servers) => Source::Listed(servers.clone()),
        DirectorySource::Domain(domain) => {
            let domain = domain.trim_end_matches('.').to_ascii_lowercase();
            Source::Service { name: format!("_ldap._tcp.dc._msdcs.{domain}"), domain, port: LDAPS }
        }
    }
}

fn catalog_of(server: &DirectoryServer) -> DirectoryServer {
    let port = match server.security {
        DirectorySecurity::Ldaps => CATALOG_LDAPS,
        DirectorySecurity::StartTls => CATALOG,
    };
    DirectoryServer { port, ..server.clone() }
}

/// TLS that trusts the configured anchors and nobody else.
fn trusting(config: &DirectoryConfig) -> Result<ClientConfig, LoadError> {
    let remedy = "name the CA that issued the directory servers' certificates in directory.trust_anchors";
    let mut roots = RootCertStore::empty();
    for path in &config.trust_anchors {
        for certificate in read_certificate_chain(path)? {
            roots.add(certificate).map_err(|error| LoadError::new(path, error.to_string(), remedy))?;
        }
    }
    if roots.is_empty() {
        return Err(LoadError::new(&config.bind_password_file, "would be sent to servers that nobody vouches for", remedy));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let versions = builder.with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| LoadError::new(&config.bind_password_file, error.to_string(), remedy))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn malformed(entry: &Entry, attribute: &str) -> Failure {
    Failure::new(Cause::DirectoryInvalid, format!("{}: {attribute} is malformed", entry.dn))
}

#[cfg(test)]
impl Directory {
    /// Asks these servers as catalogues, which are on other ports than real ones.
    pub(super) fn with_catalog(self, servers: &[DirectoryServer]) -> Self {
        let pool = Pool::new(Source::Listed(servers.to_vec()), ServerRole::GlobalCatalog, self.0.means.clone());
        assert!(self.0.catalog.set(pool).is_ok());
        self
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.0.means.connector
    }
}

#[cfg(test)]
mod tests;
