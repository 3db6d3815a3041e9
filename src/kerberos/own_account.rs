//! The bridge's own account, judged: what is wrong with it, or soon will be, and what repairs that.
//!
//! [`look`] gets our own ticket and, with it, one to ourselves for ourselves (S4U2Self): in these the domain shows most of what
//! counts. Where a directory is configured, its attributes complete the picture.

use std::sync::Arc;

use tracing::debug;

use crate::directory::ServiceAccount;
use crate::failure::{Cause, Failure, Name, Names};
use crate::kerberos::acquire::acquisition::{Acquirer, Shared};
use crate::kerberos::acquire::keys::Keys;
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::proof::evidence::EvidenceTicket;
use crate::kerberos::refusal::encryption_types;
use crate::kerberos::relay::RelayObserver;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::ticket::TicketParts;
use crate::naming::name::OwnPrincipal;

/// A password that is older is worth a word, in days.
const OLD_PASSWORD: i64 = 180;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// AES128 and AES256 with SHA-1 (MS-KILE 2.2.7).
const AES: u32 = 0x18;

/// How bad a flaw is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nobody can be delegated, or nobody by the delegation list.
    Error,
    /// It works, and should be otherwise.
    Warning,
}

impl Severity {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! flaws {
    ($($name:ident { $code:literal, $severity:ident, $summary:literal, $remedy:literal })*) => {
        /// What may be wrong with the account. One line of the table each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Flaw {
            $( #[doc = $summary] $name, )*
        }

        impl Flaw {
            /// The whole table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable code in logs, reports and documentation.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// The flaw in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

flaws! {
    NoSpn { "no-spn", Error, "it has no service principal name: a KDC issues it no ticket in anybody's name", "setspn -S HTTP/bridge.your.domain {account}, or samba-tool spn add HTTP/bridge.your.domain {account}; any SPN that nobody else has will do" }
    Sensitive { "sensitive", Error, "it is marked sensitive: its ticket is not forwardable, and nobody can be delegated", "Set-ADUser {account} -AccountNotDelegated $false, or samba-tool user sensitive {account} off" }
    Protected { "protected", Error, "it is in Protected Users: its ticket is not forwardable, and nobody can be delegated", "Remove-ADGroupMember 'Protected Users' {account}" }
    TgtNotForwardable { "tgt-not-forwardable", Error, "its ticket is not forwardable: nobody can be delegated", "it must be neither sensitive nor in Protected Users, and no policy may forbid forwardable tickets: Get-ADUser {account} -Properties AccountNotDelegated,MemberOf" }
    NoTransition { "no-protocol-transition", Error, "it may not use protocol transition: its delegation list serves nobody, only lists on the SPNs' own accounts do", "Set-ADAccountControl {account} -TrustedToAuthForDelegation $true, or samba-tool delegation for-any-protocol {account} on" }
    ListEmpty { "delegation-list-empty", Warning, "its delegation list is empty: only lists on the SPNs' own accounts let it delegate", "Set-ADUser {account} -Add @{'msDS-AllowedToDelegateTo'='HTTP/…'} with the spn of each back end, or samba-tool delegation add-service {account} HTTP/…" }
    Unconstrained { "unconstrained", Warning, "it is trusted for unconstrained delegation, which is never needed: whoever takes the bridge gets tickets for everything from whoever visits it", "Set-ADAccountControl {account} -TrustedForDelegation $false" }
    NoAesKeys { "no-aes-keys", Error, "its keytab has no AES key", "Set-ADUser {account} -KerberosEncryptionType AES128,AES256, set a new password (AES keys are made then), export the keytab again" }
    Rc4Tickets { "rc4-tickets", Error, "the domain encrypts tickets to it with RC4: none is believed unless the back end has allow_rc4", "Set-ADUser {account} -KerberosEncryptionType AES128,AES256, set a new password (AES keys are made then), export the keytab again" }
    KeytabOutdated { "keytab-outdated", Error, "its keytab has not the key that the domain uses", "the password was changed after the export: export the keytab again" }
    PasswordOld { "password-old", Warning, "its password is older than 180 days", "set a new random one, export the keytab again" }
}

/// One flaw of the account as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Line of the table.
    pub flaw: Flaw,
    /// What was seen.
    pub detail: String,
    /// What to do, with the account's name.
    pub remedy: String,
}

/// What the keytab and the KDC show of the account.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Encryption types and versions of the keytab's keys.
    keys: Vec<(u32, Etype)>,
    /// Whether our own ticket is forwardable; none where there is none.
    tgt_forwardable: Option<bool>,
    /// The ticket to ourselves for ourselves.
    to_ourselves: Option<ToOurselves>,
    /// Why there is none of the two.
    failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct ToOurselves {
    forwardable: bool,
    etype: i32,
    kvno: Option<u32>,
    /// Whether a key of the keytab opens it.
    opens: bool,
}

impl Look {
    fn is_refused_as(&self, cause: Cause) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.cause == cause)
    }

