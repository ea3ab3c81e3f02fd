//! Runs a job as a command: builds the command line and environment, starts it, and finds out who is to blame if it cannot
//! be started.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use protocol::job::DeliveredJob;
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::attend::{Remains, Terms, attend};
use super::broken::Place;
use super::processes::{LEASE_VARIABLE, StartTerms};
use super::{Ran, Shared, Stop, launch, memory};
use crate::access::TOKEN_VARIABLE;
use crate::cgroup::JobGroup;
use crate::flags::Flags;
use crate::outcome::{Fact, Said};
use crate::route::{CommandSpec, Inherit, Limits, PayloadTo, Route, Run, Target};
use crate::template::Input;

/// A route whose jobs are commands.
#[derive(Debug)]
pub(crate) struct Runner {
    route: Arc<Route>,
    shared: Shared,
    /// The path of this program, which sets limits for itself and then becomes the command.
    launcher: PathBuf,
    /// Whether the templates need the parsed job.
    has_placeholders: bool,
}

/// A command, ready to start.
struct Ready<'a> {
    command: Command,
    /// The program that it becomes, even if a launcher starts it.
    program: String,
    cgroup: Option<JobGroup<'a>>,
    /// Deleted when the command has ended.
    payload_file: Option<NamedTempFile>,
}

impl Runner {
    pub(super) fn new(route: Arc<Route>, shared: Shared) -> Result<Self, String> {
        memory::watch();
        let launcher =
            std::env::current_exe().map_err(|e| format!("the worker cannot find its own executable: {e}"))?;
        let spec = spec(&route)?;
        let in_run = match &spec.run {
            Run::Shell(script) => script.has_placeholders(),
            Run::Program(list) => list.iter().any(|one| one.has_placeholders()),
        };
        let has_placeholders = in_run || spec.env.values().any(|value| value.has_placeholders());
        Ok(Self { route, shared, launcher, has_placeholders })
    }

    pub(super) async fn run(&self, job: &DeliveredJob, stop: watch::Receiver<Stop>) -> (Fact, Ran) {
        let remains = match self.prepare(job) {
            Ok(ready) => self.execute(ready, job, stop).await,
            Err(fact) => Err(fact),
        };
        match remains {
            Ok(Remains { fact, tail, said, usage }) => {
                let outcome = self.route.rules.judge(&fact, &tail, said);
                (fact, Ran { outcome, usage: Some(usage) })
            }
            Err(fact) => {
                let outcome = self.route.rules.judge(&fact, "", Said::default());
                (fact, Ran { outcome, usage: None })
            }
        }
    }

    async fn execute(
        &self,
        ready: Ready<'_>,
        job: &DeliveredJob,
        stop: watch::Receiver<Stop>,
    ) -> Result<Remains, Fact> {
        let spec = spec(&self.route).map_err(Fact::CannotStart)?;
        let program = ready.program.clone();
        let path = path_of(&ready.command);
        let terms = Terms {
            timeout: self.route.timeout,
            linger: spec.linger,
            grace: spec.grace,
            cpu_limited: spec.limits.cpu_seconds.is_some(),
        };
        let stdin = if spec.payload == PayloadTo::Stdin { job.payload.get().as_bytes() } else { &[] };
        let start = StartTerms {
            user: spec.user.as_ref(),
            cgroup: ready.cgroup,
            limits_files: spec.limits.files.is_some(),
        };
        let started = self.shared.processes.start(ready.command, job.lease, start);
        let place = Place { cwd: spec.cwd.as_deref(), path: &path };
        let started = started.map_err(|e| cannot_start(spec, &program, place, &e))?;
        let remains = attend(started, stdin, job, terms, &self.shared, stop).await;
        // The payload file must outlive the command.
        drop(ready.payload_file);
        let remains = remains.map_err(|e| Fact::CannotStart(format!("cannot wait for the command: {e}")))?;
        if let Some(fault) = fault(spec, &program, place, &remains.fact) {
            return Err(fault);
        }
        Ok(remains)
    }

