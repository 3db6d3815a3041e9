//! The JSON inside an exported krb5 credential.
//!
//! Keys are decoded from base64 straight out of the input into memory that is wiped. Messages of the JSON library are never shown:
//! they quote what they stumble over.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use zeroize::Zeroize;

use super::{Cred, ExportError, ExportedCredential, MAX_CREDENTIALS, RealmedName};
use crate::secret::SecretBytes;

const MAGIC: &str = "K5C1";
/// Realm of the entries in which MIT keeps a cache's settings.
const SETTINGS_REALM: &str = "X-CACHECONF:";

/// Decodes the krb5 mechanism's token.
pub(super) fn parse(text: &[u8]) -> Result<ExportedCredential, ExportError> {
    let shape = |error: serde_json::Error| ExportError::Shape { column: error.column() };
    let (magic, _) = serde_json::from_slice::<(String, IgnoredAny)>(text).map_err(shape)?;
    if magic != MAGIC {
        return Err(ExportError::Version(magic.chars().take(16).collect()));
    }
    let (_, RawExport(_, _, impersonator, _, _, _, _, ccache, ..)) =
        serde_json::from_slice::<(IgnoredAny, RawExport)>(text).map_err(shape)?;
    let Ccache::Memory { client, credentials } = ccache else { return Err(ExportError::NotInMemory) };
    Ok(ExportedCredential {
        client: name(&client)?,
        impersonator: impersonator.as_deref().map(name).transpose()?,
        credentials: credentials.into_iter().map(cred).collect::<Result<_, _>>()?,
    })
}

/// usage, name, impersonator, default identity, IAKERB, keytab, replay cache, ccache, client keytab, has a TGT, expiry, refresh
/// time, encryption types, password, and a one-time password where there is one.
#[derive(Deserialize)]
struct RawExport(
    IgnoredAny,
    IgnoredAny,
    Option<String>,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    Ccache,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    #[serde(default)] IgnoredAny,
);

/// See the table in the parent module.
#[derive(Deserialize)]
struct RawCred(
    String,
    String,
    (i32, Secret),
    Timestamp,
    Timestamp,
    Timestamp,
    Timestamp,
    bool,
    Timestamp, // flags, which are 32 bits shown as a signed number as well
    IgnoredAny,
    Base64,
    Base64,
    Option<IgnoredAny>,
);

fn name(text: &str) -> Result<RealmedName, ExportError> {
    RealmedName::unescape(text).ok_or(ExportError::Name)
}

fn cred(raw: RawCred) -> Result<Cred, ExportError> {
    let RawCred(client, server, (key_etype, key), auth, start, end, renew, is_skey, flags, _, ticket, second_ticket, authdata) =
        raw;
    Ok(Cred {
        client: name(&client)?,
        server: name(&server)?,
        key_etype,
        key: key.0,
        auth_time: auth.0.into(),
        start_time: start.0.into(),
        end_time: end.0.into(),
        renew_till: renew.0.into(),
        is_skey,
        flags: flags.0,
        ticket: ticket.0,
        second_ticket: second_ticket.0,
        has_authdata: authdata.is_some(),
    })
}

/// MIT's 32-bit numbers: written as signed ones, meant as unsigned ones (times until 2106).
#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Timestamp(u32);

impl TryFrom<i64> for Timestamp {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let bits = i32::try_from(number).map(i32::cast_unsigned).or_else(|_| u32::try_from(number));
        bits.map(Self).map_err(|_| "not a number of 32 bits")
    }
}

/// The credential cache.
enum Ccache {
    /// None, or the name of one that is not in memory.
    Elsewhere,
    Memory {
        client: String,
        credentials: Vec<RawCred>,
    },
}

impl<'de> Deserialize<'de> for Ccache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CcacheVisitor)
    }
}

struct CcacheVisitor;

impl<'de> Visitor<'de> for CcacheVisitor {
    type Value = Ccache;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a credential cache")
    }

    fn visit_unit<E>(self) -> Result<Ccache, E> {
        Ok(Ccache::Elsewhere)
    }

    fn visit_str<E>(self, _: &str) -> Result<Ccache, E> {
        Ok(Ccache::Elsewhere)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Ccache, A::Error> {
        let client = elements.next_element()?.ok_or_else(|| A::Error::custom("no client"))?;
        let mut credentials = Vec::new();
        while let Some(credential) = elements.next_element::<RawCred>()? {
            if credential.1.ends_with(SETTINGS_REALM) {
                continue;
            }
            if credentials.len() == MAX_CREDENTIALS {
                return Err(A::Error::custom("too many credentials"));
            }
            credentials.push(credential);
        }
        Ok(Ccache::Memory { client, credentials })
    }
}

/// Bytes in base64.
struct Base64(Vec<u8>);

/// Secret bytes in base64.
struct Secret(SecretBytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64Visitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64Visitor).map(|bytes| Self(SecretBytes::new(bytes)))
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        // A buffer of the full size from the start: no reallocation leaves a copy behind.
        let mut bytes = vec![0; text.len()];
        let decoded =
            base64_simd::STANDARD.decode(text.as_bytes(), base64_simd::Out::from_slice(&mut bytes)).map(|part| part.len());
        let Ok(length) = decoded else {
            bytes.zeroize();
            return Err(E::custom("not base64"));
        };
        bytes.truncate(length);
        Ok(bytes)
    }
}
