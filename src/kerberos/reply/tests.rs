use proptest::prelude::*;

use super::*;
use crate::der::tag;
use crate::kerberos::wire::ap_rep::tests::{Acceptor, error_token, framed, nested, now};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::crypto::tests::ETYPES;
use crate::kerberos::wire::mint::{MintOptions, MintableTicket};
use crate::kerberos::wire::ticket::tests::service_ticket;

const COMPLETED: Option<u8> = Some(0);
const INCOMPLETE: Option<u8> = Some(1);
const REJECT: Option<u8> = Some(2);
const REQUEST_MIC: Option<u8> = Some(3);

struct Exchange {
    acceptor: Acceptor,
    reply: Reply,
}

fn exchange_as(etype: Etype, format: TokenFormat) -> Exchange {
    let ticket = MintableTicket::new(service_ticket("alice", etype, 0x31, 200)).unwrap();
    let (token, expectation) = ticket.mint(now(), format, None, MintOptions::default()).unwrap();
    Exchange { acceptor: Acceptor::accept(&ticket, &token), reply: Reply::native(expectation, format) }
}

fn exchange() -> Exchange {
    exchange_as(Etype::Aes256Sha1, TokenFormat::Spnego)
}

pub(crate) fn resp(state: Option<u8>, mechanism: Option<&[u8]>, response: Option<&[u8]>, mic: Option<&[u8]>) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Some(state) = state {
        asn1::write_explicit(&mut fields, 0, tag::ENUMERATED, &[state]);
    }
    if let Some(mechanism) = mechanism {
        fields.extend(nested(&[tag::context(1)], mechanism));
    }
    for (n, value) in [(2, response), (3, mic)] {
        if let Some(value) = value {
            asn1::write_explicit(&mut fields, n, tag::OCTET_STRING, value);
        }
    }
    nested(&[tag::context(1), tag::SEQUENCE], &fields)
}

pub(crate) fn header(scheme: &str, token: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("{scheme} {}", base64_simd::STANDARD.encode_to_string(token))).unwrap()
}

fn judge(reply: Reply, token: &[u8]) -> Result<Verdict, Cause> {
    reply.judge(&[header("Negotiate", token)]).map_err(|failure| failure.cause)
}

const INVALID: Result<Verdict, Cause> = Err(Cause::NegotiationInvalid);

#[test]
fn a_completed_negotiation_with_our_ap_rep_proves_the_server_for_every_encryption_type_and_mechanism() {
    for etype in ETYPES {
        for format in [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft] {
            for mechanism in [Some(framing::KRB5_MECHANISM), Some(framing::MS_KRB5_MECHANISM), None] {
                for state in [COMPLETED, None] {
                    let Exchange { acceptor, reply } = exchange_as(etype, format);
                    let token = resp(state, mechanism, Some(&acceptor.ap_rep()), None);
                    assert_eq!(judge(reply, &token), Ok(Verdict::Proved));
                }
            }
        }
    }
}

#[test]
fn the_answer_may_stand_in_any_field_beside_other_challenges() {
    let Exchange { acceptor, reply } = exchange();
    let token = resp(COMPLETED, None, Some(&acceptor.ap_rep()), None);
    let values = [HeaderValue::from_static("Basic realm=\"a, b\", NTLM"), header("nEGOTIATE", &token)];
    assert_eq!(reply.judge(&values), Ok(Verdict::Proved));
}

#[test]
fn an_answer_to_another_token_is_a_mutual_failure() {
    let (one, other) = (exchange(), exchange());
    let token = resp(COMPLETED, None, Some(&other.acceptor.ap_rep()), None);
    assert_eq!(judge(one.reply, &token), Err(Cause::MutualFailed));
}

#[test]
fn an_unfinished_negotiation_is_refused_even_with_our_ap_rep() {
    for state in [INCOMPLETE, REQUEST_MIC, REJECT, Some(4)] {
        let Exchange { acceptor, reply } = exchange();
        assert_eq!(judge(reply, &resp(state, None, Some(&acceptor.ap_rep()), None)), INVALID, "{state:?}");
    }
    for state in [INCOMPLETE, REQUEST_MIC, None] {
        assert_eq!(judge(exchange().reply, &resp(state, None, None, None)), INVALID, "{state:?}");
    }
}

