//! Explains why a command cannot be run, and what to fix. The operating system mostly says `No such file or directory`,
//! whatever is missing.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// How much of a file is read: the kernel also cuts longer first lines.
const HEAD: u64 = 256;

/// Shell builtins and keywords.
const OF_THE_SHELL: &[&str] = &[
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "echo", "eval", "exec",
    "exit", "export", "false", "fg", "for", "getopts", "hash", "if", "jobs", "kill", "local", "printf",
    "pwd", "read", "readonly", "return", "set", "shift", "source", "test", "time", "times", "trap", "true",
    "type", "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
];
const SHELLS: &[&str] = &["sh", "bash", "dash", "ksh", "zsh"];

/// Where a command runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) cwd: Option<&'a Path>,
    pub(super) path: &'a OsStr,
}

impl Place<'_> {
    /// What is wrong with the working directory.
    pub(super) fn of_folder(&self) -> Option<String> {
        let cwd = self.cwd?;
        let shown = cwd.display();
        match fs::metadata(cwd) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some(format!("the folder {shown} (`cwd`) is a file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Some(format!("the folder {shown} (`cwd`) does not exist"))
            }
            Err(e) => Some(format!("cannot use the folder {shown} (`cwd`): {e}")),
        }
    }

    /// What is wrong with a program; `error` is why it could not be started, if known.
    pub(super) fn of_program(&self, program: &str, error: Option<&io::Error>) -> Option<String> {
        let Some(file) = self.find(program) else {
            let path = self.path.display();
            return Some(match program.contains('/') {
                true => self.not_there(program),
                false => format!("there is no program `{program}` in the folders of PATH ({path})"),
            });
        };
        if let Err(e) = fs::metadata(&file) {
            return Some(match e.kind() {
                io::ErrorKind::NotFound => format!("`{program}` is a link to a file that does not exist"),
                _ => format!("cannot reach `{program}`: {e}"),
            });
        }
        unfit(&file, program).or_else(|| self.of_start(&file, program, error))
    }

    /// What is wrong with the first command of a shell line, as far as it can be told.
    pub(super) fn of_line(&self, line: &str) -> Option<String> {
        let (program, rest) = first_command(line)?;
        let why = self.of_program(program, None);
        let is_shell =
            Path::new(program).file_name().is_some_and(|name| SHELLS.iter().any(|shell| name == *shell));
        why.or_else(|| {
            let script = plain_word(rest).filter(|word| is_shell && !word.starts_with('-'))?;
            let is_there = fs::symlink_metadata(self.within(script)).is_ok();
            (!is_there).then(|| self.not_there(script))
        })
    }

    fn not_there(&self, file: &str) -> String {
        let mut text = format!("there is no file `{file}`");
        if let Some(folder) = self.folder().filter(|_| !file.starts_with('/')) {
            write!(text, " in {}", folder.display()).ok();
        }
        text
    }

    fn folder(&self) -> Option<PathBuf> {
        self.cwd.map(Path::to_owned).or_else(|| std::env::current_dir().ok())
    }

    /// A path as the command sees it.
    fn within(&self, path: &str) -> PathBuf {
        self.cwd.map_or_else(|| PathBuf::from(path), |cwd| cwd.join(path))
    }

    /// The file of a program, preferably an executable one.
    fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            let file = self.within(program);
            return fs::symlink_metadata(&file).is_ok().then_some(file);
        }
        let files = || {
            let folders = std::env::split_paths(self.path);
            folders.map(|folder| folder.join(program)).filter(|file| file.is_file())
        };
        files().find(|file| unfit(file, program).is_none()).or_else(|| files().next())
    }

    /// What is wrong with the beginning of an executable file.
    fn of_start(&self, file: &Path, program: &str, error: Option<&io::Error>) -> Option<String> {
        let mut head = Vec::new();
        if let Err(e) = File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head)) {
            // An unreadable file can be executed, unless it is a script.
            return error.map(|error| format!("{error}, and the file cannot be read: {e}"));
        }
        let raw = error.and_then(io::Error::raw_os_error);
        if head.starts_with(b"\xef\xbb\xbf#!") {
            return Some(format!(
                "`{program}` begins with a byte order mark, so its `#!` line is ignored; save it without the mark"
            ));
        }
        if let Some(line) = head.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
            return self.of_first_line(&String::from_utf8_lossy(line), program);
        }
        if head.is_empty() {
            return Some(format!("`{program}` is empty"));
        }
        if raw == Some(Errno::NOEXEC.raw_os_error()) {
            return Some(match head.starts_with(b"\x7fELF") {
                true => format!("`{program}` is a program for another kind of machine"),
                false => format!(
                    "`{program}` is neither a program nor a script; a script begins with a line such as `#!/bin/sh`"
                ),
            });
        }
        (raw == Some(Errno::NOENT.raw_os_error()) && head.starts_with(b"\x7fELF")).then(|| {
            format!("`{program}` exists, but the loader that it was built for does not: it may be for another system")
        })
    }

    /// What is wrong with the line that names the interpreter of a script.
    fn of_first_line(&self, line: &str, program: &str) -> Option<String> {
        if let Some(line) = line.strip_suffix('\r') {
            return Some(format!(
                "its first line names `{}\\r`: `{program}` has Windows line ends; convert it with \
                 `sed -i 's/\\r$//' {program}`",
                line.trim()
            ));
        }
        let mut words = line.split_ascii_whitespace();
        let Some(interpreter) = words.next() else {
            return Some(format!("the first line of `{program}` names no interpreter"));
        };
        let file = self.within(interpreter);
        if !file.exists() {
            return Some(format!("its first line names `{interpreter}`, which does not exist"));
        }
        if let Some(why) = unfit(&file, interpreter) {
            return Some(format!("its first line names `{interpreter}`, and {why}"));
        }
        if file.file_name().is_none_or(|name| name != "env") {
            return None;
        }
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        let path = self.path.display();
        self.find(name).is_none().then(|| {
            format!("its first line asks for `{name}`, which is not in the folders of PATH ({path})")
        })
    }
}

