//! The self-test of a back end: what it lets devices have, and what closes it.

use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use super::*;
use crate::identity::RequestedName;

fn user(upn: &str) -> RequestedName {
    RequestedName::Enterprise(upn.into())
}

/// A bridge whose back end is to be proved by probe1 and probe2.
fn bridge_to(address: SocketAddr) -> Bridge {
    let test = SelfTestConfig { users: [user("probe1@corp"), user("probe2@corp")], path: "/eas/whoami".into() };
    Bridge::with(BackendConfig { self_test: Some(test), ..backend_at(address) }, LIMITS, FixedTokens::default())
}

impl Bridge {
    /// Starts the self-test. What is returned has it run again.
    fn prove(&self) -> watch::Sender<()> {
        let (again, words) = watch::channel(());
        tokio::spawn(prove_isolation(Arc::clone(&self.proxy), words, self.trigger.listen()));
        again
    }

    fn state(&self) -> Isolation {
        self.proxy.isolation().remove(0).1
    }

    async fn becomes(&self, state: &str) {
        until(|| self.state().name() == state).await;
    }

    /// What a device of alice's gets.
    async fn alices_status(&self) -> u16 {
        self.device("alice").await.get("/eas").await.status
    }

    /// What the state says.
    fn reason(&self) -> String {
        match self.state() {
            Isolation::Unproved(why) | Isolation::Failed(why) => why,
            other => panic!("{other:?} has no reason"),
        }
    }
}

/// The user a request was authenticated as.
fn authenticated(headers: &http::HeaderMap) -> String {
    token_of(headers["authorization"].to_str().unwrap()).split('|').next().unwrap().to_owned()
}

fn events_of<'a>(events: &'a [Value], rule: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["mapper"] == rule).collect()
}

#[tokio::test]
async fn a_back_end_that_keeps_users_apart_is_opened_by_its_self_test_and_not_before() {
    let bridge = bridge_to(backend(echo_user).await);
    let refused = bridge.device("alice").await.get("/eas").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")));
    let again = bridge.prove();
    bridge.becomes("proved").await;
    assert_eq!(bridge.alices_status().await, 200);
    drop(again);

    let events = bridge.finish().await;
    assert_eq!(events[0]["reason"], "isolation-unproved");
    assert_eq!((&events[0]["stage"], &events[0]["backend"]), (&"upstream-auth".into(), &"mbx".into()));
    let probes = events_of(&events, "self-test");
    for probe in ["probe1@corp", "probe2@corp"] {
        assert_eq!(probes.iter().filter(|event| event["principal"] == probe).count(), 12, "{probes:#?}");
    }
    assert!(probes.iter().all(|event| event["outcome"] == "served" && event["path"] == "/eas/whoami"), "{probes:#?}");
    assert_eq!(events.len(), 24 + 2, "nothing besides the probes and alice");
}

