//! The proxy on real sockets: devices and back ends are written here, tokens are fixed texts.

mod answers;
mod authentication;
mod connections;
mod devices;
mod malformed;
mod self_test;
mod standing;
mod streaming;

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::audit::AuditWriter;
use crate::certificate::CertificateFacts;
use crate::identity::{ExpectedSid, Principal};
use crate::kerberos::{ChannelBinding, IssuedToken, NegotiateToken, PendingReply, TicketFacts, TicketId, Verdict};
use crate::naming::name::Spn;
use crate::policy::{Fingerprint, Target, TokenFormat};
use crate::shutdown::ShutdownTrigger;

/// Nothing in these tests may take longer; what does hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Events that the audit log has places for.
const AUDIT_PLACES: usize = 64;

/// Tokens are `user|ticket|number|binding`; the answer that proves the server is `proof|` and the token.
#[derive(Debug, Default)]
struct FixedTokens {
    asked: AtomicUsize,
    /// No token is issued while a test holds it.
    gate: tokio::sync::Mutex<()>,
    issued: AtomicUsize,
    forgotten: AtomicUsize,
    forget_refused: bool,
    /// Whose tickets were dropped.
    evicted: Mutex<Vec<String>>,
    refused: Mutex<HashMap<String, Cause>>,
}

#[derive(Debug)]
struct FixedReply(String);

impl TokenSource for Arc<FixedTokens> {
    type Reply = FixedReply;

    async fn token(
        &self,
        grant: &Grant,
        binding: Option<&ChannelBinding>,
        _: Instant,
    ) -> Result<IssuedToken<FixedReply>, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().await);
        let user = grant.principal().to_string();
        if let Some(cause) = self.refused.lock().unwrap().get(&user) {
            return Err(Failure::new(*cause, "secret detail"));
        }
        let binding = binding.map_or(String::new(), |binding| format!("{:02x?}", binding.certificate_hash));
        let (ticket, number) = (self.forgotten.load(Ordering::SeqCst), self.issued.fetch_add(1, Ordering::SeqCst));
        let text = format!("{user}|{ticket}|{number}|{binding}");
        let facts = TicketFacts {
            client: format!("{user}@CORP"),
            ticket_etype: 18,
            session_etype: 18,
            evidence_etype: 18,
            flags: 0x4000_0000,
            cache_hit: true,
            ..TicketFacts::default()
        };
        Ok(IssuedToken { token: NegotiateToken::new(text.clone().into_bytes()), reply: FixedReply(text), facts })
    }

    fn forget(&self, _: &Grant, _: TicketId) -> bool {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        !self.forget_refused
    }

    fn evict(&self, principal: &Principal) -> usize {
        self.evicted.lock().unwrap().push(principal.to_string());
        1
    }

    fn evict_spn(&self, spn: &Spn) -> usize {
        self.evicted.lock().unwrap().push(spn.to_string());
        1
    }
}

impl PendingReply for FixedReply {
    fn judge(self, values: &[HeaderValue]) -> Result<Verdict, Failure> {
        let texts: Vec<_> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        if !texts.is_empty() && texts.iter().all(|text| *text == "NTLM") {
            return Ok(Verdict::NtlmOnly);
        }
        let Some(data) = texts.iter().find_map(|text| text.strip_prefix("Negotiate ")) else { return Ok(Verdict::Absent) };
        let data = base64_simd::STANDARD.decode_to_vec(data).map_err(|_| Cause::NegotiationInvalid)?;
        match std::str::from_utf8(&data).unwrap() {
            "modified" => Ok(Verdict::KrbError { code: 41, reacquire: true }),
            "skew" => Ok(Verdict::KrbError { code: 37, reacquire: false }),
            "reject" => Ok(Verdict::Rejected),
            proof if proof == format!("proof|{}", self.0) => Ok(Verdict::Proved),
            _ => Err(Failure::new(Cause::MutualFailed, "wrong AP-REP")),
        }
    }
}

fn negotiate(data: &str) -> String {
    format!("Negotiate {}", base64_simd::STANDARD.encode_to_string(data))
}