    fn prepare(&self, job: &DeliveredJob) -> Result<Ready<'_>, Fact> {
        let spec = spec(&self.route).map_err(Fact::CannotStart)?;
        let input = if self.has_placeholders { Some(Input::of(job)) } else { None };
        let input = input.transpose().map_err(Fact::BadJob)?;
        let line = line(spec, input.as_ref()).map_err(Fact::BadJob)?;
        let (cgroup, limits) = self
            .shared
            .processes
            .cgroup(job, &spec.limits)
            .map_err(|e| Fact::CannotStart(format!("cannot make a cgroup for the command: {e}")))?;
        let mut command = self.command(spec, &line, &limits, cgroup.as_ref());
        self.environment(&mut command, spec, job);
        for (name, value) in variables(spec, input.as_ref()).map_err(Fact::BadJob)? {
            command.env(name, value);
        }
        let payload_file = if spec.payload == PayloadTo::File {
            let file = payload_file(spec, job)
                .map_err(|e| Fact::CannotStart(format!("cannot write the payload file: {e}")))?;
            command.env("ZIZQ_PAYLOAD_FILE", file.path());
            Some(file)
        } else {
            None
        };
        let program = line.into_iter().next().unwrap_or_default();
        Ok(Ready { command, program, cgroup, payload_file })
    }

    fn command(
        &self,
        spec: &CommandSpec,
        line: &[String],
        limits: &Limits,
        cgroup: Option<&JobGroup<'_>>,
    ) -> Command {
        let (program, arguments) =
            line.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let is_launched = cgroup.is_some() || !limits.is_none();
        let mut command = if is_launched {
            let mut command = Command::new(&self.launcher);
            let cgroup = cgroup.map(JobGroup::folder);
            command.args(launch::arguments(limits, spec.user.as_ref(), cgroup)).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if spec.payload == PayloadTo::Stdin { Stdio::piped() } else { Stdio::null() });
        if let Some(folder) = &spec.cwd {
            command.current_dir(folder);
        }
        if let Some(user) = spec.user.as_ref().filter(|_| !is_launched) {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn environment(&self, command: &mut Command, spec: &CommandSpec, job: &DeliveredJob) {
        match &spec.inherit {
            Inherit::All => {
                for name in own_variables() {
                    command.env_remove(name);
                }
            }
            Inherit::None => {
                command.env_clear();
            }
            Inherit::Only(names) => {
                command.env_clear();
                command.envs(names.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
            }
        }
        if let Some((name, home)) = spec.user.as_ref().and_then(|user| user.account.as_ref()) {
            command.env("USER", name).env("LOGNAME", name).env("HOME", home);
        }
        command
            .env("ZIZQ_JOB_ID", job.id.to_string())
            .env("ZIZQ_JOB_TYPE", job.job_type.as_str())
            .env("ZIZQ_JOB_QUEUE", job.queue.as_str())
            .env("ZIZQ_JOB_PRIORITY", job.priority.to_string())
            .env("ZIZQ_JOB_ATTEMPT", job.attempts.saturating_add(1).to_string())
            .env(LEASE_VARIABLE, job.lease.to_string())
            .envs(self.shared.client.for_commands());
        if let Some(trace) = &job.trace {
            command.env("TRACEPARENT", trace.parent.to_string()).env_remove("TRACESTATE");
            if let Some(state) = trace.state() {
                command.env("TRACESTATE", state);
            }
        }
    }
}

/// The variables that were set for the worker alone, which commands inherit only by name: its flags, its certificates,
/// those of its service manager, the trace that it was started in, and its name and keys at the collector of spans.
fn own_variables() -> &'static [String] {
    static OWN: LazyLock<Vec<String>> = LazyLock::new(|| {
        const OTHERS: [&str; 14] = [
            TOKEN_VARIABLE,
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "STATE_DIRECTORY",
            "CREDENTIALS_DIRECTORY",
            "LISTEN_FDS",
            "TRACEPARENT",
            "TRACESTATE",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_SERVICE_NAME",
        ];
        let command = <Flags as clap::Args>::augment_args(clap::Command::new("zizq-worker"));
        let flags = command.get_arguments().filter_map(|flag| Some(flag.get_env()?.to_str()?.to_owned()));
        flags.chain(OTHERS.map(str::to_owned)).collect()
    });
    &OWN
}

fn spec(route: &Route) -> Result<&CommandSpec, String> {
    match &route.target {
        Target::Command(spec) => Ok(spec),
        Target::Http(_) => Err("the route is not a command".to_owned()),
    }
}

/// The program and its arguments.
fn line(spec: &CommandSpec, input: Option<&Input>) -> Result<Vec<String>, String> {
    match &spec.run {
        Run::Shell(script) => Ok(vec!["sh".to_owned(), "-c".to_owned(), script.line().to_owned()]),
        Run::Program(list) => match input {
            None => Ok(list.iter().map(|one| one.source().to_owned()).collect()),
            Some(input) => {
                let all = list.iter().map(|one| one.render_all(input)).collect::<Result<Vec<_>, _>>()?;
                let all: Vec<String> = all.into_iter().flatten().collect();
                if all.first().is_none_or(String::is_empty) {
                    return Err("the template of the program gives nothing for this job".to_owned());
                }
                all.iter().try_for_each(|one| without_nul("an argument", one))?;
                Ok(all)
            }
        },
    }
}

/// The variables of the route, and those for the placeholders of a shell line.
fn variables(spec: &CommandSpec, input: Option<&Input>) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (name, template) in &spec.env {
        let value = match input {
            Some(input) => template.render(input)?,
            None => template.source().to_owned(),
        };
        variables.push((name.clone(), value));
    }
    if let (Run::Shell(script), Some(input)) = (&spec.run, input) {
        let values = script.variables(input)?;
        variables.extend(values.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    variables.iter().try_for_each(|(name, value)| without_nul(name, value))?;
    Ok(variables)
}

fn without_nul(what: &str, value: &str) -> Result<(), String> {
    match value.contains('\0') {
        true => Err(format!(
            "{what} would contain a NUL, which commands cannot receive; let the command read the payload instead"
        )),
        false => Ok(()),
    }
}

fn payload_file(spec: &CommandSpec, job: &DeliveredJob) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("zizq-payload-").suffix(".json").tempfile()?;
    file.as_file_mut().write_all(job.payload.get().as_bytes())?;
    if let Some(user) = &spec.user {
        give(file.as_file(), user.uid, user.gid)?;
    }
    Ok(file)
}

fn give(file: &File, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(uid), Some(gid))
}

