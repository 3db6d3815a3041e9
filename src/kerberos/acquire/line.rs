//! The line before the workers: who is acquired for next.
//!
//! ```text
//! realm A  asked  alice, bob, carol …    taken round about, one acquisition a user
//!          ahead  dave …                 only while nobody is in `asked`
//! realm B  …                             realms in turn, each within its own pace
//! ```
//!
//! Nobody who stands in line loses the place by giving up the wait: the ticket is there when the device comes again. So N users that
//! arrive at once are served in the time that N acquisitions take, however impatient their devices are.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::identity::RequestedName;
use crate::kerberos::config::Pace;
use crate::naming::name::Realm;

/// How long an acquisition takes, until one has been seen.
const FIRST_GUESS: Duration = Duration::from_millis(50);
/// Weight of the newest acquisition in the mean.
const NEWEST: f64 = 0.1;
/// An allowance saves up so much of a second, for what comes at once.
const SAVED: f64 = 0.1;

/// Whether somebody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kerberos) enum Urgency {
    /// A request waits.
    Asked,
    /// A ticket in use is to be renewed before it has to be.
    Ahead,
}

/// What a worker does now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<J> {
    /// This, and then [`Line::finished`] with the realm.
    Run(Realm, J),
    /// Nothing before this instant: a realm's allowance is used up.
    Wait(Instant),
    /// Nothing before something changes.
    Nothing,
}

/// A place in a realm's line: numbers count up, and are taken in that order as long as nobody stands in line twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

/// Everybody who waits.
#[derive(Debug)]
pub(super) struct Line<J> {
    realms: HashMap<Realm, RealmLine<J>>,
    /// Realms in turn.
    order: VecDeque<Realm>,
    waiting: usize,
    capacity: usize,
}

#[derive(Debug)]
struct RealmLine<J> {
    pace: Pace,
    asked: Round<J>,
    ahead: Round<J>,
    running: usize,
    allowance: Option<Allowance>,
    /// Number of the next who joins, and of the last who was taken.
    joined: u64,
    taken: u64,
    mean: Duration,
}

/// Users in turn, each with what is wanted for them.
#[derive(Debug)]
struct Round<J> {
    turn: VecDeque<RequestedName>,
    wanted: HashMap<RequestedName, VecDeque<(Number, J)>>,
    wishes: usize,
}

impl<J> Line<J> {
    /// A line for these realms, with room for so many.
    pub(super) fn new(paces: impl IntoIterator<Item = (Realm, Pace)>, capacity: usize) -> Self {
        let realms: HashMap<_, _> = paces.into_iter().map(|(realm, pace)| (realm, RealmLine::new(pace))).collect();
        let order = realms.keys().cloned().collect();
        Self { realms, order, waiting: 0, capacity }
    }

    /// Joins the line of a realm; `None` if the line is full, or the realm has none. What is wanted ahead of time leaves half of the room to those who wait.
    pub(super) fn join(&mut self, realm: &Realm, user: &RequestedName, urgency: Urgency, job: J) -> Option<Number> {
        let room = match urgency {
            Urgency::Asked => self.capacity,
            Urgency::Ahead => self.capacity / 2,
        };
        if self.waiting >= room {
            return None;
        }
        let line = self.realms.get_mut(realm)?;
        line.joined += 1;
        let number = Number(line.joined);
        line.round(urgency).push(user, number, job);
        self.waiting += 1;
        Some(number)
    }

