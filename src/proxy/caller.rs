//! Who is at the other end of a device's connection: asked before every request and on a timer, since connections live longer than
//! certificates, CRLs and accounts.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::certificate::CertificateFacts;
use crate::failure::{Answer, Failure};
use crate::identity::Principal;

/// The device's side of one connection, after its certificate was verified.
#[derive(Clone)]
pub struct Caller {
    /// For the audit event, and for the grant.
    pub certificate: CertificateFacts,
    /// Whether the certificate still counts, and for whom.
    pub standing: Arc<dyn Standing>,
}

/// Judges one connection's certificate again and again.
pub trait Standing: Send + Sync {
    /// The account the certificate stands for now. Refuses when it has expired, was revoked, is no longer trusted, or maps to no
    /// account that may be impersonated.
    fn account(&self) -> Judgement<'_>;

    /// Why it is let in although nothing says that its certificate is not revoked, as judged last; mostly nothing.
    fn unvouched(&self) -> Option<Failure> {
        None
    }

    /// Notes that a request named this ActiveSync device: for forecasts, believed by nobody.
    fn note_device(&self, _device: &str) {}

    /// How often a connection is judged on which no request begins.
    fn recheck_interval(&self) -> Duration;
}

/// What [`Standing`] says.
pub enum Judgement<'a> {
    /// Known without asking anybody: the case of nearly every request.
    Known(Result<Arc<Principal>, Failure>),
    /// Somebody has to be asked; bounded in time.
    Asking(Pin<Box<dyn Future<Output = Result<Arc<Principal>, Failure>> + Send + 'a>>),
}

impl Judgement<'_> {
    /// The answer, however long it takes.
    pub async fn settled(self) -> Result<Arc<Principal>, Failure> {
        match self {
            Self::Known(account) => account,
            Self::Asking(answer) => answer.await,
        }
    }
}

/// A connection's account as judged last, and the end of it.
#[derive(Debug)]
pub(super) struct Account {
    last: Mutex<Option<Arc<Principal>>>,
    ended: watch::Sender<Option<Failure>>,
}

impl Account {
    pub(super) fn new() -> Self {
        Self { last: Mutex::default(), ended: watch::Sender::new(None) }
    }

    /// Notes a judgement. Returns whom it ended: the principal this connection spoke for until now, and no longer does.
    pub(super) fn note(&self, judged: &Result<Arc<Principal>, Failure>) -> Option<Arc<Principal>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match judged {
            Ok(principal) => last.replace(Arc::clone(principal)).filter(|before| before != principal),
            // Our own trouble says nothing about the certificate or the account.
            Err(failure) if failure.cause.answer() == Answer::Unavailable => None,
            Err(_) => last.take(),
        }
    }

    /// Whom the connection spoke for last.
    pub(super) fn last(&self) -> Option<Arc<Principal>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what is in flight on the connection.
    pub(super) fn end(&self, failure: Failure) {
        self.ended.send_replace(Some(failure));
    }

    /// Why the connection was ended, if it was.
    pub(super) fn why_ended(&self) -> Option<Failure> {
        self.ended.borrow().clone()
    }

    /// Ready when the connection is ended.
    pub(super) async fn ended(&self) -> Failure {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // The sender lives in `self`: it cannot have gone.
            _ => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
