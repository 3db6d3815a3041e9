//! The password for the simple bind, and the care not to lock its account out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::certificate::{LoadError, read_bounded};
use crate::der::tag;
use crate::directory::ber::{self, Header};
use crate::directory::trouble::{Trouble, bind_refusal, describe};
use crate::failure::{Cause, Failure};
use crate::secret::SecretBytes;

/// No password is longer.
const MAX_PASSWORD_FILE: u64 = 4096;
/// No answer to a bind or to StartTLS is longer.
const MAX_RESPONSE: usize = 16 * 1024;
const INVALID_CREDENTIALS: u32 = 49;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
/// A refused password is shown to no server for this long, doubled each time.
const LONGEST_REST: Duration = Duration::from_mins(16);

/// Who binds, and with what.
#[derive(Debug)]
pub(super) struct Credential {
    user: String,
    file: PathBuf,
    first_rest: Duration,
    state: Mutex<State>,
    /// When the bind under way began: one at a time, so that a wrong password is shown once and not by every connection.
    turn: Mutex<Option<Instant>>,
    turn_ended: Notify,
}

#[derive(Debug)]
struct State {
    password: Arc<SecretBytes>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    until: Instant,
    rest: Duration,
    failure: Failure,
}

/// Ends a turn, also that of a bind that was given up.
struct Turn<'a>(&'a Credential);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.turn) = None;
        self.0.turn_ended.notify_one();
    }
}

impl Credential {
    /// Reads the password.
    pub(super) fn load(user: &str, file: &Path, first_rest: Duration) -> Result<Self, LoadError> {
        if user.is_empty() {
            // An empty name would be an anonymous bind, which succeeds and may do nothing (RFC 4513 section 5.1.1).
            return Err(LoadError::new(file, "has a password for no user", "name the account in directory.bind_user"));
        }
        let state = State { password: Arc::new(read_password(file)?), refusal: None };
        let (user, file, turn_ended) = (user.to_owned(), file.to_owned(), Notify::new());
        Ok(Self { user, file, first_rest, state: Mutex::new(state), turn: Mutex::default(), turn_ended })
    }

    /// Binds on a connection that TLS protects. A refused password is read anew from its file: if that has another one, it is tried
    /// at once, and else none is tried before the file changes or the rest is over. One bind takes `limit` at most; `queued` is true
    /// while others are waited for.
    pub(super) async fn bind(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
        limit: Duration,
        queued: &AtomicBool,
    ) -> Result<(), Trouble> {
        queued.store(true, Ordering::Relaxed);
        let turn = timeout(limit * 2, self.turn(limit / 8)).await;
        let _turn = turn.map_err(|_| Trouble::busy("another bind is under way"))?;
        queued.store(false, Ordering::Relaxed);
        let mut password = lock(&self.state).password.clone();
        if let Some(failure) = self.refused_yet() {
            match self.renewed(&password).await {
                Some(other) => password = other,
                None => return Err(Trouble::Credentials(failure)),
            }
        }
        let mut refused = self.attempt(stream, limit, &password).await?;
        if refused.is_some()
            && let Some(other) = self.renewed(&password).await
        {
            refused = self.attempt(stream, limit, &other).await?;
        }
        match refused {
            None => {
                lock(&self.state).refusal = None;
                Ok(())
            }
            Some(failure) => {
                self.refuse(&failure);
                Err(Trouble::Credentials(failure))
            }
        }
    }

