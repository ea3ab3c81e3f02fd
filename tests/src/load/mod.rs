//! The load tool: puts load on any server that speaks the contract, measures it and checks it at the same time.
//!
//! It shares the machine with the server, so it is built to be cheap: one thread, requests prepared in advance, and
//! answers of which only the needed bytes are looked at. That is safe because every payload is its own, so no member
//! name that it looks for can occur inside of one.

pub mod args;
mod body;
mod check;
mod contender;
mod daemon;
mod frames;
mod hello;
mod http;
mod modes;
mod peers;
mod producer;
mod report;
mod standard;
mod take;
mod target;
mod template;
mod watchdog;
mod worker;

use anyhow::{Result, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::{Args, Mode};
use contender::Contender;
use report::{Report, Round, Title};
use standard::Scenario;
use target::Target;

/// Measures what the command line asks for; `false` when a check failed.
///
/// # Errors
/// When that is impossible here.
pub async fn run(args: Args) -> Result<bool> {
    let Args { common, mode } = args;
    let scenarios = match mode {
        Mode::Hello { port } => return hello::serve(port).await.map(|()| true),
        Mode::Table(flags) if flags.list => return report::list(&standard::scenarios(&flags)?),
        Mode::Table(flags) => standard::scenarios(&flags)?,
        mode => vec![single(mode)],
    };
    if let Some(file) = &common.token_file {
        http::send_token(file)?;
    }
    let contenders = Contender::all(&common);
    contenders.iter().try_for_each(Contender::check)?;
    allow_many_files()?;
    let mut report = Report::new(&common);
    for scenario in &scenarios {
        report.begin(title(scenario))?;
        for n in 1..=common.rounds {
            for contender in contenders.iter().filter(|who| scenario.mode.runs_on(who.protocol())) {
                let round = round(&scenario.mode, contender).await;
                report.round(&contender.label(), n, round)?;
            }
        }
        report.end()?;
    }
    report.finish()
}

/// The routes that `random` calls: methods, and paths in which `{}` stands for a variable segment.
pub fn routes_of_random() -> impl Iterator<Item = (&'static str, String)> {
    modes::random::routes()
}

/// One round. Not to come to its end is a fault like any other: the rest is measured all the same.
async fn round(mode: &Mode, contender: &Contender) -> Round {
    let measured = async {
        let target = Target::open(contender, mode.how()).await?;
        let round = mode.measure(&target).await.map_err(|e| anyhow!("{e:#}{}", target.log()))?;
        Ok(Round { version: target.version, ..round })
    };
    measured
        .await
        .unwrap_or_else(|e: anyhow::Error| Round { faults: vec![format!("{e:#}")], ..Round::default() })
}

/// What the command line itself says.
fn single(mode: Mode) -> Scenario {
    let words: Vec<String> = std::env::args().skip(1).collect();
    Scenario { name: mode.name().to_owned(), command: words.join(" "), mode }
}

fn title(scenario: &Scenario) -> Title {
    let what = format!("zizq-load {}", scenario.command);
    Title { name: scenario.name.clone(), what, headline: scenario.mode.headline() }
}

/// Thousands of streams are as many files, and the limit is often lower than it could be.
fn allow_many_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
