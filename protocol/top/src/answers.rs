//! Answers that views are made of: one call, or several put together.

use http::Method;
use serde_json::{Value, json};

use super::data::Look;
use super::event::{JobsOf, Problem};
use super::feeds::Source;
use super::stream::call;
use super::wants::path;
use zizq_client::Client;

/// How many groups of cron entries and budgets are looked at.
const MAX_LOOKED_UP: usize = 50;
/// How many ids fit into one address.
const MAX_IDS: usize = 2_000;

async fn get(client: &Client, path: &str) -> Result<Value, Problem> {
    call(client, &Method::GET, path, None).await
}

pub(super) async fn answer(client: &Client, source: &Source) -> Result<Value, Problem> {
    match source {
        Source::Path(path) => get(client, path).await,
        Source::Crons => {
            let names = get(client, "/crons").await?;
            let mut groups = Vec::new();
            for name in names.list("crons").iter().filter_map(Value::as_str).take(MAX_LOOKED_UP) {
                // One that was deleted meanwhile is left out.
                groups.extend(get(client, &path(&["crons", name])).await);
            }
            Ok(json!({"groups": groups}))
        }
        Source::Budgets => {
            let mut answer = get(client, "/budgets").await?;
            let budgets = answer.get_mut("budgets").and_then(Value::as_array_mut);
            for budget in budgets.into_iter().flatten().take(MAX_LOOKED_UP) {
                let key = budget.text("key").unwrap_or_default().to_owned();
                for status in ["in_flight", "ready"] {
                    let query = super::filter::query([("budgets.key", key.as_str()), ("status", status)]);
                    let count = get(client, &format!("/jobs/count?{query}&at_most=1000")).await;
                    if let (Ok(count), Some(members)) = (count, budget.as_object_mut()) {
                        members.insert(status.to_owned(), count);
                    }
                }
            }
            Ok(answer)
        }
    }
}

/// The newest jobs that are meant, by their ids.
pub(super) async fn named(
    client: &Client,
    JobsOf { error_type, query }: &JobsOf,
) -> Result<Vec<String>, Problem> {
    let (mut ids, mut from) = (Vec::new(), String::new());
    loop {
        let after = if from.is_empty() { String::new() } else { format!("&from={from}") };
        let page = get(client, &format!("/jobs?{query}&order=desc&limit=2000&payload=none{after}")).await?;
        let is_meant = |job: &&Value| job.text("/last_error/type") == error_type.as_deref();
        let found = page.list("jobs").iter().filter(is_meant).filter_map(|job| job.text("id"));
        ids.extend(found.map(str::to_owned));
        let last = page.list("jobs").last().and_then(|job| job.text("id"));
        match (page.text("/pages/next"), last) {
            (Some(_), Some(last)) if ids.len() < MAX_IDS => last.clone_into(&mut from),
            _ => break,
        }
    }
    ids.truncate(MAX_IDS);
    Ok(ids)
}
