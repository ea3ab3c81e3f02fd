//! System calls, as strace writes them down.

use std::collections::HashMap;

/// A call that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: Vec<Arg>,
    pub(crate) result: i64,
    /// Where in the trace it begins and ends. What ends before another begins, happened before it.
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

/// An argument: bytes that were in quotes (of several buffers joined), or anything else as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

impl Call {
    /// A numeric argument.
    pub(crate) fn number(&self, i: usize) -> i64 {
        let text = &self.args[i].text;
        text.parse().unwrap_or_else(|_| panic!("argument {i} of {self:?} is no number"))
    }

    /// Whether a flag is among those of an argument.
    pub(crate) fn has_flag(&self, i: usize, flag: &str) -> bool {
        self.args.get(i).is_some_and(|arg| arg.text.split('|').any(|one| one == flag))
    }
}

/// Reads a whole trace, in the order in which the calls ended. Calls that failed are left out.
pub(crate) fn parse(trace: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (thread, line) = line.split_once(' ').unwrap_or_else(|| panic!("line {at} of the trace: {line}"));
        let line = line.trim_start();
        if let Some(start) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (at, start.to_owned()));
        } else if let Some(resumed) = line.strip_prefix("<... ") {
            let (_, rest) = resumed.split_once(" resumed>").unwrap();
            let (begin, start) = unfinished.remove(thread).unwrap();
            calls.extend(call(&(start + rest), begin, at));
        } else {
            calls.extend(call(line, at, at));
        }
    }
    calls
}

fn call(line: &str, begin: usize, end: usize) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None; // `+++ exited with 0 +++`, `--- SIGTERM {...} ---`
    }
    let (args, rest) = arguments(rest);
    let result = rest.trim_start().strip_prefix("= ")?.split(' ').next()?;
    let result = match result.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => result.parse().ok()?,
    };
    (result >= 0).then(|| Call { name: name.to_owned(), args, result, begin, end })
}

/// Splits at the commas that stand neither in quotes nor in brackets, up to the closing parenthesis.
fn arguments(text: &str) -> (Vec<Arg>, &str) {
    let bytes = text.as_bytes();
    let (mut args, mut arg, mut depth, mut at) =
        (Vec::new(), Arg { text: String::new(), bytes: Vec::new() }, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += quoted(&bytes[at + 1..], &mut arg.bytes);
                assert!(!bytes[at + 1..].starts_with(b"..."), "the trace is cut short: {text}");
            }
            b')' if depth == 0 => {
                if !arg.text.is_empty() || !arg.bytes.is_empty() || !args.is_empty() {
                    args.push(arg);
                }
                return (args, &text[at + 1..]);
            }
            b',' if depth == 0 => {
                args.push(std::mem::replace(&mut arg, Arg { text: String::new(), bytes: Vec::new() }));
            }
            byte => {
                depth += i32::from(matches!(byte, b'[' | b'{' | b'('));
                depth -= i32::from(matches!(byte, b']' | b'}' | b')'));
                if byte != b' ' {
                    arg.text.push(char::from(byte));
                }
            }
        }
        at += 1;
    }
    (args, "")
}

/// Reads what follows an opening quote; gives the distance to the closing one.
fn quoted(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while bytes[at] != b'"' {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        at += 1;
        let digits = bytes[at..].iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        if digits > 0 {
            let octal =
                bytes[at..at + digits].iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            out.push(u8::try_from(octal).unwrap());
            at += digits;
        } else {
            out.push(match bytes[at] {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 0x0b,
                b'f' => 0x0c,
                other => other,
            });
            at += 1;
        }
    }
    at + 1
}

#[test]
fn reads_what_strace_writes() {
    let trace = concat!(
        "10 openat(AT_FDCWD, \"/tmp/a b\", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 5\n",
        "11 fdatasync(5 <unfinished ...>\n",
        "10 writev(7, [{iov_base=\"a\\0\\0011\\\"\", iov_len=5}, {iov_base=\"\\r\\n,)\", iov_len=4}], 2) = 9\n",
        "10 openat(AT_FDCWD, \"x\", O_RDONLY) = -1 ENOENT (No such file or directory)\n",
        "11 <... fdatasync resumed>)        = 0\n",
        "11 +++ killed by SIGKILL +++\n",
    );
    let calls = parse(trace);
    let seen: Vec<_> =
        calls.iter().map(|call| (call.name.as_str(), call.result, call.begin, call.end)).collect();
    assert_eq!(seen, [("openat", 5, 0, 0), ("writev", 9, 2, 2), ("fdatasync", 0, 1, 4)]);
    assert_eq!(calls[0].args[1].bytes, b"/tmp/a b");
    assert!(calls[0].has_flag(2, "O_CREAT"));
    assert_eq!(calls[1].args[1].bytes, b"a\0\x011\"\r\n,)");
    assert_eq!(calls[2].number(0), 5);
}
