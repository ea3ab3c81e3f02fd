//! Every action from a click to what it does.

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Worker, id};

use crate::browser::{Browser, Tab};
use crate::seed::{LARGE, ends, fill};

async fn becomes(client: &Client, id: &str, status: Option<&str>) {
    until(format!("{id} is {status:?}"), async || {
        (client.status(id).await.as_deref() == status).then_some(())
    })
    .await;
}

async fn at(browser: &mut Browser, server: &Server, path: &str) -> Tab {
    browser.open(&format!("{}/ui/{path}", server.url())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_enqueued_copied_edited_moved_and_deleted() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let seeded = fill(&server).await;
    let tab = at(&mut browser, &server, "jobs").await;
    tab.press("Enqueue").await;
    tab.fill("[name=queue]", "fresh").await;
    tab.fill("[name=type]", "t").await;
    tab.fill("[name=payload]", "{\"n\": ").await;
    tab.press("Enqueue").await;
    tab.see("Payload: not JSON").await;
    tab.fill("[name=payload]", &format!("{{\"n\": {LARGE}}}")).await;
    tab.fill("[name=delay]", "1h").await;
    tab.press("As a command").await;
    tab.see("curl --json").await;
    tab.press("Enqueue").await;
    tab.see("t is scheduled in fresh").await;
    let answer = client.get("/jobs?queue=fresh").await;
    assert!(String::from_utf8_lossy(&answer.body).contains(LARGE), "{:?}", answer.body);

    tab.go(&format!("{}/ui/jobs/{}", server.url(), seeded.ready)).await;
    tab.press("Duplicate…").await;
    tab.wait(&format!("document.querySelector('[name=payload]').value.includes('{LARGE}')")).await;
    tab.fill("[name=queue]", "copies").await;
    tab.press("Enqueue").await;
    tab.see("send_mail is ready in copies").await;

    tab.press("Edit…").await;
    tab.fill("[name=priority]", "7").await;
    tab.press("Save").await;
    until("the priority", async || (client.job(&seeded.ready).await["priority"] == 7).then_some(())).await;
    tab.press("Edit…").await;
    tab.fill("[name=ready_at]", "10m").await;
    tab.press("Save").await;
    becomes(&client, &seeded.ready, Some("scheduled")).await;
    tab.see("Will be ready").await;
    tab.press("Retry").await;
    becomes(&client, &seeded.ready, Some("ready")).await;

    // Deleted after a while in which one can change one's mind.
    tab.see("Timeline").await;
    tab.press("Delete").await;
    tab.press_of(".toast", "is deleted", "Undo").await;
    tab.go(&format!("{}/ui/jobs/{}", server.url(), seeded.ready)).await;
    tab.see("Timeline").await;
    tab.press("Delete").await;
    becomes(&client, &seeded.ready, None).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_jobs_are_changed_as_they_were_counted() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let job = |n: u64| json!({"queue": "many", "type": "t", "payload": n});
    client.enqueue_all((0..150).map(job)).await;
    let tab = at(&mut browser, &server, "queues/many").await;
    tab.press("Move ready…").await;
    tab.see("exactly these").await;
    // What comes after the count is not part of it.
    let late = client.enqueue(&job(1_000)).await;
    tab.fill("[name=queue]", "moved").await;
    tab.press("Move 150 jobs").await;
    tab.see("150 jobs moved").await;
    assert_eq!((client.count("queue=moved").await, client.count("queue=many").await), (150, 1));
    assert_eq!(client.job(id(&late)).await["queue"], "many");

    tab.go(&format!("{}/ui/jobs?queue=moved", server.url())).await;
    tab.press("Priority…").await;
    tab.fill("[name=priority]", "99999").await;
    tab.press("Change 150 jobs").await;
    tab.see("priority").await;
    tab.fill("[name=priority]", "5").await;
    tab.press("Change 150 jobs").await;
    until("the priority", async || (client.count("queue=moved&priority=5").await == 150).then_some(())).await;
    tab.forgive();

    tab.press("Delete…").await;
    tab.see("Type 150 to delete them").await;
    tab.see("Save them as NDJSON first").await;
    assert_eq!(tab.eval("return document.querySelector('dialog [type=submit]').disabled").await, true);
    tab.fill("[name=confirm]", "150").await;
    tab.press("As a command").await;
    tab.see("curl -X DELETE").await;
    tab.press("Delete 150 jobs").await;
    tab.see("150 jobs deleted").await;
    assert_eq!(client.count("").await, 1);
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_jobs_run_again_by_group_and_by_selection() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let failure = |error_type: &str| json!({"message": "no", "error_type": error_type, "kill": true});
    for (queue, error_type) in [("a", "One"), ("a", "Two"), ("b", "One")] {
        ends(&client, queue, &failure(error_type)).await;
    }
    let tab = at(&mut browser, &server, "dead").await;
    tab.see("One").await;
    tab.press_of("tbody tr", "One", "Retry…").await;
    tab.see("2 jobs").await;
    tab.press("Retry 2 jobs").await;
    until("the group", async || (client.count("status=ready").await == 2).then_some(())).await;
    tab.go(&format!("{}/ui/jobs?status=dead", server.url())).await;
    tab.wait("document.querySelector('tbody input')").await;
    tab.first_row().await;
    tab.keys("x").await;
    tab.see("1 job").await;
    tab.press("Retry…").await;
    tab.press("Retry 1 job").await;
    until("the selection", async || (client.count("status=ready").await == 3).then_some(())).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_paused_and_resumed_and_this_can_be_undone() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    client.add("mails").await;
    let paused = async |expected: bool| {
        until(format!("paused: {expected}"), async || {
            let queue = client.get("/queues/mails").await.expect(200);
            (queue["paused"] == Value::Bool(expected)).then_some(())
        })
        .await;
    };
    let tab = at(&mut browser, &server, "queues").await;
    tab.see("no worker").await;
    tab.press("Pause").await;
    paused(true).await;
    tab.see("Paused mails").await;
    tab.press("Undo").await;
    paused(false).await;
    tab.wait("!document.querySelector('.status.paused')").await;
    tab.eval("document.activeElement.blur()").await;
    tab.first_row().await;
    tab.keys("p").await;
    paused(true).await;
    tab.press("mails").await;
    tab.see("Time to empty").await;
    tab.press("Resume").await;
    paused(false).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_followed_and_stopped_and_its_worker_drained() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let mut worker =
        Worker::start(&server, ["--run", "films=echo 'first line'; echo 'a problem' >&2; exec sleep 3600"]);
    let job = client.add("films").await;
    becomes(&client, id(&job), Some("in_flight")).await;
    let tab = at(&mut browser, &server, &format!("jobs/{}/log", id(&job))).await;
    tab.see("first line").await;
    tab.wait("document.querySelector('.log .stderr')?.innerText === 'a problem'").await;
    tab.press("Stop…").await;
    tab.press("Stop it").await;
    becomes(&client, id(&job), Some("dead")).await;
    tab.see("the attempt has ended").await;
    tab.see("stopped by hand").await;
    tab.go(&format!("{}/ui/workers", server.url())).await;
    tab.press("Drain…").await;
    tab.see("gets no more jobs").await;
    tab.press("Drain").await;
    assert!(worker.process().ended().await.success());
    tab.see("No worker is connected").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crons_and_budgets_are_made_changed_run_and_deleted() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let tab = at(&mut browser, &server, "crons").await;
    tab.press("Add").await;
    tab.fill("[name=group]", "nightly").await;
    tab.fill("[name=name]", "report").await;
    tab.fill("[name=expression]", "30 2 * * MON-FRI").await;
    tab.see("Mon–Fri 02:30").await;
    tab.fill("[name=job]", "{\"queue\": \"reports\", \"type\": \"t\", \"payload\": {}}").await;
    tab.press("Save").await;
    tab.see("report is saved").await;
    tab.press("Run now").await;
    tab.see("t is ready in reports").await;
    assert_eq!(client.count("queue=reports").await, 1);
    tab.press("Edit…").await;
    tab.fill("[name=expression]", "0 5 * * *").await;
    tab.press("Save").await;
    tab.see("daily 05:00").await;
    tab.press("Pause the group").await;
    tab.see("Resume the group").await;
    tab.press("Delete…").await;
    tab.press("Delete").await;
    tab.see("There are no recurring jobs").await;

    tab.go(&format!("{}/ui/budgets", server.url())).await;
    tab.press("Add").await;
    tab.fill("[name=key]", "smtp out").await;
    tab.fill("[name=allocation]", "3").await;
    tab.press("Add").await;
    tab.see("at a time").await;
    tab.press("Edit…").await;
    tab.fill("[name=strategy]", "{\"type\":\"time_based\",\"duration_ms\":1000}").await;
    tab.press("Save").await;
    tab.see("in 1.0 s").await;
    tab.press("Delete…").await;
    tab.press("Delete").await;
    tab.see("There are no budgets").await;
    // A group that is not there yet is made with its first entry.
    tab.forgive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_bar_completes_and_finds_and_says_what_excludes_most() {
    let Some(mut browser) = Browser::start().await else { return };
    // A busy machine may take its time.
    let server = Server::with(["--filter-timeout", "1m"]).await;
    let seeded = fill(&server).await;
    let tab = at(&mut browser, &server, "jobs").await;
    tab.see("send_mail").await;
    tab.keys("/").await;
    tab.fill("#search", "stat").await;
    tab.see("status:").await;
    tab.keys("ArrowDown Enter").await;
    tab.see("status:completed").await;
    tab.fill("#search", &format!("queue:mails .user_id == {LARGE}")).await;
    tab.keys("Enter").await;
    tab.see("send_mail").await;
    tab.gone("alert(1)").await;
    assert!(tab.place().await.contains("filter=.user_id"), "{}", tab.place().await);
    tab.press("Count").await;
    tab.see("1 job").await;
    tab.fill("#search", "queue:mails status:dead").await;
    tab.keys("Enter").await;
    tab.see("Without status there would be 2 jobs").await;
    tab.press("Leave it out").await;
    tab.see("send_mail").await;
    tab.fill("#search", &seeded.dead).await;
    tab.keys("Enter").await;
    tab.see("BadRow").await;
    assert_eq!(tab.place().await, format!("/ui/jobs/{}", seeded.dead));
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queues_are_paused_and_resumed_at_once() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    for queue in ["a", "b", "c"] {
        client.add(queue).await;
    }
    client.poke("/queues/b/pause").await.expect(200);
    let paused = async || {
        let shown = client.get("/queues?details=true&paused=true").await.expect(200);
        shown["queues"].as_array().unwrap().len()
    };
    let tab = at(&mut browser, &server, "").await;
    tab.press("Pause all…").await;
    tab.see("No queue that has jobs hands out any more").await;
    tab.press("As a command").await;
    tab.see(&format!("curl -X PATCH --json '{{\"paused\":true}}' '{}/queues'", server.url())).await;
    tab.press("Pause 2 queues").await;
    tab.see("2 queues paused").await;
    assert_eq!(paused().await, 3);
    tab.press("Resume all…").await;
    tab.press("Resume 3 queues").await;
    tab.see("3 queues resumed").await;
    assert_eq!(paused().await, 0);
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_show_their_last_hour() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    server.client().add("mails").await;
    // How many were ready is known once a minute is over.
    for (path, says) in [("queues", "Completed jobs: 0"), ("", "Ready jobs: ")] {
        let tab = at(&mut browser, &server, path).await;
        tab.wait(&format!("document.querySelector('td.c-hour svg[role=img]')?.getAttribute('aria-label').startsWith('{says}')")).await;
        tab.fine();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_disconnected_and_its_version_is_shown() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let stream = tests::Stream::open(
        protocol::frame::StreamFormat::NdJson,
        client.get("/jobs/take?queue=q").header("user-agent", "<b>mine</b>/1").response().await,
    );
    let mut stream = stream.await;
    client.add("q").await;
    stream.next_job().await;
    let tab = at(&mut browser, &server, "workers").await;
    tab.see("<b>mine</b>/1").await;
    tab.first_row().await;
    tab.keys("D").await;
    tab.see("its job is ready again at once").await;
    tab.press("As a command").await;
    tab.see("/disconnect'").await;
    tab.press("Disconnect").await;
    tab.see("is disconnected").await;
    assert_eq!(stream.next_message().await, None);
    until("the job is ready", async || (client.count("status=ready").await == 1).then_some(())).await;
    tab.see("No worker is connected").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_show_three_times() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    fill(&server).await;
    let tab = at(&mut browser, &server, "crons").await;
    tab.wait("document.querySelectorAll('td.c-next time, td.c-then time').length === 3").await;
    tab.fine();
}
