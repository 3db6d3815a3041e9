//! What acquisitions under way tell the relay beforehand: until when their exchanges may last, and which KDC alone is to be asked.
//!
//! An acquisition makes several exchanges, and libkrb5 knows no deadline for all of them together. The relay cannot see whose
//! connection it serves either, but it sees on whose behalf a request is made (see [`super::observer`]), and that is how an exchange
//! finds what was declared for it. Where several acquisitions for one user are under way the earliest deadline counts. A request
//! that names nobody (a ticket for another realm's KDC, our own when the library renews it by itself) may be anybody's, and gets the
//! latest of all: it is better to let one wait than to cut another short; the exchanges after it name their user again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::observer::Whom;
use crate::kerberos::relay::request::{Exchange, KdcRequest};
use crate::naming::name::{PrincipalName, Realm};

/// Holds while it lives.
#[derive(Debug)]
#[must_use = "what is declared holds while this lives"]
pub struct Declaration {
    declared: Arc<Declared>,
    id: u64,
}

impl Drop for Declaration {
    fn drop(&mut self) {
        self.declared.entries().list.retain(|entry| entry.id != self.id);
    }
}

/// Everything that is declared now.
#[derive(Debug, Default)]
pub(super) struct Declared(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    list: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    party: Party,
    what: What,
}

/// [`Whom`], kept.
#[derive(Debug)]
enum Party {
    User(PrincipalName, Option<String>),
    OurAccount(PrincipalName),
}

#[derive(Debug)]
enum What {
    Until(Instant),
    Only(Steer),
}

/// One KDC, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steer {
    pub(super) realm: Realm,
    pub(super) kdc: Kdc,
    /// What failed before is another KDC's failure.
    pub(super) since: Instant,
}

impl Declared {
    pub(super) fn until(self: &Arc<Self>, whom: Whom<'_>, deadline: Instant) -> Declaration {
        self.add(whom, What::Until(deadline))
    }

    pub(super) fn only(self: &Arc<Self>, whom: Whom<'_>, realm: Realm, kdc: Kdc) -> Declaration {
        self.add(whom, What::Only(Steer { realm, kdc, since: Instant::now() }))
    }

    fn add(self: &Arc<Self>, whom: Whom<'_>, what: What) -> Declaration {
        let party = match whom {
            Whom::User(name, realm) => Party::User(name.clone(), realm.map(str::to_owned)),
            Whom::OurAccount(name) => Party::OurAccount(name.clone()),
        };
        let mut entries = self.entries();
        entries.last_id += 1;
        let id = entries.last_id;
        entries.list.push(Entry { id, party, what });
        Declaration { declared: Arc::clone(self), id }
    }

    /// Until when an exchange for this request may last, if anything was said.
    pub(super) fn deadline(&self, request: &KdcRequest) -> Option<Instant> {
        let entries = self.entries();
        let deadlines = entries.list.iter().filter_map(|entry| Some((&entry.party, entry.what.until()?)));
        let named = deadlines.clone().filter(|(party, _)| request.subject.is_some() && party.asks(request));
        let anybodys = request.subject.is_none() || request.exchange == Exchange::As;
        named.map(|(_, at)| at).min().or_else(|| if anybodys { deadlines.map(|(_, at)| at).max() } else { None })
    }