#[tokio::test]
async fn the_probes_ask_on_kept_and_on_fresh_connections_and_several_at_once() {
    let seen = Arc::new(Mutex::new(HashMap::<(String, usize), usize>::new()));
    let noted = Arc::clone(&seen);
    let address = backend(move |request, number| {
        *noted.lock().unwrap().entry((authenticated(request.headers()), number)).or_default() += 1;
        echo_user(request, number)
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("proved").await;
    let seen = seen.lock().unwrap();
    for probe in ["probe1@corp", "probe2@corp"] {
        let mine: Vec<_> = seen.iter().filter(|((user, _), _)| user == probe).map(|(_, requests)| *requests).collect();
        assert!(mine.len() >= 2 && mine.iter().any(|requests| *requests >= 4), "{seen:?}");
    }
}

#[tokio::test]
async fn a_back_end_without_a_self_test_serves_at_once() {
    let bridge = Bridge::to(backend(echo_user).await);
    let _again = bridge.prove();
    assert_eq!(bridge.state(), Isolation::Off);
    assert_eq!(bridge.alices_status().await, 200);
}

#[tokio::test]
async fn a_back_end_that_remembers_the_connections_first_user_is_harmless_behind_connections_of_ones_own() {
    let first = Arc::new(Mutex::new(HashMap::<usize, String>::new()));
    let address = backend(move |request: Request<Incoming>, number| {
        let user = first.lock().unwrap().entry(number).or_insert_with(|| authenticated(request.headers())).clone();
        async move { proved(request.headers(), 200, user) }
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("proved").await;
    assert_eq!(bridge.alices_status().await, 200);
}

#[tokio::test]
async fn something_in_front_that_shares_connections_to_such_a_back_end_is_found_out() {
    // Whoever came first is everybody.
    let first = Arc::new(Mutex::new(None::<String>));
    let address = backend(move |request: Request<Incoming>, _| {
        let user = first.lock().unwrap().get_or_insert_with(|| authenticated(request.headers())).clone();
        async move { proved(request.headers(), 200, user) }
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("failed").await;
    let reason = bridge.reason();
    assert!(reason.contains("an answer to probe2@corp names probe1 (correlation id "), "{reason}");
    assert_eq!(*bridge.tokens.evicted.lock().unwrap(), ["HTTP/mbx.corp.example"]);
    let refused = bridge.device("alice").await.get("/eas").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("300")));
    assert!(!refused.text().contains("probe"), "{refused:?}");
    let events = bridge.finish().await;
    assert_eq!(events.last().unwrap()["reason"], "isolation-failed");
}

#[tokio::test]
async fn a_mix_up_only_while_users_ask_at_once_is_found_out() {
    let last = Arc::new(Mutex::new(String::new()));
    let address = backend(move |request: Request<Incoming>, _| {
        let last = Arc::clone(&last);
        async move {
            // The variable that should have been the request's own, and the time a page takes.
            *last.lock().unwrap() = authenticated(request.headers());
            tokio::time::sleep(Duration::from_millis(20)).await;
            let user = last.lock().unwrap().clone();
            proved(request.headers(), 200, user)
        }
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("failed").await;
}

#[tokio::test]
async fn the_other_users_name_counts_in_any_header_and_letter_case() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let page = proved(request.headers(), 200, authenticated(request.headers()));
        with(page, "x-last-user", "CORP\\PROBE1")
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("failed").await;
    assert!(bridge.reason().contains("an answer to probe2@corp names probe1"), "{}", bridge.reason());
}

#[tokio::test]
async fn ones_own_name_in_a_header_is_enough() {
    let address = backend(|request: Request<Incoming>, _| async move {
        let user = authenticated(request.headers());
        with(proved(request.headers(), 200, "hello"), "x-backend-user", &user.to_uppercase())
    })
    .await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    bridge.becomes("proved").await;
}

#[tokio::test]
async fn a_page_that_names_nobody_proves_nothing_and_closes() {
    for body in [Vec::new(), b"welcome".to_vec(), [vec![b' '; 64 * 1024], b"probe1 probe2".to_vec()].concat()] {
        let address = backend(move |request: Request<Incoming>, _| {
            let body = body.clone();
            async move { proved(request.headers(), 200, body) }
        })
        .await;
        let bridge = bridge_to(address);
        let _again = bridge.prove();
        bridge.becomes("failed").await;
        assert!(bridge.reason().contains("does not name its user"), "{}", bridge.reason());
        assert_eq!(bridge.alices_status().await, 503);
    }
}

#[tokio::test]
async fn a_back_end_that_is_away_or_in_trouble_is_asked_again_until_it_answers() {
    let well = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&well);
    let address = backend(move |request: Request<Incoming>, number| {
        let well = asked.load(Ordering::SeqCst);
        async move { if well { echo_user(request, number).await } else { proved(request.headers(), 404, "probe2") } }
    })
    .await;
    let bridge = bridge_to(address);
    bridge.tokens.refused.lock().unwrap().insert("probe1@corp".into(), Cause::KdcUnreachable);
    let _again = bridge.prove();
    until(|| bridge.reason().contains("probe1@corp: status 503")).await;
    assert_eq!(bridge.alices_status().await, 503);
    bridge.tokens.refused.lock().unwrap().clear();
    until(|| bridge.reason().contains("probe1@corp: status 404")).await;
    assert_eq!(bridge.alices_status().await, 503);
    well.store(true, Ordering::SeqCst);
    bridge.becomes("proved").await;
    assert_eq!(bridge.alices_status().await, 200);
}

/// What the back end of the tests below is like now.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Away,
    Mixed,
}

/// A back end in a mood, proved while it was good.
async fn proved_while_good() -> (Bridge, watch::Sender<()>, Arc<Mutex<Mood>>) {
    let mood = Arc::new(Mutex::new(Mood::Good));
    let now = Arc::clone(&mood);
    let address = backend(move |request: Request<Incoming>, number| {
        let mood = *now.lock().unwrap();
        async move {
            match mood {
                Mood::Good => echo_user(request, number).await,
                Mood::Away => proved(request.headers(), 500, ""),
                Mood::Mixed => proved(request.headers(), 200, "probe1"),
            }
        }
    })
    .await;
    let bridge = bridge_to(address);
    let again = bridge.prove();
    bridge.becomes("proved").await;
    (bridge, again, mood)
}

#[tokio::test]
async fn a_proved_back_end_stays_open_when_a_test_on_demand_gets_no_answer() {
    let (bridge, again, mood) = proved_while_good().await;
    *mood.lock().unwrap() = Mood::Away;
    let before = bridge.tokens.issued.load(Ordering::SeqCst);
    again.send_replace(());
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > before).await;
    // It is asked again with a pause: by then the first attempt has been settled.
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > before + 1).await;
    assert_eq!(bridge.state(), Isolation::Proved);
    *mood.lock().unwrap() = Mood::Good;
    assert_eq!(bridge.alices_status().await, 200);
}

#[tokio::test]
async fn a_mix_up_on_demand_closes_a_proved_back_end_until_a_demand_proves_it_again() {
    let (bridge, again, mood) = proved_while_good().await;
    let mut alice = bridge.device("alice").await;
    assert_eq!(alice.get("/eas").await.status, 200);
    *mood.lock().unwrap() = Mood::Mixed;
    again.send_replace(());
    bridge.becomes("failed").await;
    assert_eq!(alice.get("/eas").await.status, 503);

    // Nothing but a word opens it again.
    *mood.lock().unwrap() = Mood::Good;
    assert_eq!(alice.get("/eas").await.status, 503);
    again.send_replace(());
    bridge.becomes("proved").await;
    assert_eq!(alice.get("/eas").await.status, 200);
}

#[tokio::test]
async fn a_failed_back_end_stays_closed_when_the_next_test_gets_no_answer() {
    let (bridge, again, mood) = proved_while_good().await;
    *mood.lock().unwrap() = Mood::Mixed;
    again.send_replace(());
    bridge.becomes("failed").await;
    *mood.lock().unwrap() = Mood::Away;
    let before = bridge.tokens.issued.load(Ordering::SeqCst);
    again.send_replace(());
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > before + 1).await;
    assert_eq!(bridge.state().name(), "failed");
    assert_eq!(bridge.alices_status().await, 503);
}

