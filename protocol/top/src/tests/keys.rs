//! What keys make the screen do.

use http::Method;
use serde_json::json;

use super::canned::{busy, id, viewed};
use super::{NOW, Screen};
use crate::event::{Call, ChangeNews, Effect, Event, JobsOf, Problem};
use crate::place::{Tab, View};

/// The calls of the first change among these.
fn calls(effects: Vec<Effect>) -> (Vec<Call>, bool) {
    let changes = effects.into_iter().find_map(|effect| match effect {
        Effect::Change { calls, dry, .. } => Some((calls, dry)),
        _ => None,
    });
    changes.expect("a change")
}

fn told(screen: &Screen) -> &str {
    screen.app.told().expect("something is told").0
}

fn dry(screen: &mut Screen, found: serde_json::Value) {
    let turn = screen.app.ask.as_ref().unwrap().turn;
    screen.app.take(Event::Change { turn, news: ChangeNews::Done(found) });
}

#[test]
fn a_job_is_retried_at_once() {
    let mut screen = Screen::of(busy);
    let (made, dry) = calls(screen.press("3r"));
    let call = Call::new(Method::POST, format!("/jobs/{}/retry", id(5)), Some(json!({})));
    assert_eq!((made, dry), (vec![call], false));
}

#[test]
fn deleting_many_takes_a_dry_run_and_their_number() {
    let mut screen = Screen::of(busy);
    let (made, is_dry) = calls(screen.press("3/queue:mails<enter>*D"));
    assert_eq!((made, is_dry), (vec![Call::new(Method::DELETE, "/jobs?queue=mails", None)], true));
    dry(&mut screen, json!({"deleted": 1_200, "matched": 1_200, "until": id(9), "sample": []}));
    assert_eq!(screen.press("y<enter>120<enter>"), [], "only the number counts");
    let (made, is_dry) = calls(screen.press("0<enter>"));
    let path = format!("/jobs?queue=mails&until={}", id(9));
    assert_eq!(
        (made, is_dry),
        (vec![Call::new(Method::DELETE, path, None)], false),
        "what was counted, and no more"
    );
    dry(&mut screen, json!({"deleted": 1_200}));
    assert!(screen.app.ask.is_none());
    assert_eq!(told(&screen), "1,200 jobs are deleted");
}

#[test]
fn marked_jobs_are_named() {
    let mut screen = Screen::of(busy);
    let (made, _) = calls(screen.press("3xxP"));
    let path = format!("/jobs?id={}%2C{}", id(5), id(4));
    assert_eq!(made, [Call::new(Method::PATCH, path.clone(), Some(json!({})))]);
    dry(&mut screen, json!({"patched": 2, "matched": 2, "until": id(9), "sample": []}));
    assert_eq!(screen.press("<enter>"), [], "the priority is missing");
    let (made, _) = calls(screen.press("10<enter>"));
    let path = format!("{path}&until={}", id(9));
    assert_eq!(made, [Call::new(Method::PATCH, path, Some(json!({"priority": 10})))]);
}

#[test]
fn dead_jobs_of_an_error_are_found_first() {
    let mut screen = Screen::of(busy);
    let effects = screen.press("5r");
    let jobs_of = effects.iter().find_map(|effect| match effect {
        Effect::Change { jobs_of, .. } => jobs_of.clone(),
        _ => None,
    });
    let query = "status=dead".to_owned();
    assert_eq!(jobs_of, Some(JobsOf { error_type: Some("exit_code".to_owned()), query }));
}

#[test]
fn queues_crons_and_workers_have_their_keys() {
    let mut screen = Screen::of(busy);
    assert_eq!(calls(screen.press("2p")).0, [Call::new(Method::POST, "/queues/mails/pause", None)]);
    let turn = screen.app.turn();
    screen.app.take(Event::Change { turn, news: ChangeNews::Done(json!({"name": "mails", "paused": true})) });
    assert_eq!(
        calls(screen.press("p")).0,
        [Call::new(Method::POST, "/queues/mails/resume", None)],
        "and back"
    );
    assert_eq!(
        calls(screen.press("7r")).0,
        [Call::new(Method::POST, "/crons/night/entries/report/run", None)]
    );
    let body = Some(json!({"paused": false}));
    assert_eq!(calls(screen.press("Gp")).0, [Call::new(Method::PATCH, "/crons/night/entries/off", body)]);
    assert_eq!(screen.press("6R"), [], "it is asked first");
    assert_eq!(calls(screen.press("y")).0, [Call::new(Method::POST, "/workers/4acdfc07aaaa/drain", None)]);
    dry(&mut screen, json!(null));
    assert_eq!(screen.press("6xxD"), [], "and so it is for two");
    let of = |stream: &str| Call::new(Method::POST, format!("/workers/{stream}/disconnect"), None);
    assert_eq!(calls(screen.press("y")).0, [of("4acdfc07aaaa"), of("5f37b76fbbbb")]);
}

#[test]
fn who_may_only_look_is_told_what_is_missing() {
    let mut screen = Screen::of(viewed);
    for keys in ["3r", "3D", "3e", "2p", "6R", "6D", "7p"] {
        let effects = screen.press(keys);
        let is_change = |effect: &Effect| matches!(effect, Effect::Change { .. } | Effect::Edit(_));
        assert!(!effects.iter().any(is_change), "{keys}: {effects:?}");
        assert_eq!(told(&screen), "this takes the right `operate`, which your role, viewer, does not have");
    }
    screen.press("7D");
    assert_eq!(told(&screen), "this takes the right `configure`, which your role, viewer, does not have");
}

