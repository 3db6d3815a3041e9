//! `kcd-bridge check --offline`: the configuration and every file it names, everything at once.

mod certificates;
mod files;
mod finding;
mod revocation;
mod settings;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::certificate::LoadError;
use crate::cli::{CheckArgs, Exit, Output};
use crate::config::{self, Config, Problems};
use crate::directory::Directory;
use crate::identity::Mapper;
use crate::tls::Trust;
use finding::{Finding, Findings, Severity};

pub(in crate::cli) fn run(args: &CheckArgs, output: &mut Output) -> Exit {
    if !args.offline {
        output.error("checks that ask a KDC or a back end are not available in this version: add --offline");
        return Exit::Usage;
    }
    let file = &args.config.config;
    let (findings, readable) = match config::load(file) {
        Ok(config) => (examine(file, &config, now()), true),
        Err(problems) => (of_problems(&problems), problems.readable),
    };
    let shown = file.display().to_string();
    let report = findings.report(&shown);
    if args.json {
        output.line(report.json());
    } else {
        output.text(&report.text());
    }
    match (readable, findings.bad()) {
        (false, _) => Exit::CouldNotRun,
        (true, true) => Exit::Finding,
        (true, false) => Exit::Good,
    }
}

/// Valid settings that are still worth a word, as key, message and remedy: `serve` says them at start.
pub(in crate::cli) fn notable_settings(config: &Config) -> Vec<(String, String, String)> {
    let mut findings = Findings::default();
    settings::examine(config, &mut findings);
    findings.into_list().map(|finding| (finding.key, finding.message, finding.remedy)).collect()
}

/// Everything there is to say about a valid configuration at this time (seconds since 1970).
fn examine(file: &Path, config: &Config, now: i64) -> Findings {
    let mut findings = Findings::default();
    certificates::examine(config, now, &mut findings);
    files::examine(file, config, &mut findings);
    settings::examine(config, &mut findings);
    if !findings.has_errors() {
        loads(config, &mut findings);
    }
    findings
}

/// Whether `serve` could read what it reads at its start: whatever was not looked at in particular.
fn loads(config: &Config, findings: &mut Findings) {
    let trust = Trust::load_once(&config.client_certificates, None).map(drop);
    let directory = config.directory.as_ref().map_or(Ok(()), |directory| Directory::load(directory).map(drop));
    let mapper = Mapper::load_offline(&config.mapping, &config.accounts).map(drop);
    for (key, loaded) in [("client_certificates", trust), ("directory", directory), ("mapping", mapper)] {
        if let Err(LoadError { path, problem, remedy }) = loaded {
            findings.error(key, format!("{} {problem}", path.display()), remedy);
        }
    }
}

fn of_problems(problems: &Problems) -> Findings {
    let mut findings = Findings::default();
    for problem in &problems.list {
        findings.push(Finding {
            severity: Severity::Error,
            key: problem.key.clone(),
            line: problem.line,
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        });
    }
    if problems.readable {
        findings.note("", "the files it names were not examined", "correct the errors and check again");
    }
    findings
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    since.ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default()
}
