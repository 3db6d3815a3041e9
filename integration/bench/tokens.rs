//! Both engines side by side over the same real ticket of about 2 KB: tokens a second on one thread and on two, taking turns; and
//! what a cached user costs in memory. Run by `make bench`; prints figures, judges nothing but reports the goals. The same figures go
//! as JSON to the file that `KCD_BENCH_JSON` names.

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
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcd_bridge::identity::{Principal, RequestedName};
use kcd_bridge::kerberos::TokenSource as _;
use kcd_bridge::kerberos::acquire::gss::{Impersonator, KeepConfigurationParsed, UserCredential};
use kcd_bridge::kerberos::config::{Engine, KdcAddress, KdcSource, KerberosConfig};
use kcd_bridge::kerberos::delegator::Delegator;
use kcd_bridge::kerberos::engine::Mint;
use kcd_bridge::kerberos::proof::evidence::EvidenceTicket;
use kcd_bridge::kerberos::proof::exported_credential::ExportedCredential;
use kcd_bridge::kerberos::proof::keytab::Keytab;
use kcd_bridge::kerberos::relay::RelayObserver;
use kcd_bridge::kerberos::wire::ticket::ServiceTicket;
use kcd_bridge::naming::name::{OwnPrincipal, Spn};
use kcd_bridge::policy::{Fingerprint, Grant, Target, TokenFormat};
use serde_json::{Value, json};

const ROUNDS: usize = 9;
const TURN: Duration = Duration::from_millis(400);
/// Users whose tickets are kept while memory is looked at, and those before, which warm the library up.
const USERS: usize = 1000;
const WARM_UP: usize = 200;

fn main() {
    let lab = std::env::var("KCD_LAB").expect("run this through `integration/lab.sh run`");
    let target = Arc::new(Target {
        name: "mbx1".into(),
        spn: Spn::parse("HTTP/mbx1.corp.example").expect("an SPN"),
        allow_rc4: false,
        token_format: TokenFormat::Spnego,
    });
    let config = config(&lab);
    let (ticket, credential) = delegated(&config, &target);
    let (bytes, etype) = (ticket.ticket.len(), ticket.session_key.etype().name());
    println!("ticket: {bytes} bytes, session key {etype}");
    let figures = json!({
        "ticket": { "bytes": bytes, "session_key": etype },
        "engines": engines(ticket, credential, &target),
        "memory": memory(config, &target),
    });
    if let Some(file) = std::env::var_os("KCD_BENCH_JSON") {
        std::fs::write(file, figures.to_string()).expect("the figures are written");
    }
}

fn config(lab: &str) -> KerberosConfig {
    let principal = OwnPrincipal::parse("svc-bridge@CORP.EXAMPLE").expect("a principal");
    let kdc = KdcAddress { host: "127.0.0.1".into(), port: 88 };
    KerberosConfig {
        realms: [(principal.realm().clone(), KdcSource::List(vec![kdc]))].into(),
        canaries: std::collections::BTreeMap::new(),
        paces: std::collections::BTreeMap::new(),
        principal,
        keytab: format!("{lab}/keytabs/bridge.keytab").into(),
        engine: Engine::Native,
        workers: 2,
        queue: 1024,
        acquire_timeout: Duration::from_secs(30),
        kdc_timeout: Duration::from_secs(10),
        soft_age: Duration::from_hours(1),
        max_ride_through: Duration::from_hours(1),
        clock_skew: Duration::from_mins(5),
        cache_bytes: 1 << 30,
        denied_groups: vec![512],
        denied_accounts: vec![500],
        runtime_directory: lab.into(),
    }
}

/// The same ticket in our hands and in the library's.
fn delegated(config: &KerberosConfig, target: &Target) -> (ServiceTicket, UserCredential) {
    let ourselves = Impersonator::acquire(&config.principal, &config.keytab, "bench").expect("our TGT");
    let user = ourselves.impersonate(&RequestedName::Enterprise("grace@corp.example".into())).expect("S4U2Self");
    user.delegate(&target.spn, &[18, 17]).expect("S4U2Proxy");
    let exported = ExportedCredential::parse(&user.export().expect("an export")).expect("a credential");
    let keytab = Keytab::read(&config.keytab).expect("a keytab");
    let evidence = exported.evidence(&config.principal).expect("an evidence ticket");
    let evidence = EvidenceTicket::open(&evidence.ticket, &keytab, &config.principal).expect("our own key");
    let ticket = exported.service_ticket(&config.principal, &target.spn, &evidence).expect("the service ticket");
    (ticket, user.credential())
}

/// One measured case: an engine on a number of threads.
struct Case {
    name: &'static str,
    mint: Arc<Mint>,
    threads: usize,
    rates: Vec<f64>,
}