    /// The one KDC for this request, if one was named. AS requests are not steered: our own ticket is nobody's concern but ours.
    pub(super) fn steer(&self, request: &KdcRequest) -> Option<Steer> {
        if request.exchange == Exchange::As {
            return None;
        }
        let entries = self.entries();
        let mut steers = entries.list.iter().filter(|entry| entry.party.asks(request)).filter_map(|entry| entry.what.steer());
        steers.find(|steer| steer.realm.as_str() == request.realm).cloned()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Party {
    fn asks(&self, request: &KdcRequest) -> bool {
        let whom = match self {
            Self::User(name, realm) => Whom::User(name, realm.as_deref()),
            Self::OurAccount(name) => Whom::OurAccount(name),
        };
        whom.asks(request.exchange, request.subject.as_ref(), request.evidence.is_some())
    }
}

impl What {
    fn until(&self) -> Option<Instant> {
        if let Self::Until(deadline) = self { Some(*deadline) } else { None }
    }

    fn steer(&self) -> Option<&Steer> {
        if let Self::Only(steer) = self { Some(steer) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kerberos::relay::request::tests::{Ask, principal, ticket};
    use crate::naming::name::name_type;

    fn request(ask: &Ask) -> KdcRequest {
        KdcRequest::parse(&ask.encode()).unwrap()
    }

    fn name(text: &str) -> PrincipalName {
        principal(name_type::PRINCIPAL, &[text])
    }

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_exchange_has_the_deadline_of_the_acquisition_it_is_made_for() {
        let declared = Arc::new(Declared::default());
        let (alices, bobs, ours) = (in_seconds(1), in_seconds(2), in_seconds(3));
        let deadline = |ask: &Ask| declared.deadline(&request(ask));
        assert_eq!(deadline(&Ask::s4u2self("alice")), None);
        let alice = declared.until(Whom::User(&name("alice"), Some("CORP.EXAMPLE")), alices);
        let _bob = declared.until(Whom::User(&name("bob"), None), bobs);
        assert_eq!(deadline(&Ask::tgt()), Some(bobs), "whose own ticket it is for was not said");
        let _ours = declared.until(Whom::OurAccount(&name("svc-bridge")), ours);
        assert_eq!(deadline(&Ask::s4u2self("alice")), Some(alices));
        assert_eq!(deadline(&Ask::s4u2self("bob")), Some(bobs));
        assert_eq!(deadline(&Ask::tgt()), Some(ours));
        assert_eq!(deadline(&Ask { cname: Some(name("alice")), ..Ask::tgt() }), Some(alices), "whose realm?");
        assert_eq!(deadline(&Ask::s4u2self("carol")), None, "an acquisition that said nothing");
        drop(alice);
        assert_eq!(deadline(&Ask::s4u2self("alice")), None);
    }

    #[test]
    fn of_several_acquisitions_for_one_user_the_earliest_deadline_counts() {
        let declared = Arc::new(Declared::default());
        let (early, late) = (in_seconds(1), in_seconds(2));
        let _late = declared.until(Whom::User(&name("alice"), None), late);
        let _early = declared.until(Whom::User(&name("alice"), None), early);
        assert_eq!(declared.deadline(&request(&Ask::s4u2self("alice"))), Some(early));
    }

    #[test]
    fn a_request_that_names_nobody_has_the_latest_deadline() {
        let declared = Arc::new(Declared::default());
        let (early, late) = (in_seconds(1), in_seconds(2));
        let _early = declared.until(Whom::User(&name("alice"), None), early);
        let _late = declared.until(Whom::User(&name("bob"), None), late);
        for ask in [Ask::new(Exchange::Tgs, &["krbtgt", "USERS.EXAMPLE"]), Ask::s4u2proxy(&ticket(&["svc-bridge"], b"x"), "mbx1")]
        {
            assert_eq!(declared.deadline(&request(&ask)), Some(late));
        }
    }

    #[test]
    fn only_the_users_own_ticket_requests_of_that_realm_are_steered() {
        let declared = Arc::new(Declared::default());
        let kdc = Kdc { host: "kdc".into(), address: ([192, 0, 2, 1], 88).into() };
        let canary = declared.only(Whom::User(&name("alice"), None), Realm::parse("CORP.EXAMPLE").unwrap(), kdc.clone());
        let steer = |ask: &Ask| declared.steer(&request(ask)).map(|steer| steer.kdc);
        assert_eq!(steer(&Ask::s4u2self("alice")), Some(kdc));
        assert_eq!(steer(&Ask::s4u2self("bob")), None);
        assert_eq!(steer(&Ask { cname: Some(name("alice")), ..Ask::tgt() }), None, "no AS exchange is");
        assert_eq!(steer(&Ask { realm: "USERS.EXAMPLE".into(), ..Ask::s4u2self("alice") }), None);
        drop(canary);
        assert_eq!(steer(&Ask::s4u2self("alice")), None);
    }
}
