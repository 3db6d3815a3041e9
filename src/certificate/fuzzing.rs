//! Extensions beyond those that name somebody.

use super::Certificate;

pub(crate) fn extensions(bytes: &[u8]) {
    let Ok(certificate) = Certificate::read(bytes) else { return };
    let _ = certificate.extended_key_usages();
    let _ = certificate.subject_key();
    let _ = (certificate.policies(), certificate.application_policies());
    let _ =
        (certificate.templates(), certificate.distribution_points(), certificate.ocsp_responders(), certificate.freshest_crl());
}
