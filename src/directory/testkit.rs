//! A directory server on loopback that says what a test wants it to, well-formed or not.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::ber::Header;
use super::server::Pace;
use super::{Directory, DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource};
use crate::der::{Reader, tag, write};
use crate::dns::Dns;
use crate::naming::sid::Sid;

pub(super) const PASSWORD: &str = "Secret-1";
pub(super) const USER: &str = "svc@corp.example";
pub(super) const DOMAIN: &str = "DC=corp,DC=example";
pub(super) const ALICE: &str = "CN=Alice,OU=Staff,DC=corp,DC=example";

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    StartTls,
    Bind { user: String, password: String },
    Search { base: String, scope: i64, limit: i64, filter: Vec<u8>, attributes: Vec<String> },
    Other(u8),
}

/// What it gets.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Operations, each in a message with the request's number.
    Say(Vec<Vec<u8>>),
    /// These very bytes.
    Raw(Vec<u8>),
    /// These, and the end.
    Last(Vec<u8>),
    Nothing,
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The CA of the servers.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) directory: tempfile::TempDir,
}

pub(super) struct FakeServer {
    pub(super) port: u16,
    security: DirectorySecurity,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicUsize>,
    holding: Holding,
    _task: JoinSet<()>,
}

/// What answers to binds wait for.
type Holding = Arc<Mutex<Option<Arc<Semaphore>>>>;

impl Authority {
    /// With its certificate in `ca.pem` and the right password in `password`.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let authority = Self { issuer: Issuer::new(params, key), directory };
        authority.set_password(PASSWORD);
        authority
    }

    pub(super) fn set_password(&self, password: &str) {
        std::fs::write(self.directory.path().join("password"), format!("{password}\nnot this line\n")).unwrap();
    }

    pub(super) async fn server(&self, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> FakeServer {
        self.server_named("127.0.0.1", DirectorySecurity::Ldaps, script).await
    }

    pub(super) async fn server_named(
        &self,
        name: &str,
        security: DirectorySecurity,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> FakeServer {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(script)));
        let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default());
        let mut task = JoinSet::new();
        let holding = Holding::default();
        let serving = (script.clone(), asked.clone(), connections.clone(), holding.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                serving.2.fetch_add(1, Ordering::SeqCst);
                let acceptor = TlsAcceptor::from(Arc::new(tls.clone()));
                let (script, asked, holding) = (serving.0.clone(), serving.1.clone(), serving.3.clone());
                connections.spawn(async move {
                    if security == DirectorySecurity::StartTls && !serve(&mut tcp, &script, &asked, &holding, true).await {
                        return;
                    }
                    if let Ok(mut tls) = acceptor.accept(tcp).await {
                        serve(&mut tls, &script, &asked, &holding, false).await;
                    }
                });
            }
        });
        FakeServer { port, security, asked, script, connections, holding, _task: task }
    }

    pub(super) fn config(&self, servers: &[&FakeServer]) -> DirectoryConfig {
        DirectoryConfig {
            source: DirectorySource::Servers(servers.iter().map(|server| server.address()).collect()),
            global_catalog: false,
            trust_anchors: vec![self.directory.path().join("ca.pem")],
            bind_user: USER.into(),
            bind_password_file: self.directory.path().join("password"),
            base: None,
            connections: 4,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(5),
        }
    }

    /// Servers that fail rest for longer than a test lasts.
    pub(super) fn directory(&self, servers: &[&FakeServer]) -> Directory {
        load(&self.config(servers))
    }
}

pub(super) fn load(config: &DirectoryConfig) -> Directory {
    load_with(config, Pace { first_rest: Duration::from_hours(1), longest_rest: Duration::from_hours(1), ..Pace::default() })
}

pub(super) fn load_with(config: &DirectoryConfig, pace: Pace) -> Directory {
    Directory::build(config, no_dns(), pace, Duration::from_mins(1)).unwrap()
}

pub(super) fn no_dns() -> Dns {
    Dns::with(|| Err("no name may be looked up".into()))
}

pub(super) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

