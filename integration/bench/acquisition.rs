//! The engine against a real KDC: how fast it acquires beside the least that libkrb5 needs for the same, what a crowd that arrives at
//! once has to wait, what a hundred thousand users cost in memory, what a hit costs, and what happens when every KDC is silent. Run by
//! `make bench`; prints figures, judges nothing but reports the goals. The same figures go as JSON to the file that `KCD_BENCH_JSON`
//! names.
//!
//! The KDC is MIT's with one person who is known by every spelling of a long name: the cache and the KDC take each for a user of its own.
//! Her ticket is of about 2 KB. The engine asks through the relay, as in the bridge.

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

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kcd_bridge::failure::Failure;
use kcd_bridge::identity::{Principal, RequestedName};
use kcd_bridge::kerberos::TokenSource as _;
use kcd_bridge::kerberos::acquire::gss::set_environment;
use kcd_bridge::kerberos::acquire::krb5_conf;
use kcd_bridge::kerberos::config::{Engine, KdcAddress, KdcSource, KerberosConfig};
use kcd_bridge::kerberos::delegator::Delegator;
use kcd_bridge::kerberos::relay::{BoundRelay, Relay, RelayConfig, RelayObserver};
use kcd_bridge::naming::name::{OwnPrincipal, Spn};
use kcd_bridge::policy::{Fingerprint, Grant, Target, TokenFormat};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// At a time, in the engine and in the client it is compared with.
const CONCURRENCY: usize = 8;
const ROUNDS: usize = 5;
/// Users in one turn of the comparison, who arrive at once, and who are kept.
const TURN: usize = 1000;
const CROWD: usize = 3000;
const KEPT: usize = 100_000;
/// Hits in one turn.
const HITS: usize = 200_000;
/// What a request may wait where KDCs are silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a request waits at most, as the product has it by default.
const REQUEST: Duration = Duration::from_secs(6);
/// The soft age of the tickets that ride through the silence.
const SOFT_AGE: Duration = Duration::from_secs(3);
const NEWCOMERS: usize = 40;

fn main() {
    let lab = Lab::new();
    let relay = Relay::bind().expect("a port for the relay");
    let kdc = Kdc::of(&lab);
    let config = lab.config();
    let file = lab.directory.path().join("krb5.conf");
    std::fs::write(&file, krb5_conf::render(&config, relay.port(), false)).expect("krb5.conf is written");
    // The client it is compared with asks the KDC itself, by a configuration that is the same otherwise.
    std::fs::write(lab.client_config(), krb5_conf::render(&config, lab.kdc.port(), false)).expect("krb5.conf is written");
    set_environment(&file).expect("nothing else runs yet");
    let bench = Bench::start(lab, config, relay);
    let figures = json!({
        "acquisition": bench.acquisition(),
        "crowd": bench.crowd(),
        "kept": bench.kept(),
        "hit": bench.hit(),
        "silence": bench.silence(&kdc),
    });
    if let Some(file) = std::env::var_os("KCD_BENCH_JSON") {
        std::fs::write(file, figures.to_string()).expect("the figures are written");
    }
}

/// The lab's realm for this.
struct Lab {
    path: PathBuf,
    kdc: SocketAddr,
    directory: tempfile::TempDir,
}

impl Lab {
    const PRINCIPAL: &str = "svc-transition@EAST.EXAMPLE";
    const SPN: &str = "HTTP/mbx.east.example";
    /// More letters than are needed to spell a hundred thousand users and all that the other measurements use up.
    const PERSON: &str = "somebody.with.many.spellings@east.example";

    fn new() -> Self {
        let path: PathBuf = std::env::var_os("KCD_LAB").expect("run this through `integration/lab.sh run`").into();
        let table = std::fs::read_to_string(path.join("realms/kdcs.tsv")).expect("the lab's realms");
        let row = table.lines().find_map(|line| line.strip_prefix("EAST.EXAMPLE\t")).expect("the realm's KDC");
        let kdc = row.replace('\t', ":").parse().expect("its address");
        Self { path, kdc, directory: tempfile::tempdir().expect("a directory") }
    }

    fn client_config(&self) -> PathBuf {
        self.directory.path().join("client.conf")
    }

    fn keytab(&self) -> PathBuf {
        self.path.join("realms/svc-transition.keytab")
    }

