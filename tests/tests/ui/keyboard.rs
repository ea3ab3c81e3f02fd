//! Everything without a mouse.

use tests::Server;

use crate::browser::Browser;
use crate::seed::fill;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_can_walk_through_all_of_it_by_keys_alone() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    fill(&server).await;
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    tab.see("Needs attention").await;
    for (keys, place, shows) in [
        ("g q", "/ui/queues", "Done/s"),
        ("g j", "/ui/jobs", "All that match"),
        ("g d", "/ui/dead", "BadRow"),
        ("g w", "/ui/workers", "Workers"),
        ("g c", "/ui/crons", "nightly"),
        ("g b", "/ui/budgets", "smtp"),
        ("g a", "/ui/audit", "Audit"),
        ("g s", "/ui/server", "For programs"),
        ("g o", "/ui/", "Needs attention"),
    ] {
        tab.keys(keys).await;
        tab.see(shows).await;
        assert_eq!(tab.place().await, place);
    }
    // Down to a job, what it is, and up again.
    tab.keys("g j").await;
    tab.see("All that match").await;
    tab.first_row().await;
    tab.keys("j k Enter").await;
    tab.see("Timeline").await;
    tab.keys("2").await;
    tab.see("Nothing has been printed yet").await;
    tab.keys("3").await;
    tab.see("No attempt has failed").await;
    tab.keys("Backspace Backspace").await;
    tab.see("All that match").await;
    // Select, act, and change one's mind.
    tab.first_row().await;
    tab.keys("x j j X").await;
    tab.see("3 jobs").await;
    tab.keys("D").await;
    tab.see("Delete jobs").await;
    tab.keys("Escape").await;
    tab.wait("!document.querySelector('dialog')").await;
    tab.keys("Escape").await;
    tab.wait("!document.querySelector('.selection')").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_finds_everything_and_keys_can_be_switched_off() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    tab.see("Needs attention").await;
    tab.keys("Ctrl+k").await;
    tab.fill("dialog input", "launch").await;
    tab.see("Pause 🚀 launch/pad").await;
    tab.keys("Enter").await;
    tab.see("Time to empty").await;
    tab.keys("Ctrl+k").await;
    tab.fill("dialog input", &seeded.dead).await;
    tab.see("Job ").await;
    tab.keys("Enter").await;
    tab.see("BadRow").await;
    tab.keys("r").await;
    tab.see("is ready again").await;
    assert_eq!(server.client().status(&seeded.dead).await.as_deref(), Some("ready"));
    // Themes, help, and keys that are off.
    tab.keys("t").await;
    tab.wait("document.documentElement.dataset.theme === 'light'").await;
    tab.keys("l").await;
    tab.see("Stopped").await;
    tab.keys("l").await;
    tab.see("Live").await;
    tab.keys("?").await;
    tab.see("Keys are on").await;
    tab.eval("document.querySelector('dialog input[type=checkbox]').click()").await;
    tab.keys("Escape").await;
    tab.wait("!document.querySelector('dialog')").await;
    tab.keys("g q").await;
    tab.keys("?").await;
    assert_eq!(tab.place().await, format!("/ui/jobs/{}", seeded.dead));
    tab.fine();
}

/// With Tab alone one reaches every control, and sees where one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_focus_goes_everywhere_and_comes_back_from_dialogs() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    fill(&server).await;
    let tab = browser.open(&format!("{}/ui/queues", server.url())).await;
    tab.see("mails").await;
    tab.keys("Tab").await;
    tab.wait("document.activeElement.innerText === 'Skip to the content'").await;
    tab.keys("Enter").await;
    tab.wait("document.activeElement.id === 'main'").await;
    let all = "[...document.querySelectorAll('main a, main button, main input')]";
    let count = tab.eval(&format!("return {all}.filter(one => one.getClientRects().length).length")).await;
    let mut outlined = 0;
    for _ in 0..count.as_u64().unwrap() {
        tab.keys("Tab").await;
        let style = tab.eval("return getComputedStyle(document.activeElement).outlineStyle").await;
        outlined += u64::from(style != "none");
    }
    assert_eq!(outlined, count.as_u64().unwrap(), "every control that has the focus shows it");
    tab.eval("document.querySelector('main a.name').focus()").await;
    tab.keys("?").await;
    tab.wait("document.querySelector('dialog[open]')?.contains(document.activeElement)").await;
    tab.keys("Escape").await;
    tab.wait("document.activeElement.className === 'name'").await;
    tab.fine();
}
