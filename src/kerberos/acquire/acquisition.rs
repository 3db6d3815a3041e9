//! One user's tickets, step by step: our TGT, S4U2Self, who is it, S4U2Proxy, is it usable. Runs on a worker thread and blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Cause, Failure, Name, Stage};
use crate::identity::{ExpectedSid, Principal, RequestedName};
use crate::kerberos::acquire::classify::{classify, code};
use crate::kerberos::acquire::gss::{GssError, Impersonated, Impersonator, UserCredential};
use crate::kerberos::config::{Engine, KerberosConfig};
use crate::kerberos::proof::account_rules::judge_account;
use crate::kerberos::proof::evidence::EvidenceTicket;
use crate::kerberos::proof::exported_credential::{ExportError, ExportedCredential};
use crate::kerberos::proof::keytab::Keytab;
use crate::kerberos::proof::pac::Pac;
use crate::kerberos::proof::pins::SidPins;
use crate::kerberos::refusal::{Seen, by_tickets, named};
use crate::kerberos::relay::{Outcome, RelayObserver, Sought, Whom};
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::{ServiceTicket, TicketParts};
use crate::naming::name::{OwnPrincipal, PrincipalName, Spn, name_type};
use crate::naming::sid::Sid;
use crate::policy::Target;

/// Our TGT is looked after this often; the library renews it from the keytab when half its life is over.
const TGT_CHECK: Duration = Duration::from_mins(5);

/// That our account is well is believed this long where a refusal may be about it, and that it is not, this long.
const WELL: Duration = Duration::from_mins(5);
const UNWELL: Duration = Duration::from_mins(1);

/// A TGT that is of no use is replaced at most this often.
const RESET_INTERVAL: Duration = Duration::from_mins(1);

/// What an acquisition yields: the service ticket, proved to be this principal's.
pub(in crate::kerberos) struct Acquired {
    pub(in crate::kerberos) ticket: ServiceTicket,
    pub(in crate::kerberos) sid: Sid,
    pub(in crate::kerberos) stages: Vec<(&'static str, Duration)>,
    /// The library's credential, for the reference engine only.
    pub(in crate::kerberos) reference: Option<UserCredential>,
}

/// What all acquirers share.
#[derive(Debug)]
pub(in crate::kerberos) struct Shared {
    pub(in crate::kerberos) config: KerberosConfig,
    pub(in crate::kerberos) keytab: Keytab,
    pub(in crate::kerberos) pins: SidPins,
    pub(in crate::kerberos) relay: RelayObserver,
    pub(in crate::kerberos) acquisitions: AtomicU64,
    own_account: Mutex<Option<(Instant, Option<Failure>)>>,
}

impl Shared {
    pub(in crate::kerberos) fn new(config: KerberosConfig, keytab: Keytab, relay: RelayObserver) -> Arc<Self> {
        let (pins, acquisitions) = (SidPins::default(), AtomicU64::new(0));
        Arc::new(Self { config, keytab, pins, relay, acquisitions, own_account: Mutex::default() })
    }

