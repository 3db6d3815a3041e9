//! Who is asked about revocation: the engine, or a script in unit tests of this room.

use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::UnixTime;

use crate::revocation::{Link, Revocation, Verdict};

#[derive(Clone, Debug)]
pub(in crate::tls) enum Oracle {
    Engine(Arc<Revocation>),
    #[cfg(test)]
    Scripted(Arc<crate::tls::tests::Script>),
}

impl Oracle {
    pub(in crate::tls) fn status(&self, path: &[Link<'_>], now: UnixTime) -> Verdict {
        match self {
            Self::Engine(engine) => engine.status(path, now),
            #[cfg(test)]
            Self::Scripted(script) => script.status(path, now),
        }
    }

    pub(in crate::tls) async fn settle(&self, path: &[Link<'_>], now: UnixTime, deadline: Instant) -> Verdict {
        match self {
            Self::Engine(engine) => engine.settle(path, now, deadline).await,
            #[cfg(test)]
            Self::Scripted(script) => script.settle(path, now, deadline).await,
        }
    }

    pub(in crate::tls) fn generation(&self) -> u64 {
        match self {
            Self::Engine(engine) => engine.generation(),
            #[cfg(test)]
            Self::Scripted(script) => script.generation(),
        }
    }
}
