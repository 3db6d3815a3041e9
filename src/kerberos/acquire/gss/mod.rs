//! A safe vocabulary over MIT's GSS-API: acquire, impersonate, delegate, export. The only importer of `libgssapi`.
//!
//! Every call may block on the KDC: only acquisition workers and the reference engine call in here, never a runtime thread.

mod error;
mod ffi;

use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::credential::Cred;
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_NT_KRB5_PRINCIPAL};
use zeroize::Zeroizing;

use crate::identity::RequestedName;
use crate::naming::name::{OwnPrincipal, Spn};

pub use error::GssError;
pub use ffi::set_environment;

/// The context flags both engines ask for: mutual, replay, sequence, integrity. Never delegation (kerberos 0x1).
fn flags() -> CtxFlags {
    CtxFlags::GSS_C_MUTUAL_FLAG | CtxFlags::GSS_C_REPLAY_FLAG | CtxFlags::GSS_C_SEQUENCE_FLAG | CtxFlags::GSS_C_INTEG_FLAG
}

/// Our own ticket-granting ticket in a private memory cache. Belongs to one worker thread.
pub struct Impersonator {
    credential: ffi::Credential,
    lifetime: Duration,
}

impl Impersonator {
    /// Gets, or refreshes, our TGT from the keytab into `MEMORY:cache`. Nothing default is in reach (decision 7e).
    pub fn acquire(own: &OwnPrincipal, keytab: &Path, cache: &str) -> Result<Self, GssError> {
        let keytab = c_string(format!("FILE:{}", keytab.display()))?;
        let cache = c_string(format!("MEMORY:{cache}"))?;
        let store = [(c"client_keytab", keytab.as_c_str()), (c"ccache", cache.as_c_str())];
        let credential =
            ffi::acquire_from(Some(own.to_string().as_bytes()), ffi::Usage::Initiate, &store).map_err(GssError::from_library)?;
        // Acquiring is lazy; asking for the lifetime makes the library talk to the KDC now.
        let lifetime = credential.cred().lifetime().map_err(GssError::from_library)?;
        Ok(Self { credential, lifetime })
    }

    /// What was left of the TGT's life when this was acquired.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// S4U2Self: an evidence ticket for `user` (MS-SFU 3.1.5.1.1).
    pub fn impersonate(&self, user: &RequestedName) -> Result<Impersonated, GssError> {
        let (text, name_type) = match user {
            RequestedName::Enterprise(upn) => (upn.to_string(), ffi::oid::ENTERPRISE_NAME),
            RequestedName::Account { name, realm } => (format!("{}@{realm}", escape(name)), ffi::oid::PRINCIPAL_NAME),
        };
        ffi::impersonate(&self.credential, text.as_bytes(), name_type).map(Impersonated).map_err(GssError::from_library)
    }

    /// Our own credential as one to initiate contexts with: tests compare both engines over tickets that were not delegated.
    pub fn credential(&self) -> UserCredential {
        UserCredential(self.credential.cred())
    }

    /// Every ticket and key of this credential, serialised.
    pub fn export(&self) -> Result<Zeroizing<Vec<u8>>, GssError> {
        ffi::export(&self.credential).map_err(GssError::from_library)
    }
}

/// A credential that speaks for a user: the evidence ticket, later also the service ticket.
pub struct Impersonated(ffi::Credential);

impl Impersonated {
    /// S4U2Proxy (MS-SFU 3.1.5.2.1): the first context initiation fetches the service ticket into the credential; its token is
    /// thrown away. Only the encryption types listed are offered to the KDC.
    pub fn delegate(&self, spn: &Spn, enctypes: &[i32]) -> Result<(), GssError> {
        ffi::set_allowable_enctypes(&self.0, enctypes).map_err(GssError::from_library)?;
        ReferenceContext::initiate(&self.credential(), spn, None).map(drop)
    }

    /// Every ticket and key of this credential, serialised.
    pub fn export(&self) -> Result<Zeroizing<Vec<u8>>, GssError> {
        ffi::export(&self.0).map_err(GssError::from_library)
    }

    /// What the reference engine mints from; it may go to any thread.
    pub fn credential(&self) -> UserCredential {
        UserCredential(self.0.cred())
    }
}

/// A user's credential, with its tickets inside the library.
#[derive(Clone)]
pub struct UserCredential(Cred);

impl UserCredential {
    /// The library's own handle, for tests that show what a wrong mechanism would do with it.
    pub fn cred(&self) -> Cred {
        self.0.clone()
    }
}

