//! What happens to the screen from outside, and what it wants done there.

use http::Method;
use ratatui::crossterm::event::Event as Input;
use serde_json::Value;

use super::feeds::{Question, Slot};

/// Something has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A key, the mouse, another size.
    Input(Input),
    /// What has changed on the server.
    Live(Value),
    /// The live view was lost or refused.
    Lost(Problem),
    Answer {
        slot: Slot,
        turn: u64,
        result: Result<Value, Problem>,
    },
    /// News of the output that is followed.
    Log {
        turn: u64,
        news: LogNews,
    },
    /// News of a change that was asked for.
    Change {
        turn: u64,
        news: ChangeNews,
    },
    /// An editor has ended: the text, if it was changed.
    Edited(Edit, Option<String>),
    /// Something to tell: another program could not be started, say.
    Told(String),
    /// The process is asked to end.
    End,
}

/// Something to do, besides showing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Ask(Question),
    /// Follow this live view, and no other.
    Live(String),
    /// Follow the output of a job, and no other.
    Log {
        turn: u64,
        id: String,
        attempt: Option<u64>,
    },
    StopLog,
    /// Change something: first find the jobs that are meant, then make the calls, one after the other.
    Change {
        turn: u64,
        calls: Vec<Call>,
        jobs_of: Option<JobsOf>,
        dry: bool,
    },
    StopChange,
    Copy(String),
    Edit(Edit),
    Page(String),
    Connect(String),
    Suspend,
    Quit,
}

/// One call that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    /// With its query.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method, path: path.into(), body }
    }

    /// With more parameters.
    pub(super) fn and(&self, query: &str) -> Self {
        let between = if self.path.contains('?') { '&' } else { '?' };
        Self { path: format!("{}{between}{query}", self.path), ..self.clone() }
    }
}

/// Dead jobs whose last error is of a type: errors are no filter of the API, so they are named by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobsOf {
    pub(super) error_type: Option<String>,
    /// The other filters, as a query.
    pub(super) query: String,
}

/// A text for an editor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// What becomes of the changed text: its members replace those of `before`.
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) before: Value,
    pub(super) needs: &'static str,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The status of the refusal; 0 if the server could not be reached.
    pub(super) status: u16,
    pub(super) says: String,
}

impl Problem {
    pub(super) fn new(status: u16, says: impl Into<String>) -> Self {
        Self { status, says: says.into() }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogNews {
    Attempt(u64),
    Line {
        is_error: bool,
        line: String,
    },
    /// So many bytes are missing here.
    Gap(u64),
    End(Option<String>),
    Problem(Problem),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChangeNews {
    /// The ids of the jobs that are meant.
    Named(Vec<String>),
    Progress {
        looked_at: u64,
        matched: u64,
        changed: u64,
    },
    Done(Value),
    Failed(Problem),
}
