//! Builds a route from its table in the file or from its flag, and checks it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;

use super::file::{LimitsTable, RouteTable, RunLine};
use crate::access::{open_to_all, others_can_read};
use crate::address::http_url;
use crate::outcome::{Kind, Rules};
use crate::route::{CommandSpec, HttpSpec, Inherit, Limits, Route, Run, Target, Tracing, User};
use crate::template::{Script, Template};
use crate::trust::{self, Identity};

/// The defaults of routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) concurrency: NonZeroU16,
    pub(super) timeout: Option<Duration>,
    pub(super) trace: Tracing,
    pub(super) linger: Duration,
    pub(super) grace: Duration,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            concurrency: NonZeroU16::MIN,
            timeout: None,
            trace: Tracing::default(),
            linger: super::DEFAULT_LINGER,
            grace: super::DEFAULT_GRACE,
        }
    }
}

/// How long an endpoint may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The smallest plausible memory limit.
const MIN_MEMORY: u64 = 1_000_000;

type Checked<T> = Result<T, String>;

/// Builds a route. The error begins with the name of the route.
pub(super) fn route(mut table: RouteTable, defaults: Defaults) -> Checked<Route> {
    let queues = std::mem::take(&mut table.queue).0;
    let types = std::mem::take(&mut table.job_type).0;
    let name = table.name.take().unwrap_or_else(|| {
        let list = |names: Vec<&str>| names.join(",");
        let queues = list(queues.iter().map(|queue| queue.as_str()).collect());
        match types.is_empty() {
            true => queues,
            false => format!("{queues}:{}", list(types.iter().map(|name| name.as_str()).collect())),
        }
    });
    let build = || -> Checked<Route> {
        if queues.is_empty() {
            return Err("`queue` is missing".to_owned());
        }
        let timeout = table.timeout.map(|span| span.0).or(defaults.timeout);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err("`timeout` must be more than 0s".to_owned());
        }
        let (kind, trace) = (kind(&table)?, table.trace.unwrap_or(defaults.trace));
        let (key, table_place) = (table.key.clone(), table.place.clone());
        let rules = Rules::with(kind, &table.outcome).map_err(|e| format!("outcome: {e}"))?;
        let (concurrency, target) = (
            table.concurrency.unwrap_or(defaults.concurrency),
            match kind {
                Kind::Command => Target::Command(command(table, defaults)?),
                Kind::Http => Target::Http(http(table)?),
            },
        );
        Ok(Route {
            name: name.as_str().into(),
            queues,
            types,
            doubts: doubts(&name, &target, key.as_deref()),
            place: table_place,
            concurrency,
            timeout,
            trace,
            rules,
            target,
        })
    };
    build().map_err(|e| format!("route `{name}`: {e}"))
}

/// Warnings about the certificates of a route.
fn doubts(name: &str, target: &Target, key: Option<&Path>) -> Vec<String> {
    let Target::Http(spec) = target else { return Vec::new() };
    let of =
        |what: &str, doubt: Option<String>| doubt.map(|doubt| format!("route `{name}`: `{what}`: {doubt}"));
    let key = key.filter(|path| others_can_read(path)).map(|path| open_to_all(path, "the private key"));
    let cert = spec.identity.as_ref().and_then(Identity::doubt);
    [of("ca", trust::doubt(&spec.ca)), of("cert", cert), of("key", key)].into_iter().flatten().collect()
}

/// Decides whether a route is a command or an endpoint, and refuses keys of the other.
fn kind(table: &RouteTable) -> Checked<Kind> {
    let command = [
        ("linger", table.linger.is_some()),
        ("grace", table.grace.is_some()),
        ("payload", table.payload.is_some()),
        ("cwd", table.cwd.is_some()),
        ("inherit_env", table.inherit_env.is_some()),
        ("env", table.env.is_some()),
        ("user", table.user.is_some()),
        ("limits", table.limits.is_some()),
    ];
    let http = [
        ("method", table.method.is_some()),
        ("headers", table.headers.is_some()),
        ("body", table.body.is_some()),
        ("cloud_events", table.cloud_events.is_some()),
        ("secrets", table.secrets.is_some()),
        ("connect_timeout", table.connect_timeout.is_some()),
        ("first_byte_timeout", table.first_byte_timeout.is_some()),
        ("max_connections_per_host", table.max_connections_per_host.is_some()),
        ("private_addresses", table.private_addresses.is_some()),
        ("ca", table.ca.is_some()),
        ("cert", table.cert.is_some()),
        ("key", table.key.is_some()),
    ];
    let (kind, foreign, own) = match (&table.run, &table.url) {
        (Some(_), None) => (Kind::Command, &http[..], "run"),
        (None, Some(_)) => (Kind::Http, &command[..], "url"),
        (Some(_), Some(_)) => return Err("it has both `run` and `url`; a route has one of them".to_owned()),
        (None, None) => return Err("it needs `run` or `url`".to_owned()),
    };
    match foreign.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(format!("`{key}` has no meaning beside `{own}`")),
        None => Ok(kind),
    }
}

