//! Domain controllers that fall silent, seen from a device: how long it waits, what it is told, and when it is served again. Between the
//! bridge and the real KDC stand listeners that pass on so many requests and then only listen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::isolation::account;
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Answer, Device, PATH};
use crate::support::{Lab, eventually};

const DEADLINE: Duration = Duration::from_secs(1);
const FOR_EVER: i64 = i64::MAX / 2;

/// A way to the domain's KDC that may fall silent.
struct Way {
    address: SocketAddr,
    /// So many requests are passed on yet.
    left: Arc<AtomicI64>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Way {
    async fn open(requests: i64) -> Self {
        Self::slow(requests, Duration::ZERO).await
    }

    /// Passes requests on after so long.
    async fn slow(requests: i64, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (left, asked) = (Arc::new(AtomicI64::new(requests)), Arc::new(AtomicUsize::new(0)));
        let (budget, count) = (left.clone(), asked.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                if budget.fetch_sub(1, Ordering::Relaxed) > 0 {
                    connections.spawn(async move {
                        tokio::time::sleep(delay).await;
                        drop(pass_on(client).await);
                    });
                } else {
                    connections.spawn(async move {
                        let _held = client;
                        std::future::pending::<()>().await;
                    });
                }
            }
        });
        Self { address, left, asked, _tasks: tasks }
    }

    fn set(&self, requests: i64) {
        self.left.store(requests, Ordering::Relaxed);
    }
}

/// One request and its answer.
async fn pass_on(mut client: TcpStream) -> std::io::Result<()> {
    let mut kdc = TcpStream::connect("127.0.0.1:88").await?;
    let request = message(&mut client).await?;
    kdc.write_all(&request).await?;
    let answer = message(&mut kdc).await?;
    client.write_all(&answer).await
}

async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(4 + length as usize, 0);
    stream.read_exact(&mut message[4..]).await?;
    Ok(message)
}

fn settings(lab: &Lab, ways: &[&Way]) -> Settings {
    let mut settings = Settings::new(lab);
    let addresses: Vec<_> = ways.iter().map(|way| way.address.to_string()).collect();
    settings.kdcs = format!("kdcs = {addresses:?}");
    settings.kerberos = format!("kdc_timeout = \"400ms\"\nacquire_timeout = \"{}ms\"", DEADLINE.as_millis());
    settings.more = "[metrics]\nfile = \"bridge.prom\"\ninterval = \"1s\"\n".into();
    settings
}

async fn ask(lab: &Lab, bridge: &Bridge, user: &str) -> (Answer, Duration) {
    let mut device = Device::connect(lab, bridge.address, user).await;
    let started = Instant::now();
    let answer = device.request(Method::OPTIONS, PATH, "").await;
    (answer, started.elapsed())
}

/// Whichever of an acquisition's exchanges is the first that nobody answers, the device waits no longer than `acquire_timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_at_any_stage_of_an_acquisition_costs_its_deadline_and_no_more() {
    let lab = Lab::get();
    let mut beyond = Vec::new();
    for answered in 0.. {
        let (first, second, third) = (Way::open(answered).await, Way::open(0).await, Way::open(0).await);
        let bridge = Bridge::start(&settings(&lab, &[&first, &second, &third]));
        let (answer, took) = ask(&lab, &bridge, "alice").await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503);
        assert!(answered < 20, "it takes fewer exchanges than that");
        // As much as a busy machine needs; the best of them shows what the bridge needs.
        assert!(took >= DEADLINE, "{answered} answers, and given up after {took:?}");
        assert!(took < DEADLINE + Duration::from_millis(900), "{answered} answers, then {took:?}");
        beyond.push(took.saturating_sub(DEADLINE));
        let event = bridge.audited("the failure", |event| event["reason"] == "kdc-unreachable");
        assert!(event["detail"].as_str().unwrap().contains("no KDC answered"), "{event}");
    }
    println!("beyond the deadline of {DEADLINE:?}, by the number of answers before the silence: {beyond:?}");
    assert!(beyond.len() >= 4, "our ticket takes two exchanges, the user's two more");
    assert!(beyond.iter().min().unwrap() < &Duration::from_millis(50), "{beyond:?}");
}

