//! Power cuts, in `fsync` mode: nothing that was answered depends on the page cache.
//!
//! The server runs under strace, with clients that enqueue, take, succeed and fail. Of the [trace](trace) two things
//! are made: the [exchanges](wire) with the clients, and a [model of the disk](disk) that knows for every byte and every
//! name when it was written and when it was synced. Then the power goes, at places of our choice: most of them right
//! after the first byte of an answer has left, the worst moment there is. What the disk holds then is written to a new
//! folder, once without anything that was not synced and several times with a random part of it, writes torn and out of
//! order. A server is started there, and asked about every job that was answered before the cut.
//!
//! The folder entry of a new file counts as synced only when its folder was synced, as POSIX has it; most file systems
//! are kinder. A sync that has begun but not ended counts as not done at all, and covers only what was written before
//! it began.
//!
//! A second run writes so much, with so little memory for it, that journals are rotated and dropped, and tables written
//! and compacted, and has its cuts after that.
//!
//! What this does not cover: a disk that lies about what it has written, damage to what was synced, and file systems that
//! return from fsync early. That the test itself can see a loss is shown by a run in `buffered` mode, where it must find
//! one.
//!
//! It needs `strace` (a package of that name everywhere), and the permission to trace child processes that every system
//! gives unless it was taken away (`kernel.yama.ptrace_scope` up to 2, no seccomp filter on ptrace).

mod disk;
mod load;
mod trace;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::wait::until;
use tests::{Client, Wire};
use tokio::process::Command;

use disk::{Disk, Unsynced};
use trace::Call;
use wire::Exchange;

