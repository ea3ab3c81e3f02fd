//! `GET /jobs/{id}`, `GET /jobs`, `GET /jobs/count`.

use http::StatusCode;
use protocol::encode;
use protocol::id::JobId;
use protocol::page::{DEFAULT_PAGE, MAX_PAGE, Pages};
use serde_json::json;

use super::{filters, wait};
use crate::engine::command::Seen;
use crate::http::App;
use crate::http::query::Query;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn job(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let time = wait::read(&mut query)?;
    query.finish()?;
    let id = request.job_id()?;
    let ended = match time {
        // Where there is no such job, looking for it says so below.
        Some(time) => wait::for_end(app, id, time).await.ok().flatten(),
        None => None,
    };
    request.make_room().await?;
    let seen = match ended {
        Some(ended) => ended,
        None => app.reader.job(id).await?,
    };
    let shown = seen.ok_or_else(|| Refusal::not_found(format!("no job has the id `{id}`")))?;
    let mut body = Vec::with_capacity(512 + shown.job.payload.bytes().len());
    write_shown(&mut body, request, &shown);
    Ok(reply::bytes(StatusCode::OK, request.format, body))
}

fn write_shown(out: &mut Vec<u8>, request: &Request, shown: &Seen) {
    let view = shown.job.view(&shown.queue, shown.status);
    let (payload, result) = (Some(&shown.job.payload), shown.job.result.as_ref());
    encode::write_job_with_result(out, request.format, &view, payload, result);
}

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let page = Page::read(&mut query, |query| query.value::<JobId>("from"))?;
    let filter = filters::read(&mut query)?;
    query.finish()?;
    let most = || request.page();
    let (jobs, more) = app.reader.list(filter.clone(), page.from, page.descending, page.limit, most).await?;
    let ends = jobs.first().zip(jobs.last()).map(|(first, last)| (first.job.id, last.job.id));
    let pages = page.links("/jobs", ends, more, &filters::params(&filter));
    let size: usize = jobs.iter().map(|seen| 512 + seen.job.payload.bytes().len()).sum();
    let mut body = Vec::with_capacity(256 + size);
    let write = |out: &mut Vec<u8>, shown: &Seen| write_shown(out, request, shown);
    encode::write_jobs(&mut body, request.format, jobs.iter(), write, Some(&pages));
    Ok(reply::bytes(StatusCode::OK, request.format, body))
}

pub(crate) async fn count(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let filter = filters::read(&mut query)?;
    query.finish()?;
    let count = app.reader.count(filter).await?;
    Ok(reply::value(StatusCode::OK, request.format, &json!({"count": count})))
}

/// Which page of a list is asked for.
pub(super) struct Page<K> {
    pub from: Option<K>,
    pub descending: bool,
    pub limit: usize,
}

impl<K: std::fmt::Display> Page<K> {
    /// Takes `from`, `order` and `limit` out of a query.
    pub(super) fn read(
        query: &mut Query<'_>,
        from: impl FnOnce(&mut Query<'_>) -> Result<Option<K>, Refusal>,
    ) -> Result<Self, Refusal> {
        let from = from(query)?;
        let descending = match query.text("order").as_deref() {
            None | Some("" | "asc") => false,
            Some("desc") => true,
            Some(other) => {
                let other = protocol::error::excerpt(other);
                return Err(Refusal::bad_request(format!("order: `{other}` is neither asc nor desc")));
            }
        };
        let limit = query.number("limit", 1, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
        Ok(Self { from, descending, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    /// The links of a page whose first and last elements are `ends`.
    pub(super) fn links(&self, path: &str, ends: Option<(K, K)>, more: bool, filters: &str) -> Pages {
        let link = |from: Option<&K>, descending: bool| {
            let mut link = format!("{path}?");
            if let Some(from) = from {
                link.push_str(&format!("from={from}&"));
            }
            let order = if descending { "desc" } else { "asc" };
            link.push_str(&format!("order={order}&limit={}{filters}", self.limit));
            link
        };
        let (first, last) = ends.unzip();
        Pages {
            this: link(self.from.as_ref(), self.descending),
            next: last.filter(|_| more).map(|last| link(Some(&last), self.descending)),
            prev: first.filter(|_| self.from.is_some()).map(|first| link(Some(&first), !self.descending)),
        }
    }
}
