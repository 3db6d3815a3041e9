//! The bridge against a real Active Directory domain, a real Negotiate-only back end and a plain MIT realm.
//! Started by `integration/lab.sh run -- cargo test --test integration`.

mod support;

mod bridge;
mod delegation;
mod isolation;
mod minting;
mod quiet_hit;
