//! One request as a list of steps.

#![forbid(unsafe_code)]

mod config;

pub use config::{Authority, BackendConfig, Mutual, Profile, RouteConfig, Transport};
