//! The settings in effect, for people who ask why a server behaves as it does.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use serde::Serialize;

use super::{Cli, Task};

/// A setting in effect.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Setting {
    /// The flag, such as `--port`.
    pub flag: String,
    /// Its environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// As it was written; none if it was left out and has no default.
    pub value: Option<String>,
    pub source: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Flag,
    Environment,
    Default,
}

impl Cli {
    /// Reads the command line and the environment, and prints help or errors as clap does.
    #[must_use]
    pub fn read() -> Task {
        Self::task_of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// The task that a command line selects.
    pub(super) fn task_of(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Task, clap::Error> {
        let matches = Self::command().try_get_matches_from(args)?;
        Ok(Self::from_arg_matches(&matches)?.into_task(&matches))
    }
}

/// The settings of the server that a command line selects.
pub(super) fn settings(matches: &ArgMatches) -> Vec<Setting> {
    let mut command = Cli::command();
    command.build();
    match matches.subcommand() {
        Some((name, matches)) => {
            command.find_subcommand(name).map_or_else(Vec::new, |command| of(command, matches))
        }
        None => of(&command, matches),
    }
}

fn of(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
    let settings = command.get_arguments().filter_map(|arg| {
        let flag = format!("--{}", arg.get_long().filter(|long| !["help", "version"].contains(long))?);
        let id = arg.get_id().as_str();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => Source::Default,
        };
        let values =
            matches.get_raw(id).map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>());
        let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
        Some(Setting { flag, variable, value: values.map(|values| values.join(",")), source })
    });
    settings.collect()
}
