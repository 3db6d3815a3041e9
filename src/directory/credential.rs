//! The password for the simple bind, and the care not to lock its account out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::certificate::{LoadError, read_bounded};
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
    /// Held while a bind is under way: one at a time, so that a wrong password is shown once and not by every connection.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    password: SecretBytes,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    until: Instant,
    rest: Duration,
    failure: Failure,
}

impl Credential {
    /// Reads the password.
    pub(super) fn load(user: &str, file: &Path, first_rest: Duration) -> Result<Self, LoadError> {
        if user.is_empty() {
            // An empty name would be an anonymous bind, which succeeds and may do nothing (RFC 4513 section 5.1.1).
            return Err(LoadError::new(file, "has a password for no user", "name the account in directory.bind_user"));
        }
        let state = State { password: read_password(file)?, refusal: None };
        Ok(Self { user: user.to_owned(), file: file.to_owned(), first_rest, state: Mutex::new(state) })
    }

    /// Binds on a connection that TLS protects. A refused password is read anew from its file: if that has another one, it is tried
    /// at once, and else none is tried before the file changes or the rest is over.
    pub(super) async fn bind(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send)) -> Result<(), Trouble> {
        let mut state = self.state.lock().await;
        if let Some(refusal) = &state.refusal
            && Instant::now() < refusal.until
        {
            let failure = refusal.failure.clone();
            if !self.renew(&mut state).await {
                return Err(Trouble::Credentials(failure));
            }
        }
        let mut refused = match self.attempt(stream, &state.password).await? {
            None => {
                state.refusal = None;
                return Ok(());
            }
            Some(failure) => failure,
        };
        if self.renew(&mut state).await {
            match self.attempt(stream, &state.password).await? {
                None => {
                    state.refusal = None;
                    return Ok(());
                }
                Some(failure) => refused = failure,
            }
        }
        let rest = state.refusal.as_ref().map_or(self.first_rest, |refusal| (refusal.rest * 2).min(LONGEST_REST));
        tracing::error!(
            cause = refused.cause.code(),
            detail = %refused.detail,
            remedy = refused.cause.remedy(),
            rest = ?rest,
            "the directory does not accept our password; it is not shown again before the file changes or the rest is over"
        );
        state.refusal = Some(Refusal { until: Instant::now() + rest, rest, failure: refused.clone() });
        Err(Trouble::Credentials(refused))
    }

    /// One bind; a refusal is returned.
    async fn attempt(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
        password: &SecretBytes,
    ) -> Result<Option<Failure>, Trouble> {
        let request = ber::simple_bind(&self.user, password.expose());
        let outcome = exchange(stream, &request, ber::BIND_RESPONSE).await?;
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

    /// Reads the file again; whether it has another password than before.
    async fn renew(&self, state: &mut State) -> bool {
        let file = self.file.clone();
        match tokio::task::spawn_blocking(move || read_password(&file)).await {
            Ok(Ok(password)) if password.expose() != state.password.expose() => {
                tracing::info!(file = %self.file.display(), "the directory password was read anew");
                state.password = password;
                true
            }
            Ok(Ok(_)) => false,
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "the directory password cannot be read anew");
                false
            }
            Err(_) => false,
        }
    }
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
    if header.contents > MAX_RESPONSE {
        return Err(Trouble::nonsense(ber::Malformed::TooLarge.to_string()));
    }
    message.resize(header.total(), 0);
    stream.read_exact(message.get_mut(header.header..).unwrap_or_default()).await.map_err(broken)?;
    ber::response(&message, 1, response).map_err(|malformed| Trouble::nonsense(malformed.to_string()))
}
