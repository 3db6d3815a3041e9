//! One user's tickets, step by step: our TGT, S4U2Self, who is it, S4U2Proxy, is it usable. Runs on a worker thread and blocks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Cause, Failure, Name, Stage};
use crate::identity::{ExpectedSid, Principal, RequestedName};
use crate::kerberos::acquire::classify::{classify, code};
use crate::kerberos::acquire::gss::{GssError, Impersonated, Impersonator, UserCredential};
use crate::kerberos::acquire::keys::{KeySet, Keys};
use crate::kerberos::acquire::stage_clock::StageClock;
use crate::kerberos::config::{Engine, KerberosConfig};
use crate::kerberos::encryption::{Encryption, Etypes};
use crate::kerberos::proof::account_rules::judge_account;
use crate::kerberos::proof::evidence::{EvidenceError, EvidenceTicket};
use crate::kerberos::proof::exported_credential::{ExportError, ExportedCredential};
use crate::kerberos::proof::pac::Pac;
use crate::kerberos::proof::pins::SidPins;
use crate::kerberos::refusal::{Seen, by_tickets, named};
use crate::kerberos::relay::{Kdc, Outcome, RelayObserver, Sought, Whom};
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::{ServiceTicket, TicketParts};
use crate::naming::name::{OwnPrincipal, PrincipalName, Realm, Spn, name_type};
use crate::naming::sid::Sid;
use crate::policy::Target;

/// Our TGT is looked after this often, or four times in what is left of its life; the library renews it from the keytab when half of
/// its life is over.
const TGT_CHECK: Duration = Duration::from_mins(5);

/// That our account is well is believed this long where a refusal may be about it, and that it is not, this long.
const WELL: Duration = Duration::from_mins(1);
const UNWELL: Duration = Duration::from_mins(1);

/// A TGT that is of no use is replaced at most this often.
const RESET_INTERVAL: Duration = Duration::from_mins(1);

/// What an acquisition yields: the service ticket, proved to be this principal's.
pub(in crate::kerberos) struct Acquired {
    pub(in crate::kerberos) ticket: ServiceTicket,
    pub(in crate::kerberos) account: Identified,
    /// When the KDC began to be asked.
    pub(in crate::kerberos) asked: Instant,
    /// Of the evidence ticket: our own account's key.
    pub(in crate::kerberos) evidence_etype: Etype,
    pub(in crate::kerberos) stages: Vec<(&'static str, Duration)>,
    /// The library's credential, for the reference engine only.
    pub(in crate::kerberos) reference: Option<UserCredential>,
}

/// Whom the KDC vouches for: the same whatever name was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kerberos) struct Identified {
    pub(in crate::kerberos) sid: Sid,
    /// `DOMAIN\account`
    pub(in crate::kerberos) logon_name: String,
}

/// What all acquirers share.
#[derive(Debug)]
pub(in crate::kerberos) struct Shared {
    pub(in crate::kerberos) config: KerberosConfig,
    pub(in crate::kerberos) keys: Keys,
    pub(in crate::kerberos) pins: SidPins,
    pub(in crate::kerberos) relay: RelayObserver,
    pub(in crate::kerberos) acquisitions: AtomicU64,
    pub(in crate::kerberos) encryption: Arc<Encryption>,
    own_account: Mutex<Option<(Instant, Option<Failure>)>>,
}

impl Shared {
    /// Nothing acquired, counted or pinned yet.
    pub(in crate::kerberos) fn new(config: KerberosConfig, keys: Keys, relay: RelayObserver) -> Arc<Self> {
        let (pins, acquisitions, encryption) = (SidPins::default(), AtomicU64::new(0), Arc::default());
        Arc::new(Self { config, keys, pins, relay, acquisitions, encryption, own_account: Mutex::default() })
    }

