//! The flags `--run`, `--http` and `--concurrency`, each parsed on its own.

use std::num::NonZeroU16;
use std::str::FromStr;

use protocol::name::QueueName;

use crate::address::http_url;

/// A `--run` or `--http` flag: `QUEUE=WHAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFlag {
    pub(crate) queue: QueueName,
    /// The command line, or the URL.
    pub(crate) what: String,
}

impl RouteFlag {
    /// Reads `QUEUE=COMMAND`.
    pub(crate) fn command(text: &str) -> Result<Self, String> {
        let (queue, command) = split(text, "COMMAND")?;
        if command.trim().is_empty() {
            return Err(format!("the command for queue `{queue}` is empty"));
        }
        Ok(Self { queue, what: command.to_owned() })
    }

    /// Reads `QUEUE=URL`.
    pub(crate) fn http(text: &str) -> Result<Self, String> {
        let (queue, url) = split(text, "URL")?;
        if url.trim().is_empty() {
            return Err(format!("the URL for queue `{queue}` is empty"));
        }
        if !url.contains("{{") {
            http_url(url, "http://HOST/PATH")?;
        }
        Ok(Self { queue, what: url.to_owned() })
    }
}

fn split<'a>(text: &'a str, what: &str) -> Result<(QueueName, &'a str), String> {
    let (queue, rest) =
        text.split_once('=').ok_or_else(|| format!("the `=` is missing; write QUEUE={what}"))?;
    let queue = QueueName::new(queue).map_err(|e| format!("the queue before the `=` is not valid: {e}"))?;
    Ok((queue, rest))
}

/// A `--concurrency` flag: `N`, or `QUEUE=N`.
#[derive(Debug, Clone)]
pub struct ConcurrencyFlag {
    /// The queue; `None`: every queue without a flag of its own.
    pub queue: Option<QueueName>,
    /// The maximum number of its jobs that run at a time.
    pub limit: NonZeroU16,
}

impl FromStr for ConcurrencyFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (queue, number) = match text.contains('=') {
            true => split(text, "N").map(|(queue, number)| (Some(queue), number))?,
            false => (None, text),
        };
        let limit = number.parse().map_err(|_| {
            format!("`{number}` is not a number from 1 to {}; write N or QUEUE=N", NonZeroU16::MAX)
        })?;
        Ok(Self { queue, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_everything_after_the_first_equals_sign() {
        let flag = RouteFlag::command("mails=env A=b ./send --to='x'").unwrap();
        assert_eq!(flag.queue.as_str(), "mails");
        assert_eq!(flag.what, "env A=b ./send --to='x'");
    }

    #[test]
    fn bad_routes_are_explained() {
        let command = |text: &str| RouteFlag::command(text).unwrap_err();
        assert_eq!(command("q= "), "the command for queue `q` is empty");
        assert_eq!(command("gzip"), "the `=` is missing; write QUEUE=COMMAND");
        assert_eq!(command("=x"), "the queue before the `=` is not valid: a name must not be empty");
        assert!(command("a,b=x").contains("`a,b` contains ','"));
        let http = |text: &str| RouteFlag::http(text).unwrap_err();
        assert_eq!(http("q="), "the URL for queue `q` is empty");
        assert!(http("q=localhost:80/x").contains("does not begin with http://"));
        assert!(http("q=/hook").contains("is not a URL"));
        assert!(http("q=http://").contains("is not a URL"));
        assert!(RouteFlag::http("q=https://example.org/a?b=c").is_ok());
    }

    #[test]
    fn concurrency() {
        let flag: ConcurrencyFlag = "4".parse().unwrap();
        assert_eq!((flag.queue, flag.limit.get()), (None, 4));
        let flag: ConcurrencyFlag = "q=65535".parse().unwrap();
        assert_eq!((flag.queue.as_deref(), flag.limit.get()), (Some("q"), 65535));
        for bad in ["", "0", "-1", "x", "65536", "q=", "q=0", "=1", "q=1=1"] {
            assert!(bad.parse::<ConcurrencyFlag>().is_err(), "{bad}");
        }
    }
}
