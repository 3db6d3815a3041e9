//! `kcd-bridge doctor`: one user, one back end, stage by stage, with a verdict and the raw cause of each.

mod account;
mod record;

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::certificate::read_certificate_chain;
use crate::cli::admission::{Admission, JUDGEMENT_TIMEOUT};
use crate::cli::{DoctorArgs, Exit, Output, kerberos_process};
use crate::config::{self, Config};
use crate::directory::Directory;
use crate::failure::{Cause, Failure};
use crate::identity::{Principal, RequestedName};
use crate::kerberos::Verdict;
use crate::kerberos::capture::{Recorder, Stage, Tried};
use crate::kerberos::config::KerberosConfig;
use crate::kerberos::diagnosis::{Diagnosis, StageReport, diagnose};
use crate::kerberos::encryption::Advice;
use crate::kerberos::refusal::Investigator;
use crate::kerberos::relay::{BoundRelay, RelayConfig};
use crate::naming::name::Spn;
use crate::policy::{Fingerprint, Grant};
use crate::proxy::{BackendConfig, Mutual, ProbeReport, probe};
use crate::x509::Claims;
use record::RecordDirectory;

/// One stage of the report; the documented shape of `--json`, version 1.
#[derive(Serialize)]
struct StageLine {
    stage: &'static str,
    verdict: &'static str,
    milliseconds: u128,
    seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// What will fail some day although it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
    /// What repairs the failure, or what the warning is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Of the stage `account`: what is wrong with the bridge's own account. It fails nothing; the stages behind it do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingLine>,
}

/// One finding about the bridge's own account.
#[derive(Serialize)]
struct FindingLine {
    code: &'static str,
    severity: &'static str,
    message: &'static str,
    detail: String,
    remedy: String,
}

/// The whole report; the documented shape of `--json`, version 1.
#[derive(Serialize)]
struct Report {
    version: u32,
    user: String,
    spn: String,
    good: bool,
    stages: Vec<StageLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
}

/// Tries delegation stage by stage. Never needs the running bridge and never touches its cache.
pub(in crate::cli) fn run(args: &DoctorArgs, output: &mut Output) -> Exit {
    let json = args.json;
    match examine(args) {
        Ok(report) => {
            if json {
                output.line(serde_json::to_string_pretty(&report).unwrap_or_default());
            } else {
                output.text(&report.text());
            }
            if report.good { Exit::Good } else { Exit::Finding }
        }
        Err(reason) => {
            output.error(reason);
            Exit::CouldNotRun
        }
    }
}

fn examine(args: &DoctorArgs) -> Result<Report, String> {
    let config = configuration(args)?;
    let (backend, http_path) = backend(args, &config)?;
    let record = args.record.as_deref().map(RecordDirectory::prepare).transpose()?;
    let directory = PrivateDirectory::make()?;
    let kerberos = KerberosConfig { runtime_directory: directory.0.clone(), ..config.kerberos.clone() };
    kerberos_process::forbid_core_dumps();
    let (relay, _krb5_conf) = kerberos_process::prepare(&kerberos, backend.target.allow_rc4)?;
    let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;

    let spn = backend.target.spn.to_string();
    let recorder = record.as_ref().map(|_| Recorder::new(&kerberos.principal, &relay.observer()));
    let mut lines = Vec::new();
    let (user, good) = match principal(args, &config, &runtime, &mut lines) {
        Ok(principal) => {
            let user = principal.to_string();
            let recorder = recorder.clone();
            let directory = config.directory.as_ref().map(Directory::load).transpose().map_err(|error| error.to_string())?;
            let walk = Walk { kerberos, principal: Arc::new(principal), backend, http_path, recorder, directory };
            (user, runtime.block_on(walk.stages(relay, &mut lines)))
        }
        Err(user) => (user, false),
    };
    // A worker may still wait in the library; nothing of it is needed any more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let mut report = Report { version: 1, user, spn, good, stages: lines, recorded: None };
    if let Some((record, recorder)) = record.zip(recorder) {
        report.recorded = Some(report.record(&record, &recorder, &args.label)?);
    }
    Ok(report)
}

fn configuration(args: &DoctorArgs) -> Result<Config, String> {
    let config = match (&args.keytab, &args.principal, &args.target.spn) {
        (Some(keytab), Some(account), Some(spn)) => {
            let keytab = std::path::absolute(keytab).map_err(|error| error.to_string())?;
            let origin = args.url.as_deref().map(|url| origin_and_path(url).0);
            config::for_diagnosis(account, &keytab, &args.kdc, spn, origin.as_deref())
        }
        _ => config::load(&args.config),
    };
    config.map_err(|problems| format!("the configuration cannot be used:\n{problems}"))
}

