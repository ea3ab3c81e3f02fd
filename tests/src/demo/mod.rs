//! The demo: a server and a worker do real work before your eyes, and the results are checked.
//!
//! Every file of a folder becomes two jobs. One is compressed by a shell command, the other is sent to an HTTP endpoint
//! that tells its checksum and now and then fails at first. In the middle of it all the server is killed. Other jobs go on
//! beside that, for whoever watches the dashboard.

mod beside;
mod checksum;
mod files;
mod jobs;
mod screen;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use tempfile::TempDir;
use tokio::process::Command;

use crate::binaries::binary;
use crate::process::Process;
use crate::server::Server;
use checksum::Checksums;
use files::Files;
use jobs::{CHECKSUM, COMPRESS, Done};
use screen::{Progress, Screen};

/// Starts a Zizq server and a worker, makes two jobs of every file of a folder, shows how they are run, retried and
/// carried over a crash of the server, and checks that every file came out right.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
pub struct Args {
    /// The folder whose files become jobs [default: this repository]; they are only read
    folder: Option<PathBuf>,
    /// Keep the server running to look around, until Ctrl-C, also where nobody sits at a terminal
    #[arg(long)]
    keep: bool,
    /// Do not kill the server in the middle
    #[arg(long)]
    no_kill: bool,
    /// The most files to take
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_files: u32,
    /// The largest file to take, in MiB
    #[arg(long, default_value_t = 8)]
    max_file_mib: u64,
}

/// Gets the number of the file out of the payload, which is one line of JSON, and compresses the file.
const COMMAND: &str =
    r#"n=$(sed 's/.*"file":\([0-9]*\).*/\1/') && gzip -c < "files/$n" > "compressed/$n.gz""#;
/// Without any progress for this long something is wrong.
const STALLED: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(40);

/// Runs the demo; `false` when a check failed, or when Ctrl-C was pressed before the checks.
///
/// # Errors
/// When it could not be run to its end.
pub async fn run(args: Args) -> Result<bool> {
    let screen = Screen::new();
    let show = async {
        let mut demo = Demo::start(&screen, &args).await?;
        let right = demo.run(!args.no_kill).await?;
        anyhow::Ok((demo, right))
    };
    let (demo, right) = tokio::select! {
        shown = show => shown?,
        // What was started ends with the future that is dropped here.
        interrupted = tokio::signal::ctrl_c() => return Ok(interrupted.map(|()| false)?),
    };
    demo.farewell(args.keep).await?;
    Ok(right)
}

/// A demo with everything started. What it started ends with it.
#[derive(Debug)]
struct Demo<'a> {
    screen: &'a Screen,
    files: Files,
    checksums: Checksums,
    server: Server,
    worker: Process,
    /// The worker of what goes on beside the files.
    _beside: Process,
    folder: TempDir,
    /// One that was retried, to be looked at.
    failed_job: Option<String>,
}

impl<'a> Demo<'a> {
    async fn start(screen: &'a Screen, args: &Args) -> Result<Self> {
        screen.title("zizq demo");
        let repository = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let from = args.folder.clone().unwrap_or_else(repository);
        let files = Files::find(&from, args.max_files, args.max_file_mib << 20)?;
        let start = Instant::now();
        screen.line(&screen.dim("building zizq-server and zizq-worker, which takes minutes the first time"));
        drop((binary("zizq-server"), binary("zizq-worker")));
        screen.good(&format!("built in {}", screen::seconds(start.elapsed())));
        let folder = TempDir::with_prefix("zizq-demo-")?;
        files.link_into(folder.path())?;
        let checksums = Checksums::start(folder.path().join("files")).await?;
        let server = Server::start().await;
        screen.good(&format!("server  {}, its data in a temporary folder", server.url()));
        screen.good(&format!("watch   {}/ui/", server.url()));
        let beside = beside::start(&server.client(), &server.url(), folder.path()).await?;
        let mut command = Command::new(binary("zizq-worker"));
        command.args(["--server", &server.url(), "--concurrency", "4"]);
        command.arg("--run").arg(format!("{COMPRESS}={COMMAND}"));
        command.arg("--http").arg(format!("{CHECKSUM}={}", checksums.url()));
        command.current_dir(folder.path()).env("ZIZQ_SPOOL", folder.path().join("spool"));
        let worker = Process::start(command, &folder.path().join("worker.log"));
        screen.good("worker  zizq-worker \\");
        screen.more(&format!("--run  '{COMPRESS}={}' \\", COMMAND.replace('\'', r"'\''")));
        screen.more(&format!("--http '{CHECKSUM}={}'", checksums.url()));
        Ok(Self { screen, files, checksums, server, worker, _beside: beside, folder, failed_job: None })
    }