impl fmt::Debug for UserCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The library's own Debug asks the KDC and prints names.
        f.write_str("UserCredential")
    }
}

/// A context of the reference engine: the library mints the token and verifies the answer.
pub struct ReferenceContext {
    context: ClientCtx,
    binding: Option<Vec<u8>>,
}

impl fmt::Debug for ReferenceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReferenceContext")
    }
}

impl ReferenceContext {
    /// A raw Kerberos AP-REQ token for `spn` and the context that waits for its AP-REP. Always the krb5 mechanism, the one the
    /// credential was made for: with SPNEGO the library would silently use a default credential instead.
    pub fn initiate(credential: &UserCredential, spn: &Spn, binding: Option<&[u8]>) -> Result<(Vec<u8>, Self), GssError> {
        // An empty realm: S4U2Proxy starts in our own realm and follows referrals.
        let target = Name::new(format!("{spn}@").as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).map_err(GssError::from_library)?;
        let mut context = ClientCtx::new(Some(credential.cred()), target, flags(), Some(GSS_MECH_KRB5));
        let token = context.step(None, binding).map_err(GssError::from_library)?;
        let token = token.ok_or_else(|| GssError::without_codes("the library made no token"))?;
        Ok((token.to_vec(), Self { context, binding: binding.map(<[u8]>::to_vec) }))
    }

    /// Verifies the raw Kerberos AP-REP token.
    pub fn verify(mut self, answer: &[u8]) -> Result<(), GssError> {
        self.context.step(Some(answer), self.binding.as_deref()).map(drop).map_err(GssError::from_library)
    }
}

/// A parsed krb5.conf stays alive in the library as long as any Kerberos context does: holding one makes the reference engine
/// three times as fast.
pub struct KeepConfigurationParsed(#[expect(dead_code, reason = "held for its effect")] ClientCtx);

impl KeepConfigurationParsed {
    /// Keeps a context that was initiated with this credential.
    pub fn with(credential: &UserCredential, spn: &Spn) -> Result<Self, GssError> {
        ReferenceContext::initiate(credential, spn, None).map(|(_, kept)| Self(kept.context))
    }
}

/// In a principal's text `\`, `/` and `@` inside a component are escaped with a backslash.
fn escape(component: &str) -> String {
    let mut out = String::with_capacity(component.len());
    for c in component.chars() {
        if matches!(c, '\\' | '/' | '@') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn c_string(text: String) -> Result<CString, GssError> {
    CString::new(text).map_err(|_| GssError::without_codes("a name or path contains a NUL byte"))
}

/// What tests and diagnosis need besides: an acceptor, and a client from a plain keytab.
pub mod acceptor {
    use std::path::Path;

    use libgssapi::context::{SecurityContext, ServerCtx};

    use super::{GssError, c_string, ffi};

    /// An acceptor with its own keytab and replay cache.
    pub struct Acceptor(ffi::Credential);

    /// What an accepted token says.
    #[derive(Debug)]
    pub struct Accepted {
        /// client name as the library displays it
        pub client: String,
        /// the token to answer with, if any
        pub answer: Option<Vec<u8>>,
        /// whether the context needs no further token
        pub complete: bool,
    }

    impl Acceptor {
        /// Accepts for every key of `keytab`, remembering tokens in the replay cache file `replay_cache` (`None`: no replay check).
        pub fn new(keytab: &Path, replay_cache: Option<&Path>) -> Result<Self, GssError> {
            let keytab = c_string(format!("FILE:{}", keytab.display()))?;
            let rcache = c_string(replay_cache.map_or_else(|| "none:".into(), |path| format!("file2:{}", path.display())))?;
            let store = [(c"keytab", keytab.as_c_str()), (c"rcache", rcache.as_c_str())];
            ffi::acquire_from(None, ffi::Usage::Accept, &store).map(Self).map_err(GssError::from_library)
        }

        /// Accepts one token.
        pub fn accept(&self, token: &[u8], binding: Option<&[u8]>) -> Result<Accepted, GssError> {
            let mut context = ServerCtx::new(Some(self.0.cred()));
            let answer = context.step(token, binding).map_err(GssError::from_library)?.map(|answer| answer.to_vec());
            let name = context.source_name().map_err(GssError::from_library)?;
            let client = name.display_name().map_err(GssError::from_library)?;
            Ok(Accepted { client: String::from_utf8_lossy(&client).into_owned(), answer, complete: context.is_complete() })
        }
    }
}
