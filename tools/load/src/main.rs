//! The program: arguments, one run, its report, and an exit code that says whether all was well.

use std::process::ExitCode;

use clap::Parser;
use load::arguments::Arguments;
use load::run;
use tokio::task::LocalSet;

/// The exit code if something was wrong.
const WRONG: u8 = 1;

/// The exit code if there was nothing to measure; clap uses it too.
const NOTHING_MEASURED: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = Arguments::parse().mode;
    let as_json = mode.target().json;
    let report = match LocalSet::new().run_until(run::run(mode)).await {
        Ok(report) => report,
        Err(error) => return fail(NOTHING_MEASURED, &error.to_string()),
    };
    match serde_json::to_string(&report) {
        Ok(json) if as_json => println!("{json}"),
        Ok(_) => print!("{report}"),
        Err(error) => return fail(NOTHING_MEASURED, &error.to_string()),
    }
    if report.ok { ExitCode::SUCCESS } else { fail(WRONG, &format!("FAILED: {}", report.wrong)) }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("load: {message}");
    ExitCode::from(code)
}