/// The back end that was named, or one for the SPN that was named; and the path to ask over HTTP, if it is to be asked.
fn backend(args: &DoctorArgs, config: &Config) -> Result<(BackendConfig, Option<String>), String> {
    let path_of = |index: usize| config.routes.iter().find(|route| route.backend == index).map(|route| route.path.clone());
    if let Some(name) = &args.target.backend {
        let found = config.backends.iter().position(|backend| *backend.target.name == **name);
        let known = || config.backends.iter().map(|backend| &*backend.target.name).collect::<Vec<_>>().join(", ");
        let index = found.ok_or_else(|| format!("the configuration has no back end {name:?}; it has {}", known()))?;
        let backend = config.backends.get(index).cloned().ok_or("no such back end")?;
        return Ok((backend, Some(path_of(index).unwrap_or_else(|| "/".into()))));
    }
    let spn = args.target.spn.as_ref().ok_or("--backend or --spn is needed")?;
    if let Some(url) = &args.url {
        let (origin, path) = origin_and_path(url);
        let config = config::for_diagnosis(&config.kerberos.principal, &config.kerberos.keytab, &[], spn, Some(&origin))
            .map_err(|problems| format!("--url: {problems}"))?;
        return Ok((config.backends.into_iter().next().ok_or("no back end")?, Some(path)));
    }
    let configured = config.backends.iter().position(|backend| backend.target.spn == *spn);
    match configured.and_then(|index| Some((index, config.backends.get(index)?))) {
        Some((index, backend)) if args.keytab.is_none() => {
            Ok((backend.clone(), Some(path_of(index).unwrap_or_else(|| "/".into()))))
        }
        Some((_, backend)) => Ok((backend.clone(), None)),
        None => {
            let config = config::for_diagnosis(&config.kerberos.principal, &config.kerberos.keytab, &[], spn, None)
                .map_err(|problems| problems.to_string())?;
            Ok((config.backends.into_iter().next().ok_or("no back end")?, None))
        }
    }
}

/// `http://host:port` and the rest, `/` if there is none.
fn origin_and_path(url: &str) -> (String, String) {
    let authority_at = url.find("://").map_or(0, |at| at + 3);
    let path_at = url.get(authority_at..).and_then(|rest| rest.find('/')).map(|at| authority_at + at);
    match path_at.and_then(|at| url.split_at_checked(at)) {
        Some((origin, path)) => (origin.to_owned(), path.to_owned()),
        None => (url.to_owned(), "/".to_owned()),
    }
}

/// Who is tried: a UPN, or what a certificate maps to. A failure is in the lines; the error is what was asked for.
fn principal(args: &DoctorArgs, config: &Config, runtime: &Runtime, lines: &mut Vec<StageLine>) -> Result<Principal, String> {
    if let Some(user) = &args.user.user {
        return Ok(Principal::for_diagnosis(RequestedName::Enterprise(user.normalized().into())));
    }
    let file = args.user.certificate.clone().unwrap_or_default();
    let start = Instant::now();
    let mapped = runtime.block_on(by_certificate(&file, config));
    let outcome = mapped
        .as_ref()
        .map(|principal| format!("{principal}, rule {}, {}", principal.rule().name(), principal.strength().name()));
    lines.push(StageLine::new("certificate", start.elapsed(), outcome.map_err(Clone::clone)));
    mapped.map_err(|_| file.display().to_string())
}

async fn by_certificate(file: &Path, config: &Config) -> Result<Principal, Failure> {
    let unsuitable = |error: &dyn std::fmt::Display| Failure::new(Cause::CertificateUnsuitable, error.to_string());
    let chain = read_certificate_chain(file).map_err(|error| unsuitable(&error))?;
    let admission = Admission::load(config).await.map_err(|error| unsuitable(&error))?;
    let deadline = Instant::now() + JUDGEMENT_TIMEOUT;
    let certificate = admission.trust.admit(&chain, UnixTime::now(), deadline).await?;
    let claims = Claims::read(&certificate)?;
    admission.mapper.resolve(&certificate, &claims, deadline).await.map(Arc::unwrap_or_clone)
}

/// The stages after the user is known.
struct Walk {
    kerberos: KerberosConfig,
    principal: Arc<Principal>,
    backend: BackendConfig,
    http_path: Option<String>,
    recorder: Option<Recorder>,
    directory: Option<Directory>,
}

