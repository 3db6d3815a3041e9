//! Finding an account in the directory, and comparing the answer: the directory folds accents, widths and trailing spaces.

use std::time::Instant;

use crate::directory::{Account, Accounts, Attribute, Filter};
use crate::failure::{Cause, Failure};
use crate::identity::{Hit, Outcome};
use crate::naming::name::Realm;
use crate::naming::sid::Sid;
use crate::x509::Claims;
use crate::x509::alt_security::{self, Computed, Form};

/// How the directory finds an account. What a peer wrote stands in values only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// userPrincipalName, or sAMAccountName in the domain that is the suffix; with that SID, where one is named
    Upn { upn: String, sid: Option<Sid> },
    /// sAMAccountName in a realm; with that SID, where one is named
    Account { name: String, realm: Realm, sid: Option<Sid> },
    /// objectSid
    Sid(Sid),
    /// any of these in altSecurityIdentities
    Strings(Vec<Computed>),
    /// mail, or any of these in altSecurityIdentities: who has either has the address
    Mail { address: String, strings: Vec<Computed> },
    /// userCertificate, DER
    Certificate(Vec<u8>),
    /// sAMAccountName `host$` and dNSHostName `host.domain`, in that domain
    Computer { host: String, domain: String },
}

/// Asks about one certificate. A question is asked once. Where nobody answers one, the others are asked nevertheless: one that takes
/// too long must not hide what another would say of the account. A directory that is silent as a whole is found out by its pool, and
/// the deadline is for all of them.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    accounts: &'a dyn Accounts,
    deadline: Instant,
    answers: Vec<(Filter, Result<Vec<Account>, Failure>)>,
    /// of the rule whose turn it is
    asked: Vec<String>,
    hits: Vec<Hit>,
}

/// Why there is no account.
#[derive(Debug)]
pub(super) enum Missed {
    /// Nothing found.
    Absent(String),
    /// Something is wrong with what was found, or with the directory.
    Refused(Failure),
}

impl Sought {
    /// The first question.
    pub(super) fn filter(&self, claims: &Claims) -> Filter {
        match self {
            Self::Upn { upn, sid } => {
                let sid = sid.iter().map(by_sid);
                let implicit = upn.split('@').next().unwrap_or_default();
                let names = [by_upn(upn), Filter::equals(Attribute::AccountName, implicit)];
                Filter::Or(sid.chain(names).collect())
            }
            Self::Account { sid: Some(sid), .. } | Self::Sid(sid) => by_sid(sid),
            Self::Account { name, sid: None, .. } => Filter::equals(Attribute::AccountName, name),
            Self::Strings(strings) => Filter::Or(by_strings(strings).chain(not_reversed(strings, claims)).collect()),
            Self::Mail { address, strings } => {
                let mail = Filter::equals(Attribute::Mail, address);
                Filter::Or(std::iter::once(mail).chain(by_strings(strings)).collect())
            }
            Self::Certificate(der) => Filter::equals(Attribute::UserCertificate, der),
            Self::Computer { host, domain } => Filter::And(vec![
                Filter::equals(Attribute::AccountName, format!("{host}$")),
                Filter::equals(Attribute::DnsHostName, format!("{host}.{domain}")),
            ]),
        }
    }
}

impl<'a> Finder<'a> {
    pub(super) fn new(accounts: &'a dyn Accounts, deadline: Instant) -> Self {
        Self { accounts, deadline, answers: Vec::new(), asked: Vec::new(), hits: Vec::new() }
    }

    /// What was asked and named since the last time.
    pub(super) fn take_trace(&mut self) -> (Option<String>, Vec<Hit>) {
        let asked = std::mem::take(&mut self.asked);
        ((!asked.is_empty()).then(|| asked.join(" ")), std::mem::take(&mut self.hits))
    }