/// Decides who is at fault when a command cannot be started: the payload, if it is too long for a command line; the job,
/// if it names the program; otherwise this worker.
fn cannot_start(spec: &CommandSpec, program: &str, place: Place<'_>, error: &io::Error) -> Fact {
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return Fact::BadJob(format!(
            "the arguments are too long for `{program}`; let it read the payload instead"
        ));
    }
    if let Some(why) = place.of_folder() {
        return Fact::CannotStart(why);
    }
    let why = place.of_program(program, Some(error)).unwrap_or_else(|| error.to_string());
    let why = format!("cannot run `{program}`: {why}");
    if is_of_job(spec) { Fact::NoSuchProgram(why) } else { Fact::CannotStart(why) }
}

/// What this worker lacks, if a command exited as if it was not executable or not found.
fn fault(spec: &CommandSpec, program: &str, place: Place<'_>, fact: &Fact) -> Option<Fact> {
    let (Fact::Exit(126 | 127), false) = (fact, is_of_job(spec)) else { return None };
    let why = match &spec.run {
        Run::Shell(script) => place.of_line(script.line()),
        Run::Program(_) => place.of_program(program, None),
    };
    why.map(|why| Fact::CannotStart(format!("{why} ({fact})")))
}

/// Whether the job names the program.
fn is_of_job(spec: &CommandSpec) -> bool {
    matches!(&spec.run, Run::Program(list) if list.first().is_some_and(|program| program.has_placeholders()))
}

/// The search path of a command.
fn path_of(command: &Command) -> OsString {
    let own = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    own.map(OsStr::to_owned).or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| "/bin:/usr/bin".into())
}
