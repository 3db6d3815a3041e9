//! The canary of the realm, with two ways to the domain's KDC: what it makes of one that changes, and that nobody else notices.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::realms::in_east;
use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually};

/// What a domain controller is like.
#[derive(Clone, Copy)]
enum Mood {
    /// It answers as the real one does, for it asks it.
    Good,
    /// It answers what is no Kerberos.
    Garbage,
    /// It listens and says nothing.
    Silent,
    /// It refuses every ticket but ours for ourselves, with this KRB-ERROR code.
    Refuses(u8),
}

/// A domain controller's address, and what is behind it.
struct Controller {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    _tasks: JoinSet<()>,
}

impl Controller {
    async fn open() -> Self {
        Self::before("127.0.0.1:88").await
    }

    /// Asks this KDC while it is good.
    async fn before(kdc: &str) -> Self {
        let kdc = kdc.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(Mood::Good));
        let now = Arc::clone(&mood);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let mood = *now.lock().unwrap();
                let kdc = kdc.clone();
                connections.spawn(async move { drop(answer(client, mood, &kdc).await) });
            }
        });
        Self { address, mood, _tasks: tasks }
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// One request and its answer.
async fn answer(mut client: TcpStream, mood: Mood, kdc: &str) -> std::io::Result<()> {
    let request = message(&mut client).await?;
    // [APPLICATION 12]: TGS-REQ (RFC 4120 section 5.4.1)
    let is_tgs = request.get(4) == Some(&0x6C);
    match mood {
        Mood::Garbage => client.write_all(b"\0\0\0\x07garbage").await,
        Mood::Silent => std::future::pending().await,
        Mood::Refuses(code) if is_tgs => client.write_all(&refusal(code)).await,
        Mood::Good | Mood::Refuses(_) => {
            let mut kdc = TcpStream::connect(kdc).await?;
            kdc.write_all(&request).await?;
            let answer = message(&mut kdc).await?;
            client.write_all(&answer).await
        }
    }
}

async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(4 + length as usize, 0);
    stream.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// A KRB-ERROR (RFC 4120 section 5.9.1), framed.
fn refusal(code: u8) -> Vec<u8> {
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let integer = |value: u8| tlv(2, &[value]);
    let text = |value: &str| tlv(0x1B, value.as_bytes());
    let date = std::process::Command::new("date").args(["-u", "+%Y%m%d%H%M%SZ"]).output().unwrap().stdout;
    let time = tlv(0x18, date.trim_ascii());
    let name = [tlv(0xA0, &integer(2)), tlv(0xA1, &tlv(0x30, &[text("krbtgt"), text("CORP.EXAMPLE")].concat()))].concat();
    let fields = [
        tlv(0xA0, &integer(5)),
        tlv(0xA1, &integer(30)),
        tlv(0xA4, &time),
        tlv(0xA5, &integer(0)),
        tlv(0xA6, &integer(code)),
        tlv(0xA9, &text("CORP.EXAMPLE")),
        tlv(0xAA, &tlv(0x30, &name)),
    ];
    let error = tlv(0x7E, &tlv(0x30, &fields.concat()));
    [&u32::try_from(error.len()).unwrap().to_be_bytes()[..], &error].concat()
}

fn settings(lab: &Lab, controllers: &[&Controller]) -> Settings {
    let mut settings = Settings::new(lab);
    let addresses: Vec<_> = controllers.iter().map(|controller| controller.address.to_string()).collect();
    settings.kdcs = format!("kdcs = {addresses:?}");
    settings.kerberos =
        "kdc_timeout = \"500ms\"\nacquire_timeout = \"2s\"\ncanary = \"canary@corp.example\"\ncanary_interval = \"1s\"".into();
    settings.more = "[metrics]\nfile = \"bridge.prom\"\ninterval = \"1s\"\n".into();
    settings
}

/// What the metrics say of the canary by way of this controller.
fn up(bridge: &Bridge, controller: &Controller) -> Option<bool> {
    up_for(bridge, controller, "CORP.EXAMPLE", "HTTP/mbx1.corp.example")
}

fn up_for(bridge: &Bridge, controller: &Controller, realm: &str, spn: &str) -> Option<bool> {
    let text = std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).ok()?;
    let start = format!("kcd_bridge_canary_up{{realm={realm:?},kdc=\"{}\",spn={spn:?}}} ", controller.address);
    Some(text.lines().find_map(|line| line.strip_prefix(&start))? == "1")
}

fn becomes(bridge: &Bridge, controller: &Controller, well: bool) {
    eventually("the metrics say so", || (up(bridge, controller) == Some(well)).then_some(()));
}

async fn status(lab: &Lab, bridge: &Bridge, user: &str) -> u16 {
    Device::connect(lab, bridge.address, user).await.request(Method::OPTIONS, PATH, "").await.status
}

