//! Pages of the documentation that say what the program's own tables say.

use std::fmt::Write;

use crate::cli::args::Page;
use crate::cli::{Exit, Output};
use crate::config;
use crate::failure::{Answer, Cause, Stage};
use crate::kerberos::own_account::Flaw;

pub(in crate::cli) fn run(page: Page, output: &mut Output) -> Exit {
    output.text(&match page {
        Page::Configuration => config::markdown(),
        Page::Failures => failures(),
    });
    Exit::Good
}

const FAILURES_INTRODUCTION: &str = "# Failures

<!-- Written by `kcd-bridge docs failures`; change src/failure.rs and src/kerberos/own_account.rs instead. -->

Every way a request can fail, in the order of a request's way. The code stands in the log, in the audit event and in what `doctor`
says; the log and the audit event add what was seen. A device is told no more than one of these:

| answer | what the device gets |
| --- | --- |
| 400 | the request is malformed; the connection is closed |
| 403 | this certificate gets nothing here |
| 503 | our or the back end's trouble, with `Retry-After` |
| closed | the connection ends: there is nobody to answer |

In remedies, {account} stands for the bridge's own account, {spn} for the back end's service principal name, {user} for the user and
{owner} for the account that has the SPN: the log and `doctor` write the names that are known.

Never 500, which makes phones reload everything, and never a 401 that our own credentials caused.
";

/// The text of `docs/failures.md`.
fn failures() -> String {
    let mut text = FAILURES_INTRODUCTION.to_owned();
    let mut stage = None;
    for cause in Cause::ALL {
        if stage.replace(cause.stage()) != Some(cause.stage()) {
            let _infallible = write!(text, "\n## {}\n\n{}\n", cause.stage().name(), stage_purpose(cause.stage()));
        }
        let (code, answer) = (cause.code(), answer(cause.answer()));
        let _infallible =
            write!(text, "\n### `{code}`\n\n{}. Answer: {answer}.\n\nRemedy: {}.\n", sentence(cause.summary()), cause.remedy());
    }
    text.push_str(ACCOUNT_INTRODUCTION);
    for flaw in Flaw::ALL {
        let (code, severity, summary) = (flaw.code(), flaw.severity().name(), flaw.summary());
        let _infallible =
            write!(text, "\n### `{code}`\n\n{}. Severity: {severity}.\n\nRemedy: {}.\n", sentence(summary), flaw.remedy());
    }
    text
}

const ACCOUNT_INTRODUCTION: &str = "
## The bridge's own account

`serve` looks at the account at its start, in the background, and `doctor` at its stage `account`: through the KDC always, and through
the directory where `[directory]` is configured. What is found is logged (`finding`, with the remedy) and reported; it prevents
nothing. An *error* means that nobody can be delegated, or nobody by the account's own delegation list; what a KDC refuses for it is
one of the failures above.
";

/// With a capital letter, unless it starts with the name of a key.
fn sentence(text: &str) -> String {
    if text.split(' ').next().is_some_and(|word| word.contains(['.', '_'])) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Malformed => "400",
        Answer::Refused => "403",
        Answer::Unavailable => "503",
        Answer::Closed => "closed",
    }
}

const fn stage_purpose(stage: Stage) -> &'static str {
    match stage {
        Stage::Tls => "The TLS handshake and the admission of the client certificate.",
        Stage::Request => "Reading the device's request and finding its route.",
        Stage::Mapping => "From the certificate to exactly one account.",
        Stage::Directory => "Asking the directory.",
        Stage::Account => "Whether the mapped account may be impersonated now.",
        Stage::Policy => "Whether this account may use this route.",
        Stage::Kdc => "Finding and reaching a KDC.",
        Stage::Tgt => "The ticket-granting ticket of the bridge's own account.",
        Stage::S4u2Self => "A ticket to ourselves on the user's behalf (S4U2Self).",
        Stage::S4u2Proxy => "The ticket to the back end (S4U2Proxy).",
        Stage::Identity => "Whether the KDC vouched for the account that was mapped.",
        Stage::Token => "Making the token for one request.",
        Stage::Upstream => "Reaching the back end.",
        Stage::UpstreamAuth => "The back end's verdict on the token, and its proof of itself.",
        Stage::Client => "The device's connection.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_place_under_one_heading_of_its_stage() {
        let text = failures();
        for cause in Cause::ALL {
            assert_eq!(text.matches(&format!("\n### `{}`\n", cause.code())).count(), 1, "{cause:?}");
            assert_eq!(text.matches(&format!("\n## {}\n", cause.stage().name())).count(), 1, "{cause:?}");
        }
    }
}
