//! Parses the arguments, runs the verb, prints at most one error chain and exits with its code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use cohort::cli::Cli;
use cohort::error::{exit_code, exit_code_of};
use cohort::ui::{fit_to_terminal, print_error, print_fault};
use tracing_subscriber::EnvFilter;

pub fn main() -> ExitCode {
    // SAFETY: this is the first thing the program does, so there is no other thread.
    unsafe { cohort::jobs::prepare_process() };

    let filter = EnvFilter::try_from_env("COHORT_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,ort=error,tract_onnx=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    // A panic's message goes to the debug log; a user sees one error like any other.
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let cli = Cli::parse();
    fit_to_terminal();
    let Ok(result) = catch_unwind(AssertUnwindSafe(|| cli.dispatch())) else {
        print_fault();
        return ExitCode::from(exit_code::FAULT);
    };
    let Err(error) = result else {
        return ExitCode::from(exit_code::DONE);
    };
    print_error(&error, cli.common.json);
    ExitCode::from(exit_code_of(&error))
}
