//! The spans of the server: `enqueue QUEUE` for calls that bring jobs, and `wait QUEUE` for jobs that are delivered.

use protocol::enqueue::NewJob;
use protocol::trace::{Parent, Trace};
use zizq_spans::{Kind, Moment, Span, Spans, names};

use crate::engine::command::jobs::{Enqueued, Outcome};
use crate::engine::command::once::Taken;
use crate::engine::outbox::Delivery;
use crate::hash::HashMap;
use crate::http::reply::Refusal;
use crate::job::id::Stamp;

/// The spans of a call that enqueues: one for each trace and queue of its jobs.
#[derive(Debug)]
pub(super) struct Enqueueing {
    spans: Spans,
    begun: Vec<Span>,
}

impl Enqueueing {
    /// The call came at the moment `since`.
    pub(super) fn begin(spans: &Spans, since: Option<Moment>, route: &'static str, jobs: &[NewJob]) -> Self {
        let mut of_call: HashMap<(Parent, &str), (&Trace, &NewJob, usize)> = HashMap::default();
        if since.is_some() {
            for job in jobs {
                let Some(trace) = spans.wanted(job.trace()) else { continue };
                of_call.entry((trace.parent, job.queue.as_str())).or_insert((trace, job, 0)).2 += 1;
            }
        }
        let begun = of_call.into_values().map(|(trace, job, number)| {
            let mut span = Span::below(trace, Kind::Server, "enqueue", &job.queue).began(since);
            span.set(names::METHOD, "POST");
            span.set(names::ROUTE, route);
            if jobs.len() == 1 {
                span.set(names::JOB_TYPE, job.job_type.to_string());
            } else {
                span.count(names::JOBS, number);
            }
            span
        });
        Self { spans: spans.clone(), begun: begun.collect() }
    }

    /// The engine has taken the jobs, or refused them.
    pub(super) fn end(self, taken: Result<&Taken<Vec<Enqueued>>, &Refusal>) {
        for mut span in self.begun {
            match taken {
                Ok(Taken::Now(jobs)) => {
                    if let [job] = &jobs[..] {
                        span.set(names::JOB_ID, job.job.id.to_string());
                    }
                    let old = jobs.iter().filter(|job| job.outcome != Outcome::Created).count();
                    if old > 0 {
                        span.count(names::NOT_NEW, old);
                    }
                }
                Ok(Taken::Again(_)) => span.set(names::REPEATED, true),
                // As the conventions of HTTP have it, what the client did wrong is no error of the server.
                Err(refusal) => {
                    let code = refusal.code();
                    span.count(names::STATUS, code.status());
                    if code.status() >= 500 {
                        span.fail(&code.to_string(), refusal.error());
                    }
                }
            }
            self.spans.end(span);
        }
    }
}

/// Sends the span of a job that is delivered: from when it was ready. A delivery that is sent once more, because its stream
/// was resumed, gives the same span once more.
pub(super) fn waited(spans: &Spans, delivery: &Delivery) {
    let job = &delivery.job;
    let Some(trace) = spans.wanted(job.trace()) else { return };
    let ready = job.ready_at.max(Stamp::of(job.id).millis());
    let delivered = job.dequeued_at.unwrap_or(ready).max(ready);
    let mut span = Span::below(trace, Kind::Internal, "wait", &delivery.queue)
        .between(ready, delivered)
        .numbered(delivery.token.to_u64());
    span.set(names::JOB_ID, job.id.to_string());
    span.set(names::JOB_TYPE, job.job_type.to_string());
    span.count(names::ATTEMPT, u64::from(job.attempts) + 1);
    span.count(names::DELIVERY, job.deliveries);
    spans.end(span);
}
