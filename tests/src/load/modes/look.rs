//! Looking for jobs, and changing many at once, among a lot of them; and the latency of another queue meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use protocol::id::JobId;
use serde_json::Value;

use super::args::Look;
use super::enqueue::fill;
use super::probe::Probe;
use crate::load::check::Faults;
use crate::load::http::{Connection, Request};
use crate::load::producer::{Jobs, histogram, micros};
use crate::load::report::{
    COUNT_P99, DISPATCH_MAX, DISPATCH_P50, DISPATCH_P99, FILTER_SECONDS, Figures, PAGE_P50, PAGE_P99,
    PATCH_SECONDS, Round, SECONDS,
};
use crate::load::target::Target;
use crate::load::worker::Plan;

const PAGES: u32 = 500;
const COUNTS: u32 = 500;
const FILTERS: u32 = 3;
/// At most so many jobs are patched, and no more than a tenth of all.
const PATCHED: u32 = 100_000;
/// Connections of the probe.
const PROBES: u32 = 16;
const PROBE_EVERY: Duration = Duration::from_millis(2);

/// What is done to the server, and how long each time took.
struct Looker<'a> {
    target: &'a Target,
    connection: Connection,
    times: Histogram<u64>,
}

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Look) -> Result<Round> {
    let (queue, bytes) = (target.queue.as_str(), flags.how.payload_bytes());
    let patched = PATCHED.min(flags.jobs / 10);
    let filled = fill(target, None, &Jobs::new(queue, bytes, 1_000), flags.jobs).await?;
    let mut faults = filled.faults;
    let aside = format!("{queue}-aside");
    faults.add_all(fill(target, None, &Jobs::new(&aside, bytes, 1_000), patched).await?.faults);
    let probe = format!("{queue}-probe");
    let mut probe = Probe::connect(target, &probe, bytes, (PROBES, Plan::default())).await?;
    let mut looker = Looker { target, connection: target.connect().await?, times: histogram()? };
    let mut round = Round::default();

    let (calm, dispatch) = probe.run_until(looker.rest(), PROBE_EVERY).await?;
    round.samples.push(("nothing".to_owned(), figures(&calm, &dispatch, 1)));
    let (pages, dispatch) = probe.run_until(looker.pages(), PROBE_EVERY).await?;
    round.figures.quantile(&PAGE_P50, &pages, 0.5);
    round.figures.quantile(&PAGE_P99, &pages, 0.99);
    round.samples.push(("page".to_owned(), figures(&pages, &dispatch, PAGES)));
    let mut worst = dispatch;
    let (counts, dispatch) = probe.run_until(looker.counts(flags.jobs, &mut faults), PROBE_EVERY).await?;
    round.figures.quantile(&COUNT_P99, &counts, 0.99);
    round.samples.push(("count".to_owned(), figures(&counts, &dispatch, COUNTS)));
    worst.add(dispatch)?;
    let (filters, dispatch) = probe.run_until(looker.filters(flags.jobs, &mut faults), PROBE_EVERY).await?;
    round.figures.add(&FILTER_SECONDS, filters.mean() / f64::from(flags.jobs));
    round.samples.push(("jq filter".to_owned(), figures(&filters, &dispatch, FILTERS)));
    worst.add(dispatch)?;
    let (patch, dispatch) = probe.run_until(looker.patch(&aside, patched, &mut faults), PROBE_EVERY).await?;
    round.figures.add(&PATCH_SECONDS, patch.mean() / f64::from(patched) / 10.0);
    round.samples.push(("patch".to_owned(), figures(&patch, &dispatch, 1)));
    worst.add(dispatch)?;

    round.figures.latency(&worst);
    round.figures.footprint(target);
    faults.add_all(probe.faults());
    round.faults = faults.into_sentences();
    Ok(round)
}

/// How long it took to do something so many times, and how long jobs took to arrive meanwhile.
fn figures(times: &Histogram<u64>, dispatch: &Histogram<u64>, n: u32) -> Figures {
    let mut figures = Figures::default();
    if n == 1 {
        figures.add(&SECONDS, times.mean() / 1e6);
    } else {
        figures.latency(times);
    }
    figures.quantile(&DISPATCH_P50, dispatch, 0.5);
    figures.quantile(&DISPATCH_P99, dispatch, 0.99);
    figures.quantile(&DISPATCH_MAX, dispatch, 1.0);
    figures
}

impl Looker<'_> {
    /// Nothing, for comparison.
    async fn rest(&mut self) -> Result<Histogram<u64>> {
        self.times.saturating_record(1_000_000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.taken().await
    }

    /// Pages anywhere in the queue.
    async fn pages(&mut self) -> Result<Histogram<u64>> {
        let filters = format!("queue={}&status=ready", self.target.queue);
        let (first, last) = (self.end(&filters, "asc").await?, self.end(&filters, "desc").await?);
        self.times = histogram()?;
        for _ in 0..PAGES {
            // Whether there is a job of this id makes no difference.
            let from = JobId::from_u128(fastrand::u128(first..=last));
            let page = self.call("GET", &format!("/jobs?{filters}&from={from}"), b"").await?;
            ensure!(page["jobs"].is_array(), "not a page: {page}");
        }
        self.taken().await
    }

    /// The first or the last job of a list.
    async fn end(&mut self, filters: &str, order: &str) -> Result<u128> {
        let page = self.call("GET", &format!("/jobs?{filters}&order={order}&limit=1"), b"").await?;
        let id = page["jobs"][0]["id"].as_str().context("there is a job")?;
        Ok(id.parse::<JobId>()?.to_u128())
    }

    async fn counts(&mut self, jobs: u32, faults: &mut Faults) -> Result<Histogram<u64>> {
        let path = format!("/jobs/count?queue={}&status=ready", self.target.queue);
        for _ in 0..COUNTS {
            let count = self.call("GET", &path, b"").await?;
            faults.expect("jobs counted", count["count"].as_u64().unwrap_or_default(), jobs);
        }
        self.taken().await
    }

    /// jq over every payload.
    async fn filters(&mut self, jobs: u32, faults: &mut Faults) -> Result<Histogram<u64>> {
        for _ in 0..FILTERS {
            let expression = format!(".n%20==%20%22{:010}%22", fastrand::u32(..jobs));
            let path = format!("/jobs/count?queue={}&filter={expression}", self.target.queue);
            let count = self.call("GET", &path, b"").await?;
            faults.expect("jobs that match", count["count"].as_u64().unwrap_or_default(), 1);
        }
        self.taken().await
    }

    async fn patch(&mut self, queue: &str, jobs: u32, faults: &mut Faults) -> Result<Histogram<u64>> {
        let done = self.call("PATCH", &format!("/jobs?queue={queue}"), br#"{"priority": 7}"#).await?;
        faults.expect("jobs patched", done["patched"].as_u64().unwrap_or_default(), jobs);
        self.taken().await
    }

    async fn call(&mut self, method: &'static str, path: &str, body: &[u8]) -> Result<Value> {
        let headers = [("accept", "application/json"), ("content-type", "application/json")];
        let start = Instant::now();
        let answer = self.connection.exchange(&Request { method, path, headers: &headers, body }).await?;
        self.times.saturating_record(micros(start.elapsed()));
        ensure!(answer.status == 200, "{method} {path} was answered with {}", answer.describe());
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// How long each took. What is over soon lasts until a probe was sent.
    async fn taken(&mut self) -> Result<Histogram<u64>> {
        tokio::time::sleep(2 * PROBE_EVERY).await;
        Ok(std::mem::replace(&mut self.times, histogram()?))
    }
}