impl FakeServer {
    pub(super) fn address(&self) -> DirectoryServer {
        DirectoryServer { host: "127.0.0.1".into(), port: self.port, security: self.security }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn binds(&self) -> usize {
        self.asked().iter().filter(|asked| matches!(asked, Asked::Bind { .. })).count()
    }

    pub(super) fn searches(&self) -> Vec<Asked> {
        let asked = self.asked().into_iter();
        asked.filter(|asked| matches!(asked, Asked::Search { base, .. } if !base.is_empty())).collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Binds are answered by one permit each.
    pub(super) fn hold_binds(&self, permits: Arc<Semaphore>) {
        *self.holding.lock().unwrap() = Some(permits);
    }

    pub(super) fn now(&self, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }
}

/// Answers until the peer ends; true once TLS is to begin.
async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &Mutex<Script>,
    log: &Mutex<Vec<Asked>>,
    holding: &Holding,
    clear: bool,
) -> bool {
    let mut buffer = Vec::new();
    loop {
        while let Some(header) = Header::read(&buffer).unwrap().filter(|header| header.total() <= buffer.len()) {
            let message: Vec<u8> = buffer.drain(..header.total()).collect();
            let (number, asked) = read(&message);
            log.lock().unwrap().push(asked.clone());
            let held = holding.lock().unwrap().clone().filter(|_| matches!(asked, Asked::Bind { .. }));
            if let Some(held) = held {
                held.acquire().await.unwrap().forget();
            }
            let script = script.lock().unwrap().clone();
            match script(&asked) {
                Reply::Say(operations) => {
                    for operation in &operations {
                        if stream.write_all(&message_of(number, operation)).await.is_err() {
                            return false;
                        }
                    }
                    if clear && asked == Asked::StartTls && operations == [result(tag::application(24), 0, "")] {
                        return true;
                    }
                }
                Reply::Raw(bytes) => drop(stream.write_all(&bytes).await),
                Reply::Last(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    return false;
                }
                Reply::Nothing => {}
            }
            let _ = stream.flush().await;
        }
        match stream.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return false,
        }
    }
}

fn read(message: &[u8]) -> (i64, Asked) {
    let mut body = Reader::new(message).nested(tag::SEQUENCE).unwrap();
    let number = crate::der::integer(body.read(tag::INTEGER).unwrap()).unwrap();
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let (operation, contents) = body.any().unwrap();
    let mut contents = Reader::new(contents);
    let asked = match operation {
        0x60 => {
            contents.read(tag::INTEGER).unwrap();
            let user = text(contents.read(tag::OCTET_STRING).unwrap());
            Asked::Bind { user, password: text(contents.read(0x80).unwrap()) }
        }
        0x63 => {
            let base = text(contents.read(tag::OCTET_STRING).unwrap());
            let scope = crate::der::integer(contents.read(tag::ENUMERATED).unwrap()).unwrap();
            contents.read(tag::ENUMERATED).unwrap();
            let limit = crate::der::integer(contents.read(tag::INTEGER).unwrap()).unwrap();
            contents.read(tag::INTEGER).unwrap();
            contents.read(tag::BOOLEAN).unwrap();
            let filter = contents.raw().unwrap().1.to_vec();
            let mut list = contents.nested(tag::SEQUENCE).unwrap();
            let mut attributes = Vec::new();
            while !list.is_empty() {
                attributes.push(text(list.read(tag::OCTET_STRING).unwrap()));
            }
            Asked::Search { base, scope, limit, filter, attributes }
        }
        0x77 => Asked::StartTls,
        other => Asked::Other(other),
    };
    (number, asked)
}

pub(super) fn message_of(number: i64, operation: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    crate::der::write_integer(&mut body, number);
    body.extend(operation);
    element(tag::SEQUENCE, &body)
}

pub(super) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, contents);
    out
}

pub(super) fn result(operation: u8, code: u8, diagnostic: &str) -> Vec<u8> {
    let parts = [vec![tag::ENUMERATED, 1, code], vec![tag::OCTET_STRING, 0], element(tag::OCTET_STRING, diagnostic.as_bytes())];
    element(operation, &parts.concat())
}

