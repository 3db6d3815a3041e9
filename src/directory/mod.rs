//! The directory: accounts, CRLs and the NTAuth store in Active Directory, by LDAP over TLS.
//!
//! Whatever a peer wrote goes into a question only through [`Filter`], and every answer is compared again by who asked: the
//! directory treats more as equal than it should.

#![forbid(unsafe_code)]

mod account;
mod config;
mod filter;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::failure::Failure;

pub use account::Account;
pub use config::{DirectoryConfig, DirectorySecurity, DirectoryServer, DirectorySource};
pub use filter::{Attribute, Filter};

/// Where accounts are looked up: the directory, or a list in hermetic tests of the rooms above.
pub trait Accounts: Send + Sync + fmt::Debug {
    /// Every account that matches, in the whole forest where a global catalogue is configured; at most two are returned, the second
    /// one says that the answer is ambiguous. Each was read again from a server that holds all of its attributes.
    fn find<'a>(&'a self, filter: &'a Filter, deadline: Instant) -> Answer<'a, Vec<Account>>;
}

/// What the directory will have said.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