fn engines(ticket: ServiceTicket, credential: UserCredential, target: &Arc<Target>) -> Value {
    // At its best: while a context lives the library keeps its parsed krb5.conf.
    let _kept = KeepConfigurationParsed::with(&credential, &target.spn).expect("a context");
    let native = Arc::new(Mint::native(ticket).expect("a ticket to mint from"));
    let reference = Arc::new(Mint::Reference(credential));
    let case = |name, mint: &Arc<Mint>, threads| Case { name, mint: Arc::clone(mint), threads, rates: Vec::new() };
    let mut cases = [
        case("native, 1 thread", &native, 1),
        case("reference, 1 thread", &reference, 1),
        case("native, 2 threads", &native, 2),
        case("reference, 2 threads", &reference, 2),
    ];
    for round in 0..=ROUNDS {
        for case in &mut cases {
            let rate = tokens_per_second(&case.mint, target, case.threads);
            // The first round warms up.
            if round > 0 {
                case.rates.push(rate);
            }
        }
    }
    println!("\n{ROUNDS} rounds of {TURN:?} each, taking turns; SPNEGO tokens without base64\n");
    println!("{:<22} {:>12} {:>12} {:>12}", "", "min 1/s", "median 1/s", "max 1/s");
    for case in &cases {
        let sorted = sorted(&case.rates);
        println!("{:<22} {:>12.0} {:>12.0} {:>12.0}", case.name, sorted[0], median(&case.rates), sorted[sorted.len() - 1]);
    }
    let ratio = |a: &Case, b: &Case| median(&a.rates.iter().zip(&b.rates).map(|(a, b)| a / b).collect::<Vec<_>>());
    let [one, library, two, library_two] = &cases;
    let (to_reference, to_one) = (ratio(one, library), ratio(two, one));
    let (reference_to_one, to_reference_two) = (ratio(library_two, library), ratio(two, library_two));
    println!();
    println!("native / reference, 1 thread:  {to_reference:6.1}   (goal: at least 15)");
    println!("native / reference, 2 threads: {to_reference_two:6.1}");
    println!("native, 2 threads / 1 thread:  {to_one:6.2}   (goal: at least 1.8)");
    println!("reference, 2 threads / 1:      {reference_to_one:6.2}");
    let rates = |case: &Case| {
        let sorted = sorted(&case.rates);
        json!({ "min": sorted[0], "median": median(&case.rates), "max": sorted[sorted.len() - 1] })
    };
    json!({
        "tokens_per_second": {
            "native_1_thread": rates(one),
            "native_2_threads": rates(two),
            "reference_1_thread": rates(library),
            "reference_2_threads": rates(library_two),
        },
        "native_to_reference_1_thread": { "median": to_reference, "goal_at_least": 15 },
        "native_to_reference_2_threads": { "median": to_reference_two },
        "native_2_threads_to_1": { "median": to_one, "goal_at_least": 1.8 },
        "reference_2_threads_to_1": { "median": reference_to_one },
    })
}

fn tokens_per_second(mint: &Arc<Mint>, target: &Arc<Target>, threads: usize) -> f64 {
    let start = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (mint, target) = (Arc::clone(mint), Arc::clone(target));
            std::thread::spawn(move || {
                let mut made = 0_u64;
                while start.elapsed() < TURN {
                    for _ in 0..32 {
                        black_box(mint.token_now(&target, None).expect("a token"));
                    }
                    made += 32;
                }
                made
            })
        })
        .collect();
    let made: u64 = workers.into_iter().map(|worker| worker.join().expect("a worker")).sum();
    made as f64 / start.elapsed().as_secs_f64()
}

/// Every spelling of one user's name is a user of its own to the cache, and the KDC gives each a ticket of its own.
fn memory(config: KerberosConfig, target: &Arc<Target>) -> Value {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let delegator = Arc::new(Delegator::start(config, RelayObserver::default()).expect("the engine"));
    let fill = |range: std::ops::Range<usize>| {
        runtime.block_on(async {
            for number in range {
                let grant = Grant::authorize(spelling(number), Fingerprint([0; 32]), Arc::clone(target));
                let issued = delegator.token(&grant, None, Instant::now() + Duration::from_secs(30)).await.expect("a ticket");
                black_box(issued);
            }
        });
    };
    fill(0..WARM_UP);
    let before = resident();
    let start = Instant::now();
    fill(WARM_UP..WARM_UP + USERS);
    let each = (resident() - before) as f64 / USERS as f64;
    let acquisitions = USERS as f64 / start.elapsed().as_secs_f64();
    println!("\nacquisitions, one after the other: {acquisitions:.0} users a second");
    let ticket = delegator.cached_ticket_bytes() as f64 / (WARM_UP + USERS) as f64;
    let beside = each - ticket;
    println!(
        "memory of a cached user, {USERS} users: {each:.0} bytes resident, of which the ticket {ticket:.0}; beside it {beside:.0}   (goal: at most 4096)"
    );
    json!({
        "acquisitions_per_second": acquisitions,
        "bytes_per_cached_user": each,
        "ticket_bytes": ticket,
        "beside_the_ticket": { "bytes": beside, "goal_at_most": 4096 },
    })
}

fn spelling(number: usize) -> Arc<Principal> {
    let mut letters = 0;
    let spelled = "grace@corp.example".chars().map(|c| {
        let upper = c.is_ascii_alphabetic() && number >> letters & 1 == 1;
        letters += u32::from(c.is_ascii_alphabetic());
        if upper { c.to_ascii_uppercase() } else { c }
    });
    Arc::new(Principal::for_diagnosis(RequestedName::Enterprise(spelled.collect::<String>().into())))
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> f64 {
    sorted(values)[values.len() / 2]
}
