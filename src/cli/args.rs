//! What can be asked of the command: help, man pages and completions come from these definitions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{DEFAULT_PATH, kdc_address};
use crate::kerberos::config::KdcAddress;
use crate::naming::name::{OwnPrincipal, Spn};
use crate::x509::Upn;

/// Client certificates in, Kerberos constrained delegation out.
///
/// Devices prove themselves with a client certificate; kcd-bridge maps it to exactly one Active Directory account, gets a ticket on
/// that user's behalf (S4U2Self, S4U2Proxy) and passes each request on to a server that accepts only Negotiate.
#[derive(Debug, Parser)]
#[command(name = "kcd-bridge", version, after_help = EXIT_CODES)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 good, 1 a finding, 2 usage, 3 could not run.";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Run the bridge until it is told to stop (SIGTERM, SIGINT)
    #[command(after_help = "Exit codes: 0 stopped as told, 2 usage, 3 could not start or go on.")]
    Serve(ConfigArg),
    /// Examine the configuration and every file it names
    ///
    /// Reports everything at once, errors first: mistakes in the file; certificates, keys, CRLs and keytabs that are missing,
    /// unreadable, expired, of the wrong kind or readable by too many; and, as notes, every weak setting in use.
    #[command(
        after_help = "Exit codes: 0 good (notes do not count), 1 errors or warnings, 2 usage, 3 the configuration cannot be read."
    )]
    Check(CheckArgs),
    /// Try delegation for one user and one back end, stage by stage
    ///
    /// Keytab, KDC, ticket-granting ticket, S4U2Self, S4U2Proxy, HTTP: each stage with a verdict, its raw cause and what repairs it.
    #[command(after_help = EXIT_CODES)]
    Doctor(Box<DoctorArgs>),
    /// Say what would become of client certificates, and why
    ///
    /// For every certificate: what it says, whether it would be let in, every mapping rule with what it computed and asked, and the
    /// decision with its reason and remedy. Several certificates, and directories of them, end with a summary, so that a whole
    /// population can be rehearsed. Nobody is impersonated: no KDC is asked.
    #[command(
        after_help = "Exit codes: 0 every certificate is mapped strongly, 1 some are mapped weakly, undecided or refused, 2 usage, 3 could not run."
    )]
    Explain(ExplainArgs),
    /// List the client certificates in use that end soon, by user and device, and the SPNs that stop working without RC4
    ///
    /// Reads audit logs. A certificate counts as renewed when the same user, on the same device where that is known, has been seen
    /// with one that ends later. An SPN is listed when any request in the logs went with an RC4 ticket or session key, or on the
    /// strength of an RC4 key of the bridge's own account.
    #[command(
        after_help = "Exit codes: 0 no certificate ends without a successor and nothing uses RC4, 1 otherwise, 2 usage, 3 a log cannot be read."
    )]
    Forecast(ForecastArgs),
    /// Write a page of the documentation from the tables in the program
    #[command(hide = true)]
    Docs {
        /// Which page
        page: Page,
    },
}

/// `kcd-bridge forecast`
#[derive(Clone, Debug, Args)]
pub struct ForecastArgs {
    /// Audit logs, rotated ones too; `-` is standard input
    #[arg(value_name = "AUDIT-LOG", required = true)]
    pub audit_logs: Vec<PathBuf>,
    /// How far to look ahead
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Write the report as JSON (version 1)
    #[arg(long)]
    pub json: bool,
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigArg {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// `kcd-bridge check`
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArg,
    /// Examine files only, ask no KDC and no back end; the only way there is in this version
    #[arg(long)]
    pub offline: bool,
    /// Write the findings as JSON (version 1)
    #[arg(long)]
    pub json: bool,
}

/// `kcd-bridge explain`
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Certificates: PEM or DER files, and directories of them with all that is below; an issuer in the same file is used too
    #[arg(value_name = "CERTIFICATE", required = true)]
    pub certificates: Vec<PathBuf>,
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArg,
    /// Ask neither the directory nor anybody about revocation: show what can be known without
    #[arg(long)]
    pub offline: bool,
    /// Write JSON (version 1)
    #[arg(long)]
    pub json: bool,
    /// Write the summary only
    #[arg(long)]
    pub summary: bool,
}