/// Each of its exchanges is answered in time; all of them together are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_kdc_costs_an_acquisition_its_deadline_and_not_the_sum_of_its_exchanges() {
    let lab = Lab::get();
    let way = Way::slow(FOR_EVER, Duration::from_millis(300)).await;
    let mut settings = settings(&lab, &[&way]);
    settings.kerberos = format!("kdc_timeout = \"{0}ms\"\nacquire_timeout = \"{0}ms\"", DEADLINE.as_millis());
    let bridge = Bridge::start(&settings);
    let (answer, took) = ask(&lab, &bridge, "alice").await;
    assert_eq!(answer.status, 503);
    println!("five exchanges of 300 ms ended after {took:?}");
    assert!(took >= DEADLINE && took < DEADLINE + Duration::from_millis(900), "{took:?}");
    bridge.audited("the failure", |event| event["reason"] == "kdc-unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_every_kdc_is_silent_requests_fail_at_once_and_are_served_again_within_seconds_of_its_return() {
    let lab = Lab::get();
    let (first, second) = (Way::open(FOR_EVER).await, Way::open(FOR_EVER).await);
    let bridge = Bridge::start(&settings(&lab, &[&first, &second]));
    assert_eq!(ask(&lab, &bridge, "bob").await.0.status, 200);
    first.set(0);
    second.set(0);
    let mut quick = Vec::new();
    // Users of their own: what one has been told is remembered for a second.
    for number in 1..=12 {
        let (answer, took) = ask(&lab, &bridge, &format!("user{number:02}")).await;
        assert_eq!(answer.status, 503);
        quick.push(took);
    }
    let at_once = quick.iter().filter(|took| **took < DEADLINE / 4).count();
    assert!(at_once >= 6, "most of them do not wait: {quick:?}");
    bridge
        .audited("the open circuit", |event| event["detail"].as_str().is_some_and(|detail| detail.contains("circuit open for")));
    let up = |line: &str| {
        let text = std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).unwrap_or_default();
        text.lines().filter(|found| found.starts_with("kcd_bridge_kdc_up{") && found.ends_with(line)).count()
    };
    eventually("the metrics say that nobody is up", || (up(" 0") == 2).then_some(()));

    let asked = first.asked.load(Ordering::Relaxed);
    second.set(FOR_EVER);
    let back = Instant::now();
    let limit = back + Duration::from_secs(20);
    let answer = loop {
        let (answer, _) = ask(&lab, &bridge, "alice").await;
        if answer.status == 200 || Instant::now() > limit {
            break answer;
        }
    };
    println!(
        "served {:?} after one of two KDCs was back; the other was asked {} times",
        back.elapsed(),
        first.asked.load(Ordering::Relaxed) - asked
    );
    assert_eq!((answer.status, account(answer.user())), (200, "alice"));
    eventually("the metrics say so", || (up(" 1") == 1).then_some(()));
    assert!(bridge.log().contains("the realm has a KDC again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_show_each_kdcs_answers_by_exchange_and_its_clock() {
    let lab = Lab::get();
    let way = Way::open(FOR_EVER).await;
    let bridge = Bridge::start(&settings(&lab, &[&way]));
    assert_eq!(ask(&lab, &bridge, "alice").await.0.status, 200);
    let text = eventually("the metrics", || {
        let text = std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).ok()?;
        text.contains("exchange=\"s4u2proxy\"").then_some(text)
    });
    let kdc = format!("realm=\"CORP.EXAMPLE\",kdc=\"{}\"", way.address);
    for line in [
        format!("kcd_bridge_kdc_up{{{kdc}}} 1"),
        format!("kcd_bridge_kdc_answer_duration_seconds_count{{{kdc},exchange=\"s4u2self\"}} 1"),
        format!("kcd_bridge_kdc_answer_duration_seconds_count{{{kdc},exchange=\"s4u2proxy\"}} 1"),
        // The same clock: nothing that an exchange takes, and no missing fraction, may look like a difference.
        format!("kcd_bridge_kdc_clock_skew_seconds{{{kdc}}} 0.0"),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    assert!(text.contains("error=\"KDC_ERR_PREAUTH_REQUIRED\""), "{text}");
}
