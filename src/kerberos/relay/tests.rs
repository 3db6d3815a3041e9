use std::sync::atomic::AtomicUsize;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::request::tests::{Ask, principal, reply, ticket};
use super::*;
use crate::der::{self, tag};
use crate::kerberos::config::KdcAddress;
use crate::kerberos::wire::asn1::{write_explicit, write_explicit_integer, write_principal_name};
use crate::kerberos::wire::krb_error::KrbError;
use crate::naming::name::{PrincipalName, Spn, name_type};

/// A KDC's error, with Windows' status inside if there is one.
pub(super) fn krb_error(code: i32, client_realm: Option<&str>, ntstatus: Option<u32>) -> Vec<u8> {
    let mut fields = Vec::new();
    write_explicit_integer(&mut fields, 0, 5);
    write_explicit_integer(&mut fields, 1, 30);
    write_explicit(&mut fields, 4, tag::GENERALIZED_TIME, b"20200101000000Z");
    write_explicit_integer(&mut fields, 5, 0);
    write_explicit_integer(&mut fields, 6, i64::from(code));
    if let Some(realm) = client_realm {
        write_explicit(&mut fields, 7, tag::GENERAL_STRING, realm.as_bytes());
    }
    write_explicit(&mut fields, 9, tag::GENERAL_STRING, b"CORP.EXAMPLE");
    let mut sname = Vec::new();
    write_principal_name(&mut sname, &principal(2, &["krbtgt", "CORP.EXAMPLE"]));
    der::write(&mut fields, tag::context(10), &sname);
    if let Some(status) = ntstatus {
        let mut data = Vec::new();
        write_explicit_integer(&mut data, 1, 3);
        write_explicit(&mut data, 2, tag::OCTET_STRING, &[&status.to_le_bytes()[..], &[0; 4], &[1, 0, 0, 0]].concat());
        let mut sequence = Vec::new();
        der::write(&mut sequence, tag::SEQUENCE, &data);
        write_explicit(&mut fields, 12, tag::OCTET_STRING, &sequence);
    }
    let mut sequence = Vec::new();
    der::write(&mut sequence, tag::SEQUENCE, &fields);
    let mut message = Vec::new();
    der::write(&mut message, tag::application(30), &sequence);
    message
}

pub(super) fn tgt_reply() -> Vec<u8> {
    reply(Exchange::As, &ticket(&["krbtgt", "CORP.EXAMPLE"], b"tgt"))
}

/// What a fake KDC does with a request.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// Takes it and says nothing.
    Silent,
    /// The connection is refused.
    Refuses,
    /// The same answer to everything.
    Answers(Vec<u8>),
    /// These bytes by TCP, unframed, then the end; nothing by UDP.
    Raw(Vec<u8>),
    /// These datagrams by UDP, this answer by TCP.
    Datagrams(Vec<Vec<u8>>, Vec<u8>),
    /// Every request takes the next answer.
    Script(Vec<Vec<u8>>),
}