    /// The failure of a GSS call, with what the relay saw of the exchange: the KDC that answered, its NTSTATUS, or who did not answer.
    fn explain(&self, stage: Stage, error: &GssError, whom: Whom<'_>, spn: Option<&Spn>, since: Instant) -> Failure {
        let report = self.relay.report(&Sought { whom, spn, since, code: error.kerberos_code() });
        let status = report.as_ref().and_then(|report| match report.outcome {
            Outcome::Error { ntstatus, .. } => ntstatus,
            _ => None,
        });
        let mut failure = classify(stage, error, status);
        if let Some(report) = report {
            failure.cause = match report.outcome {
                Outcome::UnlistedRealm(_) => Cause::RealmUnknown,
                Outcome::Unanswered { .. } => Cause::KdcUnreachable,
                Outcome::Error { .. } => failure.cause,
            };
            if failure.cause == Cause::OwnSpnMissing && report.sname.as_ref().is_some_and(is_ticket_granting) {
                // It was another realm that the KDC did not find, not us.
                failure.cause = Cause::S4u2SelfRefused;
            }
            failure = failure.also(&report.to_string());
        }
        named(failure, &self.config.principal, spn)
    }
}

/// One worker's means: its own impersonator credential in its own memory cache.
pub(in crate::kerberos) struct Acquirer {
    shared: Arc<Shared>,
    cache: String,
    impersonator: Option<(Impersonator, Instant)>,
    reset: Option<Instant>,
}

impl Acquirer {
    pub(in crate::kerberos) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cache: fresh_cache(), impersonator: None, reset: None }
    }

    /// Both tickets, or the stage that failed and why.
    pub(in crate::kerberos) fn acquire(&mut self, principal: &Principal, target: &Target) -> Result<Acquired, Failure> {
        self.shared.acquisitions.fetch_add(1, Ordering::Relaxed);
        let mut clock = StageClock::start();
        self.tgt()?;
        clock.lap("tgt");
        let user = self.impersonate(principal)?;
        clock.lap("s4u2self");
        let evidence = self.open_evidence(&user, target)?;
        let sid = self.identify(principal, &evidence)?;
        clock.lap("identity");
        self.delegate(&user, target, &evidence)?;
        clock.lap("s4u2proxy");
        let ticket = self.service_ticket(&user, target, &evidence)?;
        clock.lap("extract");
        let reference = (self.shared.config.engine == Engine::Gssapi).then(|| user.credential());
        Ok(Acquired { ticket, sid, stages: clock.laps, reference })
    }

    /// Forgets our TGT: the next acquisition starts from the keytab. The library keeps a memory cache for the life of the process
    /// whoever lets go of it, so this takes a cache of another name, and does so seldom. False when it was done a moment ago.
    pub(in crate::kerberos) fn reset(&mut self) -> bool {
        if self.reset.is_some_and(|at| at.elapsed() < RESET_INTERVAL) {
            return false;
        }
        self.reset = Some(Instant::now());
        self.forget_tgt();
        true
    }

    fn forget_tgt(&mut self) {
        self.cache = fresh_cache();
        self.impersonator = None;
    }

    /// Why our own account gets no ticket, if that is so: a KDC that finds our account disabled may refuse the user it is asked for, and
    /// in the same words (Samba: KDC_ERR_POLICY). Whether it is so is tried seldom, and once for all acquirers.
    fn own_refusal(&mut self) -> Option<Failure> {
        let shared = Arc::clone(&self.shared);
        let mut known = shared.own_account.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, refusal)) = &*known
            && since.elapsed() < if refusal.is_some() { UNWELL } else { WELL }
        {
            if refusal.is_some() {
                self.forget_tgt();
            }
            return refusal.clone();
        }
        self.forget_tgt();
        let refusal = self.tgt().err();
        *known = Some((Instant::now(), refusal.clone())).filter(|(_, refusal)| !refusal.as_ref().is_some_and(is_outage));
        refusal
    }

    /// Our own TGT, fresh enough.
    pub(in crate::kerberos) fn tgt(&mut self) -> Result<(), Failure> {
        self.refresh_impersonator().map(|_| ())
    }

    /// Our own tickets.
    pub(in crate::kerberos) fn own_tickets(&mut self) -> Result<ExportedCredential, Failure> {
        let exported = self.refresh_impersonator()?.export();
        let bytes = exported.map_err(|error| Failure::new(Cause::TicketUnusable, error.to_string()))?;
        Ok(ExportedCredential::parse(&bytes)?)
    }

    /// S4U2Self in our own name, by the UPN that every account has: the library takes a ticket in our principal's own name for the
    /// answer of a KDC that does not know S4U2Self. What comes of it shows how the domain treats us; it is no evidence of anybody's
    /// identity.
    pub(in crate::kerberos) fn tickets_to_ourselves(&mut self) -> Result<ExportedCredential, Failure> {
        let since = Instant::now();
        let own = self.shared.config.principal.clone();
        let upn = format!("{}@{}", own.name(), own.realm().as_str().to_ascii_lowercase());
        let asked = PrincipalName { name_type: name_type::ENTERPRISE, components: vec![upn.as_str().into()] };
        let name = RequestedName::Enterprise(upn.into());
        let result = self.refresh_impersonator()?.impersonate(&name);
        let ticket =
            result.map_err(|error| self.shared.explain(Stage::S4u2Self, &error, Whom::User(&asked, None), None, since))?;
        export(&ticket)
    }

    fn refresh_impersonator(&mut self) -> Result<&Impersonator, Failure> {
        let config = &self.shared.config;
        let fresh = self.impersonator.take().filter(|(_, since)| since.elapsed() < TGT_CHECK);
        let kept = if let Some(kept) = fresh {
            kept
        } else {
            let since = Instant::now();
            let acquired = Impersonator::acquire(&config.principal, &config.keytab, &self.cache).map_err(|error| {
                let sought = Whom::OurAccount(config.principal.name());
                self.shared.explain(Stage::Tgt, &error, sought, None, since)
            })?;
            (acquired, Instant::now())
        };
        Ok(&self.impersonator.insert(kept).0)
    }

    /// S4U2Self. When our own TGT turns out to be of no use any more (ended, or made with keys the domain has changed since), another one
    /// is fetched and the call is made once more.
    pub(in crate::kerberos) fn impersonate(&mut self, principal: &Principal) -> Result<Impersonated, Failure> {
        let since = Instant::now();
        let first = self.refresh_impersonator()?.impersonate(principal.name());
        let result = match first {
            Err(error) if is_about_our_tgt(&error) && self.reset() => self.refresh_impersonator()?.impersonate(principal.name()),
            other => other,
        };
        result.map_err(|error| {
            let (name, realm) = principal_name(principal.name());
            let failure = self.shared.explain(Stage::S4u2Self, &error, Whom::User(&name, realm), None, since);
            // The KDC says that somebody is revoked or restricted, and not whether it means the user.
            let of_whom =
                matches!(failure.cause, Cause::UserRevoked | Cause::UserRestricted).then(|| self.own_refusal()).flatten();
            of_whom.unwrap_or_else(|| naming_user(failure, principal).about(&principal.to_string()))
        })
    }

    /// The evidence ticket, opened with our own key: what the PAC says is only worth what that key is. RC4 serves only where the back end
    /// allows it by name, although one such back end switches it on for the whole process.
    pub(in crate::kerberos) fn open_evidence(&self, user: &Impersonated, target: &Target) -> Result<EvidenceTicket, Failure> {
        let exported = export(user)?;
        let own = &self.shared.config.principal;
        let evidence = &exported.evidence(own)?.ticket;
        let etype = TicketParts::parse(evidence).map_err(ExportError::from)?.enc_part.etype;
        if etype == Etype::Rc4Hmac.number() && !target.allow_rc4 {
            let detail = format!("the evidence ticket is RC4: {own} has no AES key in the domain, or none in the keytab");
            return Err(named(Failure::new(Cause::OwnEtypeNotSupported, detail), own, None));
        }
        Ok(EvidenceTicket::open(evidence, &self.shared.keytab, own)?)
    }

    /// Who the KDC vouches for must be who was mapped, and somebody we may delegate (decision 7e, promise 1).
    pub(in crate::kerberos) fn identify(&self, principal: &Principal, evidence: &EvidenceTicket) -> Result<Sid, Failure> {
        let config = &self.shared.config;
        let pac = evidence.require_pac()?;
        if evidence.client_realm() == config.principal.realm().as_str()
            && evidence.client().same_components(config.principal.name())
        {
            return Err(Failure::new(Cause::IdentityFallback, format!("asked for {principal}, got ourselves")));
        }
        if is_ourselves(&config.principal, evidence, pac) {
            return Err(Failure::new(Cause::AccountKindRefused, format!("{principal} is the bridge's own account")));
        }
        judge_account(pac, principal.kind(), &config.denied_groups, &config.denied_accounts)
            .map_err(|failure| failure.about(&principal.to_string()))?;
        self.shared.pins.judge(principal, pac.sid())?;
        Ok(pac.sid().clone())
    }

    pub(in crate::kerberos) fn delegate(
        &mut self,
        user: &Impersonated,
        target: &Target,
        evidence: &EvidenceTicket,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        user.delegate(&target.spn, &offered_etypes(target)).map_err(|error| {
            if is_about_our_tgt(&error) {
                self.reset();
            }
            let whom = Whom::User(evidence.client(), Some(evidence.client_realm()));
            let failure = self.shared.explain(Stage::S4u2Proxy, &error, whom, Some(&target.spn), since);
            let failure = match failure.cause {
                Cause::EtypeNotSupported if !target.allow_rc4 => failure.because(Cause::WeakEtypeRefused),
                _ => by_tickets(failure, &self.tickets(user, evidence)),
            };
            let failure = match evidence.pac() {
                Some(pac) => failure.naming(Name::User, pac.account()),
                None => failure,
            };
            failure.about(&format!("{} to {}", evidence.client(), target.spn))
        })
    }

    /// What the tickets of a refused request say.
    fn tickets<'a>(&self, user: &Impersonated, evidence: &'a EvidenceTicket) -> Seen<'a> {
        let own = &self.shared.config.principal;
        let realm = evidence.client_realm();
        Seen {
            tgt_forwardable: export(user).ok().and_then(|exported| exported.is_tgt_forwardable(own)),
            evidence_forwardable: evidence.is_forwardable(),
            pac: evidence.pac(),
            foreign_realm: (!realm.eq_ignore_ascii_case(own.realm().as_str())).then_some(realm),
        }
    }

    /// The service ticket, if it is one we may use: for the SPN that is configured, in the evidence ticket's client's name, of an
    /// encryption type this back end may be spoken to with.
    pub(in crate::kerberos) fn service_ticket(
        &self,
        user: &Impersonated,
        target: &Target,
        evidence: &EvidenceTicket,
    ) -> Result<ServiceTicket, Failure> {
        let ticket = export(user)?.service_ticket(&self.shared.config.principal, &target.spn, evidence)?;
        for number in [ticket.ticket_etype, ticket.session_key.etype().number()] {
            match Etype::from_number(number) {
                None => return Err(Failure::new(Cause::EtypeNotSupported, format!("{}: encryption type {number}", target.spn))),
                Some(Etype::Rc4Hmac) if !target.allow_rc4 => {
                    return Err(Failure::new(Cause::WeakEtypeRefused, target.spn.to_string()));
                }
                Some(_) => {}
            }
        }
        Ok(ticket)
    }
}

