//! Suggests the intended call for a path that does not exist.

use http::Method;

use super::route::ROUTES;

/// Longer paths, in segments or in length, get no suggestion.
const MAX_SEGMENTS: usize = 8;
const MAX_BYTES: usize = 256;
/// The least similarity of a segment to the expected one.
const LIKE: f64 = 0.6;

/// Returns the most similar call, such as `GET /jobs`: without a trailing slash, with changed letters, or without a
/// prefix such as `/api/v1`.
pub(super) fn path(method: &Method, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.len() > MAX_SEGMENTS || path.len() > MAX_BYTES {
        return None;
    }
    let starts = (0..segments.len()).filter_map(|start| segments.get(start..));
    let mut best: Option<((bool, f64), String)> = None;
    for (prefix, segments) in starts.enumerate() {
        for route in &ROUTES {
            let Some((likeness, meant)) = likeness(route.path, segments) else { continue };
            // Of equally similar calls, prefer the method that was used, and the shorter omitted prefix.
            #[expect(clippy::cast_precision_loss, reason = "a few segments")]
            let rank = (route.method == method, likeness - prefix as f64);
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, format!("{} {meant}", route.method)));
            }
        }
    }
    best.map(|(_, meant)| meant)
}

/// Returns the similarity of a path to a pattern, and the corrected path.
fn likeness(pattern: &str, segments: &[&str]) -> Option<(f64, String)> {
    let expected: Vec<&str> = pattern.split('/').skip(1).collect();
    if expected.len() != segments.len() {
        return None;
    }
    let (mut all, mut meant) = (0.0, String::new());
    for (expected, segment) in expected.into_iter().zip(segments) {
        meant.push('/');
        if expected == "{}" {
            meant.push_str(segment);
            // A literal segment is a better match than a variable one.
            all += LIKE;
            continue;
        }
        let segment = segment.to_lowercase();
        // A truncated word, such as `fail`, also matches.
        let begins = segment.len() >= 4 && expected.starts_with(&segment);
        let likeness = strsim::normalized_damerau_levenshtein(expected, &segment);
        let likeness = if begins { likeness.max(LIKE) } else { likeness };
        if likeness < LIKE {
            return None;
        }
        meant.push_str(expected);
        all += likeness;
    }
    Some((all, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_almost_ours() {
        for (method, given, meant) in [
            (Method::GET, "/jobs/", "GET /jobs"),
            (Method::GET, "//jobs", "GET /jobs"),
            (Method::GET, "/job", "GET /jobs"),
            (Method::POST, "/job", "POST /jobs"),
            (Method::POST, "/jobs/bulk/", "POST /jobs/bulk"),
            (Method::GET, "/Jobs", "GET /jobs"),
            (Method::GET, "/queue", "GET /queues"),
            (Method::POST, "/queue/mails/pause", "POST /queues/mails/pause"),
            (Method::POST, "/jobs/x/sucess", "POST /jobs/x/success"),
            (Method::POST, "/jobs/x/fail", "POST /jobs/x/failure"),
            (Method::GET, "/jobs/x/logs", "GET /jobs/x/log"),
            (Method::GET, "/cron/nightly", "GET /crons/nightly"),
            (Method::GET, "/api/v1/jobs", "GET /jobs"),
            (Method::GET, "/healthz", "GET /health"),
            (Method::DELETE, "/queues/mails/", "DELETE /queues/mails"),
        ] {
            assert_eq!(path(&method, given).as_deref(), Some(meant), "{method} {given}");
        }
        for given in ["/", "/favicon.ico", "/wp-admin/x.php", "/a/b/c/d/e/f/g/h/i/jobs"] {
            assert_eq!(path(&Method::GET, given), None, "{given}");
        }
        assert_eq!(path(&Method::GET, &"/jobs".repeat(1_000)), None);
    }
}