    /// Why the KDC did not show everything.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}

/// Looks at the account through the KDC. Blocks on it: call it from a blocking thread. The error is that of the keytab.
pub fn look(config: &KerberosConfig, relay: RelayObserver) -> Result<Look, Failure> {
    let keys = Keys::read(config.keytab.clone(), config.principal.clone())?;
    let shared = Shared::new(config.clone(), keys, relay);
    Ok(look_with(&mut Acquirer::new(Arc::clone(&shared)), &shared))
}

/// The same by an acquirer that may have our own ticket already.
pub(in crate::kerberos) fn look_with(acquirer: &mut Acquirer, shared: &Shared) -> Look {
    let mut look = Look { keys: keytab_keys(shared), ..Look::default() };
    look.failure = look.complete(acquirer, shared).err();
    look
}

/// What is left where we got no ticket of our own: the KDC is not asked again, for each try with a wrong key counts towards a lockout.
pub(in crate::kerberos) fn look_without(shared: &Shared, failure: &Failure) -> Look {
    Look { keys: keytab_keys(shared), failure: Some(failure.clone()), ..Look::default() }
}

fn keytab_keys(shared: &Shared) -> Vec<(u32, Etype)> {
    let keys = shared.keys.current();
    keys.keytab().keys_for(&shared.config.principal).map(|(version, key)| (version, key.etype())).collect()
}

impl Look {
    fn complete(&mut self, acquirer: &mut Acquirer, shared: &Shared) -> Result<(), Failure> {
        let own = &shared.config.principal;
        self.tgt_forwardable = acquirer.own_tickets()?.is_tgt_forwardable(own);
        let tickets = match acquirer.tickets_to_ourselves() {
            Ok(tickets) => tickets,
            // Not about the account but about this one question: some KDCs may not know us by that name.
            Err(failure) if failure.cause == Cause::KdcOther || failure.cause.code().starts_with("user-") => {
                debug!(%failure, "there is no ticket to ourselves to look at");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let ticket = tickets.to_ourselves(own)?;
        let sealed =
            TicketParts::parse(&ticket.ticket).map_err(|error| Failure::new(Cause::TicketUnusable, error.to_string()))?;
        self.to_ourselves = Some(ToOurselves {
            forwardable: ticket.is_forwardable(),
            etype: sealed.enc_part.etype,
            kvno: sealed.enc_part.kvno,
            opens: EvidenceTicket::open(&ticket.ticket, shared.keys.current().keytab(), own).is_ok(),
        });
        Ok(())
    }
}

/// What is wrong with the account. `account` is what the directory shows of it, `now` seconds since 1970.
pub fn judge(own: &OwnPrincipal, look: &Look, account: Option<&ServiceAccount>, now: i64) -> Vec<Finding> {
    let names = match (account, &own.name().components[..]) {
        (Some(account), _) => Names::default().with(Name::Account, &account.account_name),
        (None, [account]) => Names::default().with(Name::Account, account),
        (None, _) => Names::default(),
    };
    let find = |flaw: Flaw, detail: String| Finding { flaw, detail, remedy: names.fill(flaw.remedy()) };
    let mut findings = Vec::new();
    spn_and_flags(look, account, |flaw, detail| findings.push(find(flaw, detail)));
    keys(look, account, |flaw, detail| findings.push(find(flaw, detail)));
    if let Some(days) = account.and_then(|account| account.password_set).map(|set| now.saturating_sub(set) / DAY)
        && days > OLD_PASSWORD
    {
        findings.push(find(Flaw::PasswordOld, format!("{days} days")));
    }
    findings.sort_by_key(|finding| finding.flaw.severity());
    findings
}

fn spn_and_flags(look: &Look, account: Option<&ServiceAccount>, mut find: impl FnMut(Flaw, String)) {
    match account {
        Some(account) if account.service_principal_names.is_empty() => find(Flaw::NoSpn, account.dn.clone()),
        _ if look.is_refused_as(Cause::OwnSpnMissing) => find(Flaw::NoSpn, "the KDC refuses it a ticket to itself".to_owned()),
        _ => {}
    }
    let sensitive = account.is_some_and(ServiceAccount::is_sensitive);
    let protected = account.is_some_and(ServiceAccount::is_protected);
    if let Some(account) = account {
        if sensitive {
            find(Flaw::Sensitive, account.dn.clone());
        }
        if protected {
            find(Flaw::Protected, account.dn.clone());
        }
        if account.is_unconstrained() {
            find(Flaw::Unconstrained, account.dn.clone());
        }
    }
    if look.tgt_forwardable == Some(false) && !sensitive && !protected {
        find(Flaw::TgtNotForwardable, "the KDC left the flag out".to_owned());
    }
    match account {
        Some(account) if !account.may_transition() => find(Flaw::NoTransition, account.dn.clone()),
        // A forwardable ticket of ours, a ticket to ourselves that is not: what is left is protocol transition.
        None if look.tgt_forwardable == Some(true) && look.to_ourselves.is_some_and(|ticket| !ticket.forwardable) => {
            find(Flaw::NoTransition, "the KDC gives it no forwardable ticket to itself".to_owned());
        }
        _ => {}
    }
    if let Some(account) = account.filter(|account| account.delegates_to.is_empty()) {
        find(Flaw::ListEmpty, account.dn.clone());
    }
}

fn keys(look: &Look, account: Option<&ServiceAccount>, mut find: impl FnMut(Flaw, String)) {
    let versions = || {
        let mut versions: Vec<_> = look.keys.iter().map(|(version, _)| version.to_string()).collect();
        versions.dedup();
        versions.join(", ")
    };
    if look.keys.iter().all(|(_, etype)| *etype == Etype::Rc4Hmac) {
        find(Flaw::NoAesKeys, format!("it has versions {}", versions()));
    }
    let ticket = look.to_ourselves;
    let rc4_allowed_only = account.filter(|account| account.encryption_types.is_some_and(|types| types != 0 && types & AES == 0));
    match (ticket, rc4_allowed_only) {
        (Some(ticket), _) if ticket.etype == Etype::Rc4Hmac.number() => {
            find(Flaw::Rc4Tickets, account.map_or_else(|| "the KDC's ticket to it is RC4".to_owned(), encryption_types));
        }
        (None, Some(account)) => find(Flaw::Rc4Tickets, encryption_types(account)),
        (None, None) if look.is_refused_as(Cause::OwnEtypeNotSupported) => {
            find(Flaw::Rc4Tickets, "the KDC has no other key of it".to_owned());
        }
        _ => {}
    }
    match (ticket, account.and_then(|account| account.key_version)) {
        (Some(ticket), _) if !ticket.opens => {
            let version = ticket.kvno.map_or_else(|| "another key".to_owned(), |kvno| format!("version {kvno}"));
            find(Flaw::KeytabOutdated, format!("the KDC uses {version}, the keytab has {}", versions()));
        }
        // Numbers get lost in exports: they count only where no ticket shows what the domain uses.
        (None, Some(current)) if look.keys.iter().all(|(version, _)| *version < current) => {
            find(Flaw::KeytabOutdated, format!("the directory has version {current}, the keytab has {}", versions()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
