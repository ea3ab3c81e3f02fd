//! A server, a worker and real jobs, in one command; `--help` tells more.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let right = tests::demo::run(tests::demo::Args::parse()).await?;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