#[tokio::test]
async fn an_answer_that_comes_after_a_mix_up_was_found_is_handed_to_nobody() {
    let (release, gate) = watch::channel(false);
    let mixed = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&mixed);
    let address = backend(move |request: Request<Incoming>, number| {
        let (mixed, mut gate) = (now.load(Ordering::SeqCst), gate.clone());
        async move {
            if authenticated(request.headers()) == "alice" {
                gate.wait_for(|open| *open).await.unwrap();
            } else if mixed {
                return proved(request.headers(), 200, "probe1");
            }
            echo_user(request, number).await
        }
    })
    .await;
    let bridge = bridge_to(address);
    let again = bridge.prove();
    bridge.becomes("proved").await;
    let mut alice = bridge.device("alice").await;
    let before = bridge.tokens.issued.load(Ordering::SeqCst);
    alice.send("GET /eas HTTP/1.1\r\nHost: mail.example\r\n\r\n").await;
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > before).await;
    mixed.store(true, Ordering::SeqCst);
    again.send_replace(());
    bridge.becomes("failed").await;
    release.send_replace(true);
    assert_eq!(alice.answer().await.status, 503);
}

#[tokio::test]
async fn kept_upstream_connections_are_closed_by_a_mix_up() {
    let (bridge, again, mood) = proved_while_good().await;
    let mut alice = bridge.device("alice").await;
    assert_eq!(alice.get("/eas").await.status, 200);
    let kept = || bridge.proxy.backends[0].kept_connections();
    until(|| kept() > 0).await;
    *mood.lock().unwrap() = Mood::Mixed;
    again.send_replace(());
    bridge.becomes("failed").await;
    until(|| kept() == 0).await;
}

#[tokio::test]
async fn a_self_test_under_way_does_not_hold_up_a_stop() {
    let address = backend(|_, _| std::future::pending()).await;
    let bridge = bridge_to(address);
    let _again = bridge.prove();
    until(|| bridge.tokens.issued.load(Ordering::SeqCst) > 0).await;
    let events = bridge.finish().await;
    assert_eq!(events_of(&events, "self-test").len(), events.len());
}

#[test]
fn a_self_test_finds_the_host_that_leads_to_its_back_end() {
    let route = |host: Option<&str>, path: &str, backend| RouteConfig { host: host.map(Into::into), path: path.into(), backend };
    let routes = [route(None, "/eas", 0), route(Some("mail.example"), "/owa", 1), route(Some("other.example"), "/owa", 0)];
    let host = |backend, path| host_leading_to(&routes, backend, "mbx.example", path);
    assert_eq!(host(0, "/eas/whoami?x=y").as_deref(), Some("mbx.example"));
    assert_eq!(host(1, "/owa/whoami").as_deref(), Some("mail.example"));
    assert_eq!(host(0, "/owa/whoami").as_deref(), Some("other.example"));
    assert_eq!(host(1, "/eas"), None);
    assert_eq!(host(0, "/eas/../owa"), None);
}
