//! The flags that say how a server is shown. Which server it is, each program finds out with its own.

use clap::Args;

/// How to show a server.
#[derive(Debug, Args)]
pub struct Flags {
    /// The tab to begin with: overview, queues, jobs, running, dead, workers, crons or budgets
    #[arg(long)]
    pub(super) tab: Option<String>,
    /// Print one frame as text, and end
    #[arg(long)]
    pub(super) once: bool,
    /// Print statistics and queues as a line of JSON each second; with --once, one line
    #[arg(long)]
    pub(super) json: bool,
    /// Use no characters but those of ASCII
    #[arg(long)]
    pub(super) ascii: bool,
}
