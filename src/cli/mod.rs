//! Arguments, exit codes, and the only place that prints.

#![forbid(unsafe_code)]

mod admission;
mod args;
mod check;
mod docs;
mod doctor;
mod explain;
mod forecast;
mod kerberos_process;
mod metrics;
mod output;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

pub use args::{CheckArgs, ConfigArg, DoctorArgs, ExplainArgs, ForecastArgs};
pub use output::Output;

use args::{Arguments, Command};

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Good = 0,
    /// 1: the command ran and found something wrong.
    Finding = 1,
    /// 2: the command line is not understood.
    Usage = 2,
    /// 3: the command could not do its work.
    CouldNotRun = 3,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version are answers too, and go to standard output. A closed pipe leaves nobody to tell.
            let _closed_pipe = answer.print();
            let exit = if answer.use_stderr() { Exit::Usage } else { Exit::Good };
            return ExitCode::from(exit as u8);
        }
    };
    let mut output = Output::standard();
    let exit = match &arguments.command {
        Command::Serve(config) => serve::run(&config.config, &mut output),
        Command::Check(args) => check::run(args, &mut output),
        Command::Doctor(args) => doctor::run(args, &mut output),
        Command::Explain(args) => explain::run(args, &mut output),
        Command::Forecast(args) => forecast::run(args, &mut output),
        Command::Docs { page } => docs::run(*page, &mut output),
    };
    let exit = if output.finish() { exit } else { Exit::CouldNotRun };
    ExitCode::from(exit as u8)
}
