//! One connection to one server: TLS, bind, and one search at a time.
//!
//! The library could run many operations over one connection. Here one operation has its connection to itself: what is late,
//! malformed or too large costs only the question it answers, the connection goes with it, and the [`Gate`] can hold every answer
//! to its question's own limit.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ldap3::controls::RawControl;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchOptions, StdStream};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::directory::ber::{self, Malformed};
use crate::directory::credential::{Credential, exchange};
use crate::directory::entry::Entry;
use crate::directory::gate::Gate;
use crate::directory::trouble::{self, Trouble, describe};
use crate::directory::{DirectorySecurity, DirectoryServer};
use crate::failure::{Cause, Failure};

/// LDAP_SERVER_DOMAIN_SCOPE_OID (MS-ADTS 3.1.1.3.4.1.4): no references to other domains are made up.
const DOMAIN_SCOPE: &str = "1.2.840.113556.1.4.1339";
const NO_SUCH_OBJECT: u32 = 32;
const SIZE_LIMIT_EXCEEDED: u32 = 4;

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) credential: Credential,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
}

/// A question to a server.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) base: String,
    pub(super) scope: Scope,
    pub(super) filter: String,
    pub(super) attributes: Vec<String>,
    /// Entries wanted at most.
    pub(super) entries: usize,
    /// Bytes of the answer at most.
    pub(super) bytes: usize,
    /// Its server is not to be blamed for the time it takes.
    pub(super) slow: bool,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// There may be more, at other servers; they are not asked.
    pub(super) references: usize,
    /// The object that was to be searched exists.
    pub(super) base_exists: bool,
}

/// A connection on which a bind succeeded.
pub(super) struct Connection {
    ldap: Ldap,
    gate: Arc<Gate>,
    /// The gate and the library's driver: ended with this connection.
    tasks: JoinSet<()>,
    pub(super) opened: Instant,
    pub(super) used: Instant,
}

impl Connector {
    /// TCP, TLS and bind, each within the configured time. `queued` is true while other binds are waited for.
    pub(super) async fn open(&self, server: &DirectoryServer, queued: &AtomicBool) -> Result<Connection, Trouble> {
        let secured = timeout(self.connect_timeout, self.secured(server)).await;
        let late = || Trouble::unreachable(format!("no connection within {:?}", self.connect_timeout));
        let mut tls = secured.map_err(|_| late())??;
        self.credential.bind(&mut tls, self.operation_timeout, queued).await?;
        start(tls).await
    }

    /// TLS to the server that the configuration names; nothing is sent before it but the request for TLS.
    async fn secured(&self, server: &DirectoryServer) -> Result<TlsStream<TcpStream>, Trouble> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Trouble::unreachable(format!("{what}: {error}"));
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| Trouble::unreachable("its host is neither a DNS name nor an address"))?;
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await;
        let mut tcp = tcp.map_err(|error| failed("no TCP connection", &error))?;
        tcp.set_nodelay(true).map_err(|error| failed("TCP", &error))?;
        if server.security == DirectorySecurity::StartTls {
            let outcome = exchange(&mut tcp, &ber::start_tls(), ber::EXTENDED_RESPONSE).await?;
            if outcome.code != 0 {
                return Err(failed("StartTLS is refused", &describe(outcome.code, &outcome.diagnostic)));
            }
        }
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await;
        tls.map_err(|error| failed("no TLS", &error))
    }
}

/// Hands the connection to the library, behind the gate.
async fn start(tls: TlsStream<TcpStream>) -> Result<Connection, Trouble> {
    let failed = |error: std::io::Error| Trouble::unreachable(format!("no pair of sockets: {error}"));
    let (ours, library) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let mut connection = drive(library).await?;
    let gate = connection.gate.clone();
    connection.tasks.spawn(async move { gate.run(tls, ours).await });
    Ok(connection)
}

/// The library at its end of a pair of sockets.
async fn drive(library: std::os::unix::net::UnixStream) -> Result<Connection, Trouble> {
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(library));
    let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
        .await
        .map_err(|error| Trouble::unreachable(format!("the LDAP library does not start: {error}")))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // How it ended is asked of the gate.
        let _ = driver.drive().await;
    });
    let now = Instant::now();
    Ok(Connection { ldap, gate: Arc::default(), tasks, opened: now, used: now })
}

impl Connection {
    /// Whether it can still be asked, as far as is known without asking.
    pub(super) fn is_open(&mut self) -> bool {
        self.gate.ended().is_none() && self.gate.malformed().is_none() && !self.ldap.is_closed()
    }

