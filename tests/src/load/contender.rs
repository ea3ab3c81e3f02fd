//! Who can be measured, and how each is started.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::args::{Commit, Common};
use super::peers::Dialect;
use super::target::Protocol;
use crate::binaries::binary;

/// A server to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contender {
    /// `zizq-server` as built from here, with flags.
    Built(Vec<String>),
    /// One that somebody else runs, and its process id.
    Url(String, Option<u32>),
    /// A command that starts a server which speaks the contract.
    Command(Vec<String>),
    /// beanstalkd with a binlog.
    Beanstalkd,
    /// Redis with an append-only file.
    Redis,
    /// An HTTP server that does nothing.
    Hello,
    /// A file that is appended to and synced.
    Disk,
}

impl FromStr for Contender {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "beanstalkd" => Self::Beanstalkd,
            "redis" => Self::Redis,
            "hello" => Self::Hello,
            "disk" => Self::Disk,
            url if url.starts_with("http://") => Self::Url(url.to_owned(), None),
            command => Self::Command(command.split_whitespace().map(str::to_owned).collect()),
        })
    }
}

impl Contender {
    /// All that the flags name; the first is the one that the others are held against.
    pub(super) fn all(common: &Common) -> Vec<Self> {
        let first = match &common.url {
            Some(url) => Self::Url(url.clone(), common.pid),
            None => Self::Built(common.server_arg.clone()),
        };
        std::iter::once(first).chain(common.vs.iter().cloned()).collect()
    }

    /// Whether it can be started here.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Url(..) | Self::Disk => Ok(()),
            _ => self.command(Commit::Default).map(|_| ()),
        }
    }

    /// What it is called in tables.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Built(_) => "zizq".to_owned(),
            Self::Url(url, _) => url.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            Self::Command(words) => {
                let mut words = words.iter();
                let program = words.next().map(Path::new).and_then(Path::file_name).unwrap_or_default();
                let flags = words.filter(|word| !word.contains(['{', '/'])).map(|flag| format!(" {flag}"));
                format!("{}{}", program.to_string_lossy(), flags.collect::<String>())
            }
            Self::Beanstalkd => "beanstalkd".to_owned(),
            Self::Redis => "redis".to_owned(),
            Self::Hello => "hello".to_owned(),
            Self::Disk => "disk".to_owned(),
        }
    }

    /// What it speaks.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Built(_) | Self::Url(..) | Self::Command(_) => Protocol::Zizq,
            Self::Beanstalkd => Protocol::Peer(Dialect::Beanstalkd),
            Self::Redis => Protocol::Peer(Dialect::Redis),
            Self::Hello => Protocol::Hello,
            Self::Disk => Protocol::Disk,
        }
    }

    /// The command that starts it, with `{port}` and `{dir}` to be filled in.
    pub(super) fn command(&self, commit: Commit) -> Result<Vec<String>> {
        Ok(match self {
            Self::Built(flags) => zizq(binary("zizq-server"), flags, commit),
            Self::Command(words) if words.iter().any(|word| word.contains("{port}")) => words.clone(),
            Self::Command(words) => {
                let (program, flags) = words.split_first().context("--vs is empty")?;
                zizq(program.into(), flags, commit)
            }
            Self::Beanstalkd => {
                let sync: &[&str] = if commit == Commit::Fsync { &["-f", "0"] } else { &[] };
                installed("beanstalkd", &["-l", "127.0.0.1", "-p", "{port}", "-b", "{dir}"], sync)?
            }
            Self::Redis => {
                let sync = if commit == Commit::Fsync { "always" } else { "everysec" };
                let flags = ["--bind", "127.0.0.1", "--port", "{port}", "--dir", "{dir}", "--save", ""];
                installed("redis-server", &flags, &["--appendonly", "yes", "--appendfsync", sync])?
            }
            Self::Hello => {
                vec![text(&std::env::current_exe()?), "hello".to_owned(), "{port}".to_owned()]
            }
            Self::Url(..) | Self::Disk => bail!("{} is not started", self.label()),
        })
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn zizq(program: PathBuf, flags: &[String], commit: Commit) -> Vec<String> {
    let mode = match commit {
        _ if flags.iter().any(|flag| flag.contains("commit-mode")) => None,
        Commit::Default => None,
        Commit::Buffered => Some("buffered"),
        Commit::Fsync => Some("fsync"),
    };
    let modes = ["enqueue", "default"].map(|of| mode.map(|mode| format!("--{of}-commit-mode={mode}")));
    let fixed = ["--port", "{port}", "--root-dir", "{dir}/root"].map(str::to_owned);
    [vec![text(&program)], fixed.to_vec(), modes.into_iter().flatten().collect(), flags.to_vec()].concat()
}

fn installed(program: &str, flags: &[&str], more: &[&str]) -> Result<Vec<String>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's servers are in folders that not everybody has on the path.
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    let found = found.with_context(|| {
        format!("{program} is not installed; on Debian and Ubuntu: apt-get install {program}")
    })?;
    let flags = flags.iter().chain(more).map(|&flag| flag.to_owned());
    Ok(std::iter::once(text(&found)).chain(flags).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vs_takes() {
        let parse = |text: &str| text.parse::<Contender>().unwrap();
        assert_eq!(parse("redis"), Contender::Redis);
        assert_eq!(parse("http://127.0.0.1:1").label(), "127.0.0.1:1");
        let other = parse("/old/zizq-server --cache-size=8MB");
        assert_eq!(other.label(), "zizq-server --cache-size=8MB");
        let command = other.command(Commit::Fsync).unwrap().join(" ");
        assert!(command.starts_with("/old/zizq-server --port {port} --root-dir {dir}/root"), "{command}");
        assert!(
            command.contains("--enqueue-commit-mode=fsync") && command.ends_with("--cache-size=8MB"),
            "{command}"
        );
        let foreign = parse("zizq serve --port {port} --root-dir {dir}");
        assert_eq!(foreign.command(Commit::Fsync).unwrap().len(), 6);
        assert_eq!(foreign.label(), "zizq serve --port --root-dir");
    }

    #[test]
    fn a_missing_peer_is_named() {
        let error = installed("no-such-queue", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("apt-get install no-such-queue"), "{error}");
    }
}
