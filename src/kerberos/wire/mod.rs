//! Bytes on the wire: encryption types, tickets, AP-REQ and AP-REP, SPNEGO, KRB-ERROR. Pure functions of their arguments; every
//! parser is total.

pub mod ap_rep;
pub mod asn1;
pub mod authenticator_clock;
pub mod challenge;
pub mod crypto;
pub mod error_data;
pub mod framing;
#[doc(hidden)]
pub mod inspect;
pub mod krb_error;
pub mod mint;
pub mod spnego;
pub mod ticket;
