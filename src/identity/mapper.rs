//! The mapping rules at work: every rule has its turn, those that map must agree, and what was decided is remembered.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::certificate::{Fingerprint, KeyFingerprint, LoadError};
use crate::directory::{Account, Accounts};
use crate::failure::{Cause, Failure};
use crate::identity::counts::{Counts, MappingCounts};
use crate::identity::lookup::{Finder, sid_conflict};
use crate::identity::memory::{Key, Memory};
use crate::identity::reading::{Basis, Reading};
use crate::identity::selector::{Presented, Selection};
use crate::identity::trace::decide;
use crate::identity::{AccountRules, ExpectedSid, Outcome, Principal, RequestedName, RuleConfig, RuleKind, Strength, Tried};
use crate::naming::name::Realm;
use crate::tls::ClientCertificate;
use crate::x509::Claims;

/// All rules of a configuration, in its order, and what they decided lately. A new configuration is a new mapper.
#[derive(Debug)]
pub struct Mapper {
    rules: Vec<Rule>,
    gates: AccountRules,
    directory: Asking,
    memory: Arc<Memory>,
    counts: Arc<Counts>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    kind: RuleKind,
    selection: Selection,
    basis: Basis,
}

/// Whether there is a directory to ask.
#[derive(Debug)]
enum Asking {
    /// None is configured: no rule needs it.
    Never,
    /// What would be asked is told.
    Offline,
    Directory(Arc<dyn Accounts>),
}

impl Mapper {
    /// Reads the issuers' certificates. A rule that asks the directory needs one.
    pub fn load(
        configs: &[RuleConfig],
        accounts: &AccountRules,
        directory: Option<Arc<dyn Accounts>>,
    ) -> Result<Self, LoadError> {
        Self::with(configs, accounts, directory.map_or(Asking::Never, Asking::Directory))
    }

    /// The same rules without a directory, to explain what they would ask: nobody is mapped by those that need one.
    pub fn load_offline(configs: &[RuleConfig], accounts: &AccountRules) -> Result<Self, LoadError> {
        Self::with(configs, accounts, Asking::Offline)
    }

    fn with(configs: &[RuleConfig], accounts: &AccountRules, directory: Asking) -> Result<Self, LoadError> {
        let rules: Vec<Rule> = configs.iter().map(Rule::load).collect::<Result<_, _>>()?;
        if let (Asking::Never, Some(rule)) = (&directory, rules.iter().find(|rule| rule.basis.needs_directory())) {
            let problem = format!("is not configured, and rule {:?} asks it", rule.kind.name());
            return Err(LoadError::new(Path::new("[directory]"), problem, "add [directory], or remove the rule"));
        }
        let memory = Arc::new(Memory::new(accounts, matches!(directory, Asking::Directory(_))));
        Ok(Self { rules, gates: accounts.clone(), directory, memory, counts: Arc::default() })
    }

