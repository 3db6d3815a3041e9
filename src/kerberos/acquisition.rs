//! One user's tickets, step by step: our TGT, S4U2Self, who is it, S4U2Proxy, is it usable. Runs on a worker thread and blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::{Cause, Failure, Stage};
use crate::identity::Principal;
use crate::kerberos::account_rules::judge_account;
use crate::kerberos::classify::{classify, code};
use crate::kerberos::config::{Engine, KerberosConfig};
use crate::kerberos::crypto::Etype;
use crate::kerberos::evidence::EvidenceTicket;
use crate::kerberos::exported_credential::ExportedCredential;
use crate::kerberos::gss::{GssError, Impersonated, Impersonator, UserCredential};
use crate::kerberos::keytab::Keytab;
use crate::kerberos::pins::SidPins;
use crate::kerberos::sid::Sid;
use crate::kerberos::ticket::ServiceTicket;
use crate::policy::Target;

/// Our TGT is looked after this often; the library renews it from the keytab when half its life is over.
const TGT_CHECK: Duration = Duration::from_secs(300);

/// What an acquisition yields: the service ticket, proved to be this principal's.
pub(super) struct Acquired {
    pub(super) ticket: ServiceTicket,
    pub(super) sid: Sid,
    pub(super) stages: Vec<(&'static str, Duration)>,
    /// The library's credential, for the reference engine only.
    pub(super) reference: Option<UserCredential>,
}

/// What all acquirers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: KerberosConfig,
    pub(super) keytab: Keytab,
    pub(super) pins: SidPins,
}

/// One worker's means: its own impersonator credential in its own memory cache.
pub(super) struct Acquirer {
    shared: Arc<Shared>,
    cache: String,
    impersonator: Option<(Impersonator, Instant)>,
}