impl Walk {
    async fn stages(self, relay: BoundRelay, lines: &mut Vec<StageLine>) -> bool {
        let observer = relay.observer();
        let serving = tokio::spawn(relay.serve(RelayConfig::from(&self.kerberos), std::future::pending()));
        let Self { kerberos, principal, backend, http_path, recorder, directory } = self;
        let own = kerberos.principal.clone();
        let facts = account::shown(directory.as_ref(), &own).await;
        let (asked, target, shown) = (Arc::clone(&principal), Arc::clone(&backend.target), recorder.clone());
        let blocking = tokio::task::spawn_blocking(move || diagnose(&kerberos, observer, shown.as_ref(), &asked, &target));
        let Ok(Diagnosis { stages, account, mint }) = blocking.await else { return false };
        serving.abort();
        let mut account = account.map(|(look, took)| account::line(&own, &look, took, &facts));
        let investigator = directory.map(|directory| Investigator::new(own, Arc::new(account::Configured(directory))));
        for stage in stages {
            let after_kdc = stage.stage == "kdc";
            let outcome = explained(investigator.as_ref(), stage.outcome.clone(), &backend.target.spn).await;
            lines.push(StageLine::of(StageReport { outcome, ..stage }));
            lines.extend(account.take_if(|_| after_kdc));
        }
        let Some(mint) = mint else { return false };
        let Some(path) = http_path else { return true };

        let start = Instant::now();
        let grant = Grant::authorize(principal, Fingerprint([0; 32]), Arc::clone(&backend.target));
        let (target, mutual) = (Arc::clone(&backend.target), backend.mutual);
        let spn = target.spn.clone();
        let probed = match recorder {
            None => probe(backend, &grant, &path, |binding| mint.token_now(&target, binding)).await,
            Some(recorder) => {
                let watch = |(token, reply)| (token, recorder.record(reply));
                probe(backend, &grant, &path, |binding| mint.token_now(&target, binding).map(watch)).await
            }
        };
        let outcome = probed.and_then(|report| judge_probe(report, mutual));
        let outcome = explained(investigator.as_ref(), outcome, &spn).await;
        let good = outcome.is_ok();
        lines.push(StageLine::new("http", start.elapsed(), outcome));
        good
    }
}

/// A failure with what the directory knows about it.
async fn explained(investigator: Option<&Investigator>, outcome: Result<String, Failure>, spn: &Spn) -> Result<String, Failure> {
    match (investigator, outcome) {
        (Some(investigator), Err(failure)) => Err(investigator.explain(failure, spn).await),
        (_, outcome) => outcome,
    }
}

/// What the back end's two answers mean; good only where a request of `serve` would be.
fn judge_probe(report: ProbeReport, mutual: Mutual) -> Result<String, Failure> {
    let ProbeReport { anonymous_status, offered, refused_before, status, verdict } = report;
    let offers = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    let mut seen = format!("without a token {anonymous_status} (offers {offers}), with one {status}");
    if refused_before {
        seen.push_str(" after a first token got 401");
    }
    if anonymous_status != 401 {
        seen.push_str(": this path asks nobody to authenticate");
    }
    let offers_kerberos = offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("negotiate"));
    let offers_ntlm = offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("ntlm"));
    match (status, verdict?) {
        (401, _) if offers_ntlm && !offers_kerberos => Err(Failure::new(Cause::NtlmOnly, seen)),
        (401, verdict @ Verdict::KrbError { code, .. }) => {
            let seen = format!("{seen}, KRB-ERROR {code} {}", crate::kerberos::wire::krb_error::name(code));
            Err(Failure::new(verdict.refusal(), seen))
        }
        (401, Verdict::Proved) => Err(Failure::new(
            Cause::TokenRefused,
            format!("{seen}, and the token was accepted: the account has no right to this"),
        )),
        (401, _) => Err(Failure::new(Cause::TokenRefused, seen)),
        (_, Verdict::Proved) => Ok(format!("{seen}, and the server proved itself")),
        (200..300, Verdict::Absent) if mutual == Mutual::Required => Err(Failure::new(Cause::MutualMissing, seen)),
        (_, Verdict::Absent) => Ok(format!("{seen}, and the server did not prove itself")),
        (_, other) => Err(Failure::new(Cause::NegotiationInvalid, format!("{seen} and {other:?}"))),
    }
}

impl StageLine {
    fn of(stage: StageReport) -> Self {
        let line = Self::new(stage.stage, stage.took, stage.outcome);
        match stage.advice {
            Some(Advice { finding, repair }) => Self { warning: Some(finding), remedy: Some(repair), ..line },
            None => line,
        }
    }

