use std::os::unix::ffi::OsStringExt;

use tracing::Level;

use super::*;

#[test]
fn flags_are_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

fn refused(args: &[&str]) -> String {
    let args = ["zizq-server"].iter().chain(args);
    Cli::try_parse_from(args).err().map(|e| e.to_string()).unwrap_or_default()
}

/// Invalid values, and the message for each.
const ABSURD: [(&str, &str, &str); 58] = [
    ("--log-level", "verbose", "`verbose` is not a level; use off, error, warn, info, debug, trace"),
    ("--log-level", "", "`` is not a level"),
    ("--log-level", "3", "`3` is not a level"),
    ("--log-level", "info ", "`info ` is not a level"),
    ("--log-level", "info,verbose", "`verbose` is not a level"),
    ("--log-level", "hyper=loud", "`loud` is not a level"),
    ("--log-level", "hyper=", "`` is not a level"),
    ("--log-level", "=debug", "`=debug` names no part of the program before `=`"),
    ("--cache-size", "64", "`64` has no unit: is it 64MB, or really 64B?"),
    ("--cache-size", "64B", "it must be between 1MB and 1TiB"),
    ("--cache-size", "0", "it must be between 1MB and 1TiB"),
    ("--cache-size", "64s", "`64s` is no size"),
    ("--cache-size", "9000000PB", "is more than any machine has"),
    ("--max-body-size", "0", "it must be between 1KB and 2GiB"),
    ("--max-body-size", "3GiB", "it must be between 1KB and 2GiB"),
    ("--max-payload-size", "1", "`1` has no unit"),
    ("--max-payload-size", "1B", "it must be between 1KB and 1GiB"),
    ("--min-free-disk", "5%", "`5%` is no size"),
    ("--filter-memory", "256", "`256` has no unit"),
    ("--filter-memory", "1MB", "it must be between 16MB and 1TiB"),
    ("--filter-timeout", "0s", "it must be between 10ms and 1h"),
    ("--filter-timeout", "2", "`2` has no unit: is it 2ms, 2s or 2m?"),
    ("--drain-timeout", "10", "`10` has no unit"),
    ("--drain-timeout", "10M", "could be minutes or months"),
    ("--drain-timeout", "10us", "is not a whole number of milliseconds"),
    ("--drain-timeout", "9999999999y", "is longer than a thousand years"),
    ("--drain-timeout", " ", "it is empty; write it like 500ms"),
    ("--heartbeat-interval", "1h", "it must be between 10ms and 15s"),
    ("--default-timeout", "0s", "it would leave no time to run"),
    ("--default-backoff-base", "365d", "it must be at most 49 days"),
    ("--default-backoff-jitter", "50d", "it must be at most 49 days"),
    ("--default-backoff-exponent", "NaN", "it must be between 0 and 100"),
    ("--default-backoff-exponent", "inf", "it must be between 0 and 100"),
    ("--default-backoff-exponent", "", "`` is not a number"),
    ("--default-retry-limit", "4294967296", "4294967296 is not in 0..=4294967295"),
    ("--default-retry-limit", "1.5", "invalid digit"),
    ("--default-dead-job-retention", "7", "`7` has no unit"),
    ("--default-completed-job-retention", "for ever", "is no length of time"),
    ("--max-deliveries", "0", "0 is not in 1..=4294967295"),
    ("--max-connections", "0", "it must be a number from 1 to 1000000"),
    ("--max-budgets", "many", "invalid digit"),
    ("--global-in-flight-limit", "", "cannot parse integer from empty string"),
    ("--timezone", "", "is not a time zone in the IANA database"),
    ("--timezone", "Berlin", "is not a time zone in the IANA database; write it like `Europe/Berlin`"),
    ("--port", "", "cannot parse integer from empty string"),
    ("--port", "65536", "65536 is not in 0..=65535"),
    ("--host", "", "it is empty; write 127.0.0.1"),
    ("--host", "http://127.0.0.1", "expected only a name or an address"),
    ("--host", "127.0.0.1:7890", "set the port with --port"),
    ("--root-dir", "", "a value is required for '--root-dir"),
    ("--log-format", "xml", "[possible values: pretty, json]"),
    ("--enqueue-commit-mode", "", "[possible values: "),
    ("--auth-proxy-header", "", "is not the name of a header"),
    ("--auth-proxy-header", "X-User:", "is not the name of a header"),
    ("--auth-proxy-header", "authorization", "means something else"),
    ("--auth-proxy-groups-header", "Cookie", "means something else"),
    ("--auth-proxy-from", "0.0.0.0/0", "that they are anybody"),
    ("--auth-proxy-role", "alice", "none of USER=ROLE"),
];