/// The text of the token in an `Authorization` value.
fn token_of(authorization: &str) -> String {
    let data = authorization.strip_prefix("Negotiate ").expect("a Negotiate token");
    String::from_utf8(base64_simd::STANDARD.decode_to_vec(data).unwrap()).unwrap()
}

/// A bridge with one back end for every path, `limits` of its own and an audit log in memory.
struct Bridge {
    proxy: Arc<Proxy<Arc<FixedTokens>>>,
    tokens: Arc<FixedTokens>,
    trigger: ShutdownTrigger,
    log: Arc<Mutex<Vec<u8>>>,
    writer: AuditWriter,
}

struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn backend_at(address: SocketAddr) -> BackendConfig {
    BackendConfig {
        target: Arc::new(Target {
            name: "mbx".into(),
            spn: Spn::parse("HTTP/mbx.corp.example").unwrap(),
            allow_rc4: false,
            token_format: TokenFormat::Spnego,
        }),
        profile: Profile::Generic,
        authority: Authority { host: address.ip().to_string(), port: address.port() },
        transport: Transport::Http,
        host_header: "mbx.corp.example".into(),
        channel_binding: true,
        mutual: Mutual::Required,
        identity_bound: false,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(1),
        max_idle_per_principal: 4,
        max_body_bytes: 64 << 20,
        replay_buffer_bytes: 1 << 20,
        max_connections_per_principal: 32,
        max_connections: 64,
        self_test: None,
    }
}

const LIMITS: HeadLimits =
    HeadLimits { max_header_bytes: 16384, header_timeout: Duration::from_secs(10), idle_timeout: Duration::from_secs(10) };

/// A certificate that stands for this, until the test says otherwise.
struct Judged {
    account: Mutex<Result<Arc<Principal>, Failure>>,
    recheck: Duration,
    /// Whether somebody has to be asked first.
    asking: bool,
    judgements: AtomicUsize,
    unvouched: Option<Failure>,
}

impl Judged {
    fn new(account: Result<Arc<Principal>, Failure>) -> Self {
        Self { account: Mutex::new(account), recheck: PATIENCE, asking: false, judgements: AtomicUsize::new(0), unvouched: None }
    }

    fn now(&self, account: Result<Arc<Principal>, Failure>) {
        *self.account.lock().unwrap() = account;
    }
}

impl Standing for Judged {
    fn account(&self) -> Judgement<'_> {
        let account = self.account.lock().unwrap().clone();
        self.judgements.fetch_add(1, Ordering::SeqCst);
        if !self.asking {
            return Judgement::Known(account);
        }
        Judgement::Asking(Box::pin(async {
            tokio::task::yield_now().await;
            account
        }))
    }

    fn unvouched(&self) -> Option<Failure> {
        self.unvouched.clone()
    }

    fn recheck_interval(&self) -> Duration {
        self.recheck
    }
}

fn account(user: &str) -> Arc<Principal> {
    Arc::new(Principal::for_test(user, ExpectedSid::PinOnFirstUse))
}

impl Bridge {
    fn to(address: SocketAddr) -> Self {
        Self::with(backend_at(address), LIMITS, FixedTokens::default())
    }

    fn with(backend: BackendConfig, limits: HeadLimits, tokens: FixedTokens) -> Self {
        let log = Arc::default();
        let (audit, writer) = AuditLog::start(Memory(Arc::clone(&log)), AUDIT_PLACES).unwrap();
        let route = RouteConfig { host: None, path: "/eas".into(), backend: 0 };
        let tokens = Arc::new(tokens);
        let proxy = Proxy::new(Arc::clone(&tokens), vec![backend], vec![route], audit, limits, Duration::from_secs(5)).unwrap();
        Self { proxy: Arc::new(proxy), tokens, trigger: ShutdownTrigger::new(), log, writer }
    }

    fn caller(user: &str) -> Caller {
        let mut fingerprint = [0; 32];
        for (place, byte) in fingerprint.iter_mut().zip(user.bytes()) {
            *place = byte;
        }
        Caller {
            certificate: CertificateFacts {
                fingerprint: Fingerprint(fingerprint),
                issuer: "CN=Device CA".into(),
                serial: "01".into(),
                subject: String::new(),
                templates: Vec::new(),
                policies: Vec::new(),
                not_after: 4_000_000_000,
            },
            standing: Arc::new(Judged::new(Ok(account(user)))),
        }
    }