fn command(table: RouteTable, defaults: Defaults) -> Checked<CommandSpec> {
    let run = match table.run {
        Some(RunLine::Shell(line)) if line.trim().is_empty() => return Err("the command is empty".to_owned()),
        Some(RunLine::Shell(line)) => Run::Shell(Script::parse(&line)?),
        Some(RunLine::Program(list)) if list.is_empty() => return Err("the command is empty".to_owned()),
        Some(RunLine::Program(list)) => Run::Program(Template::parse_command(&list)?),
        None => return Err("`run` is missing".to_owned()),
    };
    let inherit = table.inherit_env.map(|inherit| inherit.0).unwrap_or_default();
    if let Inherit::Only(names) = &inherit {
        names.iter().try_for_each(|name| variable(name).map_err(|e| format!("inherit_env: {e}")))?;
    }
    let env = table.env.unwrap_or_default();
    env.keys().try_for_each(|name| variable(name).map_err(|e| format!("env: {e}")))?;
    Ok(CommandSpec {
        run,
        payload: table.payload.unwrap_or_default(),
        linger: table.linger.map_or(defaults.linger, |span| span.0),
        grace: table.grace.map_or(defaults.grace, |span| span.0),
        cwd: table.cwd,
        inherit,
        env: templates(env)?,
        user: table.user.as_deref().map(|name| user(name, Path::new("/etc/passwd"))).transpose()?,
        limits: limits(table.limits.unwrap_or_default())?,
    })
}

/// Checks the name of a variable: setting a wrong one would panic or be ignored.
fn variable(name: &str) -> Checked<()> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(format!("`{name}` is not a valid variable name: it is empty, or contains `=` or NUL")),
        false => Ok(()),
    }
}

fn templates(texts: BTreeMap<String, String>) -> Checked<BTreeMap<String, Template>> {
    let one = |(name, text): (String, String)| match Template::parse(&text) {
        Ok(template) => Ok((name, template)),
        Err(e) => Err(format!("`{name}`: {e}")),
    };
    texts.into_iter().map(one).collect()
}

fn limits(table: LimitsTable) -> Checked<Limits> {
    let cpu = table.cpu_time.map(|span| span.0);
    if cpu.is_some_and(|cpu| cpu < Duration::from_secs(1) || cpu.subsec_nanos() != 0) {
        return Err("limits: `cpu_time` must be at least 1s, in whole seconds".to_owned());
    }
    if table.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return Err("limits: `nice` must be from -20 to 19".to_owned());
    }
    let memory = table.memory.map(|size| size.0);
    if memory.is_some_and(|memory| memory < MIN_MEMORY) {
        return Err("limits: `memory` must be at least 1MB".to_owned());
    }
    Ok(Limits {
        memory,
        cpu_seconds: cpu.map(|cpu| cpu.as_secs()),
        processes: table.processes.map(Into::into),
        files: table.files.map(Into::into),
        nice: table.nice,
    })
}

/// A user by name, or by number: `UID` or `UID:GID`.
fn user(text: &str, passwd: &Path) -> Checked<User> {
    let numbers = text.split_once(':').map_or((text, text), |(uid, gid)| (uid, gid));
    if let (Ok(uid), Ok(gid)) = (numbers.0.parse(), numbers.1.parse()) {
        return Ok(User { uid, gid, account: None });
    }
    let known =
        std::fs::read_to_string(passwd).map_err(|e| format!("cannot read {}: {e}", passwd.display()))?;
    let found = known.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, uid, gid, _, home, ..] if *name == text => Some(User {
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                account: Some(((*name).to_owned(), (*home).to_owned())),
            }),
            _ => None,
        }
    });
    found.ok_or_else(|| format!("no user `{text}` in {}", passwd.display()))
}

