//! Commands in cgroups of their own, on machines where the tests may make some.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{PATIENCE, Server};
use crate::worker::{ConfigFile, Worker, command, gone, id, job};

/// A job that leaves its process group, its parent and its environment, and says where it went.
const RUNAWAY: &str = "setsid env -i sh -c 'echo $$ > $0; exec sleep 1000' $PWD/pid >/dev/null 2>&1 & \
                       while ! test -s pid; do sleep 0.01; done; echo pid $(cat pid); grep ^0 /proc/self/cgroup";

/// A cgroup for a test, and a folder for its files.
struct Base {
    cgroup: PathBuf,
    files: tempfile::TempDir,
}

impl Base {
    /// None where cgroups of version 2 cannot be made.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[2] == "cgroup2");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/").map(str::to_owned));
        let (Some(mount), Some(own)) = (mount, own) else {
            eprintln!("not tested: this machine has no cgroups of version 2");
            return None;
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = Path::new(mount[1]).join(own).join(format!("zizq-test-{}-{count}", std::process::id()));
        if let Err(e) = fs::create_dir(&cgroup) {
            eprintln!("not tested: {} cannot be made: {e}", cgroup.display());
            return None;
        }
        Some(Self { cgroup, files: tempfile::tempdir().unwrap() })
    }

    /// A configuration with this command, in which what it writes goes to the folder of the test.
    fn config(&self, place: &str, run: &str) -> ConfigFile {
        let (run, cwd) = (json!(run), self.files.path().display());
        ConfigFile::new(&format!("cgroup = '{place}'\n[[route]]\nqueue = 'q'\ncwd = '{cwd}'\nrun = {run}\n"))
    }