pub(super) struct FakeKdc {
    pub(super) port: u16,
    streams: Arc<AtomicUsize>,
    datagrams: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FakeKdc {
    pub(super) fn start(does: Does) -> Self {
        let (streams, datagrams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        if matches!(does, Does::Refuses) {
            // Bound and not listening: the port is ours and refuses.
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let port = socket.local_addr().unwrap().port();
            tasks.spawn(async move {
                let _held = socket;
                std::future::pending::<()>().await;
            });
            return Self { port, streams, datagrams, _tasks: tasks };
        }
        let BoundRelay { tcp, udp, port, .. } = Relay::bind().unwrap();
        let (tcp, udp) = (TcpListener::from_std(tcp).unwrap(), UdpSocket::from_std(udp).unwrap());
        tasks.spawn(by_udp(udp, does.clone(), datagrams.clone()));
        tasks.spawn(by_tcp(tcp, does, streams.clone()));
        Self { port, streams, datagrams, _tasks: tasks }
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.streams.load(Ordering::Relaxed), self.datagrams.load(Ordering::Relaxed))
    }
}

async fn by_udp(socket: UdpSocket, does: Does, count: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    loop {
        let (_, client) = socket.recv_from(&mut buffer).await.unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        match &does {
            Does::Answers(bytes) => drop(socket.send_to(bytes, client).await.unwrap()),
            Does::Datagrams(all, _) => {
                // A stranger answers first, from another port.
                let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                stranger.send_to(&krb_error(6, None, None), client).await.unwrap();
                for datagram in all {
                    socket.send_to(datagram, client).await.unwrap();
                }
            }
            _ => {}
        }
    }
}

async fn by_tcp(listener: TcpListener, does: Does, count: Arc<AtomicUsize>) {
    let mut held = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let number = count.fetch_add(1, Ordering::Relaxed);
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        let answer = match &does {
            Does::Answers(bytes) | Does::Datagrams(_, bytes) => transport::framed(bytes),
            Does::Script(answers) => transport::framed(&answers[number]),
            Does::Raw(bytes) => bytes.clone(),
            Does::Silent | Does::Refuses => {
                held.push(stream);
                continue;
            }
        };
        stream.write_all(&answer).await.unwrap();
    }
}

struct Running {
    port: u16,
    observer: RelayObserver,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

/// Where the time has to run out.
const SHORT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(1));
/// Where it must not, on however busy a machine.
const LONG: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(9);

fn start(kdcs: &[&FakeKdc], limits: Limits, (kdc_timeout, exchange_timeout): (Duration, Duration)) -> Running {
    let list = kdcs.iter().map(|kdc| KdcAddress { host: "127.0.0.1".into(), port: kdc.port }).collect();
    let bound = Relay::bind().unwrap();
    let (port, observer) = (bound.port(), bound.observer());
    let config = RelayConfig {
        realms: BTreeMap::from([(Realm::parse("CORP.EXAMPLE").unwrap(), KdcSource::List(list))]),
        kdc_timeout,
        exchange_timeout,
        clock_skew: Duration::from_mins(5),
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(bound.serve_with(config, Locator::system(), limits, async {
        let _ = stopped.await;
    }));
    Running { port, observer, stop, task }
}

fn relay(kdcs: &[&FakeKdc]) -> Running {
    start(kdcs, Limits::default(), LONG)
}

fn impatient(kdcs: &[&FakeKdc]) -> Running {
    start(kdcs, Limits::default(), SHORT)
}

impl Running {
    /// What comes back for these bytes, as they are on the wire; empty if the relay closes.
    async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        // The relay may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the relay answers or closes");
        answer
    }

    async fn ask(&self, ask: &Ask) -> Vec<u8> {
        let answer = self.raw(&transport::framed(&ask.encode())).await;
        let (length, message) = answer.split_first_chunk::<4>().expect("an answer");
        assert_eq!(u32::from_be_bytes(*length) as usize, message.len());
        message.to_vec()
    }

    async fn ask_for_error(&self, ask: &Ask) -> KrbError {
        KrbError::parse(&self.ask(ask).await).unwrap()
    }
}

fn sought(whom: Whom<'_>, since: Instant) -> Sought<'_> {
    Sought { whom, spn: None, since, code: None }
}

fn user(name: &str) -> PrincipalName {
    principal(name_type::PRINCIPAL, &[name])
}

#[tokio::test]
async fn a_reply_is_passed_on_as_it_came() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let relay = relay(&[&kdc]);
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert_eq!(kdc.counts(), (0, 1), "a small AS-REQ goes by UDP");
    let numbers = relay.observer.kdcs();
    assert_eq!((numbers[0].requests, numbers[0].unanswered(), numbers[0].kdc.address.port()), (1, 0, kdc.port));
    assert_eq!(relay.observer.numbers().served, 1);
}

