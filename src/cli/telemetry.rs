//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogConfig;

/// Starts logging as `[log]` says. Called once.
pub(in crate::cli) fn start(config: &LogConfig) -> Result<(), String> {
    let level = config.level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log.level: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = if config.json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|error| format!("logging cannot be started: {error}"))
}