fn http(table: RouteTable) -> Checked<HttpSpec> {
    let source = table.url.unwrap_or_default();
    let url = Template::parse(&source)?;
    let base = if url.has_placeholders() {
        let host_is_fixed = ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme));
        if !host_is_fixed && !source.starts_with("{{") {
            return Err(format!("`{source}` does not begin with http:// or https://"));
        }
        let fixed = source.split("{{").next().unwrap_or_default();
        http_url(fixed, "http://HOST/PATH").ok()
    } else {
        Some(http_url(&source, "http://HOST/PATH")?)
    };
    let method = method(&table.method.unwrap_or_else(|| "POST".to_owned()))?;
    for (key, span) in
        [("connect_timeout", table.connect_timeout), ("first_byte_timeout", table.first_byte_timeout)]
    {
        if span.is_some_and(|span| span.0.is_zero()) {
            return Err(format!("`{key}` must be more than 0s"));
        }
    }
    let headers = templates(table.headers.unwrap_or_default())?;
    if let Some(bad) = headers.keys().find(|name| reqwest::header::HeaderName::try_from(*name).is_err()) {
        return Err(format!("`{bad}` is not a header name"));
    }
    let fixed = headers.iter().filter(|(_, value)| !value.has_placeholders());
    for (name, value) in fixed {
        if reqwest::header::HeaderValue::from_str(value.source()).is_err() {
            return Err(format!(
                "headers: the value of `{name}` contains a line break or another character that cannot be sent"
            ));
        }
    }
    Ok(HttpSpec {
        url,
        method,
        headers,
        body: table.body.as_deref().map(Template::parse).transpose()?,
        cloud_events: table.cloud_events.unwrap_or(false),
        secrets: table
            .secrets
            .unwrap_or_default()
            .0
            .iter()
            .map(|text| secret(text))
            .collect::<Checked<_>>()?,
        connect_timeout: table.connect_timeout.map_or(CONNECT_TIMEOUT, |span| span.0),
        first_byte_timeout: table.first_byte_timeout.map(|span| span.0),
        max_connections_per_host: table.max_connections_per_host,
        private_addresses: table.private_addresses.unwrap_or(true),
        ca: table.ca.map(|path| trust::read("ca", &path)).transpose()?.unwrap_or_default(),
        identity: identity(table.cert, table.key)?,
        base,
    })
}

/// Parses a method. `post` is refused: it would be sent as it is, and no server knows it.
fn method(text: &str) -> Checked<Method> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not an HTTP method"))?;
    match text.to_ascii_uppercase() {
        capitals if capitals != text => {
            Err(format!("HTTP methods are written in capitals: `{capitals}`, not `{text}`"))
        }
        _ => Ok(method),
    }
}

/// Reads a key of Standard Webhooks: `whsec_` and base64, or its source, `env:NAME` or `file:PATH`.
fn secret(text: &str) -> Checked<Vec<u8>> {
    let read = match text.split_once(':') {
        Some(("env", name)) => {
            std::env::var(name).map_err(|_| format!("secrets: the variable `{name}` is not set"))?
        }
        Some(("file", path)) => {
            std::fs::read_to_string(path).map_err(|e| format!("secrets: cannot read {path}: {e}"))?
        }
        _ => text.to_owned(),
    };
    let key = read.trim().strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    let key = key.filter(|key| (24..=64).contains(&key.len()));
    key.ok_or_else(|| {
        "secrets: a secret must be `whsec_` and the base64 of 24 to 64 bytes, or `env:NAME`, or `file:PATH`"
            .to_owned()
    })
}

fn identity(cert: Option<PathBuf>, key: Option<PathBuf>) -> Checked<Option<Identity>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Identity::read(&cert, &key).map(Some),
        (None, None) => Ok(None),
        _ => Err("`cert` and `key` must be given together".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let folder = tempfile::tempdir().unwrap();
        let passwd = folder.path().join("passwd");
        std::fs::write(&passwd, "root:x:0:0::/root:/bin/sh\nworker:x:1001:1002::/:/bin/sh\nbad\n").unwrap();
        let user = |text: &str| user(text, &passwd).map(|user| (user.uid, user.gid));
        assert_eq!(user("worker"), Ok((1001, 1002)));
        assert_eq!(user("7"), Ok((7, 7)));
        assert_eq!(user("7:8"), Ok((7, 8)));
        assert!(user("nobody-here").unwrap_err().contains("no user `nobody-here` in"));
    }

    #[test]
    fn secrets() {
        let text = format!("whsec_{}", BASE64_STANDARD.encode([7; 24]));
        assert_eq!(secret(&text).unwrap(), [7; 24]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{text}\n")).unwrap();
        assert_eq!(secret(&format!("file:{}", path.display())).unwrap(), [7; 24]);
        for bad in ["", "whsec_", "whsec_!", "geheim", "env:ZIZQ_NO_SUCH_VARIABLE", "file:/nowhere"] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }
}
