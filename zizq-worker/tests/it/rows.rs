//! Every row of the table of outcomes, with real processes and real answers.

use serde_json::{Value, json};

use crate::fake::{Call, Server};
use crate::worker::{Worker, id, job};

/// One word for what the server is told, which it then takes.
fn told(call: Call) -> &'static str {
    let (path, body) = (call.path.clone(), call.body.clone());
    call.answer("204 No Content", "");
    match (path.rsplit('/').next().unwrap(), body["kill"] == true) {
        ("success", _) => "success",
        ("failure", true) => "dead",
        ("failure", false) => "retry",
        ("release", _) if body["jobs"][0]["delay_ms"].is_u64() => "release",
        _ => panic!("{path} {body}"),
    }
}

#[tokio::test]
async fn of_commands() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=eval $(tr -d '\"')"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    let exit =
        |codes: Vec<u8>, expected| codes.into_iter().map(move |code| (format!("exit {code}"), expected));
    let rows = exit(vec![0], "success")
        .chain(exit(vec![1, 2, 3, 63, 75, 79, 125, 128, 130, 137, 143, 255], "retry"))
        .chain(exit((64..=74).chain(76..=78).collect(), "dead"))
        .chain(["KILL", "TERM", "SEGV", "ABRT", "INT"].map(|name| (format!("kill -{name} $$"), "retry")))
        // One job that fails so says nothing about the worker.
        .chain(exit(vec![126, 127], "retry"));
    for (n, (script, expected)) in (1..).zip(rows) {
        stream.job(&format!("s:{n}"), &job(n, n, json!(script))).await;
        assert_eq!(told(server.any_call().await), expected, "{script}");
    }
    for (command, expected) in
        [("/etc/passwd", "release"), ("no-such-program", "release"), ("exit 126", "retry")]
    {
        let mut server = Server::start().await;
        let _worker = Worker::start(&server, &["--run", &format!("q={command}")]);
        let mut stream = server.stream().await;
        stream.hello("s", false).await;
        stream.job("s:1", &job(1, 11, json!(null))).await;
        assert_eq!(told(server.any_call().await), expected, "{command}");
    }
}

#[tokio::test]
async fn of_answers() {
    let (mut server, mut endpoint) = (Server::start().await, Server::start().await);
    let _worker = Worker::start(&server, &["--http", &format!("q=http://{}/", endpoint.address)]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    let rows = [
        (vec![200, 201, 202, 299], "success"),
        (vec![301, 302, 304, 307], "retry"),
        (vec![400, 401, 403, 404, 409, 410, 413, 422, 451], "dead"),
        (vec![408, 425], "retry"),
        (vec![429, 503], "release"),
        (vec![500, 501, 502, 504, 599], "retry"),
    ];
    let rows =
        rows.into_iter().flat_map(|(codes, expected)| codes.into_iter().map(move |code| (code, expected)));
    for (n, (code, expected)) in (1..).zip(rows) {
        stream.job(&format!("s:{n}"), &job(n, n, Value::Null)).await;
        endpoint.any_call().await.answer(&format!("{code} Word"), "");
        assert_eq!(told(server.any_call().await), expected, "{code}");
    }
    stream.job("s:100", &job(100, 100, Value::Null)).await;
    // The connection was used before, so it may just have been closed: it is called once more.
    drop(endpoint.any_call().await);
    drop(endpoint.any_call().await);
    let call = server.any_call().await;
    assert_eq!(call.path, format!("/jobs/{}/failure", id(100)));
    assert_eq!(told(call), "retry", "no answer");
}
