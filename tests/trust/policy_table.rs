//! What is let in and what is not, certificate by certificate: the whole policy in one table. Every refusal is asserted with its
//! reason and, where the device's key can be used, with the alert it gets in a real handshake.

use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::tls::Usage;
use kcd_bridge::x509::Claims;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, OtherNameValue, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::AlertDescription as Alert;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::forge::{Openssl, element, extension, policies, with_serial};
use crate::handshake::Listener;
use crate::pki::{AtOnce as _, Ca, Device, Files, UPN, sid_extension, upn};

const POLICIES: &[u64] = &[2, 5, 29, 32];
const APPLICATION_POLICIES: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 21, 10];
const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const UPN_DER: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
const CLIENT_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// What becomes of a certificate.
enum Fate {
    LetIn,
    /// Refused by the path and its rules.
    Refused(Cause, &'static str, Alert),
    /// Let in by them, and refused as soon as its names are read.
    NotMapped(&'static str),
}

struct Row {
    name: String,
    files: Files,
    chain: Vec<CertificateDer<'static>>,
    /// Where the device can make a handshake with it.
    key: Option<KeyPair>,
    fate: Fate,
}

/// The table as it grows.
#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn row(&mut self, name: &str, files: Files, chain: Vec<CertificateDer<'static>>, key: Option<KeyPair>, fate: Fate) {
        self.0.push(Row { name: name.to_owned(), files, chain, key, fate });
    }

    /// A device of one CA, changed.
    fn device(&mut self, name: &str, change: impl FnOnce(&mut CertificateParams), fate: Fate) {
        let ca = Ca::root("Device CA");
        let Device { der, key } = ca.device(change);
        self.row(name, Files::trusting(&[&ca]), vec![der], Some(key), fate);
    }

    /// A device with this extended key usage, whose CA's entry names these usages.
    fn usages(&mut self, name: &str, listed: &[Eku], named: &[Usage], fate: Fate) {
        let ca = Ca::root("Device CA");
        let Device { der, key } = ca.device(|params| params.extended_key_usages = listed.to_vec());
        let files = Files::trusting(&[&ca]).issuer(&ca, named, |_| {});
        self.row(&format!("{name}, named {named:?}"), files, vec![der], Some(key), fate);
    }

    /// A good device below an intermediate that is changed.
    fn intermediate(&mut self, name: &str, change: impl FnOnce(&mut CertificateParams), fate: Fate) {
        let root = Ca::root("Root");
        let issuing = root.subordinate("Issuing CA", change);
        let Device { der, key } = issuing.device(|params| params.subject_alt_names = vec![upn("alice@corp.example")]);
        self.row(name, Files::trusting(&[&root]), vec![der, issuing.der], Some(key), fate);
    }

    /// A chain of the openssl command, with the device's key where the TLS library can use it.
    fn made(&mut self, name: &str, ca: &Ca, (device, key): (CertificateDer<'static>, Option<KeyPair>), fate: Fate) {
        self.row(name, Files::trusting(&[ca]), vec![device], key, fate);
    }
}

fn unsuitable(detail: &'static str) -> Fate {
    Fate::Refused(Cause::CertificateUnsuitable, detail, Alert::UnsupportedCertificate)
}

fn malformed(detail: &'static str) -> Fate {
    Fate::Refused(Cause::CertificateUnsuitable, detail, Alert::BadCertificate)
}

fn smart_card() -> Eku {
    Eku::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2])
}

fn kp_client_auth() -> Eku {
    Eku::Other(vec![1, 3, 6, 1, 5, 2, 3, 4])
}

