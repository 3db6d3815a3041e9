//! Settings that are valid and still worth a word: weak ones that were asked for, and those that cannot work with that server.

use super::finding::Findings;
use crate::config::Config;
use crate::identity::{ExpectedSid, RuleConfig, RuleSettings};
use crate::proxy::{BackendConfig, Mutual, Profile, Transport};
use crate::revocation::RevocationPolicy;
use crate::tls::{ClientTrustConfig, NtAuth, Usage};

/// Domain Admins, Domain Controllers, Schema Admins, Enterprise Admins, Read-only Domain Controllers, Protected Users (MS-DTYP 2.4.2.4).
const PRIVILEGED_GROUPS: [u32; 6] = [512, 516, 518, 519, 521, 525];
/// The built-in Administrator.
const ADMINISTRATOR: u32 = 500;

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    client_certificates(&config.client_certificates, findings);
    if let Some(index) = config.mapping.iter().position(is_for_all_issuers)
        && config.client_certificates.trust_anchors.len() > 1
        && config.client_certificates.issuing_cas.is_empty()
        && config.client_certificates.nt_auth == NtAuth::Off
    {
        let message = "weak: every CA below every trust anchor may name any account";
        findings.note(
            format!("mapping[{index}].match"),
            message,
            "name its issuers, or client_certificates.issuing_cas or nt_auth",
        );
    }
    for (index, rule) in config.mapping.iter().enumerate() {
        mapping(&format!("mapping[{index}]"), &rule.rule, findings);
    }
    kerberos(config, findings);
    for (index, backend) in config.backends.iter().enumerate() {
        let key = format!("backend[{index}]");
        if config.routes.iter().all(|route| route.backend != index) {
            findings.warning(
                &key,
                format!("no route leads to {}", backend.target.name),
                "add a [[route]], or remove the back end",
            );
        }
        weak(&key, backend, findings);
        fitting(&key, backend, findings);
    }
}

fn client_certificates(config: &ClientTrustConfig, findings: &mut Findings) {
    revocation("client_certificates.revocation.policy", config.revocation.policy, findings);
    if !config.revocation.grace.is_zero() {
        let message = "weak: CRLs are believed past their nextUpdate";
        findings.note("client_certificates.revocation.grace", message, "have the CA publish in time, and leave the key out");
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        let key = format!("client_certificates.issuer[{index}]");
        if let Some(policy) = issuer.revocation {
            revocation(&format!("{key}.revocation"), policy, findings);
        }
        if issuer.usages.iter().any(|usage| matches!(usage, Usage::Any | Usage::None)) {
            let message = "weak: certificates are let in that do not name client authentication";
            findings.note(format!("{key}.usages"), message, "have this CA issue for client authentication by name");
        }
    }
}

fn revocation(key: &str, policy: RevocationPolicy, findings: &mut Findings) {
    let message = match policy {
        RevocationPolicy::Require => return,
        RevocationPolicy::Prefer => "weak: certificates are let in while nothing says whether they are revoked",
        RevocationPolicy::Off => "weak: revoked certificates are let in",
    };
    findings.note(key, message, "use policy \"require\" and the CAs' CRLs");
}

/// Rules that take a CA's word for the account, and not the administrator's row or the directory's own copy.
fn is_for_all_issuers(rule: &RuleConfig) -> bool {
    let by_word = matches!(
        rule.rule,
        RuleSettings::UpnWithSid { .. } | RuleSettings::Sid { .. } | RuleSettings::AltSecurityIdentities { .. }
    );
    by_word && rule.selector.issuers.is_empty()
}

fn mapping(key: &str, rule: &RuleSettings, findings: &mut Findings) {
    match rule {
        RuleSettings::Static { entries } => {
            let pinned = entries.values().filter(|entry| entry.expected_sid == ExpectedSid::PinOnFirstUse).count();
            if pinned > 0 {
                let message = format!("weak: {pinned} of {} rows believe the first SID the KDC names", entries.len());
                findings.note(format!("{key}.entry"), message, "write each account's sid");
            }
        }
        RuleSettings::Upn { .. }
        | RuleSettings::Rfc822 { .. }
        | RuleSettings::IssuerSubject { .. }
        | RuleSettings::Subject { .. }
        | RuleSettings::DnsName { .. }
        | RuleSettings::SubjectCn { .. } => {
            let remedy = "have these CAs issue certificates with the SID extension, or use static rows";
            findings.note(format!("{key}.rule"), "weak: a name alone decides which account a certificate stands for", remedy);
        }
        _ => {}
    }
}

fn kerberos(config: &Config, findings: &mut Findings) {
    let missing: Vec<_> =
        PRIVILEGED_GROUPS.iter().filter(|rid| !config.kerberos.denied_groups.contains(rid)).map(u32::to_string).collect();
    if !missing.is_empty() {
        let message = format!("weak: members of privileged groups may be impersonated (RID {})", missing.join(", "));
        findings.note("kerberos.denied_groups", message, "leave the key out, or name these groups too");
    }
    if !config.kerberos.denied_accounts.contains(&ADMINISTRATOR) {
        let message = "weak: the built-in Administrator (RID 500) may be impersonated";
        findings.note("kerberos.denied_accounts", message, "leave the key out, or name 500 too");
    }
}

/// What was asked for by name and gives some protection away.
fn weak(key: &str, backend: &BackendConfig, findings: &mut Findings) {
    if backend.transport == Transport::Http {
        let remedy = "use TLS where the server can; otherwise protect the path with IPsec";
        findings.note(format!("{key}.transport"), "weak: requests and answers pass in the clear", remedy);
    } else if !backend.channel_binding {
        let remedy = "\"auto\", unless something ends TLS in front of the server";
        findings.note(format!("{key}.channel_binding"), "weak: tokens are not bound to the TLS session", remedy);
    }
    if backend.target.allow_rc4 {
        let remedy =
            "the SPN's account needs msDS-SupportedEncryptionTypes 4; remove both once the server is newer than Windows 2003";
        findings.note(format!("{key}.allow_rc4"), "weak: RC4 tickets are accepted for this back end", remedy);
    }
    if backend.mutual == Mutual::TolerateAbsence {
        let remedy = "use \"required\" if the server proves itself";
        findings.note(format!("{key}.mutual"), "weak: answers are passed on although the server did not prove itself", remedy);
    }
}

/// What cannot work with the server that the profile names.
fn fitting(key: &str, backend: &BackendConfig, findings: &mut Findings) {
    if !backend.target.spn.service().eq_ignore_ascii_case("HTTP") {
        let message = format!("the service class of {} is not HTTP", backend.target.spn);
        findings.warning(format!("{key}.spn"), message, "web servers are registered as HTTP/host, also those with TLS");
    }
    if backend.profile != Profile::Exchange2003 {
        return;
    }
    if !backend.target.allow_rc4 {
        let remedy = "allow_rc4 = true, or another profile if the server stands on something newer";
        findings.warning(
            format!("{key}.allow_rc4"),
            "Exchange 2003 stands on Windows 2003, which decrypts only RC4 tickets",
            remedy,
        );
    }
    if backend.transport != Transport::Http {
        let message = "Exchange 2003 stands on Windows 2003, which speaks no TLS 1.2";
        findings.warning(format!("{key}.transport"), message, "transport = \"http\" with an http url, and IPsec");
    }
}