#[tokio::test]
async fn tgs_requests_and_large_as_requests_go_by_tcp() {
    let kdc = FakeKdc::start(Does::Script(vec![reply(Exchange::Tgs, &ticket(&["svc-bridge"], b"")), tgt_reply()]));
    let relay = relay(&[&kdc]);
    relay.ask(&Ask::s4u2self("alice")).await;
    relay.ask(&Ask { padding: 2000, ..Ask::tgt() }).await;
    assert_eq!(kdc.counts(), (2, 0));
}

#[tokio::test]
async fn a_reply_too_big_for_a_datagram_is_fetched_by_tcp() {
    let kdc = FakeKdc::start(Does::Datagrams(vec![krb_error(52, None, None)], tgt_reply()));
    let relay = relay(&[&kdc]);
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert_eq!(kdc.counts(), (1, 1));
}

#[tokio::test]
async fn a_firewall_that_drops_datagrams_does_not_cost_the_kdc() {
    let kdc = FakeKdc::start(Does::Datagrams(Vec::new(), tgt_reply()));
    let relay = impatient(&[&kdc]);
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert_eq!(kdc.counts(), (1, 1));
}

#[tokio::test]
async fn datagrams_of_strangers_and_datagrams_that_are_no_reply_are_ignored() {
    let tgs_reply = reply(Exchange::Tgs, &ticket(&["svc-bridge"], b""));
    let garbage = vec![vec![], b"garbage".to_vec(), tgs_reply, tgt_reply()];
    let kdc = FakeKdc::start(Does::Datagrams(garbage, krb_error(60, None, None)));
    let relay = relay(&[&kdc]);
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert_eq!(kdc.counts(), (0, 1));
}

#[tokio::test]
async fn a_silent_kdc_costs_its_timeout_once_and_the_next_one_answers() {
    let (silent, good) = (FakeKdc::start(Does::Silent), FakeKdc::start(Does::Answers(tgt_reply())));
    let relay = impatient(&[&silent, &good]);
    let started = Instant::now();
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert!(started.elapsed() >= SHORT.0, "{:?}", started.elapsed());
    assert_eq!(silent.counts(), (1, 1));
    // It rests now.
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply());
    assert_eq!(silent.counts(), (1, 1));
}

#[tokio::test]
async fn every_way_not_to_answer_leads_to_the_next_kdc() {
    let oversize = (u32::try_from(transport::MAX_REPLY).unwrap() + 1).to_be_bytes().to_vec();
    let not_a_reply = transport::framed(&Ask::tgt().encode());
    let cut_short = transport::framed(&tgt_reply())[..20].to_vec();
    let cases = [
        (Does::Refuses, AttemptError::Refused),
        (Does::Raw(Vec::new()), AttemptError::Closed),
        (Does::Raw(cut_short), AttemptError::Closed),
        (Does::Raw(oversize), AttemptError::NotAReply),
        (Does::Raw(vec![0xFF; 4]), AttemptError::NotAReply),
        (Does::Raw(not_a_reply), AttemptError::NotAReply),
        (Does::Answers(krb_error(29, None, None)), AttemptError::ServiceUnavailable),
    ];
    let answer = reply(Exchange::Tgs, &ticket(&["svc-bridge"], b""));
    for (does, expected) in cases {
        let (bad, good) = (FakeKdc::start(does), FakeKdc::start(Does::Answers(answer.clone())));
        let both = relay(&[&bad, &good]);
        assert_eq!(both.ask(&Ask::s4u2self("alice")).await, answer);
        let alone = relay(&[&bad]);
        let since = Instant::now();
        assert_eq!(alone.ask_for_error(&Ask::s4u2self("alice")).await.code, UNANSWERED);
        let report = alone.observer.report(&sought(Whom::User(&user("alice"), None), since)).unwrap();
        let Outcome::Unanswered { attempts, trouble: None } = report.outcome else { panic!("{report:?}") };
        assert_eq!(attempts.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [expected]);
    }
}

