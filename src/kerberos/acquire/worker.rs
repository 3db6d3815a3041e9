//! The border between async requests and blocking acquisitions: a fixed number of threads, and a line before them.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::failure::{Cause, Failure};
use crate::identity::{Principal, RequestedName};
use crate::kerberos::acquire::acquisition::{Acquired, Acquirer, Shared};
use crate::kerberos::acquire::line::{Line, Next, Number, Urgency};
use crate::kerberos::relay::RelayObserver;
use crate::naming::name::{PrincipalName, Realm, name_type};
use crate::policy::Target;

/// UPN suffixes whose realm is remembered; more than any forest has.
const SUFFIXES: usize = 1024;

/// One wish for a ticket.
struct Job {
    principal: Arc<Principal>,
    target: Arc<Target>,
    answer: oneshot::Sender<Result<Acquired, Failure>>,
}

/// What is wanted, and what comes of it.
pub(in crate::kerberos) type Wanted = oneshot::Receiver<Result<Acquired, Failure>>;

/// The worker threads. They end when the last of these is dropped and the line is empty.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Workers(Arc<Open>);

/// The line is open as long as this lives.
#[derive(Debug)]
struct Open(Arc<Office>);

/// The line, and who waits for something to do.
struct Office {
    state: Mutex<State>,
    changed: Condvar,
    own_realm: Realm,
}

/// Where users with a UPN suffix are.
enum Home {
    /// All that were seen.
    In(Realm),
    /// Some here and some there, as with a suffix that a whole forest uses.
    Several,
}

struct State {
    line: Line<Job>,
    /// Realms of users who are asked for by UPN, by its suffix, as their tickets said.
    homes: HashMap<Box<str>, Home>,
    closed: bool,
}