    /// Waits until no bind is under way, or the last one began so long ago that its server must be a silent one.
    async fn turn(&self, patience: Duration) -> Turn<'_> {
        loop {
            let wait = {
                let mut turn = lock(&self.turn);
                match turn.map(|began| patience.saturating_sub(began.elapsed())) {
                    Some(wait) if !wait.is_zero() => wait,
                    _ => {
                        *turn = Some(Instant::now());
                        return Turn(self);
                    }
                }
            };
            // Either way it is looked again.
            let _ = timeout(wait, self.turn_ended.notified()).await;
        }
    }

    /// The refusal whose rest is not over.
    fn refused_yet(&self) -> Option<Failure> {
        let state = lock(&self.state);
        state.refusal.as_ref().filter(|refusal| Instant::now() < refusal.until).map(|refusal| refusal.failure.clone())
    }

    fn refuse(&self, failure: &Failure) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let rest = match &state.refusal {
            None => self.first_rest,
            // Two were under way.
            Some(refusal) if now < refusal.until => refusal.rest,
            Some(refusal) => (refusal.rest * 2).min(LONGEST_REST),
        };
        state.refusal = Some(Refusal { until: now + rest, rest, failure: failure.clone() });
        drop(state);
        tracing::error!(
            cause = failure.cause.code(),
            detail = %failure.detail,
            remedy = failure.cause.remedy(),
            ?rest,
            "the directory does not accept our password; it is not shown again before the file changes or the rest is over"
        );
    }

    /// One bind; a refusal is returned.
    async fn attempt(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
        limit: Duration,
        password: &SecretBytes,
    ) -> Result<Option<Failure>, Trouble> {
        let request = ber::simple_bind(&self.user, password.expose());
        let answer = timeout(limit, exchange(stream, &request, ber::BIND_RESPONSE)).await;
        let late = || Trouble::unreachable(format!("no answer to the bind within {limit:?}"));
        let outcome = answer.map_err(|_| late())??;
        let said = || describe(outcome.code, &outcome.diagnostic);
        let refused = |meaning: &str| Failure::new(Cause::DirectoryRefused, format!("{}: {meaning}{}", self.user, said()));
        match outcome.code {
            0 => Ok(None),
            INVALID_CREDENTIALS | INAPPROPRIATE_AUTHENTICATION => {
                Ok(Some(refused(&bind_refusal(&outcome.diagnostic).map_or_else(String::new, |why| format!("{why}; ")))))
            }
            51 | 52 => Err(Trouble::unreachable(said())),
            _ => Err(Trouble::Server(refused(""))),
        }
    }

    /// The file's password, if that is another one than the one that was tried.
    async fn renewed(&self, tried: &SecretBytes) -> Option<Arc<SecretBytes>> {
        let file = self.file.clone();
        match tokio::task::spawn_blocking(move || read_password(&file)).await {
            Ok(Ok(password)) if password.expose() != tried.expose() => {
                tracing::info!(file = %self.file.display(), "the directory password was read anew");
                let password = Arc::new(password);
                lock(&self.state).password = password.clone();
                Some(password)
            }
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "the directory password cannot be read anew");
                None
            }
            Ok(Ok(_)) | Err(_) => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first line. An empty password would be an unauthenticated bind, which succeeds for every name (RFC 4513 section 5.1.2).
fn read_password(file: &Path) -> Result<SecretBytes, LoadError> {
    let bytes = Zeroizing::new(read_bounded(file, MAX_PASSWORD_FILE)?);
    let line = bytes.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(LoadError::new(file, "has no password in its first line", "put the bind password there"));
    }
    Ok(SecretBytes::new(line.to_vec()))
}

/// Sends a request with message number 1 and reads the one answer to it, not a byte further.
pub(super) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    request: &[u8],
    response: u8,
) -> Result<ber::Outcome, Trouble> {
    let broken = |error: std::io::Error| Trouble::unreachable(format!("the connection broke: {error}"));
    stream.write_all(request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut message = Vec::new();
    let header = loop {
        match Header::read(&message).map_err(|malformed| Trouble::nonsense(malformed.to_string()))? {
            Some(header) => break header,
            None => message.push(stream.read_u8().await.map_err(broken)?),
        }
    };
    if header.tag != tag::SEQUENCE || header.contents > MAX_RESPONSE {
        return Err(Trouble::nonsense("its first answer is no LDAP message, or a very long one"));
    }
    message.resize(header.total(), 0);
    stream.read_exact(message.get_mut(header.prefix..).unwrap_or_default()).await.map_err(broken)?;
    ber::response(&message, 1, response).map_err(|malformed| Trouble::nonsense(malformed.to_string()))
}