#[test]
fn a_mechanism_that_we_did_not_offer_is_refused_and_ntlm_is_named() {
    let foreign = [0x06, 0x03, 0x2A, 0x03, 0x04];
    let Exchange { acceptor, reply } = exchange();
    assert_eq!(judge(reply, &resp(COMPLETED, Some(&foreign), Some(&acceptor.ap_rep()), None)), INVALID);
    assert_eq!(judge(exchange().reply, &resp(INCOMPLETE, Some(framing::NTLMSSP_MECHANISM), None, None)), Ok(Verdict::NtlmOnly));
    assert_eq!(judge(exchange().reply, b"NTLMSSP\0\x02\0\0\0"), Ok(Verdict::NtlmOnly));
}

#[test]
fn absence_rejection_and_ntlm_are_told_apart() {
    let with = |values: &[&'static str]| {
        let values: Vec<_> = values.iter().map(|value| HeaderValue::from_static(value)).collect();
        exchange().reply.judge(&values).map_err(|failure| failure.cause)
    };
    assert_eq!(with(&[]), Ok(Verdict::Absent));
    assert_eq!(with(&["Negotiate", "NTLM"]), Ok(Verdict::Absent));
    assert_eq!(with(&["Basic realm=\"x\""]), Ok(Verdict::Absent));
    assert_eq!(with(&["NTLM"]), Ok(Verdict::NtlmOnly));
    assert_eq!(with(&["Basic realm=\"x\", ntlm"]), Ok(Verdict::NtlmOnly));
    assert_eq!(with(&["Negotiate TlRMTVNTUAACAAAA"]), Ok(Verdict::NtlmOnly));
    assert_eq!(judge(exchange().reply, &resp(REJECT, None, None, None)), Ok(Verdict::Rejected));
    assert_eq!(judge(exchange().reply, &resp(COMPLETED, None, None, None)), Ok(Verdict::Absent));
}

#[test]
fn two_negotiate_answers_are_refused_even_if_one_is_ours() {
    let Exchange { acceptor, reply } = exchange();
    let good = header("Negotiate", &resp(COMPLETED, None, Some(&acceptor.ap_rep()), None));
    assert_eq!(reply.judge(&[good.clone(), good]).unwrap_err().cause, Cause::NegotiationInvalid);
}

#[test]
fn what_is_not_base64_or_has_trailing_bytes_is_refused() {
    let Exchange { acceptor, reply } = exchange();
    let token = resp(COMPLETED, None, Some(&acceptor.ap_rep()), None);
    assert_eq!(judge(reply, &[&token[..], &[0]].concat()), INVALID);
    for text in ["Negotiate oYG2*", "Negotiate oYG", "Negotiate realm=\"x\"", "Negotiate a b"] {
        let reply = exchange().reply;
        assert_eq!(reply.judge(&[HeaderValue::from_static(text)]).unwrap_err().cause, Cause::NegotiationInvalid, "{text}");
    }
}

#[test]
fn bytes_that_are_not_ascii_in_another_challenge_do_not_hide_the_answer() {
    let Exchange { acceptor, reply } = exchange();
    let token = resp(COMPLETED, None, Some(&acceptor.ap_rep()), None);
    let basic = HeaderValue::from_bytes(b"Basic realm=\"B\xFCro\"").unwrap();
    assert_eq!(reply.judge(&[basic, header("Negotiate", &token)]), Ok(Verdict::Proved));
}

