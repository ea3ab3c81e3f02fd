//! Workers that end by themselves, and what they tell while they run.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::Server;
use crate::worker::{Worker, command, id, job, lease};

#[tokio::test]
async fn after_so_many_jobs() {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", "q=true", "--concurrency", "3", "--max-jobs", "2"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 1..=3 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(null))).await;
    }
    let mut ended = Vec::new();
    while ended.len() < 3 {
        let call = server.any_call().await;
        ended.extend(crate::fake::leases(&call.body).into_iter().map(|job| (call.path.clone(), job.0)));
        call.answer("204 No Content", "");
    }
    ended.sort();
    let path = |verb: &str| format!("/jobs/{verb}");
    assert_eq!(ended, [(path("release"), id(3)), (path("success"), id(1)), (path("success"), id(2))]);
    assert_eq!(worker.end().await.code(), Some(0));
}

#[tokio::test]
async fn when_there_is_nothing_to_do() {
    let mut server = Server::start().await;
    for flags in [&["--max-idle", "300ms"][..], &["--once"]] {
        let worker = Worker::start(&server, &[&["--run", "q=sleep 0.5"], flags].concat());
        let mut stream = server.stream().await;
        stream.hello("s", false).await;
        stream.job("s:1", &job(1, 11, json!(null))).await;
        assert_eq!(server.success().await, [(id(1), lease(11))]);
        assert_eq!(worker.end().await.code(), Some(0), "{flags:?}");
    }
}

async fn get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readiness_and_metrics() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=true", "--listen", "127.0.0.1:0"]);
    let line = worker.message("serving readiness and metrics").await;
    let address = line["address"].as_str().unwrap();
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 503"));
    assert!(get(address, "/health").await.starts_with("HTTP/1.1 200"));
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    worker.message("connected to").await;
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
    stream.job("s:1", &job(1, 11, json!(null))).await;
    server.success().await;
    let metrics = get(address, "/metrics").await;
    for line in [
        "zizq_worker_jobs_started_total 1\n",
        "zizq_worker_jobs_ended_total{outcome=\"completed\"} 1\n",
        "zizq_worker_streams_open 1\n",
        "# TYPE zizq_worker_cpu_seconds_total counter\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut server = Server::start().await;
    let mut program = command();
    program.env("NOTIFY_SOCKET", &path);
    let worker = Worker::start_as(program, &server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    let told = async |text: &str| {
        let mut buffer = [0; 1000];
        loop {
            let n = socket.recv(&mut buffer).await.unwrap();
            if std::str::from_utf8(&buffer[..n]).unwrap().lines().any(|line| line.starts_with(text)) {
                break;
            }
        }
    };
    told("READY=1").await;
    told("STATUS=0 jobs running, 0 ended").await;
    worker.signal(rustix::process::Signal::TERM);
    told("STOPPING=1").await;
    assert_eq!(worker.end().await.code(), Some(0));
}

#[tokio::test]
async fn what_runs_is_shown_on_a_terminal() {
    let mut server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    let worker = env!("CARGO_BIN_EXE_zizq-worker");
    let line = format!(
        "{worker} --server http://{} --spool {} --run 'q={worker} ctl progress 0.25 halfway; sleep 0.1; echo said; sleep 1000'",
        server.address,
        spool.path().display()
    );
    // `script` gives it a terminal.
    let mut script = tokio::process::Command::new("script");
    script.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm");
    let mut terminal = script
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!({"n": 1, "image": "photo.jpg"}))).await;
    let mut shown = String::new();
    let mut output = terminal.stdout.take().unwrap();
    let mut bytes = [0; 4096];
    let wanted = [
        "q/t photo.jpg [#####---------------]  25 % halfway",
        "1 running · 0 succeeded · 0 failed · 1 of 1 stream open",
        "0 of 1 done · 1 left",
        "said",
    ];
    while !wanted.iter().all(|text| shown.contains(text)) {
        let read = tokio::time::timeout(crate::fake::PATIENCE, output.read(&mut bytes)).await;
        let n = read.unwrap_or_else(|_| panic!("{shown}")).unwrap();
        assert!(n > 0, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
}
