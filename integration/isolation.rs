//! Promise 1: nobody ever sees another user's mailbox. The back end authenticates connections (`GssapiConnectionBound On`), so
//! one shared connection would show at once.

use http::Method;

use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually};

const REQUESTS: usize = 12_000;

/// Users `user01` to `user16`, two devices each, requests of one device interleaved with those of all others over kept connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_back_end_sees_the_certificates_user_every_time_in_twelve_thousand_interleaved_requests() {
    let lab = Lab::get();
    let bridge = Bridge::start(&Settings::new(&lab));
    let devices: Vec<String> = (0..32).map(|n| format!("user{:02}", n % 16 + 1)).collect();
    let each = REQUESTS / devices.len();
    let mut running = tokio::task::JoinSet::new();
    for (number, user) in devices.into_iter().enumerate() {
        let (lab, address) = (lab.clone(), bridge.address);
        running.spawn(async move {
            let mut device = Device::connect(&lab, address, &user).await;
            for round in 0..each {
                // Every so often a new device connection, so that upstream connections are parted with and taken up again.
                if round % 97 == 96 {
                    device = Device::connect(&lab, address, &user).await;
                }
                let body = format!("{user} {number} {round}");
                let answer = match round % 3 {
                    0 => device.request(Method::OPTIONS, PATH, "").await,
                    1 => device.request(Method::GET, &format!("{PATH}/fast"), "").await,
                    _ => {
                        let answer = device.request(Method::POST, PATH, body.clone()).await;
                        assert_eq!(answer.body, body, "the body is the one that was sent");
                        answer
                    }
                };
                assert_eq!(answer.status, 200, "{user}: {answer:?}");
                assert_eq!(account(answer.user()), user, "the back end saw somebody else: {answer:?}");
            }
            each
        });
    }
    let served: usize = running.join_all().await.into_iter().sum();
    assert_eq!(served, REQUESTS);

    // A request's event is written when its answer has left, so a device may have read the answer first.
    let events = eventually("one audit event a request", || {
        let events = bridge.audit();
        (events.iter().filter(|event| event["event"] == "request").count() >= REQUESTS).then_some(events)
    });
    assert_eq!(events.len(), REQUESTS, "one audit event a request and none besides");
    for event in events {
        assert_eq!(event["outcome"], "served", "{event}");
    }
}

/// `user01` of `user01\@corp.example@CORP.EXAMPLE`.
pub fn account(user: Option<&str>) -> &str {
    user.and_then(|user| user.split(['\\', '@']).next()).unwrap_or_default()
}
