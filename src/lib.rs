//! kcd-bridge: client certificates in, Kerberos constrained delegation out.
//!
//! One request passes through these rooms, top to bottom; a module may import only from rooms below its own:
//!
//! ```text
//! cli          arguments, exit codes, the only place that prints; wires the rooms together
//! config       one TOML file -> every room's own Config
//! proxy        one request as a list of steps; upstream connections owned by one principal
//! roster       client certificates in use, and which end soon
//! audit        one event per request and per refused handshake
//! kerberos     S4U2Self, S4U2Proxy, ticket cache, AP-REQ minting, AP-REP verification, KDC relay
//! policy       Principal + route -> Grant
//! identity     Claims -> exactly one Principal, or a reason
//! x509         what a certificate says; nothing believed yet
//! tls          listener, trust: the only maker of ClientCertificate
//! revocation   CRLs and OCSP: whether a certificate of a verified chain is revoked
//! directory    Active Directory by LDAP: accounts, CRLs, NTAuth
//! certificate  X.509 as bytes: certificates, extensions, signatures
//! shutdown     drain, deadline, end
//! naming       realms, principal names, SPNs, SIDs
//! failure      every way to fail: stage, cause, remedy
//! files        reading what a configuration names
//! dns          addresses and services by name
//! der secret   bytes and secrets
//! ```

pub mod audit;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod der;
pub mod directory;
mod dns;

pub mod failure;
pub mod files;
pub mod identity;
pub mod kerberos;
pub mod naming;
pub mod policy;
pub mod proxy;
pub mod revocation;
pub mod roster;
pub mod secret;
pub mod shutdown;
pub mod tls;
pub mod x509;

/// Decoders of bytes that a peer chooses, for tests/fuzz: each takes any bytes and comes back.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    use crate::kerberos::proof::exported_credential::ExportedCredential;
    use crate::kerberos::proof::keytab::Keytab;
    use crate::kerberos::proof::pac::fuzzing as pac;
    use crate::kerberos::wire::ap_rep::fuzzing as ap_rep;
    use crate::kerberos::wire::error_data;
    use crate::kerberos::wire::krb_error::{KrbError, nt_status};
    use crate::kerberos::wire::ticket::TicketParts;
    use crate::naming::sid::Sid;
    use crate::{certificate, directory, kerberos, proxy, revocation, x509};

    /// One decoder.
    pub type Target = fn(&[u8]);

    /// Name of the corpus, and what is done with each of its files.
    pub const TARGETS: &[(&str, Target)] = &[
        ("certificate", x509::fuzzing::certificate),
        ("extensions", certificate::fuzzing::extensions),
        ("distinguished_name", x509::fuzzing::distinguished_name),
        ("stored_identity", x509::fuzzing::stored_identity),
        ("name_match_policy", x509::fuzzing::name_match_policy),
        ("sid", sid),
        ("crl", revocation::fuzzing::crl),
        ("ocsp_response", revocation::fuzzing::ocsp_response),
        ("address", revocation::fuzzing::address),
        ("directory_answer", directory::fuzzing::answer),
        ("directory_name", directory::fuzzing::distinguished_name),
        ("directory_filter", filter),
        ("access_list", directory::fuzzing::access_list),
        ("http_request", proxy::fuzzing::request),
        ("http_chunks", proxy::fuzzing::chunked),
        ("answer_token", ap_rep::token),
        ("ap_rep_part", ap_rep::decrypted),
        ("krb_error", |bytes| drop((KrbError::parse(bytes), nt_status(bytes), error_data::describe(bytes)))),
        ("ticket", |bytes| drop(TicketParts::parse(bytes))),
        ("kdc_request", kerberos::relay::fuzzing::request),
        ("kdc_reply", kerberos::relay::fuzzing::reply),
        ("pac", pac::pac),
        ("logon_information", pac::logon_information),
        ("recorded_error", kerberos::capture::fuzzing::error),
        ("recorded_pac", kerberos::capture::fuzzing::pac),
        ("recorded_answer", kerberos::capture::fuzzing::answer),
        ("exported_credential", |bytes| drop(ExportedCredential::parse(bytes))),
        ("keytab", |bytes| drop(Keytab::from_bytes("keytab".as_ref(), bytes))),
    ];

    /// What is read is written as it was.
    fn sid(bytes: &[u8]) {
        if let Ok(sid) = Sid::from_binary(bytes) {
            assert_eq!(sid.to_binary(), bytes);
            assert_eq!(Sid::parse(&sid.to_string()), Ok(sid));
        }
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok(sid) = Sid::parse(text)
        {
            assert_eq!(sid.to_string(), text);
        }
    }

    /// No value ends the comparison that it stands in (RFC 4515 section 3).
    fn filter(bytes: &[u8]) {
        let text = directory::Filter::equals(directory::Attribute::Mail, bytes).to_string();
        let value = text.strip_prefix("(mail=").and_then(|rest| rest.strip_suffix(')'));
        assert!(value.is_some_and(|value| !value.contains(['(', ')', '*', '\0']) && value.is_ascii()), "{text}");
    }
}
