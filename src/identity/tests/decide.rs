//! What follows from all rules.

use proptest::prelude::*;

use super::*;

fn tried(outcome: Outcome) -> Tried {
    Tried {
        rule: RuleKind::Upn,
        position: 0,
        strength: Strength::Weak,
        selected: Ok(()),
        computed: Vec::new(),
        filter: None,
        hits: Vec::new(),
        outcome,
    }
}

fn claims() -> Claims {
    Leaf::upn("alice@corp.example").admitted().1
}

fn arbitrary_principal() -> impl Strategy<Value = Principal> {
    let names = prop_oneof![Just(enterprise("a@b.c")), Just(enterprise("d@b.c")), Just(account_name("a"))];
    let sids = prop_oneof![Just(ExpectedSid::PinOnFirstUse), Just(is(OWN)), Just(is(OTHER))];
    let rules = prop_oneof![Just(RuleKind::Upn), Just(RuleKind::Sid), Just(RuleKind::DnsName)];
    let strengths = prop_oneof![Just(Strength::Weak), Just(Strength::Strong)];
    (names, sids, rules, strengths).prop_map(|(name, sid, rule, strength)| Principal::mapped(name, sid, rule, strength))
}

fn arbitrary_outcome() -> impl Strategy<Value = Outcome> {
    let lacks = prop_oneof![Just(Cause::NoMapping), Just(Cause::SuffixNotAllowed), Just(Cause::AccountNotFound)];
    let refuses = prop_oneof![Just(Cause::SidConflict), Just(Cause::AccountDisabled), Just(Cause::DirectoryUnreachable)];
    prop_oneof![
        4 => arbitrary_principal().prop_map(Outcome::Maps),
        2 => lacks.prop_map(|cause| Outcome::Lacks(cause.into())),
        1 => refuses.prop_map(|cause| Outcome::Refused(cause.into())),
        1 => Just(Outcome::NotAsked),
    ]
}

fn principals(all: &[Tried]) -> Vec<&Principal> {
    let maps = |tried| match tried {
        &Tried { outcome: Outcome::Maps(ref principal), .. } => Some(principal),
        _ => None,
    };
    all.iter().filter_map(maps).collect()
}

proptest! {
    #[test]
    fn a_refusal_of_any_rule_refuses(outcomes in proptest::collection::vec(arbitrary_outcome(), 0..6)) {
        let all: Vec<_> = outcomes.into_iter().map(tried).collect();
        let answer = decide(&claims(), &all);
        let refused: Vec<_> = all.iter().filter_map(|tried| match &tried.outcome {
            Outcome::Refused(failure) => Some(failure.cause),
            _ => None,
        }).collect();
        let definite: Vec<_> = refused.iter().filter(|cause| **cause != Cause::DirectoryUnreachable).collect();
        if let Some(first) = definite.first() {
            prop_assert_eq!(cause(answer), **first);
        } else if !refused.is_empty() {
            prop_assert_eq!(cause(answer), Cause::DirectoryUnreachable);
        } else if principals(&all).is_empty() {
            prop_assert!(answer.is_err());
        }
    }

    #[test]
    fn an_account_is_one_that_a_rule_maps_and_that_none_contradicts(
        outcomes in proptest::collection::vec(arbitrary_outcome(), 0..6)
    ) {
        let all: Vec<_> = outcomes.into_iter().map(tried).collect();
        if let Ok(chosen) = decide(&claims(), &all) {
            let mapped = principals(&all);
            prop_assert!(mapped.contains(&&chosen));
            for other in mapped {
                prop_assert!(other.strength() <= chosen.strength());
                prop_assert_eq!(other.kind(), chosen.kind());
                if let (ExpectedSid::Is(one), ExpectedSid::Is(other)) = (other.expected_sid(), chosen.expected_sid()) {
                    prop_assert_eq!(one, other);
                }
            }
        }
    }

    #[test]
    fn the_order_of_rules_never_decides_whether_somebody_is_mapped(
        outcomes in proptest::collection::vec(arbitrary_outcome(), 0..6)
    ) {
        let mut all: Vec<_> = outcomes.into_iter().map(tried).collect();
        let forward = decide(&claims(), &all).map(|principal| principal.expected_sid().clone());
        all.reverse();
        let backward = decide(&claims(), &all).map(|principal| principal.expected_sid().clone());
        prop_assert_eq!(forward.is_ok(), backward.is_ok());
        if let (Ok(forward), Ok(backward)) = (forward, backward) {
            prop_assert_eq!(forward, backward);
        }
    }
}

#[test]
fn of_equal_rules_the_first_is_reported() {
    let principal = |name| Principal::mapped(name, is(OWN), RuleKind::Sid, Strength::Strong);
    let all = [account_name("a"), enterprise("a@b.c")].map(|name| tried(Outcome::Maps(principal(name))));
    assert_eq!(decide(&claims(), &all).unwrap().name(), &account_name("a"));
}

#[test]
fn nobody_is_explained_by_the_most_telling_cause_and_what_every_rule_lacked() {
    let lacks = |cause, detail: &str| tried(Outcome::Lacks(Failure::new(cause, detail)));
    let none = lacks(Cause::NoMapping, "one");
    let suffix = lacks(Cause::SuffixNotAllowed, "two");
    let absent = lacks(Cause::AccountNotFound, "three");
    for (all, expected) in [
        (vec![none.clone(), suffix.clone(), absent], Cause::AccountNotFound),
        (vec![none.clone(), suffix], Cause::SuffixNotAllowed),
        (vec![none], Cause::WeakMappingOnly),
        (vec![], Cause::NoMapping),
    ] {
        let failure = decide(&claims(), &all).unwrap_err();
        assert_eq!(failure.cause, expected);
        assert_eq!(all.len(), failure.detail.matches("upn: ").count());
    }
    let sid = Leaf::upn("alice@corp.example").sid(OWN).admitted().1;
    let plain = Leaf::default().admitted().1;
    for claims in [sid, plain] {
        let failure = decide(&claims, &[lacks(Cause::NoMapping, "one")]).unwrap_err();
        assert_eq!(failure.cause, Cause::NoMapping, "weak only where names are all there is");
    }
}