#[tokio::test]
async fn where_every_kdc_is_silent_the_relay_answers_at_the_deadline() {
    let silent: Vec<FakeKdc> = (0..6).map(|_| FakeKdc::start(Does::Silent)).collect();
    let relay = impatient(&silent.iter().collect::<Vec<_>>());
    let started = Instant::now();
    let error = relay.ask_for_error(&Ask::s4u2self("alice")).await;
    assert!(started.elapsed() >= SHORT.1 && started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!(error.code, UNANSWERED, "an error that libkrb5 takes for final");
    assert!(error.text.unwrap().contains("CORP.EXAMPLE"));
    let report = relay.observer.report(&sought(Whom::User(&user("alice"), None), started)).unwrap();
    let Outcome::Unanswered { attempts, .. } = report.outcome else { panic!("{report:?}") };
    assert_eq!(attempts.len(), 6, "each gets at most half of the time that is left");
    assert!(attempts.iter().all(|(_, reason)| *reason == AttemptError::TimedOut));
}

#[tokio::test]
async fn the_same_question_asked_again_at_once_is_not_waited_for_again() {
    let kdc = FakeKdc::start(Does::Raw(Vec::new()));
    let relay = relay(&[&kdc]);
    for _ in 0..3 {
        assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, UNANSWERED);
    }
    assert_eq!(kdc.counts(), (1, 0));
    relay.ask_for_error(&Ask::s4u2self("bob")).await;
    relay.ask_for_error(&Ask::new(Exchange::Tgs, &["svc-bridge"])).await;
    assert_eq!(kdc.counts(), (3, 0), "other questions are");
}

/// The exchanges of one acquisition, as libkrb5 makes them: whose realm, our own ticket, S4U2Self, S4U2Proxy. How many were answered.
async fn acquire(relay: &Running, evidence: &[u8]) -> usize {
    let realm = Ask { cname: Some(user("alice")), ..Ask::tgt() };
    let steps = [realm, Ask::tgt(), Ask::s4u2self("alice"), Ask::s4u2proxy(evidence, "mbx1.corp.example")];
    let mut answered = 0;
    for step in steps {
        let answer = relay.ask(&step).await;
        answered += usize::from(KrbError::parse(&answer).is_ok_and(|error| error.code != UNANSWERED));
    }
    answered
}

/// Four exchanges with three KDCs that take requests, by TCP and by UDP, and never answer.
#[tokio::test]
async fn silent_kdcs_cost_an_acquisition_its_deadline_once_and_not_once_an_exchange() {
    const DEADLINE: Duration = Duration::from_millis(600);
    const TOLERANCE: Duration = Duration::from_millis(50);
    let mut beyond = Duration::MAX;
    // On a busy machine the first measurements may be off.
    for _ in 0..10 {
        let silent: Vec<FakeKdc> = (0..3).map(|_| FakeKdc::start(Does::Silent)).collect();
        let relay = start(&silent.iter().collect::<Vec<_>>(), Limits::default(), LONG);
        let alice = user("alice");
        let started = Instant::now();
        let _alice = relay.observer.until(Whom::User(&alice, None), started + DEADLINE);
        assert_eq!(acquire(&relay, &ticket(&["svc-bridge"], b"for alice")).await, 0);
        let took = started.elapsed();
        assert!(took >= DEADLINE, "{took:?}");
        beyond = beyond.min(took.saturating_sub(DEADLINE));
        if beyond < TOLERANCE {
            break;
        }
    }
    assert!(beyond < TOLERANCE, "{beyond:?} beyond the deadline at best");
    println!("four exchanges with three silent KDCs ended {beyond:?} after a deadline of {DEADLINE:?}");
}

