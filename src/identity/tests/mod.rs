//! Certificates, CAs and a directory of our own; the specifications are beside.

mod attacks;
mod decide;
mod directory;
mod gates;
mod memory;
mod rules;
mod selectors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::*;
use crate::der::{tag, write};
use crate::directory::{Account, Accounts, Answer, Attribute, Filter};
use crate::failure::{Cause, Failure};
use crate::naming::name::Realm;
use crate::naming::sid::Sid;
use crate::tls::ClientCertificate;
use crate::x509::Claims;

const OWN: &str = "S-1-5-21-1-2-3-1104";
const OTHER: &str = "S-1-5-21-1-2-3-1105";
const ADMINISTRATOR: &str = "S-1-5-21-1-2-3-500";
/// 2025-06-01
const ISSUED: i64 = 1_748_736_000;

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, &parts.concat());
    out
}

fn other_name(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(0xA0, &[&element(tag::OID, &[kind]), &element(0xA0, &[value])])
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = element(tag::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &element(tag::UTF8_STRING, &[common_name.as_bytes()])]);
    element(tag::SEQUENCE, &[&element(0x31, &[&attribute])])
}

fn key_info(key: &str) -> Vec<u8> {
    let algorithm = element(tag::SEQUENCE, &[&[6, 3, 0x2B, 0x65, 0x70]]);
    element(tag::SEQUENCE, &[&algorithm, &element(tag::BIT_STRING, &[&[0], key.as_bytes()])])
}

/// A certificate to be made. Its signature is nonsense: whether it was verified is not asked here.
#[derive(Clone, Debug)]
struct Leaf {
    issuer: &'static str,
    subject: &'static str,
    serial: Vec<u8>,
    not_before: &'static str,
    upn: Option<&'static str>,
    sid: Option<&'static str>,
    sid_uri: Option<&'static str>,
    mail: Vec<&'static str>,
    dns: Vec<&'static str>,
    more: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            issuer: "ca",
            subject: "Alice",
            serial: vec![0x2B, 0x01, 0x02],
            not_before: "20250601000000Z",
            upn: None,
            sid: None,
            sid_uri: None,
            mail: Vec::new(),
            dns: Vec::new(),
            more: Vec::new(),
        }
    }
}

impl Leaf {
    fn upn(upn: &'static str) -> Self {
        Self { upn: Some(upn), ..Self::default() }
    }

    fn sid(self, sid: &'static str) -> Self {
        Self { sid: Some(sid), ..self }
    }

    fn sid_uri(self, sid: &'static str) -> Self {
        Self { sid_uri: Some(sid), ..self }
    }

    fn by(self, issuer: &'static str) -> Self {
        Self { issuer, ..self }
    }

    fn with(mut self, oid: &[u8], value: Vec<u8>) -> Self {
        self.more.push((oid.to_vec(), value));
        self
    }

    fn der(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let text = |kind: u8, text: &str| element(kind, &[text.as_bytes()]);
        let principal_name = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
        names.extend(self.upn.map(|upn| other_name(&principal_name, &text(tag::UTF8_STRING, upn))));
        names.extend(self.sid_uri.map(|sid| text(0x86, &format!("tag:microsoft.com,2022-09-14:sid:{sid}"))));
        names.extend(self.mail.iter().map(|mail| text(0x81, mail)));
        names.extend(self.dns.iter().map(|dns| text(0x82, dns)));
        let mut extensions = self.more.clone();
        if !names.is_empty() {
            extensions.push((vec![0x55, 0x1D, 0x11], element(tag::SEQUENCE, &[&names.concat()])));
        }
        if let Some(sid) = self.sid {
            let kind = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
            let value = element(tag::SEQUENCE, &[&other_name(&kind, &text(tag::OCTET_STRING, sid))]);
            extensions.push((vec![0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02], value));
        }
        der(self.issuer, self.subject, &self.serial, self.not_before, "device", &extensions)
    }

    fn admitted(&self) -> (ClientCertificate, Claims) {
        let certificate = ClientCertificate::for_test(&self.der(), &key_info(self.issuer));
        let claims = Claims::read(&certificate).unwrap();
        (certificate, claims)
    }
}

