use std::num::NonZeroU32;

use super::*;

fn realm(name: &str) -> Realm {
    Realm::parse(name).unwrap()
}

fn corp() -> Realm {
    realm("CORP.EXAMPLE")
}

fn user(name: &str) -> RequestedName {
    RequestedName::Enterprise(name.into())
}

fn pace(max_concurrent: usize) -> Pace {
    Pace { max_concurrent: Some(max_concurrent), max_rate: None }
}

fn line(max_concurrent: usize, capacity: usize) -> Line<&'static str> {
    Line::new([(corp(), pace(max_concurrent))], capacity)
}

/// Everything in the order in which one worker would do it.
fn drained(line: &mut Line<&'static str>, now: Instant) -> Vec<&'static str> {
    let mut order = Vec::new();
    while let Next::Run(realm, job) = line.next(now) {
        line.finished(&realm, Duration::from_millis(10));
        order.push(job);
    }
    order
}

#[test]
fn a_user_with_many_wishes_waits_between_them_for_everybody_else() {
    let mut line = line(1, 100);
    for job in ["greedy1", "greedy2", "greedy3"] {
        line.join(&corp(), &user("greedy"), Urgency::Asked, job).unwrap();
    }
    line.join(&corp(), &user("alice"), Urgency::Asked, "alice").unwrap();
    line.join(&corp(), &user("bob"), Urgency::Asked, "bob").unwrap();
    assert_eq!(drained(&mut line, Instant::now()), ["greedy1", "alice", "bob", "greedy2", "greedy3"]);
    assert_eq!(line.waiting(), 0);
}

#[test]
fn users_are_taken_in_the_order_in_which_they_came() {
    let mut line = line(4, 10_000);
    let names: Vec<&'static str> = (0..1000).map(|n| &*Box::leak(format!("user{n}").into_boxed_str())).collect();
    for name in &names {
        line.join(&corp(), &user(name), Urgency::Asked, name).unwrap();
    }
    assert_eq!(drained(&mut line, Instant::now()), names);
}

#[test]
fn what_is_wanted_ahead_of_time_waits_until_nobody_asks() {
    let mut line = line(1, 100);
    line.join(&corp(), &user("early"), Urgency::Ahead, "early").unwrap();
    line.join(&corp(), &user("alice"), Urgency::Asked, "alice").unwrap();
    line.join(&corp(), &user("bob"), Urgency::Asked, "bob").unwrap();
    assert_eq!(drained(&mut line, Instant::now()), ["alice", "bob", "early"]);
}

#[test]
fn what_somebody_comes_to_wait_for_is_no_longer_ahead_of_time() {
    let mut line = line(1, 100);
    let number = line.join(&corp(), &user("early"), Urgency::Ahead, "early").unwrap();
    line.join(&corp(), &user("later"), Urgency::Ahead, "later").unwrap();
    line.join(&corp(), &user("alice"), Urgency::Asked, "alice").unwrap();
    line.hurry(&corp(), &user("early"), number);
    // A second time, or when it runs already, changes nothing.
    line.hurry(&corp(), &user("early"), number);
    line.join(&corp(), &user("bob"), Urgency::Asked, "bob").unwrap();
    assert_eq!(drained(&mut line, Instant::now()), ["alice", "early", "bob", "later"]);
}

#[test]
fn a_full_line_takes_nobody_and_half_of_it_is_kept_for_those_who_ask() {
    let mut line = line(1, 4);
    for name in ["a", "b"] {
        line.join(&corp(), &user(name), Urgency::Ahead, name).unwrap();
    }
    assert_eq!(line.join(&corp(), &user("c"), Urgency::Ahead, "c"), None);
    for name in ["d", "e"] {
        line.join(&corp(), &user(name), Urgency::Asked, name).unwrap();
    }
    assert_eq!(line.join(&corp(), &user("f"), Urgency::Asked, "f"), None);
    assert_eq!(line.waiting(), 4);
    assert!(matches!(line.next(Instant::now()), Next::Run(_, "d")));
    assert!(line.join(&corp(), &user("f"), Urgency::Asked, "f").is_some());
}

#[test]
fn a_realm_that_answers_slowly_takes_up_no_more_than_its_share_and_the_others_go_on() {
    let slow = realm("SLOW.EXAMPLE");
    let mut line = Line::new([(corp(), pace(4)), (slow.clone(), pace(2))], 100);
    for name in ["s1", "s2", "s3", "s4"] {
        line.join(&slow, &user(name), Urgency::Asked, name).unwrap();
    }
    for name in ["c1", "c2"] {
        line.join(&corp(), &user(name), Urgency::Asked, name).unwrap();
    }
    let now = Instant::now();
    let mut running = Vec::new();
    while let Next::Run(_, job) = line.next(now) {
        running.push(job);
    }
    running.sort_unstable();
    assert_eq!(running, ["c1", "c2", "s1", "s2"]);
    assert_eq!(line.next(now), Next::Nothing);
    line.finished(&slow, Duration::from_secs(2));
    assert_eq!(line.next(now), Next::Run(slow, "s3"));
}

#[test]
fn a_realm_is_asked_no_oftener_than_its_rate() {
    let rate = NonZeroU32::new(20);
    let mut line = Line::new([(corp(), Pace { max_concurrent: Some(100), max_rate: rate })], 1000);
    for n in 0..200 {
        line.join(&corp(), &user(&n.to_string()), Urgency::Asked, n).unwrap();
    }
    let start = Instant::now();
    let (mut now, mut taken) = (start, 0);
    while now < start + Duration::from_secs(5) {
        match line.next(now) {
            Next::Run(..) => taken += 1,
            Next::Wait(until) => {
                assert!(until > now, "or workers would spin");
                now = until;
            }
            Next::Nothing => break,
        }
    }
    assert!((95..=105).contains(&taken), "{taken} in five seconds");
}

#[test]
fn the_estimate_follows_what_acquisitions_take_and_the_place_in_the_line() {
    let mut line = line(2, 1000);
    for _ in 0..100 {
        line.finished(&corp(), Duration::from_millis(100));
    }
    let numbers: Vec<Number> =
        (0..100).map(|n: u32| line.join(&corp(), &user(&n.to_string()), Urgency::Asked, "").unwrap()).collect();
    let wait = |line: &Line<_>, at: usize| line.wait(&corp(), Some((&user(&at.to_string()), numbers[at]))).as_secs_f64();
    assert!((4.5..5.5).contains(&wait(&line, 99)), "{}", wait(&line, 99));
    assert!(wait(&line, 0) < 0.2);
    for _ in 0..50 {
        let Next::Run(realm, _) = line.next(Instant::now()) else { panic!() };
        line.finished(&realm, Duration::from_millis(100));
    }
    assert!((2.0..3.0).contains(&wait(&line, 99)), "{}", wait(&line, 99));
}

/// With several back ends a user has several places, and rounds count.
#[test]
fn the_estimate_knows_that_users_are_taken_in_turn() {
    let mut line = line(1, 10_000);
    for _ in 0..100 {
        line.finished(&corp(), Duration::from_millis(100));
    }
    let mut places = Vec::new();
    for n in 0..40_u32 {
        let name = user(&n.to_string());
        for _ in 0..4 {
            places.push((name.clone(), line.join(&corp(), &name, Urgency::Asked, "").unwrap()));
        }
    }
    let newcomer = user("newcomer");
    let place = line.join(&corp(), &newcomer, Urgency::Asked, "").unwrap();
    let seconds = |line: &Line<_>, user: &RequestedName, number| line.wait(&corp(), Some((user, number))).as_secs_f64();
    // Forty-one users, a first wish each; then three more rounds.
    assert!((3.9..4.4).contains(&seconds(&line, &newcomer, place)), "{}", seconds(&line, &newcomer, place));
    let (first_user, last_wish) = &places[3];
    assert!((15.5..17.0).contains(&seconds(&line, first_user, *last_wish)), "{}", seconds(&line, first_user, *last_wish));
    for _ in 0..81 {
        let Next::Run(realm, _) = line.next(Instant::now()) else { panic!() };
        line.finished(&realm, Duration::from_millis(100));
    }
    let left = seconds(&line, first_user, *last_wish);
    assert!((7.0..9.0).contains(&left), "two rounds of forty: {left}");
    assert!(seconds(&line, &newcomer, place) < 0.2, "served");
}

#[test]
fn what_turns_out_to_be_another_realms_waits_in_that_realms_line_however_full_it_is() {
    let slow = realm("SLOW.EXAMPLE");
    let mut line = Line::new([(corp(), pace(4)), (slow.clone(), pace(1))], 3);
    for name in ["s1", "s2", "c1"] {
        line.join(&corp(), &user(name), Urgency::Asked, name).unwrap();
    }
    let now = Instant::now();
    let mut running = Vec::new();
    while let Next::Run(taken_from, job) = line.next(now) {
        if taken_from == corp() && job.starts_with('s') {
            line.moved(&corp(), &slow, &user(job), job);
        } else {
            running.push((taken_from, job));
        }
    }
    running.sort_by_key(|(_, job)| *job);
    assert_eq!(running, [(corp(), "c1"), (slow.clone(), "s1")], "one at a time of the slow realm");
    assert_eq!(line.waiting(), 1);
    line.finished(&slow, Duration::from_secs(1));
    assert_eq!(line.next(now), Next::Run(slow, "s2"));
}

#[test]
fn a_realm_that_is_not_known_has_no_line() {
    let mut line = line(1, 10);
    assert_eq!(line.join(&realm("OTHER.EXAMPLE"), &user("alice"), Urgency::Asked, "alice"), None);
    assert_eq!(line.next(Instant::now()), Next::Nothing);
}