    fn new(stage: &'static str, took: Duration, outcome: Result<String, Failure>) -> Self {
        let milliseconds = took.as_millis();
        match outcome {
            Ok(seen) => Self {
                stage,
                verdict: "good",
                milliseconds,
                seen,
                reason: None,
                warning: None,
                remedy: None,
                findings: Vec::new(),
            },
            Err(failure) => Self {
                stage,
                verdict: "failed",
                milliseconds,
                seen: failure.to_string(),
                reason: Some(failure.cause.code()),
                warning: None,
                remedy: Some(failure.remedy()),
                findings: Vec::new(),
            },
        }
    }
}

impl Report {
    /// Writes what was answered, and what became of each stage, without names.
    fn record(
        &self,
        directory: &RecordDirectory<'_>,
        recorder: &Recorder,
        labels: &[(String, String)],
    ) -> Result<String, String> {
        let tried = Tried { user: recorder.name(&self.user), spn: recorder.name(&self.spn) };
        let stage = |line: &StageLine| Stage { stage: line.stage.into(), outcome: line.reason.unwrap_or(line.verdict).into() };
        let (manifest, files) = recorder.finish(labels, tried, self.stages.iter().map(stage).collect());
        directory.write(&manifest, &files)
    }

    fn text(&self) -> String {
        let mut text = format!("{} to {}\n", self.user, self.spn);
        for line in &self.stages {
            let mark = match line.verdict {
                "good" => "ok    ",
                "findings" => "NOTICE",
                _ => "FAILED",
            };
            let _infallible = writeln!(text, "{mark} {:<12} {:>5} ms  {}", line.stage, line.milliseconds, line.seen);
            for (name, value) in [("reason", line.reason), ("warning", line.warning), ("remedy", line.remedy.as_deref())] {
                if let Some(value) = value {
                    let _infallible = writeln!(text, "       {name}: {value}");
                }
            }
            for FindingLine { code, severity, message, detail, remedy } in &line.findings {
                let _infallible = writeln!(text, "       {severity} {code}: {message} ({detail})\n       remedy: {remedy}");
            }
        }
        let verdict = if self.good { "good: every stage passed" } else { "not good: the last stage shown failed" };
        text.push_str(verdict);
        text.push('\n');
        if let Some(recorded) = &self.recorded {
            text.push_str(recorded);
            text.push('\n');
        }
        text
    }
}

/// A directory of our own for the private krb5.conf, removed with everything in it.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn make() -> Result<Self, String> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let name = format!("kcd-bridge-doctor-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        // Fails if anything has that name already, a symbolic link included.
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_server_and_a_path() {
        let split = |url| origin_and_path(url);
        assert_eq!(split("http://mbx1:81/a/b?c"), ("http://mbx1:81".into(), "/a/b?c".into()));
        assert_eq!(split("http://mbx1"), ("http://mbx1".into(), "/".into()));
    }

    fn report(anonymous_status: u16, offered: &[&str], status: u16, verdict: Verdict) -> ProbeReport {
        let offered = offered.iter().map(|&scheme| scheme.to_owned()).collect();
        ProbeReport { anonymous_status, offered, refused_before: false, status, verdict: Ok(verdict) }
    }

    #[test]
    fn a_server_that_proves_itself_is_good_and_every_other_answer_to_a_token_is_named() {
        let judge = |report| judge_probe(report, Mutual::Required);
        assert!(judge(report(401, &["Negotiate", "NTLM"], 200, Verdict::Proved)).is_ok());
        let cause = |report| judge(report).unwrap_err().cause;
        assert_eq!(cause(report(401, &["NTLM"], 401, Verdict::NtlmOnly)), Cause::NtlmOnly);
        assert_eq!(cause(report(401, &["Negotiate"], 401, Verdict::Rejected)), Cause::TokenRefused);
        assert_eq!(cause(report(401, &["Negotiate"], 401, Verdict::Proved)), Cause::TokenRefused);
        assert_eq!(cause(report(401, &["Negotiate"], 200, Verdict::Absent)), Cause::MutualMissing);
        assert_eq!(cause(report(401, &["Negotiate"], 200, Verdict::Rejected)), Cause::NegotiationInvalid);
    }

    #[test]
    fn a_server_that_asks_nobody_is_good_only_where_its_silence_is_tolerated() {
        let silent = || report(200, &[], 200, Verdict::Absent);
        let refused = judge_probe(silent(), Mutual::Required).unwrap_err();
        assert_eq!(refused.cause, Cause::MutualMissing);
        assert!(refused.detail.contains("asks nobody to authenticate"), "{}", refused.detail);
        let tolerated = judge_probe(silent(), Mutual::TolerateAbsence).unwrap();
        assert!(tolerated.contains("asks nobody to authenticate"), "{tolerated}");
    }
}
