//! The names of Kerberos and Active Directory: realms, principal names, service principal names, security identifiers.

#![forbid(unsafe_code)]

pub mod name;
pub mod sid;
