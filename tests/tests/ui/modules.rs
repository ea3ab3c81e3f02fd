//! The modules that only compute, as the browser runs them.

use serde_json::{Value, json};
use tests::Server;

use crate::browser::Browser;

/// Imports a module of the page.
const IMPORT: &str =
    "const load = name => import(document.querySelector('script[src]').src.replace('app.js', name));";

/// A module of `lib`, an expression about it, and what that gives.
type Row = (&'static str, &'static str, Value);

fn filters() -> Vec<Row> {
    vec![
        (
            "filter.js",
            "m.parse('status:dead queue:a,b .user_id == 42 type:\"x y\"').params",
            json!({"status": "dead", "queue": "a,b", "filter": ".user_id == 42", "type": "x y"}),
        ),
        ("filter.js", "m.parse('age:>1h', 7_200_000).params", json!({"ready_at": "..3600000"})),
        ("filter.js", "m.parse('age:<5m', 600_000).params", json!({"ready_at": "300000.."})),
        (
            "filter.js",
            "m.parse('age:1h..2d', 200_000_000).params",
            json!({"ready_at": "27200000..196400000"}),
        ),
        ("filter.js", "Boolean(m.parse('age:soon').problem)", json!(true)),
        ("filter.js", "m.parse(' 03hbq9ctbs8wc5ts54b37cmio ').job", json!("03hbq9ctbs8wc5ts54b37cmio")),
        ("filter.js", "m.parse('.a | test(\"b:c d\")').params", json!({"filter": ".a | test(\"b:c d\")"})),
        ("filter.js", "m.parse('constructor:x').params", json!({"filter": "constructor:x"})),
        (
            "filter.js",
            "m.write({status: 'dead', type: 'x y', filter: '.a'})",
            json!("status:dead type:\"x y\" .a"),
        ),
    ]
}

fn others() -> Vec<Row> {
    vec![
        (
            "format.js",
            "[0, 350, 1234, 59_999, 61_000, 7_260_000, 90_000_000].map(m.duration)",
            json!(["0 ms", "350 ms", "1.2 s", "1 min", "1 min 1 s", "2 h 1 min", "1 d 1 h"]),
        ),
        ("format.js", "[0, 0.01, 3.14159, 12345].map(m.rate)", json!(["0", "<0.1", "3.1", "12,345"])),
        ("format.js", "[0, 999, 1234, 1e9].map(m.bytes)", json!(["0 B", "999 B", "1.2 kB", "1.0 GB"])),
        (
            "format.js",
            "['90s', '1h30m', '2d', '10', 'x', ''].map(one => m.readDuration(one) ?? null)",
            json!([90_000, 5_400_000, 172_800_000, null, null, null]),
        ),
        (
            "api.js",
            "m.samples('# HELP a b\\na{x=\"1\\\\\"}{,\",y=\"z\"} 2\\nb_total 3e2\\n')",
            json!([
                {"name": "a", "labels": {"x": "1\"}{,", "y": "z"}, "value": 2},
                {"name": "b_total", "labels": {}, "value": 300}
            ]),
        ),
        (
            "../screens/server.js",
            "m.latency([], (await load('lib/api.js')).samples('t_sum 2\\nt_count 100\\nt_bucket{le=\"0.01\"} 98\\nt_bucket{le=\"0.1\"} 99\\nt_bucket{le=\"+Inf\"} 100'), 't')",
            json!({"n": 100, "mean": 20, "below": 100}),
        ),
        (
            "json.js",
            "m.write(m.parse('{\"a\": 9007199254740993123, \"b\": [1.0, 1e400, -0, \"\\\\u00e9\", null, true], \"c\": {}, \"__proto__\": 1}'), '')",
            json!(r#"{"a":9007199254740993123,"b":[1.0,1e400,-0,"é",null,true],"c":{},"__proto__":1}"#),
        ),
        (
            "json.js",
            "['{', '[1,]', '{\"a\":}', 'tru', '1 2', '\"'].map(one => { try { m.parse(one); return 'fine' } catch (e) { return e.name } })",
            json!(["SyntaxError", "SyntaxError", "SyntaxError", "SyntaxError", "SyntaxError", "SyntaxError"]),
        ),
        (
            "cron.js",
            "['30 2 * * MON-FRI', '* * * * *', '*/5 * * * *', '@yearly', '0 6 1 * *', '0 0 9 * * *', '0 0 L * *', '5 4 15W * *', 'x'].map(m.words)",
            json!([
                "Mon–Fri 02:30",
                "every minute",
                "every 5 minutes",
                "00:00 on day 1 in Jan",
                "06:00 on day 1",
                "daily 09:00",
                "00:00 on the last day",
                "",
                ""
            ]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_numbers_times_and_colours_are_read_and_written() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let tab = browser.open(&format!("{}/ui/login", server.url())).await;
    tab.see("Token").await;
    for (what, expression, expected) in filters().into_iter().chain(others()) {
        let found =
            tab.eval(&format!("{IMPORT} const m = await load('lib/{what}'); return {expression}")).await;
        assert_eq!(found, expected, "{expression}");
    }
    let curl = "m.curl('DELETE', 'jobs/it\\'s', {a: '1&2'})";
    let found = tab.eval(&format!("{IMPORT} const m = await load('lib/api.js'); return {curl}")).await;
    assert_eq!(found, format!("curl -X DELETE '{}/jobs/it'\\''s?a=1%262'", server.url()));
    let ansi = "m.pieces('a\\u001b[1;31mb\\u001b[0m\\u001b]8;;http://x\\u0007c\\u001b[2Jd\\u0000').map(one => [one.text, one.names])";
    let found = tab.eval(&format!("{IMPORT} const m = await load('parts/ansi.js'); return {ansi}")).await;
    assert_eq!(found, json!([["a", ""], ["b", "ansi-bold ansi-1"], ["c", ""], ["d", ""]]));
    tab.fine();
}