/// A memory cache nobody has: the library's are one name space for the whole process, and no two acquirers may ever share a TGT.
fn fresh_cache() -> String {
    static CREATED: AtomicU64 = AtomicU64::new(0);
    format!("impersonator-{}", CREATED.fetch_add(1, Ordering::Relaxed))
}

fn is_outage(failure: &Failure) -> bool {
    failure.cause == Cause::KdcUnreachable
}

/// Whether the KDC's complaint is about the TGT that the request came with.
fn is_about_our_tgt(error: &GssError) -> bool {
    error.kerberos_code().is_some_and(|code| code::ABOUT_THE_TGT.contains(&code))
}

/// Whether the PAC's account is our own: the name in the ticket is the one that was asked for and need not say so.
fn is_ourselves(own: &OwnPrincipal, evidence: &EvidenceTicket, pac: &Pac) -> bool {
    let same_account = matches!(&own.name().components[..], [account] if account.eq_ignore_ascii_case(pac.account()));
    same_account && evidence.client_realm().eq_ignore_ascii_case(own.realm().as_str())
}

/// What the TGS request for this target offers, best first.
fn offered_etypes(target: &Target) -> Vec<i32> {
    let aes = [Etype::Aes256Sha1, Etype::Aes128Sha1, Etype::Aes256Sha2, Etype::Aes128Sha2];
    let rc4 = target.allow_rc4.then_some(Etype::Rc4Hmac);
    aes.into_iter().chain(rc4).map(Etype::number).collect()
}

