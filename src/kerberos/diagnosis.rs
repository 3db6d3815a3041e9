//! The acquisition once more, stage by stage, with what was seen at each: for `kcd-bridge doctor`. Touches no cache.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Stage};
use crate::identity::Principal;
use crate::kerberos::acquire::acquisition::{Acquirer, Shared};
use crate::kerberos::acquire::keys::Keys;
use crate::kerberos::capture::Recorder;
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::encryption::{Advice, Etypes};
use crate::kerberos::engine::Mint;
use crate::kerberos::own_account::{Look, look_with, look_without};
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::wire::crypto::Etype;
use crate::policy::Target;

/// One stage: its name, how long it took, what was seen or why it failed.
#[derive(Clone, Debug)]
pub struct StageReport {
    /// `keytab`, `kdc`, `tgt`, `s4u2self`, `identity`, `s4u2proxy`, `token`
    pub stage: &'static str,
    /// Duration of the stage.
    pub took: Duration,
    /// What was seen, or the failure.
    pub outcome: Result<String, Failure>,
    /// What will fail some day although it passed, and what repairs it.
    pub advice: Option<Advice>,
}

/// Every stage that was reached, and what tokens can be minted from if all went well.
#[derive(Debug)]
pub struct Diagnosis {
    /// In order; the last one may have failed.
    pub stages: Vec<StageReport>,
    /// What was seen of our own account, once a KDC had answered, and how long that took.
    pub account: Option<(Look, Duration)>,
    /// The ticket for the target.
    pub mint: Option<Mint>,
}

/// Walks through the acquisition; a recorder is shown the evidence ticket's PAC. Blocks on the KDC: call it from a blocking thread.
pub fn diagnose(
    config: &KerberosConfig,
    relay: RelayObserver,
    recorder: Option<&Recorder>,
    principal: &Principal,
    target: &Target,
) -> Diagnosis {
    let mut diagnosis = Diagnosis { stages: Vec::new(), account: None, mint: None };
    // The failure that ends the walk is in the report already.
    let _ = diagnosis.walk(config, relay, recorder, principal, target);
    diagnosis
}

impl Diagnosis {
    fn walk(
        &mut self,
        config: &KerberosConfig,
        relay: RelayObserver,
        recorder: Option<&Recorder>,
        principal: &Principal,
        target: &Target,
    ) -> Option<()> {
        let keys = self.stage("keytab", || read_keytab(config))?;
        let shared = Shared::new(config.clone(), keys, relay);
        let mut acquirer = Acquirer::new(Arc::clone(&shared));
        let start = Instant::now();
        let tgt = acquirer.tgt();
        let took = start.elapsed();
        self.stage("kdc", || kdcs(&shared.relay, tgt.as_ref().err()))?;
        let start = Instant::now();
        let look = match &tgt {
            Ok(()) => look_with(&mut acquirer, &shared),
            Err(failure) => look_without(&shared, failure),
        };
        self.account = Some((look, start.elapsed()));
        let tgt = tgt.map(|()| format!("a ticket-granting ticket for {}", config.principal));
        self.stages.push(StageReport { stage: "tgt", took, outcome: tgt.clone(), advice: None });
        tgt.ok()?;
        let user = self.stage("s4u2self", || {
            acquirer.impersonate(principal).map(|user| (user, format!("a ticket to ourselves for {principal}")))
        })?;
        // Whatever the next stage makes of it.
        if let Some((recorder, pac)) = recorder.zip(acquirer.raw_pac(&user)) {
            recorder.pac(&pac);
        }
        let evidence = self.stage("identity", || {
            let evidence = acquirer.open_evidence(&user, target)?;
            let account = acquirer.identify(principal, &evidence)?;
            let forwardable = if evidence.is_forwardable() { "forwardable" } else { "NOT forwardable" };
            let (client, realm, etype) = (evidence.client(), evidence.client_realm(), evidence.etype().name());
            let seen = format!("{client}@{realm} is {}, SID {}, {forwardable}, {etype}", account.logon_name, account.sid);
            Ok((evidence, seen))
        })?;
        let own_key = evidence.etype().number();
        self.advise(Etypes { evidence: own_key, ..Etypes::default() }.advice_on_us());
        let ticket = self.stage("s4u2proxy", || {
            acquirer.delegate(&user, target, &evidence)?;
            let ticket = acquirer.service_ticket(&user, target, &evidence)?;
            let etype = Etype::name_of(ticket.ticket_etype);
            let seen = format!(
                "{} bytes for {}@{}, {etype}, session key {}",
                ticket.ticket.len(),
                target.spn,
                ticket.server_realm,
                ticket.session_key.etype().name()
            );
            Ok((ticket, seen))
        })?;
        let session_key = ticket.session_key.etype().number();
        let etypes = Etypes { ticket: ticket.ticket_etype, session_key, evidence: own_key };
        self.advise(etypes.advice_on(&target.spn.to_string(), target.allow_rc4));
        let mint = self.stage("token", || {
            let mint = Mint::native(ticket)?;
            let (token, _) = mint.token_now(target, None)?;
            let seen = format!("{} bytes, {} as a header value", token.len(), token.into_header().len());
            Ok((mint, seen))
        })?;
        self.mint = Some(mint);
        Some(())
    }

    /// A word about the stage that was just passed.
    fn advise(&mut self, advice: Option<Advice>) {
        if let Some(stage) = self.stages.last_mut() {
            stage.advice = advice;
        }
    }

    fn stage<T>(&mut self, stage: &'static str, run: impl FnOnce() -> Result<(T, String), Failure>) -> Option<T> {
        let start = Instant::now();
        let (value, outcome) = match run() {
            Ok((value, seen)) => (Some(value), Ok(seen)),
            Err(failure) => (None, Err(failure)),
        };
        self.stages.push(StageReport { stage, took: start.elapsed(), outcome, advice: None });
        value
    }
}

/// Which KDCs were asked for our TGT, and how they did. When none answered, the TGT's failure is this stage's.
fn kdcs(relay: &RelayObserver, failure: Option<&Failure>) -> Result<((), String), Failure> {
    if let Some(failure) = failure.filter(|failure| failure.cause.stage() == Stage::Kdc) {
        return Err(failure.clone());
    }
    let asked = relay.kdcs().into_iter().filter(|numbers| numbers.requests > 0);
    let seen = asked.map(|numbers| {
        let answered = numbers.requests.saturating_sub(numbers.unanswered());
        let latency = numbers.last_latency.map_or_else(String::new, |took| format!(", last answer in {took:.1?}"));
        let skew = numbers.skew.map_or_else(String::new, |skew| format!(", clock {:+} s from ours", skew / 1000));
        format!("{} of {}: {answered} of {} requests answered{latency}{skew}", numbers.kdc, numbers.realm, numbers.requests)
    });
    Ok(((), seen.collect::<Vec<_>>().join("; ")))
}

fn read_keytab(config: &KerberosConfig) -> Result<(Keys, String), Failure> {
    let keys = Keys::read(config.keytab.clone(), config.principal.clone())?;
    let current = keys.current();
    let ours = current.keytab().keys_for(&config.principal);
    let seen: Vec<_> = ours.map(|(kvno, key)| format!("kvno {kvno} {}", key.etype().name())).collect();
    Ok((keys, format!("{}: {}", config.principal, seen.join(", "))))
}
