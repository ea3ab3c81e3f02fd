use clap::Parser as _;

use super::*;
use crate::args::Args;
use crate::route::Target;

fn config(flags: &[&str]) -> Result<Config, String> {
    let flags = ["zizq-worker"].iter().chain(flags);
    let args = Args::try_parse_from(flags).map_err(|e| e.to_string())?;
    Config::read(&args.flags).map_err(|e| e.to_string())
}

fn of_file(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    std::fs::write(&path, text).unwrap();
    config(&["--config", path.to_str().unwrap()])
}

#[test]
fn defaults() {
    let config = config(&["--run", "a=x"]).unwrap();
    assert_eq!(config.lease, Duration::from_secs(30));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.routes[0].concurrency.get(), 1);
    assert!(config.worker_id.to_str().unwrap().ends_with(&format!("-{}", std::process::id())));
}

#[test]
fn a_plain_number_is_for_the_queues_without_their_own() {
    let flags = ["--run", "a=x", "--http", "b=http://h/", "--concurrency", "b=2", "--concurrency", "7"];
    let limits: Vec<_> = config(&flags).unwrap().routes.iter().map(|r| r.concurrency.get()).collect();
    assert_eq!(limits, [7, 2]);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    for (flags, sentence) in [
        (&[][..], "no queue is given; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]]"),
        (&["--run", "a=x", "--http", "a=http://h/"], "queue `a` is given twice"),
        (&["--run", "a=x", "--concurrency", "b=2"], "names queue `b`, which has no route of its own"),
        (&["--run", "a=x", "--concurrency", "2", "--concurrency", "3"], "given twice for every queue"),
        (&["--run", "a=x", "--concurrency", "a=2", "--concurrency", "a=3"], "given twice for queue `a`"),
        (&["--run", "a=x", "--concurrency", "0"], "`0` is not a number from 1 to 65535"),
        (&["--run", "a="], "the command for queue `a` is empty"),
        (&["--run", "a*=x"], "`a*` contains '*'"),
        (&["--run", "a=x {{ .y"], "route `a`: a `{{` has no `}}`"),
        (&["--http", "a=ftp://{{ .y }}"], "route `a`: `ftp://{{ .y }}` does not begin with http://"),
        (&["--run", "a=x", "--server", "localhost:7890"], "does not begin with http://"),
        (&["--run", "a=x", "--server", "127.0.0.1:7890"], "is not a URL"),
        (&["--run", "a=x", "--server", "http://h/?x"], "has a `?` or `#` part"),
        (&["--run", "a=x", "--lease", "1ms"], "--lease must be from 1s to 12h, not 1ms"),
        (&["--run", "a=x", "--lease", "13h"], "--lease must be from 1s to 12h, not 13h"),
        (&["--run", "a=x", "--lease", "30"], "time unit needed"),
        (&["--run", "a=x", "--worker-id", "ä"], "--worker-id must be 1 to 255 visible ASCII characters"),
        (&["--config", "/nowhere.toml"], "cannot read /nowhere.toml"),
    ] {
        let error = config(flags).unwrap_err();
        assert!(error.contains(sentence), "{flags:?}: {error}");
    }
}

#[test]
fn the_sample_is_right_as_it_is_and_with_everything_switched_on() {
    let config = of_file(SAMPLE).unwrap();
    assert_eq!(config.routes.len(), 2);
    // Every key that is commented out, switched on; what needs files or another machine is left out.
    let absent = ["ca =", "cert =", "key =", "user =", "\"file:"];
    let all: String = SAMPLE
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .filter(|line| !absent.iter().any(|key| line.contains(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(all, SAMPLE);
    let config = of_file(&all).unwrap_or_else(|e| panic!("{e}\n{all}"));
    assert_eq!(config.total.unwrap().get(), 32);
    let Target::Http(http) = &config.routes[1].target else { panic!() };
    assert!(http.cloud_events);
}

#[test]
fn flags_go_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    let text = "lease = '50s'\ngrace = '9s'\nconcurrency = 3\n[[route]]\nqueue = 'b'\nrun = ['true']\n";
    std::fs::write(&path, text).unwrap();
    let config = config(&["--config", path.to_str().unwrap(), "--lease", "40s", "--run", "a=x"]).unwrap();
    assert_eq!((config.lease.as_secs(), config.grace.as_secs()), (40, 9));
    let names: Vec<_> = config.routes.iter().map(|route| (&*route.name, route.concurrency.get())).collect();
    assert_eq!(names, [("a", 3), ("b", 3)]);
}

#[test]
fn a_file_that_is_wrong_is_explained_with_its_line() {
    let route = |lines: &str| format!("[[route]]\nqueue = 'q'\n{lines}\n");
    for (text, sentence) in [
        (
            "concurency = 3\n".to_owned(),
            "worker.toml:1: there is no key `concurency`; did you mean `concurrency`?",
        ),
        (
            route("run = 'x'\ntime-out = '3s'"),
            "worker.toml:4: there is no key `time-out`; did you mean `timeout`?",
        ),
        (route("run = 'x'\nlimits = {mem = '3MB'}"), "there is no key `mem`; did you mean `memory`?"),
        (route("run = 'x'\nzzz = 1"), "there is no key `zzz`; there are name, queue, type, "),
        (route("run = 'x'\ntimeout = 3"), "worker.toml:4: invalid type: integer `3`, expected a duration"),
        (route("run = 'x'\ntimeout = '0s'"), "route `q`: with a timeout of 0s no job could run"),
        (route("run = 'x'\ntimeout = '3'"), "`3` is no duration: time unit needed"),
        (route("run = 'x'\nurl = 'http://h'"), "route `q`: it has both `run` and `url`"),
        (route(""), "route `q`: it has neither `run` nor `url`"),
        (route("run = 'x'\nsecrets = 'x'"), "route `q`: `secrets` has no meaning beside `run`"),
        (route("url = 'http://h'\ncwd = '/'"), "route `q`: `cwd` has no meaning beside `url`"),
        (route("run = 'x'\noutcome = {300 = 'dead'}"), "route `q`: outcome: `300` is nothing"),
        (route("run = 'x'\noutcome = {3 = 'deadly'}"), "unknown variant `deadly`"),
        (route("run = []"), "route `q`: the command is empty"),
        (route("url = 'h'"), "route `q`: `h` is not a URL"),
        (route("url = 'http://h'\nmethod = 'a b'"), "`a b` is no method of HTTP"),
        (route("url = 'http://h'\ncert = '/x'"), "`cert` and `key` go together"),
        (route("run = 'x'\nuser = 'no-such-user'"), "there is no user `no-such-user`"),
        ("[[route]]\nrun = 'x'\n".to_owned(), "it has no `queue`"),
        ("[[route]]\nqueue = 'a*'\nrun = 'x'\n".to_owned(), "`a*` contains '*'"),
        ("x\n".to_owned(), "worker.toml:1: "),
        (route("run = 'x'") + &route("run = 'y'"), "queue `q` is given twice"),
    ] {
        let error = of_file(&text).unwrap_err();
        assert!(error.contains(sentence), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
