//! Who a certificate stands for: exactly one account, or a refusal with its reason.

#![forbid(unsafe_code)]

mod mapper;
mod principal;
mod rule;

pub use mapper::Mapper;
pub use principal::{ExpectedSid, Principal, RequestedName, RuleKind, Strength};
pub use rule::{RuleConfig, StaticEntry, WeakIssuer};
