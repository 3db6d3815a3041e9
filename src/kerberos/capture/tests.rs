use proptest::prelude::*;

use super::*;
use crate::der::{self, tag};
use crate::kerberos::proof::pac::testkit::{self, Account};
use crate::kerberos::reply::tests::{header, resp};
use crate::kerberos::wire::ap_rep::tests::{Acceptor, error_token, now};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::crypto::tests::ETYPES;
use crate::kerberos::wire::framing;
use crate::kerberos::wire::krb_error::{KrbError, tests as errors};
use crate::kerberos::wire::mint::{MintOptions, MintableTicket};
use crate::kerberos::wire::spnego;
use crate::kerberos::wire::ticket::tests::service_ticket;
use crate::naming::name::PrincipalName;
use crate::policy::TokenFormat;

/// STATUS_ACCOUNT_RESTRICTION
const EXTENDED_ERROR: [u8; 12] = [0x6E, 0, 0, 0xC0, 0, 0, 0, 0, 1, 0, 0, 0];

fn names() -> Pseudonyms {
    Pseudonyms::new("CORP.EXAMPLE")
}

fn entry(first: u8, kind: i64, value: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    asn1::write_explicit_integer(&mut fields, first, kind);
    asn1::write_explicit(&mut fields, first + 1, tag::OCTET_STRING, value);
    krb_error::element(tag::SEQUENCE, &fields)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn an_errors_code_times_and_nt_status_stay_in_every_shape_of_error_data_and_no_name_does() {
    let list = |entries: &[u8]| krb_error::element(tag::SEQUENCE, entries);
    let shapes = [
        entry(1, 3, &EXTENDED_ERROR),
        list(&[entry(1, 133, b"a cookie of CORP"), entry(1, 3, &EXTENDED_ERROR)].concat()),
        list(&entry(0, 3, &EXTENDED_ERROR)),
    ];
    for data in shapes {
        let message = errors::message(18, Some(&data));
        let mut names = names();
        let redacted = krb_error::redact(&message, &mut names).unwrap();
        let (before, after) = (KrbError::parse(&message).unwrap(), KrbError::parse(&redacted).unwrap());
        assert_eq!((after.code, after.server_time, after.server_microseconds), (18, before.server_time, 654_321));
        assert_eq!(after.nt_status(), Some(0xC000_006E));
        assert_eq!((after.realm.as_str(), after.text.as_deref()), ("DOMAIN1.EXAMPLE", Some("words")));
        assert_eq!(after.server.to_string(), "HTTP/name1.domain1.example");
        assert_eq!(after.data.map(|data| data.len()), Some(data.len()));
        assert!(!names.stands_in(&redacted) && !contains(&redacted, b"cookie"));
    }
}

#[test]
fn salts_of_etype_information_are_replaced_and_encryption_types_stay() {
    let mut info = Vec::new();
    asn1::write_explicit_integer(&mut info, 0, 18);
    asn1::write_explicit(&mut info, 1, tag::GENERAL_STRING, b"CORP.EXAMPLEalice");
    asn1::write_explicit(&mut info, 2, tag::OCTET_STRING, &[0, 0, 16, 0]);
    let info = krb_error::element(tag::SEQUENCE, &krb_error::element(tag::SEQUENCE, &info));
    let data = krb_error::element(tag::SEQUENCE, &[entry(1, 19, &info), entry(1, 3, b"CORP.EXAMPLEalice")].concat());
    let redacted = krb_error::redact(&errors::message(25, Some(&data)), &mut names()).unwrap();
    assert!(!contains(&redacted, b"alice"));
    assert!(contains(&redacted, &[2, 1, 18]) && contains(&redacted, &[4, 4, 0, 0, 16, 0]));
}

#[test]
fn an_error_that_is_not_understood_to_the_last_byte_is_not_recorded() {
    for data in [&b"text of another shape"[..], &[0x30, 3, 0xA1, 1, 0], &entry(1, 19, b"no list")] {
        assert!(krb_error::redact(&errors::message(60, Some(data)), &mut names()).is_err());
    }
    let whole = errors::message(13, None);
    let body = der::only(der::only(&whole, tag::application(30)).unwrap(), tag::SEQUENCE).unwrap();
    let mut checksum = Vec::new();
    asn1::write_explicit(&mut checksum, 13, tag::OCTET_STRING, b"alice");
    let with_checksum = krb_error::element(tag::application(30), &krb_error::element(tag::SEQUENCE, &[body, &checksum].concat()));
    assert!(KrbError::parse(&with_checksum).is_ok());
    assert!(krb_error::redact(&with_checksum, &mut names()).is_err());
}

fn account() -> Account {
    Account {
        groups: vec![513, 1105, 512],
        extra_sids: vec!["S-1-18-1".into(), format!("{}-1190", testkit::DOMAIN)],
        resource_groups: Some((testkit::DOMAIN.into(), vec![1200])),
        ..Account::default()
    }
}

#[test]
fn a_pac_keeps_everything_that_decides_and_is_verified_with_the_published_key() {
    for etype in ETYPES {
        let mut buffers = account().buffers(etype);
        buffers.insert(2, (12, testkit::upn_info("alice@corp.example", Some(&format!("{}-1103", testkit::DOMAIN)))));
        buffers.insert(3, (13, b"claims about alice".to_vec()));
        buffers.insert(4, (17, vec![2, 0, 0, 0, 1, 0, 0, 0]));
        let pac = testkit::sign(testkit::pack(&buffers), &testkit::key(etype));
        let mut names = names();
        let (redacted, notes) = pac::redact(&pac, &mut names).unwrap();
        let kept: Vec<_> = notes.iter().map(|note| (note.buffer_type, note.kept)).collect();
        assert_eq!(kept, [(1, true), (10, true), (12, true), (13, false), (17, true), (6, true), (7, true)]);
        let seen = pac::examine(&redacted).unwrap();
        let domain = "S-1-5-21-1000000001-2000000001-3000000001";
        assert_eq!((seen.server_checksum, seen.kdc_checksum), (etype.checksum_type(), 16));
        assert_eq!((seen.sid, seen.groups), (format!("{domain}-1000"), vec![513, 1001, 512]));
        assert_eq!(seen.extra_sids, ["S-1-18-1".to_owned(), format!("{domain}-1002")]);
        assert_eq!(seen.resource_groups, [format!("{domain}-1003")]);
        assert_eq!((seen.user_account_control, seen.primary_group), (0x10, 513));
        assert_eq!((seen.account.as_str(), seen.client_name.as_str()), ("name1", "name1"));
        assert_eq!(seen.upn.as_deref(), Some("name1@domain1.example"));
        assert!(!names.stands_in(&redacted));
        for secret in [&b"claims"[..], &pseudonyms::utf16("lice"), &[0xAA; 12], testkit::key(etype).expose()] {
            assert!(!contains(&redacted, secret), "{secret:?}");
        }
    }
}

#[test]
fn a_pac_without_its_logon_information_or_with_an_unknown_signature_is_not_recorded() {
    let mut buffers = account().buffers(Etype::Aes256Sha1);
    buffers[2].1[0] = 99;
    assert!(pac::redact(&testkit::pack(&buffers), &mut names()).is_err());
    let mut buffers = account().buffers(Etype::Aes256Sha1);
    buffers[0].1.extend(b"something more");
    let (redacted, notes) = pac::redact(&testkit::pack(&buffers), &mut names()).unwrap();
    assert!(!notes[0].kept);
    assert!(pac::examine(&redacted).is_err());
}

/// A recorder with our own realm's name, and one exchange with a back end.
fn exchange(etype: Etype, format: TokenFormat) -> (Recorder, Acceptor, Reply) {
    let own = OwnPrincipal::parse("svc-bridge@CORP.EXAMPLE").unwrap();
    let recorder = Recorder::new(&own, &RelayObserver::default());
    let ticket = MintableTicket::new(service_ticket("alice", etype, 0x31, 200)).unwrap();
    let (token, expectation) = ticket.mint(now(), format, None, MintOptions::default()).unwrap();
    (recorder, Acceptor::accept(&ticket, &token), Reply::native(expectation, format))
}

fn finish(recorder: &Recorder) -> (Manifest, Vec<(String, Vec<u8>)>) {
    recorder.finish(&[], Tried { user: String::new(), spn: String::new() }, Vec::new())
}

/// What is seen in the one answer that was recorded, and its bytes; none if it was withheld.
fn recorded(recorder: &Recorder) -> Option<(SeenAnswer, Vec<u8>)> {
    let (manifest, files) = finish(recorder);
    assert_eq!(manifest.captures.len() + manifest.withheld.len(), 1, "{manifest:?}");
    match manifest.captures.into_iter().next()?.seen {
        Seen::Answer(seen) => Some((seen, files[0].1.clone())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_proves_the_server_does_so_again_under_published_keys() {
    for etype in ETYPES {
        for format in [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft, TokenFormat::Kerberos] {
            let (recorder, acceptor, reply) = exchange(etype, format);
            let ap_rep = acceptor.ap_rep();
            let token = if format == TokenFormat::Kerberos {
                ap_rep
            } else {
                resp(Some(0), Some(framing::MS_KRB5_MECHANISM), Some(&ap_rep), None)
            };
            assert_eq!(recorder.record(reply).judge(&[header("Negotiate", &token)]), Ok(Verdict::Proved));
            let (seen, bytes) = recorded(&recorder).unwrap();
            assert_eq!((seen.verdict.as_str(), seen.etype), ("proved", Some(etype.number())));
            assert_eq!(seen.acceptor_subkey, Some(etype.number()));
            let raw = base64_simd::STANDARD.decode_to_vec(&bytes[10..]).unwrap();
            assert_eq!(raw.len(), token.len());
            assert!(!contains(&raw, &acceptor.subkey.unwrap().1) && !contains(&raw, acceptor.session_key.expose()));
        }
    }
}

#[test]
fn a_mic_is_made_again_if_it_was_right_and_an_old_windows_repetition_stays_one() {
    for format in [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft] {
        for asserts_subkey in [true, false] {
            let (recorder, mut acceptor, reply) = exchange(Etype::Aes256Sha1, format);
            if !asserts_subkey {
                acceptor.subkey = None;
            }
            let mic = acceptor.mic(spnego::mech_type_list(format).unwrap(), if asserts_subkey { 5 } else { 1 });
            let token = resp(Some(0), Some(framing::KRB5_MECHANISM), Some(&acceptor.ap_rep()), Some(&mic));
            assert_eq!(recorder.record(reply).judge(&[header("Negotiate", &token)]), Ok(Verdict::Proved));
            let (seen, bytes) = recorded(&recorder).unwrap();
            assert_eq!((seen.verdict.as_str(), seen.mech_list_mic.as_str()), ("proved", "signed"));
            assert!(!contains(&base64_simd::STANDARD.decode_to_vec(&bytes[10..]).unwrap(), &mic[16..]));
        }
    }
    let (recorder, acceptor, reply) = exchange(Etype::Rc4Hmac, TokenFormat::Spnego);
    let ap_rep = acceptor.ap_rep();
    let token = resp(Some(0), Some(framing::KRB5_MECHANISM), Some(&ap_rep), Some(&ap_rep));
    assert_eq!(recorder.record(reply).judge(&[header("Negotiate", &token)]), Ok(Verdict::Proved));
    assert_eq!(recorded(&recorder).unwrap().0.mech_list_mic, "token-repeated");
}

#[test]
fn an_answer_that_cannot_be_made_again_is_noted_by_length_and_hash_alone() {
    let spnego = |mechanism, ap_rep: &[u8], mic: Option<&[u8]>| resp(Some(0), Some(mechanism), Some(ap_rep), mic);
    let cases: [fn(&Acceptor) -> Vec<u8>; 3] = [
        |acceptor| {
            let sealed = acceptor.seal(b"nothing", Etype::Aes256Sha1.number(), 99);
            resp(Some(0), Some(framing::KRB5_MECHANISM), Some(&sealed), None)
        },
        |acceptor| resp(Some(0), Some(framing::KRB5_MECHANISM), Some(&acceptor.ap_rep()), Some(&[4, 4, 5])),
        |_| b"NTLMSSP\0\x02\0\0\0CORP".to_vec(),
    ];
    for case in cases {
        let (recorder, acceptor, reply) = exchange(Etype::Aes256Sha1, TokenFormat::Spnego);
        let value = header("Negotiate", &case(&acceptor));
        let _ = recorder.record(reply).judge(std::slice::from_ref(&value));
        let (manifest, files) = finish(&recorder);
        assert!(manifest.captures.is_empty() && files.is_empty(), "{manifest:?}");
        let withheld = &manifest.withheld[0];
        assert_eq!(
            (withheld.kind.as_str(), withheld.length, withheld.sha256.as_ref().map(String::len)),
            ("answer", value.len(), Some(64))
        );
    }
    let (recorder, acceptor, reply) = exchange(Etype::Aes256Sha1, TokenFormat::Spnego);
    let unknown = spnego(&[0x06, 2, 0x2A, 3], &acceptor.ap_rep(), None);
    assert!(recorder.record(reply).judge(&[header("Negotiate", &unknown)]).is_err());
    assert_eq!(recorded(&recorder), None);
}

#[test]
fn a_refusal_is_recorded_with_the_code_of_its_error() {
    let (recorder, _, reply) = exchange(Etype::Aes256Sha1, TokenFormat::Spnego);
    let token = resp(Some(2), Some(framing::KRB5_MECHANISM), Some(&error_token(41)), None);
    assert!(recorder.record(reply).judge(&[header("Negotiate", &token)]).is_ok());
    let (seen, bytes) = recorded(&recorder).unwrap();
    assert_eq!((seen.verdict.as_str(), seen.krb_error, seen.state.as_deref()), ("krb-error", Some(41), Some("reject")));
    assert!(!contains(&base64_simd::STANDARD.decode_to_vec(&bytes[10..]).unwrap().to_ascii_lowercase(), b"mbx1"));
}

#[test]
fn words_of_the_operator_with_a_real_name_in_them_are_left_out() {
    let (recorder, ..) = exchange(Etype::Aes256Sha1, TokenFormat::Spnego);
    let tried = Tried { user: recorder.name("alice@corp.example"), spn: recorder.name("HTTP/mbx1.corp.example") };
    assert_eq!((tried.user.as_str(), tried.spn.as_str()), ("name1@domain1.example", "HTTP/name2.domain1.example"));
    let label = |key: &str, words: &str| (key.to_owned(), words.to_owned());
    let labels = [label("case", "sensitive"), label("kdc", "dc1.Corp.Example, 2019"), label("who", "Alice")];
    let (manifest, _) = recorder.finish(&labels, tried, Vec::new());
    assert_eq!(manifest.labels.into_iter().collect::<Vec<_>>(), [label("case", "sensitive")]);
    assert!(manifest.withheld.len() == 2 && manifest.withheld.iter().all(|withheld| withheld.sha256.is_none()));
}

#[test]
fn a_recording_with_a_file_too_many_too_few_or_altered_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (recorder, _, reply) = exchange(Etype::Aes256Sha1, TokenFormat::Spnego);
    let token = resp(Some(2), Some(framing::KRB5_MECHANISM), Some(&error_token(41)), None);
    assert!(recorder.record(reply).judge(&[header("Negotiate", &token)]).is_ok());
    let (manifest, files) = finish(&recorder);
    let text = serde_json::to_string(&manifest).unwrap();
    std::fs::write(path(MANIFEST), &text).unwrap();
    assert!(verify(directory.path()).is_err(), "a file too few");
    std::fs::write(path(&files[0].0), &files[0].1).unwrap();
    assert_eq!(verify(directory.path()).unwrap(), manifest);
    for altered in [text.replace("\"krb_error\":41", "\"krb_error\":44"), text.replace("\"version\":1", "\"version\":2")] {
        assert_ne!(altered, text);
        std::fs::write(path(MANIFEST), altered).unwrap();
        assert!(verify(directory.path()).is_err());
    }
    std::fs::write(path(MANIFEST), &text).unwrap();
    std::fs::write(path("other"), "").unwrap();
    assert!(verify(directory.path()).is_err(), "a file too many");
}

proptest! {
    #[test]
    fn every_error_that_is_recorded_is_read_again(
        name in "[a-zA-Z0-9.@$/-]{0,30}", value: Vec<u8>, kind: i32, code in 0..100_i32,
    ) {
        let mut message = errors::message(code, Some(&entry(1, kind.into(), &value)));
        let mut client = Vec::new();
        asn1::write_principal_name(&mut client, &PrincipalName { name_type: 10, components: vec![name.clone().into()] });
        let body = der::only(der::only(&message, tag::application(30)).unwrap(), tag::SEQUENCE).unwrap();
        // Behind the code, before the realm.
        let at = body.windows(2).position(|window| window == [tag::context(9), 0x0E]).unwrap();
        let field = krb_error::element(tag::context(8), &client);
        let body = [&body[..at], &field, &body[at..]].concat();
        message = krb_error::element(tag::application(30), &krb_error::element(tag::SEQUENCE, &body));
        if let Ok(redacted) = krb_error::redact(&message, &mut names()) {
            let read = KrbError::parse(&redacted).unwrap();
            prop_assert_eq!(read.code, code);
            prop_assert_eq!(read.client.unwrap().components.len(), 1);
        }
    }

    #[test]
    fn the_copiers_and_readers_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = krb_error::redact(&bytes, &mut names());
        let _ = pac::redact(&bytes, &mut names());
        let _ = logon_info::copy(&bytes, &mut names());
        for kind in ["krb-error", "pac", "answer", "other"] {
            let _ = examine(kind, &bytes);
        }
    }

    #[test]
    fn a_mutated_pac_never_panics_and_never_shows_a_name(at: usize, value: u8) {
        let mut pac = account().pac(&testkit::key(Etype::Aes256Sha1));
        let length = pac.len();
        pac[at % length] = value;
        let mut names = names();
        if let Ok((redacted, _)) = pac::redact(&pac, &mut names) {
            prop_assert!(!contains(&redacted, &pseudonyms::utf16("Example")) && !contains(&redacted, &pseudonyms::utf16("CORP")));
        }
    }
}
