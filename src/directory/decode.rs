//! From a directory entry to an [`Account`]: every attribute strictly, or the answer is refused with the attribute's name.
//!
//! An attribute that every account has and that is not shown means that our account may not read it. It is never taken for a
//! default: an account whose lockout or groups cannot be read must not pass for one that is free and in none.

pub(super) mod service;

use crate::der;
use crate::directory::Account;
use crate::directory::entry::Entry;
use crate::failure::{Cause, Failure};
use crate::naming::sid::Sid;

/// What is read of an account. The constructed ones are shown only for one object by its name (MS-ADTS 3.1.1.4.5).
pub(super) const ATTRIBUTES: [&str; 18] = [
    SID,
    "sAMAccountName",
    "userPrincipalName",
    "sAMAccountType",
    "userAccountControl",
    COMPUTED,
    "accountExpires",
    "pwdLastSet",
    "primaryGroupID",
    "adminCount",
    "whenCreated",
    GROUPS,
    "altSecurityIdentities",
    "userCertificate",
    "mail",
    "dNSHostName",
    "servicePrincipalName",
    "logonHours",
];
pub(super) const SID: &str = "objectSid";
const COMPUTED: &str = "msDS-User-Account-Control-Computed";
const GROUPS: &str = "tokenGroups";
/// FILETIME of 1970-01-01, in units of 100 ns since 1601.
const FILETIME_1970: i64 = 116_444_736_000_000_000;

/// The account that an entry describes.
pub(super) fn account(entry: &Entry) -> Result<Account, Failure> {
    complete(entry)?;
    let attributes = Attributes(entry);
    Ok(Account {
        dn: entry.dn.clone(),
        sid: Some(attributes.required(SID, sid)?),
        account_name: attributes.required("sAMAccountName", text)?,
        user_principal_name: attributes.optional("userPrincipalName", text)?,
        account_type: attributes.required("sAMAccountType", unsigned)?,
        control: attributes.required("userAccountControl", unsigned)?,
        computed_control: attributes.required(COMPUTED, unsigned)?,
        expires: attributes.required("accountExpires", expiry)?.at,
        must_change_password: attributes.required("pwdLastSet", integer)? == 0,
        primary_group: attributes.required("primaryGroupID", unsigned)?,
        admin_count: attributes.optional("adminCount", integer)?.is_some_and(|count| count != 0),
        created: attributes.required("whenCreated", time)?,
        groups: attributes.some(GROUPS, sid)?,
        alt_security_identities: attributes.all("altSecurityIdentities", text)?,
        certificates: attributes.all("userCertificate", |value| Some(value.to_vec()))?,
        mail: attributes.all("mail", text)?,
        dns_host_name: attributes.optional("dNSHostName", text)?,
        service_principal_names: attributes.all("servicePrincipalName", text)?,
        logon_hours: attributes.optional("logonHours", |value| value.try_into().ok())?,
    })
}

/// The SID that an entry names.
pub(super) fn sid_of(entry: &Entry) -> Result<Sid, Failure> {
    Attributes(entry).required(SID, sid)
}

/// Refuses an entry of which the server holds values back.
pub(super) fn complete(entry: &Entry) -> Result<(), Failure> {
    match entry.ranged() {
        None => Ok(()),
        Some(attribute) => {
            Err(Failure::new(Cause::DirectoryInvalid, format!("{}: more values of {attribute} than are read", entry.dn)))
        }
    }
}

struct Attributes<'a>(&'a Entry);

impl Attributes<'_> {
    fn all<T>(&self, name: &str, decode: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Failure> {
        let values = self.0.values(name).iter().map(|value| decode(value).ok_or_else(|| self.malformed(name)));
        values.collect()
    }

    fn some<T>(&self, name: &str, decode: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Failure> {
        let values = self.all(name, decode)?;
        if values.is_empty() { Err(self.hidden(name)) } else { Ok(values) }
    }

    fn optional<T>(&self, name: &str, decode: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Failure> {
        match self.0.values(name) {
            [] => Ok(None),
            [value] => decode(value).map(Some).ok_or_else(|| self.malformed(name)),
            _ => Err(self.malformed(name)),
        }
    }

    fn required<T>(&self, name: &str, decode: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        self.optional(name, decode)?.ok_or_else(|| self.hidden(name))
    }

    fn malformed(&self, name: &str) -> Failure {
        Failure::new(Cause::DirectoryInvalid, format!("{}: {name} is malformed", self.0.dn))
    }

    fn hidden(&self, name: &str) -> Failure {
        let remedy = if name == GROUPS { "; add it to Windows Authorization Access Group" } else { "" };
        let detail = format!("{}: our account is not shown {name}{remedy}", self.0.dn);
        Failure::new(Cause::DirectoryRefused, detail)
    }
}

fn sid(value: &[u8]) -> Option<Sid> {
    Sid::from_binary(value).ok()
}

fn text(value: &[u8]) -> Option<String> {
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// INTEGER as LDAP writes it (RFC 4517 section 3.3.16): decimal, no leading zeros, no plus.
fn integer(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

/// Active Directory's 32-bit integers are signed, also those that hold flags.
fn unsigned(value: &[u8]) -> Option<u32> {
    i32::try_from(integer(value)?).ok().map(i32::cast_unsigned)
}

/// When an account ends; none: never.
struct Expiry {
    at: Option<i64>,
}

/// accountExpires as seconds since 1970 (MS-ADA1 2.2): both 0 and the largest number mean never.
fn expiry(value: &[u8]) -> Option<Expiry> {
    let at = match integer(value)? {
        0 | i64::MAX => None,
        filetime @ 1.. => Some((filetime - FILETIME_1970).div_euclid(10_000_000)),
        _ => return None,
    };
    Some(Expiry { at })
}

/// GeneralizedTime as Active Directory writes it, `20260131235959.0Z`, as seconds since 1970.
fn time(value: &[u8]) -> Option<i64> {
    let (digits, rest) = value.split_first_chunk::<14>()?;
    let fraction = rest.strip_suffix(b"Z")?;
    let whole = match fraction {
        [] => true,
        [b'.', digits @ ..] => (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let zulu: Vec<u8> = digits.iter().copied().chain(*b"Z").collect();
    whole.then(|| der::kerberos_time(&zulu).ok())?
}

#[cfg(test)]
mod tests;