fn extended_key_usages(table: &mut Table) {
    let none = "no extended key usage; accepted for its issuer: client-auth";
    table.device("no EKU", |params| params.extended_key_usages = vec![], unsuitable(none));
    table.device("EKU clientAuth", |_| {}, Fate::LetIn);
    let both = vec![Eku::ClientAuth, smart_card()];
    table.device("EKU clientAuth and smart card logon", |params| params.extended_key_usages = both, Fate::LetIn);
    let by_default = [
        (smart_card(), "extended key usage is 1.3.6.1.4.1.311.20.2.2; accepted for its issuer: client-auth"),
        (kp_client_auth(), "extended key usage is 1.3.6.1.5.2.3.4; accepted for its issuer: client-auth"),
        (Eku::Any, "extended key usage is 2.5.29.37.0; accepted for its issuer: client-auth"),
    ];
    for (usage, detail) in by_default {
        table.device(&format!("EKU {usage:?} only"), |params| params.extended_key_usages = vec![usage], unsuitable(detail));
    }
    let any_and_more = |params: &mut CertificateParams| params.extended_key_usages = vec![Eku::Any, Eku::ServerAuth];
    table.device("EKU anyEKU and serverAuth", any_and_more, unsuitable("is 2.5.29.37.0 1.3.6.1.5.5.7.3.1; accepted"));
    for (usage, named, detail) in [
        (vec![smart_card()], Usage::SmartCardLogon, "is 1.3.6.1.4.1.311.20.2.2; accepted for its issuer:"),
        (vec![kp_client_auth()], Usage::KpClientAuth, "is 1.3.6.1.5.2.3.4; accepted for its issuer:"),
        (vec![Eku::Any], Usage::Any, "is 2.5.29.37.0; accepted for its issuer:"),
        (vec![], Usage::None, "it has no extended key usage; accepted for its issuer:"),
    ] {
        table.usages(&format!("EKU {usage:?}"), &usage, &[named], Fate::LetIn);
        table.usages(&format!("EKU {usage:?}"), &usage, &[Usage::ClientAuth, named], Fate::LetIn);
        for other in Usage::ALL.into_iter().filter(|other| *other != named) {
            table.usages(&format!("EKU {usage:?}"), &usage, &[other], unsuitable(detail));
        }
    }
    let empty = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![];
        params.custom_extensions = vec![extension(&[2, 5, 29, 37], false, vec![0x30, 0x00])];
    };
    table.device("EKU empty SEQUENCE", empty, unsuitable("an extended key usage names nothing"));
    table.intermediate("intermediate EKU without clientAuth", |params| params.extended_key_usages = vec![Eku::ServerAuth], {
        unsuitable("CN=Issuing CA may issue only for 1.3.6.1.5.5.7.3.1")
    });
}

fn key_usages_and_constraints(table: &mut Table) {
    let encipherment = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    table.device("KeyUsage keyEncipherment only", encipherment, unsuitable("key usage lacks digitalSignature"));
    let only_crls = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    table.intermediate("issuing CA without keyCertSign", only_crls, unsuitable("key usage of CN=Issuing CA lacks keyCertSign"));
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    table.device("leaf is CA:TRUE", ca, unsuitable("it is a CA certificate"));

    let permitted = |subtree| {
        move |params: &mut CertificateParams| {
            params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] });
        }
    };
    let mut organization = DistinguishedName::new();
    organization.push(DnType::CommonName, "alice");
    let refused = "name constraints do not permit a name of the chain";
    table.intermediate("NC permitted dirName", permitted(GeneralSubtree::DirectoryName(organization)), unsuitable(refused));
    let subtree = element(0xA0, &[&element(0x06, &[UPN_DER]), &element(0xA0, &[&element(0x0C, &[b"alice@corp.example"])])]);
    let on_upn = element(0x30, &[&element(0xA0, &[&element(0x30, &[&subtree])])]);
    let on_upn = |params: &mut CertificateParams| params.custom_extensions = vec![extension(NAME_CONSTRAINTS, true, on_upn)];
    table.intermediate("NC on UPN otherName", on_upn, unsuitable(refused));
    for subtree in [GeneralSubtree::Rfc822Name("other.example".into()), GeneralSubtree::DnsName("other.example".into())] {
        table.intermediate("NC on names that are not there", permitted(subtree), Fate::LetIn);
    }
}

