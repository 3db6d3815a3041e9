//! Sessions kept for resumption, in memory.

use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::tls::verifier::Attempt;

/// Two tickets a device in TLS 1.3: some 4000 devices.
const CAPACITY: usize = 8192;
/// A session holds the certificates the device presented; larger ones are not kept.
const MAX_SESSION_BYTES: usize = 16 << 10;

/// The TLS library's cache, bounded in bytes, that tells a handshake's [`Attempt`] which sessions it touched.
#[derive(Debug)]
pub(in crate::tls) struct Sessions(Arc<ServerSessionMemoryCache>);

impl Sessions {
    pub(in crate::tls) fn new() -> Arc<Self> {
        Arc::new(Self(ServerSessionMemoryCache::new(CAPACITY)))
    }

    /// Makes these sessions unusable, so that a device whose certificate was refused on resumption offers its certificate,
    /// perhaps a renewed one, the next time.
    pub(in crate::tls) fn forget(&self, keys: &[Vec<u8>]) {
        for key in keys {
            self.0.take(key);
        }
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        if value.len() > MAX_SESSION_BYTES {
            return false;
        }
        Attempt::note(|attempt| attempt.sessions.push(key.clone()));
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.0.get(key)?;
        Attempt::note(|attempt| attempt.sessions.push(key.to_vec()));
        Some(value)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_holds_too_large_a_chain_is_not_kept() {
        let sessions = Sessions::new();
        assert!(sessions.put(vec![1], vec![0; MAX_SESSION_BYTES]));
        assert!(!sessions.put(vec![2], vec![0; MAX_SESSION_BYTES + 1]));
        assert!(sessions.get(&[1]).is_some() && sessions.get(&[2]).is_none());
    }

    #[test]
    fn a_forgotten_session_is_not_resumed() {
        let sessions = Sessions::new();
        sessions.put(vec![1], vec![0]);
        sessions.put(vec![2], vec![0]);
        sessions.forget(&[vec![1]]);
        assert!(sessions.get(&[1]).is_none() && sessions.get(&[2]).is_some());
    }
}