#[tokio::test]
async fn exchanges_after_the_deadline_are_answered_at_once_and_ask_nobody() {
    let kdc = FakeKdc::start(Does::Answers(krb_error(60, None, None)));
    let relay = relay(&[&kdc]);
    let (alice, since) = (user("alice"), Instant::now());
    let late = relay.observer.until(Whom::User(&alice, Some("CORP.EXAMPLE")), since);
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, UNANSWERED);
    assert_eq!(kdc.counts(), (0, 0));
    let report = relay.observer.report(&sought(Whom::User(&alice, None), since)).unwrap();
    assert!(report.to_string().contains("no time was left"), "{report}");
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("bob")).await.code, 60, "another acquisition has time");
    drop(late);
    let relay = start(&[&kdc], Limits::default(), LONG);
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, 60);
}

#[tokio::test]
async fn a_canarys_ticket_requests_go_to_the_kdc_it_names_and_everybody_elses_as_ever() {
    let evidence = ticket(&["svc-bridge"], b"sealed for alice");
    let answers = vec![reply(Exchange::Tgs, &evidence), krb_error(13, None, None)];
    let (first, second) = (FakeKdc::start(Does::Answers(krb_error(60, None, None))), FakeKdc::start(Does::Script(answers)));
    let relay = relay(&[&first, &second]);
    relay.ask(&Ask::s4u2self("bob")).await;
    let corp = Realm::parse("CORP.EXAMPLE").unwrap();
    let kdcs = relay.observer.kdcs_of(&corp);
    let second_kdc = kdcs.iter().find(|kdc| kdc.address.port() == second.port).unwrap().clone();
    let canary = relay.observer.steer(Whom::User(&user("alice"), None), corp, second_kdc);
    assert_eq!(relay.ask(&Ask::s4u2self("alice")).await, reply(Exchange::Tgs, &evidence));
    let proxied = relay.ask_for_error(&Ask::s4u2proxy(&evidence, "mbx1.corp.example")).await;
    assert_eq!(proxied.code, 13, "S4U2Proxy by the evidence ticket");
    assert_eq!((first.counts(), second.counts()), ((1, 0), (2, 0)));
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("bob")).await.code, 60);
    assert_eq!(
        relay.ask_for_error(&Ask { cname: Some(user("alice")), ..Ask::tgt() }).await.code,
        60,
        "no AS exchange is steered"
    );
    drop(canary);
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, 60);
    assert_eq!(second.counts(), (2, 0));
}

#[tokio::test]
async fn a_canary_that_finds_one_kdc_dead_asks_the_next_one_in_earnest() {
    let (dead, good) = (FakeKdc::start(Does::Raw(Vec::new())), FakeKdc::start(Does::Answers(krb_error(60, None, None))));
    let relay = relay(&[&dead, &good]);
    let at = |fake: &FakeKdc| Kdc { host: "127.0.0.1".into(), address: (Ipv4Addr::LOCALHOST, fake.port).into() };
    let steer =
        |fake: &FakeKdc| relay.observer.steer(Whom::User(&user("alice"), None), Realm::parse("CORP.EXAMPLE").unwrap(), at(fake));
    let canary = steer(&dead);
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, UNANSWERED);
    drop(canary);
    let _canary = steer(&good);
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, 60, "the same question, but of another KDC");
}

#[tokio::test]
async fn what_is_known_of_an_open_circuit_reaches_the_acquisition_that_failed_by_it() {
    let kdc = FakeKdc::start(Does::Silent);
    let relay = impatient(&[&kdc]);
    relay.ask_for_error(&Ask::s4u2self("bob")).await;
    let since = Instant::now();
    assert_eq!(relay.ask_for_error(&Ask::s4u2self("alice")).await.code, UNANSWERED);
    let report = relay.observer.report(&sought(Whom::User(&user("alice"), None), since)).unwrap().to_string();
    assert!(
        report.contains("circuit open") && report.contains(&format!("127.0.0.1:{}: no answer in time", kdc.port)),
        "{report}"
    );
}

#[tokio::test]
async fn the_clock_of_a_kdc_is_seen_in_its_errors() {
    let kdc = FakeKdc::start(Does::Answers(krb_error(25, None, None)));
    let relay = relay(&[&kdc]);
    relay.ask(&Ask::tgt()).await;
    assert!(relay.observer.kdcs()[0].skew.unwrap() < -86_400_000, "the fake KDC lives in 2020");
}