#[test]
fn an_invalid_value_is_refused_with_the_choices() {
    for (flag, value, said) in ABSURD {
        let error = refused(&[flag, value]);
        assert!(error.contains(said) && error.contains(flag), "{flag} {value:?}: {error}");
    }
    let odd = std::ffi::OsString::from_vec(vec![b'6', 0xff]);
    for flag in ["--port", "--host", "--cache-size", "--log-level", "--drain-timeout", "--timezone"] {
        let args = ["zizq-server".into(), flag.into(), odd.clone()];
        let error = Cli::try_parse_from(args).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("invalid UTF-8"), "{flag}: {error}");
    }
}

#[test]
fn a_proxy_is_believed_with_its_address_and_roles_only() {
    let (header, from, role) = (
        ["--auth-proxy-header", "X-User"],
        ["--auth-proxy-from", "10.0.0.7"],
        ["--auth-proxy-role", "*=viewer"],
    );
    for (args, missing) in [
        ([header, from], "--auth-proxy-role"),
        ([header, role], "--auth-proxy-from"),
        ([from, role], "--auth-proxy-header"),
        ([["--auth-proxy-groups-header", "X-Groups"], from], "--auth-proxy-header"),
    ] {
        let error = refused(&args.concat());
        assert!(error.contains("required") && error.contains(missing), "{args:?}: {error}");
    }
    assert_eq!(refused(&[header, from, role].concat()), "");
}

#[test]
fn a_valid_value_is_accepted() {
    for (flag, value) in [
        ("--log-level", "INFO"),
        ("--log-level", "off"),
        ("--log-level", "info,hyper=debug,fjall=trace"),
        ("--cache-size", "1MiB"),
        ("--min-free-disk", "0"),
        ("--drain-timeout", "0"),
        ("--drain-timeout", "1h 30m"),
        ("--default-backoff-base", "49d"),
        ("--host", "::1"),
        ("--host", "[::1]"),
        ("--host", "queue.example"),
    ] {
        assert_eq!(refused(&[flag, value]), "", "{flag} {value}");
    }
}

#[test]
fn a_filter_for_one_part_leaves_the_rest_at_info() {
    for (filter, target, level, logged) in [
        ("hyper=debug", "zizq_server", Level::INFO, true),
        ("hyper=debug", "hyper::proto", Level::DEBUG, true),
        ("hyper=debug", "zizq_server", Level::DEBUG, false),
        ("warn", "zizq_server", Level::INFO, false),
        ("warn,zizq_server=info", "zizq_server", Level::INFO, true),
        ("info", "fjall::journal", Level::INFO, false),
        ("info", "fjall::locked_file", Level::ERROR, false),
        ("info,fjall=info", "fjall::journal", Level::INFO, true),
        ("debug", "fjall::journal", Level::DEBUG, true),
        ("error", "fjall::journal", Level::WARN, false),
        ("off", "zizq_server", Level::ERROR, false),
    ] {
        assert_eq!(log_filter(filter).unwrap().would_enable(target, &level), logged, "{filter} {target}");
    }
}

#[test]
fn serve_is_the_default() {
    let config = |args: &[&str]| match Cli::task_of(args) {
        Ok(Task::Serve(config)) => Some(config.port),
        _ => None,
    };
    assert_eq!(config(&["zizq-server", "--port", "1"]), Some(1));
    assert_eq!(config(&["zizq-server", "serve", "--port", "2"]), Some(2));
    assert_eq!(config(&["zizq-server", "--port", "65536"]), None);
}

#[test]
fn settings_are_shown_as_they_were_written() {
    for command in [&["zizq-server"][..], &["zizq-server", "serve"]] {
        let args =
            command.iter().chain(&["--heartbeat-interval", "1s", "--allowed-host", "a.example,b.example"]);
        let Ok(Task::Serve(config)) = Cli::task_of(args) else { panic!("it serves") };
        let shown = |flag: &str| {
            let setting = config.settings.iter().find(|setting| setting.flag == flag).unwrap();
            (setting.variable.as_deref(), setting.value.as_deref(), setting.source)
        };
        let flag = |variable, value| (Some(variable), Some(value), Source::Flag);
        assert_eq!(shown("--heartbeat-interval"), flag("ZIZQ_HEARTBEAT_INTERVAL", "1s"));
        assert_eq!(shown("--allowed-host"), flag("ZIZQ_ALLOWED_HOST", "a.example,b.example"));
        assert_eq!(shown("--salvage"), (None, Some("false"), Source::Default));
        assert_eq!(shown("--default-timeout"), (Some("ZIZQ_DEFAULT_TIMEOUT"), None, Source::Default));
        assert_eq!(shown("--cache-size"), (Some("ZIZQ_CACHE_SIZE"), Some("64MB"), Source::Default));
        assert!(config.settings.iter().all(|setting| !["--help", "--version"].contains(&&*setting.flag)));
    }
}
