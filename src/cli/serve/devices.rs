//! From a TCP connection to a caller, and the caller's certificate judged again and again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::cli::admission::{Admission, JUDGEMENT_TIMEOUT};
use crate::failure::Failure;
use crate::identity::Principal;
use crate::proxy::{self, Caller, Judgement, Refusal, Standing};
use crate::roster::{Roster, Sighting};
use crate::tls::{self, ClientCertificate, HandshakeRefused, Recheck};
use crate::x509::Claims;

/// Devices of one connection that are remembered.
const MAX_DEVICES: usize = 8;

/// Lets devices in: TLS, admission, claims, mapping.
pub(super) struct Devices {
    pub(super) acceptor: tls::Acceptor,
    pub(super) roster: Arc<Roster>,
    admission: RwLock<Arc<Admission>>,
}

impl Devices {
    pub(super) fn new(acceptor: tls::Acceptor, admission: Arc<Admission>) -> Arc<Self> {
        Arc::new(Self { acceptor, roster: Arc::default(), admission: RwLock::new(admission) })
    }

    /// What certificates are judged by now.
    pub(super) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on judges by this: new connections, and at their next request or within `recheck_interval` those that are open.
    pub(super) fn replace(&self, admission: Arc<Admission>, credentials: Option<tls::Credentials>) -> Result<(), Failure> {
        let trust = Arc::clone(&admission.trust);
        match credentials {
            Some(credentials) => self.acceptor.replace(credentials, trust)?,
            None => self.acceptor.replace_trust(trust)?,
        }
        *self.admission.write().unwrap_or_else(PoisonError::into_inner) = admission;
        Ok(())
    }
}

/// The door of `proxy::serve`.
pub(super) struct Door(pub(super) Arc<Devices>);

impl proxy::Acceptor for Door {
    type Io = TlsStream<TcpStream>;

    async fn accept(&self, tcp: TcpStream, _peer: SocketAddr) -> Result<(Self::Io, Caller), Refusal> {
        let (stream, certificate) = self.0.acceptor.accept(tcp).await.map_err(refusal)?;
        let facts = certificate.facts().clone();
        let claims = Claims::read(&certificate);
        let admitted = Admitted {
            devices: Arc::clone(&self.0),
            certificate,
            claims,
            device_ids: Mutex::default(),
            account: Mutex::default(),
        };
        Ok((stream, Caller { certificate: facts, standing: Arc::new(admitted) }))
    }
}

fn refusal(refused: HandshakeRefused) -> Refusal {
    Refusal { failure: refused.failure, certificate: refused.certificate }
}

/// A certificate that was let in, judged by today's trust, revocation and mapping.
struct Admitted {
    devices: Arc<Devices>,
    certificate: ClientCertificate,
    claims: Result<Claims, Failure>,
    device_ids: Mutex<Vec<String>>,
    /// Whom it stood for last, for the roster.
    account: Mutex<Option<Arc<Principal>>>,
}

impl Standing for Admitted {
    fn account(&self) -> Judgement<'_> {
        let admission = self.devices.admission();
        match admission.trust.still_admits(&self.certificate, UnixTime::now()) {
            Recheck::Refused(failure) => Judgement::Known(Err(failure)),
            Recheck::Ask => Judgement::Asking(Box::pin(self.readmitted(admission))),
            Recheck::Stands => match admission.mapper.known(&self.certificate) {
                Some(account) => Judgement::Known(self.noted(account)),
                None => Judgement::Asking(Box::pin(self.mapped(admission))),
            },
        }
    }

    fn unvouched(&self) -> Option<Failure> {
        self.certificate.unvouched()
    }

    fn note_device(&self, device: &str) {
        let mut known = self.device_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_DEVICES || known.iter().any(|one| one == device) {
            return;
        }
        known.push(device.to_owned());
        drop(known);
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(account) = account {
            self.sighted(&account, Some(device));
        }
    }

    fn recheck_interval(&self) -> Duration {
        self.devices.admission().recheck_interval
    }
}

impl Admitted {
    async fn readmitted(&self, admission: Arc<Admission>) -> Result<Arc<Principal>, Failure> {
        admission.trust.readmit(&self.certificate, UnixTime::now(), Instant::now() + JUDGEMENT_TIMEOUT).await?;
        self.mapped(admission).await
    }

    async fn mapped(&self, admission: Arc<Admission>) -> Result<Arc<Principal>, Failure> {
        let claims = self.claims.as_ref().map_err(Clone::clone)?;
        self.noted(admission.mapper.resolve(&self.certificate, claims, Instant::now() + JUDGEMENT_TIMEOUT).await)
    }

    /// Notes in the roster whom the certificate stands for, once per connection and account.
    fn noted(&self, account: Result<Arc<Principal>, Failure>) -> Result<Arc<Principal>, Failure> {
        let account = account?;
        let mut known = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace(Arc::clone(&account));
        drop(known);
        if before.as_ref() != Some(&account) {
            self.sighted(&account, None);
        }
        Ok(account)
    }

    fn sighted(&self, account: &Principal, device: Option<&str>) {
        let facts = self.certificate.facts();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.devices.roster.note(Sighting {
            certificate: facts.fingerprint,
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            not_after: facts.not_after,
            principal: account.to_string(),
            device: device.map(ToOwned::to_owned),
            at: i64::try_from(since).unwrap_or(i64::MAX),
        });
    }
}