#[tokio::test]
async fn a_realm_that_is_not_listed_is_named_and_no_kdc_is_asked() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let relay = relay(&[&kdc]);
    let since = Instant::now();
    let error = relay.ask_for_error(&Ask { realm: "EVIL.EXAMPLE".into(), ..Ask::s4u2self("alice") }).await;
    assert!(error.text.unwrap().contains("EVIL.EXAMPLE"));
    let report = relay.observer.report(&sought(Whom::User(&user("alice"), None), since)).unwrap();
    assert_eq!(report.outcome, Outcome::UnlistedRealm("EVIL.EXAMPLE".into()));
    assert_eq!((kdc.counts(), relay.observer.numbers().unlisted), ((0, 0), 1));
}

#[tokio::test]
async fn a_referral_to_a_realm_that_is_not_listed_is_reported() {
    let referral = reply(Exchange::Tgs, &ticket(&["krbtgt", "USERS.EXAMPLE"], b""));
    let wrong_realm = krb_error(68, Some("USERS.EXAMPLE"), None);
    for (ask, answer) in [(Ask::s4u2self("alice"), referral), (Ask { cname: Some(user("alice")), ..Ask::tgt() }, wrong_realm)] {
        let kdc = FakeKdc::start(Does::Answers(answer.clone()));
        let relay = relay(&[&kdc]);
        let since = Instant::now();
        assert_eq!(relay.ask(&ask).await, answer, "libkrb5 still sees the KDC's own answer");
        let report = relay.observer.report(&sought(Whom::User(&user("alice"), None), since)).unwrap();
        assert_eq!(report.outcome, Outcome::UnlistedRealm("USERS.EXAMPLE".into()));
    }
}

#[tokio::test]
async fn the_usual_errors_on_the_way_are_no_failures() {
    for error in [krb_error(25, None, None), krb_error(68, Some("CORP.EXAMPLE"), None)] {
        let kdc = FakeKdc::start(Does::Answers(error.clone()));
        let relay = relay(&[&kdc]);
        let since = Instant::now();
        assert_eq!(relay.ask(&Ask::tgt()).await, error);
        assert_eq!(relay.observer.report(&sought(Whom::OurAccount(&user("svc-bridge")), since)), None);
    }
}

#[tokio::test]
async fn an_s4u2proxy_error_finds_its_user_by_the_evidence_ticket() {
    let evidence = ticket(&["svc-bridge"], b"sealed for alice");
    let refusal = krb_error(13, None, Some(0xC000_006E));
    let kdc = FakeKdc::start(Does::Script(vec![reply(Exchange::Tgs, &evidence), refusal.clone()]));
    let relay = relay(&[&kdc]);
    let since = Instant::now();
    relay.ask(&Ask::s4u2self("alice")).await;
    assert_eq!(relay.ask(&Ask::s4u2proxy(&evidence, "mbx1.corp.example")).await, refusal);

    let (alice, bob) = (user("alice"), user("bob"));
    let (ours, theirs) = (Spn::parse("HTTP/mbx1.corp.example").unwrap(), Spn::parse("HTTP/mbx2.corp.example").unwrap());
    let for_alice = Sought { spn: Some(&ours), code: Some(13), ..sought(Whom::User(&alice, Some("CORP.EXAMPLE")), since) };
    let report = relay.observer.report(&for_alice).unwrap();
    assert!(report.proxy && report.kdc.is_some_and(|found| found.address.port() == kdc.port));
    let Outcome::Error { code, ntstatus, skew, .. } = report.outcome else { panic!() };
    assert_eq!((code, ntstatus), (13, Some(0xC000_006E)));
    assert!(skew < -86_400, "the fake KDC lives in 2020");

    let others = [
        Sought { whom: Whom::User(&bob, None), ..for_alice },
        Sought { whom: Whom::User(&alice, Some("USERS.EXAMPLE")), ..for_alice },
        Sought { whom: Whom::OurAccount(&alice), ..for_alice },
        Sought { spn: Some(&theirs), ..for_alice },
        Sought { code: Some(7), ..for_alice },
        Sought { since: Instant::now(), ..for_alice },
    ];
    for other in others {
        assert_eq!(relay.observer.report(&other), None, "{other:?}");
    }
}

