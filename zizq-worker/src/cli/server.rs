//! The HTTP client of the command line: JSON in, JSON out, and a sentence for people when that fails.

use protocol::error::{Code, excerpt};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::CliError;
use crate::access::{Access, AccessFlags, Written};
use crate::address::shown;
use crate::client::{ANSWER_TIMEOUT, cause, why_unsent};
use crate::proxy;

/// The server to ask, and how to print its answer.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    #[command(flatten)]
    access: AccessFlags,
    /// Print the server's JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// A server to ask.
#[derive(Debug)]
pub(super) struct Server {
    url: Url,
    calls: reqwest::Client,
}

impl Target {
    /// Prepares the client. Nothing is sent yet.
    pub(super) fn connect(&self) -> Result<Server, CliError> {
        Server::at(&self.access.access(Written::default()).map_err(CliError::Usage)?)
    }
}

impl Server {
    /// Prepares the client. Nothing is sent yet.
    pub(super) fn at(access: &Access) -> Result<Self, CliError> {
        let calls = access.builder().and_then(|builder| builder.build().map_err(|e| cause(&e)));
        let calls = calls.map_err(|e| CliError::Failed(format!("cannot set up the HTTP client: {e}")))?;
        Ok(Self { url: access.url.clone(), calls })
    }

    /// The address without user name and password.
    pub(super) fn shown(&self) -> String {
        shown(&self.url).to_string().trim_end_matches('/').to_owned()
    }

    pub(super) fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url.clone();
        // A URL with a host has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.calls.request(method, url)
    }

    /// Sends a request, and waits for the headers of the answer.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response, CliError> {
        request.send().await.map_err(|e| match e.is_connect() {
            true => self.no_answer(&why_unsent(&e)),
            false => self.lost(&why_unsent(&e)),
        })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<(StatusCode, Value), CliError> {
        let answer = self.open(request.timeout(ANSWER_TIMEOUT)).await?;
        self.read(answer).await
    }

    async fn read(&self, answer: Response) -> Result<(StatusCode, Value), CliError> {
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| self.lost(&cause(&e)))?;
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((status, value)),
            Err(_) => Err(CliError::Failed(format!(
                "{} is not a Zizq server: it answered {status}: {}",
                self.shown(),
                excerpt(&String::from_utf8_lossy(&body))
            ))),
        }
    }

    /// As [`Self::ask`], but anything other than success is an error.
    pub(super) async fn expect(&self, request: RequestBuilder) -> Result<Value, CliError> {
        self.expect_late(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// As [`Self::expect`], without a timeout: the call may work on a million jobs before it answers.
    pub(super) async fn expect_late(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let answer = self.open(request).await?;
        match self.read(answer).await? {
            (status, value) if status.is_success() => Ok(value),
            (status, value) => Err(refused(status, &value)),
        }
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, CliError> {
        self.expect(self.request(Method::GET, path, query)).await
    }

    fn lost(&self, cause: &str) -> CliError {
        CliError::Lost(format!("no answer from {}: {cause}", self.shown()))
    }

    fn no_answer(&self, cause: &str) -> CliError {
        let shown = self.shown();
        CliError::NoServer(format!(
            "no answer from {shown}{via}: {cause}. Is zizq-server running there? --server or ZIZQ_SERVER names another",
            via = proxy::via()
        ))
    }
}

/// The code of a refusal. Servers without error codes send none.
pub(super) fn code(body: &Value) -> Option<Code> {
    body.get("code").and_then(|code| Code::deserialize(code).ok())
}

/// The server's words about a call that it refuses.
pub(super) fn refused(status: StatusCode, body: &Value) -> CliError {
    match body.get("error").and_then(Value::as_str) {
        Some(error) if status == StatusCode::SERVICE_UNAVAILABLE => CliError::NoServer(error.to_owned()),
        Some(error) => CliError::Failed(error.to_owned()),
        None => CliError::Failed(format!("the server answered {status}")),
    }
}
