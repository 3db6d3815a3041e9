//! Which certificates are let in, as whom, and what a refused device and an administrator are told.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod admission;
mod forge;
mod handshake;
mod loading;
mod mapping;
mod pki;
mod policy_table;
mod rules;