    /// Asks. In a task of its own: the library's parser panics on some answers, and that must end no more than the question.
    /// After an error the connection is not used again.
    pub(super) async fn search(&mut self, search: &Search) -> Result<Found, Trouble> {
        self.used = Instant::now();
        if !self.is_open() {
            return Err(self.ended());
        }
        self.gate.expect(search.bytes);
        let mut task = JoinSet::new();
        task.spawn(ask(self.ldap.clone(), search.clone()));
        let answered = task.join_next().await;
        match answered {
            Some(Ok(Ok(found))) => Ok(found),
            Some(Ok(Err(Asked::Trouble(trouble)))) => Err(trouble),
            Some(Ok(Err(Asked::Closed { within_answer }))) => {
                let mut panicked = false;
                while let Some(ended) = self.tasks.join_next().await {
                    panicked |= ended.is_err_and(|error| error.is_panic());
                }
                Err(match self.ended() {
                    Trouble::Stale(_) if panicked => broken(),
                    Trouble::Stale(failure) if within_answer => Trouble::Server(failure),
                    trouble => trouble,
                })
            }
            Some(Err(error)) if error.is_panic() => Err(broken()),
            _ => Err(Trouble::unreachable("the question was given up")),
        }
    }

    fn ended(&self) -> Trouble {
        match self.gate.malformed() {
            // Not the server's fault: an object may be as large as its owner makes it, and must not cost others the server.
            Some(malformed @ Malformed::TooLarge) => {
                Trouble::Answer(Failure::new(Cause::DirectoryInvalid, malformed.to_string()))
            }
            Some(malformed) => Trouble::nonsense(malformed.to_string()),
            None => {
                let why = self.gate.ended().unwrap_or_else(|| "the connection ended".to_owned());
                Trouble::Stale(Failure::new(Cause::DirectoryUnreachable, why))
            }
        }
    }
}

fn broken() -> Trouble {
    Trouble::nonsense("the answer broke the LDAP library's parser")
}

/// Why there is no answer.
enum Asked {
    Trouble(Trouble),
    /// The connection ended; perhaps in the middle of an answer.
    Closed {
        within_answer: bool,
    },
}

async fn ask(mut ldap: Ldap, search: Search) -> Result<Found, Asked> {
    let nonsense = |what: &str| Asked::Trouble(Trouble::nonsense(what));
    let limit = i32::try_from(search.entries).unwrap_or(i32::MAX);
    let scope_control = RawControl { ctype: DOMAIN_SCOPE.to_owned(), crit: false, val: None };
    ldap.with_search_options(SearchOptions::new().sizelimit(limit)).with_controls(vec![scope_control]);
    let attributes = search.attributes;
    let started = ldap.streaming_search(&search.base, search.scope, &search.filter, attributes).await;
    let mut stream = started.map_err(|error| match error {
        LdapError::FilterParsing => {
            Asked::Trouble(Trouble::Answer(Failure::new(Cause::DirectoryInvalid, "the question is no filter")))
        }
        _ => Asked::Closed { within_answer: false },
    })?;
    let mut found = Found { base_exists: true, ..Found::default() };
    while let Some(item) = stream.next().await.map_err(|_| Asked::Closed { within_answer: !found.entries.is_empty() })? {
        if item.is_ref() {
            found.references += 1;
        } else if found.entries.len() == search.entries {
            return Err(nonsense("more entries than asked for"));
        } else {
            found.entries.push(Entry::read(item).ok_or_else(|| nonsense("an entry of an unknown form"))?);
        }
    }
    let result = stream.finish().await;
    match result.rc {
        0 => Ok(found),
        SIZE_LIMIT_EXCEEDED if found.entries.len() == search.entries => Ok(found),
        NO_SUCH_OBJECT => Ok(Found::default()),
        code => Err(Asked::Trouble(trouble::of_search(code, &result.text))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::directory::question::Question;
    use crate::directory::root_dse::RootDse;
    use crate::directory::testkit::{done, element, entry, message_of, result};

    /// What the library makes of bytes that no gate kept from it.
    async fn without_gate(answer: &[u8]) -> Result<Found, Trouble> {
        let (far, library) = std::os::unix::net::UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut far = UnixStream::from_std(far).unwrap();
        let mut connection = drive(library).await.unwrap();
        let search = Question::root_dse().for_server(&RootDse::default());
        let answer = answer.to_vec();
        tokio::spawn(async move {
            let mut request = [0; 1024];
            assert!(far.read(&mut request).await.unwrap() > 0);
            far.write_all(&answer).await.unwrap();
            // Until the library is done with it.
            let _ = far.read(&mut request).await;
        });
        timeout(Duration::from_secs(10), connection.search(&search)).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_of_the_library_ends_no_more_than_its_connection() {
        let answer = [message_of(1, &entry("", &[])), message_of(1, &done(0))].concat();
        assert_eq!(without_gate(&answer).await.unwrap().entries.len(), 1);
        let panics = [
            vec![0x30, 0x00],
            vec![0x30, 0x03, 0x02, 0x01, 0x01],
            message_of(1, &element(0x65, b"")),
            message_of(1, &element(0x65, &[0x0A, 1, 0, 4, 1, 0xFF, 4, 0])),
            message_of(1, &result(0x6F, 0, "")),
        ];
        for bytes in panics {
            match without_gate(&bytes).await {
                Err(Trouble::Server(failure)) => assert_eq!(failure.cause, Cause::DirectoryInvalid, "{bytes:02x?}"),
                other => panic!("{bytes:02x?}: {other:?}"),
            }
        }
    }
}