    /// The failure of a GSS call, with what the relay saw of the exchange: the KDC that answered, its NTSTATUS, or who did not answer.
    fn explain(&self, stage: Stage, error: &GssError, whom: Whom<'_>, spn: Option<&Spn>, since: Instant) -> Failure {
        let seen = |whom| self.relay.report(&Sought { whom, spn, since, code: error.kerberos_code() });
        let report = seen(whom).or_else(|| {
            // On the way to another realm libkrb5 uses our own ticket: such a request names no user.
            let elsewhere = classify(stage, error, None).cause == Cause::RealmUnknown;
            let on_our_way = elsewhere.then(|| seen(Whom::OurAccount(self.config.principal.name())))??;
            matches!(on_our_way.outcome, Outcome::UnlistedRealm(_)).then_some(on_our_way)
        });
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
    impersonator: Option<Held>,
    reset: Option<Instant>,
    /// Of the acquisition under way, for all its exchanges together.
    deadline: Option<Instant>,
}

/// Our TGT, and the keys it came from: the library may look into their file as long as it has the credential.
struct Held {
    impersonator: Impersonator,
    keys: Arc<KeySet>,
    look_after: Instant,
}

impl Acquirer {
    pub(in crate::kerberos) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cache: fresh_cache(), impersonator: None, reset: None, deadline: None }
    }

    /// Both tickets, or the stage that failed and why. The relay ends every exchange with a KDC at `deadline`.
    pub(in crate::kerberos) fn acquire(
        &mut self,
        principal: &Principal,
        target: &Target,
        deadline: Instant,
    ) -> Result<Acquired, Failure> {
        self.shared.acquisitions.fetch_add(1, Ordering::Relaxed);
        let (name, realm) = principal_name(principal.name());
        let _declared = self.shared.relay.until(Whom::User(&name, realm), deadline);
        self.deadline = Some(deadline);
        let (asked, mut clock) = (Instant::now(), StageClock::start());
        self.tgt()?;
        clock.lap("tgt");
        let user = self.impersonate(principal)?;
        clock.lap("s4u2self");
        let evidence = self.open_evidence(&user, target)?;
        let account = self.identify(principal, &evidence)?;
        clock.lap("identity");
        self.delegate(&user, target, &evidence)?;
        clock.lap("s4u2proxy");
        let ticket = self.service_ticket(&user, target, &evidence)?;
        clock.lap("extract");
        let reference = (self.shared.config.engine == Engine::Gssapi).then(|| user.credential());
        Ok(Acquired { ticket, account, asked, evidence_etype: evidence.etype(), stages: clock.laps(), reference })
    }

    /// The same by way of this KDC of that realm alone, as far as the exchanges are the user's.
    pub(in crate::kerberos) fn acquire_by_way_of(
        &mut self,
        realm: &Realm,
        kdc: &Kdc,
        principal: &Principal,
        target: &Target,
        deadline: Instant,
    ) -> Result<Acquired, Failure> {
        let (name, users_realm) = principal_name(principal.name());
        let _steered = self.shared.relay.steer(Whom::User(&name, users_realm), realm.clone(), kdc.clone());
        self.acquire(principal, target, deadline)
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
        let keys = self.shared.keys.current();
        let fits = |held: &Held| Instant::now() < held.look_after && Arc::ptr_eq(&held.keys, &keys);
        let held = match self.impersonator.take().filter(fits) {
            Some(held) => held,
            None => self.log_in(&keys)?,
        };
        Ok(&self.impersonator.insert(held).impersonator)
    }

    /// Our TGT: the one in our cache if half of its life is not over, or a new one, with the key that the KDC takes. When it takes none,
    /// the keytab may have changed a moment ago.
    fn log_in(&self, keys: &Arc<KeySet>) -> Result<Held, Failure> {
        match self.log_in_with(keys) {
            Err(failure) if failure.cause == Cause::OwnKeyRefused => match self.shared.keys.newer_than(keys) {
                Some(newer) => self.log_in_with(&newer),
                None => Err(failure),
            },
            other => other,
        }
    }

    fn log_in_with(&self, keys: &Arc<KeySet>) -> Result<Held, Failure> {
        let own = &self.shared.config.principal;
        let ours = Whom::OurAccount(own.name());
        let impersonator = keys.log_in(|keytab| {
            let since = Instant::now();
            let _declared = self.deadline.map(|deadline| self.shared.relay.until(ours, deadline));
            Impersonator::acquire(own, &keytab, &self.cache)
                .map_err(|error| self.shared.explain(Stage::Tgt, &error, ours, None, since))
        })?;
        let look_after = Instant::now() + TGT_CHECK.min(impersonator.lifetime() / 4);
        Ok(Held { impersonator, keys: Arc::clone(keys), look_after })
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
            let of_whom = may_be_about_us(failure.cause).then(|| self.own_refusal()).flatten();
            of_whom.unwrap_or_else(|| naming_user(failure, principal).about(&principal.to_string()))
        })
    }

    /// The evidence ticket, opened with our own key: what the PAC says is only worth what that key is. RC4 serves only where the back end
    /// allows it by name, although one such back end switches it on for the whole process.
    pub(in crate::kerberos) fn open_evidence(&self, user: &Impersonated, target: &Target) -> Result<EvidenceTicket, Failure> {
        let exported = export(user)?;
        let own = &self.shared.config.principal;
        let credential = exported.evidence(own)?;
        let evidence = &credential.ticket;
        self.shared.relay.ticket_starts(evidence, credential.start_time, credential.auth_time);
        let etype = TicketParts::parse(evidence).map_err(ExportError::from)?.enc_part.etype;
        if etype == Etype::Rc4Hmac.number() && !target.allow_rc4 {
            let detail = format!("the evidence ticket is RC4: {own} has no AES key in the domain, or none in the keytab");
            return Err(named(Failure::new(Cause::OwnEtypeNotSupported, detail), own, None));
        }
        let keys = self.shared.keys.current();
        let opened = match EvidenceTicket::open(evidence, keys.keytab(), own) {
            // The password was changed, and the keytab perhaps with it, a moment ago.
            Err(EvidenceError::NoKey { .. } | EvidenceError::WrongKey { .. }) => match self.shared.keys.newer_than(&keys) {
                Some(newer) => EvidenceTicket::open(evidence, newer.keytab(), own),
                None => EvidenceTicket::open(evidence, keys.keytab(), own),
            },
            other => other,
        };
        Ok(opened?)
    }

    /// The evidence ticket's PAC for a recording, if a key of ours opens it.
    pub(in crate::kerberos) fn raw_pac(&self, user: &Impersonated) -> Option<Vec<u8>> {
        let (exported, own) = (export(user).ok()?, &self.shared.config.principal);
        let keys = self.shared.keys.current();
        EvidenceTicket::raw_pac(&exported.evidence(own).ok()?.ticket, keys.keytab(), own).ok()?
    }

    /// Who the KDC vouches for must be who was mapped, and somebody we may delegate (decision 7e, promise 1).
    pub(in crate::kerberos) fn identify(&self, principal: &Principal, evidence: &EvidenceTicket) -> Result<Identified, Failure> {
        let config = &self.shared.config;
        let pac = evidence.require_pac()?;
        self.require_listed(evidence.client_realm(), principal)?;
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
        Ok(Identified { sid: pac.sid().clone(), logon_name: pac.logon_name() })
    }

    /// A KDC may refer us anywhere; users and back ends are of the realms that the configuration lists, and of no other.
    fn require_listed(&self, realm: &str, whose: &dyn fmt::Display) -> Result<(), Failure> {
        if self.shared.config.realms.keys().any(|listed| listed.as_str() == realm) {
            return Ok(());
        }
        Err(Failure::new(Cause::RealmUnknown, format!("{whose}: the ticket is of the realm {}", realm.escape_default())))
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
            if let Some(ours) = may_be_about_us(failure.cause).then(|| self.own_refusal()).flatten() {
                return ours;
            }
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

    /// The service ticket, if it is one we may use: for the SPN that is configured, in a realm that is, in the evidence ticket's
    /// client's name, of an encryption type this back end may be spoken to with.
    pub(in crate::kerberos) fn service_ticket(
        &self,
        user: &Impersonated,
        target: &Target,
        evidence: &EvidenceTicket,
    ) -> Result<ServiceTicket, Failure> {
        let ticket = export(user)?.service_ticket(&self.shared.config.principal, &target.spn, evidence)?;
        self.require_listed(&ticket.server_realm, &target.spn)?;
        self.shared.relay.ticket_starts(&ticket.ticket, ticket.start_time, ticket.auth_time);
        judge_etypes(target, ticket.ticket_etype, ticket.session_key.etype())?;
        Ok(ticket)
    }
}

