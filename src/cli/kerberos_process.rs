//! What a process that uses libkrb5 does before its second thread: the relay's port, the private krb5.conf, the environment.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::warn;

use crate::kerberos::acquire::gss;
use crate::kerberos::acquire::krb5_conf::{self, PrivateFile};
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::relay::{BoundRelay, Relay};

/// Keys live in this process, some of them in a library that does not wipe them: no core dump, no ptrace by others (decision 10c).
pub(in crate::cli) fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        warn!(%error, "core dumps cannot be switched off by limit");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "the process cannot be made undumpable");
    }
}

/// Binds the relay, writes the krb5.conf that names it, and points libkrb5 there. The file is removed when the second value is dropped.
pub(in crate::cli) fn prepare(config: &KerberosConfig, allow_rc4: bool) -> Result<(BoundRelay, PrivateFile), String> {
    let relay = Relay::bind().map_err(|error| format!("no loopback port for the KDC relay: {error}"))?;
    let text = krb5_conf::render(config, relay.port(), allow_rc4);
    let file = PrivateFile::write(&config.runtime_directory, &text).map_err(|error| error.to_string())?;
    gss::set_environment(file.path()).map_err(|error| error.to_string())?;
    Ok((relay, file))
}
