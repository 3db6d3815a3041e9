//! One response at a time: who may say what, about what, when.

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use super::kit::*;
use crate::certificate::{Certificate, SignatureError};
use crate::der::{DerError, tag};
use crate::revocation::ocsp::request::{CertId, NONCE};
use crate::revocation::ocsp::response::ResponseError;
use crate::revocation::ocsp::verify::{DelegateError, Issuer, Refusal, SKEW, Statement, Word, judge};

struct Case {
    ca: Holder,
    id: CertId,
    issuer: Issuer,
}

impl Case {
    fn new() -> Self {
        let ca = Holder::authority("Issuing CA");
        let leaf = ca.leaf(0xBEEF, &[]);
        let own = ca.certificate();
        let issuer = Issuer { subject: own.subject.to_vec(), public_key: own.public_key.to_vec() };
        let id = CertId::of(&Certificate::read(&leaf).unwrap(), own.public_key).unwrap();
        Self { ca, id, issuer }
    }

    fn judge(&self, response: &[u8]) -> Result<Statement, Refusal> {
        judge(response, &self.id, &self.issuer, None, NOW)
    }

    fn said(&self, status: &[u8]) -> Said {
        Said::of(&self.ca, SERIAL, status)
    }

    fn draft(&self) -> Draft {
        Draft::by(&self.ca, self.said(GOOD))
    }

    /// What comes of a response that the issuer signed and somebody changed before.
    fn drafted(&self, change: impl FnOnce(&mut Draft)) -> Result<Statement, Refusal> {
        self.judge(&self.draft().with(change).sign(&self.ca.key))
    }

    /// What comes of a response by this delegate.
    fn delegated(&self, delegate: &Holder) -> Result<Statement, Refusal> {
        let draft = Draft::by(delegate, self.said(GOOD)).with(|draft| draft.certificates = vec![delegate.der.clone()]);
        self.judge(&draft.sign(&delegate.key))
    }
}

/// 0xBEEF as an INTEGER's contents.
const SERIAL: &[u8] = &[0x00, 0xBE, 0xEF];

fn good() -> Statement {
    Statement { word: Word::Good, this_update: NOW - 60, next_update: NOW + 3600 }
}

#[test]
fn the_issuer_itself_is_believed_named_by_name_or_by_key() {
    let case = Case::new();
    assert_eq!(case.drafted(|_| ()), Ok(good()));
    assert_eq!(case.drafted(|draft| draft.responder = by_key(&case.ca)), Ok(good()));
    assert_eq!(case.drafted(|draft| draft.said[0].id = certificate_id(&case.ca, SERIAL, true)), Ok(good()));
    // Beside others, and with what does not matter.
    assert_eq!(
        case.drafted(|draft| {
            draft.said.insert(0, Said::of(&case.ca, &[1], UNKNOWN));
            draft.extensions.push(extension(&[0x2A, 3], false, b"x"));
            draft.said[1].extensions.push(extension(&[0x2A, 3], false, b"x"));
        }),
        Ok(good())
    );
}

#[test]
fn a_delegate_that_the_issuer_issued_for_it_is_believed() {
    let case = Case::new();
    let delegate = case.ca.delegate();
    assert_eq!(case.delegated(&delegate), Ok(good()));
    let complete = case.ca.issue("Responder", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping, ExtendedKeyUsagePurpose::OcspSigning];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.custom_extensions = vec![nocheck()];
    });
    assert_eq!(case.delegated(&complete), Ok(good()));
    // By key, behind certificates that are none or are others'.
    let draft = Draft::by(&complete, case.said(GOOD)).with(|draft| {
        draft.responder = by_key(&complete);
        draft.certificates = vec![vec![0x30, 0x00], case.ca.der.clone(), complete.der.clone()];
    });
    assert_eq!(case.judge(&draft.sign(&complete.key)), Ok(good()));
}

