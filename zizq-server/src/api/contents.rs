//! How much of the contents of jobs an answer shows: `payload=full|preview|none`.

use protocol::encode;
use protocol::error::excerpt;
use protocol::media::Format;
use serde_json::{Value, json};

use crate::engine::command::jobs::Holder;
use crate::http::query::Query;
use crate::http::reply::Refusal;
use crate::reader::{Contents, Excerpt, Short, Shown};

/// The length of a preview, in bytes.
const DEFAULT_PREVIEW: u64 = 200;
const MAX_PREVIEW: u64 = 4_096;

/// Reads `payload` and `preview_bytes` from a query.
pub(super) fn read(query: &mut Query<'_>) -> Result<Contents, Refusal> {
    let contents = query.text("payload").unwrap_or_default();
    let bytes = query.number("preview_bytes", 1, MAX_PREVIEW)?;
    let preview = usize::try_from(bytes.unwrap_or(DEFAULT_PREVIEW)).unwrap_or(usize::MAX);
    match &*contents {
        "preview" => Ok(Contents::Preview(preview)),
        "" | "full" | "none" if bytes.is_some() => {
            Err(Refusal::invalid("preview_bytes: it goes with `payload=preview` only"))
        }
        "" | "full" => Ok(Contents::Full),
        "none" => Ok(Contents::Lengths),
        other => {
            Err(Refusal::invalid(format!("payload: `{}` is none of full, preview, none", excerpt(other))))
        }
    }
}

/// The same as query parameters of a link.
pub(super) fn params(contents: Contents) -> String {
    match contents {
        Contents::Full => String::new(),
        Contents::Preview(bytes) => format!("&payload=preview&preview_bytes={bytes}"),
        Contents::Lengths => "&payload=none".to_owned(),
    }
}

/// Appends a job as a look shows it; one in flight, with who holds it. `is_hidden`: its contents are not for the caller.
pub(super) fn write(
    out: &mut Vec<u8>,
    format: Format,
    shown: &Shown,
    holder: Option<&Holder>,
    is_hidden: bool,
) {
    let start = out.len();
    if is_hidden {
        encode::write_job(out, format, &shown.seen.job.view(&shown.seen.queue, shown.seen.status), None);
        encode::add_value(out, start, format, "hidden", &true);
    } else {
        write_job(out, format, shown);
    }
    let Some(Holder { about, lease_expires_at, deliveries, progress, .. }) = holder else { return };
    let mut add = |name: &str, value: Value| encode::add_value(out, start, format, name, &value);
    about.worker.iter().for_each(|worker| add("worker", json!(worker)));
    about.remote.iter().for_each(|remote| add("remote", json!(remote.to_string())));
    lease_expires_at.iter().for_each(|at| add("lease_expires_at", json!(at)));
    add("deliveries", json!(deliveries));
    if let Some(progress) = progress {
        progress.share.iter().for_each(|share| add("progress", json!(share)));
        progress.message.iter().for_each(|message| add("message", json!(message)));
    }
}

fn write_job(out: &mut Vec<u8>, format: Format, shown: &Shown) {
    let Shown { seen, short } = shown;
    let view = seen.job.view(&seen.queue, seen.status);
    let Some(Short { payload, result }) = short else {
        let (payload, result) = (Some(&seen.job.payload), seen.job.result.as_ref());
        return encode::write_job_with_result(out, format, &view, payload, result);
    };
    let start = out.len();
    encode::write_job(out, format, &view, None);
    let mut add = |excerpt: &Excerpt, names: (&str, &str)| {
        encode::add_value(out, start, format, names.0, &excerpt.bytes);
        if let Some(preview) = &excerpt.preview {
            encode::add_value(out, start, format, names.1, preview);
        }
    };
    add(payload, ("payload_bytes", "payload_preview"));
    if let Some(result) = result {
        add(result, ("result_bytes", "result_preview"));
    }
}

/// A job as one member of a larger answer.
pub(super) fn value(shown: &Shown, is_hidden: bool) -> Value {
    let mut json = Vec::with_capacity(1_024);
    write(&mut json, Format::Json, shown, None, is_hidden);
    serde_json::from_slice(&json).unwrap_or_default()
}