fn critical_extensions(table: &mut Table) {
    let any_policy: &[u8] = &[0x55, 0x1D, 0x20, 0x00];
    let sid = || sid_extension("S-1-5-21-1-2-3-1104").content().to_vec();
    let cases = [
        ("certificatePolicies", policies(POLICIES, true, &[any_policy]), "extension 2.5.29.32 of CN=alice is critical"),
        ("SKI", extension(&[2, 5, 29, 14], true, vec![4, 2, 7, 8]), "extension 2.5.29.14 of CN=alice is critical"),
        (
            "SID extension",
            extension(crate::pki::SID_EXTENSION, true, sid()),
            "extension 1.3.6.1.4.1.311.25.2 of CN=alice is critical",
        ),
        (
            "MS application policies",
            policies(APPLICATION_POLICIES, true, &[CLIENT_AUTH]),
            "extension 1.3.6.1.4.1.311.21.10 of CN=alice is critical",
        ),
        (
            "Netscape cert type",
            extension(&[2, 16, 840, 1, 113_730, 1, 1], true, vec![3, 2, 7, 0x80]),
            "extension 2.16.840.1.113730.1.1 of CN=alice is critical",
        ),
    ];
    for (name, extension, detail) in cases {
        table.device(&format!("critical {name}"), |params| params.custom_extensions = vec![extension], malformed(detail));
    }
    for (name, oid, content, detail) in [
        ("policyConstraints", 36, element(0x30, &[&[0x80, 1, 0]]), "extension 2.5.29.36 of CN=Issuing CA is critical"),
        ("inhibitAnyPolicy", 54, vec![2, 1, 0], "extension 2.5.29.54 of CN=Issuing CA is critical"),
        (
            "policyMappings",
            33,
            element(0x30, &[&element(0x30, &[&[6, 1, 0x2A], &[6, 1, 0x2A]])]),
            "extension 2.5.29.33 of CN=Issuing CA is critical",
        ),
    ] {
        let critical = extension(&[2, 5, 29, oid], true, content);
        table.intermediate(
            &format!("critical {name} in a CA"),
            |params| params.custom_extensions = vec![critical],
            malformed(detail),
        );
    }
}