#[test]
fn a_mic_that_repeats_the_response_token_is_ignored_and_any_other_must_be_right() {
    let list = |format| spnego::mech_type_list(format).unwrap();
    for format in [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft] {
        let with = |mic: &dyn Fn(&Acceptor, &[u8]) -> Vec<u8>| {
            let Exchange { acceptor, reply } = exchange_as(Etype::Aes256Sha1, format);
            let ap_rep = acceptor.ap_rep();
            judge(reply, &resp(COMPLETED, None, Some(&ap_rep), Some(&mic(&acceptor, &ap_rep))))
        };
        assert_eq!(with(&|_, ap_rep| ap_rep.to_vec()), Ok(Verdict::Proved));
        assert_eq!(with(&|acceptor, _| acceptor.mic(list(format), 0x05)), Ok(Verdict::Proved));
        assert_eq!(with(&|acceptor, _| acceptor.mic(b"another list", 0x05)), INVALID);
        assert_eq!(with(&|_, _| Vec::new()), INVALID);
    }
    let Exchange { acceptor, reply } = exchange_as(Etype::Rc4Hmac, TokenFormat::Spnego);
    let mic = acceptor.mic(list(TokenFormat::Spnego), 0x05);
    assert_eq!(judge(reply, &resp(COMPLETED, None, Some(&acceptor.ap_rep()), Some(&mic))), INVALID);
    assert_eq!(judge(exchange().reply, &resp(COMPLETED, None, None, Some(b"mic"))), INVALID);
}

#[test]
fn a_krb_error_is_reported_with_its_code_and_whether_a_new_ticket_may_help() {
    for (code, reacquire) in [(41, true), (44, true), (45, true), (32, true), (37, false), (34, false)] {
        let expected = Ok(Verdict::KrbError { code, reacquire });
        for state in [REJECT, INCOMPLETE, None] {
            assert_eq!(judge(exchange().reply, &resp(state, None, Some(&error_token(code)), None)), expected);
        }
        let raw = exchange_as(Etype::Aes256Sha1, TokenFormat::Kerberos);
        assert_eq!(judge(raw.reply, &error_token(code)), expected);
    }
    assert_eq!(judge(exchange().reply, &resp(COMPLETED, None, Some(&error_token(41)), None)), INVALID);
    assert_eq!(judge(exchange().reply, &resp(REJECT, None, Some(&framed(framing::KRB_ERROR, b"x")), None)), INVALID);
}

#[test]
fn a_bare_kerberos_answer_is_taken_only_for_a_bare_kerberos_token() {
    let raw = exchange_as(Etype::Aes256Sha1, TokenFormat::Kerberos);
    let ap_rep = raw.acceptor.ap_rep();
    assert_eq!(judge(raw.reply, &ap_rep), Ok(Verdict::Proved));
    let Exchange { acceptor, reply } = exchange();
    assert_eq!(judge(reply, &acceptor.ap_rep()), INVALID);
    let raw = exchange_as(Etype::Aes256Sha1, TokenFormat::Kerberos);
    let wrapped = resp(COMPLETED, None, Some(&raw.acceptor.ap_rep()), None);
    assert_eq!(judge(raw.reply, &wrapped), INVALID);
}

proptest! {
    #[test]
    fn arbitrary_answers_never_prove_a_server(token in prop::collection::vec(any::<u8>(), 0..200), format in 0_usize..3) {
        let format = [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft, TokenFormat::Kerberos][format];
        prop_assert_ne!(judge(exchange_as(Etype::Aes128Sha1, format).reply, &token), Ok(Verdict::Proved));
    }

    #[test]
    fn arbitrary_field_values_never_prove_a_server(value in "[ -~]{0,100}") {
        let Ok(value) = HeaderValue::try_from(value) else { return Ok(()) };
        prop_assert_ne!(exchange().reply.judge(&[value]).map_err(|failure| failure.cause), Ok(Verdict::Proved));
    }

    #[test]
    fn a_mutated_answer_never_panics(at: prop::sample::Index, value: u8) {
        let Exchange { acceptor, reply } = exchange();
        let mut token = resp(COMPLETED, Some(framing::KRB5_MECHANISM), Some(&acceptor.ap_rep()), None);
        let index = at.index(token.len());
        token[index] = value;
        let _ = judge(reply, &token);
    }
}