impl Workers {
    /// Starts the threads, each with its own impersonator credential, so that one slow KDC exchange does not hold up the others
    /// (decision 7c).
    pub(in crate::kerberos) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let config = &shared.config;
        let line = Line::new(config.realms.keys().map(|realm| (realm.clone(), config.pace(realm))), config.queue);
        let state = Mutex::new(State { line, homes: HashMap::new(), closed: false });
        let office = Arc::new(Office { state, changed: Condvar::new(), own_realm: config.principal.realm().clone() });
        let open = Self(Arc::new(Open(Arc::clone(&office))));
        let patience = config.acquire_timeout;
        for index in 0..config.workers {
            let (shared, office) = (Arc::clone(shared), Arc::clone(&office));
            thread::Builder::new().name(format!("acquire-{index}")).spawn(move || {
                let relay = shared.relay.clone();
                work(Acquirer::new(shared), &office, &relay, patience);
            })?;
        }
        Ok(open)
    }

    /// Joins the line for both tickets of one user for one SPN. Once begun an acquisition goes on to its end, which the relay's
    /// deadlines bound; whether anybody waits for it does not matter.
    pub(in crate::kerberos) fn acquire(
        &self,
        principal: Arc<Principal>,
        target: Arc<Target>,
        urgency: Urgency,
    ) -> Result<(Place, Wanted), Failure> {
        let office = &self.0.0;
        let (answer, wanted) = oneshot::channel();
        let user = principal.name().clone();
        let mut state = office.state();
        let realm = state.home(&user, &office.own_realm);
        let number = state.line.join(&realm, &user, urgency, Job { principal, target, answer }).ok_or_else(|| {
            let wait = state.line.wait(&realm, None);
            Failure::new(Cause::Overloaded, format!("{} wait already", state.line.waiting())).retry_after(wait)
        })?;
        drop(state);
        office.changed.notify_one();
        Ok((Place(Some(Standing { office: Arc::clone(office), realm, user, number })), wanted))
    }

    /// How many acquisitions wait.
    pub(in crate::kerberos) fn waiting(&self) -> usize {
        self.0.0.state().line.waiting()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

/// A place in the line. Letting go of it gives nothing up.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Place(Option<Standing>);

#[derive(Clone, Debug)]
struct Standing {
    office: Arc<Office>,
    realm: Realm,
    user: RequestedName,
    number: Number,
}

impl Place {
    /// Nobody is before or behind.
    #[cfg(test)]
    pub(in crate::kerberos) const fn alone() -> Self {
        Self(None)
    }

    /// Somebody waits now for what was wanted ahead of time.
    pub(in crate::kerberos) fn hurry(&self) {
        if let Some(Standing { office, realm, user, number }) = &self.0 {
            office.state().line.hurry(realm, user, *number);
        }
    }

    /// How long it takes until it is this one's turn and done, as things are.
    pub(in crate::kerberos) fn wait(&self) -> Duration {
        let Some(Standing { office, realm, user, number }) = &self.0 else { return Duration::ZERO };
        office.state().line.wait(realm, Some((user, *number)))
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").field("own_realm", &self.own_realm).finish_non_exhaustive()
    }
}

impl Office {
    /// Nothing panics while holding it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job and its realm; `None` when there will be none any more.
    fn next(&self) -> Option<(Realm, Job)> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            state = match state.line.next(now) {
                // The runtime that wanted it has ended.
                Next::Run(realm, job) if job.answer.is_closed() => {
                    state.line.abandoned(&realm);
                    state
                }
                Next::Run(realm, job) if state.home(job.principal.name(), &self.own_realm) != realm => {
                    // It joined before anybody knew whose user it is for.
                    let user = job.principal.name().clone();
                    let home = state.home(&user, &self.own_realm);
                    state.line.moved(&realm, &home, &user, job);
                    state
                }
                Next::Run(realm, job) => {
                    // Another worker may have nobody to tell it that there is more, or that an allowance has to be waited for.
                    if state.line.waiting() > 0 {
                        self.changed.notify_one();
                    }
                    return Some((realm, job));
                }
                Next::Wait(until) => {
                    let pause = until.saturating_duration_since(now);
                    self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
                Next::Nothing if state.closed && state.line.waiting() == 0 => return None,
                Next::Nothing => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn finished(&self, realm: &Realm, took: Duration, learned: Option<(Box<str>, Realm)>) {
        let mut state = self.state();
        state.line.finished(realm, took);
        if let Some((suffix, home)) = learned
            && (state.homes.len() < SUFFIXES || state.homes.contains_key(&suffix))
        {
            match state.homes.get(&suffix) {
                Some(Home::In(known)) if *known != home => drop(state.homes.insert(suffix, Home::Several)),
                Some(_) => {}
                None => drop(state.homes.insert(suffix, Home::In(home))),
            }
        }
        let closed = state.closed;
        drop(state);
        // A realm at its limit may have room again, and at the end everybody has to look.
        if closed { self.changed.notify_all() } else { self.changed.notify_one() }
    }
}

impl State {
    /// In whose line this user stands: the user's realm, as far as it is known. A realm that does not answer must not take up the workers of the others.
    fn home(&self, user: &RequestedName, own: &Realm) -> Realm {
        let home = match user {
            RequestedName::Account { realm, .. } => Some(realm),
            RequestedName::Enterprise(upn) => match self.homes.get(suffix(upn)) {
                Some(Home::In(realm)) => Some(realm),
                Some(Home::Several) | None => None,
            },
        };
        home.filter(|realm| self.line.has(realm)).unwrap_or(own).clone()
    }
}

fn suffix(upn: &str) -> &str {
    upn.rsplit_once('@').map_or("", |(_, suffix)| suffix)
}

/// An acquisition's exchanges with KDCs end `patience` after it was begun.
fn work(mut acquirer: Acquirer, office: &Office, relay: &RelayObserver, patience: Duration) {
    while let Some((realm, job)) = office.next() {
        let started = Instant::now();
        let attempt = AssertUnwindSafe(|| acquirer.acquire(&job.principal, &job.target, started + patience));
        // A panic would be a bug; it costs this acquisition and our TGT, not the worker.
        let result = catch_unwind(attempt).unwrap_or_else(|_| {
            acquirer.reset();
            Err(Failure::new(Cause::KdcOther, "the acquisition panicked"))
        });
        let learned = match (job.principal.name(), &result) {
            (RequestedName::Enterprise(upn), Ok(tickets)) => {
                Realm::parse(&tickets.ticket.client_realm).ok().map(|home| (suffix(upn).into(), home))
            }
            // A realm that does not answer, or does not know the user, was named by the one that referred us there.
            (RequestedName::Enterprise(upn), Err(_)) => {
                let asked = PrincipalName { name_type: name_type::ENTERPRISE, components: vec![upn.clone()] };
                relay.home_of(&asked).map(|home| (suffix(upn).into(), home))
            }
            (RequestedName::Account { .. }, _) => None,
        };
        office.finished(&realm, started.elapsed(), learned);
        // Nobody wants it any more when this fails.
        let _ = job.answer.send(result);
    }
}