/// Lines of the log with all of these.
fn lines(bridge: &Bridge, parts: &[&str]) -> Vec<String> {
    bridge.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_names_exactly_the_domain_controller_that_changed_and_says_when_it_is_well_again() {
    let lab = Lab::get();
    let (first, second) = (Controller::open().await, Controller::open().await);
    let bridge = Bridge::start(&settings(&lab, &[&first, &second]));
    becomes(&bridge, &first, true);
    becomes(&bridge, &second, true);
    // Both tickets went by way of each, although the first would do for everybody.
    let text = std::fs::read_to_string(bridge.directory.path().join("bridge.prom")).unwrap();
    for controller in [&first, &second] {
        for exchange in ["s4u2self", "s4u2proxy"] {
            let labels = format!("realm=\"CORP.EXAMPLE\",kdc=\"{}\",exchange=\"{exchange}\"", controller.address);
            let count = text
                .lines()
                .find(|line| line.starts_with("kcd_bridge_kdc_answer_duration_seconds_count") && line.contains(&labels));
            assert!(count.is_some_and(|line| !line.ends_with(" 0")), "{labels}: {text}");
        }
    }

    for (number, mood) in [Mood::Garbage, Mood::Silent].into_iter().enumerate() {
        first.becomes(mood);
        becomes(&bridge, &first, false);
        assert_eq!(up(&bridge, &second), Some(true));
        let address = format!("kdc={}", first.address);
        let told =
            lines(&bridge, &["ERROR", "the canary fails", &address, "reason=\"kdc-unreachable\"", "stage=\"kdc\"", "remedy="]);
        assert_eq!(told.len(), number + 1, "{told:#?}");
        for user in ["alice", "bob", "frank"] {
            assert_eq!(status(&lab, &bridge, user).await, 200, "{user} is served by way of the other");
        }

        first.becomes(Mood::Good);
        becomes(&bridge, &first, true);
        eventually("it is said", || {
            (lines(&bridge, &["INFO", "the canary is well again", &address, "failed_for="]).len() == number + 1).then_some(())
        });
    }
    assert!(lines(&bridge, &["the canary", &format!("kdc={}", second.address)]).is_empty(), "the other one never changed");
    assert!(lines(&bridge, &["ticket acquired", "canary@"]).is_empty(), "nothing of it is in the cache");
    let acquired = bridge.audit().iter().filter(|event| event["principal"] == "canary@corp.example").count();
    assert_eq!(acquired, 0);
}

/// The first controller answers everybody, so no user and no other figure shows what the second has become.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_controller_whose_rules_changed_is_named_with_its_own_words_before_any_user_meets_it() {
    let lab = Lab::get();
    let (first, second) = (Controller::open().await, Controller::open().await);
    let bridge = Bridge::start(&settings(&lab, &[&first, &second]));
    becomes(&bridge, &second, true);
    second.becomes(Mood::Refuses(13));
    becomes(&bridge, &second, false);
    assert_eq!(up(&bridge, &first), Some(true));
    let told = lines(
        &bridge,
        &["ERROR", "the canary fails", &format!("kdc={}", second.address), "KDC_ERR_BADOPTION", "stage=\"s4u2self\""],
    );
    assert_eq!(told.len(), 1, "{}", bridge.log());
    assert_eq!(status(&lab, &bridge, "alice").await, 200);
}

/// A canary whose KDCs all fail, or that is nobody, holds nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_cannot_be_had_is_told_and_hinders_nobody() {
    let lab = Lab::get();
    let controller = Controller::open().await;
    let mut settings = settings(&lab, &[&controller]);
    settings.kerberos = settings.kerberos.replace("canary@corp.example", "nobody@corp.example");
    let bridge = Bridge::start(&settings);
    assert_eq!(status(&lab, &bridge, "alice").await, 200);
    becomes(&bridge, &controller, false);
    assert_eq!(lines(&bridge, &["ERROR", "the canary fails", "reason=\"user-unknown\""]).len(), 1, "{}", bridge.log());
}

/// A user of another realm: our own realm's KDC is asked on the way, and is not what is watched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_of_another_realm_watches_that_realms_domain_controllers() {
    let lab = Lab::get();
    let controller = Controller::before(&lab.realm_kdc("WEST.EXAMPLE")).await;
    let mut settings = in_east(&lab, "svc-transition", &[]);
    settings.kerberos = "kdc_timeout = \"500ms\"\nacquire_timeout = \"2s\"".into();
    settings.more = format!(
        r#"[kerberos.realms."WEST.EXAMPLE"]
kdcs = ["{}"]
canary = "wendy@WEST.EXAMPLE"
canary_interval = "1s"
[[backend]]
name = "east"
url = "http://127.0.0.1:1"
transport = "http"
spn = "HTTP/mbx.east.example"
[[route]]
path = "/east"
backend = "east"
[metrics]
file = "bridge.prom"
interval = "1s"
"#,
        controller.address
    );
    let bridge = Bridge::start(&settings);
    let is = |well| {
        let now = || up_for(&bridge, &controller, "WEST.EXAMPLE", "HTTP/mbx.east.example");
        eventually("the metrics say so", || (now() == Some(well)).then_some(()));
    };
    is(true);
    controller.becomes(Mood::Garbage);
    is(false);
    let told = lines(&bridge, &["ERROR", "the canary fails", "realm=WEST.EXAMPLE", "HTTP/mbx.east.example", "kdc-unreachable"]);
    assert_eq!(told.len(), 1, "{}", bridge.log());
    controller.becomes(Mood::Good);
    is(true);
}