impl Acquirer {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, cache: format!("impersonator-{index}"), impersonator: None }
    }

    /// Both tickets, or the stage that failed and why.
    pub(super) fn acquire(&mut self, principal: &Principal, target: &Target) -> Result<Acquired, Failure> {
        let mut clock = StageClock::start();
        self.tgt()?;
        clock.lap("tgt");
        let user = self.impersonate(principal)?;
        clock.lap("s4u2self");
        let evidence = self.open_evidence(&user)?;
        let sid = self.identify(principal, &evidence)?;
        clock.lap("identity");
        self.delegate(&user, target, &evidence)?;
        clock.lap("s4u2proxy");
        let ticket = self.service_ticket(&user, target, &evidence)?;
        clock.lap("extract");
        let reference = (self.shared.config.engine == Engine::Gssapi).then(|| user.credential());
        Ok(Acquired { ticket, sid, stages: clock.laps, reference })
    }

    /// Forgets our TGT: the next acquisition starts from the keytab.
    pub(super) fn reset(&mut self) {
        self.impersonator = None;
    }

    /// Our own TGT, fresh enough.
    pub(super) fn tgt(&mut self) -> Result<(), Failure> {
        self.refresh_impersonator().map(|_| ())
    }

    fn refresh_impersonator(&mut self) -> Result<&Impersonator, Failure> {
        let config = &self.shared.config;
        let fresh = self.impersonator.take().filter(|(_, since)| since.elapsed() < TGT_CHECK);
        let kept = match fresh {
            Some(kept) => kept,
            None => {
                let acquired = Impersonator::acquire(&config.principal, &config.keytab, &self.cache)
                    .map_err(|error| classify(Stage::Tgt, &error))?;
                (acquired, Instant::now())
            }
        };
        Ok(&self.impersonator.insert(kept).0)
    }

    /// S4U2Self. When our own TGT turns out to have ended, it is renewed and the call is made once more.
    pub(super) fn impersonate(&mut self, principal: &Principal) -> Result<Impersonated, Failure> {
        let first = self.refresh_impersonator()?.impersonate(principal.name());
        let result = match first {
            Err(error) if error.kerberos_code() == Some(code::TKT_EXPIRED) => {
                self.reset();
                self.refresh_impersonator()?.impersonate(principal.name())
            }
            other => other,
        };
        result.map_err(|error| with_subject(classify(Stage::S4u2Self, &error), principal))
    }

    pub(super) fn open_evidence(&self, user: &Impersonated) -> Result<EvidenceTicket, Failure> {
        let exported = export(user)?;
        let own = &self.shared.config.principal;
        Ok(EvidenceTicket::open(&exported.evidence(own)?.ticket, &self.shared.keytab, own)?)
    }

    /// Who the KDC vouches for must be who was mapped, and somebody we may delegate (decision 7e, promise 1).
    pub(super) fn identify(&self, principal: &Principal, evidence: &EvidenceTicket) -> Result<Sid, Failure> {
        let config = &self.shared.config;
        let pac = evidence.require_pac()?;
        if evidence.client_realm() == config.principal.realm().as_str() && evidence.client().same_components(config.principal.name()) {
            return Err(Failure::new(Cause::IdentityFallback, format!("asked for {principal}, got ourselves")));
        }
        judge_account(pac, &config.denied_groups, &config.denied_accounts).map_err(|failure| with_subject(failure, principal))?;
        self.shared.pins.judge(principal, pac.sid())?;
        Ok(pac.sid().clone())
    }

    pub(super) fn delegate(&self, user: &Impersonated, target: &Target, evidence: &EvidenceTicket) -> Result<(), Failure> {
        user.delegate(&target.spn, &offered_etypes(target)).map_err(|error| {
            let seen = classify(Stage::S4u2Proxy, &error);
            let cause = match seen.cause {
                // The same KDC error for five different reasons: the evidence ticket tells one of them apart.
                Cause::DelegationRefused if !evidence.is_forwardable() => Cause::UserNotDelegable,
                Cause::EtypeNotSupported if !target.allow_rc4 => Cause::WeakEtypeRefused,
                other => other,
            };
            Failure::new(cause, format!("{} to {}: {}", evidence.client(), target.spn, seen.detail))
        })
    }

    /// The service ticket, if it is one we may use: for the SPN that is configured, in the evidence ticket's client's name, of an
    /// encryption type this back end may be spoken to with.
    pub(super) fn service_ticket(&self, user: &Impersonated, target: &Target, evidence: &EvidenceTicket) -> Result<ServiceTicket, Failure> {
        let exported = export(user)?;
        let (_, service) = exported.select(&self.shared.config.principal, &target.spn)?;
        let same_client =
            service.client.name.same_components(evidence.client()) && *service.client.realm == *evidence.client_realm();
        if !same_client {
            let detail = format!("evidence for {}@{}, service ticket for {}", evidence.client(), evidence.client_realm(), service.client);
            return Err(Failure::new(Cause::IdentityFallback, detail));
        }
        let sealed = service.sealed_ticket()?;
        let session_key = service.session_key()?;
        for number in [sealed.enc_part.etype, service.key_etype] {
            match Etype::from_number(number) {
                None => return Err(Failure::new(Cause::EtypeNotSupported, format!("{}: encryption type {number}", target.spn))),
                Some(Etype::Rc4Hmac) if !target.allow_rc4 => {
                    return Err(Failure::new(Cause::WeakEtypeRefused, target.spn.to_string()));
                }
                Some(_) => {}
            }
        }
        Ok(ServiceTicket {
            // With its name type, which the export lacks.
            client: evidence.client().clone(),
            client_realm: evidence.client_realm().into(),
            server: sealed.server,
            server_realm: sealed.realm.into(),
            ticket_etype: sealed.enc_part.etype,
            session_key,
            flags: service.flags,
            auth_time: service.auth_time,
            start_time: service.start_time,
            end_time: service.end_time,
            ticket: service.ticket.clone().into(),
        })
    }
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

fn with_subject(failure: Failure, principal: &Principal) -> Failure {
    Failure::new(failure.cause, format!("{principal}: {}", failure.detail))
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