fn export(user: &Impersonated) -> Result<ExportedCredential, Failure> {
    let bytes = user.export().map_err(|error: GssError| Failure::new(Cause::TicketUnusable, error.to_string()))?;
    Ok(ExportedCredential::parse(&bytes)?)
}

/// The requested name as it stands in the request, and its realm unless the KDC is to find it.
fn principal_name(name: &RequestedName) -> (PrincipalName, Option<&str>) {
    match name {
        RequestedName::Enterprise(upn) => {
            (PrincipalName { name_type: name_type::ENTERPRISE, components: vec![upn.clone()] }, None)
        }
        RequestedName::Account { name, realm } => {
            (PrincipalName { name_type: name_type::PRINCIPAL, components: vec![name.clone()] }, Some(realm.as_str()))
        }
    }
}

/// An identity that the directory's commands take: an account's name or its SID, never a UPN.
fn naming_user(failure: Failure, principal: &Principal) -> Failure {
    match (principal.expected_sid(), principal.name()) {
        (ExpectedSid::Is(sid), _) => failure.naming(Name::User, &sid.to_string()),
        (_, RequestedName::Account { name, .. }) => failure.naming(Name::User, name),
        _ => failure,
    }
}

/// The name of a ticket-granting service (RFC 4120 section 7.3).
fn is_ticket_granting(name: &PrincipalName) -> bool {
    name.components.first().is_some_and(|first| **first == *"krbtgt")
}

/// Durations between laps, by stage.
struct StageClock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl StageClock {
    fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::with_capacity(5) }
    }

    fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.laps.push((stage, now.duration_since(self.last)));
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kerberos::acquire::krb5_conf::tests::config;
    use crate::kerberos::proof::keytab::testkit::{Record, keytab};

    fn acquirer() -> Acquirer {
        let config = config();
        let record = Record::new(&config.principal.to_string(), 1, 18, &[7; 32]);
        let keytab = Keytab::from_bytes(Path::new("test.keytab"), &keytab(&[record])).unwrap();
        Acquirer::new(Shared::new(config, keytab, RelayObserver::default()))
    }

    #[test]
    fn no_two_acquirers_share_a_memory_cache() {
        assert_ne!(acquirer().cache, acquirer().cache);
    }

    /// The library would hand out the old TGT again under the old name.
    #[test]
    fn a_reset_takes_a_cache_of_another_name_and_is_not_repeated_at_once() {
        let mut acquirer = acquirer();
        let before = acquirer.cache.clone();
        assert!(acquirer.reset());
        let after = acquirer.cache.clone();
        assert_ne!(after, before);
        assert!(!acquirer.reset());
        assert_eq!(acquirer.cache, after);
    }

    #[test]
    fn complaints_about_the_tgt_are_told_from_complaints_about_the_user() {
        for code in [20, 31, 32, 41, 44, 45] {
            assert!(is_about_our_tgt(&GssError::for_test(code)), "{code}");
        }
        for code in [6, 7, 12, 13, 14, 18, 37, 60] {
            assert!(!is_about_our_tgt(&GssError::for_test(code)), "{code}");
        }
    }
}