fn algorithms(table: &mut Table) {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_ECDSA_P521_SHA512] {
        let ca = Ca::with_key("Device CA", KeyPair::generate_for(algorithm).unwrap());
        let Device { der, key } = ca.device_with_key(KeyPair::generate_for(algorithm).unwrap());
        table.row(&format!("{algorithm:?}"), Files::trusting(&[&ca]), vec![der], Some(key), Fate::LetIn);
    }

    let openssl = Openssl::new();
    openssl.key("leaf", "EC -pkeyopt ec_paramgen_curve:P-256");
    for (name, algorithm, detail) in [
        (
            "brainpool",
            "EC -pkeyopt ec_paramgen_curve:brainpoolP256r1",
            "the key of CN=brainpool is on curve 1.3.36.3.3.2.8.1.1.7",
        ),
        ("ed448", "ED448", "signature algorithm Ed448 is not accepted"),
        ("rsa1024", "RSA -pkeyopt rsa_keygen_bits:1024", "the key of CN=rsa1024 is RSA of 1024 bits"),
        ("pss-key", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", "the key of CN=pss-key is of type id-RSASSA-PSS"),
    ] {
        openssl.key(name, algorithm);
        let ca = openssl.ca(name, "");
        let device = openssl.device("leaf", name, "");
        table.made(&format!("{name} CA"), &ca, device, unsuitable(detail));
    }

    openssl.key("rsa", "RSA -pkeyopt rsa_keygen_bits:2048");
    let rsa = openssl.ca("rsa", "-sha256");
    let pss = |salt| format!("-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt}");
    table.made("RSA-PSS, salt as long as the hash", &rsa, openssl.device("leaf", "rsa", &pss(32)), Fate::LetIn);
    table.made(
        "RSA-PSS, salt 20",
        &rsa,
        openssl.device("leaf", "rsa", &pss(20)),
        unsuitable("RSASSA-PSS with these parameters (the salt must be as long as the hash) is not accepted"),
    );
    for (digest, detail) in [
        ("-sha1", "signature algorithm sha1WithRSAEncryption is not accepted"),
        ("-md5", "signature algorithm md5WithRSAEncryption is not accepted"),
    ] {
        table.made(&format!("{digest} signature"), &rsa, openssl.device("leaf", "rsa", digest), unsuitable(detail));
    }
    table.made("version 1", &rsa, openssl.version_1("leaf", "rsa"), malformed("not an X.509 version 3 certificate"));

    for (name, algorithm, detail) in [
        ("leaf1024", "RSA -pkeyopt rsa_keygen_bits:1024", "its key is RSA of 1024 bits; 2048 to 8192 are accepted"),
        (
            "leaf-pss",
            "RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            "its key is of type id-RSASSA-PSS; RSA keys must be of type rsaEncryption",
        ),
        ("leaf-ed448", "ED448", "its key is of type 1.3.101.113; RSA, ECDSA and Ed25519 are accepted"),
    ] {
        openssl.key(name, algorithm);
        table.made(&format!("{name}: the leaf's own key"), &rsa, openssl.device(name, "rsa", ""), unsuitable(detail));
    }
    let ecdsa = Ca::root("Device CA");
    openssl.adopt("ecdsa", &ecdsa);
    let sha1 = openssl.device("leaf", "ecdsa", "-sha1");
    table.made("ECDSA with SHA-1", &ecdsa, sha1, unsuitable("signature algorithm ecdsa-with-SHA1 is not accepted"));
}

fn serials_and_times(table: &mut Table) {
    for (name, serial) in [("0", vec![0]), ("negative", vec![0x80, 0x01]), ("30 bytes", vec![0x7A; 30])] {
        let ca = Ca::root("Device CA");
        let Device { der, key } = ca.device(|_| {});
        let der = with_serial(&der, &ca, &serial);
        table.row(&format!("serial {name}"), Files::trusting(&[&ca]), vec![der], Some(key), Fate::LetIn);
    }
    let expired = |detail| Fate::Refused(Cause::CertificateExpired, detail, Alert::CertificateExpired);
    let ended = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 1, 1);
    table.device("expired", ended, expired("ended 2021-01-01 00:00:00 UTC"));
    let not_yet = |params: &mut CertificateParams| params.not_before = date_time_ymd(2089, 1, 1);
    table.device("not valid yet", not_yet, expired("not valid before 2089-01-01 00:00:00 UTC"));
    table.intermediate("intermediate expired", ended, expired("ended 2021-01-01 00:00:00 UTC"));
}