#[test]
fn revocations_are_read_with_reason_and_date() {
    let case = Case::new();
    for reason in [None, Some(0), Some(1), Some(6), Some(10)] {
        let word = Word::Revoked { since: NOW - 86_400, reason };
        let told = case.drafted(|draft| draft.said[0].status = revoked(reason, NOW - 86_400));
        assert_eq!(told, Ok(Statement { word, ..good() }));
    }
}

/// Alters the certificate of a delegate that would otherwise be good.
type Change = fn(&mut CertificateParams);

#[test]
fn delegates_without_the_issuers_authority_are_refused() {
    let case = Case::new();
    let rows: Vec<(&str, Change, DelegateError)> = vec![
        ("no EKU", |params| params.extended_key_usages.clear(), DelegateError::Purpose),
        (
            "EKU for servers",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            DelegateError::Purpose,
        ),
        ("no nocheck", |params| params.custom_extensions.clear(), DelegateError::Unchecked),
        ("any EKU", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any], DelegateError::Purpose),
        ("key usage", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], DelegateError::KeyUsage),
        ("a CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), DelegateError::Authority),
        ("expired", |params| params.not_after = rcgen::date_time_ymd(2026, 5, 31), DelegateError::NotValid),
        ("not yet valid", |params| params.not_before = rcgen::date_time_ymd(2026, 6, 2), DelegateError::NotValid),
        (
            "a critical extension",
            |params| {
                let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions = vec![extension];
            },
            DelegateError::CriticalExtension("1.2.3".into()),
        ),
    ];
    for (name, change, error) in rows {
        let delegate = case.ca.issue("Responder", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            params.custom_extensions = vec![nocheck()];
            change(params);
        });
        let refusal = case.delegated(&delegate).unwrap_err();
        assert_eq!(refusal, Refusal::Delegate(error), "{name}");
        assert!(refusal.is_untrusted());
    }
}

