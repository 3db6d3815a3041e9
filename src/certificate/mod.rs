//! X.509 as bytes: certificates, their extensions, names and signatures read strictly; nothing is believed yet.
//!
//! ```text
//! reader      the fields of a certificate (RFC 5280 section 4.1)
//! extensions  key identifiers, distribution points, policies, templates
//! signature   whether a key signed something
//! name        distinguished names for people
//! facts       what identifies a certificate in logs, and a CA's key
//! files       certificates in files, and what is said when one cannot be used
//! ```

#![forbid(unsafe_code)]

mod extensions;
mod facts;
mod files;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod name;
mod reader;
mod signature;

pub(crate) use extensions::{DistributionPoint, Template, general_name_uris};
pub use facts::{CertificateFacts, Fingerprint, KeyFingerprint};
pub use files::{LoadError, read_certificate_chain};
pub(crate) use files::{issuing_key, read_bounded};
pub(crate) use name::text as name_text;
#[cfg(test)]
pub(crate) use reader::tests::unsigned as test_certificate;
pub(crate) use reader::{Certificate, dotted, hex, key_usage, oid, time};
pub(crate) use signature::{SignatureError, Signed};