fn names(table: &mut Table) {
    table.device("no SAN", |params| params.subject_alt_names = vec![], Fate::LetIn);
    let names = |names: Vec<SanType>| move |params: &mut CertificateParams| params.subject_alt_names = names;
    let content = |content: Vec<u8>| {
        move |params: &mut CertificateParams| params.custom_extensions = vec![extension(ALTERNATIVE_NAME, false, content)]
    };
    let other_name = |value: &[u8]| element(0x30, &[&element(0xA0, &[&element(0x06, &[UPN_DER]), &element(0xA0, &[value])])]);
    let twice = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![upn("alice@corp.example")];
        params.custom_extensions = vec![extension(ALTERNATIVE_NAME, false, vec![0x30, 0x03, 0x82, 0x01, b'x'])];
    };
    table.device("duplicate SAN extension", twice, malformed("extension 2.5.29.17 occurs twice"));
    let two_sids = |params: &mut CertificateParams| params.custom_extensions = vec![sid_extension("S-1-5-21-1-2-3-1104"); 2];
    table.device("duplicate SID extension", two_sids, malformed("extension 1.3.6.1.4.1.311.25.2 occurs twice"));
    let nul = SanType::OtherName((UPN.to_vec(), OtherNameValue::Utf8String("alice\0@corp.example".into())));
    table.device("UPN with NUL", names(vec![nul]), Fate::NotMapped("user principal name"));
    let invalid = other_name(&element(0x0C, &[b"alice\xFF@corp.example"]));
    table.device("UPN of invalid UTF-8", content(invalid), Fate::NotMapped("user principal name"));
    let ia5 = other_name(&element(0x16, &[b"alice@corp.example"]));
    table.device("UPN as IA5String", content(ia5), Fate::NotMapped("user principal name"));
    let two = vec![upn("alice@corp.example"), upn("bob@corp.example")];
    table.device("two UPNs", names(two), Fate::NotMapped("two user principal names"));
    table.device(
        "malformed SAN DER",
        content(vec![0x30, 0x05, 0x82, 0x09, b'x', b'y', b'z']),
        Fate::NotMapped("subject alternative name"),
    );
    let empty_subject = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        let value = other_name(&element(0x0C, &[b"alice@corp.example"]));
        params.custom_extensions = vec![extension(ALTERNATIVE_NAME, true, value)];
    };
    table.device("empty subject, critical SAN", empty_subject, Fate::LetIn);
    table.device("a serial number of its own", |params| params.serial_number = Some(SerialNumber::from(77)), Fate::LetIn);
}

fn table() -> Table {
    let mut table = Table::default();
    extended_key_usages(&mut table);
    key_usages_and_constraints(&mut table);
    critical_extensions(&mut table);
    algorithms(&mut table);
    serials_and_times(&mut table);
    names(&mut table);
    table
}

impl Row {
    /// What is wrong with its fate.
    async fn judge(self) -> Option<String> {
        let Self { name, files, chain, key, fate } = self;
        let verified = files.trust().verify(&chain, UnixTime::now()).map(drop);
        let wrong = |what: String| Some(format!("{name}: {what}"));
        let (cause, detail, alert) = match fate {
            Fate::LetIn => return verified.err().and_then(|failure| wrong(failure.to_string())),
            Fate::NotMapped(detail) => {
                if let Err(failure) = verified {
                    return wrong(failure.to_string());
                }
                return match Claims::of_leaf(&chain[0]) {
                    Err(Failure { cause: Cause::CertificateMalformed, detail: seen, .. }) if seen.contains(detail) => None,
                    other => wrong(format!("{other:?}")),
                };
            }
            Fate::Refused(cause, detail, alert) => (cause, detail, alert),
        };
        match verified {
            Err(failure) if failure.cause == cause && failure.detail.contains(detail) => {}
            other => return wrong(format!("{other:?}, not {cause:?}: {detail}")),
        }
        let listener = Listener::new(files.trust());
        let device = key.map(|key| Device { der: chain[0].clone(), key })?;
        let outcome = listener.connect(&listener.client_with_chain(&device, &chain)).await;
        let seen = outcome.alert();
        let refused = outcome.refused().failure;
        let agreed = seen == alert && refused.cause == cause && refused.detail.contains(detail);
        if agreed { None } else { wrong(format!("in a handshake {seen:?}, {refused}")) }
    }
}

#[tokio::test]
async fn every_kind_of_certificate_has_its_fate_and_its_reason() {
    let table = table();
    assert!(table.0.len() >= 80, "{}", table.0.len());
    let mut wrong = Vec::new();
    for row in table.0 {
        wrong.extend(row.judge().await);
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_let_in_row_becomes_a_client_certificate() {
    let mut table = Table::default();
    serials_and_times(&mut table);
    let let_in = table.0.iter().filter(|row| matches!(row.fate, Fate::LetIn));
    for row in let_in {
        row.files.trust().admit_now(&row.chain, UnixTime::now()).unwrap();
    }
}