/// Over two trusts: the user's referral ticket to the first realm is exchanged for one to the second without naming anybody.
#[tokio::test]
async fn an_s4u2proxy_error_finds_its_user_through_a_referral_ticket_that_was_exchanged_for_another() {
    let [evidence, first, second] =
        [b"evidence", b"referral", b"exchange"].map(|sealed| ticket(&["krbtgt", "CORP.EXAMPLE"], sealed));
    let refusal = krb_error(13, None, None);
    let replies = [&evidence, &first, &second].map(|ticket| reply(Exchange::Tgs, ticket));
    let kdc = FakeKdc::start(Does::Script(replies.into_iter().chain([refusal.clone()]).collect()));
    let relay = relay(&[&kdc]);
    let (since, alice) = (Instant::now(), user("alice"));
    relay.ask(&Ask::s4u2self("alice")).await;
    relay.ask(&Ask::s4u2proxy(&evidence, "mbx1.corp.example")).await;
    relay.ask(&Ask { header: Some(first), ..Ask::new(Exchange::Tgs, &["krbtgt", "CORP.EXAMPLE"]) }).await;
    assert_eq!(relay.ask(&Ask::s4u2proxy(&second, "mbx1.corp.example")).await, refusal);
    let report = relay.observer.report(&Sought { code: Some(13), ..sought(Whom::User(&alice, None), since) });
    assert!(report.is_some_and(|report| report.proxy));
}

#[tokio::test]
async fn a_tgs_error_on_nobodys_behalf_is_our_accounts() {
    let kdc = FakeKdc::start(Does::Answers(krb_error(7, None, None)));
    let relay = relay(&[&kdc]);
    let (since, ours) = (Instant::now(), user("svc-bridge"));
    relay.ask(&Ask::new(Exchange::Tgs, &["krbtgt", "USERS.EXAMPLE"])).await;
    assert!(relay.observer.report(&sought(Whom::OurAccount(&ours), since)).is_some());
    assert_eq!(relay.observer.report(&sought(Whom::User(&ours, None), since)), None);
}

#[tokio::test]
async fn an_s4u2proxy_error_with_evidence_nobody_saw_is_nobodys() {
    let kdc = FakeKdc::start(Does::Answers(krb_error(13, None, None)));
    let relay = relay(&[&kdc]);
    let (since, ours) = (Instant::now(), user("svc-bridge"));
    relay.ask(&Ask::s4u2proxy(&ticket(&["svc-bridge"], b"from elsewhere"), "mbx1.corp.example")).await;
    for whom in [Whom::OurAccount(&ours), Whom::User(&ours, None)] {
        assert_eq!(relay.observer.report(&sought(whom, since)), None);
    }
}

#[tokio::test]
async fn malformed_requests_are_closed_at_once_without_an_answer() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let relay = start(&[&kdc], Limits { patience: SOON * 2, ..Limits::default() }, LONG);
    let oversize = (u32::try_from(MAX_REQUEST).unwrap() + 1).to_be_bytes().to_vec();
    let bad = [transport::framed(b"garbage"), transport::framed(b""), transport::framed(&tgt_reply()), oversize, vec![0xFF; 64]];
    for bytes in &bad {
        assert_eq!(relay.raw(bytes).await, b"");
    }
    assert_eq!((kdc.counts(), relay.observer.numbers().malformed), ((0, 0), bad.len() as u64));
    assert_eq!(relay.ask(&Ask::tgt()).await, tgt_reply(), "and the relay goes on");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_closed() {
    let kdc = FakeKdc::start(Does::Silent);
    let relay = start(&[&kdc], Limits { patience: Duration::from_millis(50), ..Limits::default() }, LONG);
    assert_eq!(relay.raw(&[0, 0, 1]).await, b"");
    assert_eq!(relay.raw(&transport::framed(&Ask::tgt().encode())[..30]).await, b"");
    assert_eq!((kdc.counts(), relay.observer.numbers().malformed), ((0, 0), 2));
}