    /// In the place of another that asks the same directory: what that one decided lately still counts where the rules are the same,
    /// so that a reload while no server answers refuses nobody. Its counts go on in any case.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        let counts = Arc::clone(&before.counts);
        let same = self.rules == before.rules && self.gates == before.gates;
        let asks = |mapper: &Self| matches!(mapper.directory, Asking::Directory(_));
        let memory = if same && asks(&self) == asks(before) { Arc::clone(&before.memory) } else { self.memory };
        Self { memory, counts, ..self }
    }

    /// What was decided lately about a certificate, from memory.
    pub fn known(&self, certificate: &ClientCertificate) -> Option<Result<Arc<Principal>, Failure>> {
        self.memory.known(&Key::of(certificate))
    }

    /// The one account that an admitted certificate stands for. Whoever asks while another asks the same waits for its answer.
    pub async fn resolve(
        &self,
        certificate: &ClientCertificate,
        claims: &Claims,
        deadline: Instant,
    ) -> Result<Arc<Principal>, Failure> {
        if claims.certificate() != certificate.fingerprint() {
            return Err(foreign_claims());
        }
        let key = Key::of(certificate);
        if let Some(known) = self.memory.known(&key) {
            return known;
        }
        let seat = self.memory.seat(key);
        let Ok(_turn) = tokio::time::timeout_at(deadline.into(), seat.turn()).await else {
            return Err(Failure::new(Cause::DirectoryUnreachable, "no answer in time"));
        };
        if let Some(known) = self.memory.known(&key) {
            return known;
        }
        let generation = self.memory.generation();
        let tried = self.evaluate(certificate, claims, deadline).await;
        let answer = decide(claims, &tried).map(Arc::new);
        self.counts.note(&answer);
        match &answer {
            Ok(principal) if principal.strength() == Strength::Weak => warn_of_weakness(principal, certificate),
            Err(failure) if failure.cause == Cause::DirectoryUnreachable => {
                if let Some(principal) = self.memory.ride(key, generation) {
                    self.counts.note_ride();
                    tracing::warn!(%principal, "no directory server answers: what is known of the account is used");
                    return Ok(principal);
                }
            }
            _ => {}
        }
        self.memory.remember(key, answer.clone(), generation);
        answer
    }

    /// Every rule's turn with an admitted certificate; nothing is remembered or taken from memory.
    pub async fn evaluate(&self, certificate: &ClientCertificate, claims: &Claims, deadline: Instant) -> Vec<Tried> {
        self.rehearse(certificate.leaf(), Some(certificate.issuer_key()), claims, deadline).await
    }

    /// The same for a certificate that was not admitted, to explain it: no principal of this may ever get a ticket.
    pub async fn rehearse(
        &self,
        leaf: &[u8],
        issuer_key: Option<KeyFingerprint>,
        claims: &Claims,
        deadline: Instant,
    ) -> Vec<Tried> {
        let presented = Presented { leaf, issuer_key, claims };
        let mismatch = (claims.certificate() != Fingerprint::of(leaf)).then(foreign_claims);
        let mut finder = match &self.directory {
            Asking::Directory(accounts) => Some(Finder::new(accounts.as_ref(), deadline)),
            Asking::Never | Asking::Offline => None,
        };
        let mut all = Vec::with_capacity(self.rules.len());
        for (position, rule) in self.rules.iter().enumerate() {
            let tried = match &mismatch {
                None => self.try_rule(position, rule, &presented, finder.as_mut()).await,
                Some(failure) => rule.not_tried(position, Outcome::Refused(failure.clone())),
            };
            all.push(tried);
        }
        all
    }

    /// Forgets everything decided.
    pub fn purge(&self) {
        self.memory.purge();
    }

    /// How much was decided, and how.
    pub fn counts(&self) -> MappingCounts {
        self.counts.read()
    }

    async fn try_rule(&self, position: usize, rule: &Rule, presented: &Presented<'_>, finder: Option<&mut Finder<'_>>) -> Tried {
        let mut tried = rule.not_tried(position, Outcome::NotAsked);
        tried.selected = rule.selection.admits(presented);
        if let Err(why) = &tried.selected {
            tried.outcome = Outcome::Lacks(Failure::new(Cause::NoMapping, why));
            return tried;
        }
        let mut reading = match rule.basis.read(presented) {
            Ok(reading) => reading,
            Err(outcome) => return Tried { outcome, ..tried },
        };
        tried.computed = std::mem::take(&mut reading.computed);
        tried.strength = reading.strength;
        if let Some(finder) = finder {
            let found = finder.account(&reading.sought, presented.claims).await;
            (tried.filter, tried.hits) = finder.take_trace();
            tried.outcome = match found {
                Ok(account) => self.accept(rule, &reading, &account, presented.claims),
                Err(missed) => missed.outcome(rule.basis.names_one_account()),
            };
        } else {
            if matches!(self.directory, Asking::Offline) {
                tried.filter = Some(reading.sought.filter(presented.claims).to_string());
            }
            if let Some(name) = reading.name {
                tried.outcome = Outcome::Maps(Principal::mapped(name, reading.expected_sid, rule.kind, reading.strength));
            }
        }
        tried
    }

    /// The account that was found, if it is the certificate's and may be impersonated.
    fn accept(&self, rule: &Rule, reading: &Reading, account: &Account, claims: &Claims) -> Outcome {
        let Some(sid) = &account.sid else {
            return Outcome::Refused(Failure::new(Cause::DirectoryInvalid, format!("{} has no objectSid", account.dn)));
        };
        // A SID in the certificate that is another's refuses it, whatever rule found the account (MS-PKCA 3.1.5.2.1.5).
        if let Some(own) = claims.any_sid().filter(|own| *own != sid) {
            return Outcome::Refused(sid_conflict(account, own));
        }
        let domain = account.domain();
        if reading.domains.as_ref().is_some_and(|allowed| !allowed.contains(&domain)) {
            let detail = format!("{} is not in a domain that its issuer may speak for", account.dn);
            return Outcome::Lacks(Failure::new(Cause::SuffixNotAllowed, detail));
        }
        let mapped = |name| Principal::mapped(name, ExpectedSid::Is(sid.clone()), rule.kind, reading.strength);
        let principal = match &reading.name {
            Some(name) => mapped(name.clone()),
            None => match requested_name(account, &domain) {
                Ok(name) => mapped(name),
                Err(failure) => return Outcome::Refused(failure),
            },
        };
        let how = (principal.kind(), reading.strength, claims.not_before());
        match self.gates.judge(account, how, unix_now()) {
            Ok(()) => Outcome::Maps(principal),
            Err(failure) => Outcome::Refused(failure),
        }
    }
}

impl Rule {
    fn load(config: &RuleConfig) -> Result<Self, LoadError> {
        let kind = config.rule.kind();
        Ok(Self { kind, selection: Selection::load(&config.selector)?, basis: Basis::load(&config.rule)? })
    }

    /// Its trace before its turn.
    fn not_tried(&self, position: usize, outcome: Outcome) -> Tried {
        let strength = self.basis.strength();
        let (computed, hits) = (Vec::new(), Vec::new());
        Tried { rule: self.kind, position, strength, selected: Ok(()), computed, filter: None, hits, outcome }
    }
}

fn foreign_claims() -> Failure {
    Failure::new(Cause::CertificateMalformed, "the claims are another certificate's")
}

/// The account's own name in its domain's realm: `$` and all, as the directory has it.
fn requested_name(account: &Account, domain: &str) -> Result<RequestedName, Failure> {
    let unusable = |why: &str| Failure::new(Cause::DirectoryInvalid, format!("{}: {why}", account.dn));
    let name = account.account_name.as_str();
    // MS-SAMR 3.1.1.6
    let odd = |c: char| c.is_control() || "\"/\\[]:;|=,+*?<>@".contains(c);
    if name.is_empty() || name.trim() != name || name.chars().any(odd) {
        return Err(unusable("its sAMAccountName is not one"));
    }
    let realm = Realm::parse(&domain.to_ascii_uppercase()).map_err(|_| unusable("its name tells no domain"))?;
    Ok(RequestedName::Account { name: name.into(), realm })
}

fn warn_of_weakness(principal: &Principal, certificate: &ClientCertificate) {
    tracing::warn!(
        rule = principal.rule().name(),
        principal = %principal,
        issuer = certificate.facts().issuer,
        certificate = %certificate.fingerprint(),
        "weak certificate mapping: nothing but a name ties the certificate to the account"
    );
}

fn unix_now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|passed| passed.as_secs()).unwrap_or_default();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
