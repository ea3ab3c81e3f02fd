//! Calls the server. Each call is a task, so the screen waits for none.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::answers::{answer, named};
use super::data::Look;
use super::event::{Call, ChangeNews, Event, JobsOf, LogNews, Problem};
use super::feeds::Question;
use super::stream::{PATIENCE, Stream};
use super::wants::path;
use zizq_client::Client;

/// How long after a loss a stream is opened again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Work {
    client: Arc<Client>,
    events: Sender<Event>,
    live: Option<AbortHandle>,
    log: Option<AbortHandle>,
    change: Option<AbortHandle>,
}

impl Work {
    pub(super) fn new(client: Client, events: Sender<Event>) -> Self {
        Self { client: Arc::new(client), events, live: None, log: None, change: None }
    }

    /// Another server from now on.
    pub(super) fn set_client(&mut self, client: Client) {
        self.client = Arc::new(client);
        stop(&mut self.live);
        stop(&mut self.log);
        stop(&mut self.change);
    }

    pub(super) fn ask(&self, Question { slot, turn, source }: Question) {
        let (client, events) = (self.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = timeout(PATIENCE, answer(&client, &source)).await;
            let late = Problem::new(0, "the server has not answered in time");
            events.send(Event::Answer { slot, turn, result: result.unwrap_or(Err(late)) }).await
        });
    }

    pub(super) fn follow(&mut self, path: String) {
        stop(&mut self.live);
        let (client, events) = (self.client.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            loop {
                let problem = live(&client, &path, &events).await;
                if events.send(Event::Lost(problem)).await.is_err() {
                    return;
                }
                sleep(AGAIN).await;
            }
        });
        self.live = Some(task.abort_handle());
    }

    pub(super) fn follow_log(&mut self, turn: u64, id: &str, attempt: Option<u64>) {
        stop(&mut self.log);
        let (client, events) = (self.client.clone(), self.events.clone());
        let attempt = attempt.map(|n| format!("?attempt={n}")).unwrap_or_default();
        let path = format!("{}{attempt}", path(&["jobs", id, "log"]));
        let task = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                match log(&client, &path, &mut last, turn, &events).await {
                    Ok(()) => return,
                    Err(problem) => {
                        let is_final = (400..500).contains(&problem.status);
                        let news = Event::Log { turn, news: LogNews::Problem(problem) };
                        if events.send(news).await.is_err() || is_final {
                            return;
                        }
                    }
                }
                sleep(AGAIN).await;
            }
        });
        self.log = Some(task.abort_handle());
    }

    pub(super) fn stop_log(&mut self) {
        stop(&mut self.log);
    }

    /// Makes these calls, one after the other. Those about many jobs tell how far they are.
    pub(super) fn change(&mut self, turn: u64, mut calls: Vec<Call>, jobs_of: Option<JobsOf>, dry: bool) {
        let (client, events) = (self.client.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            let tell = |news| events.send(Event::Change { turn, news });
            if let Some(jobs_of) = jobs_of {
                match named(&client, &jobs_of).await {
                    Ok(ids) if ids.is_empty() => {
                        let nothing = json!({"matched": 0, "until": ""});
                        return tell(ChangeNews::Done(nothing)).await.ok();
                    }
                    Ok(ids) => {
                        let filter =
                            super::filter::query([("status", "dead"), ("id", ids.join(",").as_str())]);
                        for call in &mut calls {
                            let path = call.path.split('?').next().unwrap_or_default().to_owned();
                            call.path = format!("{path}?{filter}");
                        }
                        tell(ChangeNews::Named(ids)).await.ok()?;
                    }
                    Err(problem) => return tell(ChangeNews::Failed(problem)).await.ok(),
                }
            }
            let mut answer = Value::Null;
            for call in calls {
                let call = if dry { call.and("dry_run=true") } else { call };
                match change(&client, &call, turn, &events).await {
                    Ok(done) => answer = done,
                    Err(problem) => return tell(ChangeNews::Failed(problem)).await.ok(),
                }
            }
            tell(ChangeNews::Done(answer)).await.ok()
        });
        self.change = Some(task.abort_handle());
    }

    pub(super) fn stop_change(&mut self) {
        stop(&mut self.change);
    }
}

fn stop(task: &mut Option<AbortHandle>) {
    if let Some(task) = task.take() {
        task.abort();
    }
}

/// Follows a live view to its end. Returns what ended it.
async fn live(client: &Client, path: &str, events: &Sender<Event>) -> Problem {
    let call = Call::new(Method::GET, path, None);
    let mut stream = match Stream::open(client, &call, "").await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Problem::new(0, "the answer is no stream; is this a zizq-server?"),
        Err(problem) => return problem,
    };
    loop {
        match stream.next().await {
            Ok(Some((_, data, _))) => drop(events.send(Event::Live(data)).await),
            Ok(None) => return Problem::new(0, "the server has ended the connection"),
            Err(problem) => return problem,
        }
    }
}

/// Follows the output of a job to the end of its attempt.
async fn log(
    client: &Client,
    path: &str,
    last: &mut String,
    turn: u64,
    events: &Sender<Event>,
) -> Result<(), Problem> {
    let tell = |news| events.send(Event::Log { turn, news });
    let call = Call::new(Method::GET, path, None);
    let Ok(mut stream) = Stream::open(client, &call, last).await? else {
        drop(tell(LogNews::End(None)).await);
        return Ok(());
    };
    while let Some((event, data, id)) = stream.next().await? {
        if !id.is_empty() {
            *last = id;
        }
        let news = match event.as_str() {
            "hello" => LogNews::Attempt(data.num("attempt").unwrap_or_default()),
            "lagged" => LogNews::Gap(data.num("missed_bytes").unwrap_or_default()),
            "message" => LogNews::Line {
                is_error: data.text("stream") == Some("stderr"),
                line: data.text("line").unwrap_or_default().to_owned(),
            },
            "end" => {
                drop(tell(LogNews::End(data.text("status").map(str::to_owned))).await);
                return Ok(());
            }
            _ => continue,
        };
        if tell(news).await.is_err() {
            return Ok(());
        }
    }
    Err(Problem::new(0, "the server has ended the connection"))
}

/// Makes one call that changes something. Returns its answer.
async fn change(client: &Client, call: &Call, turn: u64, events: &Sender<Event>) -> Result<Value, Problem> {
    let is_bulk =
        call.path.starts_with("/jobs?") || call.path == "/jobs" || call.path.starts_with("/jobs/retry");
    if !is_bulk {
        return super::stream::call(client, &call.method, &call.path, call.body.as_ref()).await;
    }
    let mut stream = match Stream::open(client, call, "").await? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    while let Some((event, data, _)) = stream.next().await? {
        match event.as_str() {
            "done" => return Ok(data),
            "error" => {
                let changed = data.num("changed").filter(|n| *n > 0);
                let before = changed.map(|n| format!("; {n} were changed before that")).unwrap_or_default();
                return Err(Problem::new(422, format!("{}{before}", data.text("error").unwrap_or_default())));
            }
            _ => {
                let n = |path| data.num(path).unwrap_or_default();
                let news = ChangeNews::Progress {
                    looked_at: n("looked_at"),
                    matched: n("matched"),
                    changed: n("changed"),
                };
                drop(events.send(Event::Change { turn, news }).await);
            }
        }
    }
    Err(Problem::new(0, "the server has ended the call; some jobs may have been changed"))
}
