//! The self-test of back ends, on a real one and on what people put in front of it.

use http::Method;
use serde_json::Value;

use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually};

const TEST: &str = "[backend.self_test]\nusers = [\"probe1@corp.example\", \"probe2@CORP.EXAMPLE\"]\npath = \"/Microsoft-Server-ActiveSync/fast\"\n";

/// A bridge to mbx1 by way of this address; `lines` are further ones of the back end.
fn by_way_of(lab: &Lab, address: &str, lines: &str) -> Settings {
    let mut settings = Settings::new(lab);
    settings.more = format!(
        r#"[[backend]]
name = "front"
url = "http://{address}"
transport = "http"
spn = "HTTP/mbx1.corp.example"
{lines}
{TEST}
[[route]]
path = "/Microsoft-Server-ActiveSync/fast"
backend = "front"
"#
    );
    settings
}

fn probes(bridge: &Bridge) -> Vec<Value> {
    bridge.audit().into_iter().filter(|event| event["mapper"] == "self-test").collect()
}

async fn status(lab: &Lab, bridge: &Bridge, path: &str) -> u16 {
    Device::connect(lab, bridge.address, "alice").await.request(Method::GET, path, "").await.status
}

#[tokio::test]
async fn the_real_back_end_keeps_two_users_apart_and_is_opened_by_the_proof() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.backend = TEST.into();
    let bridge = Bridge::start(&settings);
    eventually("the proof", || bridge.log().contains("saw two users kept apart").then_some(()));
    assert_eq!(status(&lab, &bridge, PATH).await, 200);
    let seen = eventually("the probes' events", || Some(probes(&bridge)).filter(|seen| seen.len() == 24));
    for probe in ["probe1@corp.example", "probe2@CORP.EXAMPLE"] {
        let mine: Vec<_> = seen.iter().filter(|event| event["principal"] == probe).collect();
        assert_eq!(mine.len(), 12);
        assert!(mine.iter().all(|event| event["outcome"] == "served"), "{mine:#?}");
    }

    // On demand.
    bridge.reload(&settings, "saw two users kept apart");
    eventually("as many again", || (probes(&bridge).len() == 48).then_some(()));
}

/// The token that goes with every request decides who it is, also on a connection that somebody else's token opened.
#[tokio::test]
async fn a_balancer_that_shares_connections_is_harmless_as_long_as_it_hands_every_token_on() {
    let lab = Lab::get();
    let bridge = Bridge::start(&by_way_of(&lab, "127.0.0.31", ""));
    eventually("the proof", || bridge.log().contains("saw two users kept apart").then_some(()));
    assert_eq!(status(&lab, &bridge, "/Microsoft-Server-ActiveSync/fast").await, 200);
}

#[tokio::test]
async fn an_accelerator_that_answers_one_user_with_what_it_kept_of_another_is_found_out_and_closed() {
    let lab = Lab::get();
    let bridge = Bridge::start(&by_way_of(&lab, "127.0.0.32", "host = \"silent.corp.example\"\nmutual = \"tolerate-absence\""));
    eventually("the mix-up", || bridge.log().contains("CLOSED, users are not kept apart").then_some(()));
    assert_eq!(status(&lab, &bridge, "/Microsoft-Server-ActiveSync/fast").await, 503);
    bridge.audited("the refusal", |event| event["reason"] == "isolation-failed" && event["mapper"] == "upn-with-sid");
    // The back end itself is another one, and open.
    assert_eq!(status(&lab, &bridge, PATH).await, 200);
}

/// Where the server must prove itself, an answer from somebody's memory reaches nobody in the first place.
#[tokio::test]
async fn the_same_accelerator_is_never_proved_where_the_server_must_prove_itself() {
    let lab = Lab::get();
    let bridge = Bridge::start(&by_way_of(&lab, "127.0.0.32", ""));
    eventually("the first attempt", || bridge.log().contains("closed until the self-test has an answer").then_some(()));
    assert_eq!(status(&lab, &bridge, "/Microsoft-Server-ActiveSync/fast").await, 503);
    bridge.audited("the refusal", |event| event["reason"] == "isolation-unproved" && event["mapper"] == "upn-with-sid");
    bridge.audited("the probe", |event| event["reason"] == "mutual-failed" && event["mapper"] == "self-test");
}
