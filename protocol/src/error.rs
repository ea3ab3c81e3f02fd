//! The body of every answer that is not a success, and the codes that programs tell such answers apart by.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// `{"error": "<one sentence>", "code": "<one word>"}`, and for 406 and 415 the supported media types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One sentence that names the field and the bad value.
    pub error: String,
    /// What it is, for programs. The server always says it. None where an older one did not, or a newer one has a code that is
    /// not known here: then the status is all there is to go by.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The media types that the server speaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported: Vec<String>,
    /// Of a call that changes many jobs: how many were changed before it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Code>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Known(Code),
        Other(IgnoredAny),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::Known(code) => Some(code),
        Given::Other(IgnoredAny) => None,
    })
}

/// The one table of codes. The reference (`protocol/API.md`, Errors) says when each comes.
macro_rules! codes {
    ($($(#[$doc:meta])+ $code:ident = $status:literal,)+) => {
        /// What an error is, for programs: a word that stays, while its sentence may change. As text in `snake_case`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])+ $code,)+
        }

        impl Code {
            /// All of them, in the order of their statuses.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The status of an answer with this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$code => $status),+
                }
            }
        }
    };
}

codes! {
    /// The request is malformed: its body, a parameter, a header, or a value of the wrong type or out of its range.
    Invalid = 400,
    /// A jq expression is none.
    InvalidFilter = 400,
    /// An `Idempotency-Key` is empty, too long, given twice, or has characters that it may not have.
    InvalidIdempotencyKey = 400,
    /// The caller has not said who it is, or nobody knows it.
    Unauthorized = 401,
    /// The caller may not do this.
    Forbidden = 403,
    /// A web page of another site has called.
    ForeignOrigin = 403,
    /// There is no such path.
    NoRoute = 404,
    /// What the request names is not there: a job, queue, budget, cron group, cron entry, failed attempt or log.
    NotFound = 404,
    /// Whoever reports on a job does not hold it: it does not exist, has ended, or waits.
    NotInFlight = 404,
    /// The path is there, for other methods.
    MethodNotAllowed = 405,
    /// The answer cannot be given in any format that the caller takes.
    NotAcceptable = 406,
    /// The body came too slowly.
    BodyTimeout = 408,
    /// The lease has expired, and the job was delivered again.
    LeaseLost = 409,
    /// What is to be created is there already.
    Exists = 409,
    /// What is to be deleted is still used.
    InUse = 409,
    /// Another call came in between.
    Conflict = 409,
    /// The first call with this `Idempotency-Key` is still being carried out.
    IdempotencyKeyInUse = 409,
    /// The call was carried out before, and its answer is lost.
    AnswerLost = 409,
    /// A body, payload, result or list is larger than the server takes.
    TooLarge = 413,
    /// The URL is too long.
    UrlTooLong = 414,
    /// The body is in no format that the call takes, or compressed.
    UnsupportedMediaType = 415,
    /// The server does not answer to the name that it was called by.
    ForeignHost = 421,
    /// Well-formed, but it asks for what cannot be.
    NotAllowed = 422,
    /// The job has a status in which this cannot be done with it.
    WrongStatus = 422,
    /// A jq expression took too long or too much memory, or is no condition where jobs are to be changed.
    FilterFailed = 422,
    /// The `Idempotency-Key` was used for another call.
    IdempotencyKeyReused = 422,
    /// Of a report on many jobs, those in the lists were not done; all others were.
    NotDone = 422,
    /// The head of the request is too large.
    HeadTooLarge = 431,
    /// The store cannot be read; the server's log says why.
    StoreUnreadable = 500,
    /// Too many others want the same: come back in a moment.
    Busy = 503,
    /// The connection is one too many.
    TooManyConnections = 503,
    /// The server shuts down and takes no new work.
    Draining = 503,
    /// The server has stopped its work, and answers what is left.
    Stopping = 503,
    /// The store is closed after a failed write, and opens again by itself.
    StoreClosed = 503,
    /// The batch has changed again and again meanwhile.
    BatchChanged = 503,
    /// A part of the server does not work at the moment; its log says why.
    Unavailable = 503,
    /// The disk is full.
    DiskFull = 507,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The start of a bad value on one line, short enough to quote in an error message.
#[must_use]
pub fn excerpt(value: &str) -> String {
    const MAX_CHARS: usize = 64;
    let mut chars = value.chars();
    let mut short = String::new();
    for c in chars.by_ref().take(MAX_CHARS) {
        if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) }
    }
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the reference: codes and statuses.
    fn documented() -> Vec<(String, u16)> {
        // Read here, so that a change of the text alone compiles nothing.
        let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/API.md")).unwrap();
        let (_, section) = reference.split_once("\n### Errors\n").unwrap();
        let (section, _) = section.split_once("\n##").unwrap();
        let row = |row: &str| {
            let [_, code, status, when, _] = row.split('|').collect::<Vec<_>>().try_into().expect(row);
            assert!(!when.trim().is_empty(), "{row}");
            (code.trim().trim_matches('`').to_owned(), status.trim().parse().expect(row))
        };
        section.lines().filter(|line| line.starts_with("| `")).map(row).collect()
    }

    #[test]
    fn the_reference_has_the_same_table() {
        let codes: Vec<(String, u16)> =
            Code::ALL.iter().map(|code| (code.to_string(), code.status())).collect();
        assert_eq!(codes, documented(), "protocol/API.md, Errors");
        assert!(codes.is_sorted_by_key(|(_, status)| *status));
        assert!(codes.iter().all(|(_, status)| (400..600).contains(status)));
    }

    #[test]
    fn codes_are_words() {
        for &code in Code::ALL {
            let word = code.to_string();
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
            let body =
                ErrorBody { error: "no".to_owned(), code: Some(code), supported: Vec::new(), changed: None };
            let json = serde_json::to_string(&body).unwrap();
            assert_eq!(json, format!(r#"{{"error":"no","code":"{word}"}}"#));
            assert_eq!(serde_json::from_str::<ErrorBody>(&json).unwrap(), body);
            let packed = rmp_serde::to_vec_named(&body).unwrap();
            assert_eq!(rmp_serde::from_slice::<ErrorBody>(&packed).unwrap(), body);
        }
    }

    #[test]
    fn what_other_servers_say_is_read_without_its_code() {
        for rest in
            ["", r#","code":"of_tomorrow""#, r#","code":404"#, r#","code":null"#, r#","code":{"a":[1]}"#]
        {
            let body: ErrorBody = serde_json::from_str(&format!(r#"{{"error":"no"{rest}}}"#)).unwrap();
            assert_eq!(
                body,
                ErrorBody { error: "no".to_owned(), code: None, supported: Vec::new(), changed: None },
                "{rest}"
            );
        }
    }
}
