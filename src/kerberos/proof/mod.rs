//! Whom a ticket is for, proved: our own keys open the evidence ticket, its PAC names the account, and only some accounts may be
//! delegated.

pub mod account_rules;
pub mod evidence;
pub mod exported_credential;
pub mod keytab;
pub mod pac;
pub(in crate::kerberos) mod pins;