/// `kcd-bridge doctor`
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file: its account, KDCs and back ends
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "keytab")]
    pub config: PathBuf,
    /// Keytab of the delegating account, instead of a configuration
    #[arg(long, value_name = "FILE", requires = "principal")]
    pub keytab: Option<PathBuf>,
    /// The delegating account, name@REALM
    #[arg(long, value_name = "PRINCIPAL", requires = "keytab", value_parser = OwnPrincipal::parse)]
    pub principal: Option<OwnPrincipal>,
    /// KDCs of its realm, host or host:port; left out: DNS SRV
    #[arg(long, value_name = "HOST", requires = "keytab", num_args = 1.., value_parser = kdc_address)]
    pub kdc: Vec<KdcAddress>,
    /// Whom to try
    #[command(flatten)]
    pub user: UserArgs,
    /// What to try
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where that service principal name answers; left out: no HTTP request is made
    #[arg(long, value_name = "URL", requires = "spn", conflicts_with = "backend")]
    pub url: Option<String>,
    /// Write what the KDCs and the back end answered to this directory, without secrets and with example names; it must not exist or be empty
    #[arg(long, value_name = "DIRECTORY")]
    pub record: Option<PathBuf>,
    /// Words for the recording, such as case=sensitive or kdc="Windows Server 2022"; may be repeated
    #[arg(long, value_name = "KEY=WORDS", requires = "record", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Write the verdicts as JSON (version 1)
    #[arg(long)]
    pub json: bool,
}

/// A key in small letters, and words in one line.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, words) = text.split_once('=').ok_or("expected KEY=WORDS")?;
    let good = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && text.len() <= 200
        && !words.contains(char::is_control);
    if good { Ok((key.into(), words.into())) } else { Err("expected a-z, =, and up to 200 characters in one line".into()) }
}

/// Exactly one of them.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UserArgs {
    /// The user, by user principal name: name@suffix
    #[arg(long, value_name = "UPN", value_parser = Upn::parse)]
    pub user: Option<Upn>,
    /// The user, by the mapping of this certificate (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "keytab")]
    pub certificate: Option<PathBuf>,
}

/// Exactly one of them.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The back end, by its name in the configuration
    #[arg(long, value_name = "NAME", conflicts_with = "keytab")]
    pub backend: Option<String>,
    /// The back end, by its service principal name: HTTP/host
    #[arg(long, value_name = "SPN", value_parser = Spn::parse)]
    pub spn: Option<Spn>,
}

/// Pages that are written by the program.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Page {
    /// docs/configuration.md
    Configuration,
    /// docs/failures.md
    Failures,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_doctor_takes_a_configuration_or_a_keytab_and_exactly_one_user_and_target() {
        let good = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        for line in [
            "kcd-bridge doctor --user alice@corp.example --backend mbx",
            "kcd-bridge doctor --config f --certificate a.pem --spn HTTP/mbx",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --record d --label case=x --label kdc=2022",
            "kcd-bridge doctor --keytab k --principal svc@CORP.EXAMPLE --kdc dc1 dc2:88 --user alice@corp.example --spn HTTP/mbx --url http://mbx",
        ] {
            assert!(good(line), "{line}");
        }
        for line in [
            "kcd-bridge doctor --user alice@corp.example",
            "kcd-bridge doctor --backend mbx",
            "kcd-bridge doctor --user alice@corp.example --certificate a.pem --backend mbx",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --spn HTTP/mbx",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --url http://mbx",
            "kcd-bridge doctor --keytab k --user alice@corp.example --spn HTTP/mbx",
            "kcd-bridge doctor --keytab k --principal svc@CORP.EXAMPLE --user alice@corp.example --backend mbx",
            "kcd-bridge doctor --keytab k --principal svc@corp.example --user alice@corp.example --spn HTTP/mbx",
            "kcd-bridge doctor --config f --keytab k --principal svc@CORP.EXAMPLE --user alice@corp.example --spn HTTP/mbx",
            "kcd-bridge doctor --kdc dc1 --user alice@corp.example --spn HTTP/mbx",
            "kcd-bridge doctor --user alice@corp.example --spn mbx",
            "kcd-bridge doctor --user alice --backend mbx",
            "kcd-bridge doctor --user alice@corp@example --backend mbx",
            "kcd-bridge doctor --user dc1$@corp.example --backend mbx",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --label case=x",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --record d --label Case=x",
            "kcd-bridge doctor --user alice@corp.example --backend mbx --record d --label case",
        ] {
            assert!(!good(line), "{line}");
        }
    }
}
