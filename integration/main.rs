//! The bridge against a real Active Directory domain, a real Negotiate-only back end and a plain MIT realm.
//! Started by `integration/lab.sh run -- cargo test --test integration`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::unnecessary_debug_formatting,
    clippy::type_complexity,
    clippy::format_collect,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

mod acceptance;
mod bridge;
mod canary;
mod certificates;
mod chaos;
mod delegation;
mod directory;
mod doctor;
mod encryption;
mod explain;
mod isolation;
mod keytabs;
mod lifetime;
mod mapping;
mod minting;
mod quiet_hit;
mod realms;
mod refusals;
mod relay;
mod revocation;
mod self_test;