fn der(issuer: &str, subject: &str, serial: &[u8], begin: &str, key: &str, extensions: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let algorithm = element(tag::SEQUENCE, &[&[6, 3, 0x2B, 0x65, 0x70]]);
    let time = |time: &str| element(tag::GENERALIZED_TIME, &[time.as_bytes()]);
    let listed: Vec<u8> = extensions
        .iter()
        .flat_map(|(oid, value)| element(tag::SEQUENCE, &[&element(tag::OID, &[oid]), &element(tag::OCTET_STRING, &[value])]))
        .collect();
    let tbs = element(
        tag::SEQUENCE,
        &[
            &[0xA0, 3, 2, 1, 2],
            &element(tag::INTEGER, &[serial]),
            &algorithm,
            &name(issuer),
            &element(tag::SEQUENCE, &[&time(begin), &time("20900101000000Z")]),
            &name(subject),
            &key_info(key),
            &element(0xA3, &[&element(tag::SEQUENCE, &[&listed])]),
        ],
    );
    element(tag::SEQUENCE, &[&tbs, &algorithm, &element(tag::BIT_STRING, &[&[0, 0]])])
}

/// Certificates of CAs in files.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn ca_der(ca: &str) -> Vec<u8> {
        let basic_constraints = (vec![0x55, 0x1D, 0x13], vec![0x30, 3, 1, 1, 0xFF]);
        der("root", ca, &[7], "20200101000000Z", ca, &[basic_constraints])
    }

    fn ca(&self, ca: &str) -> PathBuf {
        self.file(&format!("{ca}.crt"), &Self::ca_der(ca))
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn weak(&self, ca: &str, suffixes: &[&str]) -> Vec<WeakIssuer> {
        let allowed_suffixes = suffixes.iter().map(|&suffix| suffix.to_owned()).collect();
        vec![WeakIssuer { certificate: self.ca(ca), allowed_suffixes }]
    }

    /// The weak rule of this name, for issuer `ca` and `corp.example`.
    fn weak_rule(&self, kind: RuleKind) -> RuleSettings {
        let issuers = self.weak("ca", &["corp.example"]);
        match kind {
            RuleKind::Rfc822 => RuleSettings::Rfc822 { issuers },
            RuleKind::IssuerSubject => RuleSettings::IssuerSubject { issuers },
            RuleKind::Subject => RuleSettings::Subject { issuers },
            RuleKind::DnsName => RuleSettings::DnsName { issuers },
            RuleKind::SubjectCn => RuleSettings::SubjectCn { issuers },
            _ => RuleSettings::Upn { issuers },
        }
    }

    fn name_match(&self, ca: &str, rest: &str) -> RuleSettings {
        let thumbprint = crate::certificate::hex(&Sha1::digest(Self::ca_der(ca)));
        let policy_file = self.file("policy.txt", format!("{thumbprint}; {rest}\n").as_bytes());
        RuleSettings::StrongNameMatch { policy_file, issuers: vec![self.ca(ca)] }
    }
}

fn strong_rule() -> RuleSettings {
    RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![] }
}

fn sid_rule() -> RuleSettings {
    RuleSettings::Sid { san_uri_sid_issuers: vec![] }
}

fn strings_rule() -> RuleSettings {
    RuleSettings::AltSecurityIdentities { forms: vec![] }
}

fn row(leaf: &Leaf, name: RequestedName, expected_sid: ExpectedSid) -> RuleSettings {
    let key = StaticEntry::key(leaf.admitted().0.fingerprint());
    RuleSettings::Static { entries: BTreeMap::from([(key, StaticEntry { name, expected_sid })]) }
}

fn sid(text: &str) -> Sid {
    Sid::parse(text).unwrap()
}

fn is(text: &str) -> ExpectedSid {
    ExpectedSid::Is(sid(text))
}

fn enterprise(upn: &str) -> RequestedName {
    RequestedName::Enterprise(upn.into())
}

fn account_name(name: &str) -> RequestedName {
    RequestedName::Account { name: name.into(), realm: Realm::parse("CORP.EXAMPLE").unwrap() }
}

/// A user of corp.example that every gate lets through.
fn user(name: &str, sid_text: &str) -> Account {
    Account {
        dn: format!("CN={name},OU=People,DC=corp,DC=example"),
        sid: Some(sid(sid_text)),
        account_name: name.to_owned(),
        user_principal_name: Some(format!("{name}@corp.example")),
        account_type: 0x3000_0000,
        control: 0x200,
        primary_group: 513,
        created: ISSUED - 86_400,
        groups: vec![sid("S-1-5-21-1-2-3-513")],
        ..Account::default()
    }
}

fn computer(host: &str, sid_text: &str) -> Account {
    Account {
        account_name: format!("{host}$"),
        user_principal_name: None,
        account_type: 0x3000_0001,
        control: 0x1000,
        primary_group: 515,
        dns_host_name: Some(format!("{host}.corp.example")),
        ..user(host, sid_text)
    }
}