const SYSCALLS: &str = "trace=?open,openat,?creat,close,read,readv,write,writev,pwrite64,pwritev,?pwritev2,lseek,\
    ftruncate,truncate,fallocate,copy_file_range,sendfile,splice,mmap,dup,?dup2,dup3,fcntl,?rename,renameat,renameat2,\
    ?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,fsync,fdatasync,sync_file_range,msync,\
    accept4,recvfrom,sendto,?io_uring_setup";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_with_the_power() {
    let run = Run::record("fsync", &[], false).await;
    let mut random = seed();
    run.cut_everywhere(&run.cuts(&mut random, 0, 40), &mut random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_when_journals_and_tables_come_and_go() {
    let run = Run::record("fsync", &["--memtable-size=1MiB"], true).await;
    let gone = |ending: &str| run.disk.removed().find(|(_, name)| name.ends_with(ending)).map(|(at, _)| at);
    let journal = gone(".jnl").expect("a journal that was dropped");
    assert!(run.disk.removed().any(|(_, name)| name.contains("tables/")), "a table that was compacted");
    let mut random = seed();
    run.cut_everywhere(&run.cuts(&mut random, journal, 6), &mut random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_would_be_seen() {
    let run = Run::record("buffered", &[], false).await;
    let last = run.cuts(&mut seed(), 0, 1)[0];
    let broken = run.after_cut(last, Unsynced::Lost).await;
    assert!(!broken.is_empty(), "buffered mode should lose what was not synced");
}

fn seed() -> fastrand::Rng {
    let seed = std::env::var("ZIZQ_CRASH_SEED")
        .map_or_else(|_| fastrand::u64(..1_000_000), |seed| seed.parse().unwrap());
    eprintln!("ZIZQ_CRASH_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A traced run of a server.
struct Run {
    folder: TempDir,
    calls: Vec<Call>,
    disk: Disk,
    exchanges: Vec<Exchange>,
}

impl Run {
    async fn record(mode: &str, more_flags: &[&str], much: bool) -> Self {
        let folder = TempDir::with_prefix("zizq-powercut-").unwrap();
        let (root, trace) = (folder.path().join("traced"), folder.path().join("trace"));
        std::fs::create_dir(&root).unwrap();
        let mut args: Vec<String> =
            ["-D", "-f", "-qq", "-s", "100000000", "-e", SYSCALLS, "-o"].map(str::to_owned).into();
        args.push(trace.to_str().unwrap().to_owned());
        args.push(binary("zizq-server").to_str().unwrap().to_owned());
        args.extend(flags(&root));
        args.extend(more_flags.iter().map(|flag| (*flag).to_owned()));
        args.extend([format!("--enqueue-commit-mode={mode}"), format!("--default-commit-mode={mode}")]);
        let mut command = Command::new(strace());
        command.args(args);
        let mut process = Process::start(command, &folder.path().join("traced.log"));
        let client = client(&mut process).await;
        if much {
            load::fill(&client).await;
        }
        load::run(&client).await;
        process.kill9().await;
        let trace = until("the end of the trace", async || {
            let trace = std::fs::read_to_string(&trace).unwrap_or_default();
            trace.trim_end().ends_with("+++ killed by SIGKILL +++").then_some(trace)
        });
        let calls = trace::parse(&trace.await);
        let (disk, exchanges) = (Disk::new(&root, &calls), wire::exchanges(&calls));
        Self { folder, calls, disk, exchanges }
    }

    /// Where the power goes: right after answers began to leave, behind a place of the trace; the last one first.
    fn cuts(&self, random: &mut fastrand::Rng, behind: usize, most: usize) -> Vec<usize> {
        let answered = self.exchanges.iter().filter_map(|exchange| exchange.answered.as_ref());
        let places = answered.map(|answered| answered.0 + 1).filter(|at| *at > behind);
        let mut places: Vec<usize> = places.collect();
        places.sort_unstable();
        let last = places.pop().expect("an answer");
        random.shuffle(&mut places);
        places.truncate(most - 1);
        places.insert(0, last);
        places
    }

    /// Cuts the power at each of these places.
    async fn cut_everywhere(&self, cuts: &[usize], random: &mut fastrand::Rng) {
        for (i, &cut) in cuts.iter().enumerate() {
            let unsynced = if i % 2 == 0 { Unsynced::Lost } else { Unsynced::Torn(random.fork()) };
            let broken = self.after_cut(cut, unsynced).await;
            assert!(broken.is_empty(), "cut at line {cut} of the trace:\n{}", broken.join("\n"));
        }
        eprintln!("{} cuts of {} exchanges, {} calls", cuts.len(), self.exchanges.len(), self.calls.len());
    }

    /// Cuts the power, starts a server on what is left, and says what is wrong.
    async fn after_cut(&self, cut: usize, unsynced: Unsynced) -> Vec<String> {
        let root = self.folder.path().join(format!("cut-{cut}"));
        std::fs::create_dir(&root).unwrap();
        self.disk.after_cut(cut, unsynced, &root);
        let mut command = Command::new(binary("zizq-server"));
        command.args(flags(&root));
        let mut process = Process::start(command, &root.with_extension("log"));
        let client = client(&mut process).await;
        let mut broken = Vec::new();
        for (id, expected) in expectations(&self.exchanges, cut) {
            let answer = client.call(Method::GET, &format!("/jobs/{id}")).await;
            let job = (answer.status == 200).then(|| answer.value());
            broken.extend(
                expected.broken_by(job.as_ref()).map(|law| format!("{id}: {law}, but there is {job:?}")),
            );
        }
        process.kill9().await;
        drop(std::fs::remove_dir_all(&root));
        broken
    }
}

/// Without space that is held back, a call of which the model of the disk knows nothing.
fn flags(root: &Path) -> Vec<String> {
    ["--port", "0", "--min-free-disk", "0B", "--root-dir", root.to_str().unwrap()].map(str::to_owned).into()
}

fn strace() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("strace")).find(|path| path.is_file());
    found.expect("this test needs strace: apt-get install strace")
}

/// Waits for the line that says where a server listens.
async fn client(process: &mut Process) -> Client {
    let line = process.line().await;
    let url = line.find("http://").map(|at| &line[at..]);
    Client::new(url.unwrap_or_else(|| panic!("{line:?} does not say where it listens")), Wire::default())
}

/// What must be true of a job after a cut.
#[derive(Debug, Default)]
struct Expectation {
    /// The enqueue was answered.
    exists: bool,
    /// Its success or its deletion was answered.
    gone: bool,
    /// Its success or its deletion was asked for.
    may_have_gone: bool,
    failures: u64,
    payload: Option<Value>,
}

impl Expectation {
    fn broken_by(&self, job: Option<&Value>) -> Option<String> {
        match job {
            Some(job) if self.gone => Some(format!("its end was answered ({})", job["status"])),
            Some(job) => {
                let attempts = job["attempts"].as_u64() >= Some(self.failures);
                let payload = self.payload.as_ref().is_none_or(|payload| *payload == job["payload"]);
                (!attempts || !payload).then(|| format!("expected {self:?}"))
            }
            None => (self.exists && !self.may_have_gone).then(|| "its enqueue was answered".to_owned()),
        }
    }
}

/// What must be true after a cut, by job.
fn expectations(exchanges: &[Exchange], cut: usize) -> BTreeMap<String, Expectation> {
    let mut jobs: BTreeMap<String, Expectation> = BTreeMap::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.asked < cut) {
        let answer = exchange.answered.as_ref().filter(|answered| answered.0 < cut);
        let status = answer.map_or(0, |answer| answer.1);
        let (path, request) = (exchange.path.as_str(), &exchange.request);
        match path.split('/').skip(2).collect::<Vec<_>>()[..] {
            [] | ["bulk"] if status == 201 => {
                let body = &answer.unwrap().2;
                let one = [std::slice::from_ref(body), std::slice::from_ref(request)];
                let [made, asked] = if path == "/jobs" { one } else { [list(body), list(request)] };
                for (job, asked) in made.iter().zip(asked) {
                    let job = jobs.entry(tests::id(job).to_owned()).or_default();
                    job.exists = true;
                    job.payload = Some(asked["payload"].clone());
                }
            }
            [id] if exchange.method == "delete" => {
                let job = jobs.entry(id.to_owned()).or_default();
                job.may_have_gone = true;
                job.gone |= status == 204;
            }
            ["success"] => {
                for job in list(request) {
                    let job = jobs.entry(tests::id(job).to_owned()).or_default();
                    job.may_have_gone = true;
                    job.gone |= status == 204;
                }
            }
            [id, "success"] => {
                let job = jobs.entry(id.to_owned()).or_default();
                job.may_have_gone = true;
                job.gone |= status == 204;
            }
            [id, "failure"] => jobs.entry(id.to_owned()).or_default().failures += u64::from(status == 200),
            _ => {}
        }
    }
    jobs
}

fn list(value: &Value) -> &[Value] {
    value["jobs"].as_array().map_or(&[], Vec::as_slice)
}