    async fn device(&self, user: &str) -> Device {
        self.device_as(Self::caller(user)).await
    }

    async fn device_as(&self, caller: Caller) -> Device {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (io, peer) = accepted.unwrap();
        tokio::spawn(serve_connection(Arc::clone(&self.proxy), io, caller, peer, self.trigger.listen()));
        Device { stream: stream.unwrap(), buffer: Vec::new() }
    }

    /// Stops the bridge, waits until its connections are closed, and returns every audit event.
    async fn finish(self) -> Vec<Value> {
        self.trigger.stop(Duration::from_secs(2)).await;
        drop((self.proxy, self.tokens));
        let writer = self.writer;
        soon(tokio::task::spawn_blocking(|| writer.finish())).await.unwrap();
        let text = String::from_utf8(self.log.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Waits until this holds.
async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A device's end of a connection; speaks raw bytes.
struct Device {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    line: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Device {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends a request and reads its answer.
    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer().await
    }

    async fn get(&mut self, target: &str) -> Answer {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: mail.example\r\n\r\n")).await
    }

    async fn post(&mut self, body: &str) -> Answer {
        self.ask(format!("POST /eas?Cmd=Sync HTTP/1.1\r\nHost: mail.example\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await
    }

    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 65536];
        let read = soon(self.stream.read(&mut chunk)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }

    async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(self.more().await, "closed within a head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(": ").map(|(name, value)| (name.into(), value.into())).unwrap()).collect();
        Answer { status: line[9..12].parse().unwrap(), line, headers, body: Vec::new() }
    }

    async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding").is_some() {
            loop {
                let end = self.position(b"\r\n").await;
                let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..end]).unwrap(), 16).unwrap();
                while self.buffer.len() < end + 2 + size + 2 {
                    assert!(self.more().await, "closed within a chunk");
                }
                answer.body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
                self.buffer.drain(..end + 2 + size + 2);
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = answer.header("content-length").map_or(0, |value| value.parse().unwrap());
            while self.buffer.len() < length {
                assert!(self.more().await, "closed within a body");
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        answer
    }

    async fn position(&mut self, mark: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|part| part == mark) {
                return at;
            }
            assert!(self.more().await, "closed before {mark:?}");
        }
    }

    /// Whether the bridge has closed without another byte.
    async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }
}

type Page = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

fn page(status: u16, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *page.status_mut() = status.try_into().unwrap();
    page
}

/// A page with the proof that answers this request's token.
fn proved(request_headers: &http::HeaderMap, status: u16, body: impl Into<Bytes>) -> Page {
    let token = token_of(request_headers["authorization"].to_str().unwrap());
    with(page(status, body), "www-authenticate", &negotiate(&format!("proof|{token}")))
}

fn with(mut page: Page, name: &'static str, value: &str) -> Page {
    page.headers_mut().append(name, value.parse().unwrap());
    page
}

/// A back end that answers by a function of the request and the number of its connection.
async fn backend<F, R>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Page> + Send + 'static,
{
    raw_backend(move |stream, number| {
        let answer = answer.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let answering = answer(request, number);
                async move { Ok::<_, std::convert::Infallible>(answering.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

/// A back end that does with its connections what it likes.
async fn raw_backend<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, number));
        }
    });
    address
}

/// Reads one request's head from a raw back end's connection; `None` at its end.
async fn raw_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn header_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
}

/// The `WWW-Authenticate` line that proves the server to the sender of this head.
fn raw_proof(head: &str) -> String {
    format!("WWW-Authenticate: {}\r\n", negotiate(&format!("proof|{}", token_of(header_of(head, "authorization").unwrap()))))
}

/// Answers 200 with a body that says who asked, proved.
async fn echo_user(request: Request<Incoming>, _: usize) -> Page {
    let (head, body) = request.into_parts();
    let _ = body.collect().await;
    let user = token_of(head.headers["authorization"].to_str().unwrap()).split('|').next().unwrap().to_owned();
    proved(&head.headers, 200, user)
}
