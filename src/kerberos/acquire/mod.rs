//! Getting tickets from the KDC through MIT's library: a private configuration, worker threads, S4U2Self and S4U2Proxy step by step.

pub(in crate::kerberos) mod acquisition;
pub(in crate::kerberos) mod classify;
pub mod gss;
pub(in crate::kerberos) mod keys;
pub mod krb5_conf;
pub(in crate::kerberos) mod line;
mod stage_clock;
pub(in crate::kerberos) mod worker;
