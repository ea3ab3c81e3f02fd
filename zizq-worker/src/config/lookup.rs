//! Warnings about programs and folders that a configuration names and that do not exist here. Not errors: the worker may
//! be meant for another machine, or they may be created later.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::route::{CommandSpec, Inherit, Route, Run, Target};

/// The search path without `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The warning about a route, if there is one.
pub(super) fn missing(route: &Route) -> Option<String> {
    let Target::Command(spec) = &route.target else { return None };
    let why = match spec.cwd.as_deref().filter(|folder| !folder.is_dir()) {
        Some(folder) => format!("`cwd`: the folder {} does not exist", folder.display()),
        None => program(spec)?,
    };
    let place = route.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    Some(format!("{place}route `{}`: {why}", route.name))
}

/// What is wrong with the program of a command, as far as it is known without a job.
fn program(spec: &CommandSpec) -> Option<String> {
    match &spec.run {
        Run::Program(list) => {
            let program = list.first().filter(|program| !program.has_placeholders())?;
            look(program.source(), spec)
        }
        Run::Shell(script) => {
            let word = script.line().split_whitespace().next()?;
            let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./+-".contains(&byte));
            // Builtins and functions of the shell need no program.
            if !is_plain || (!word.contains('/') && shell_knows(word, spec)) {
                return None;
            }
            look(word, spec)
        }
    }
}

fn look(program: &str, spec: &CommandSpec) -> Option<String> {
    let around = spec.cwd.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    if program.contains('/') {
        return examine(&around.join(program), spec, &around);
    }
    match in_path(program, spec, &around) {
        Some(path) => examine(&path, spec, &around),
        None => Some(format!("there is no program `{program}` in PATH ({})", search_path(spec).display())),
    }
}

/// What is wrong with the program at this path.
fn examine(path: &Path, spec: &CommandSpec, around: &Path) -> Option<String> {
    let shown = path.display();
    let Ok(found) = fs::metadata(path) else { return Some(format!("there is no program {shown}")) };
    if found.is_dir() {
        return Some(format!("{shown} is a folder, not a program"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Some(format!("{shown} is not executable; run chmod +x {shown}"));
    }
    let first = first_line(path)?;
    let interpreter = first.strip_prefix("#!")?.trim_start_matches([' ', '\t']);
    if interpreter.ends_with('\r') {
        return Some(format!(
            "{shown} has Windows line ends, so its interpreter is not found; convert it with sed -i 's/\\r$//' {shown}"
        ));
    }
    let mut words = interpreter.split_whitespace();
    let name = words.next()?;
    if !around.join(name).exists() {
        return Some(format!("the first line of {shown} names {name}, which does not exist"));
    }
    if Path::new(name).file_name().is_some_and(|name| name == "env") {
        let called = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        if !called.contains('/') && in_path(called, spec, around).is_none() {
            return Some(format!("the first line of {shown} names `{called}`, which is not in PATH"));
        }
    }
    None
}

/// The first line of a file; only a script's begins with `#!`.
fn first_line(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(256).read_to_end(&mut bytes).ok()?;
    String::from_utf8_lossy(&bytes).split('\n').next().map(str::to_owned)
}

fn in_path(program: &str, spec: &CommandSpec, around: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&search_path(spec)).map(|folder| around.join(folder).join(program)).find(is_program)
}

/// The search path of a route's programs.
fn search_path(spec: &CommandSpec) -> OsString {
    let own = spec.env.get("PATH").filter(|path| !path.has_placeholders()).map(|path| path.source().into());
    let inherits = match &spec.inherit {
        Inherit::All => true,
        Inherit::None => false,
        Inherit::Only(names) => names.iter().any(|name| name == "PATH"),
    };
    own.or_else(|| std::env::var_os("PATH").filter(|_| inherits)).unwrap_or_else(|| DEFAULT_PATH.into())
}

/// Whether the shell knows this command.
fn shell_knows(word: &str, spec: &CommandSpec) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", "command -v -- \"$1\"", "sh", word]).env("PATH", search_path(spec));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without a shell, another message tells.
    shell.status().map_or(true, |status| status.success())
}