    async fn run(&mut self, kill: bool) -> Result<bool> {
        let start = Instant::now();
        let client = self.server.client();
        jobs::enqueue(&client, &self.files).await?;
        self.screen.good(&format!(
            "enqueued 2 × {} jobs, a pair per file of {}",
            self.files.len(),
            self.files.describe()
        ));
        if let Some(left_out) = self.files.left_out() {
            self.screen.more(&self.screen.dim(&left_out));
        }
        self.screen.blank();
        let progress = Progress::new(self.screen, [COMPRESS, CHECKSUM], self.files.len() as u64);
        let finished = self.follow(&progress, kill).await;
        progress.finish();
        if let Err(stalled) = finished {
            bail!("{stalled}; the worker logged at last:\n{}", self.worker_log());
        }
        let elapsed = start.elapsed();
        self.screen.blank();
        let summary = jobs::summary(&self.server.client()).await?;
        self.screen.good(&summary.describe(elapsed));
        self.failed_job = summary.failed_job();
        let checked = verify::check(&self.files, self.folder.path(), &self.checksums);
        let right = summary.check(self.screen, self.checksums.refusals()) & checked.show(self.screen);
        Ok(right)
    }

    /// Shows how the work goes on, to its end.
    async fn follow(&mut self, progress: &Progress, mut kill: bool) -> Result<()> {
        let all = 2 * self.files.len() as u64;
        let mut client = self.server.client();
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let done = Done::ask(&client).await;
            progress.show(&[done.compress, done.checksum], self.checksums.refusals());
            if kill && done.all() >= all / 3 {
                kill = false;
                self.kill(progress, &done, all).await;
                client = self.server.client();
            }
            if done.all() >= all {
                return Ok(());
            }
            if done.all() > last {
                (last, since) = (done.all(), Instant::now());
            }
            ensure!(
                since.elapsed() < STALLED,
                "nothing happened for {STALLED:?} after {} of {all} jobs",
                done.all()
            );
            tokio::time::sleep(PACE).await;
        }
    }

    /// Kills the server and starts it again.
    async fn kill(&mut self, progress: &Progress, done: &Done, all: u64) {
        self.server.kill9().await;
        progress.say(&self.screen.bolt_line(&format!("kill -9 of the server after {} jobs", done.all())));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        self.server.restart().await;
        let left = all - Done::ask(&self.server.client()).await.all();
        let back = screen::seconds(start.elapsed());
        progress.say(
            &self
                .screen
                .good_line(&format!("started again, ready in {back} with the {left} jobs that are left")),
        );
    }

    fn worker_log(&self) -> String {
        let log = self.worker.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Says how to look around, and waits for Ctrl-C where somebody can press it, or wants the server to be kept.
    async fn farewell(&self, keep: bool) -> Result<()> {
        let keep = keep || self.screen.interactive();
        let url = if keep { self.server.url() } else { "http://127.0.0.1:PORT".to_owned() };
        self.screen.blank();
        self.screen.line(if keep {
            "Look around:"
        } else {
            "To look around, run it again with --keep, then:"
        });
        self.screen.blank();
        for (what, command) in jobs::look_around(&url, self.failed_job.as_deref().filter(|_| keep)) {
            self.screen.more(&self.screen.dim(&format!("# {what}")));
            self.screen.more(&command);
        }
        self.screen.blank();
        if keep {
            self.screen.line("The server runs until you press Ctrl-C.");
            tokio::signal::ctrl_c().await?;
        }
        Ok(())
    }
}
