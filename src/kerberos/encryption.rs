//! Which encryption types tickets use, SPN by SPN, and which SPNs stop working when the domain refuses RC4.
//!
//! Counted by the running bridge for log and metrics, and built again from audit logs for the report: both forecast alike.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;

use crate::kerberos::TicketFacts;
use crate::kerberos::wire::crypto::Etype;
use crate::naming::name::Spn;

/// An SPN whose account wants repair is told of once in this time, however many users come.
const REPORT_INTERVAL: Duration = Duration::from_hours(1);
/// Users of one SPN with RC4 that are told apart.
const MAX_USERS: usize = 200_000;

/// Encryption types behind one token, by assigned number (IANA Kerberos encryption types); 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etypes {
    /// Of the service ticket: the key of the SPN's account.
    pub ticket: i32,
    /// Of its session key.
    pub session_key: i32,
    /// Of the evidence ticket: the key of the bridge's own account.
    pub evidence: i32,
}

/// What to say of an account, and what repairs it in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong.
    pub finding: &'static str,
    /// Commands, with the names filled in.
    pub repair: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.finding, self.repair)
    }
}

impl Etypes {
    /// Whether anything of it is RC4.
    pub fn use_rc4(self) -> bool {
        [self.ticket, self.session_key, self.evidence].contains(&Etype::Rc4Hmac.number())
    }

    /// What the KDC's choice for the evidence ticket says about our own account.
    pub fn advice_on_us(self) -> Option<Advice> {
        (self.evidence == Etype::Rc4Hmac.number()).then(own_account)
    }

    /// What the KDC's choice says about the SPN's account. RC4 in ticket and session key is what Windows 2003 needs, and nothing to repair
    /// where it is allowed.
    pub fn advice_on(self, spn: &str, allow_rc4: bool) -> Option<Advice> {
        let rc4 = Etype::Rc4Hmac.number();
        let finding = if self.ticket == rc4 && self.session_key != rc4 {
            "RC4 ticket with an AES session key: the SPN's account says nothing of encryption types. Windows 2003 cannot read such a \
             session key, and domain controllers of 2026 issue no such ticket"
        } else if allow_rc4 && !self.use_rc4() {
            "AES ticket although allow_rc4 = true: Windows 2003 cannot read it, and anything newer needs no allow_rc4"
        } else {
            return None;
        };
        Some(Advice { finding, repair: explicit_value(spn) })
    }
}

/// The key of our own account is RC4.
fn own_account() -> Advice {
    Advice {
        finding: "the bridge's own account has no AES key",
        repair: "Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256 for the account of kerberos.principal (Samba: net ads enctypes \
                 set ACCOUNT 24 -U Administrator), then set its password again and export the keytab again"
            .into(),
    }
}

/// `msDS-SupportedEncryptionTypes` written out (MS-KILE 2.2.7), for the computer that the SPN's host names.
fn explicit_value(spn: &str) -> String {
    let host = Spn::parse(spn).map_or_else(|_| "COMPUTER".into(), |spn| spn.host().to_owned());
    let computer = host.split('.').next().unwrap_or_default().to_ascii_uppercase();
    format!(
        "Windows 2003: Set-ADComputer {computer} -Replace @{{'msDS-SupportedEncryptionTypes'=4}} (Samba: net ads enctypes set '{computer}$' 4 -U Administrator); \
         anything newer: 24 in place of 4, its password set again if that is older than its domain's AES, and no allow_rc4. \
         If setspn -Q {spn} names another account, the value belongs there"
    )
}

/// Tickets that were acquired or, in an audit log, used.
#[derive(Clone, Copy, Debug)]
pub struct TicketUse<'a> {
    /// For which SPN.
    pub spn: &'a str,
    /// For whom: whatever tells one user from another.
    pub user: &'a str,
    /// With what.
    pub etypes: Etypes,
    /// When, seconds since 1970.
    pub at: i64,
}

/// How often an SPN's tickets had these encryption types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Service principal name.
    pub spn: String,
    /// Encryption types.
    pub etypes: Etypes,
    /// How often.
    pub count: u64,
}

