//! A job as an HTTP call.

use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use protocol::job::DeliveredJob;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Stop, stopped};
use crate::client::{builder_for, cause};
use crate::outcome::{Outcome, of_no_response, of_response};
use crate::{clock, retry_after};

/// How much of an answer is read: enough for a message, and for the connection to be used again.
const MAX_BODY: usize = 64 << 10;
/// How long the body of an answer may take: its status has said what there is to know.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// What cannot stand in a header, or would be mistaken for what stands for it.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A URL that takes jobs.
#[derive(Debug)]
pub(crate) struct Endpoint {
    url: Url,
    client: Client,
}

impl Endpoint {
    pub(super) fn new(url: &Url) -> reqwest::Result<Self> {
        Ok(Self { url: url.clone(), client: builder_for(url).build()? })
    }

    pub(super) async fn call(&self, job: &DeliveredJob, mut stop: watch::Receiver<Stop>) -> Outcome {
        let call = async {
            match self.request(job).send().await {
                Ok(answer) => read(answer).await,
                Err(e) => of_no_response(&cause(&e)),
            }
        };
        tokio::select! {
            outcome = call => outcome,
            () = stopped(&mut stop) => Outcome::Stopped,
        }
    }

    fn request(&self, job: &DeliveredJob) -> RequestBuilder {
        let text = |name: &str| utf8_percent_encode(name, ENCODED).to_string();
        self.client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Zizq-Job-Id", job.id.to_string())
            .header("Zizq-Job-Type", text(&job.job_type))
            .header("Zizq-Job-Queue", text(&job.queue))
            .header("Zizq-Job-Attempt", job.attempts.saturating_add(1))
            .body(job.payload.get().to_owned())
    }
}

async fn read(mut answer: Response) -> Outcome {
    let status = answer.status();
    let retry_at = retry_after::at(answer.headers(), clock::now_ms());
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = answer.chunk().await
            && body.len() < MAX_BODY
        {
            body.extend_from_slice(&chunk);
        }
    };
    if timeout(BODY_TIMEOUT, reading).await.is_err() {
        tracing::debug!("the body of an answer took too long; the status {status} counts");
    }
    of_response(status, retry_at, &String::from_utf8_lossy(&body))
}
