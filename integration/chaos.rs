//! What users notice when a domain controller, the name service, a clock or a password fails them: with devices that go on asking all the
//! while, on a real domain controller of the test's own or on ways to the lab's where things go wrong. Each case says a line:
//!
//! ```text
//! chaos: CASE: requests N, lost N, longest stall N ms, recovery N ms
//! ```
//!
//! Requests are those of users with tickets. Recovery is the time from the end of the trouble until a user without a ticket is served and
//! nobody's request is lost any more.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::Message;
use http::Method;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::isolation::account;
use crate::support::bridge::{Bridge, Settings};
use crate::support::controller::Controller;
use crate::support::device::{Device, PATH};
use crate::support::load::{Figures, Load, newcomer, served_at_last};
use crate::support::way::{Fault, Way};
use crate::support::{Lab, with_clock};

/// Devices that ask all the time, and users who come later.
const THERE: [&str; 12] =
    ["user01", "user02", "user03", "user04", "user05", "user06", "user07", "user08", "user09", "user10", "user11", "user12"];
const LATER: [&str; 4] = ["user13", "user14", "user15", "user16"];
const LAST: &str = "alice";

/// Short enough for every ticket to be renewed in every case.
const SOFT_AGE: Duration = Duration::from_secs(2);
/// `acquire_timeout`
const DEADLINE: Duration = Duration::from_secs(2);
const KDC_TIMEOUT: Duration = Duration::from_secs(1);
/// What a busy machine may add to any time measured here.
const BUSY: Duration = Duration::from_millis(1500);
/// An outage lasts at least until every ticket is past its soft age, and some time longer.
const OUTAGE: Duration = Duration::from_secs(4);

/// The lab's own domain controller, which nothing happens to.
fn lab_kdc() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 88))
}

/// One case at a time: they are measured.
async fn alone() -> MutexGuard<'static, ()> {
    static CASE: Mutex<()> = Mutex::const_new(());
    CASE.lock().await
}

fn settings(lab: &Lab, kdcs: &[SocketAddr]) -> Settings {
    let mut settings = Settings::new(lab);
    let kdcs: Vec<_> = kdcs.iter().map(ToString::to_string).collect();
    settings.kdcs = format!("kdcs = {kdcs:?}");
    settings.kerberos = format!(
        "soft_age = \"{}s\"\nmax_ride_through = \"1h\"\nkdc_timeout = \"{}ms\"\nacquire_timeout = \"{}ms\"",
        SOFT_AGE.as_secs(),
        KDC_TIMEOUT.as_millis(),
        DEADLINE.as_millis(),
    );
    settings
}

fn report(case: &str, figures: &Figures, recovery: Duration) {
    println!("chaos: {case}: {figures}, recovery {} ms", recovery.as_millis());
    assert!(figures.wrong.is_empty(), "{:?}", figures.wrong);
}

/// Users without tickets are told so within the deadline. The best of them shows what the bridge adds to it, the worst what the machine does.
async fn refused(lab: &Lab, bridge: &Bridge, case: &str) {
    let mut waits = Vec::new();
    // All at once when nobody knows of the trouble yet, and then again.
    for _ in 0..2 {
        let mut asking = JoinSet::new();
        for user in LATER {
            let (lab, address) = (lab.clone(), bridge.address);
            asking.spawn(async move { newcomer(&lab, address, user, PATH).await });
        }
        for (answer, took) in asking.join_all().await {
            assert_eq!(answer.status, 503, "{case}: {answer:?}");
            assert!(answer.header("retry-after").is_some(), "{case}: {answer:?}");
            waits.push(took);
        }
    }
    let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    println!("chaos: {case}: users without tickets are told so after {} to {} ms", shortest.as_millis(), longest.as_millis());
    assert!(*shortest <= DEADLINE + Duration::from_millis(50), "{case}: {waits:?}");
    assert!(*longest <= DEADLINE + Duration::from_millis(50) + BUSY, "{case}: {waits:?}");
}

