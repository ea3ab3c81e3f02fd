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
        (&[][..], "no queue to work on; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]]"),
        (
            &["--run", "a=x", "--http", "a=http://h/"],
            "queue `a` has two routes for all types; by flags a queue has one command or URL",
        ),
        (&["--run", "a=x", "--concurrency", "b=2"], "names queue `b`, which has no route of its own"),
        (&["--run", "a=x", "--concurrency", "2", "--concurrency", "3"], "given twice for every queue"),
        (&["--run", "a=x", "--concurrency", "a=2", "--concurrency", "a=3"], "given twice for queue `a`"),
        (&["--run", "a=x", "--concurrency", "0"], "`0` is not a number from 1 to 65535"),
        (&["--run", "a="], "the command for queue `a` is empty"),
        (&["--run", "a*=x"], "`a*` contains '*'"),
        (&["--run", "a=x {{ .y"], "route `a`: `x {{ .y` has a `{{` without `}}`"),
        (
            &["--http", "a=ftp://{{ .payload }}"],
            "route `a`: `ftp://{{ .payload }}` does not begin with http://",
        ),
        (&["--run", "a=x", "--server", "localhost:7890"], "does not begin with http://"),
        (&["--run", "a=x", "--server", "127.0.0.1:7890"], "is not a URL"),
        (&["--run", "a=x", "--server", "http://h/?x"], "has a `?` or `#` part"),
        (&["--run", "a=x", "--lease", "1ms"], "--lease must be from 1s to 12h, not 1ms"),
        (&["--run", "a=x", "--lease", "13h"], "--lease must be from 1s to 12h, not 13h"),
        (&["--run", "a=x", "--lease", "30"], "`30` has no unit: is it 30ms, 30s or 30m?"),
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
    let absent = ["server_file =", "token_file =", "ca =", "cert =", "key =", "user =", "\"file:"];
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
            "worker.toml:1: unknown key `concurency`; did you mean `concurrency`?",
        ),
        (
            route("run = 'x'\ntime-out = '3s'"),
            "worker.toml:4: unknown key `time-out`; did you mean `timeout`?",
        ),
        (route("run = 'x'\nlimits = {mem = '3MB'}"), "unknown key `mem`; did you mean `memory`?"),
        (route("run = 'x'\nzzz = 1"), "unknown key `zzz`; known keys are name, queue, type, "),
        (route("run = 'x'\ntimeout = 3"), "worker.toml:4: invalid type: integer `3`, expected a duration"),
        (route("run = 'x'\ntimeout = '0s'"), "route `q`: `timeout` must be more than 0s"),
        (route("run = 'x'\ntimeout = '3'"), "worker.toml:4: `3` has no unit: is it 3ms, 3s or 3m?"),
        (route("run = 'x'\nurl = 'http://h'"), "route `q`: it has both `run` and `url`"),
        (route(""), "route `q`: it needs `run` or `url`"),
        (route("run = 'x'\nsecrets = 'x'"), "route `q`: `secrets` has no meaning beside `run`"),
        (route("url = 'http://h'\ncwd = '/'"), "route `q`: `cwd` has no meaning beside `url`"),
        (route("run = 'x'\noutcome = {300 = 'dead'}"), "route `q`: outcome: `300` is not a possible outcome"),
        (
            route("run = 'x'\noutcome = {3 = 'deadly'}"),
            "`deadly` is none of success, retry, dead, release, back_off",
        ),
        (route("run = []"), "route `q`: the command is empty"),
        (route("url = 'h'"), "route `q`: `h` is not a URL"),
        (route("url = 'http://h'\nmethod = 'a b'"), "`a b` is not an HTTP method"),
        (route("url = 'http://h'\ncert = '/x'"), "`cert` and `key` must be given together"),
        (route("run = 'x'\nuser = 'no-such-user'"), "no user `no-such-user` in"),
        ("[[route]]\nrun = 'x'\n".to_owned(), "`queue` is missing"),
        ("[[route]]\nqueue = 'a*'\nrun = 'x'\n".to_owned(), "`a*` contains '*'"),
        ("x\n".to_owned(), "worker.toml:1: "),
        (route("run = 'x'") + &route("run = 'y'"), "queue `q` has two routes for all types"),
    ] {
        let error = of_file(&text).unwrap_err();
        assert!(error.contains(sentence), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_flag_that_means_nothing_is_refused_with_the_choices() {
    for (flag, value, said) in [
        ("--config", "", "a value is required for '--config"),
        ("--server", "", "is not a URL"),
        ("--server", " ", "is not a URL"),
        ("--server", "http://", "is not a URL"),
        ("--server", "http://h:99999", "is not a URL"),
        ("--run", "", "the `=` is missing; write QUEUE=COMMAND"),
        ("--run", "=x", "the queue before the `=` is not valid"),
        ("--run", "q=  ", "the command for queue `q` is empty"),
        ("--http", "q=", "the URL for queue `q` is empty"),
        ("--concurrency", "", "`` is not a number from 1 to 65535"),
        ("--concurrency", "-1", "`-1` is not a number from 1 to 65535"),
        ("--concurrency", "2.5", "`2.5` is not a number from 1 to 65535"),
        ("--concurrency", "4,", "`` is not a number from 1 to 65535"),
        ("--total-concurrency", "0", "`0` is not a number from 1 to 65535"),
        ("--total-concurrency", "65536", "`65536` is not a number from 1 to 65535"),
        ("--worker-id", "", "must be 1 to 255 visible ASCII characters"),
        ("--worker-id", "a b", "must be 1 to 255 visible ASCII characters"),
        ("--lease", "", "it is empty; write it like"),
        ("--lease", "30", "`30` has no unit"),
        ("--lease", "0", "--lease must be from 1s to 12h, not 0s"),
        ("--lease", "-5s", "is no length of time"),
        ("--lease", "30M", "could be minutes or months"),
        ("--lease", "512MB", "is no length of time"),
        ("--lease", "999999y", "is longer than a thousand years"),
        ("--timeout", "0s", "`timeout` must be more than 0s"),
        ("--timeout", "1ns", "is not a whole number of milliseconds"),
        ("--shutdown-timeout", "30", "`30` has no unit"),
        ("--grace", " ", "it is empty"),
        ("--spool", "", "a value is required for '--spool"),
        ("--cgroup", "", "is neither `auto` nor the absolute path of a cgroup"),
        ("--cgroup", "yes", "is neither `auto` nor the absolute path of a cgroup"),
        ("--listen", "", "`` is not an address and port, such as 127.0.0.1:7891"),
        ("--listen", "7891", "is not an address and port, such as 127.0.0.1:7891"),
        ("--listen", "127.0.0.1:99999", "is not an address and port, such as 127.0.0.1:7891"),
        ("--max-jobs", "0", "`0` is not a number from 1"),
        ("--max-jobs", "-1", "`-1` is not a number from 1"),
        ("--max-idle", "10", "`10` has no unit"),
        ("--live", "yes", "[possible values: auto, always, never]"),
        ("--log-level", "verbose", "[possible values: error, warn, info, debug, trace]"),
        ("--log-level", "", "[possible values: error, warn, info, debug, trace]"),
        ("--log-format", "xml", "[possible values: pretty, json]"),
    ] {
        let given = if matches!(flag, "--run" | "--http") { &[][..] } else { &["--run", "a=x"] };
        let joined = format!("{flag}={value}");
        let flags: Vec<&str> = given.iter().copied().chain([joined.as_str()]).collect();
        let error = config(&flags).map(|_| ()).unwrap_err();
        assert!(error.contains(said), "{flag} {value:?}: {error}");
    }
    for (flag, value) in
        [("--shutdown-timeout", "0"), ("--grace", "0s"), ("--max-idle", "900y"), ("--lease", "1h 30m")]
    {
        assert!(config(&["--run", "a=x", flag, value]).is_ok(), "{flag} {value}");
    }
}

#[test]
fn a_key_that_means_nothing_is_refused_with_the_choices() {
    let route = |line: &str| format!("[[route]]\nqueue = 'q'\nrun = 'x'\n{line}\n");
    let http = |line: &str| format!("[[route]]\nqueue = 'q'\nurl = 'http://h'\n{line}\n");
    for (text, said) in [
        ("server = ''".to_owned(), "is not a URL"),
        ("server = 7890".to_owned(), "invalid type: integer `7890`, expected a string"),
        ("worker_id = ''".to_owned(), "must be 1 to 255 visible ASCII characters"),
        ("concurrency = 0".to_owned(), "expected a number from 1 to 65535"),
        ("concurrency = '4'".to_owned(), "expected a number from 1 to 65535"),
        ("total_concurrency = 65536".to_owned(), "expected a number from 1 to 65535"),
        ("lease = 30".to_owned(), "expected a duration such as \"30s\""),
        ("lease = ''".to_owned(), "it is empty; write it like"),
        ("grace = '5'".to_owned(), "`5` has no unit"),
        ("shutdown_timeout = '-1s'".to_owned(), "is no length of time"),
        ("spool = ''".to_owned(), "the path is empty; leave the key out for the default"),
        ("cgroup = ''".to_owned(), "is neither `auto` nor the absolute path of a cgroup"),
        ("cgroup = true".to_owned(), "expected \"auto\" or a folder"),
        ("listen = '7891'".to_owned(), "is not an address and port, such as 127.0.0.1:7891"),
        ("max_jobs = -1".to_owned(), "expected a number from 1"),
        ("max_idle = '1M'".to_owned(), "could be minutes or months"),
        ("live = 'yes'".to_owned(), "`yes` is none of auto, always, never"),
        ("log_level = 'verbose'".to_owned(), "`verbose` is none of error, warn, info, debug, trace"),
        ("log_format = ''".to_owned(), "`` is none of pretty, json"),
        (route("name = ' '"), "a name must be one visible line"),
        (route("name = \"a\\nb\""), "a name must be one visible line"),
        (route("type = ''"), "a name must not be empty"),
        (route("cwd = ''"), "the path is empty"),
        (route("user = ''"), "no user `` in"),
        (route("payload = 'file '"), "`file ` is none of stdin, file, none"),
        (route("inherit_env = 'PATH'"), "expected true, false or a list of names"),
        (route("inherit_env = ['']"), "inherit_env: `` is not a valid variable name"),
        (route("inherit_env = ['A=B']"), "inherit_env: `A=B` is not a valid variable name"),
        (route("env = {'A=B' = 'c'}"), "env: `A=B` is not a valid variable name"),
        (route("env = {'' = 'c'}"), "env: `` is not a valid variable name"),
        (route("limits = {memory = '512'}"), "`512` has no unit: is it 512MB, or really 512B?"),
        (route("limits = {memory = 512}"), "expected a size such as \"512MB\""),
        (route("limits = {memory = '512B'}"), "limits: `memory` must be at least 1MB"),
        (route("limits = {memory = '0'}"), "limits: `memory` must be at least 1MB"),
        (route("limits = {cpu_time = '1500ms'}"), "`cpu_time` must be at least 1s, in whole seconds"),
        (route("limits = {cpu_time = '0s'}"), "`cpu_time` must be at least 1s, in whole seconds"),
        (route("limits = {processes = 0}"), "expected a number from 1"),
        (route("limits = {nice = 20}"), "`nice` must be from -20 to 19"),
        (route("limits = {nice = 'high'}"), "expected a number"),
        (http("method = 'post'"), "HTTP methods are written in capitals: `POST`, not `post`"),
        (http("method = ''"), "`` is not an HTTP method"),
        (http("headers = {'' = 'x'}"), "`` is not a header name"),
        (http("headers = {x = \"a\\r\\nb: c\"}"), "the value of `x` contains a line break"),
        (http("connect_timeout = '0s'"), "`connect_timeout` must be more than 0s"),
        (http("first_byte_timeout = '0'"), "`first_byte_timeout` must be more than 0s"),
        (http("max_connections_per_host = 0"), "expected a number from 1 to 65535"),
        (http("ca = ''"), "the path is empty"),
        (http("secrets = ''"), "a secret must be `whsec_`"),
    ] {
        let text = if text.contains("[[route]]") { text } else { format!("{text}\n{}", route("")) };
        let error = of_file(&text).map(|_| ()).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
}
