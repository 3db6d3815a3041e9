//! The mapping rules at work.

use std::sync::Arc;
use std::time::Instant;

use crate::certificate::{KeyFingerprint, LoadError};
use crate::directory::Accounts;
use crate::failure::{Cause, Failure};
use crate::identity::{AccountRules, Principal, RuleConfig, RuleKind, Tried};
use crate::tls::ClientCertificate;
use crate::x509::Claims;

/// All rules of a configuration, in its order, and what they decided lately. A new configuration is a new mapper.
#[derive(Debug)]
pub struct Mapper {}

/// What was decided since the start: for metrics. Answers from memory are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingCounts {
    /// Certificates mapped, by rule.
    pub mapped: Vec<(RuleKind, u64)>,
    /// Those mapped weakly, by rule.
    pub weak: Vec<(RuleKind, u64)>,
    /// Refusals, by cause.
    pub refused: Vec<(Cause, u64)>,
    /// Mappings used past their time because no directory server answered.
    pub ridden: u64,
}

impl Mapper {
    /// Reads the issuers' certificates. A rule that asks the directory needs one.
    pub fn load(
        _configs: &[RuleConfig],
        _accounts: &AccountRules,
        _directory: Option<Arc<dyn Accounts>>,
    ) -> Result<Self, LoadError> {
        Ok(Self {})
    }

    /// The same rules without a directory, to explain what they would ask: nobody is mapped by those that need one.
    pub fn load_offline(_configs: &[RuleConfig], _accounts: &AccountRules) -> Result<Self, LoadError> {
        Ok(Self {})
    }

    /// What was decided lately about a certificate, from memory.
    pub fn known(&self, _certificate: &ClientCertificate) -> Option<Result<Arc<Principal>, Failure>> {
        None
    }

    /// The one account that an admitted certificate stands for.
    pub async fn resolve(
        &self,
        _certificate: &ClientCertificate,
        _claims: &Claims,
        _deadline: Instant,
    ) -> Result<Arc<Principal>, Failure> {
        Err(Failure::new(Cause::NoMapping, "not decided"))
    }

    /// Every rule's turn with an admitted certificate; nothing is remembered or taken from memory.
    pub async fn evaluate(&self, _certificate: &ClientCertificate, _claims: &Claims, _deadline: Instant) -> Vec<Tried> {
        Vec::new()
    }

    /// The same for a certificate that was not admitted, to explain it: no principal of this may ever get a ticket.
    pub async fn rehearse(
        &self,
        _leaf: &[u8],
        _issuer_key: Option<KeyFingerprint>,
        _claims: &Claims,
        _deadline: Instant,
    ) -> Vec<Tried> {
        Vec::new()
    }

    /// Forgets everything decided.
    pub fn purge(&self) {}

    /// How many of what was decided.
    pub fn counts(&self) -> MappingCounts {
        MappingCounts::default()
    }
}
