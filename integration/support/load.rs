//! Devices that do not stop asking, and what became of their requests.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tokio::task::JoinSet;

use super::Lab;
use super::bridge::Bridge;
use super::device::{Answer, Device, handshake, tls_config};
use crate::isolation::account;

/// Between two requests of a device: the machine is to have time for what goes wrong.
const PAUSE: Duration = Duration::from_millis(20);

/// One device each for some users, with a ticket each.
pub struct Load {
    shared: Arc<Shared>,
    devices: JoinSet<()>,
}

struct Shared {
    figures: Mutex<Figures>,
    running: AtomicBool,
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub requests: usize,
    /// Not answered with 200.
    pub lost: usize,
    /// When one was lost last.
    pub last_loss: Option<Instant>,
    /// The longest that a request took, whatever its answer.
    pub longest: Duration,
    /// Lost requests by user and status; 0: no answer.
    pub losses: BTreeMap<(String, u16), usize>,
    /// Answers for somebody else.
    pub wrong: Vec<String>,
}

impl Load {
    /// Every device has been served once when this returns.
    pub async fn start(lab: &Lab, bridge: &Bridge, users: &[&str], path: &str) -> Self {
        let shared = Arc::new(Shared { figures: Mutex::default(), running: AtomicBool::new(true) });
        let mut devices = JoinSet::new();
        let mut first = JoinSet::new();
        for user in users {
            let (lab, user, path, address) = (lab.clone(), (*user).to_owned(), path.to_owned(), bridge.address);
            first.spawn(async move {
                let mut device = None;
                let deadline = Instant::now() + Duration::from_secs(20);
                loop {
                    let answer = ask(&lab, address, &mut device, &user, &path).await;
                    if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                        break;
                    }
                    assert!(Instant::now() < deadline, "{user}: {answer:?}");
                    tokio::time::sleep(PAUSE).await;
                }
                (lab, user, path, address, device)
            });
        }
        for (lab, user, path, address, mut device) in first.join_all().await {
            let shared = Arc::clone(&shared);
            devices.spawn(async move {
                while shared.running.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let answer = ask(&lab, address, &mut device, &user, &path).await;
                    shared.note(&user, answer.as_ref(), started.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { shared, devices }
    }

    /// What became of requests since the start or the last time.
    pub fn take(&self) -> Figures {
        std::mem::take(&mut *self.shared.figures())
    }

    /// Lets all devices hear the answers that they wait for.
    pub async fn stop(self) -> Figures {
        self.shared.running.store(false, Ordering::Relaxed);
        self.devices.join_all().await;
        std::mem::take(&mut *self.shared.figures())
    }
}

impl Shared {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, user: &str, answer: Option<&Answer>, took: Duration) {
        let mut figures = self.figures();
        figures.requests += 1;
        figures.longest = figures.longest.max(took);
        let status = answer.map_or(0, |answer| answer.status);
        if status != 200 {
            figures.lost += 1;
            figures.last_loss = Some(Instant::now());
            *figures.losses.entry((user.to_owned(), status)).or_default() += 1;
        } else if let Some(answer) = answer.filter(|answer| account(answer.user()) != user) {
            figures.wrong.push(format!("{user}: {answer:?}"));
        }
    }
}

impl Figures {
    /// Everybody was served, and nobody as somebody else.
    pub fn nothing_lost(&self) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        assert!(self.requests > 0 && self.lost == 0, "{self}: {:?}", self.losses);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests {}, lost {}, longest stall {} ms", self.requests, self.lost, self.longest.as_millis())
    }
}

/// One request; on a new connection if the last one is gone.
async fn ask(lab: &Lab, address: SocketAddr, device: &mut Option<Device>, user: &str, path: &str) -> Option<Answer> {
    if device.is_none() {
        let stream = handshake(address, tls_config(lab, user)).await.ok()?;
        *device = Some(Device::over(stream).await);
    }
    let request = Request::builder().method(Method::OPTIONS).uri(path).header("host", "bridge.corp.example");
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let answer = device.as_mut()?.send(request).await.ok();
    // One that the bridge closes after its answer is not asked again.
    if answer.as_ref().is_none_or(|answer| answer.header("connection") == Some("close")) {
        *device = None;
    }
    answer
}

/// Somebody who comes once, on a new connection, and how long the answer took.
pub async fn newcomer(lab: &Lab, bridge: SocketAddr, user: &str, path: &str) -> (Answer, Duration) {
    let mut device = Device::connect(lab, bridge, user).await;
    let started = Instant::now();
    let answer = device.request(Method::OPTIONS, path, "").await;
    let took = started.elapsed();
    if answer.status == 200 {
        assert_eq!(account(answer.user()), user, "{answer:?}");
    }
    (answer, took)
}

/// Somebody without a ticket comes until there is one. Returns when that was.
pub async fn served_at_last(lab: &Lab, bridge: SocketAddr, user: &str, path: &str) -> Instant {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (answer, _) = newcomer(lab, bridge, user, path).await;
        if answer.status == 200 {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "{user} is not served again: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
