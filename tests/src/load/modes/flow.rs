//! What jobs ask for beyond the ordinary, and jobs that wait for tokens that nobody gives back.

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::enqueue::fill;
use crate::load::args::How;
use crate::load::http::Request;
use crate::load::producer::Jobs;
use crate::load::target::Target;
use crate::load::template::MARK;

/// Jobs per request, both ways.
const BULK: u32 = 1_000;
/// Longer than a round takes, in milliseconds.
const LEASE_MS: u64 = 12 * 3_600_000;
/// As many tokens as nobody uses.
const PLENTY: u32 = 1_000_000_000;

/// What jobs ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct Flow {
    /// Every job has a unique key of its own
    #[arg(long)]
    pub unique: bool,
    /// Every job draws on so many budgets, which have tokens enough
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(..=32))]
    pub budgets: u32,
}

/// Jobs in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Parked {
    /// Jobs of the same queue that wait for tokens meanwhile
    #[arg(long, default_value_t = 0, value_name = "JOBS")]
    pub parked: u32,
    /// The budgets that they wait for, each by as many
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parked_on: u32,
}

impl Flow {
    /// Whether jobs are like any other, also on servers that know nothing else.
    pub(in crate::load) fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// Makes the budgets, and says so in the jobs.
    pub(super) async fn prepare(self, target: &Target, jobs: &mut Jobs) -> Result<()> {
        if self.unique {
            jobs.members.insert("unique_key".to_owned(), json!(format!("{}-{MARK}", target.queue)));
        }
        let keys: Vec<String> = (0..self.budgets).map(|n| format!("{}-{n}", target.queue)).collect();
        for key in &keys {
            create(target, key, PLENTY).await?;
        }
        if !keys.is_empty() {
            let bindings: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
            jobs.members.insert("budgets".to_owned(), json!(bindings));
        }
        Ok(())
    }
}

impl Parked {
    /// Whether nobody is in the way.
    pub(in crate::load) const fn is_none(self) -> bool {
        self.parked == 0
    }

    /// How many jobs are parked: as many on each budget.
    pub(super) const fn jobs(self) -> u32 {
        self.parked.div_ceil(self.parked_on) * self.parked_on
    }

    /// Takes the tokens of all the budgets, and lets jobs wait for them.
    pub(super) async fn prepare(self, target: &Target, how: &How) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        let key = |n: &str| format!("{}-parked-{n}", target.queue);
        for n in 0..self.parked_on {
            create(target, &key(&format!("{n:010}")), 1).await?;
        }
        // The jobs `0..n` draw on as many budgets; where there is only one, all of them on that.
        let one = self.parked_on == 1;
        let binding = json!([{"key": key(if one { "0000000000" } else { MARK })}]);
        let jobs = |queue: &str, n: u32| {
            let members = Map::from_iter([("budgets".to_owned(), binding.clone())]);
            Jobs { members, ..Jobs::new(queue, how.payload_bytes(), BULK.min(n)) }
        };
        let holders = format!("{}-holders", target.queue);
        let mut faults = fill(target, None, &jobs(&holders, self.parked_on), self.parked_on).await?.faults;
        hold(target, &holders, self.parked_on).await?;
        let (rounds, each) =
            if one { (1, self.jobs()) } else { (self.jobs() / self.parked_on, self.parked_on) };
        for _ in 0..rounds {
            faults.add_all(fill(target, None, &jobs(&target.queue, each), each).await?.faults);
        }
        let faults = faults.into_sentences();
        ensure!(faults.is_empty(), "jobs could not be parked: {}", faults.join("; "));
        Ok(())
    }
}

/// Makes a budget, and lets every job draw on it.
pub(super) async fn share(target: &Target, tokens: u32, jobs: &mut Jobs) -> Result<()> {
    let key = format!("{}-shared", target.queue);
    create(target, &key, tokens).await?;
    jobs.members.insert("budgets".to_owned(), json!([{"key": key}]));
    Ok(())
}

async fn create(target: &Target, key: &str, allocation: u32) -> Result<()> {
    let body = json!({"allocation": allocation, "strategy": {"type": "while_in_flight"}}).to_string();
    post(target, &format!("/budgets/{key}"), &body, 201).await.map(drop)
}

/// Takes so many jobs, and keeps them.
async fn hold(target: &Target, queue: &str, jobs: u32) -> Result<()> {
    let mut left = jobs as usize;
    while left > 0 {
        let poll = json!({"queues": [queue], "limit": BULK, "lease_ms": LEASE_MS}).to_string();
        let answer = post(target, "/jobs/take", &poll, 200).await?;
        let taken = answer["jobs"].as_array().map_or(0, Vec::len);
        ensure!(taken > 0, "{left} jobs that were to take the tokens have not come");
        left = left.saturating_sub(taken);
    }
    Ok(())
}

async fn post(target: &Target, path: &str, body: &str, status: u16) -> Result<Value> {
    let mut connection = target.connect().await?;
    let headers = [("content-type", "application/json"), ("accept", "application/json")];
    let answer = connection.exchange(&Request::post(path, &headers, body.as_bytes())).await?;
    ensure!(answer.status == status, "POST {path} was answered with {}", answer.describe());
    serde_json::from_slice(answer.body).with_context(|| format!("the answer to POST {path}"))
}
