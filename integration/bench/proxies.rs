//! The bridge with a fresh token on every request, and nginx as a plain mTLS reverse proxy, taking turns under the same load: kept
//! connections of several users, TLS 1.3 with AES-256-GCM and X25519. Run by `make bench`, which starts everything and pins it to
//! cores; prints figures and ratios, and writes them as JSON to the file that `KCD_BENCH_JSON` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    missing_docs,
    unreachable_pub,
    reason = "a measurement ends at the first surprise and prints what it saw"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const PATH: &str = "/Microsoft-Server-ActiveSync/fast";
/// Certificates `user01` to `user16`.
const USERS: usize = 16;
/// Processor time in /proc is counted in hundredths of a second (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

struct Case {
    name: &'static str,
    title: &'static str,
    port: u16,
    /// what routes to the back end
    host: &'static str,
    /// file with the number of the process
    pid: &'static str,
}

const NGINX: Case = Case { name: "nginx", title: "nginx, plain mTLS", port: 8444, host: "plain.corp.example", pid: "nginx.pid" };
/// The same back end behind both: it looks at no token.
const BRIDGE: Case =
    Case { name: "bridge", title: "bridge, fresh token", port: 8443, host: "plain.corp.example", pid: "bridge.pid" };
/// A back end that checks each token, which is in these figures too.
const CHECKED: Case =
    Case { name: "bridge_checked", title: "bridge, token checked", port: 8443, host: "mbx1.corp.example", pid: "bridge.pid" };

/// One turn of one case.
struct Turn {
    requests_per_second: f64,
    p99_ms: f64,
    /// of the proxy's process, for one request
    cpu_us: f64,
}

struct Load {
    lab: String,
    requests: usize,
    connections: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let number = |name: &str| -> usize { std::env::var(name).ok().and_then(|text| text.parse().ok()).expect(name) };
    let load = Load {
        lab: std::env::var("KCD_LAB").expect("run this by `make bench`"),
        requests: number("KCD_BENCH_REQUESTS"),
        connections: number("KCD_BENCH_CONNECTIONS"),
    };
    let rounds = number("KCD_BENCH_ROUNDS");
    let cases = [NGINX, BRIDGE, CHECKED];
    let Load { requests, connections, .. } = load;
    println!(
        "\n{rounds} rounds of {requests} requests over {connections} connections of {USERS} users, TLS 1.3, AES-256-GCM, X25519\n"
    );
    println!("{:>5}  {:<22} {:>9} {:>9} {:>16}", "round", "", "1/s", "p99 ms", "CPU us/request");
    let mut turns: [Vec<Turn>; 3] = Default::default();
    for round in 0..=rounds {
        // There and back, so that nobody always follows the same one. The first round warms up.
        let there = [0, 1, 2];
        let back = [2, 1, 0];
        for index in if round % 2 == 0 { back } else { there } {
            let turn = load.turn(&cases[index]).await;
            if round > 0 {
                println!("{round:>5}  {}", line(&cases[index], &turn));
                turns[index].push(turn);
            }
        }
    }
    report(&load, &cases, &turns);
}

impl Load {
    async fn turn(&self, case: &Case) -> Turn {
        let mut devices = Vec::new();
        for number in 0..self.connections {
            let mut device = self.connect(case, number % USERS + 1).await;
            request(&mut device, case).await;
            devices.push(device);
        }
        let each = self.requests / self.connections;
        let (cpu, start) = (self.cpu_time(case), Instant::now());
        let mut running = JoinSet::new();
        for mut device in devices {
            let case = Case { ..*case };
            running.spawn(async move {
                let mut took = Vec::with_capacity(each);
                for _ in 0..each {
                    let start = Instant::now();
                    request(&mut device, &case).await;
                    took.push(start.elapsed().as_secs_f64());
                }
                took
            });
        }
        let took: Vec<f64> = running.join_all().await.into_iter().flatten().collect();
        let (wall, cpu) = (start.elapsed(), self.cpu_time(case).saturating_sub(cpu));
        let count = took.len() as f64;
        Turn {
            requests_per_second: count / wall.as_secs_f64(),
            p99_ms: sorted(&took)[took.len() * 99 / 100] * 1e3,
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
        }
    }