    /// Somebody waits now for what was wanted ahead of time.
    pub(super) fn hurry(&mut self, realm: &Realm, user: &RequestedName, number: Number) {
        let Some(line) = self.realms.get_mut(realm) else { return };
        if let Some(job) = line.ahead.remove(user, number) {
            line.asked.push(user, number, job);
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Next<J> {
        let mut soonest = None;
        for _ in 0..self.order.len() {
            self.order.rotate_left(1);
            let Some((realm, line)) = self.order.back().and_then(|realm| self.realms.get_key_value(realm)) else { continue };
            if line.is_empty() || line.pace.max_concurrent.is_some_and(|most| line.running >= most) {
                continue;
            }
            let realm = realm.clone();
            let Some(line) = self.realms.get_mut(&realm) else { continue };
            if let Some(allowed_at) = line.allowance.as_mut().and_then(|allowance| allowance.take(now).err()) {
                soonest = Some(soonest.map_or(allowed_at, |soonest: Instant| soonest.min(allowed_at)));
                continue;
            }
            if let Some((number, job)) = line.asked.pop().or_else(|| line.ahead.pop()) {
                line.taken = line.taken.max(number.0);
                line.running += 1;
                self.waiting -= 1;
                return Next::Run(realm, job);
            }
        }
        soonest.map_or(Next::Nothing, Next::Wait)
    }

    /// An acquisition in this realm has ended, after so long.
    pub(super) fn finished(&mut self, realm: &Realm, took: Duration) {
        if let Some(line) = self.realms.get_mut(realm) {
            line.running = line.running.saturating_sub(1);
            line.mean = line.mean.mul_f64(1.0 - NEWEST) + took.mul_f64(NEWEST);
        }
    }

    /// What was taken belongs to another realm's line, where it joins the end: it had its place once, whatever room there is.
    pub(super) fn moved(&mut self, from: &Realm, to: &Realm, user: &RequestedName, job: J) {
        self.abandoned(from);
        if let Some(line) = self.realms.get_mut(to) {
            line.joined += 1;
            line.asked.push(user, Number(line.joined), job);
            self.waiting += 1;
        }
    }

    /// What was taken is wanted by nobody any more.
    pub(super) fn abandoned(&mut self, realm: &Realm) {
        if let Some(line) = self.realms.get_mut(realm) {
            line.running = line.running.saturating_sub(1);
        }
    }

    /// Whether there is a line for this realm.
    pub(super) fn has(&self, realm: &Realm) -> bool {
        self.realms.contains_key(realm)
    }

    /// How long it takes until whoever has this number is served, as things are; without a number, whoever comes now.
    pub(super) fn wait(&self, realm: &Realm, place: Option<(&RequestedName, Number)>) -> Duration {
        let Some(line) = self.realms.get(realm) else { return Duration::ZERO };
        let ahead = match place {
            Some((user, number)) => line.before(user, number),
            None => line.asked.len(),
        };
        // Lines are shorter than what a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (ahead, at_once) = (ahead as f64 + 1.0, line.pace.max_concurrent.unwrap_or(1).max(1) as f64);
        let by_work = line.mean.as_secs_f64() / at_once;
        let by_rate = line.pace.max_rate.map_or(0.0, |rate| 1.0 / f64::from(rate.get()));
        Duration::from_secs_f64((ahead * by_work.max(by_rate)).min(3600.0))
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

impl<J> RealmLine<J> {
    /// How many are taken before this one, at most: a round for each wish of the same user that is before it, and in its own round no
    /// more than came before it.
    fn before(&self, user: &RequestedName, number: Number) -> usize {
        let rank_in = |round: &Round<J>| round.wanted.get(user)?.iter().position(|(other, _)| *other == number);
        let (rank, round, others) = match rank_in(&self.asked) {
            Some(rank) => (rank, &self.asked, 0),
            None => match rank_in(&self.ahead) {
                Some(rank) => (rank, &self.ahead, self.asked.len()),
                // It is being served.
                None => return 0,
            },
        };
        let rounds = round.wanted.len().saturating_mul(rank + 1).min(round.len());
        let came_before = usize::try_from(number.0.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        let first_and_new = rank == 0 && number.0 > self.taken;
        others + if first_and_new { rounds.min(came_before) } else { rounds }
    }

    fn new(pace: Pace) -> Self {
        let allowance = pace.max_rate.map(|rate| Allowance::new(f64::from(rate.get())));
        let (asked, ahead) = (Round::new(), Round::new());
        Self { pace, asked, ahead, running: 0, allowance, joined: 0, taken: 0, mean: FIRST_GUESS }
    }

    fn round(&mut self, urgency: Urgency) -> &mut Round<J> {
        match urgency {
            Urgency::Asked => &mut self.asked,
            Urgency::Ahead => &mut self.ahead,
        }
    }

    fn is_empty(&self) -> bool {
        self.asked.wanted.is_empty() && self.ahead.wanted.is_empty()
    }
}

impl<J> Round<J> {
    fn new() -> Self {
        Self { turn: VecDeque::new(), wanted: HashMap::new(), wishes: 0 }
    }

    /// Wishes of all users.
    fn len(&self) -> usize {
        self.wishes
    }

    fn push(&mut self, user: &RequestedName, number: Number, job: J) {
        let wanted = self.wanted.entry(user.clone()).or_default();
        if wanted.is_empty() {
            self.turn.push_back(user.clone());
        }
        wanted.push_back((number, job));
        self.wishes += 1;
    }

    /// The first user's first wish; the user goes to the end of the round with the others. Users whose wishes went elsewhere are
    /// passed over.
    fn pop(&mut self) -> Option<(Number, J)> {
        let (user, wanted) = loop {
            let user = self.turn.pop_front()?;
            if let Some(wanted) = self.wanted.get_mut(&user) {
                break (user, wanted);
            }
        };
        let first = wanted.pop_front();
        self.wishes -= 1;
        if wanted.is_empty() {
            self.wanted.remove(&user);
        } else {
            self.turn.push_back(user);
        }
        first
    }

    fn remove(&mut self, user: &RequestedName, number: Number) -> Option<J> {
        let wanted = self.wanted.get_mut(user)?;
        let index = wanted.iter().position(|(other, _)| *other == number)?;
        let (_, job) = wanted.remove(index)?;
        self.wishes -= 1;
        if wanted.is_empty() {
            self.wanted.remove(user);
        }
        Some(job)
    }
}

/// A token bucket: so many a second.
#[derive(Debug)]
struct Allowance {
    rate: f64,
    saved: f64,
    at: Option<Instant>,
}

impl Allowance {
    fn new(rate: f64) -> Self {
        Self { rate, saved: (rate * SAVED).max(1.0), at: None }
    }

    /// Takes one, or says when there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.saved = (self.saved + since.as_secs_f64() * self.rate).min((self.rate * SAVED).max(1.0));
        if self.saved >= 1.0 {
            self.saved -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.saved) / self.rate))
    }
}

#[cfg(test)]
mod tests;
