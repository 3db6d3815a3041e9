//! `kcd-bridge explain`: what would become of certificates, and why; one of them in full, or a whole population at once.
//!
//! ```text
//! input    files and directories -> certificates, one at a time
//! judge    a certificate -> everything found out about it; the trust and the mapping rules of the configuration
//! report   the same as the documented JSON (version 1)
//! text     the same for people
//! summary  counts over all of them
//! ```

mod input;
mod judge;
mod report;
mod summary;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::cli::{Exit, ExplainArgs, Output, admission};
use input::{Found, Inputs, Presented};
use judge::Judge;
use report::CertificateReport;
use summary::Summary;

/// Certificates judged at the same time: each asks the directory at most one question at a time.
const MOST_AT_ONCE: usize = 16;

/// Explains every certificate that is named, in order, and sums up.
pub(in crate::cli) fn run(args: &ExplainArgs, output: &mut Output) -> Exit {
    let prepared = admission::read(&args.config.config)
        .and_then(|config| Ok((config, Runtime::new().map_err(|error| format!("no runtime: {error}"))?)));
    let (config, runtime) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            output.error(reason);
            return Exit::CouldNotRun;
        }
    };
    let exit = runtime.block_on(async {
        match Judge::load(&config, args.offline).await {
            Ok(judge) => {
                let summary = Walk { judge: Arc::new(judge), pages: Pages::new(args, output) }.all(args).await;
                summary.exit()
            }
            Err(reason) => {
                output.error(reason);
                Exit::CouldNotRun
            }
        }
    });
    // A lookup may still wait for its deadline; nothing of it is needed any more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

/// One run over all inputs.
struct Walk<'a> {
    judge: Arc<Judge>,
    pages: Pages<'a>,
}

impl Walk<'_> {
    async fn all(mut self, args: &ExplainArgs) -> Summary {
        let mut summary = Summary::default();
        let mut running: VecDeque<JoinHandle<CertificateReport>> = VecDeque::new();
        self.pages.begin();
        for found in Inputs::new(&args.certificates) {
            match found {
                Found::Certificate(presented) => {
                    running.push_back(self.start(presented));
                    if running.len() >= MOST_AT_ONCE
                        && let Some(first) = running.pop_front()
                    {
                        self.finish(first, &mut summary).await;
                    }
                }
                Found::Skipped => summary.skip(),
                Found::Trouble { source, problem } => {
                    self.pages.output.error(format_args!("{}: {}", text::shown(&source), text::shown(&problem)));
                    summary.trouble();
                }
            }
        }
        for first in running {
            self.finish(first, &mut summary).await;
        }
        self.pages.end(&summary);
        summary
    }

    fn start(&self, presented: Presented) -> JoinHandle<CertificateReport> {
        let judge = Arc::clone(&self.judge);
        tokio::spawn(async move { CertificateReport::new(&judge.explain(presented).await) })
    }

    async fn finish(&mut self, running: JoinHandle<CertificateReport>, summary: &mut Summary) {
        match running.await {
            Ok(report) => {
                summary.add(&report);
                self.pages.certificate(&report);
            }
            Err(error) => {
                self.pages.output.error(format_args!("a certificate could not be judged: {error}"));
                summary.trouble();
            }
        }
    }
}

/// What is written, as it becomes known: a whole population is never held in memory.
struct Pages<'a> {
    output: &'a mut Output,
    json: bool,
    summary_only: bool,
    offline: bool,
    written: usize,
}

impl<'a> Pages<'a> {
    fn new(args: &ExplainArgs, output: &'a mut Output) -> Self {
        Self { output, json: args.json, summary_only: args.summary, offline: args.offline, written: 0 }
    }

    fn begin(&mut self) {
        if self.json {
            self.output.text(&format!("{{\"version\":1,\"offline\":{}", self.offline));
            if !self.summary_only {
                self.output.text(",\"certificates\":[");
            }
        }
    }

    fn certificate(&mut self, report: &CertificateReport) {
        self.written += 1;
        if self.summary_only {
            return;
        }
        let separator = if self.written == 1 { "" } else { "," };
        if self.json {
            self.output.text(&format!("{separator}\n{}", serde_json::to_string(report).unwrap_or_default()));
        } else {
            self.output.text(&text::certificate(report));
        }
    }

    fn end(&mut self, summary: &Summary) {
        if self.json {
            let closing = if self.summary_only { "" } else { "\n]" };
            let summary = serde_json::to_string(&summary.report()).unwrap_or_default();
            self.output.line(format_args!("{closing},\"summary\":{summary}}}"));
        } else if self.summary_only || self.written != 1 {
            self.output.text(&text::summary(summary));
        }
    }
}
