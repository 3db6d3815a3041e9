//! What OCSP did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// What was done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct OcspCounts {
            $( $(#[$doc])* pub(crate) $name: u64, )*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $( pub(super) $name: AtomicU64, )*
        }

        impl Counters {
            pub(super) fn read(&self) -> OcspCounts {
                OcspCounts { $( $name: self.$name.load(Ordering::Relaxed), )* }
            }
        }
    };
}

counters! {
    /// Requests sent to responders.
    asked
    /// Certificates a responder called good.
    good
    /// Certificates a responder called revoked.
    revoked
    /// Certificates nobody vouched for.
    unvouched
    /// Certificates about which somebody spoke who may not.
    untrusted
    /// Questions not asked because the responder is left alone.
    breaker_open
    /// Requests without an HTTP answer that could be used.
    fetch_errors
    /// Bytes of responses.
    bytes
}

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
}
