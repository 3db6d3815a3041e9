//! Mapping rules as configured.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::certificate::Fingerprint;
use crate::identity::{ExpectedSid, RequestedName};

/// One `[[mapping]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleConfig {
    /// `rule = "upn-with-sid"`
    UpnWithSid {
        /// `san_uri_sid_issuers`: PEM files of issuing CAs whose SAN URI SIDs are believed (MS-PKCA 3.1.5.2.1.6); default none
        san_uri_sid_issuers: Vec<PathBuf>,
    },
    /// `rule = "static"`: rows `[[mapping.entry]]` with `certificate_sha256`, `principal`, and `sid` or `pin = "first-use"`
    Static {
        /// by SHA-256 of the leaf's DER
        entries: BTreeMap<[u8; 32], StaticEntry>,
    },
    /// `rule = "upn"`: weak; every issuer is named with the suffixes it may speak for
    Upn {
        /// `[[mapping.issuer]]` with `certificate` (PEM file of the issuing CA) and `allowed_suffixes`
        issuers: Vec<WeakIssuer>,
    },
}

/// One row of the static table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEntry {
    /// `principal`: `name@REALM`; or `upn`: a user principal name sent as an enterprise name
    pub name: RequestedName,
    /// `sid`, or `pin = "first-use"`
    pub expected_sid: ExpectedSid,
}

/// One issuer of the weak `upn` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakIssuer {
    /// `certificate`: PEM file of the issuing CA
    pub certificate: PathBuf,
    /// `allowed_suffixes`: UPN suffixes in lower case, at least one
    pub allowed_suffixes: Vec<String>,
}

impl StaticEntry {
    /// Key of the table.
    pub fn key(fingerprint: Fingerprint) -> [u8; 32] {
        fingerprint.0
    }
}
