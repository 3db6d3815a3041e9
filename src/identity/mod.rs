//! Who a certificate stands for: exactly one account, or a refusal with its reason.
//!
//! ```text
//! Mapper::known    certificate -> what was decided lately            (memory only)
//! Mapper::resolve  certificate, claims -> Principal | Failure       (asks once for all who wait, and remembers)
//!   evaluate         every rule: selector, strings, directory, comparison, gates -> Tried
//!   decide           all Tried -> Principal | Failure
//! ```
//!
//! Without a directory an account is judged by the KDC and its PAC alone: disabled, locked and expired accounts get no ticket,
//! denied groups are compared with the PAC's. With one, every rule's account passes the gates as well.

#![forbid(unsafe_code)]

mod counts;
mod gates;
mod lookup;
mod mapper;
mod memory;
mod principal;
mod reading;
mod rule;
mod selector;
mod trace;

pub use counts::MappingCounts;
pub use gates::{AccountRules, SidOrRid};
pub use mapper::Mapper;
pub use principal::{AccountKind, ExpectedSid, Principal, RequestedName, RuleKind, Strength};
pub use rule::{KeyUsage, RuleConfig, RuleSettings, Selector, StaticEntry, WeakIssuer};
pub use trace::{Hit, Outcome, Tried, decide};

#[cfg(test)]
mod tests;