    /// The one account that is sought, exactly.
    pub(super) async fn account(&mut self, sought: &Sought, claims: &Claims) -> Result<Account, Missed> {
        let mut found = self.ask(sought.filter(claims)).await?;
        match sought {
            Sought::Upn { upn, sid } => {
                // Account names repeat among domains: two answers may hide the right ones, which are asked for alone then.
                if found.len() > 1 {
                    for filter in sid.iter().map(by_sid).chain([by_upn(upn)]) {
                        found.extend(self.ask(filter).await?);
                    }
                }
                of_upn(distinct(found), upn, sid.as_ref())
            }
            Sought::Account { name, realm, sid } => of_account(found, name, realm, sid.as_ref()),
            Sought::Sid(sid) => only(found, |account| account.sid.as_ref() == Some(sid), &sid.to_string()),
            Sought::Strings(strings) => of_strings(found, strings, claims),
            Sought::Mail { address, strings } => {
                let has = |account: &Account| {
                    account.mail.iter().any(|mail| mail.eq_ignore_ascii_case(address)) || has_string(account, strings)
                };
                only(found, has, address)
            }
            Sought::Certificate(der) => only(found, |account| account.certificates.contains(der), "this certificate"),
            Sought::Computer { host, domain } => {
                let name = format!("{host}.{domain}");
                let is = |account: &Account| {
                    account.account_name.eq_ignore_ascii_case(&format!("{host}$"))
                        && account.dns_host_name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(&name))
                        && account.domain().eq_ignore_ascii_case(domain)
                };
                only(found, is, &name)
            }
        }
    }

    async fn ask(&mut self, filter: Filter) -> Result<Vec<Account>, Failure> {
        let text = filter.to_string();
        if !self.asked.contains(&text) {
            self.asked.push(text);
        }
        let known = self.answers.iter().find(|(asked, _)| *asked == filter).map(|(_, answer)| answer.clone());
        let answer = match known {
            Some(answer) => answer?,
            None => self.ask_directory(filter).await?,
        };
        for account in &answer {
            let hit = Hit { dn: account.dn.clone(), sid: account.sid.clone(), account_name: account.account_name.clone() };
            if !self.hits.contains(&hit) {
                self.hits.push(hit);
            }
        }
        match answer.iter().find(|account| account.sid.is_none()) {
            Some(account) => Err(Failure::new(Cause::DirectoryInvalid, format!("{} has no objectSid", account.dn))),
            None => Ok(answer),
        }
    }

    async fn ask_directory(&mut self, filter: Filter) -> Result<Vec<Account>, Failure> {
        let asking = self.accounts.find(&filter, self.deadline);
        let answer = match tokio::time::timeout_at(self.deadline.into(), asking).await {
            Ok(answer) => answer.map(distinct),
            Err(_) => Err(Failure::new(Cause::DirectoryUnreachable, "no answer in time")),
        };
        self.answers.push((filter, answer.clone()));
        answer
    }
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Missed {
    /// The rule's outcome: nothing found is a refusal where the certificate names exactly one account.
    pub(super) fn outcome(self, names_one_account: bool) -> Outcome {
        match self {
            Self::Refused(failure) => Outcome::Refused(failure),
            Self::Absent(what) => {
                let failure = Failure::new(Cause::AccountNotFound, what);
                if names_one_account { Outcome::Refused(failure) } else { Outcome::Lacks(failure) }
            }
        }
    }
}

fn by_sid(sid: &Sid) -> Filter {
    Filter::equals(Attribute::ObjectSid, sid.to_binary())
}

fn by_upn(upn: &str) -> Filter {
    Filter::equals(Attribute::UserPrincipalName, upn)
}

fn by_strings(strings: &[Computed]) -> impl Iterator<Item = Filter> {
    strings.iter().map(|string| Filter::equals(Attribute::AltSecurityIdentities, &string.value))
}

/// The serial number as people read it: asked for only to say that it must be reversed, and never accepted.
fn not_reversed(strings: &[Computed], claims: &Claims) -> impl Iterator<Item = Filter> {
    let wanted = strings.iter().any(|string| string.form == Form::IssuerSerial);
    let forward = wanted.then(|| claims.issuer().windows().ok()).flatten();
    let forward = forward.map(|issuer| format!("X509:<I>{issuer}<SR>{}", crate::certificate::hex(claims.serial())));
    let new = forward.filter(|forward| !strings.iter().any(|string| alt_security::matches(forward, string)));
    new.into_iter().map(|value| Filter::equals(Attribute::AltSecurityIdentities, value))
}

/// One of each SID: a global catalogue and a domain controller may name the same account.
fn distinct(accounts: Vec<Account>) -> Vec<Account> {
    let mut distinct: Vec<Account> = Vec::new();
    for account in accounts {
        if account.sid.is_none() || distinct.iter().all(|other| other.sid != account.sid) {
            distinct.push(account);
        }
    }
    distinct
}

/// Exactly one answer, and it is what was asked for.
fn only(found: Vec<Account>, is: impl Fn(&Account) -> bool, what: &str) -> Result<Account, Missed> {
    if found.len() > 1 {
        return Err(ambiguous(&found, what));
    }
    match found.into_iter().next() {
        None => Err(Missed::Absent(format!("no account has {what}"))),
        Some(account) if is(&account) => Ok(account),
        Some(account) => Err(mismatch(&account, what)),
    }
}

