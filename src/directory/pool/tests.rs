use std::time::Duration;

use crate::der::tag;
use crate::directory::testkit::{
    ALICE, Asked, Authority, DOMAIN, PASSWORD, Reply, controller, deadline, done, element, entry, load, load_with, message_of,
    result, root_dse, sid, sound,
};
use crate::directory::{
    Account, Accounts as _, Attribute, Directory, DirectoryConfig, DirectorySecurity, DirectorySource, Filter, ServerHealth,
};
use crate::dns::testkit::{NameServer, SRV, srv};
use crate::failure::{Cause, Failure};

use super::super::server::Pace;
use super::*;

fn alice() -> Filter {
    Filter::equals(Attribute::UserPrincipalName, "alice@corp.example")
}

async fn find(directory: &Directory) -> Result<Vec<Account>, Failure> {
    directory.find(&alice(), deadline()).await
}

async fn finds_alice(directory: &Directory) {
    let found = find(directory).await.unwrap();
    assert_eq!(found.iter().map(|account| account.dn.as_str()).collect::<Vec<_>>(), [ALICE]);
}

/// Answers what `answer` gives for searches below the domain, and all else as a sound server does.
fn instead(answer: impl Fn() -> Reply + Send + Sync) -> impl Fn(&Asked) -> Reply + Send + Sync {
    move |asked| match asked {
        Asked::Search { base, .. } if base == DOMAIN => answer(),
        other => sound(other),
    }
}

#[tokio::test]
async fn one_connection_serves_one_question_after_the_other_after_one_bind() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let directory = authority.directory(&[&server]);
    for _ in 0..5 {
        finds_alice(&directory).await;
    }
    assert_eq!((server.connections(), server.binds()), (1, 1));
    let [health] = directory.health().try_into().unwrap();
    assert_eq!((health.idle, health.busy, health.failures, health.rests), (1, 0, 0, None));
    assert_eq!(health.server, format!("ldaps://127.0.0.1:{}", server.port));
}

#[tokio::test]
async fn simultaneous_questions_use_no_more_connections_than_configured() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let directory = load(&DirectoryConfig { connections: 2, ..authority.config(&[&server]) });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let directory = directory.clone();
        tasks.spawn(async move { find(&directory).await.unwrap().len() });
    }
    assert_eq!(tasks.join_all().await, [1; 20]);
    assert!(server.connections() <= 2, "{}", server.connections());
}

#[tokio::test]
async fn start_tls_comes_before_everything_else() {
    let authority = Authority::new();
    let server = authority.server_named("127.0.0.1", DirectorySecurity::StartTls, sound).await;
    let directory = authority.directory(&[&server]);
    finds_alice(&directory).await;
    assert_eq!(server.asked()[0], Asked::StartTls);
    assert!(matches!(server.asked()[1], Asked::Bind { .. }));
}