    fn config(&self) -> KerberosConfig {
        let principal = OwnPrincipal::parse(Self::PRINCIPAL).expect("a principal");
        let kdc = KdcAddress { host: self.kdc.ip().to_string(), port: self.kdc.port() };
        KerberosConfig {
            realms: [(principal.realm().clone(), KdcSource::List(vec![kdc]))].into(),
            canaries: std::collections::BTreeMap::new(),
            paces: std::collections::BTreeMap::new(),
            principal,
            keytab: self.keytab(),
            engine: Engine::Native,
            workers: CONCURRENCY,
            queue: KEPT,
            acquire_timeout: PATIENCE,
            kdc_timeout: Duration::from_secs(1),
            soft_age: Duration::from_hours(1),
            max_ride_through: Duration::from_hours(1),
            clock_skew: Duration::from_mins(5),
            cache_bytes: 2 << 30,
            denied_groups: vec![512],
            denied_accounts: vec![500],
            runtime_directory: self.directory.path().to_owned(),
        }
    }
}

/// The KDC's process, which can be frozen: it accepts connections then and says nothing. Thawed when dropped.
struct Kdc(Pid);

impl Kdc {
    fn of(lab: &Lab) -> Self {
        let table = std::fs::read_to_string(lab.path.join("state/processes")).expect("what the lab started");
        let row = table.lines().find_map(|line| line.strip_prefix("krb5kdc-east ")).expect("the realm's KDC");
        let pid = row.split(' ').next().and_then(|pid| pid.parse().ok()).expect("its number");
        Self(Pid::from_raw(pid).expect("its number"))
    }

    fn frozen(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(self.0, signal).expect("the KDC is there");
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        self.frozen(false);
    }
}

struct Bench {
    lab: Lab,
    runtime: Runtime,
    observer: RelayObserver,
    delegator: Delegator,
    target: Arc<Target>,
    client: PathBuf,
    users: AtomicUsize,
}