#[test]
fn delegates_of_others_are_refused() {
    let case = Case::new();
    // Another CA; another CA of the same name; a CA below the issuer.
    assert_eq!(case.delegated(&Holder::authority("Other CA").delegate()), Err(Refusal::Delegate(DelegateError::OtherIssuer)));
    let namesake = Holder::authority("Issuing CA").delegate();
    let signature = DelegateError::Signature(SignatureError::Signature);
    assert_eq!(case.delegated(&namesake), Err(Refusal::Delegate(signature)));
    let below = case.ca.issue("Sub CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let draft = Draft::by(&below.delegate(), case.said(GOOD));
    let delegate = below.delegate();
    let draft = draft.with(|draft| draft.certificates = vec![delegate.der.clone(), below.der.clone()]);
    assert_eq!(case.judge(&draft.sign(&delegate.key)), Err(Refusal::Delegate(DelegateError::OtherIssuer)));
    // The device itself, and a delegate whose certificate does not come along.
    let device = case.ca.issue("device", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(case.delegated(&device), Err(Refusal::Delegate(DelegateError::Purpose)));
    let delegate = case.ca.delegate();
    assert_eq!(case.judge(&Draft::by(&delegate, case.said(GOOD)).sign(&delegate.key)), Err(Refusal::NoSigner));
}

#[test]
fn signatures_of_other_keys_are_refused() {
    let case = Case::new();
    let (stranger, delegate) = (KeyPair::generate().unwrap(), case.ca.delegate());
    let wrong = Err(Refusal::Signature(SignatureError::Signature));
    assert_eq!(case.judge(&case.draft().sign(&stranger)), wrong);
    assert_eq!(case.drafted(|draft| draft.signature = Some(Vec::new())), wrong);
    let by_delegate = Draft::by(&delegate, case.said(GOOD)).with(|draft| draft.certificates = vec![delegate.der.clone()]);
    assert_eq!(case.judge(&by_delegate.sign(&stranger)), wrong);
    assert_eq!(case.judge(&by_delegate.sign(&case.ca.key)), wrong);
    let renamed = by_delegate.with(|draft| draft.responder = by_name(&Holder::authority("Somebody")));
    assert_eq!(case.judge(&renamed.sign(&delegate.key)), Err(Refusal::NoSigner));
}

#[test]
fn answers_about_something_else_are_refused() {
    let case = Case::new();
    let other = Holder::authority("Issuing CA");
    let named = Holder::authority("Other CA");
    let md5 = {
        let id = certificate_id(&case.ca, SERIAL, false);
        let at = id.windows(5).position(|window| window == [0x2B, 0x0E, 0x03, 0x02, 0x1A]).unwrap();
        let mut id = id;
        id[at + 4] = 0x1B;
        id
    };
    let rows = [
        ("another serial number", certificate_id(&case.ca, &[0x3E, 0xEF], false), Refusal::OtherCertificate),
        ("a serial number without its sign octet", certificate_id(&case.ca, &[0xBE, 0xEF], false), Refusal::OtherCertificate),
        ("another key of that name", certificate_id(&other, SERIAL, false), Refusal::OtherCertificate),
        ("another key, SHA-256", certificate_id(&other, SERIAL, true), Refusal::OtherCertificate),
        ("another name", certificate_id(&named, SERIAL, false), Refusal::OtherCertificate),
        ("another hash algorithm", md5, Refusal::OtherCertificate),
    ];
    for (name, id, refusal) in rows {
        assert_eq!(case.drafted(|draft| draft.said[0].id = id), Err(refusal.clone()), "{name}");
        assert!(refusal.is_untrusted());
    }
    assert_eq!(case.drafted(|draft| draft.said.clear()), Err(Refusal::OtherCertificate));
    let twice = |draft: &mut Draft| draft.said.push(case.said(&revoked(None, NOW)));
    assert_eq!(case.drafted(twice), Err(Refusal::Twice));
    let twice_otherwise = |draft: &mut Draft| {
        let id = certificate_id(&case.ca, SERIAL, true);
        draft.said.push(Said { id, ..case.said(GOOD) });
    };
    assert_eq!(case.drafted(twice_otherwise), Err(Refusal::Twice));
}

/// producedAt, thisUpdate and nextUpdate relative to now, and what is wrong with them.
type Times = (&'static str, i64, i64, Option<i64>, Option<Refusal>);

#[test]
fn answers_of_another_time_vouch_for_nothing() {
    let case = Case::new();
    let rows: Vec<Times> = vec![
        ("just still", -86_400, -86_400, Some(-SKEW + 1), None),
        ("outdated", -86_400, -86_400, Some(-SKEW), Some(Refusal::Outdated)),
        ("long outdated", -86_400, -86_400, Some(-80_000), Some(Refusal::Outdated)),
        ("just already", SKEW, SKEW, Some(3600), None),
        ("from the future", 0, SKEW + 1, Some(3600), Some(Refusal::Future)),
        ("made in the future", SKEW + 1, 0, Some(3600), Some(Refusal::Future)),
        ("without an end", 0, 0, None, Some(Refusal::NoNextUpdate)),
        ("ended before it began", 0, 200, Some(100), Some(Refusal::Outdated)),
    ];
    for (name, produced, this, next, refusal) in rows {
        for status in [GOOD.to_vec(), UNKNOWN.to_vec(), revoked(Some(6), NOW - 1), revoked(Some(1), NOW - 1)] {
            let told = case.drafted(|draft| {
                draft.produced = time(NOW + produced);
                let next_update = next.map(|next| time(NOW + next));
                draft.said[0] = Said { this_update: time(NOW + this), next_update, ..case.said(&status) };
            });
            let for_good = status == revoked(Some(1), NOW - 1);
            match &refusal {
                _ if status == UNKNOWN => assert_eq!(told, Err(Refusal::Unknown), "{name}"),
                Some(refusal) if !for_good => {
                    assert_eq!(told.as_ref(), Err(refusal), "{name}");
                    assert!(!refusal.is_untrusted() && !refusal.is_trouble());
                }
                _ => assert!(told.is_ok(), "{name}: {told:?}"),
            }
        }
    }
}

#[test]
fn a_responder_that_does_not_know_the_certificate_vouches_for_nothing() {
    let case = Case::new();
    let refusal = case.drafted(|draft| draft.said[0].status = UNKNOWN.to_vec()).unwrap_err();
    assert_eq!(refusal, Refusal::Unknown);
    assert!(!refusal.is_untrusted() && !refusal.is_trouble());
}

#[test]
fn statuses_other_than_successful_vouch_for_nothing() {
    let case = Case::new();
    let rows = [
        (1, "malformed request", true),
        (2, "internal error", true),
        (3, "try later", true),
        (4, "a status that is not defined", true),
        (5, "signature required", true),
        (6, "unauthorized", false),
        (7, "a status that is not defined", true),
    ];
    for (value, name, trouble) in rows {
        let refusal = case.judge(&status(value)).unwrap_err();
        assert_eq!(refusal, Refusal::Response(ResponseError::Status(name)));
        assert_eq!((refusal.is_untrusted(), refusal.is_trouble()), (false, trouble));
    }
}

#[test]
fn critical_extensions_that_nobody_knows_are_refused() {
    let case = Case::new();
    let critical = extension(&[0x2A, 3], true, b"x");
    let outside = case.drafted(|draft| draft.extensions.push(critical.clone()));
    assert_eq!(outside, Err(Refusal::CriticalExtension));
    let inside = case.drafted(|draft| draft.said[0].extensions.push(critical.clone()));
    assert_eq!(inside, Err(Refusal::CriticalExtension));
}

#[test]
fn a_nonce_may_be_missing_and_must_not_differ() {
    let case = Case::new();
    let sent = [7; 32];
    let answer = |nonce: Option<&[u8]>, critical| {
        let draft = case.draft().with(|draft| {
            draft.extensions.extend(nonce.map(|nonce| extension(NONCE, critical, &element(tag::OCTET_STRING, nonce))));
        });
        judge(&draft.sign(&case.ca.key), &case.id, &case.issuer, Some(&sent), NOW)
    };
    assert_eq!(answer(None, false), Ok(good()));
    assert_eq!(answer(Some(&sent), false), Ok(good()));
    assert_eq!(answer(Some(&sent), true), Ok(good()));
    for other in [&[8; 32][..], &sent[..31], &[7; 33], &[]] {
        assert_eq!(answer(Some(other), false), Err(Refusal::Nonce));
    }
    // Not asked for: it says nothing.
    let unasked = case.drafted(|draft| draft.extensions.push(extension(NONCE, false, &element(tag::OCTET_STRING, &sent))));
    assert_eq!(unasked, Ok(good()));
}

#[test]
fn responses_that_are_not_der_or_not_basic_are_refused() {
    let case = Case::new();
    let response = case.draft().sign(&case.ca.key);
    let malformed = |refusal: Result<Statement, Refusal>| match refusal {
        Err(Refusal::Response(error)) => error,
        other => panic!("{other:?}"),
    };
    let trailing = [response.as_slice(), &[0]].concat();
    assert_eq!(malformed(case.judge(&trailing)), ResponseError::Der(DerError::Trailing));
    assert_eq!(malformed(case.judge(&response[..response.len() - 1])), ResponseError::Der(DerError::Truncated));
    assert_eq!(malformed(case.judge(b"<html>")), ResponseError::Der(DerError::UnexpectedTag { expected: 0x30, found: b'<' }));
    assert_eq!(malformed(case.judge(&[])), ResponseError::Der(DerError::Truncated));
    assert_eq!(malformed(case.judge(&status(0))), ResponseError::Der(DerError::Truncated));
    assert_eq!(malformed(case.drafted(|draft| draft.kind = vec![0x2A, 3])), ResponseError::Kind);
    let delegate = case.ca.delegate();
    assert_eq!(
        malformed(case.drafted(|draft| draft.certificates = vec![delegate.der.clone(); 9])),
        ResponseError::TooManyCertificates
    );
    assert_eq!(case.drafted(|draft| draft.certificates = vec![delegate.der.clone(); 8]), Ok(good()));
    let double = |draft: &mut Draft| draft.extensions = vec![extension(&[0x2A, 3], false, b"x"); 2];
    assert_eq!(malformed(case.drafted(double)), ResponseError::Extensions);
    let many = |draft: &mut Draft| draft.extensions = (0..17).map(|n| extension(&[0x2A, n], false, b"x")).collect();
    assert_eq!(malformed(case.drafted(many)), ResponseError::Extensions);
    // An encoded default.
    assert_eq!(
        malformed(case.drafted(|draft| draft.version = element(0xA0, &element(tag::INTEGER, &[0])))),
        ResponseError::Der(DerError::UnexpectedTag { expected: 0xA1, found: 0xA0 })
    );
    assert_eq!(
        malformed(case.drafted(|draft| draft.said[0].status = vec![0x80, 0x01, 0x00])),
        ResponseError::Der(DerError::UnexpectedTag { expected: 0x80, found: 0x80 })
    );
}

#[test]
fn times_that_are_not_exact_seconds_of_real_days_in_utc_are_refused() {
    let case = Case::new();
    let odd: &[&[u8]] = &[
        b"20260601000000",
        b"202606010000Z",
        b"20260601000000.0Z",
        b"20260601000000.5Z",
        b"20260601000000+0000",
        b"20260601020000+0200",
        b"20260601000060Z",
        b"20260601240000Z",
        b"20260631000000Z",
        b"20250229000000Z",
        b"20261301000000Z",
        b"19691231235959Z",
        b"2026060100000aZ",
        b"20260601000000z",
        b"",
    ];
    for text in odd {
        let time = element(tag::GENERALIZED_TIME, text);
        let places: [&dyn Fn(&mut Draft); 4] = [
            &|draft| draft.produced = time.clone(),
            &|draft| draft.said[0].this_update = time.clone(),
            &|draft| draft.said[0].next_update = Some(time.clone()),
            &|draft| draft.said[0].status = element(0xA1, &time),
        ];
        for change in places {
            let refusal = case.drafted(change).unwrap_err();
            let shown = String::from_utf8_lossy(text);
            assert_eq!(refusal, Refusal::Response(ResponseError::Der(DerError::Value)), "{shown}");
        }
    }
    let utc = element(0x17, b"260601000000Z");
    let refusal = case.drafted(|draft| draft.produced = utc).unwrap_err();
    assert_eq!(refusal, Refusal::Response(ResponseError::Der(DerError::UnexpectedTag { expected: 0x18, found: 0x17 })));
}

proptest! {
    #[test]
    fn no_changed_byte_of_what_is_signed_makes_another_statement(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        static CASE: std::sync::LazyLock<(Case, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let case = Case::new();
            let delegate = case.ca.delegate();
            let draft = Draft::by(&delegate, case.said(&revoked(Some(1), NOW - 5))).with(|draft| {
                draft.certificates = vec![delegate.der.clone()];
                draft.extensions = vec![extension(NONCE, false, &element(tag::OCTET_STRING, &[7; 32]))];
            });
            let response = draft.sign(&delegate.key);
            (case, response)
        });
        let (case, response) = &*CASE;
        let honest = case.judge(response).unwrap();
        let mut changed = response.clone();
        for (index, value) in flips {
            let at = index.index(changed.len());
            changed[at] = value;
        }
        if let Some(cut) = cut {
            changed.truncate(cut.index(changed.len()));
        }
        if let Ok(statement) = case.judge(&changed) {
            prop_assert_eq!(statement, honest);
        }
    }

    #[test]
    fn the_response_reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::revocation::ocsp::response::Basic::read(&bytes);
    }
}
