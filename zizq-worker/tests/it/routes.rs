//! Routes by queue and type, and what becomes of jobs that nobody can do.

use serde_json::{Value, json};

use crate::fake::{Server, leases};
use crate::worker::{ConfigFile, Worker, id, job, lease};

fn of(queue: &str, job_type: &str, n: u32) -> Value {
    let mut job = job(n, n, json!(null));
    (job["queue"], job["type"]) = (json!(queue), json!(job_type));
    job
}

#[tokio::test]
async fn jobs_go_by_type_and_those_without_a_route_go_back_loudly() {
    let file = ConfigFile::new(
        "[[route]]\nqueue = ['a', 'b']\ntype = 'x'\nrun = 'echo is x'\n\
         [[route]]\nqueue = 'b'\ntype = 'y'\nrun = 'echo is y'\n",
    );
    let mut server = Server::start().await;
    let mut worker = file.start(&server);
    let mut stream = server.stream().await;
    assert_eq!(
        stream.query, "queue=a%2Cb&prefetch=2&lease_ms=30000&renew=worker",
        "routes that share a queue share a stream"
    );
    stream.hello("s", false).await;
    for (n, queue, job_type) in [(1, "a", "x"), (2, "b", "x"), (3, "b", "y")] {
        stream.job(&format!("s:{n}"), &of(queue, job_type, n)).await;
        assert_eq!(server.success().await, [(id(n), lease(n))]);
        worker.message(&format!("is {job_type}")).await;
    }
    let mut pauses = Vec::new();
    for n in 4..=5 {
        stream.job(&format!("s:{n}"), &of("a", "y", n)).await;
        let release = server.call("/jobs/release").await;
        assert_eq!(leases(&release.body), [(id(n), lease(n))]);
        pauses.push(release.body["jobs"][0]["delay_ms"].as_u64().unwrap());
        let why = "this worker has no route for type `y` of queue `a`";
        assert_eq!(release.body["jobs"][0]["reason"], why);
        release.answer("204 No Content", "");
        let line = worker.log("a loud line", |line| line["job"] == id(n) && line["level"] == "ERROR").await;
        assert!(
            line["message"].as_str().unwrap().starts_with("no route for this job; given back for "),
            "{line}"
        );
        assert_eq!((&line["queue"], &line["job_type"]), (&json!("a"), &json!("y")));
    }
    assert!(pauses[0] == 1_000 && pauses[1] <= 2_000, "{pauses:?}");
}

#[tokio::test]
async fn a_route_that_this_worker_cannot_serve_rests_and_burns_no_attempt() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=no-such-program", "--concurrency", "2"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let release = server.call("/jobs/release").await;
    assert_eq!(leases(&release.body), [(id(1), lease(11))]);
    assert_eq!(release.body["jobs"][0]["delay_ms"], 2_000, "{}", release.body);
    let reason = release.body["jobs"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("there is no program `no-such-program` in the folders of PATH"), "{reason}");
    release.answer("204 No Content", "");
    let line = worker.message("this worker cannot serve the route; it rests for 1.0s: ").await;
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains("a command was not found"), "{line}");
    // Nothing is taken meanwhile, and then it is tried again.
    stream.closed().await;
    let mut stream = server.stream().await;
    assert_eq!(stream.query, "queue=q&prefetch=2&lease_ms=30000&renew=worker");
    stream.hello("s", true).await;
    stream.job("s:2", &job(2, 12, json!(null))).await;
    server.call("/jobs/release").await.answer("204 No Content", "");
    worker.message("this worker cannot serve the route; it rests for 2.0s: ").await;
}

#[tokio::test]
async fn a_job_that_cannot_be_given_to_its_command_is_dead() {
    let mut server = Server::start().await;
    let file = ConfigFile::new("[[route]]\nqueue = 'q'\nrun = ['echo', '{{ .payload.text }}']\n");
    let _worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for (n, payload, said) in [
        (1, json!({}), "the job does not fit its route: {{ .payload.text }} gives null"),
        (2, json!({"text": "a\0b"}), "the job does not fit its route: an argument would contain a NUL"),
        (
            3,
            json!({"text": "x".repeat(1 << 20)}),
            "the job does not fit its route: the arguments are too long for `echo`",
        ),
    ] {
        stream.job(&format!("s:{n}"), &job(n, 11, payload)).await;
        let failure = server.failure(&id(n)).await;
        assert_eq!((&failure["kill"], &failure["error_type"]), (&json!(true), &json!("bad_job")));
        assert!(failure["message"].as_str().unwrap().starts_with(said), "{failure}");
    }
}

#[tokio::test]
async fn all_routes_together_keep_to_the_total() {
    let file = ConfigFile::new(
        "total_concurrency = 2\nconcurrency = 5\n\
         [[route]]\nqueue = 'a'\nrun = 'echo begun; sleep 1000'\n\
         [[route]]\nqueue = 'b'\nrun = 'echo begun; sleep 1000'\n",
    );
    let mut server = Server::start().await;
    let mut worker = file.start(&server);
    let mut streams = [server.stream().await, server.stream().await];
    streams.sort_by_key(|stream| stream.query.clone());
    let [mut a, mut b] = streams;
    assert_eq!(a.query, "queue=a&prefetch=2&lease_ms=30000&renew=worker");
    a.hello("a", false).await;
    b.hello("b", false).await;
    for n in 1..=2 {
        a.job(&format!("a:{n}"), &of("a", "t", n)).await;
        worker.log("begun", |line| line["job"] == id(n) && line["message"] == "begun").await;
    }
    // What cannot begin soon is left to other workers, but for the next in turn.
    for n in 3..=4 {
        b.job(&format!("b:{n}"), &of("b", "t", n)).await;
    }
    let release = server.call("/jobs/release").await;
    assert_eq!(leases(&release.body), [(id(4), lease(4))]);
    release.answer("204 No Content", "");
    b.closed().await;
    let mut b = server.stream().await;
    assert_eq!(b.query, "queue=b&prefetch=1&lease_ms=30000&renew=worker");
    b.hello("b", true).await;
    a.send(&format!("event: cancel\ndata: {}\n\n", json!({"id": id(1), "reason": "deleted"}))).await;
    worker.log("begun", |line| line["job"] == id(3) && line["message"] == "begun").await;
}
