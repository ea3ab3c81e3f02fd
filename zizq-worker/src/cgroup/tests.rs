use super::job::{limit, spent};
use super::tree::{enable, folder_of};
use super::*;

/// A folder with these files, as the kernel would have made it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn text(folder: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

const ALL: Controllers = Controllers::ALL;

fn limits() -> Limits {
    Limits { memory: Some(512 << 20), processes: Some(20), nice: Some(5), ..Limits::default() }
}

#[test]
fn limits_are_written_where_the_kernel_reads_them() {
    let files = [("memory.max", "max\n"), ("memory.oom.group", "0\n"), ("pids.max", "max\n")];
    let job = folder(&files);
    limit(job.path(), ALL, &limits()).unwrap();
    assert_eq!(files.map(|(name, _)| text(&job, name)), ["536870912", "1", "20"]);
    assert!(!job.path().join("memory.swap.max").exists());

    let with_swap = folder(&[("memory.max", "max"), ("memory.oom.group", "0"), ("memory.swap.max", "max")]);
    limit(with_swap.path(), Controllers { pids: false, ..ALL }, &limits()).unwrap();
    assert_eq!(text(&with_swap, "memory.swap.max"), "0");

    let unlimited = folder(&files);
    limit(unlimited.path(), ALL, &Limits::default()).unwrap();
    assert_eq!(files.map(|(name, _)| text(&unlimited, name)), ["max\n", "1", "max\n"]);
}

#[test]
fn a_limit_that_the_kernel_does_not_take_is_an_error() {
    let job = folder(&[("memory.oom.group", "0")]);
    let error = limit(job.path(), ALL, &limits()).unwrap_err().to_string();
    assert!(error.starts_with("memory.max: "), "{error}");
    limit(job.path(), Controllers::default(), &limits()).unwrap();
}

#[test]
fn what_a_job_used_is_what_the_kernel_says() {
    let job = folder(&[
        ("cpu.stat", "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n"),
        ("memory.peak", "104857600\n"),
        ("memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 1\n"),
    ]);
    let all = Spent { cpu_ms: Some(1234), peak_bytes: Some(100 << 20), out_of_memory: Some(true) };
    assert_eq!(spent(job.path()), all);
    fs::write(job.path().join("memory.events"), "oom 1\noom_kill 0\n").unwrap();
    assert_eq!(spent(job.path()).out_of_memory, Some(false));
    assert_eq!(spent(folder(&[]).path()), Spent::default());
}

#[test]
fn what_is_limited_by_a_cgroup_is_not_limited_for_each_process() {
    let left = Limits { memory: None, processes: None, ..limits() };
    assert_eq!(ALL.leave(limits()), left);
    assert_eq!(Controllers::default().leave(limits()), limits());
    assert_eq!(Controllers { pids: false, ..ALL }.leave(limits()).processes, Some(20));
}

#[test]
fn a_controller_that_is_missing_is_said() {
    let base = folder(&[("cgroup.controllers", "cpuset cpu io memory hugetlb pids misc\n")]);
    assert_eq!(Controllers::offered(base.path()).unwrap(), ALL);
    assert_eq!(ALL.to_string(), "memory is limited per job, processes per job");
    let base = folder(&[("cgroup.controllers", "hugetlb pids\n")]);
    let offered = Controllers::offered(base.path()).unwrap();
    assert_eq!(
        offered.to_string(),
        "memory is limited per process, as address space (no controller `memory`), processes per job"
    );
    let none = Controllers::default().to_string();
    assert!(none.ends_with(", processes per user (no controller `pids`)"), "{none}");
}

#[test]
fn a_controller_is_enabled_once() {
    let base = folder(&[("cgroup.subtree_control", "cpu memory\n")]);
    enable(base.path(), "memory").unwrap();
    assert_eq!(text(&base, "cgroup.subtree_control"), "cpu memory\n");
    enable(base.path(), "pids").unwrap();
    assert_eq!(text(&base, "cgroup.subtree_control"), "+pids");
}

#[test]
fn a_place_is_auto_or_a_folder() {
    assert_eq!("auto".parse(), Ok(Place::Own));
    assert_eq!("/a/b".parse(), Ok(Place::Folder("/a/b".into())));
    let error = "jobs".parse::<Place>().unwrap_err();
    assert_eq!(error, "`jobs` is neither `auto` nor the absolute path of a cgroup");
}

#[test]
fn the_cgroup_of_a_process_is_found_on_every_kind_of_machine() {
    let unified = "tmpfs /run tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
    let service = folder_of(unified, "0::/system.slice/worker.service\n");
    assert_eq!(service, Some("/sys/fs/cgroup/system.slice/worker.service".into()));
    let hybrid =
        "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    assert_eq!(folder_of(hybrid, "2:pids:/x\n0::/\n"), Some("/sys/fs/cgroup/unified".into()));
    assert_eq!(folder_of("cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n", "2:pids:/x\n"), None);
}

#[test]
fn a_folder_that_is_not_a_cgroup_is_refused() {
    let folder = folder(&[]);
    let error = foresee(&Place::Folder(folder.path().to_owned())).unwrap_err();
    let expected = format!("{} is not a cgroup (version 2); make the folder in", folder.path().display());
    assert!(error.starts_with(&expected), "{error}");
    let error = foresee(&Place::Folder("/no/such/folder".into())).unwrap_err();
    assert!(error.starts_with("cannot use the cgroup /no/such/folder: No such file"), "{error}");
}