/// An SPN that uses RC4: the documented shape of the report, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rc4Use {
    /// Service principal name.
    pub spn: String,
    /// Requests (in the running bridge: acquisitions) with RC4 anywhere.
    pub requests: u64,
    /// Their users.
    pub users: usize,
    /// The last of them, seconds since 1970.
    pub last_seen: i64,
    /// How many had an RC4 service ticket.
    pub ticket: u64,
    /// How many had an RC4 session key.
    pub session_key: u64,
    /// How many came from an RC4 evidence ticket: the bridge's own account has no AES key.
    pub evidence: u64,
    /// Whether RC4 tickets came with AES session keys: the account has no explicit setting.
    pub unset: bool,
    /// What repairs it.
    pub repair: String,
}

/// Everything seen so far. In the running bridge it has the configured SPNs, no more.
#[derive(Debug, Default)]
pub struct Encryption {
    spns: Mutex<BTreeMap<String, Seen>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Seen {
    by_etypes: BTreeMap<Etypes, u64>,
    rc4_users: HashSet<u64>,
    rc4_last_at: i64,
    reported: Option<Instant>,
}

impl Encryption {
    /// Counts tickets that were acquired, and says in the log what the directory should be told about their SPN.
    pub(in crate::kerberos) fn acquired(&self, facts: &TicketFacts, allow_rc4: bool) {
        let etypes = facts.etypes();
        let user = facts.sid.as_ref().map_or_else(|| facts.client.clone(), ToString::to_string);
        self.note(&TicketUse { spn: &facts.spn, user: &user, etypes, at: seconds_now() });
        if let Some(Advice { finding, repair }) = self.due_advice(&facts.spn, etypes, allow_rc4, Instant::now()) {
            warn!(
                spn = facts.spn,
                etype = Etype::name_of(etypes.ticket),
                session_etype = Etype::name_of(etypes.session_key),
                repair,
                "{finding}"
            );
        }
    }

    /// Counts tickets.
    pub fn note(&self, tickets: &TicketUse<'_>) {
        let mut spns = self.lock();
        let seen = spns.entry(tickets.spn.to_owned()).or_default();
        *seen.by_etypes.entry(tickets.etypes).or_default() += 1;
        if tickets.etypes.use_rc4() {
            seen.rc4_last_at = seen.rc4_last_at.max(tickets.at);
            if seen.rc4_users.len() < MAX_USERS {
                seen.rc4_users.insert(self.hasher.hash_one(tickets.user));
            }
        }
    }

    /// The advice about these tickets, if there is any and this SPN was not told of within the last hour.
    pub fn due_advice(&self, spn: &str, etypes: Etypes, allow_rc4: bool, now: Instant) -> Option<Advice> {
        let advice = etypes.advice_on_us().or_else(|| etypes.advice_on(spn, allow_rc4))?;
        let mut spns = self.lock();
        let reported = &mut spns.entry(spn.to_owned()).or_default().reported;
        if reported.is_some_and(|at| now.duration_since(at) < REPORT_INTERVAL) {
            return None;
        }
        *reported = Some(now);
        Some(advice)
    }

    /// How often each SPN's tickets had which encryption types.
    pub fn counts(&self) -> Vec<Count> {
        let of_spn = |(spn, seen): (&String, &Seen)| {
            let counts = seen.by_etypes.iter().map(|(&etypes, &count)| Count { spn: spn.clone(), etypes, count });
            counts.collect::<Vec<_>>()
        };
        self.lock().iter().flat_map(of_spn).collect()
    }

    /// How many SPNs were seen.
    pub fn spns(&self) -> usize {
        self.lock().len()
    }

