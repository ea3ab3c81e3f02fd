//! `GET /jobs/groups`: what the jobs that match have in common.

use serde_json::{Value, json};

use super::{App, filters};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;
use crate::reader::{By, Groups, MAX_NEWEST};

/// How many jobs are looked at unless the call says so.
const DEFAULT_NEWEST: u64 = 10_000;

pub(crate) async fn groups(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let by = query.value::<By>("by")?;
    let newest = query.number("newest", 1, MAX_NEWEST)?.unwrap_or(DEFAULT_NEWEST);
    let filter = filters::read(&mut query)?;
    query.finish()?;
    let filter = filter.within(app, request).await?;
    let by = by.ok_or_else(|| {
        Refusal::invalid("by: say what to group by: `by=error_type`, `type`, `queue` or `message`")
    })?;
    let groups = app.reader.groups(request.caller(), filter, by, newest).await?;
    Ok(reply::ok(request.format, &shown(groups)))
}

fn shown(Groups { groups, other, looked_at, exact }: Groups) -> Value {
    let groups = groups.into_iter().map(|group| {
        let mut shown = json!({"key": group.key, "count": group.count, "newest_id": group.newest});
        if let Some(members) = shown.as_object_mut() {
            members.extend(group.sample.map(|sample| ("sample".to_owned(), json!(sample))));
            let times = group.errors.into_iter();
            members.extend(times.flat_map(|(first, last)| {
                [("first_error_at", first), ("last_error_at", last)]
                    .map(|(name, at)| (name.to_owned(), json!(at)))
            }));
        }
        shown
    });
    let groups: Vec<Value> = groups.collect();
    json!({"groups": groups, "other": other, "looked_at": looked_at, "exact": exact})
}