/// What the KDC chose must be of ours, and not RC4 unless this back end allows it, whatever was offered.
fn judge_etypes(target: &Target, ticket: i32, session_key: Etype) -> Result<(), Failure> {
    let spn = &target.spn;
    if Etype::from_number(ticket).is_none() {
        return Err(Failure::new(Cause::EtypeNotSupported, format!("{spn}: encryption type {ticket}")));
    }
    let rc4 = Etype::Rc4Hmac;
    if target.allow_rc4 || (ticket != rc4.number() && session_key != rc4) {
        return Ok(());
    }
    let etypes = Etypes { ticket, session_key: session_key.number(), evidence: 0 };
    let advice = etypes.advice_on(&spn.to_string(), false).map_or_else(String::new, |advice| format!(": {advice}"));
    let detail = format!("{spn}: ticket {}, session key {}{advice}", Etype::name_of(ticket), session_key.name());
    Err(Failure::new(Cause::WeakEtypeRefused, detail))
}

/// A memory cache nobody has: the library's are one name space for the whole process, and no two acquirers may ever share a TGT.
fn fresh_cache() -> String {
    static CREATED: AtomicU64 = AtomicU64::new(0);
    format!("impersonator-{}", CREATED.fetch_add(1, Ordering::Relaxed))
}

