//! How long an answer counts.

use super::*;

fn alice() -> Account {
    user("alice", OWN)
}

fn disabled() -> Account {
    Account { control: 0x202, ..alice() }
}

fn leaf() -> Leaf {
    Leaf::upn("alice@corp.example").sid(OWN)
}

fn set_up(accounts: &[Account]) -> (Arc<Listed>, Mapper) {
    let listed = Listed::of(accounts);
    let mapper = load(vec![strong_rule()], &AccountRules::default(), Some(Arc::clone(&listed)));
    (listed, mapper)
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// Far enough in paused time.
async fn ask(mapper: &Mapper, leaf: &Leaf) -> Result<Arc<Principal>, Failure> {
    let (certificate, claims) = leaf.admitted();
    mapper.resolve(&certificate, &claims, (tokio::time::Instant::now() + Duration::from_secs(10)).into_std()).await
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_known_without_asking_until_its_time_is_over() {
    let (listed, mapper) = set_up(&[alice()]);
    let (certificate, _) = leaf().admitted();
    assert!(mapper.known(&certificate).is_none());
    ask(&mapper, &leaf()).await.unwrap();
    pass(119).await;
    assert!(mapper.known(&certificate).unwrap().is_ok());
    assert!(ask(&mapper, &leaf()).await.is_ok());
    assert_eq!(listed.asked(), 1);
    pass(2).await;
    assert!(mapper.known(&certificate).is_none());
    assert!(ask(&mapper, &leaf()).await.is_ok());
    assert_eq!(listed.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_account_is_denied_within_the_time_an_answer_counts() {
    let (listed, mapper) = set_up(&[alice()]);
    ask(&mapper, &leaf()).await.unwrap();
    listed.set(&[disabled()]);
    pass(60).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());
    pass(61).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_for_half_a_minute_at_most() {
    let (listed, mapper) = set_up(&[disabled()]);
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled);
    listed.set(&[alice()]);
    pass(29).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled);
    assert_eq!(listed.asked(), 1);
    pass(2).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());

    let hour = Duration::from_hours(1);
    let greedy = AccountRules { positive_ttl: hour, negative_ttl: hour, ..AccountRules::default() };
    let mapper = load(vec![strong_rule()], &greedy, Some(Arc::clone(&listed)));
    ask(&mapper, &leaf()).await.unwrap();
    listed.set(&[disabled()]);
    pass(301).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled);
    listed.set(&[alice()]);
    pass(31).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn while_no_server_answers_a_mapping_is_used_on_and_asked_about_again() {
    let (listed, mapper) = set_up(&[alice()]);
    ask(&mapper, &leaf()).await.unwrap();
    listed.fail(Cause::DirectoryUnreachable);
    pass(121).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());
    assert_eq!(mapper.counts().ridden, 1);
    let asked = listed.asked();
    pass(14).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());
    assert_eq!(listed.asked(), asked, "not every request waits for a timeout");
    // The directory is back, and the account disabled.
    listed.fail(None);
    listed.set(&[disabled()]);
    pass(2).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled);
    // From then on nothing is left to be used.
    listed.fail(Cause::DirectoryUnreachable);
    pass(31).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::DirectoryUnreachable);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_hides_no_refusal_that_another_one_brings() {
    let own = Account { certificates: vec![leaf().der()], ..alice() };
    for slow_first in [true, false] {
        let listed = Listed::of(from_ref(&own));
        let mut rules = vec![RuleSettings::UserCertificate, sid_rule()];
        if !slow_first {
            rules.reverse();
        }
        let mapper = load(rules, &AccountRules::default(), Some(Arc::clone(&listed)));
        ask(&mapper, &leaf()).await.unwrap();
        listed.slow(Attribute::UserCertificate);
        pass(121).await;
        assert!(ask(&mapper, &leaf()).await.is_ok(), "ridden through");
        listed.set(&[Account { control: 0x202, ..own.clone() }]);
        pass(121).await;
        assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::AccountDisabled, "slow first: {slow_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn riding_ends() {
    let (listed, mapper) = set_up(&[alice()]);
    ask(&mapper, &leaf()).await.unwrap();
    listed.fail(Cause::DirectoryUnreachable);
    for _ in 0..240 {
        pass(60).await;
        assert!(ask(&mapper, &leaf()).await.is_ok());
    }
    pass(121).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::DirectoryUnreachable);

    let never = AccountRules { max_ride_through: Duration::ZERO, ..AccountRules::default() };
    let listed = Listed::of(&[alice()]);
    let mapper = load(vec![strong_rule()], &never, Some(Arc::clone(&listed)));
    ask(&mapper, &leaf()).await.unwrap();
    listed.fail(Cause::DirectoryUnreachable);
    pass(121).await;
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::DirectoryUnreachable);
}

