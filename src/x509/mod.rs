//! What a certificate says; nothing is believed yet.
//!
//! Read strictly: of two ways to understand a certificate neither is taken. A malformed or doubled name or SID refuses the
//! certificate, also where no rule would have used it.

#![forbid(unsafe_code)]

mod alternative_names;
mod sid_extension;
mod upn;

use crate::certificate::{Certificate, Fingerprint};
use crate::failure::{Cause, Failure};
use crate::naming::sid::Sid;
use crate::tls::ClientCertificate;

pub use upn::Upn;

/// id-ce-subjectAltName 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];
/// szOID_NTDS_CA_SECURITY_EXT 1.3.6.1.4.1.311.25.2 (MS-WCCE 2.2.2.7.7.4)
const SID_EXTENSION: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02];

/// Whom a certificate claims to stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    certificate: Fingerprint,
    upn: Option<Upn>,
    extension_sid: Option<Sid>,
    uri_sid: Option<Sid>,
}

impl Claims {
    /// Of an admitted certificate.
    pub fn read(certificate: &ClientCertificate) -> Result<Self, Failure> {
        Self::of_leaf(certificate.leaf())
    }

    /// Of a leaf's DER, admitted or not: for explanations.
    pub fn of_leaf(leaf: &[u8]) -> Result<Self, Failure> {
        let certificate = Certificate::read(leaf).map_err(|error| malformed(error.to_string()))?;
        let names = match certificate.extension(SUBJECT_ALTERNATIVE_NAME) {
            Some(value) => alternative_names::read(value)?,
            None => alternative_names::AlternativeNames::default(),
        };
        let extension_sid = certificate.extension(SID_EXTENSION).map(sid_extension::read).transpose()?;
        if let (Some(extension), Some(uri)) = (&extension_sid, &names.sid)
            && extension != uri
        {
            let detail = format!("the SID extension says {extension}, the SAN URI {uri}");
            return Err(Failure::new(Cause::SidConflict, detail));
        }
        Ok(Self { certificate: Fingerprint::of(leaf), upn: names.upn, extension_sid, uri_sid: names.sid })
    }

    /// The certificate that says so.
    pub fn certificate(&self) -> Fingerprint {
        self.certificate
    }

    /// The user principal name in the subject alternative name (szOID_NT_PRINCIPAL_NAME).
    pub fn upn(&self) -> Option<&Upn> {
        self.upn.as_ref()
    }

    /// The SID that the CA put into the SID extension.
    pub fn extension_sid(&self) -> Option<&Sid> {
        self.extension_sid.as_ref()
    }

    /// The SID in a SAN URI (MS-PKCA 3.1.5.2.1.6): many CAs let the requester write it.
    pub fn uri_sid(&self) -> Option<&Sid> {
        self.uri_sid.as_ref()
    }

    /// Any SID the certificate names; where it names two, they are the same.
    pub fn any_sid(&self) -> Option<&Sid> {
        self.extension_sid().or(self.uri_sid())
    }
}

fn malformed(detail: impl Into<String>) -> Failure {
    Failure::new(Cause::CertificateMalformed, detail)
}

#[cfg(test)]
mod tests;