#[tokio::test]
async fn no_password_is_sent_where_start_tls_is_refused_or_answered_strangely() {
    let authority = Authority::new();
    let server = authority.server_named("127.0.0.1", DirectorySecurity::StartTls, sound).await;
    let answers = [
        Reply::Say(vec![result(tag::application(24), 52, "no certificate")]),
        Reply::Say(vec![result(tag::application(1), 0, "")]),
        Reply::Raw(message_of(7, &result(tag::application(24), 0, ""))),
        Reply::Raw(vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        Reply::Raw(vec![0x30, 0x80]),
        Reply::Last(Vec::new()),
        // Success, and in the same clear text what is meant to be taken for the server's after TLS.
        Reply::Last(
            [message_of(1, &result(tag::application(24), 0, "")), message_of(1, &result(tag::application(1), 0, ""))].concat(),
        ),
    ];
    for answer in answers {
        let shown = format!("{answer:?}");
        server.now(move |_| answer.clone());
        let directory = authority.directory(&[&server]);
        assert!(find(&directory).await.is_err(), "{shown}");
    }
    assert_eq!(server.asked(), vec![Asked::StartTls; 7]);
}

#[tokio::test]
async fn a_certificate_for_another_host_or_of_another_authority_is_refused_before_the_bind() {
    let authority = Authority::new();
    let other_name = authority.server_named("dc1.corp.example", DirectorySecurity::Ldaps, sound).await;
    let other_authority = Authority::new();
    let stranger = other_authority.server(sound).await;
    for server in [&other_name, &stranger] {
        let directory = authority.directory(&[server]);
        let failure = find(&directory).await.unwrap_err();
        assert_eq!(failure.cause, Cause::DirectoryUnreachable);
        assert!(failure.detail.contains("certificate"), "{}", failure.detail);
        assert_eq!(server.asked(), []);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over_and_asked_again_when_it_is_back() {
    let authority = Authority::new();
    let (first, second) = (authority.server(|_| Reply::Last(Vec::new())).await, authority.server(sound).await);
    let pace = Pace { first_rest: Duration::from_millis(500), ..Pace::default() };
    let directory = load_with(&authority.config(&[&first, &second]), pace);
    finds_alice(&directory).await;
    let [one, two] = directory.health().try_into().unwrap();
    assert_eq!((one.failures, one.rests.is_some(), one.answered), (1, true, None));
    assert_eq!((two.failures, two.rests), (0, None));
    // It comes back: found out without a question having to wait for it.
    first.now(sound);
    let begun = Instant::now();
    while directory.health()[0].rests.is_some() {
        finds_alice(&directory).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "it is never asked again");
    }
    let asked_of_second = second.asked().len();
    finds_alice(&directory).await;
    assert_eq!(second.asked().len(), asked_of_second, "and is preferred again");
    assert!(!first.searches().is_empty());
}

#[tokio::test]
async fn every_failure_doubles_the_rest_up_to_a_bound_with_some_jitter() {
    let authority = Authority::new();
    let server = authority.server(|_| Reply::Last(Vec::new())).await;
    let pace = Pace { first_rest: Duration::from_millis(8), longest_rest: Duration::from_millis(32), ..Pace::default() };
    let directory = load_with(&authority.config(&[&server]), pace);
    let mut rests = Vec::new();
    while rests.len() < 4 {
        find(&directory).await.unwrap_err();
        let [health] = <[ServerHealth; 1]>::try_from(directory.health()).unwrap();
        if usize::try_from(health.failures).unwrap() > rests.len() {
            rests.push(health.rests.unwrap());
        }
    }
    for (rest, at_most) in rests.iter().zip([10, 20, 40, 40]) {
        assert!(*rest <= Duration::from_millis(at_most), "{rests:?}");
    }
    assert!(rests[3] > Duration::from_millis(16), "{rests:?}");
}

#[tokio::test]
async fn a_server_that_rests_is_not_asked() {
    let authority = Authority::new();
    let server = authority.server(|_| Reply::Last(Vec::new())).await;
    let directory = authority.directory(&[&server]);
    for _ in 0..5 {
        assert_eq!(find(&directory).await.unwrap_err().cause, Cause::DirectoryUnreachable);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_silent_server_leaves_the_next_one_time_to_answer_before_the_deadline() {
    let authority = Authority::new();
    let (silent, second) = (authority.server(|_| Reply::Nothing).await, authority.server(sound).await);
    let directory = authority.directory(&[&silent, &second]);
    let begun = Instant::now();
    // The silent one may take five seconds for every step, and gets half of the time there is.
    let found = directory.find(&alice(), begun + Duration::from_secs(3)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_question_without_an_index_that_is_too_slow_costs_the_other_questions_no_server() {
    let authority = Authority::new();
    let asks_for = |filter: &[u8], name: &[u8]| filter.windows(name.len()).any(|window| window == name);
    let server = authority
        .server(move |asked| match asked {
            Asked::Search { filter, .. } if asks_for(filter, b"userCertificate") => Reply::Nothing,
            other => sound(other),
        })
        .await;
    let config = DirectoryConfig { operation_timeout: Duration::from_millis(200), ..authority.config(&[&server]) };
    let directory = load(&config);
    let slow = directory.find(&Filter::equals(Attribute::UserCertificate, b"\x30\x00"), deadline()).await;
    assert_eq!(slow.unwrap_err().cause, Cause::DirectoryUnreachable);
    let [health] = directory.health().try_into().unwrap();
    assert_eq!((health.failures, health.rests), (0, None));
    finds_alice(&directory).await;

    server.now(|asked| match asked {
        Asked::Search { scope: 2, .. } => Reply::Nothing,
        other => sound(other),
    });
    assert_eq!(find(&directory).await.unwrap_err().cause, Cause::DirectoryUnreachable);
    let [health] = directory.health().try_into().unwrap();
    assert!(health.rests.is_some(), "silence to a quick question is the server's");
}

#[tokio::test]
async fn the_deadline_holds_where_every_server_is_silent() {
    let authority = Authority::new();
    let (one, two) = (authority.server(|_| Reply::Nothing).await, authority.server(instead(|| Reply::Nothing)).await);
    let directory = authority.directory(&[&one, &two]);
    let begun = Instant::now();
    let failure = directory.find(&alice(), begun + Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::DirectoryUnreachable);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wrong_password_is_shown_once_to_one_server_and_its_meaning_told() {
    let authority = Authority::new();
    let (one, two) = (authority.server(sound).await, authority.server(sound).await);
    authority.set_password("wrong");
    let directory = authority.directory(&[&one, &two]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let directory = directory.clone();
        tasks.spawn(async move { find(&directory).await.unwrap_err() });
    }
    for failure in tasks.join_all().await {
        assert_eq!(failure.cause, Cause::DirectoryRefused);
        assert!(failure.detail.contains("wrong password; invalidCredentials (49)"), "{}", failure.detail);
        assert!(!failure.detail.contains("wrong\n"));
    }
    assert_eq!((one.binds(), two.binds()), (1, 0));
    let [health, _] = directory.health().try_into().unwrap();
    assert!(health.failures == 0 && health.last_failure.is_some_and(|why| why.contains("wrong password")));
}

#[tokio::test]
async fn a_password_that_was_changed_in_its_file_is_taken_up_at_once() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    authority.set_password("old");
    // Loaded with the old one, which is refused; the file has the new one by then.
    let directory = authority.directory(&[&server]);
    authority.set_password(PASSWORD);
    finds_alice(&directory).await;
    assert_eq!(server.binds(), 2);

    // And one that is changed while the refused one rests.
    authority.set_password("old");
    let directory = authority.directory(&[&server]);
    find(&directory).await.unwrap_err();
    find(&directory).await.unwrap_err();
    assert_eq!(server.binds(), 3);
    authority.set_password(PASSWORD);
    finds_alice(&directory).await;
    assert_eq!(server.binds(), 4);
}

#[tokio::test]
async fn a_server_that_cannot_judge_the_password_is_passed_over() {
    let authority = Authority::new();
    for code in [51, 52, 53, 8] {
        let one = authority.server(move |_| Reply::Say(vec![result(tag::application(1), code, "not now")])).await;
        let two = authority.server(sound).await;
        finds_alice(&authority.directory(&[&one, &two])).await;
        assert_eq!(one.binds(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_costs_nothing() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let directory = authority.directory(&[&server]);
    finds_alice(&directory).await;
    // The next question on the old connection finds it closed; a new one is opened for it.
    let told = std::sync::atomic::AtomicBool::new(false);
    server.now(move |asked| match asked {
        Asked::Search { .. } if !told.swap(true, std::sync::atomic::Ordering::SeqCst) => Reply::Last(Vec::new()),
        other => sound(other),
    });
    finds_alice(&directory).await;
    assert_eq!(server.connections(), 2);
    assert_eq!(directory.health()[0].last_failure, None);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_tried_before_it_is_trusted() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let pace = Pace { idle: Duration::ZERO, ..Pace::default() };
    let directory = load_with(&authority.config(&[&server]), pace);
    finds_alice(&directory).await;
    let probes = || server.asked().iter().filter(|asked| matches!(asked, Asked::Search { base, .. } if base.is_empty())).count();
    let before = probes();
    finds_alice(&directory).await;
    assert_eq!((probes() > before, server.connections()), (true, 1));
}

#[tokio::test]
async fn what_breaks_the_form_of_an_answer_is_contained_and_the_next_server_is_asked() {
    let deep = (0..20_000).fold(Vec::new(), |inner: Vec<u8>, _| if inner.len() > 60_000 { inner } else { element(0x30, &inner) });
    // The first connection's first question is about the server itself, so the search is the second.
    let broken: Vec<Vec<u8>> = vec![
        message_of(2, &deep),
        deep,
        vec![0x30, 0x80, 0, 0],
        vec![0x30, 0x00],
        vec![0x30, 0x03, 0x02, 0x01, 0x02],
        vec![0xFF; 64],
        message_of(2, &element(tag::application(4), b"")),
        message_of(2, &element(tag::application(5), &[tag::ENUMERATED, 0])),
        message_of(2, &result(tag::application(25), 0, "")),
        message_of(2, &result(tag::application(1), 0, "")),
        // Answers to questions that were not asked, or were long ago.
        message_of(1, &done(0)),
        message_of(3, &done(0)),
        // Notice of disconnection
        message_of(0, &result(tag::application(24), 52, "")),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    let authority = Authority::new();
    let (first, second) = (authority.server(sound).await, authority.server(sound).await);
    for bytes in broken {
        let raw = bytes.clone();
        first.now(instead(move || Reply::Raw(raw.clone())));
        let directory = authority.directory(&[&first, &second]);
        let found = find(&directory).await;
        assert_eq!(found.map(|found| found.len()), Ok(1), "{:02x?}", bytes.get(..bytes.len().min(40)));
        let alone = find(&authority.directory(&[&first])).await.unwrap_err();
        assert_eq!(alone.cause, Cause::DirectoryInvalid, "{:02x?}: {alone}", bytes.get(..bytes.len().min(40)));
    }
}

#[tokio::test]
async fn more_hits_than_asked_for_are_no_answer() {
    let many: Vec<_> = (0..5).map(|rid| entry("CN=x,DC=corp,DC=example", &[("objectSid", vec![sid(rid).to_binary()])])).collect();
    let authority = Authority::new();
    let server = authority.server(instead(move || Reply::Say(many.clone()))).await;
    assert_eq!(find(&authority.directory(&[&server])).await.unwrap_err().cause, Cause::DirectoryInvalid);
}

#[tokio::test]
async fn an_object_that_is_too_large_costs_its_own_question_and_not_the_server() {
    let huge = entry("CN=x", &[("objectSid", vec![vec![0; 30_000]; 10])]);
    let authority = Authority::new();
    let server = authority.server(instead(move || Reply::Say(vec![huge.clone(), done(0)]))).await;
    let directory = authority.directory(&[&server]);
    let failure = find(&directory).await.unwrap_err();
    assert!(failure.cause == Cause::DirectoryInvalid && failure.detail.contains("more bytes"), "{failure}");
    server.now(sound);
    finds_alice(&directory).await;
    assert_eq!((directory.health()[0].failures, server.connections()), (0, 2));
}

#[tokio::test]
async fn a_refusal_that_comes_after_its_question_was_given_up_is_remembered() {
    let authority = Authority::new();
    authority.set_password("wrong");
    let answer = Arc::new(tokio::sync::Semaphore::new(0));
    let server = authority.server(sound).await;
    server.hold_binds(answer.clone());
    let directory = authority.directory(&[&server]);
    for _ in 0..3 {
        directory.find(&alice(), Instant::now() + Duration::from_millis(50)).await.unwrap_err();
    }
    answer.add_permits(10);
    let failure = find(&directory).await.unwrap_err();
    assert_eq!((failure.cause, server.binds()), (Cause::DirectoryRefused, 1));
}

#[tokio::test]
async fn a_server_that_is_silent_to_the_bind_does_not_condemn_the_others() {
    let authority = Authority::new();
    let (silent, second) = (authority.server(|_| Reply::Nothing).await, authority.server(sound).await);
    let config = DirectoryConfig { operation_timeout: Duration::from_millis(400), ..authority.config(&[&silent, &second]) };
    let directory = load(&config);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let directory = directory.clone();
        tasks.spawn(async move { find(&directory).await.map(|found| found.len()) });
    }
    assert!(tasks.join_all().await.contains(&Ok(1)));
    assert_eq!(directory.health()[1].failures, 0);
    finds_alice(&directory).await;
}

#[tokio::test]
async fn a_server_that_closes_in_the_middle_of_an_answer_is_passed_over() {
    let half = message_of(2, &entry(ALICE, &[("objectSid", vec![sid(1104).to_binary()])]));
    let authority = Authority::new();
    let second = authority.server(sound).await;
    for cut in [1, half.len() / 2, half.len()] {
        let bytes = half[..cut].to_vec();
        let first = authority.server(instead(move || Reply::Last(bytes.clone()))).await;
        let directory = authority.directory(&[&first, &second]);
        assert_eq!(find(&directory).await.map(|found| found.len()), Ok(1), "{cut}");
        assert_eq!(directory.health()[0].failures, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_no_domain_controller_is_not_asked() {
    let authority = Authority::new();
    let first = authority
        .server(|asked| match asked {
            Asked::Search { base, .. } if base.is_empty() => Reply::Say(vec![entry("", &[]), done(0)]),
            other => sound(other),
        })
        .await;
    let second = authority.server(sound).await;
    finds_alice(&authority.directory(&[&first, &second])).await;
    assert_eq!(first.searches(), []);
}

#[tokio::test]
async fn servers_come_from_srv_records_and_only_those_below_the_domain_are_asked() {
    let names = NameServer::start(vec![
        ("_ldap._tcp.dc._msdcs.corp.example", SRV, srv(10, 389, "dc2.corp.example")),
        ("_ldap._tcp.dc._msdcs.corp.example", SRV, srv(0, 389, "dc1.corp.example.evil.example")),
        ("_ldap._tcp.dc._msdcs.corp.example", SRV, srv(0, 389, "evilcorp.example")),
        ("_ldap._tcp.dc._msdcs.corp.example", SRV, srv(5, 389, "DC1.corp.example")),
    ])
    .await;
    let authority = Authority::new();
    let config = DirectoryConfig { source: DirectorySource::Domain("Corp.Example".into()), ..authority.config(&[]) };
    let directory = Directory::build(&config, names.dns(), Pace::default(), Duration::from_mins(1)).unwrap();
    // Their addresses are the system's business, which has none for them.
    directory.find(&alice(), Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    let shown: Vec<_> = directory.health().into_iter().map(|health| health.server).collect();
    assert_eq!(shown, ["ldaps://dc1.corp.example:636", "ldaps://dc2.corp.example:636"]);
}

#[tokio::test]
async fn a_domain_whose_servers_cannot_be_looked_up_says_so() {
    let authority = Authority::new();
    let config = DirectoryConfig { source: DirectorySource::Domain("corp.example".into()), ..authority.config(&[]) };
    let failure = find(&load(&config)).await.unwrap_err();
    assert_eq!((failure.cause, failure.detail.as_str()), (Cause::DirectoryUnreachable, "no name may be looked up"));
}

#[tokio::test]
async fn of_a_list_only_servers_of_the_accounts_own_domain_are_asked_for_it() {
    let child = |asked: &Asked| controller(asked, "DC=sub,DC=corp,DC=example", &[("CN=Bob,DC=corp,DC=example", 1104)]);
    let authority = Authority::new();
    let (other, own) = (authority.server(child).await, authority.server(sound).await);
    // Found at the first, which is of another domain than the account; read at the second.
    let directory = authority.directory(&[&other, &own]);
    finds_alice(&directory).await;
    assert!(own.searches().iter().any(|asked| matches!(asked, Asked::Search { base, .. } if base.starts_with("<SID="))));
    assert!(!other.searches().iter().any(|asked| matches!(asked, Asked::Search { base, .. } if base.starts_with("<SID="))));

    let failure = find(&authority.directory(&[&other])).await.unwrap_err();
    assert_eq!(failure.cause, Cause::DirectoryUnreachable);
    assert!(
        failure.detail.contains("for the domain corp.example") && failure.detail.contains("is of sub.corp.example"),
        "{failure}"
    );
}

#[tokio::test]
async fn the_password_never_shows() {
    let authority = Authority::new();
    let server = authority.server(|asked| match asked {
        Asked::Search { base, .. } if base.is_empty() => root_dse(DOMAIN),
        other => sound(other),
    });
    let server = server.await;
    let directory = authority.directory(&[&server]);
    finds_alice(&directory).await;
    assert!(!format!("{directory:?}{:?}", directory.health()).contains(PASSWORD));
    let connector = directory.connector();
    assert!(!format!("{connector:?}").contains(PASSWORD));
}