/// Strings; the issuer is shared by many, so what is missing is named by form.
fn of_strings(found: Vec<Account>, strings: &[Computed], claims: &Claims) -> Result<Account, Missed> {
    if let [account] = &found[..]
        && !has_string(account, strings)
        && let Some(hint) = account.alt_security_identities.iter().find_map(|stored| alt_security::hint(stored, claims))
    {
        return Err(Missed::Absent(format!("{}: {hint}", account.dn)));
    }
    only(found, |account| has_string(account, strings), "the certificate in altSecurityIdentities")
}

fn has_string(account: &Account, strings: &[Computed]) -> bool {
    let has = |stored: &String| strings.iter().any(|string| alt_security::matches(stored, string));
    account.alt_security_identities.iter().any(has)
}

/// The account that a KDC would take the name for, where it can be only one (MS-ADTS 5.1.1.1.1).
fn of_upn(found: Vec<Account>, upn: &str, sid: Option<&Sid>) -> Result<Account, Missed> {
    let (local, suffix) = upn.split_once('@').unwrap_or((upn, ""));
    let same_name = |account: &Account| account.account_name.eq_ignore_ascii_case(local);
    let implicit = |account: &Account| same_name(account) && account.domain().eq_ignore_ascii_case(suffix);
    let explicit = |account: &Account| account.user_principal_name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(upn));
    let is_sid = |account: &Account| sid.is_some() && account.sid.as_ref() == sid;
    let (mut named, others): (Vec<Account>, Vec<Account>) =
        found.into_iter().partition(|account| explicit(account) || implicit(account));

    if named.len() > 1 {
        return Err(ambiguous(&named, upn));
    }
    if let Some(sid) = sid {
        return match (named.pop(), others.iter().find(|account| is_sid(account))) {
            (Some(account), _) if is_sid(&account) => Ok(account),
            (Some(account), _) => Err(conflict(&account, sid)),
            (None, Some(account)) => Err(mismatch(account, upn)),
            (None, None) => Err(Missed::Absent(format!("no account has {sid} and {upn}"))),
        };
    }
    // An account of that name in another domain is nobody's fault; anything else was found by a likeness.
    if let Some(alike) = others.iter().find(|account| !same_name(account)) {
        return Err(mismatch(alike, upn));
    }
    named.pop().ok_or_else(|| Missed::Absent(format!("no account has {upn}")))
}

fn of_account(found: Vec<Account>, name: &str, realm: &Realm, sid: Option<&Sid>) -> Result<Account, Missed> {
    let what = format!("{name}@{realm}");
    let is = |account: &Account| {
        account.account_name.eq_ignore_ascii_case(name) && account.domain().eq_ignore_ascii_case(realm.as_str())
    };
    if let Some(sid) = sid {
        return only(found, |account| account.sid.as_ref() == Some(sid) && is(account), &format!("{sid} and is {what}"));
    }
    let crowded = found.len() > 1;
    let (mut named, others): (Vec<Account>, Vec<Account>) = found.into_iter().partition(is);
    if named.len() > 1 {
        return Err(ambiguous(&named, &what));
    }
    if let Some(alike) = others.iter().find(|account| !account.account_name.eq_ignore_ascii_case(name)) {
        return Err(mismatch(alike, &what));
    }
    let hint = if crowded { "; several domains have one of that name: give the row the account's sid" } else { "" };
    named.pop().ok_or_else(|| Missed::Absent(format!("no account is {what}{hint}")))
}

fn ambiguous(accounts: &[Account], what: &str) -> Missed {
    let names: Vec<_> = accounts.iter().map(|account| account.dn.as_str()).collect();
    Missed::Refused(Failure::new(Cause::AmbiguousAccount, format!("{what}: {}", names.join(" and "))))
}

fn mismatch(account: &Account, what: &str) -> Missed {
    Missed::Refused(Failure::new(Cause::DirectoryMismatch, format!("asked for {what}, got {}, which has another", account.dn)))
}

/// The certificate's name is one account's, its SID another's.
fn conflict(account: &Account, sid: &Sid) -> Missed {
    Missed::Refused(sid_conflict(account, sid))
}

/// The account is not the one that the certificate names by SID.
pub(super) fn sid_conflict(account: &Account, sid: &Sid) -> Failure {
    let own = account.sid.as_ref().map(ToString::to_string).unwrap_or_default();
    Failure::new(Cause::SidConflict, format!("the certificate says {sid}, {} is {own}", account.dn))
}