#[test]
fn a_refusal_of_the_server_is_told() {
    let mut screen = Screen::of(busy);
    let turn = match screen.press("3r").pop() {
        Some(Effect::Change { turn, .. }) => turn,
        other => panic!("{other:?}"),
    };
    let news = ChangeNews::Failed(Problem::new(
        403,
        "the access token `alice` does not allow this: it needs `operate`",
    ));
    screen.app.take(Event::Change { turn, news });
    assert_eq!(
        told(&screen),
        "refused (403): the access token `alice` does not allow this: it needs `operate`"
    );
}

#[test]
fn a_change_is_stopped_by_escape() {
    let mut screen = Screen::of(busy);
    screen.press("3D");
    dry(&mut screen, json!({"deleted": 1, "matched": 1, "until": id(9), "sample": []}));
    calls(screen.press("y"));
    assert_eq!(screen.press("<esc>"), [Effect::StopChange]);
    assert!(told(&screen).starts_with("stopped"));
}

#[test]
fn one_goes_in_and_out_again() {
    let mut screen = Screen::of(busy);
    let effects = screen.press("4<enter>");
    assert!(matches!(effects.as_slice(), [.., Effect::Log { id: job, .. }] if *job == id(2)), "{effects:?}");
    assert_eq!(screen.app.open, [View::Log(id(2))], "the longest comes first");
    assert_eq!(screen.press("<esc>"), [Effect::StopLog]);
    screen.press("6<enter>");
    assert_eq!(
        (screen.app.tab, screen.app.table().unwrap().rows.len()),
        (Tab::Running, 2),
        "what the worker runs"
    );
    assert_eq!(screen.app.list().worker.as_deref(), Some("build-host-17.example.org-4242"));
    // No change can be told who has the jobs: all that match are those that are listed.
    let path = format!("/jobs?id={}%2C{}", id(2), id(1));
    assert_eq!(calls(screen.press("*D")).0, [Call::new(Method::DELETE, path, None)]);
    screen.press("<esc>");
    screen.press("6jj<enter>");
    assert_eq!(
        screen.app.list().worker.as_deref(),
        Some("deb23c08cccc"),
        "a stream stands for a worker without a name"
    );
    screen.press("8<enter>");
    assert_eq!((screen.app.tab, screen.app.list().filter.as_str()), (Tab::Jobs, "budget:gpu"));
    screen.press(&format!("/<esc>:job {}<enter>", id(8)));
    assert_eq!(screen.app.open, [View::Job(id(8))]);
    screen.press(":queue mails<enter>");
    assert_eq!(
        (screen.app.tab, screen.app.open.clone()),
        (Tab::Queues, vec![View::Queue("mails".to_owned())])
    );
    screen.press(":dead<enter><enter>");
    assert_eq!(screen.app.open, [View::Group(Some("exit_code".to_owned()))]);
    assert_eq!(screen.app.table().unwrap().rows.len(), 2);
    assert_eq!(screen.press(":nonsense<enter>"), []);
    assert!(told(&screen).starts_with("`nonsense` is no command"), "{}", told(&screen));
    assert_eq!(screen.press("q"), [Effect::Quit]);
}

#[test]
fn what_is_shown_is_copied_as_a_command() {
    let mut screen = Screen::of(busy);
    let url = "http://127.0.0.1:7890";
    let copied = |effects: Vec<Effect>| match effects.into_iter().next_back() {
        Some(Effect::Copy(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(copied(screen.press("y")), format!("curl '{url}/stats'"));
    assert_eq!(copied(screen.press("3c")), id(5));
    screen.press("/.a == \"it's\"<enter>");
    let path = "/jobs?filter=.a+%3D%3D+%22it%27s%22&order=desc&limit=200&payload=preview&preview_bytes=200";
    assert_eq!(copied(screen.press("y")), format!("curl '{url}{path}'"));
    screen.press("D");
    dry(&mut screen, json!({"deleted": 1, "matched": 1, "until": id(9), "sample": []}));
    let path = format!("/jobs?id={}&until={}", id(5), id(9));
    assert_eq!(copied(screen.press("c")), format!("curl -X DELETE '{url}{path}'"));
}

#[test]
fn what_is_frozen_does_not_move() {
    let mut screen = Screen::of(busy);
    screen.press("3<space>");
    screen.now = NOW + 60_000;
    assert_eq!(screen.settle(), [], "nothing is asked");
    screen.press("<space>");
    assert!(screen.app.feeds.waiting(crate::feeds::Slot::Jobs, screen.now).is_none());
}

#[test]
fn an_edit_sends_what_was_changed() {
    let mut screen = Screen::of(busy);
    screen.text(80, 24);
    let effects = screen.press("3jke");
    let Some(Effect::Edit(edit)) = effects.into_iter().next_back() else { panic!("no editor") };
    assert_eq!(
        edit.before,
        json!({"priority": 32_768, "queue": "later", "ready_at": NOW - 90_000, "retry_limit": 25})
    );
    let mut after = edit.before.clone();
    after["priority"] = json!(1);
    after.as_object_mut().unwrap().remove("retry_limit");
    screen.app.take(Event::Edited(edit.clone(), Some(after.to_string())));
    let body = Some(json!({"priority": 1, "retry_limit": null}));
    assert_eq!(calls(screen.settle()).0, [Call::new(Method::PATCH, format!("/jobs/{}", id(5)), body)]);
    screen.app.take(Event::Edited(edit, Some("{".to_owned())));
    assert!(told(&screen).starts_with("not sent: this is not JSON"), "{}", told(&screen));
}
