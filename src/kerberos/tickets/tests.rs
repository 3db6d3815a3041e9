use std::sync::atomic::AtomicUsize;

use super::*;
use crate::identity::ExpectedSid;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::ServiceTicket;
use crate::kerberos::wire::ticket::tests::service_ticket;
use crate::naming::sid::Sid;
use crate::policy::{Fingerprint, Target, TokenFormat};

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
        let acquire = || async move {
            asked.fetch_add(1, Ordering::SeqCst);
            kdc.map(|()| ticket(life)).map_err(Failure::from)
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

fn ticket(life: Duration) -> CachedTicket {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end_time = i64::try_from((now + life).as_secs()).unwrap();
    let ticket = ServiceTicket { end_time, ..service_ticket("alice", Etype::Aes256Sha1, 7, 1000) };
    let facts = TicketFacts { id: TicketId::next(), end_time, ..TicketFacts::default() };
    CachedTicket::new(Mint::native(ticket).unwrap(), facts, 1000, SOFT)
}

#[tokio::test(start_paused = true)]
async fn within_the_soft_age_the_kdc_is_asked_once() {
    let rig = Rig::new();
    let (first, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit);
    tokio::time::advance(SOFT.mul_f32(0.9)).await;
    assert_eq!(rig.get(&alice(), Ok(())).await, Ok((first, true)));
    assert_eq!(rig.asked(), 1);
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
    tokio::time::advance(REFUSAL_MEMORY * 2).await;
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
        let outage = matches!(cause, Cause::KdcUnreachable | Cause::AcquisitionTimeout | Cause::Overloaded);
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
    let almost = SKEW + Duration::from_secs(2);
    assert!(rig.get_lasting(&alice(), Ok(()), almost).await.is_ok());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, hit) = rig.get_lasting(&alice(), Ok(()), Duration::from_hours(1)).await.unwrap();
        if !hit {
            break;
        }
        assert!(Instant::now() < deadline, "served past its hard age");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.asked(), 3);
}

#[tokio::test]
async fn all_who_wait_share_one_acquisition_which_goes_on_when_they_give_up() {
    let rig = Rig::new();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let asked = Arc::clone(&rig.asked);
    let slow = || async move {
        asked.fetch_add(1, Ordering::SeqCst);
        let _ = released.await;
        Ok(ticket(Duration::from_hours(1)))
    };
    let at_once = Instant::now();
    let given_up = rig.tickets.get(&alice(), at_once, slow).await.map(|_| ()).unwrap_err();
    assert_eq!(given_up.cause, Cause::AcquisitionTimeout);
    // Others come and go meanwhile: no second question.
    for _ in 0..10 {
        let never = || async { unreachable!("one acquisition is under way") };
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
    let panics = || async { panic!("on purpose") };
    let deadline = Instant::now() + Duration::from_secs(5);
    assert!(rig.tickets.get(&alice(), deadline, panics).await.is_err());
    assert!(rig.get(&alice(), Ok(())).await.is_ok());
}

#[tokio::test]
async fn a_refused_user_does_not_cost_an_exchange_a_request() {
    let rig = Rig::new();
    for _ in 0..10 {
        assert_eq!(rig.get(&alice(), Err(Cause::UserNotDelegable)).await, Err(Cause::UserNotDelegable));
    }
    assert_eq!(rig.asked(), 1);
    // Trouble of the KDC's is not remembered.
    let bob = key_to("bob@corp.example", "mbx1");
    for _ in 0..3 {
        assert_eq!(rig.get(&bob, Err(Cause::KdcUnreachable)).await, Err(Cause::KdcUnreachable));
    }
    assert_eq!(rig.asked(), 4);
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
        let acquire = || async move {
            let _ = released.await;
            Ok(ticket(Duration::from_hours(1)))
        };
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
        let found = ticket(Duration::from_hours(10));
        let facts = TicketFacts { sid: Some(sid.clone()), ..found.facts.clone() };
        let deadline = Instant::now() + Duration::from_secs(5);
        rig.tickets.get(&by_another_rule, deadline, || async move { Ok(CachedTicket { facts, ..found }) }).await.unwrap().1
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
        let acquire = || async move {
            let _ = released.await;
            Ok(ticket(Duration::from_hours(10)))
        };
        tickets.get(&alice(), deadline, acquire).await.map(|(ticket, _)| ticket.facts.id)
    });
    tokio::task::yield_now().await;
    rig.tickets.evict(&Principal::for_test("alice@corp.example", ExpectedSid::PinOnFirstUse));
    release.send(()).unwrap();
    let landed = waiting.await.unwrap().unwrap();
    let (next, hit) = rig.get(&alice(), Ok(())).await.unwrap();
    assert!(!hit && next != landed);
}
