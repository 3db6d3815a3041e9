//! Why a KDC or a back end refuses: one error code, told apart by what else is known.
//!
//! ```text
//! acquire::classify   the KRB-ERROR's code and NTSTATUS
//! by_tickets          flags of our own and of the evidence ticket, what the PAC says of the user; nobody is asked
//! by_directory        our account, its lists, and who has the SPN: where a directory is configured
//! ```
//!
//! Each step may put another line of the failure table in the place of a vaguer one and say more. None makes a refusal an acceptance.

mod by_directory;
mod by_tickets;
mod investigator;

use std::fmt;
use std::time::Instant;

use crate::directory::{Answer, Attribute, Directory, Filter, ServiceAccount};
use crate::failure::Failure;
use crate::naming::name::{OwnPrincipal, Spn};

pub(in crate::kerberos) use by_directory::encryption_types;
pub(in crate::kerberos) use by_tickets::{Seen, by_tickets};
pub use investigator::Investigator;
pub(in crate::kerberos) use investigator::named;

/// Where [`Facts`] come from: the directory of the day, or a list in tests.
pub trait DelegationFacts: Send + Sync + fmt::Debug {
    /// What is known of our account and this SPN; nothing where there is no directory to ask.
    fn facts<'a>(&'a self, own: &'a OwnPrincipal, spn: &'a Spn, deadline: Instant) -> Answer<'a, Option<Facts>>;
}

/// What a directory says about a delegation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Our account; none where the directory shows no such one in our realm's domain.
    pub own: Option<ServiceAccount>,
    /// Who has the SPN, or, where nobody has it, who has `HOST/` and its host; the second one says that it is not unique.
    pub owners: Vec<ServiceAccount>,
    /// Whether the owners have it by `HOST/` only.
    pub by_host: bool,
}

/// Asks the directory for them.
pub async fn look_up(directory: &Directory, own: &OwnPrincipal, spn: &Spn, deadline: Instant) -> Result<Facts, Failure> {
    let own = own_account(directory, own, deadline).await?;
    let having = |spn: String| Filter::equals(Attribute::ServicePrincipalName, spn);
    let owners = directory.service_accounts(&having(spn.to_string()), deadline).await?;
    if !owners.is_empty() || !spn.service().eq_ignore_ascii_case("http") {
        return Ok(Facts { own, owners, by_host: false });
    }
    // sPNMappings makes HOST/ stand for HTTP/ and others (MS-ADTS 6.1.1.2.4.1.2).
    let owners = directory.service_accounts(&having(format!("HOST/{}", spn.host())), deadline).await?;
    Ok(Facts { own, owners, by_host: true })
}

/// Our account as the directory shows it.
pub async fn own_account(
    directory: &Directory,
    own: &OwnPrincipal,
    deadline: Instant,
) -> Result<Option<ServiceAccount>, Failure> {
    let filter = match &own.name().components[..] {
        [account] => Filter::equals(Attribute::AccountName, account.as_bytes()),
        _ => Filter::equals(Attribute::ServicePrincipalName, own.name().to_string()),
    };
    let found = directory.service_accounts(&filter, deadline).await?;
    // The same name may stand in another domain of the forest.
    Ok(found.into_iter().find(|account| account.domain().eq_ignore_ascii_case(own.realm().as_str())))
}

#[cfg(test)]
pub(in crate::kerberos) mod testkit;
#[cfg(test)]
mod tests;