    fn here(&self, run: &str) -> ConfigFile {
        self.config(self.cgroup.to_str().unwrap(), run)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.cgroup).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }

    /// A process in a cgroup below this.
    fn process(&self, name: &str) -> Child {
        let folder = self.cgroup.join(name);
        fs::create_dir_all(&folder).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(folder.join("cgroup.procs"), process.id().to_string()).unwrap();
        process
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
        let folders = |parent: &Path| {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        // A worker that was killed may need a moment, and its guard removes them, too.
        for _ in 0..500 {
            for worker in folders(&self.cgroup) {
                folders(&worker).iter().for_each(|job| drop(fs::remove_dir(job)));
                fs::remove_dir(worker).ok();
            }
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left behind", self.cgroup.display());
    }
}

async fn run_one(server: &mut Server) -> Value {
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call(&format!("/jobs/{}/failure", id(1))).await;
    let body = call.body.clone();
    call.answer("200 OK", "{}");
    body
}

async fn pid(worker: &mut Worker) -> String {
    let line = worker.message("pid ").await;
    line["message"].as_str().unwrap().strip_prefix("pid ").unwrap().to_owned()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn what_escapes_its_group_ends_with_its_job() {
    let Some(base) = Base::new() else { return };
    let mut server = Server::start().await;
    let file = base.here(&format!("{RUNAWAY}; exit 3"));
    let mut worker = file.start(&server);
    worker.message(&format!("commands get cgroups in {}/zizq-worker-", base.cgroup.display())).await;
    let failure = run_one(&mut server).await;
    assert_eq!(failure["error_type"], "exit_code", "{failure}");
    gone(&pid(&mut worker).await).await;
    let place = worker.message("0::/").await;
    assert!(place["message"].as_str().unwrap().contains(&format!("/job-{}-", id(1))), "{place}");
    let folders = base.folders();
    assert_eq!(folders.len(), 1);
    let jobs =
        || fs::read_dir(&folders[0]).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    until("the cgroup of the job is removed", || jobs() == 0).await;
    worker.stop(&mut server).await;
    assert!(base.folders().is_empty());
}

#[tokio::test]
async fn what_nobody_waited_for_is_counted() {
    let Some(base) = Base::new() else { return };
    let mut server = Server::start().await;
    let burn = "perl -e 'my $n = 0; while ((times)[0] < 0.5) { $n++ } print STDERR qq(burnt\\n); sleep 1000'";
    let file = base.here(&format!("({burn}) 2>burnt & while ! test -s burnt; do sleep 0.01; done; exit 1"));
    let _worker = file.start(&server);
    let failure = run_one(&mut server).await;
    assert!(failure["usage"]["cpu_ms"].as_u64().unwrap() >= 500, "{failure}");
}

#[tokio::test]
async fn nothing_outlives_a_worker_that_is_killed() {
    let Some(base) = Base::new() else { return };
    let mut server = Server::start().await;
    let file = base.here(&format!("{RUNAWAY}; sleep 1000"));
    let mut worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let pid = pid(&mut worker).await;
    worker.signal(Signal::KILL);
    gone(&pid).await;
    until("the cgroups of the worker are removed", || base.folders().is_empty()).await;
}

#[tokio::test]
async fn the_dead_are_cleared_away_and_the_living_left_alone() {
    let Some(base) = Base::new() else { return };
    let mut dead = base.process("zizq-worker-dead/job-1");
    let mut alive = base.process("zizq-worker-alive/job-1");
    let mut other = base.process("other");
    let lock = fs::File::open(base.cgroup.join("zizq-worker-alive")).unwrap();
    flock(lock.as_fd(), FlockOperation::LockExclusive).unwrap();
    let mut server = Server::start().await;
    let file = base.here("true");
    let worker = file.start(&server);
    server.stream().await;
    gone(&dead.id().to_string()).await;
    assert!(!dead.wait().unwrap().success());
    assert!(!base.cgroup.join("zizq-worker-dead").exists());
    assert!(alive.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
    worker.stop(&mut server).await;
    for process in [&mut alive, &mut other] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[tokio::test]
async fn a_worker_makes_room_below_its_own_cgroup() {
    let Some(base) = Base::new() else { return };
    let mut server = Server::start().await;
    let file = base.config("auto", &format!("{RUNAWAY}; exit 3"));
    let mut shell = tokio::process::Command::new("sh");
    let enter = format!("echo 0 > {}/cgroup.procs; exec \"$@\"", base.cgroup.display());
    shell.args(["-c", &enter, "sh", env!("CARGO_BIN_EXE_zizq-worker"), "--config", &file.path()]);
    let mut worker = Worker::start_as(shell, &server, &[]);
    run_one(&mut server).await;
    gone(&pid(&mut worker).await).await;
    let folders = base.folders();
    assert_eq!(folders.len(), 1);
    let inside = fs::read_to_string(folders[0].join("worker/cgroup.procs")).unwrap();
    assert!(inside.lines().any(|line| line == worker.pid().to_string()), "{inside}");
    let place = worker.message("0::/").await;
    let mine = format!("{}/job-{}-", folders[0].file_name().unwrap().to_str().unwrap(), id(1));
    assert!(place["message"].as_str().unwrap().contains(&mine), "{place}");
    assert_eq!(fs::read_to_string(base.cgroup.join("cgroup.procs")).unwrap(), "");
    worker.stop(&mut server).await;
    assert!(base.folders().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_no_cgroup_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let sentence = format!(
        "{place} is not a cgroup (version 2); make the folder in a cgroup file system, or use --cgroup auto"
    );
    let file = ConfigFile::new(&format!("cgroup = '{place}'\n[[route]]\nqueue = 'q'\nrun = 'true'\n"));
    let check = command().args(["check", "--config", &file.path()]).output().await.unwrap();
    assert_eq!(check.status.code(), Some(2));
    assert_eq!(String::from_utf8(check.stderr).unwrap(), format!("error: {sentence}\n"));
    let server = Server::start().await;
    let mut worker = file.start(&server);
    worker.message(&sentence).await;
    assert_eq!(worker.end().await.code(), Some(2));
}

#[tokio::test]
async fn check_says_what_the_limits_are_about() {
    let check = async |start: &str| {
        let route = "[[route]]\nqueue = 'q'\nrun = 'true'\nlimits = {memory = '1GB'}\n";
        let file = ConfigFile::new(&format!("{start}\n{route}"));
        let check = command().args(["check", "--config", &file.path()]).output().await.unwrap();
        String::from_utf8(check.stdout).unwrap()
    };
    let without = check("").await;
    assert!(without.contains("no cgroups: memory is limited per process, as address space, "), "{without}");
    let auto = check("cgroup = 'auto'").await;
    assert!(auto.contains("cgroups below the worker's own if it may make some"), "{auto}");
    let Some(base) = Base::new() else { return };
    let folder = base.cgroup.display();
    let here = check(&format!("cgroup = '{folder}'")).await;
    let offered = fs::read_to_string(base.cgroup.join("cgroup.controllers")).unwrap();
    let memory = match offered.split_whitespace().any(|one| one == "memory") {
        true => "memory is limited per job",
        false => "memory is limited per process, as address space (no controller `memory`)",
    };
    assert!(here.contains(&format!("commands get cgroups in {folder}; {memory}, ")), "{here}");
}