/// Why an existing file cannot be executed, by its type and mode.
fn unfit(file: &Path, shown: &str) -> Option<String> {
    let found = fs::metadata(file).ok()?;
    if found.is_dir() {
        return Some(format!("`{shown}` is a folder"));
    }
    let executable = found.permissions().mode() & 0o111 != 0;
    (!executable).then(|| format!("`{shown}` is not executable; run `chmod +x {shown}`"))
}

/// The first command of a line, and the rest; `None` if only the shell can tell.
fn first_command(line: &str) -> Option<(&str, &str)> {
    let mut rest = line;
    loop {
        let word = plain_word(rest)?;
        rest = rest.trim_start().strip_prefix(word)?;
        match word.split_once('=') {
            Some((name, _)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {}
            Some(_) => return None,
            None if word == "exec" => {}
            None if OF_THE_SHELL.contains(&word) => return None,
            None => return Some((word, rest)),
        }
    }
}

/// The word at the start of a text, if it needs no expansion.
fn plain_word(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let is_plain = |c: char| c.is_alphanumeric() || "_./+@:,=-".contains(c);
    let end = text.find(|c| !is_plain(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let ends_there = rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || ";&|<>".contains(c));
    (ends_there && !word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: &[(&str, &[u8], u32)] = &[
        ("plain", b"echo", 0o644),
        ("crlf", b"#!/bin/bash\r\necho\r\n", 0o755),
        ("crlf-env", b"#!/usr/bin/env python3\r\n", 0o755),
        ("gone", b"#!/opt/python9 -u\n", 0o755),
        ("env", b"#!/usr/bin/env -S no-such-python -u\n", 0o755),
        ("bom", b"\xef\xbb\xbf#!/bin/sh\n", 0o755),
        ("nothing", b"#!\n", 0o755),
        ("empty", b"", 0o755),
        ("good", b"#!/bin/sh -e\n", 0o755),
        ("data", b"\x01\x02\x03", 0o755),
    ];

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, mode) in BROKEN {
            let file = folder.path().join(name);
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
        }
        fs::create_dir(folder.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn a_broken_command_is_explained() {
        let folder = folder();
        let path = OsStr::new("/bin:/usr/bin");
        let place = Place { cwd: Some(folder.path()), path };
        for (program, expected) in [
            ("./none.sh", "there is no file `./none.sh` in "),
            ("/none.sh", "there is no file `/none.sh`"),
            (
                "no-such-program",
                "there is no program `no-such-program` in the folders of PATH (/bin:/usr/bin)",
            ),
            ("./link", "`./link` is a link to a file that does not exist"),
            ("./dir", "`./dir` is a folder"),
            ("./plain", "`./plain` is not executable; run `chmod +x ./plain`"),
            ("./crlf", "its first line names `/bin/bash\\r`: `./crlf` has Windows line ends"),
            ("./crlf-env", "its first line names `/usr/bin/env python3\\r`"),
            ("./gone", "its first line names `/opt/python9`, which does not exist"),
            ("./env", "its first line asks for `no-such-python`, which is not in the folders of PATH"),
            ("./bom", "`./bom` begins with a byte order mark"),
            ("./nothing", "the first line of `./nothing` names no interpreter"),
            ("./empty", "`./empty` is empty"),
            ("./good", ""),
            ("./data", ""),
            ("sh", ""),
        ] {
            let why = place.of_program(program, None).unwrap_or_default();
            assert!(why.starts_with(expected) && why.is_empty() == expected.is_empty(), "{program}: {why}");
        }
        let noexec = io::Error::from(Errno::NOEXEC);
        let why = place.of_program("./data", Some(&noexec)).unwrap();
        assert!(why.starts_with("`./data` is neither a program nor a script; "), "{why}");
    }

    #[test]
    fn only_plain_words_of_a_line_are_looked_up() {
        let folder = folder();
        let place = Place { cwd: Some(folder.path()), path: OsStr::new("/bin:/usr/bin") };
        for (line, expected) in [
            ("./none.sh --fast", "there is no file `./none.sh`"),
            ("  LANG=C exec ./crlf; true", "its first line names `/bin/bash\\r`"),
            ("no-such-program|cat", "there is no program `no-such-program`"),
            ("sh none.sh", "there is no file `none.sh`"),
            ("sh plain", ""),
            ("sh -c none.sh", ""),
            ("cd dir && ./none.sh", ""),
            ("./good && ./none.sh", ""),
            ("\"./none.sh\"", ""),
            ("$PROGRAM", ""),
            ("./${X}none.sh", ""),
            ("none*", ""),
            ("if true; then none; fi", ""),
            ("", ""),
        ] {
            let why = place.of_line(line).unwrap_or_default();
            assert!(why.starts_with(expected) && why.is_empty() == expected.is_empty(), "{line}: {why}");
        }
    }

    #[test]
    fn a_broken_working_directory_is_explained() {
        let folder = folder();
        let why =
            |name: &str| Place { cwd: Some(&folder.path().join(name)), path: OsStr::new("") }.of_folder();
        assert_eq!(why("dir"), None);
        assert!(why("none").unwrap().ends_with("none (`cwd`) does not exist"));
        assert!(why("good").unwrap().ends_with("good (`cwd`) is a file"));
    }
}