#[tokio::test(start_paused = true)]
async fn only_silence_is_ridden_through() {
    for trouble in [Cause::DirectoryRefused, Cause::DirectoryInvalid] {
        let (listed, mapper) = set_up(&[alice()]);
        ask(&mapper, &leaf()).await.unwrap();
        listed.fail(trouble);
        pass(121).await;
        assert_eq!(cause(ask(&mapper, &leaf()).await), trouble);
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_is_remembered_shortly() {
    let (listed, mapper) = set_up(&[alice()]);
    listed.fail(Cause::DirectoryUnreachable);
    for _ in 0..3 {
        assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::DirectoryUnreachable);
    }
    assert_eq!(listed.asked(), 1);
    listed.fail(None);
    pass(6).await;
    assert!(ask(&mapper, &leaf()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_says_nothing_is_waited_for_until_the_deadline() {
    let (listed, mapper) = set_up(&[alice()]);
    listed.delay(Duration::from_hours(1));
    let begin = tokio::time::Instant::now();
    assert_eq!(cause(ask(&mapper, &leaf()).await), Cause::DirectoryUnreachable);
    assert_eq!(begin.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_one_answer_ask_once() {
    let (listed, mapper) = set_up(&[alice()]);
    listed.delay(Duration::from_secs(1));
    let mapper = Arc::new(mapper);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mapper = Arc::clone(&mapper);
        waiting.spawn(async move { ask(&mapper, &leaf()).await.is_ok() });
    }
    assert!(waiting.join_all().await.into_iter().all(|good| good));
    assert_eq!(listed.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_first_may_go_and_the_next_one_asks() {
    let (listed, mapper) = set_up(&[alice()]);
    listed.delay(Duration::from_secs(1));
    let mapper = Arc::new(mapper);
    let first = tokio::spawn({
        let mapper = Arc::clone(&mapper);
        async move { ask(&mapper, &leaf()).await }
    });
    tokio::task::yield_now().await;
    let leaf = leaf();
    let second = ask(&mapper, &leaf);
    let ((), second) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            first.abort();
        },
        second
    );
    assert!(second.is_ok());
    assert_eq!(listed.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_remembered_one_by_one_and_by_their_issuers_key() {
    let (listed, mapper) = set_up(&[alice()]);
    ask(&mapper, &leaf()).await.unwrap();
    ask(&mapper, &Leaf { serial: vec![0x55], ..leaf() }).await.unwrap();
    assert_eq!(listed.asked(), 2);
    let der = leaf().der();
    let other_key = ClientCertificate::for_test(&der, b"another key");
    assert!(mapper.known(&other_key).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_purge_forgets_also_what_was_being_asked() {
    let (listed, mapper) = set_up(&[alice()]);
    ask(&mapper, &leaf()).await.unwrap();
    mapper.purge();
    let (certificate, _) = leaf().admitted();
    assert!(mapper.known(&certificate).is_none());

    listed.delay(Duration::from_secs(1));
    let leaf = leaf();
    let (answer, ()) = tokio::join!(ask(&mapper, &leaf), async {
        tokio::task::yield_now().await;
        mapper.purge();
    });
    assert!(answer.is_ok());
    assert!(mapper.known(&certificate).is_none(), "the answer may be from before");
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_an_answer_counts_until_it_is_purged() {
    let mapper = load(vec![strong_rule()], &AccountRules::default(), None);
    ask(&mapper, &leaf()).await.unwrap();
    assert!(ask(&mapper, &Leaf::default()).await.is_err());
    pass(100_000).await;
    let known = |leaf: Leaf| mapper.known(&leaf.admitted().0);
    assert!(known(leaf()).unwrap().is_ok() && known(Leaf::default()).unwrap().is_err());
    mapper.purge();
    assert!(known(leaf()).is_none() && known(Leaf::default()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mapper_in_the_place_of_another_with_the_same_rules_knows_what_that_one_knew() {
    let site = Site::new();
    let leaf = Leaf::upn("alice@corp.example").sid(OWN);
    let listed = Listed::of(&[user("alice", OWN)]);
    let rules = AccountRules::default();
    let before = load(vec![sid_rule()], &rules, Some(Arc::clone(&listed)));
    resolve(&before, &leaf).await.unwrap();
    listed.fail(Cause::DirectoryUnreachable);
    let after = load(vec![sid_rule()], &rules, Some(Arc::clone(&listed))).in_place_of(&before);
    assert!(resolve(&after, &leaf).await.is_ok(), "remembered");
    tokio::time::advance(rules.positive_ttl).await;
    assert!(resolve(&after, &leaf).await.is_ok(), "ridden");
    assert_eq!(after.counts().ridden, 1);

    let stricter = AccountRules { deny_admin_count: true, ..AccountRules::default() };
    let other_rules = load(vec![strong_rule()], &rules, Some(Arc::clone(&listed))).in_place_of(&before);
    let other_gates = load(vec![sid_rule()], &stricter, Some(Arc::clone(&listed))).in_place_of(&before);
    let named = load(vec![sid_rule(), site.weak_rule(RuleKind::Upn)], &rules, Some(listed)).in_place_of(&before);
    for other in [other_rules, other_gates, named] {
        assert_eq!(cause(resolve(&other, &leaf).await), Cause::DirectoryUnreachable);
    }
}
