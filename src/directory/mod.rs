//! The directory: accounts, CRLs and the NTAuth store in Active Directory, by LDAP over TLS.
//!
//! Whatever a peer wrote goes into a question only through [`Filter`], and every answer is compared again by who asked: the
//! directory treats more as equal than it should.
//!
//! ```text
//! client      find, values, nt_auth: questions and their answers
//!  |- filter, decode, account, service_account, access_list, dn, root_dse
//! pool        which server, who is next; SRV records
//! server      connections of one server, its condition, rest and recovery
//! connection  TCP, TLS, bind, one search at a time through the ldap3 library
//!  |- credential   the password, and the care not to lock its account out
//!  |- gate         every message measured and checked before the library sees it
//!  `- ber, entry   messages as bytes, answers as octets
//! ```
//!
//! The bind is simple and always inside TLS; nothing but the request for TLS itself is ever sent in clear text. There is no
//! bind with Kerberos (SASL GSSAPI): the library would take its credential from the process's environment (`KRB5CCNAME`,
//! `KRB5_CLIENT_KTNAME`), and in this process no such variable may exist, for the Kerberos engine's own library would read it
//! too and could authenticate as somebody else.

#![forbid(unsafe_code)]

mod access_list;
mod account;
mod ber;
mod client;
mod config;
mod connection;
mod credential;
mod decode;
mod dn;
mod entry;
mod filter;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gate;
mod pool;
mod question;
mod root_dse;
mod server;
mod service_account;
#[cfg(test)]
mod testkit;
mod trouble;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::failure::Failure;

pub use access_list::AccessList;
pub use account::Account;
pub use client::Directory;
pub use config::{DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource};
pub use filter::{Attribute, Filter};
pub use root_dse::RootDse;
pub use server::{ServerHealth, ServerRole};
pub use service_account::ServiceAccount;

/// Where accounts are looked up: the directory, or a list in hermetic tests of the rooms above.
pub trait Accounts: Send + Sync + fmt::Debug {
    /// Every account that matches, in the whole forest where a global catalogue is configured; at most two are returned, the second
    /// one says that the answer is ambiguous. Each was read again from a server that holds all of its attributes.
    fn find<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> Answer<'a, Vec<Account>>;
}

/// What the directory will have said.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