fn is_outage(failure: &Failure) -> bool {
    failure.cause == Cause::KdcUnreachable
}

/// A KDC says that an account is revoked, restricted or out of time, and not whether it means the user's or ours.
fn may_be_about_us(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::UserRevoked
            | Cause::UserRestricted
            | Cause::UserDisabled
            | Cause::UserLocked
            | Cause::UserExpired
            | Cause::UserPasswordExpired
    )
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::kerberos::acquire::krb5_conf::tests::config;
    use crate::kerberos::proof::keytab::testkit::{Record, keytab};
    use crate::policy::TokenFormat;

    fn acquirer() -> Acquirer {
        let config = config();
        let record = Record::new(&config.principal.to_string(), 1, 18, &[7; 32]);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&keytab(&[record])).unwrap();
        let keys = Keys::read(file.path().to_owned(), config.principal.clone()).unwrap();
        Acquirer::new(Shared::new(config, keys, RelayObserver::default()))
    }

    #[test]
    fn a_ticket_of_a_realm_that_is_not_listed_is_refused_in_any_spelling_but_the_listed_one() {
        let acquirer = acquirer();
        for listed in ["CORP.EXAMPLE", "USERS.EXAMPLE"] {
            assert_eq!(acquirer.require_listed(listed, &"alice"), Ok(()), "{listed}");
        }
        for other in ["", "OTHER.EXAMPLE", "users.example", "USERS.EXAMPLE.", "X.USERS.EXAMPLE", "EXAMPLE"] {
            let failure = acquirer.require_listed(other, &"alice").unwrap_err();
            assert_eq!(failure.cause, Cause::RealmUnknown, "{other}");
        }
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

    fn target(allow_rc4: bool) -> Target {
        let spn = Spn::parse("HTTP/mbx2003.corp.example").unwrap();
        Target { name: "mbx2003".into(), spn, allow_rc4, token_format: TokenFormat::Spnego }
    }

    #[test]
    fn rc4_is_offered_for_one_target_and_not_for_another() {
        assert_eq!(offered_etypes(&target(false)), [18, 17, 20, 19]);
        assert_eq!(offered_etypes(&target(true)), [18, 17, 20, 19, 23]);
    }

    #[test]
    fn rc4_in_the_ticket_or_its_session_key_is_refused_whatever_was_offered_unless_allowed() {
        for (ticket, session_key) in [(23, Etype::Rc4Hmac), (23, Etype::Aes256Sha1), (18, Etype::Rc4Hmac)] {
            let refused = judge_etypes(&target(false), ticket, session_key).unwrap_err();
            assert_eq!(refused.cause, Cause::WeakEtypeRefused);
            assert!(refused.detail.contains("arcfour-hmac"), "{refused}");
            assert_eq!(judge_etypes(&target(true), ticket, session_key), Ok(()));
        }
        let unset = judge_etypes(&target(false), 23, Etype::Aes256Sha1).unwrap_err();
        assert!(unset.detail.contains("says nothing of encryption types"), "{unset}");
        for allow_rc4 in [false, true] {
            assert_eq!(judge_etypes(&target(allow_rc4), 18, Etype::Aes128Sha2), Ok(()));
            // DES, and a number that nobody assigned.
            for unknown in [3, 4711] {
                let refused = judge_etypes(&target(allow_rc4), unknown, Etype::Aes256Sha1).unwrap_err();
                assert_eq!(refused.cause, Cause::EtypeNotSupported);
            }
        }
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