#[tokio::test]
async fn a_connection_of_another_user_is_closed_before_anything_is_read() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let somebody_else = rustix::process::geteuid().as_raw() ^ 1;
    let relay = start(&[&kdc], Limits { uid: somebody_else, ..Limits::default() }, LONG);
    assert_eq!(relay.raw(&transport::framed(&Ask::tgt().encode())).await, b"");
    assert_eq!((kdc.counts(), relay.observer.numbers().foreign), ((0, 0), 1));
}

#[tokio::test]
async fn more_connections_and_requests_than_allowed_are_closed() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    for limits in [Limits { connections: 0, ..Limits::default() }, Limits { rate: 0, ..Limits::default() }] {
        let relay = start(&[&kdc], limits, LONG);
        assert_eq!(relay.raw(&transport::framed(&Ask::tgt().encode())).await, b"");
        assert_eq!(relay.observer.numbers().limited, 1);
    }
    assert_eq!(kdc.counts(), (0, 0));
}

#[tokio::test]
async fn a_datagram_is_answered_with_a_final_error_and_never_passed_on() {
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let relay = relay(&[&kdc]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect((Ipv4Addr::LOCALHOST, relay.port)).await.unwrap();
    client.send(b"garbage").await.unwrap();
    client.send(&Ask::tgt().encode()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(SOON, client.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(KrbError::parse(&buffer[..length]).unwrap().code, UNANSWERED);
    assert_eq!(kdc.counts(), (0, 0));
}

#[tokio::test]
async fn more_datagrams_than_allowed_are_dropped() {
    let relay = start(&[], Limits { rate: 1, ..Limits::default() }, LONG);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect((Ipv4Addr::LOCALHOST, relay.port)).await.unwrap();
    for _ in 0..2 {
        client.send(&Ask::tgt().encode()).await.unwrap();
    }
    let mut buffer = [0; 4096];
    timeout(SOON, client.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(timeout(SHORT.0, client.recv(&mut buffer)).await.is_err());
}

#[tokio::test]
async fn exchanges_under_way_end_with_the_relay() {
    let kdc = FakeKdc::start(Does::Silent);
    let relay = relay(&[&kdc]);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).await.unwrap();
    stream.write_all(&transport::framed(&Ask::s4u2self("alice").encode())).await.unwrap();
    relay.stop.send(()).unwrap();
    timeout(SOON, relay.task).await.unwrap().unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).await.is_err());
}

/// The worker threads' way: blocking sockets outside the runtime, connected before the relay serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plain_threads_are_served_and_may_connect_before_the_relay_serves() {
    use std::io::{Read as _, Write as _};
    let kdc = FakeKdc::start(Does::Answers(tgt_reply()));
    let bound = Relay::bind().unwrap();
    let mut early = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port())).unwrap();
    early.write_all(&transport::framed(&Ask::tgt().encode())).unwrap();
    let source = KdcSource::List(vec![KdcAddress { host: "127.0.0.1".into(), port: kdc.port }]);
    let config = RelayConfig {
        realms: BTreeMap::from([(Realm::parse("CORP.EXAMPLE").unwrap(), source)]),
        kdc_timeout: LONG.0,
        exchange_timeout: LONG.1,
        clock_skew: Duration::from_mins(5),
    };
    tokio::spawn(bound.serve(config, std::future::pending()));
    let worker = std::thread::spawn(move || {
        let mut answer = Vec::new();
        early.set_read_timeout(Some(SOON)).unwrap();
        early.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap();
    assert_eq!(answer, transport::framed(&tgt_reply()));
}