pub(super) fn done(code: u8) -> Vec<u8> {
    result(tag::application(5), code, "")
}

pub(super) fn entry(dn: &str, attributes: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (name, values) in attributes {
        let values: Vec<u8> = values.iter().flat_map(|value| element(tag::OCTET_STRING, value)).collect();
        let attribute = [element(tag::OCTET_STRING, name.as_bytes()), element(0x31, &values)].concat();
        list.extend(element(tag::SEQUENCE, &attribute));
    }
    let entry = [element(tag::OCTET_STRING, dn.as_bytes()), element(tag::SEQUENCE, &list)].concat();
    element(tag::application(4), &entry)
}

pub(super) fn reference(uri: &str) -> Vec<u8> {
    element(tag::application(19), &element(tag::OCTET_STRING, uri.as_bytes()))
}

pub(super) fn sid(rid: u32) -> Sid {
    Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap()
}

/// Alice, as a domain controller shows her.
pub(super) fn account(sid: &Sid) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let text = |text: &str| vec![text.as_bytes().to_vec()];
    vec![
        ("objectSid", vec![sid.to_binary()]),
        ("sAMAccountName", text("alice")),
        ("userPrincipalName", text("alice@corp.example")),
        ("sAMAccountType", text("805306368")),
        ("userAccountControl", text("512")),
        ("msDS-User-Account-Control-Computed", text("0")),
        ("accountExpires", text("9223372036854775807")),
        ("pwdLastSet", text("134000000000000000")),
        ("primaryGroupID", text("513")),
        ("whenCreated", text("20260102030405.0Z")),
        ("tokenGroups", vec![Sid::new(5, vec![21, 1, 2, 3, 513]).unwrap().to_binary()]),
        ("altSecurityIdentities", vec![b"X509:<SKI>00ff".to_vec()]),
        ("mail", text("alice@corp.example")),
    ]
}

pub(super) fn root_dse(domain: &str) -> Reply {
    let text = |text: &str| vec![text.as_bytes().to_vec()];
    let attributes = [
        ("defaultNamingContext", text(domain)),
        ("configurationNamingContext", text("CN=Configuration,DC=corp,DC=example")),
        ("rootDomainNamingContext", text(DOMAIN)),
        ("dnsHostName", text("dc1.corp.example")),
    ];
    Reply::Say(vec![entry("", &attributes), done(0)])
}

/// A domain controller of [`DOMAIN`] with one account, [`ALICE`] with RID 1104.
pub(super) fn sound(asked: &Asked) -> Reply {
    controller(asked, DOMAIN, &[(ALICE, 1104)])
}

/// One that finds these accounts whatever the question is.
pub(super) fn controller(asked: &Asked, domain: &str, accounts: &[(&str, u32)]) -> Reply {
    match asked {
        Asked::StartTls => Reply::Say(vec![result(tag::application(24), 0, "")]),
        Asked::Bind { user, password } if user == USER && password == PASSWORD => {
            Reply::Say(vec![result(tag::application(1), 0, "")])
        }
        Asked::Bind { .. } => {
            let said = "80090308: LdapErr: DSID-0C090446, comment: AcceptSecurityContext error, data 52e, v2580\0";
            Reply::Say(vec![result(tag::application(1), 49, said)])
        }
        Asked::Search { base, scope: 0, .. } if base.is_empty() => root_dse(domain),
        Asked::Search { base, scope: 0, .. } => {
            let found = accounts.iter().find(|(_, rid)| *base == format!("<SID={}>", sid(*rid)));
            Reply::Say(match found {
                Some((dn, rid)) => vec![entry(dn, &account(&sid(*rid))), done(0)],
                None => vec![done(32)],
            })
        }
        Asked::Search { .. } => {
            let hits = accounts.iter().map(|(dn, rid)| entry(dn, &[("objectSid", vec![sid(*rid).to_binary()])]));
            Reply::Say(hits.chain([done(0)]).collect())
        }
        Asked::Other(_) => Reply::Nothing,
    }
}
