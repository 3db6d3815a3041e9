//! What runs until the process is told to stop, and the stop.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::audit::AuditWriter;
use crate::shutdown::ShutdownTrigger;

