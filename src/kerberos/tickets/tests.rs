use std::sync::atomic::AtomicUsize;

use super::*;
use crate::failure::Stage;
use crate::identity::ExpectedSid;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::ServiceTicket;
use crate::kerberos::wire::ticket::tests::service_ticket;
use crate::naming::sid::Sid;
use crate::policy::{Fingerprint, Grant, Target, TokenFormat};

const SOFT: Duration = Duration::from_mins(15);
const RIDE: Duration = Duration::from_hours(4);
const SKEW: Duration = Duration::from_mins(5);

/// A cache and a KDC that answers as told.
struct Rig {
    tickets: Arc<Tickets>,
    asked: Arc<AtomicUsize>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Ages { soft_age: SOFT, max_ride_through: RIDE, clock_skew: SKEW })
    }

    fn with(ages: Ages) -> Self {
        Self { tickets: Tickets::new(ages, 1 << 20), asked: Arc::default() }
    }

    async fn get(&self, key: &TicketKey, kdc: Result<(), Cause>) -> Result<(TicketId, bool), Cause> {
        self.get_lasting(key, kdc, Duration::from_hours(10)).await
    }

    async fn get_lasting(&self, key: &TicketKey, kdc: Result<(), Cause>, life: Duration) -> Result<(TicketId, bool), Cause> {
        let asked = Arc::clone(&self.asked);
        let ages = self.tickets.ages;
        let acquire = |_| {
            let acquisition = async move {
                asked.fetch_add(1, Ordering::SeqCst);
                kdc.map(|()| ticket(life, ages)).map_err(Failure::from)
            };
            Ok((Place::alone(), acquisition))
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        let got = self.tickets.get(key, deadline, acquire).await;
        got.map(|(ticket, hit)| (ticket.facts.id, hit)).map_err(|failure| failure.cause)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn key_to(user: &str, host: &str) -> TicketKey {
    let principal = Arc::new(Principal::for_test(user, ExpectedSid::PinOnFirstUse));
    let target = Target {
        name: host.into(),
        spn: Spn::parse(&format!("HTTP/{host}")).unwrap(),
        allow_rc4: false,
        token_format: TokenFormat::Spnego,
    };
    TicketKey::of(&Grant::authorize(principal, Fingerprint([0; 32]), Arc::new(target)))
}

fn alice() -> TicketKey {
    key_to("alice@corp.example", "mbx1")
}

fn ticket(life: Duration, ages: Ages) -> CachedTicket {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end_time = i64::try_from((now + life).as_secs()).unwrap();
    let ticket = ServiceTicket { end_time, ..service_ticket("alice", Etype::Aes256Sha1, 7, 1000) };
    let facts = TicketFacts { id: TicketId::next(), end_time, ..TicketFacts::default() };
    CachedTicket::new(Mint::native(ticket).unwrap(), facts, 1000, ages, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn within_the_soft_age_the_kdc_is_asked_once() {
    let rig = Rig::new();
    let (first, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit);
    tokio::time::advance(SOFT.mul_f64(AHEAD.0 - 0.01)).await;
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((first, true)));
    tokio::task::yield_now().await;
    assert_eq!(rig.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_in_use_is_renewed_before_a_request_has_to_wait_for_it() {
    let rig = Rig::new();
    let (first, _) = rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT.mul_f64(AHEAD.1)).await;
    // Several requests come meanwhile: none waits, and one question is asked.
    for _ in 0..5 {
        assert_eq!(rig.get(&alice(), Ok(())).await, Ok((first, true)));
    }
    tokio::task::yield_now().await;
    assert_eq!(rig.asked(), 2);
    let (second, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(hit && second != first);
    // A user who is not there costs the KDC nothing, however long.
    tokio::time::advance(Duration::from_hours(3)).await;
    tokio::task::yield_now().await;
    assert_eq!(rig.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_ends_before_its_soft_age_is_renewed_before_its_end() {
    let rig = Rig::new();
    let usable = Duration::from_mins(4);
    let (first, _) = rig.get_lasting(&alice(), Ok(()), SKEW + usable).await.unwrap();
    tokio::time::advance(usable.mul_f64(AHEAD.1)).await;
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((first, true)));
    tokio::task::yield_now().await;
    assert!(rig.get(&alice(), Ok(())).await.unwrap().0 != first);
}

#[tokio::test(start_paused = true)]
async fn tickets_of_one_hour_are_not_all_renewed_at_one_minute() {
    let ages = Rig::new().tickets.ages;
    let at = || {
        let after = ticket(Duration::from_hours(10), ages).refresh_after.load(Ordering::Relaxed);
        Duration::from_millis(after).as_secs_f64() / SOFT.as_secs_f64()
    };
    let (mut parts, mut others) = ([0; 10], 0);
    for _ in 0..1000 {
        let part = (at() - AHEAD.0) / (AHEAD.1 - AHEAD.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a tenth")]
        let tenth = (part * 10.0) as usize;
        match parts.get_mut(tenth.min(9)) {
            Some(count) if (-0.001..=1.001).contains(&part) => *count += 1,
            _ => others += 1,
        }
    }
    assert_eq!(others, 0);
    assert!(parts.iter().all(|count| (70..=130).contains(count)), "{parts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ahead_of_time_ends_the_ticket_and_trouble_does_not() {
    for cause in Cause::ALL {
        let rig = Rig::new();
        let (first, _) = rig.get(&alice(), Ok(())).await.unwrap();
        tokio::time::advance(SOFT.mul_f64(AHEAD.1)).await;
        assert_eq!(rig.get(&alice(), Err(*cause)).await, Ok((first, true)), "{cause:?}: nobody waits");
        tokio::task::yield_now().await;
        let after = rig.get(&alice(), Err(*cause)).await;
        if is_refusal(*cause) {
            assert_eq!(after, Err(*cause));
        } else {
            assert_eq!(after, Ok((first, true)), "{cause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_found_ahead_of_time_makes_no_request_wait_at_the_soft_age() {
    let rig = Rig::new();
    let (first, _) = rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT.mul_f64(AHEAD.1)).await;
    rig.get(&alice(), Err(Cause::KdcUnreachable)).await.unwrap();
    tokio::task::yield_now().await;
    tokio::time::advance(SOFT).await;
    let started = Instant::now();
    let hangs = |_| Ok((Place::alone(), std::future::pending()));
    let got = rig.tickets.get(&alice(), Instant::now() + Duration::from_secs(5), hangs).await.unwrap();
    assert_eq!((got.0.facts.id, got.1), (first, true));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_ride_through_an_outage_that_is_found_ahead_of_time_ends_the_service_at_the_soft_age() {
    let rig = Rig::with(Ages { soft_age: SOFT, max_ride_through: Duration::ZERO, clock_skew: SKEW });
    rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT.mul_f64(AHEAD.1)).await;
    assert!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await.is_ok());
    tokio::task::yield_now().await;
    tokio::time::advance(SOFT.mul_f64(1.0 - AHEAD.1)).await;
    assert_eq!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await, Err(Cause::KdcUnreachable));
}

/// It stood in line when its account was ended, and the KDC was asked afterwards: what the KDC says then counts.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_was_asked_for_after_its_account_was_ended_is_kept_however_long_it_stood_in_line() {
    let rig = Rig::new();
    let (turn, my_turn) = tokio::sync::oneshot::channel::<()>();
    let (tickets, deadline) = (Arc::clone(&rig.tickets), Instant::now() + Duration::from_mins(10));
    let waiting = tokio::spawn(async move {
        let ages = tickets.ages;
        let acquisition = async move {
            let _ = my_turn.await;
            Ok(ticket(Duration::from_hours(10), ages))
        };
        tickets.get(&alice(), deadline, |_| Ok((Place::alone(), acquisition))).await.map(|(ticket, _)| ticket.facts.id)
    });
    tokio::task::yield_now().await;
    rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::PinOnFirstUse));
    tokio::time::advance(Duration::from_mins(5)).await;
    turn.send(()).unwrap();
    let landed = waiting.await.unwrap().unwrap();
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((landed, true)));
}

/// Behind a crowd it would wait for hours, and it may be that of a disabled account.
#[tokio::test(start_paused = true)]
async fn a_riding_ticket_is_asked_for_as_urgently_as_a_new_one() {
    let rig = Rig::new();
    rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    rig.get(&alice(), Err(Cause::AcquisitionTimeout)).await.unwrap();
    tokio::time::advance(RIDE_RETRY).await;
    let mut urgencies = Vec::new();
    let refused = |urgency| {
        urgencies.push(urgency);
        Ok((Place::alone(), async { Err(Cause::UserDisabled.into()) }))
    };
    assert!(rig.tickets.get(&alice(), Instant::now() + Duration::from_secs(5), refused).await.is_ok(), "nobody waits");
    assert_eq!(urgencies, [Urgency::Asked]);
    tokio::task::yield_now().await;
    assert_eq!(rig.get(&alice(), Ok(())).await, Err(Cause::UserDisabled));
}

/// Tickets that went by themselves leave nothing behind in the index.
#[tokio::test]
async fn ending_an_account_looks_at_its_own_tickets_and_at_nobody_elses() {
    let rig = Rig { tickets: Tickets::new(Rig::new().tickets.ages, 64 << 10), asked: Arc::default() };
    for number in 0..200 {
        rig.get(&key_to(&format!("user{number}@corp.example"), "mbx1"), Ok(())).await.unwrap();
    }
    let (kept, listed) = (rig.tickets.count(), rig.tickets.index.len());
    assert!(kept < 100, "most were too many: {kept}");
    assert_eq!(u64::try_from(listed).unwrap(), kept, "by name; these have no SID");
    rig.get(&alice(), Ok(())).await.unwrap();
    assert_eq!(rig.tickets.index.named(alice().principal.name()).len(), 1);
    assert_eq!(rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::PinOnFirstUse)), 1);
    assert!(rig.tickets.index.named(alice().principal.name()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_spn_loses_its_tickets_and_no_other_does() {
    let rig = Rig::new();
    let (one, two) = (key_to("alice@corp.example", "mbx1"), key_to("alice@corp.example", "mbx2"));
    rig.get(&one, Ok(())).await.unwrap();
    let (kept, _) = rig.get(&two, Ok(())).await.unwrap();
    assert_eq!(rig.tickets.evict_spn(&Spn::parse("HTTP/mbx1").unwrap()), 1);
    assert!(!rig.get(&one, Ok(())).await.unwrap().1);
    assert_eq!(rig.get(&two, Ok(())).await, Ok((kept, true)));
}

/// The whole of what is kept is weighed, and what is over the limit goes: those who come are served nevertheless.
#[tokio::test]
async fn a_full_cache_serves_everybody_and_stays_within_its_bytes() {
    let capacity = 64 << 10;
    let ages = Ages { soft_age: SOFT, max_ride_through: RIDE, clock_skew: SKEW };
    let rig = Rig { tickets: Tickets::new(ages, capacity), asked: Arc::default() };
    for number in 0..200 {
        assert!(rig.get(&key_to(&format!("user{number}@corp.example"), "mbx1"), Ok(())).await.is_ok());
    }
    assert!(rig.tickets.count() < 100, "{}", rig.tickets.count());
    assert!(rig.tickets.entries.weighted_size() <= capacity);
    assert!(rig.tickets.count() > 5, "{}", rig.tickets.count());
}

#[tokio::test(start_paused = true)]
async fn past_the_soft_age_the_user_is_asked_for_again() {
    let rig = Rig::new();
    let (first, _) = rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    let (second, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit && second != first);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_past_the_soft_age_ends_the_ticket_and_it_does_not_ride_through_a_later_outage() {
    let rig = Rig::new();
    rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    assert_eq!(rig.get(&alice(), Err(Cause::UserRevoked)).await, Err(Cause::UserRevoked));
    tokio::time::advance(LONGEST_MEMORY * 2).await;
    assert!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn while_no_kdc_answers_a_ticket_rides_and_only_one_request_in_a_while_asks_again() {
    let rig = Rig::new();
    let (ticket, _) = rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    for _ in 0..5 {
        assert_eq!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await, Ok((ticket, true)));
    }
    assert_eq!(rig.asked(), 2, "the first ticket, and one question since");
    tokio::time::advance(RIDE_RETRY).await;
    assert_eq!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await, Ok((ticket, true)), "in the background");
    tokio::task::yield_now().await;
    assert_eq!(rig.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_ride_ends_with_max_ride_through_and_zero_means_not_at_all() {
    let rig = Rig::new();
    rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    assert!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await.is_ok());
    tokio::time::advance(RIDE).await;
    assert_eq!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await, Err(Cause::KdcUnreachable));

    let rig = Rig::with(Ages { soft_age: SOFT, max_ride_through: Duration::ZERO, clock_skew: SKEW });
    rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    assert_eq!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await, Err(Cause::KdcUnreachable));
}

#[tokio::test(start_paused = true)]
async fn no_other_cause_than_an_outage_lets_a_ticket_ride() {
    for cause in Cause::ALL {
        let rig = Rig::new();
        rig.get(&alice(), Ok(())).await.unwrap();
        tokio::time::advance(SOFT).await;
        let rides = rig.get(&alice(), Err(*cause)).await.is_ok();
        let outage = matches!(cause, Cause::KdcUnreachable | Cause::AcquisitionTimeout | Cause::Overloaded | Cause::ClockSkew);
        assert_eq!(rides, outage, "{cause:?}");
        if !outage {
            assert!(rig.get(&alice(), Err(Cause::KdcUnreachable)).await.is_err(), "{cause:?}: the old ticket is gone");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_kdc_is_back_a_riding_ticket_is_replaced() {
    let rig = Rig::new();
    let (old, _) = rig.get(&alice(), Ok(())).await.unwrap();
    tokio::time::advance(SOFT).await;
    rig.get(&alice(), Err(Cause::KdcUnreachable)).await.unwrap();
    tokio::time::advance(RIDE_RETRY).await;
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((old, true)), "asks in the background");
    tokio::task::yield_now().await;
    let (new, hit) = rig.get(&alice(), Err(Cause::KdcUnreachable)).await.unwrap();
    assert!(hit && new != old);
}

#[tokio::test]
async fn a_ticket_within_the_clock_skew_of_its_end_is_not_served() {
    let rig = Rig::new();
    assert_eq!(rig.get_lasting(&alice(), Ok(()), SKEW.mul_f32(0.9)).await, Err(Cause::TicketUnusable));
    // One that gets there while no KDC answers serves until then and not for a moment longer, whatever may ride through.
    let bob = key_to("bob@corp.example", "mbx1");
    let (first, _) = rig.get_lasting(&bob, Ok(()), SKEW + Duration::from_secs(2)).await.unwrap();
    let usable_until = rig.tickets.entries.get(&bob).unwrap().facts.end_time - i64::try_from(SKEW.as_secs()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        match rig.get(&bob, Err(Cause::KdcUnreachable)).await {
            Ok(got) => {
                assert_eq!(got, (first, true));
                assert!(i64::try_from(asked_at).unwrap() < usable_until, "served past its hard age");
            }
            Err(cause) => break assert_eq!(cause, Cause::KdcUnreachable),
        }
        assert!(Instant::now() < deadline, "served past its hard age");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_who_wait_share_one_acquisition_which_goes_on_when_they_give_up() {
    let rig = Rig::new();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let asked = Arc::clone(&rig.asked);
    let ages = rig.tickets.ages;
    let slow = |_| {
        let acquisition = async move {
            asked.fetch_add(1, Ordering::SeqCst);
            let _ = released.await;
            Ok(ticket(Duration::from_hours(1), ages))
        };
        Ok((Place::alone(), acquisition))
    };
    let at_once = Instant::now();
    let given_up = rig.tickets.get(&alice(), at_once, slow).await.map(|_| ()).unwrap_err();
    assert_eq!(given_up.cause, Cause::AcquisitionTimeout);
    assert!(given_up.retry_after.is_some(), "who gives up is told when to come again");
    // Others come and go meanwhile: no second question.
    for _ in 0..10 {
        let never = |_| -> Result<(Place, std::future::Pending<_>), Failure> { unreachable!("one acquisition is under way") };
        let waiting = rig.tickets.get(&alice(), Instant::now(), never).await.map(|_| ());
        assert_eq!(waiting.unwrap_err().cause, Cause::AcquisitionTimeout);
    }
    release.send(()).unwrap();
    let landed = rig.get(&alice(), Err(Cause::KdcUnreachable)).await;
    assert!(landed.is_ok(), "{landed:?}");
    assert_eq!(rig.asked(), 1);
    assert!(locked(&rig.tickets.flights).is_empty());
}

#[tokio::test]
async fn an_acquisition_that_panics_leaves_no_trace() {
    let rig = Rig::new();
    let panics = |_| Ok((Place::alone(), async { panic!("on purpose") }));
    let deadline = Instant::now() + Duration::from_secs(5);
    assert!(rig.tickets.get(&alice(), deadline, panics).await.is_err());
    assert!(rig.get(&alice(), Ok(())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refused_user_does_not_cost_an_exchange_a_request() {
    let rig = Rig::new();
    for _ in 0..10 {
        assert_eq!(rig.get(&alice(), Err(Cause::UserNotDelegable)).await, Err(Cause::UserNotDelegable));
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_user_is_remembered_for_long_a_refusal_for_short_kdc_trouble_for_a_moment_and_our_own_line_not_at_all() {
    let memories = [
        (Cause::UserUnknown, 10),
        (Cause::UserRevoked, 10),
        (Cause::DelegationRefused, 5),
        (Cause::KdcUnreachable, 1),
        (Cause::ClockSkew, 1),
        (Cause::Overloaded, 0),
    ];
    for (cause, seconds) in memories {
        let rig = Rig::new();
        assert_eq!(rig.get(&alice(), Err(cause)).await, Err(cause));
        if seconds > 0 {
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert_eq!(rig.get(&alice(), Ok(())).await, Err(cause), "{cause:?} is remembered");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(rig.get(&alice(), Ok(())).await.is_ok(), "{cause:?} is forgotten");
        assert_eq!(rig.asked(), 2);
    }
}

#[test]
fn every_cause_about_the_user_is_about_the_account_and_none_about_us_or_the_back_end_is() {
    for &cause in Cause::ALL {
        if matches!(cause.stage(), Stage::Tgt | Stage::S4u2Self | Stage::S4u2Proxy) {
            assert_eq!(is_about_the_account(cause), cause.code().starts_with("user-"), "{cause:?}");
        }
    }
}

/// Nobody's fault but the set-up's: it does not cost the KDC an exchange a request either, and ends no ticket to another back end.
#[tokio::test]
async fn a_defect_of_the_set_up_is_remembered_and_ends_nothing_else() {
    let rig = Rig::new();
    let (one, two) = (alice(), key_to("alice@corp.example", "mbx2"));
    rig.get(&two, Ok(())).await.unwrap();
    for cause in [Cause::SpnNotListed, Cause::ProtocolTransitionOff, Cause::OwnTgtNotForwardable, Cause::SpnUnknown] {
        let rig = Rig::new();
        for _ in 0..5 {
            assert_eq!(rig.get(&one, Err(cause)).await, Err(cause));
        }
        assert_eq!(rig.asked(), 1, "{cause:?}");
    }
    assert!(rig.get(&one, Err(Cause::SpnNotListed)).await.is_err());
    assert!(rig.tickets.entries.get(&two).is_some());
}

#[tokio::test]
async fn an_account_that_is_refused_loses_its_tickets_to_every_back_end_and_no_other_account_does() {
    let rig = Rig::new();
    let (one, two, bob) = (alice(), key_to("alice@corp.example", "mbx2"), key_to("bob@corp.example", "mbx2"));
    rig.get(&two, Ok(())).await.unwrap();
    rig.get(&bob, Ok(())).await.unwrap();
    assert!(rig.get(&one, Err(Cause::UserRevoked)).await.is_err());
    assert!(rig.tickets.entries.get(&two).is_none());
    assert!(rig.tickets.entries.get(&bob).is_some());

    // A refusal of one back end is no refusal of the account.
    rig.get(&two, Ok(())).await.unwrap();
    assert!(rig.get(&key_to("alice@corp.example", "mbx3"), Err(Cause::DelegationRefused)).await.is_err());
    assert!(rig.tickets.entries.get(&two).is_some());
}

#[tokio::test]
async fn a_certificate_with_the_wrong_sid_does_not_end_the_tickets_of_the_right_one() {
    let rig = Rig::new();
    rig.get(&alice(), Ok(())).await.unwrap();
    assert_eq!(rig.get(&key_to("alice@corp.example", "mbx2"), Err(Cause::SidMismatch)).await, Err(Cause::SidMismatch));
    assert!(rig.tickets.entries.get(&alice()).is_some());
}

#[tokio::test]
async fn a_ticket_that_lands_after_its_account_was_refused_is_not_kept() {
    let rig = Rig::new();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (tickets, one) = (Arc::clone(&rig.tickets), alice());
    let slow = async move || {
        let asked_for = ticket(Duration::from_hours(1), tickets.ages);
        let acquisition = async move {
            let _ = released.await;
            Ok(asked_for)
        };
        let acquire = |_| Ok((Place::alone(), acquisition));
        tickets.get(&one, Instant::now() + Duration::from_secs(10), acquire).await.map(|_| ())
    };
    let flight = tokio::spawn(slow());
    while locked(&rig.tickets.flights).is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert!(rig.get(&key_to("alice@corp.example", "mbx2"), Err(Cause::UserRevoked)).await.is_err());
    release.send(()).unwrap();
    flight.await.unwrap().unwrap();
    assert!(rig.tickets.entries.get(&alice()).is_none());
}

#[tokio::test]
async fn a_ticket_is_forgotten_once_and_only_if_it_is_the_one_that_was_used() {
    let rig = Rig::new();
    let (first, _) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(rig.tickets.forget(&alice(), first));
    let (second, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit);
    // A second request that used the first ticket hears that it was replaced, and the new one stays.
    assert!(rig.tickets.forget(&alice(), first));
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((second, true)));
    // The new one is not taken either: not twice in a row for one user.
    assert!(!rig.tickets.forget(&alice(), second));
}

#[tokio::test]
async fn forgetting_is_limited_for_an_spn_and_one_user_cannot_use_that_up() {
    let rig = Rig::new();
    let (mut ticket, _) = rig.get(&alice(), Ok(())).await.unwrap();
    for _ in 0..1000 {
        rig.tickets.forget(&alice(), ticket);
        (ticket, _) = rig.get(&alice(), Ok(())).await.unwrap();
    }
    let mut allowed = 0;
    for number in 0..100 {
        let user = key_to(&format!("user{number}@corp.example"), "mbx1");
        let (ticket, _) = rig.get(&user, Ok(())).await.unwrap();
        allowed += u32::from(rig.tickets.forget(&user, ticket));
    }
    assert_eq!(allowed, FORGET_LIMIT - 1);
}

#[tokio::test]
async fn tickets_for_a_key_that_the_service_no_longer_has_are_forgotten_however_many_they_are() {
    let tickets = Tickets::new(Ages { soft_age: SOFT, max_ride_through: RIDE, clock_skew: SKEW }, 1 << 20);
    let acquire = async |user: &str, host: &str, version: Option<u32>| {
        let key = key_to(user, host);
        let mut ticket = ticket(Duration::from_hours(10), tickets.ages);
        ticket.facts.key_version = version;
        let id = ticket.facts.id;
        let landed = async move { Ok(ticket) };
        tickets.get(&key, Instant::now() + SOFT, |_| Ok((Place::alone(), landed))).await.unwrap();
        (key, id)
    };
    let users: Vec<_> = (0..3 * FORGET_LIMIT).map(|number| format!("user{number}@corp.example")).collect();
    let (mut old, mut unknown) = (Vec::new(), Vec::new());
    for user in &users {
        old.push(acquire(user, "mbx1", Some(2)).await);
        unknown.push(acquire(user, "mbx2", None).await);
    }
    // As long as nobody's ticket has a newer key, refusals are limited.
    let refused = old.iter().filter(|(key, id)| !tickets.forget(key, *id)).count();
    assert_eq!(refused, users.len() - FORGET_LIMIT as usize);
    acquire("alice@corp.example", "mbx1", Some(3)).await;
    assert!(old.iter().all(|(key, id)| tickets.forget(key, *id)));
    // The same key for another service means nothing, and neither does a ticket that does not say.
    let refused = unknown.iter().filter(|(key, id)| !tickets.forget(key, *id)).count();
    assert_eq!(refused, users.len() - FORGET_LIMIT as usize);
    // The new ones are limited as ever, and a user's is forgotten once in a while at most.
    let (key, id) = acquire(&users[0], "mbx1", Some(3)).await;
    assert!(!tickets.forget(&key, id));
}

#[tokio::test(start_paused = true)]
async fn an_evicted_account_loses_its_tickets_by_every_name_and_no_other_account_does() {
    let rig = Rig::new();
    let sid = Sid::parse("S-1-5-21-1-2-3-1104").unwrap();
    let by_another_rule = key_to("alice2@corp.example", "mbx1");
    let (kept, _) = rig.get(&key_to("bob@corp.example", "mbx1"), Ok(())).await.unwrap();
    for key in [alice(), key_to("alice@corp.example", "mbx2")] {
        rig.get(&key, Ok(())).await.unwrap();
    }
    let other_name = async || {
        let found = ticket(Duration::from_hours(10), rig.tickets.ages);
        let facts = TicketFacts { sid: Some(sid.clone()), ..found.facts.clone() };
        let deadline = Instant::now() + Duration::from_secs(5);
        let acquisition = async move { Ok(CachedTicket { facts, ..found }) };
        rig.tickets.get(&by_another_rule, deadline, |_| Ok((Place::alone(), acquisition))).await.unwrap().1
    };
    assert!(!other_name().await);
    assert_eq!(rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::Is(sid.clone()))), 3);
    for key in [alice(), key_to("alice@corp.example", "mbx2")] {
        assert!(!rig.get(&key, Ok(())).await.unwrap().1, "acquired anew");
    }
    assert!(!other_name().await, "acquired anew");
    assert_eq!(rig.get(&key_to("bob@corp.example", "mbx1"), Ok(())).await, Ok((kept, true)));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_lands_after_its_account_was_evicted_is_not_kept() {
    let rig = Rig::new();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (tickets, deadline) = (Arc::clone(&rig.tickets), Instant::now() + Duration::from_secs(5));
    let waiting = tokio::spawn(async move {
        let asked_for = ticket(Duration::from_hours(10), tickets.ages);
        let acquisition = async move {
            let _ = released.await;
            Ok(asked_for)
        };
        let acquire = |_| Ok((Place::alone(), acquisition));
        tickets.get(&alice(), deadline, acquire).await.map(|(ticket, _)| ticket.facts.id)
    });
    tokio::task::yield_now().await;
    rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::PinOnFirstUse));
    release.send(()).unwrap();
    let landed = waiting.await.unwrap().unwrap();
    let (next, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit && next != landed);
}

/// The ticket of `key`, of the account with this SID.
async fn get_of(rig: &Rig, key: &TicketKey, sid: &Sid, release: Option<tokio::sync::oneshot::Receiver<()>>) -> bool {
    let found = ticket(Duration::from_hours(10), rig.tickets.ages);
    let facts = TicketFacts { sid: Some(sid.clone()), ..found.facts.clone() };
    let deadline = Instant::now() + Duration::from_secs(5);
    let acquisition = async move {
        if let Some(release) = release {
            let _ = release.await;
        }
        Ok(CachedTicket { facts, ..found })
    };
    rig.tickets.get(key, deadline, |_| Ok((Place::alone(), acquisition))).await.unwrap().1
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_refused_by_one_name_loses_its_tickets_by_every_name_and_no_other_account_does() {
    let rig = Rig::new();
    let [own, others] = [1104, 1105].map(|rid| Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap());
    let (alias, bob) = (key_to("alice@alias.example", "mbx1"), key_to("bob@corp.example", "mbx1"));
    for (key, sid) in [(alice(), &own), (alias.clone(), &own), (bob.clone(), &others)] {
        assert!(!get_of(&rig, &key, sid, None).await);
    }
    tokio::time::advance(SOFT).await;
    assert_eq!(rig.get(&alice(), Err(Cause::UserRevoked)).await, Err(Cause::UserRevoked));
    assert!(rig.tickets.entries.get(&alias).is_none(), "the same account");
    assert!(rig.tickets.entries.get(&bob).is_some(), "another account");
}

#[tokio::test(start_paused = true)]
async fn a_ticket_by_another_name_that_lands_after_its_account_was_evicted_is_not_kept() {
    let rig = Arc::new(Rig::new());
    let [own, others] = [1104, 1105].map(|rid| Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap());
    let (alias, bob) = (key_to("alice@alias.example", "mbx1"), key_to("bob@corp.example", "mbx1"));
    let mut flights = Vec::new();
    for (key, sid) in [(alias.clone(), own.clone()), (bob.clone(), others)] {
        let (release, released) = tokio::sync::oneshot::channel();
        let rig = Arc::clone(&rig);
        flights.push((release, tokio::spawn(async move { get_of(&rig, &key, &sid, Some(released)).await })));
    }
    while locked(&rig.tickets.flights).len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::Is(own))), 0);
    for (release, flight) in flights {
        release.send(()).unwrap();
        assert!(!flight.await.unwrap());
    }
    assert!(rig.tickets.entries.get(&alias).is_none(), "the account that was evicted, by its other name");
    assert!(rig.tickets.entries.get(&bob).is_some());
}