    async fn connect(&self, case: &Case, user: usize) -> SendRequest<Empty<Bytes>> {
        let pki = |name: &str| Path::new(&self.lab).join("pki").join(name);
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki("server-ca.pem")).expect("the server CA")).expect("a trust anchor");
        let certificate = CertificateDer::from_pem_file(pki(&format!("user{user:02}.pem"))).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(pki(&format!("user{user:02}.key"))).expect("its key");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .expect("the certificate fits its key");
        let tcp = TcpStream::connect(("127.0.0.1", case.port)).await.expect("the proxy listens");
        tcp.set_nodelay(true).expect("a socket option");
        let name = ServerName::try_from("bridge.corp.example").expect("a name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a TLS session");
        let (sender, connection) = handshake(TokioIo::new(tls)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }

    /// Processor time of the proxy and its children: nginx works in one.
    fn cpu_time(&self, case: &Case) -> Duration {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let pid = read(&format!("{}/bench/{}", self.lab, case.pid)).trim().to_owned();
        let children = read(&format!("/proc/{pid}/task/{pid}/children"));
        let ticks = [&*pid].into_iter().chain(children.split_whitespace()).map(|pid| {
            let stat = read(&format!("/proc/{pid}/stat"));
            // utime and stime are the fields 14 and 15; the name, field 2, ends at the last parenthesis.
            let fields = stat.rsplit(')').next().expect("fields").split_whitespace().skip(11).take(2);
            fields.map(|field| field.parse::<u32>().expect("a number")).sum::<u32>()
        });
        TICK * ticks.sum::<u32>()
    }
}

async fn request(device: &mut SendRequest<Empty<Bytes>>, case: &Case) {
    device.ready().await.expect("the connection is kept");
    let request = Request::get(PATH).header("host", case.host).body(Empty::new()).expect("a request");
    let response = device.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200, "{}", case.title);
    response.into_body().collect().await.expect("the whole answer");
}

fn line(case: &Case, turn: &Turn) -> String {
    format!("{:<22} {:>9.0} {:>9.1} {:>16.1}", case.title, turn.requests_per_second, turn.p99_ms, turn.cpu_us)
}

fn report(load: &Load, cases: &[Case; 3], turns: &[Vec<Turn>; 3]) {
    let column = |index: usize, figure: fn(&Turn) -> f64| turns[index].iter().map(figure).collect::<Vec<_>>();
    println!("\n       median");
    let mut proxies = serde_json::Map::new();
    for (index, case) in cases.iter().enumerate() {
        let (rate, slow) = (column(index, |turn| turn.requests_per_second), column(index, |turn| turn.p99_ms));
        let cpu = column(index, |turn| turn.cpu_us);
        let middle = Turn { requests_per_second: median(&rate), p99_ms: median(&slow), cpu_us: median(&cpu) };
        println!("       {}", line(case, &middle));
        let figures =
            json!({ "requests_per_second": spread(&rate), "p99_ms": spread(&slow), "cpu_us_per_request": spread(&cpu) });
        proxies.insert(case.name.to_owned(), figures);
    }
    println!();
    let mut ratios = serde_json::Map::new();
    for (index, case) in cases.iter().enumerate().skip(1) {
        let to_nginx = |figure: fn(&Turn) -> f64| {
            column(index, figure).iter().zip(column(0, figure)).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>()
        };
        let (rate, cpu) = (to_nginx(|turn| turn.requests_per_second), to_nginx(|turn| turn.cpu_us));
        let text = |values: &[f64]| {
            let sorted = sorted(values);
            format!("{:.3} ({:.3} to {:.3})", median(values), sorted[0], sorted[sorted.len() - 1])
        };
        println!("{} / nginx: requests per second {}, processor time per request {}", case.title, text(&rate), text(&cpu));
        ratios.insert(case.name.to_owned(), json!({ "requests_per_second": spread(&rate), "cpu_us_per_request": spread(&cpu) }));
    }
    if let Some(file) = std::env::var_os("KCD_BENCH_JSON") {
        let run = json!({ "rounds": turns[0].len(), "requests": load.requests, "connections": load.connections, "users": USERS });
        let figures = json!({ "run": run, "proxies": proxies, "ratios_to_nginx": ratios });
        std::fs::write(file, figures.to_string()).expect("the figures are written");
    }
}

fn spread(values: &[f64]) -> Value {
    let sorted = sorted(values);
    json!({ "min": sorted[0], "median": median(values), "max": sorted[sorted.len() - 1] })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> f64 {
    sorted(values)[values.len() / 2]
}