impl Bench {
    fn start(lab: Lab, config: KerberosConfig, relay: BoundRelay) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let observer = relay.observer();
        let relay_config = RelayConfig::from(&config);
        runtime.spawn(relay.serve(relay_config, std::future::pending()));
        let delegator = Delegator::start(config, observer.clone()).expect("the engine");
        let spn = Spn::parse(Lab::SPN).expect("an SPN");
        let target = Arc::new(Target { name: "mbx".into(), spn, allow_rc4: false, token_format: TokenFormat::Spnego });
        let client = lab.directory.path().join("s4u");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/s4u.c");
        let compiled = Command::new("gcc").args(["-std=gnu11", "-O2", source, "-lkrb5", "-lpthread", "-o"]).arg(&client).status();
        assert!(compiled.expect("gcc").success());
        Self { lab, runtime, observer, delegator, target, client, users: AtomicUsize::new(0) }
    }

    /// Users nobody has asked for yet.
    fn newcomers(&self, count: usize) -> Vec<String> {
        let first = self.users.fetch_add(count, Ordering::Relaxed);
        (first..first + count).map(spelling).collect()
    }

    fn grant(&self, user: &str) -> Grant {
        let principal = Principal::for_diagnosis(RequestedName::Enterprise(user.into()));
        Grant::authorize(Arc::new(principal), Fingerprint([0; 32]), Arc::clone(&self.target))
    }

    /// Tokens for all of them at once, each asked for until it is there, as devices do that heed `Retry-After`. When each was there.
    fn arrive(&self, users: &[String]) -> Vec<Duration> {
        self.arrive_at(&self.delegator, users)
    }

    fn arrive_at(&self, delegator: &Delegator, users: &[String]) -> Vec<Duration> {
        let start = Instant::now();
        let arrivals: Vec<_> = users
            .iter()
            .map(|user| {
                let (delegator, grant) = (delegator.clone(), self.grant(user));
                self.runtime.spawn(async move {
                    loop {
                        match delegator.token(&grant, None, Instant::now() + REQUEST).await {
                            Ok(token) => {
                                black_box(token);
                                return start.elapsed();
                            }
                            Err(Failure { retry_after: Some(wait), .. }) => {
                                // In whole seconds, as the header says it.
                                tokio::time::sleep(Duration::from_secs(wait.as_secs() + 1)).await;
                            }
                            Err(failure) => panic!("{failure}"),
                        }
                    }
                })
            })
            .collect();
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(arrivals.len());
            for arrival in arrivals {
                times.push(arrival.await.expect("a ticket"));
            }
            times
        })
    }

    fn acquisition(&self) -> Value {
        let (mut ours, mut theirs, mut ratios, mut our_cpu, mut their_cpu) = (vec![], vec![], vec![], vec![], vec![]);
        for round in 0..=ROUNDS {
            let users = self.newcomers(TURN);
            let (cpu, start) = (processor_time(), Instant::now());
            self.arrive(&users);
            let (took, cpu) = (start.elapsed(), processor_time().saturating_sub(cpu));
            let (client_took, client_cpu) = self.client_turn();
            // The first round warms up.
            if round > 0 {
                ours.push(TURN as f64 / took.as_secs_f64());
                theirs.push(TURN as f64 / client_took);
                ratios.push(client_took / took.as_secs_f64());
                our_cpu.push(cpu.as_secs_f64() * 1e3 / TURN as f64);
                their_cpu.push(client_cpu * 1e3 / TURN as f64);
            }
        }
        let [ours, theirs, ratio, cpu, client_cpu] = [ours, theirs, ratios, our_cpu, their_cpu].map(|values| median(&values));
        println!("acquisitions, {CONCURRENCY} at a time, {ROUNDS} rounds of {TURN}, taking turns (medians)\n");
        println!(
            "the engine, through the relay:  {ours:8.0} users a second, {cpu:.2} ms of processor time each   (goal: at most 1)"
        );
        println!("libkrb5 called directly from C: {theirs:8.0} users a second, {client_cpu:.2} ms of processor time each");
        println!("engine / direct:                {ratio:8.2}   (goal: at least 0.9)");
        json!({
            "users_per_second": ours, "direct_users_per_second": theirs,
            "ratio": { "median": ratio, "goal_at_least": 0.9 },
            "processor_ms": { "median": cpu, "goal_at_most": 1 }, "direct_processor_ms": client_cpu,
        })
    }

    /// Seconds, and seconds of processor time, of the C client for as many users.
    fn client_turn(&self) -> (f64, f64) {
        let mut command = Command::new(&self.client);
        command.arg(self.lab.keytab()).args([Lab::PRINCIPAL, &format!("{}@EAST.EXAMPLE", Lab::SPN), &CONCURRENCY.to_string()]);
        command.args(self.newcomers(TURN)).env("KRB5_CONFIG", self.lab.client_config());
        let output = command.output().expect("the C client");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("two numbers");
        let (seconds, cpu) = text.trim().split_once(' ').expect("two numbers");
        (seconds.parse().expect("seconds"), cpu.parse().expect("seconds"))
    }

    fn crowd(&self) -> Value {
        let mut ratios = Vec::new();
        let mut last = (Duration::ZERO, 0.0);
        for _ in 0..3 {
            // What this KDC can do now, with as many at a time.
            let (seconds, _) = self.client_turn();
            let can = TURN as f64 / seconds;
            let times = self.arrive(&self.newcomers(CROWD));
            assert_eq!(times.len(), CROWD);
            last = (times.into_iter().max().expect("a crowd"), can);
            ratios.push(last.0.as_secs_f64() * can / CROWD as f64);
        }
        let ratio = median(&ratios);
        println!("\n{CROWD} users at once, the KDC can do {:.0} a second: all are served, the last after {:.1?}", last.1, last.0);
        println!("the last / users divided by what the KDC can do: {ratio:.2}   (median of 3; goal: at most 1.3)");
        json!({ "users": CROWD, "last_served_seconds": last.0.as_secs_f64(), "ratio": { "median": ratio, "goal_at_most": 1.3 } })
    }

    fn kept(&self) -> Value {
        let there = usize::try_from(self.delegator.numbers().tickets).expect("a count");
        // The crowd is made in parts, so that what waits for it is not what is weighed.
        let mut left = KEPT.saturating_sub(there);
        while left > 0 {
            let part = left.min(2000);
            self.arrive(&self.newcomers(part));
            left -= part;
        }
        let numbers = self.delegator.numbers();
        let tickets = self.delegator.cached_ticket_bytes() as f64 / numbers.tickets as f64;
        let resident = resident() as f64 / 1e6;
        println!(
            "\n{} users with tickets of {tickets:.0} bytes: {resident:.0} MB resident, all included   (goal for 100,000: at most 600)",
            numbers.tickets
        );
        json!({ "users": numbers.tickets, "ticket_bytes": tickets, "resident_mb": { "value": resident, "goal_at_most": 600 } })
    }

    fn hit(&self) -> Value {
        let users: Vec<Grant> = (0..1000).map(|_| ()).zip(self.newcomers(1000)).map(|((), user)| self.grant(&user)).collect();
        for grant in &users {
            self.runtime.block_on(self.delegator.token(grant, None, Instant::now() + PATIENCE)).expect("a ticket");
        }
        let turn = |threads: usize| {
            let (cpu, start) = (processor_time(), Instant::now());
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (users, delegator) = (&users, &self.delegator);
                    scope.spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                        runtime.block_on(async {
                            for number in 0..HITS {
                                let grant = &users[(number * 7 + thread) % users.len()];
                                black_box(delegator.token(grant, None, Instant::now() + PATIENCE).await.expect("a token"));
                            }
                        });
                    });
                }
            });
            let hits = (threads * HITS) as f64;
            ((processor_time().saturating_sub(cpu)).as_secs_f64() * 1e6 / hits, hits / start.elapsed().as_secs_f64())
        };
        turn(1);
        let (one, two): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (turn(1), turn(2))).unzip();
        let cost = median(&one.iter().map(|(cost, _)| *cost).collect::<Vec<_>>());
        let scale = median(&one.iter().zip(&two).map(|((_, one), (_, two))| two / one).collect::<Vec<_>>());
        println!("\na hit: {cost:.2} us of processor time   (goal: at most 3)");
        println!("hits on 2 threads / on 1: {scale:.2}");
        json!({ "processor_us": { "median": cost, "goal_at_most": 3 }, "two_threads_to_one": scale })
    }

    /// Users with tickets before and past their soft age, others meanwhile. A request waits for the relay's deadline and a moment.
    fn silence(&self, kdc: &Kdc) -> Value {
        let config = KerberosConfig { soft_age: SOFT_AGE, ..self.lab.config() };
        let delegator = Delegator::start(config, self.observer.clone()).expect("the engine");
        let known = self.newcomers(1000);
        self.arrive_at(&delegator, &known);
        kdc.frozen(true);
        let strangers = self.newcomers(NEWCOMERS);
        let refused: Vec<_> = strangers
            .iter()
            .map(|user| {
                let (delegator, grant) = (delegator.clone(), self.grant(user));
                self.runtime.spawn(async move {
                    let start = Instant::now();
                    let failure = delegator.token(&grant, None, start + REQUEST).await.expect_err("nobody answers");
                    (start.elapsed(), failure)
                })
            })
            .collect();
        let asked = |user: &&String| {
            let grant = self.grant(user);
            let token = self.runtime.block_on(delegator.token(&grant, None, Instant::now() + REQUEST));
            token.is_ok_and(|token| token.facts.cache_hit)
        };
        let (mut served, mut asked_for) = (0, 0);
        let past = Instant::now() + SOFT_AGE + Duration::from_secs(2);
        while Instant::now() < past {
            served += known.iter().filter(asked).count();
            asked_for += known.len();
        }
        let mut longest = Duration::ZERO;
        for refusal in refused {
            let (took, _) = self.runtime.block_on(refusal).expect("it ended");
            longest = longest.max(took);
        }
        kdc.frozen(false);
        let beyond = longest.saturating_sub(PATIENCE);
        println!(
            "\nwith every KDC silent: {served} of {asked_for} requests of users with tickets served, before and past their soft age;"
        );
        println!(
            "{NEWCOMERS} others fail after {longest:.3?} at most, {beyond:.1?} beyond the deadline of {PATIENCE:?}   (goal: at most 50 ms)"
        );
        json!({
            "served": served, "of": asked_for,
            "longest_ms": longest.as_secs_f64() * 1e3, "beyond_deadline_ms": { "value": beyond.as_secs_f64() * 1e3, "goal_at_most": 50 },
        })
    }
}

/// Another mixture of small and capital letters for each number.
fn spelling(number: usize) -> String {
    let mut letters = 0;
    let spelled = Lab::PERSON.chars().map(|c| {
        let upper = c.is_ascii_alphabetic() && number >> letters & 1 == 1;
        letters += u32::from(c.is_ascii_alphabetic());
        if upper { c.to_ascii_uppercase() } else { c }
    });
    spelled.collect()
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).expect("a time"), u32::try_from(now.tv_nsec).expect("a time"))
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