fn with_string(account: Account, string: &str) -> Account {
    Account { alt_security_identities: vec![string.to_owned()], ..account }
}

/// A directory that takes letters for equal as Active Directory does, and answers with at most two accounts.
#[derive(Debug, Default)]
struct Listed {
    accounts: Mutex<Vec<Account>>,
    failure: Mutex<Option<Cause>>,
    asked: AtomicUsize,
    delay: Mutex<Duration>,
    /// Questions about it take too long.
    slow: Mutex<Option<Attribute>>,
}

impl Listed {
    fn of(accounts: &[Account]) -> Arc<Self> {
        Arc::new(Self { accounts: Mutex::new(accounts.to_vec()), ..Self::default() })
    }

    fn set(&self, accounts: &[Account]) {
        *self.accounts.lock().unwrap() = accounts.to_vec();
    }

    fn fail(&self, cause: impl Into<Option<Cause>>) {
        *self.failure.lock().unwrap() = cause.into();
    }

    fn slow(&self, attribute: Attribute) {
        *self.slow.lock().unwrap() = Some(attribute);
    }

    fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Accounts for Listed {
    fn find<'a>(&'a self, filter: &'a Filter, _: Instant) -> Answer<'a, Vec<Account>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let delay = *self.delay.lock().unwrap();
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            if let (Some(slow), Filter::Equals(asked, _)) = (*self.slow.lock().unwrap(), filter)
                && slow == *asked
            {
                return Err(Failure::new(Cause::DirectoryUnreachable, "too slow"));
            }
            if let Some(cause) = *self.failure.lock().unwrap() {
                return Err(Failure::new(cause, "as told"));
            }
            Ok(self.accounts.lock().unwrap().iter().filter(|account| matches(account, filter)).take(2).cloned().collect())
        })
    }
}

fn matches(account: &Account, filter: &Filter) -> bool {
    let text = |own: &str, value: &[u8]| std::str::from_utf8(value).is_ok_and(|value| folded(own) == folded(value));
    match filter {
        Filter::And(parts) => parts.iter().all(|part| matches(account, part)),
        Filter::Or(parts) => parts.iter().any(|part| matches(account, part)),
        Filter::Equals(attribute, value) => match attribute {
            Attribute::ObjectSid => account.sid.as_ref().is_some_and(|sid| sid.to_binary() == *value),
            Attribute::UserPrincipalName => account.user_principal_name.as_ref().is_some_and(|own| text(own, value)),
            Attribute::AccountName => text(&account.account_name, value),
            Attribute::AltSecurityIdentities => account.alt_security_identities.iter().any(|own| text(own, value)),
            Attribute::UserCertificate => account.certificates.contains(value),
            Attribute::Mail => account.mail.iter().any(|own| text(own, value)),
            Attribute::DnsHostName => account.dns_host_name.as_ref().is_some_and(|own| text(own, value)),
            Attribute::ServicePrincipalName => account.service_principal_names.iter().any(|own| text(own, value)),
        },
    }
}

/// Case, accents, widths and trailing spaces do not count.
fn folded(text: &str) -> String {
    let fold = |c: char| match c {
        'ä' | 'á' => 'a',
        'ö' | 'ó' => 'o',
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap(),
        other => other,
    };
    text.trim_end().to_lowercase().chars().map(fold).collect()
}

fn load(rules: Vec<RuleSettings>, accounts: &AccountRules, directory: Option<Arc<Listed>>) -> Mapper {
    let configs: Vec<_> = rules.into_iter().map(RuleConfig::for_all).collect();
    Mapper::load(&configs, accounts, directory.map(|listed| listed as Arc<dyn Accounts>)).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn resolve(mapper: &Mapper, leaf: &Leaf) -> Result<Arc<Principal>, Failure> {
    let (certificate, claims) = leaf.admitted();
    mapper.resolve(&certificate, &claims, soon()).await
}

/// Rules without a directory.
async fn pure(rules: Vec<RuleSettings>, leaf: &Leaf) -> Result<Arc<Principal>, Failure> {
    resolve(&load(rules, &AccountRules::default(), None), leaf).await
}

/// Rules and the accounts of a directory.
async fn among(accounts: &[Account], rules: Vec<RuleSettings>, leaf: &Leaf) -> Result<Arc<Principal>, Failure> {
    resolve(&load(rules, &AccountRules::default(), Some(Listed::of(accounts))), leaf).await
}

fn cause<T: std::fmt::Debug>(result: Result<T, Failure>) -> Cause {
    result.unwrap_err().cause
}
