//! What a relay might have seen, for tests of what is told of it.

use std::time::Duration;

use crate::kerberos::relay::locate::Kdc;
use crate::kerberos::relay::numbers::Asked;
use crate::kerberos::relay::observer::RelayObserver;
use crate::kerberos::relay::request::Kind;
use crate::kerberos::relay::transport::AttemptError;

/// One KDC that answered S4U2Self, refused S4U2Proxy and is silent now, its clock a minute behind; and one that is gone.
pub(crate) fn observer() -> RelayObserver {
    let observer = RelayObserver::default();
    let kdc = Kdc { host: "dc1.corp.example".into(), address: ([192, 0, 2, 1], 88).into() };
    let gone = Kdc { host: "192.0.2.9".into(), address: ([192, 0, 2, 9], 88).into() };
    let answered = |millis, error| Asked::Answered { took: Duration::from_millis(millis), error };
    let silent = Asked::Failed { reason: AttemptError::TimedOut, fair: true };
    observer.asked("CORP.EXAMPLE", &gone, Kind::As, answered(1, None));
    observer.located("CORP.EXAMPLE", std::slice::from_ref(&kdc));
    observer.asked("CORP.EXAMPLE", &kdc, Kind::S4u2Self, answered(3, None));
    observer.asked("CORP.EXAMPLE", &kdc, Kind::S4u2Proxy, answered(9000, Some(13)));
    observer.asked("CORP.EXAMPLE", &kdc, Kind::S4u2Self, silent);
    observer.clock("CORP.EXAMPLE", &kdc, -61_500);
    observer
}