/// The end of the trouble: who comes is served again. Returns what became of everybody's requests, and how long it took.
async fn recovered(lab: &Lab, bridge: &Bridge, load: Load, since: Instant, path: &str) -> (Figures, Duration) {
    let served = served_at_last(lab, bridge.address, LAST, path).await;
    let figures = load.stop().await;
    let end = figures.last_loss.map_or(served, |lost| lost.max(served));
    (figures, end.saturating_duration_since(since))
}

/// The trouble lasts until every ticket rides through it.
async fn everybody_rides(bridge: &Bridge, since: Instant) {
    tokio::time::sleep_until((since + OUTAGE).into()).await;
    let rides = || bridge.log().matches("riding on the cached ticket").count();
    while rides() < THERE.len() {
        assert!(since.elapsed() < Duration::from_secs(20), "{} ride: {}", rides(), bridge.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// It lasts until every ticket was renewed all the same.
async fn everybody_is_renewed(bridge: &Bridge, before: usize) {
    let since = Instant::now();
    while acquired(bridge) < before + THERE.len() {
        assert!(since.elapsed() < Duration::from_secs(20), "{} acquired: {}", acquired(bridge), bridge.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn acquired(bridge: &Bridge) -> usize {
    bridge.log().matches("ticket acquired").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kdc_that_is_killed_and_started_again_costs_users_with_tickets_nothing() {
    let _alone = alone().await;
    let lab = Lab::get();
    let mut controller = Controller::start(&lab);
    let bridge = Bridge::start(&settings(&lab, &[controller.kdc()]));
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    let gone = Instant::now();
    controller.kill();
    refused(&lab, &bridge, "KDC killed").await;
    everybody_rides(&bridge, gone).await;
    controller.start_again();
    let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
    report("KDC killed and started again", &figures, recovery);
    figures.nothing_lost();
    assert!(figures.longest < DEADLINE + BUSY, "{figures}");
    assert!(recovery < Duration::from_secs(5), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_kdcs_that_is_frozen_costs_nobody_a_request_and_is_asked_again_when_it_is_back() {
    let _alone = alone().await;
    let lab = Lab::get();
    let controller = Controller::start(&lab);
    let bridge = Bridge::start(&settings(&lab, &[controller.kdc(), lab_kdc()]));
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    controller.freeze();
    let mut waits = Vec::new();
    for user in LATER {
        let (answer, took) = newcomer(&lab, bridge.address, user, PATH).await;
        assert_eq!(answer.status, 200, "{user}: {answer:?}\n{}", bridge.log());
        waits.push(took);
    }
    let (first, longest) = (waits[0], waits.iter().max().unwrap());
    println!("chaos: one of two KDCs frozen: new users wait {} ms, the first {} ms", longest.as_millis(), first.as_millis());
    assert!(*longest < DEADLINE + BUSY, "{waits:?}");
    everybody_is_renewed(&bridge, acquired(&bridge)).await;
    controller.thaw();
    let back = Instant::now();
    let asked_again = format!("kdc={}", controller.kdc());
    let deadline = back + Duration::from_secs(30);
    let answers = |log: &str| log.lines().any(|line| line.contains("answers again") && line.contains(&asked_again));
    while !answers(&bridge.log()) {
        assert!(Instant::now() < deadline, "the first KDC is asked again: {}", bridge.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fail_back = back.elapsed();
    let (figures, _) = recovered(&lab, &bridge, load, back, PATH).await;
    report("one of two KDCs frozen, until it is asked first again", &figures, fail_back);
    figures.nothing_lost();
    assert!(figures.longest < DEADLINE + BUSY, "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_every_kdc_is_silent_users_with_tickets_lose_nothing_and_the_others_know_within_the_deadline() {
    let _alone = alone().await;
    let lab = Lab::get();
    let controller = Controller::start(&lab);
    let second = Way::open().await;
    let mut settings = settings(&lab, &[controller.kdc(), second.address]);
    // Fewer than those who come: the deadline holds for who waits in line, too.
    settings.kerberos += "\nworkers = 2";
    let bridge = Bridge::start(&settings);
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    let gone = Instant::now();
    controller.freeze();
    second.set(Fault::Silent);
    refused(&lab, &bridge, "all KDCs frozen").await;
    everybody_rides(&bridge, gone).await;
    controller.thaw();
    let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
    report("all KDCs frozen", &figures, recovery);
    figures.nothing_lost();
    assert!(figures.longest < DEADLINE + BUSY, "{figures}");
    assert!(recovery < Duration::from_secs(5), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_kdc_is_noticed_by_new_users_alone() {
    const SLOWER: Duration = Duration::from_millis(300);
    let _alone = alone().await;
    let lab = Lab::get();
    let way = Way::open().await;
    let mut settings = settings(&lab, &[way.address]);
    settings.kerberos = "soft_age = \"4s\"\nkdc_timeout = \"2s\"\nacquire_timeout = \"5s\"".into();
    let bridge = Bridge::start(&settings);
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    way.set(Fault::Slow(SLOWER));
    let mut waits = Vec::new();
    for user in LATER {
        let (answer, took) = newcomer(&lab, bridge.address, user, PATH).await;
        assert_eq!(answer.status, 200, "{user}: {answer:?}\n{}", bridge.log());
        waits.push(took.as_millis());
    }
    println!("chaos: KDC slower by 300 ms an exchange: new users wait {waits:?} ms");
    assert!(waits.iter().all(|took| *took >= 3 * SLOWER.as_millis()), "realm, S4U2Self, S4U2Proxy: {waits:?}");
    everybody_is_renewed(&bridge, THERE.len() + LATER.len()).await;
    way.set(Fault::None);
    let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
    report("KDC slower by 300 ms an exchange", &figures, recovery);
    figures.nothing_lost();
    assert!(figures.longest < Duration::from_secs(5), "{figures}");
}

const GARBAGE: [(Fault, &str); 4] = [
    (Fault::Noise, "random bytes"),
    (Fault::Truncated, "half of the answer as if it were all"),
    (Fault::OfAnotherExchange, "the answer to another request"),
    (Fault::HalfOpen, "half of the answer and silence"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kdc_that_answers_garbage_is_as_good_as_none() {
    let _alone = alone().await;
    let lab = Lab::get();
    for (fault, what) in GARBAGE {
        let way = Way::open().await;
        let bridge = Bridge::start(&settings(&lab, &[way.address]));
        let load = Load::start(&lab, &bridge, &THERE, PATH).await;
        load.take();
        let gone = Instant::now();
        way.set(fault);
        refused(&lab, &bridge, what).await;
        everybody_rides(&bridge, gone).await;
        way.set(Fault::None);
        let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
        report(&format!("KDC answers {what}"), &figures, recovery);
        figures.nothing_lost();
        assert!(figures.longest < DEADLINE + BUSY, "{figures}");
        assert!(recovery < Duration::from_secs(5), "{recovery:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_of_two_kdcs_answers_garbage_the_other_serves() {
    let _alone = alone().await;
    let lab = Lab::get();
    for (fault, what) in GARBAGE.into_iter().filter(|(fault, _)| *fault != Fault::OfAnotherExchange) {
        let way = Way::open().await;
        let bridge = Bridge::start(&settings(&lab, &[way.address, lab_kdc()]));
        let load = Load::start(&lab, &bridge, &THERE, PATH).await;
        load.take();
        way.set(fault);
        let (answer, took) = newcomer(&lab, bridge.address, LATER[0], PATH).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}\n{}", bridge.log());
        everybody_is_renewed(&bridge, acquired(&bridge)).await;
        let figures = load.stop().await;
        println!("chaos: one of two KDCs answers {what}: the first new user waits {} ms", took.as_millis());
        report(&format!("one of two KDCs answers {what}"), &figures, Duration::ZERO);
        figures.nothing_lost();
    }
}

/// The back end's key in the lab: rolled back when dropped.
struct BackEndKey {
    lab: Lab,
}

impl BackEndKey {
    fn install(&self, keytab: &Path) {
        let place = self.lab.path("apache/rolled.keytab");
        let new = self.lab.path("apache/rolled.keytab.new");
        std::fs::copy(keytab, &new).unwrap();
        let owner = std::fs::metadata(self.lab.path("apache/mbx1.keytab")).unwrap();
        chown(&new, Some(std::os::unix::fs::MetadataExt::uid(&owner)), Some(std::os::unix::fs::MetadataExt::gid(&owner)))
            .unwrap();
        std::fs::rename(new, place).unwrap();
    }
}

impl Drop for BackEndKey {
    fn drop(&mut self) {
        self.install(&self.lab.keytab("rolled"));
    }
}

/// A second back end, whose password changes.
fn with_rolled(mut settings: Settings) -> Settings {
    settings.more = "[[backend]]\nname = \"rolled\"\nurl = \"http://rolled.corp.example\"\ntransport = \"http\"\n\
                     spn = \"HTTP/rolled.corp.example\"\n[[route]]\npath = \"/rolled\"\nbackend = \"rolled\"\n"
        .into();
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_end_whose_password_was_changed_serves_everybody_once_its_keytab_is_new() {
    const ROLLED: &str = "/rolled";
    let _alone = alone().await;
    let lab = Lab::get();
    let key = BackEndKey { lab: lab.clone() };
    let mut controller = Controller::start(&lab);
    let mut settings = with_rolled(settings(&lab, &[controller.kdc()]));
    // What is renewed meanwhile has the new key: here nothing is.
    settings.kerberos = settings.kerberos.replace("soft_age = \"2s\"", "soft_age = \"15m\"");
    let bridge = Bridge::start(&settings);
    // With those who come later, more than may have tickets forgotten in ten seconds without a reason.
    let there: Vec<_> = THERE.into_iter().chain(["bob", "erin", "frank", "grace", "leaver1"]).collect();
    let load = Load::start(&lab, &bridge, &there, ROLLED).await;
    load.take();

    controller.kill();
    let (keytab, inside) = controller.file("rolled.keytab");
    controller.script("password.py", &["forget", "svc-rolled", &inside]);
    controller.start_again();
    let before = acquired(&bridge);
    // A new ticket, an old keytab: nothing helps, and the domain controller is not asked again and again.
    let mut asked = 0;
    let changed = Instant::now();
    while changed.elapsed() < Duration::from_secs(3) {
        for user in LATER {
            let (answer, _) = newcomer(&lab, bridge.address, user, ROLLED).await;
            assert_eq!(answer.status, 503, "{user}: {answer:?}");
            asked += 1;
        }
    }
    bridge.audited("the reason", |event| {
        event["stage"] == "upstream-auth" && event["detail"].as_str().is_some_and(|detail| detail.contains("KRB-ERROR"))
    });
    let again = acquired(&bridge) - before;
    println!("chaos: service password changed, old keytab: {asked} requests of new users, {again} acquisitions");
    assert!(asked > 2 * LATER.len() && again <= 2 * LATER.len(), "{asked} requests, {again} acquisitions");
    let meanwhile = load.take();
    report("service password changed, old keytab", &meanwhile, Duration::ZERO);
    meanwhile.nothing_lost();

    let before = acquired(&bridge);
    key.install(&keytab);
    let right = Instant::now();
    while acquired(&bridge) < before + there.len() {
        assert!(right.elapsed() < Duration::from_secs(20), "everybody gets a new ticket: {}", bridge.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (figures, recovery) = recovered(&lab, &bridge, load, right, ROLLED).await;
    report("service password changed, new keytab", &figures, recovery);
    figures.nothing_lost();
    for user in LATER {
        assert_eq!(newcomer(&lab, bridge.address, user, ROLLED).await.0.status, 200, "{user}");
    }
    assert!(acquired(&bridge) - before <= there.len() + 1, "one each: {}", bridge.log());
    assert!(recovery < Duration::from_secs(5), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kdc_with_a_wrong_clock_is_named_and_users_with_tickets_lose_nothing() {
    let _alone = alone().await;
    let lab = Lab::get();
    let controller = Controller::with_a_clock(&lab);
    let bridge = Bridge::start(&settings(&lab, &[controller.kdc()]));
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();

    controller.set_clock("+90s");
    tokio::time::sleep(OUTAGE).await;
    let (answer, _) = newcomer(&lab, bridge.address, LATER[0], PATH).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", bridge.log());
    let figures = load.take();
    report("KDC's clock 90 s ahead", &figures, Duration::ZERO);
    figures.nothing_lost();
    assert_eq!(bridge.log().matches("clock and ours drift apart").count(), 1, "told, and once: {}", bridge.log());

    for (offset, user) in [("+10m", LATER[1]), ("-10m", LATER[2])] {
        let refusals = || bridge.audit().iter().filter(|event| event["reason"] == "clock-skew").count();
        let before = refusals();
        load.take();
        controller.set_clock(offset);
        tokio::time::sleep(OUTAGE).await;
        let (answer, _) = newcomer(&lab, bridge.address, user, PATH).await;
        assert_eq!(answer.status, 503, "{offset}: {answer:?}");
        assert!(refusals() > before, "{offset}: {}", bridge.log());
        assert!(bridge.log().contains("refuses us, or soon will"), "{}", bridge.log());
        // One that starts now must not be bound to the wrong time.
        let started = Bridge::start(&settings(&lab, &[controller.kdc()]));
        assert_eq!(newcomer(&lab, started.address, user, PATH).await.0.status, 503, "{offset}");
        started.audited("the reason", |event| event["reason"] == "clock-skew");
        controller.set_clock("+0");
        let right = Instant::now();
        served_at_last(&lab, bridge.address, user, PATH).await;
        served_at_last(&lab, started.address, user, PATH).await;
        let recovery = right.elapsed();
        let figures = load.take();
        report(&format!("KDC's clock off by {offset}"), &figures, recovery);
        figures.nothing_lost();
        assert!(recovery < Duration::from_secs(8), "{recovery:?}");
    }
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_clock_of_one_of_two_kdcs_is_wrong_the_other_serves() {
    let _alone = alone().await;
    let lab = Lab::get();
    let controller = Controller::with_a_clock(&lab);
    for (offset, user) in [("+10m", LATER[0]), ("-10m", LATER[1])] {
        controller.set_clock("+0");
        let bridge = Bridge::start(&settings(&lab, &[controller.kdc(), lab_kdc()]));
        let load = Load::start(&lab, &bridge, &THERE, PATH).await;
        load.take();
        controller.set_clock(offset);
        tokio::time::sleep(OUTAGE).await;
        let (answer, took) = newcomer(&lab, bridge.address, user, PATH).await;
        assert_eq!(answer.status, 200, "{offset}: {answer:?}\n{}", bridge.log());
        println!("chaos: clock of one of two KDCs off by {offset}: a new user waits {} ms", took.as_millis());
        everybody_is_renewed(&bridge, acquired(&bridge)).await;
        let figures = load.stop().await;
        report(&format!("clock of one of two KDCs off by {offset}"), &figures, Duration::ZERO);
        figures.nothing_lost();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_the_bridges_own_clock_is_named_and_is_over_when_it_is_right_again() {
    let _alone = alone().await;
    let lab = Lab::get();
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let bridge = Bridge::start_with(&settings(&lab, &[lab_kdc()]), |mut command| {
        with_clock(&mut command, &clock);
        command
    });
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    std::fs::write(&clock, "+90s").unwrap();
    tokio::time::sleep(OUTAGE).await;
    let figures = load.take();
    report("bridge's clock 90 s ahead", &figures, Duration::ZERO);
    figures.nothing_lost();
    std::fs::write(&clock, "+10m").unwrap();
    tokio::time::sleep(OUTAGE).await;
    let (answer, _) = newcomer(&lab, bridge.address, LATER[0], PATH).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    // The domain controller refuses our requests, and the back end our tokens: each for the time.
    let lost: Vec<_> = bridge.audit().into_iter().filter(|event| event["outcome"] != "served").collect();
    let by_back_end = |detail: &str| detail.contains("KRB-ERROR 37");
    for event in &lost {
        let named = event["reason"] == "clock-skew" || event["detail"].as_str().is_some_and(by_back_end);
        assert!(named, "{event}");
    }
    assert!(lost.iter().any(|event| event["reason"] == "clock-skew"), "{lost:?}");
    std::fs::write(&clock, "+0").unwrap();
    let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
    report("bridge's clock 10 min ahead", &figures, recovery);
    assert!(recovery < Duration::from_secs(8), "{recovery:?}");
}

/// A name server that passes questions on to the lab's own, and falls silent. What it says does not hold for long.
struct NameServer {
    address: IpAddr,
    up: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl NameServer {
    async fn start() -> Self {
        let address = IpAddr::from(Ipv4Addr::new(127, 0, 89, 1));
        let socket = UdpSocket::bind((address, 53)).await.unwrap();
        let up = Arc::new(AtomicBool::new(true));
        let works = Arc::clone(&up);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                if !works.load(Ordering::SeqCst) {
                    continue;
                }
                let real = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                real.connect("127.0.0.1:53").await.unwrap();
                real.send(&buffer[..length]).await.unwrap();
                let length = real.recv(&mut buffer).await.unwrap();
                let mut answer = Message::from_vec(&buffer[..length]).unwrap();
                for record in &mut answer.answers {
                    record.ttl = 0;
                }
                socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        });
        Self { address, up, _task: task }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_name_service_the_last_known_kdcs_are_used() {
    let _alone = alone().await;
    let lab = Lab::get();
    let names = NameServer::start().await;
    let mut settings = settings(&lab, &[]);
    settings.kdcs = String::new();
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {}\noptions timeout:1 attempts:1\n", names.address)).unwrap();
    let bridge = Bridge::start_with(&settings, |command| {
        let mut inside = Command::new("unshare");
        inside.args(["-m", "--propagation", "private", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
        inside.arg(&resolv_conf).arg(command.get_program()).args(command.get_args());
        inside
    });
    let load = Load::start(&lab, &bridge, &THERE, PATH).await;
    load.take();
    names.up.store(false, Ordering::SeqCst);
    let gone = Instant::now();
    let mut waits = Vec::new();
    let known = "the last known ones are used";
    while !bridge.log().contains(known) {
        assert!(gone.elapsed() < Duration::from_secs(30), "what DNS said holds for ten seconds: {}", bridge.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for user in LATER {
        let (answer, took) = newcomer(&lab, bridge.address, user, PATH).await;
        assert_eq!(answer.status, 200, "{user}: {answer:?}\n{}", bridge.log());
        waits.push(took.as_millis());
    }
    everybody_is_renewed(&bridge, acquired(&bridge)).await;
    names.up.store(true, Ordering::SeqCst);
    println!("chaos: DNS gone: new users wait {waits:?} ms");
    let (figures, recovery) = recovered(&lab, &bridge, load, Instant::now(), PATH).await;
    report("DNS gone", &figures, recovery);
    figures.nothing_lost();
    assert!(figures.longest < DEADLINE + BUSY, "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_more_tickets_than_the_cache_holds_everybody_is_served_and_memory_is_bounded() {
    const SPNS: usize = 40;
    let _alone = alone().await;
    let lab = Lab::get();
    let controller = Controller::start(&lab);
    let spns: Vec<_> = (0..SPNS).map(|number| format!("HTTP/many{number:02}.corp.example")).collect();
    for (account, attribute) in [("svc-mbx", "servicePrincipalName"), ("svc-bridge", "msDS-AllowedToDelegateTo")] {
        let values: String = spns.iter().map(|spn| format!("{attribute}: {spn}\n")).collect();
        let dn = format!("dn: CN={account},CN=Users,DC=corp,DC=example");
        controller.modify(&format!("{dn}\nchangetype: modify\nadd: {attribute}\n{values}"));
    }
    let mut settings = Settings::new(&lab);
    settings.kdcs = format!("kdcs = [\"{}\"]", controller.kdc());
    settings.kerberos = "cache_bytes = \"1MiB\"".into();
    let back_ends = spns.iter().enumerate().map(|(number, spn)| {
        format!(
            "[[backend]]\nname = \"many{number}\"\nurl = \"http://mbx1.corp.example\"\ntransport = \"http\"\nspn = \"{spn}\"\n\
             [[route]]\npath = \"/many{number}\"\nbackend = \"many{number}\"\n"
        )
    });
    settings.more = back_ends.collect();
    let bridge = Bridge::start(&settings);
    let everybody: Vec<_> = THERE.into_iter().chain(LATER).collect();
    let load = Load::start(&lab, &bridge, &everybody[..4], PATH).await;
    let (mut resident, mut acquisitions) = (Vec::new(), vec![acquired(&bridge)]);
    for _lap in 0..2 {
        let mut walks = JoinSet::new();
        for user in everybody.clone() {
            let (lab, address) = (lab.clone(), bridge.address);
            walks.spawn(async move {
                let mut device = Device::connect(&lab, address, user).await;
                for number in 0..SPNS {
                    let answer = device.request(Method::OPTIONS, &format!("/many{number}"), "").await;
                    assert_eq!((answer.status, account(answer.user())), (200, user), "{answer:?}");
                }
            });
        }
        walks.join_all().await;
        resident.push(bridge.resident());
        acquisitions.push(acquired(&bridge));
    }
    let figures = load.stop().await;
    report("cache full", &figures, Duration::ZERO);
    let laps: Vec<_> = acquisitions.windows(2).map(|lap| lap[1] - lap[0]).collect();
    println!(
        "chaos: cache full: {} tickets wanted in 1 MiB; acquired {laps:?}, resident {resident:?} KiB",
        everybody.len() * SPNS
    );
    figures.nothing_lost();
    assert!(laps[0] >= everybody.len() * SPNS && laps[1] > laps[0] / 10, "not all of them fit: {laps:?}");
    assert!(resident[1] < resident[0] + 16 * 1024, "{resident:?} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_all_come_at_once_are_served_as_fast_as_the_kdc_can_and_in_turn() {
    /// What the KDC takes for an exchange, one at a time.
    const EXCHANGE: Duration = Duration::from_millis(50);
    let _alone = alone().await;
    let lab = Lab::get();
    let way = Way::open().await;
    let mut settings = with_rolled(settings(&lab, &[way.address]));
    // Not everybody waits until it is their turn.
    settings.kerberos = "acquire_timeout = \"2s\"\nkdc_timeout = \"2s\"\nworkers = 4".into();
    let bridge = Bridge::start(&settings);
    way.set(Fault::Busy(EXCHANGE));
    let mut devices = Vec::new();
    for path in [PATH, "/rolled"] {
        for user in THERE.into_iter().chain(LATER) {
            devices.push((user, path, Device::connect(&lab, bridge.address, user).await));
        }
    }
    // The worst order: all that the first user wants comes before the second.
    devices.sort_by_key(|(user, ..)| *user);
    let start = Instant::now();
    let mut arriving = JoinSet::new();
    for (user, path, mut device) in devices {
        arriving.spawn(async move {
            let mut refusals = 0_usize;
            loop {
                let answer = device.request(Method::OPTIONS, path, "").await;
                if answer.status == 200 {
                    assert_eq!(account(answer.user()), user);
                    return (user, start.elapsed(), refusals);
                }
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(start.elapsed() < Duration::from_mins(1), "{user} is starved");
                refusals += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let served = arriving.join_all().await;
    let total = served.iter().map(|(_, took, _)| *took).max().unwrap();
    let refusals: usize = served.iter().map(|(_, _, refusals)| refusals).sum();
    let first_of = |user: &str| served.iter().filter(|(other, ..)| *other == user).map(|(_, took, _)| *took).min().unwrap();
    let last_first = served.iter().map(|(user, ..)| first_of(user)).max().unwrap();
    let exchanges = way.exchanges();
    let can = EXCHANGE * u32::try_from(exchanges).unwrap();
    println!(
        "chaos: cold start: {} tickets for 16 users at once: {} ms, {exchanges} exchanges that take the KDC {} ms; \
         everybody has one ticket after {} ms; {refusals} answers said to come again",
        served.len(),
        total.as_millis(),
        can.as_millis(),
        last_first.as_millis(),
    );
    assert!(total < can.mul_f64(1.3) + BUSY, "{total:?} for what the KDC can do in {can:?}");
    assert!(refusals > 0, "some give up, and come again");
    assert!(exchanges <= 32 * 3 + 4 * 2 + 32, "hardly anybody is acquired for twice: {exchanges} exchanges");
    assert!(last_first < total.mul_f64(0.85), "in turn: {last_first:?} of {total:?}");
}
