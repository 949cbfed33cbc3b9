//! `sexton`, the operator's program: client commands, `serve` (everything in one process) and `demo`.
mod alarms;
mod archived;
mod arguments;
mod batches;
mod canaries;
mod cancel;
mod census;
mod client;
#[cfg(feature = "serve")]
mod demo;
mod drills;
mod findings;
mod holds;
mod import;
mod inventory;
mod looked;
mod outage;
mod output;
mod plan;
mod receipt;
mod records;
mod resume;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod tokens;
mod verify;
#[cfg(all(test, feature = "serve"))]
mod waiting;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sexton: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match sexton_service::run_whole(runtime, client::run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sexton: {error:#}");
            ExitCode::FAILURE
        }
    }
}