    /// The SPNs that stop working when RC4 is refused.
    pub fn rc4(&self) -> Vec<Rc4Use> {
        self.lock().iter().filter_map(|(spn, seen)| seen.rc4(spn)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.spns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn rc4(&self, spn: &str) -> Option<Rc4Use> {
        let rc4 = Etype::Rc4Hmac.number();
        let sum = |counted: &dyn Fn(&Etypes) -> bool| -> u64 {
            self.by_etypes.iter().filter(|(etypes, _)| counted(etypes)).map(|(_, count)| count).sum()
        };
        let requests = sum(&|etypes| etypes.use_rc4());
        let (ticket, session_key) = (sum(&|etypes| etypes.ticket == rc4), sum(&|etypes| etypes.session_key == rc4));
        let evidence = sum(&|etypes| etypes.evidence == rc4);
        let of_spn = (ticket + session_key > 0).then(|| explicit_value(spn));
        let of_ours = (evidence > 0).then(|| own_account().repair);
        (requests > 0).then(|| Rc4Use {
            spn: spn.to_owned(),
            requests,
            users: self.rc4_users.len(),
            last_seen: self.rc4_last_at,
            ticket,
            session_key,
            evidence,
            unset: sum(&|etypes| etypes.ticket == rc4 && etypes.session_key != rc4) > 0,
            repair: of_spn.into_iter().chain(of_ours).collect::<Vec<_>>().join("; and "),
        })
    }
}

fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::sid::Sid;

    const LEGACY: &str = "HTTP/mbx2003.corp.example";
    const EXPLICIT: Etypes = Etypes { ticket: 23, session_key: 23, evidence: 18 };
    const UNSET: Etypes = Etypes { ticket: 23, session_key: 18, evidence: 18 };
    const OLD_BRIDGE: Etypes = Etypes { ticket: 18, session_key: 18, evidence: 23 };
    const AES: Etypes = Etypes { ticket: 18, session_key: 18, evidence: 18 };

    fn seen(uses: &[(&str, &str, Etypes, i64)]) -> Encryption {
        let encryption = Encryption::default();
        for &(spn, user, etypes, at) in uses {
            encryption.note(&TicketUse { spn, user, etypes, at });
        }
        encryption
    }

    #[test]
    fn an_rc4_ticket_with_an_aes_session_key_wants_an_explicit_value_on_the_account_of_that_spn() {
        for allow_rc4 in [true, false] {
            let advice = UNSET.advice_on(LEGACY, allow_rc4).unwrap();
            for said in
                ["Set-ADComputer MBX2003 -Replace @{'msDS-SupportedEncryptionTypes'=4}", "enctypes set 'MBX2003$' 4", LEGACY]
            {
                assert!(advice.repair.contains(said), "{said}: {advice}");
            }
            assert!(advice.finding.contains("AES session key"), "{advice}");
        }
    }

    /// What a server of 2003 gets from domain controllers that took RC4 away from accounts without an explicit value.
    #[test]
    fn an_aes_ticket_where_rc4_is_allowed_wants_the_value_or_no_permission() {
        let advice = AES.advice_on(LEGACY, true).unwrap();
        assert!(advice.finding.contains("AES ticket although allow_rc4"), "{advice}");
        assert!(advice.repair.contains("=4") && advice.repair.contains("no allow_rc4"), "{advice}");
        assert_eq!(AES.advice_on(LEGACY, false), None);
        assert_eq!(OLD_BRIDGE.advice_on(LEGACY, true), None, "the permission is needed for our own account");
    }

    #[test]
    fn an_rc4_evidence_ticket_wants_aes_keys_for_our_own_account() {
        let advice = OLD_BRIDGE.advice_on_us().unwrap();
        assert!(advice.finding.contains("own account") && advice.repair.contains("AES128,AES256"), "{advice}");
        assert!(!advice.repair.contains("MBX2003"), "{advice}");
        assert_eq!((EXPLICIT.advice_on_us(), AES.advice_on_us()), (None, None));
    }

    #[test]
    fn what_windows_2003_needs_and_what_everybody_else_has_is_no_reason_for_advice() {
        assert_eq!(EXPLICIT.advice_on(LEGACY, true), None);
        for etypes in [AES, Etypes { ticket: 17, session_key: 20, evidence: 19 }] {
            assert_eq!(etypes.advice_on(LEGACY, false), None, "{etypes:?}");
        }
    }

    #[test]
    fn an_account_is_told_of_once_an_hour_and_each_spn_by_itself() {
        let (encryption, start) = (Encryption::default(), Instant::now());
        let due = |spn, after| encryption.due_advice(spn, UNSET, true, start + after).is_some();
        assert!(due(LEGACY, Duration::ZERO));
        assert!(!due(LEGACY, Duration::from_mins(59)));
        assert!(due("HTTP/other.corp.example", Duration::from_mins(59)));
        assert!(due(LEGACY, Duration::from_hours(1)));
        assert!(encryption.due_advice("HTTP/mbx1.corp.example", AES, false, start).is_none());
        assert!(encryption.due_advice("HTTP/ours", OLD_BRIDGE, true, start).unwrap().finding.contains("own account"));
        assert_eq!(encryption.spns(), 3, "who needs no advice is not remembered for it");
    }

    #[test]
    fn tickets_are_counted_by_spn_and_by_every_encryption_type() {
        let encryption = seen(&[
            (LEGACY, "alice", EXPLICIT, 1),
            (LEGACY, "bob", EXPLICIT, 2),
            (LEGACY, "bob", UNSET, 3),
            ("HTTP/mbx1.corp.example", "bob", AES, 4),
        ]);
        let counts: Vec<_> = encryption.counts().into_iter().map(|count| (count.spn, count.etypes, count.count)).collect();
        let expected = [("HTTP/mbx1.corp.example", AES, 1), (LEGACY, UNSET, 1), (LEGACY, EXPLICIT, 2)];
        assert_eq!(counts, expected.map(|(spn, etypes, count)| (spn.to_owned(), etypes, count)));
    }

    #[test]
    fn an_spn_with_rc4_anywhere_stops_working_and_one_with_aes_throughout_does_not() {
        let encryption = seen(&[
            ("HTTP/aes", "alice", AES, 9),
            ("HTTP/explicit", "alice", EXPLICIT, 1),
            ("HTTP/explicit", "alice", EXPLICIT, 3),
            ("HTTP/explicit", "bob", EXPLICIT, 2),
            ("HTTP/explicit", "carol", AES, 9),
            ("HTTP/ours", "alice", OLD_BRIDGE, 4),
            ("HTTP/unset", "alice", UNSET, 5),
            ("HTTP/unset", "alice", EXPLICIT, 6),
        ]);
        let rc4 = encryption.rc4();
        let facts = |one: &Rc4Use| (one.requests, one.users, one.last_seen, one.ticket, one.session_key, one.evidence, one.unset);
        let all: Vec<_> = rc4.iter().map(|one| (&*one.spn, facts(one))).collect();
        let expected = [
            ("HTTP/explicit", (3, 2, 3, 3, 3, 0, false)),
            ("HTTP/ours", (1, 1, 4, 0, 0, 1, false)),
            ("HTTP/unset", (2, 1, 6, 2, 1, 0, true)),
        ];
        assert_eq!(all, expected);
        assert!(rc4[0].repair.contains("Set-ADComputer EXPLICIT"), "{:?}", rc4[0]);
        assert!(rc4[1].repair.contains("kerberos.principal") && !rc4[1].repair.contains("Set-ADComputer"), "{:?}", rc4[1]);
        assert_eq!(encryption.spns(), 4);
    }

    #[test]
    fn an_rc4_session_key_alone_counts_too() {
        let odd = Etypes { session_key: 23, ..AES };
        assert_eq!(seen(&[(LEGACY, "alice", odd, 1)]).rc4()[0].session_key, 1);
    }

    #[test]
    fn an_acquisition_is_counted_for_the_account_behind_all_of_its_names() {
        let encryption = Encryption::default();
        let sid = Sid::parse("S-1-5-21-1-2-3-1103").unwrap();
        for (client, sid) in [("alice@CORP", Some(&sid)), ("alice\\@corp@CORP", Some(&sid)), ("bob@CORP", None)] {
            let facts = TicketFacts { client: client.into(), sid: sid.cloned(), spn: LEGACY.into(), ..TicketFacts::default() };
            encryption.acquired(&TicketFacts { ticket_etype: 23, session_etype: 23, evidence_etype: 18, ..facts }, true);
        }
        let rc4 = &encryption.rc4()[0];
        assert_eq!((rc4.requests, rc4.users), (3, 2));
        assert!(rc4.last_seen > 1_700_000_000, "{rc4:?}");
    }
}
