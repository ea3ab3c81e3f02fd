//! A server on a terminal: `zizq-server top` and `zizq-worker top`. It uses the calls of the API and nothing else. Each
//! program says how the server is reached, by flags of its own.
//!
//! `app` holds what is known and shown; events change it (`event`), and it says in effects what is to be done: calls
//! (`work`), or something with the terminal. The views are functions of it, one file each.
#![warn(missing_docs)]

mod actions;
mod answers;
mod app;
mod ask;
mod budgets;
mod change;
mod chart;
mod commands;
mod crons;
mod data;
mod dead;
mod edit;
mod event;
mod feeds;
mod filter;
mod flags;
mod format;
mod frame;
mod help;
mod job;
mod jobs;
mod keys;
mod list;
mod live;
mod log;
mod look;
mod mouse;
mod once;
mod output;
mod overview;
mod place;
mod prompt;
mod queue;
mod queues;
mod running;
mod stream;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod wants;
mod work;
mod workers;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};
use zizq_client::Client;

use self::app::App;
use self::event::{Effect, Event};
pub use self::flags::Flags;
use self::place::Tab;
use self::terminal::Screen;
use self::work::Work;

/// How many events may wait for the screen.
const EVENTS: usize = 1_024;
/// How often the screen looks at the clock.
const TICK: Duration = Duration::from_millis(250);
/// The size of a frame where no terminal has one.
const USUAL: (u16, u16) = (120, 40);

/// How a program reaches a server: the one at this URL, or without one the one that its flags mean.
pub type Connect<'a> = &'a dyn Fn(Option<&str>) -> anyhow::Result<Client>;

/// No Zizq server answers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(String);

/// Shows a server until it is told to end. Calls may still be waited for then.
///
/// # Errors
/// One sentence for people; [`NoAnswer`] if no server answers.
pub async fn run(flags: &Flags, connect: Connect<'_>) -> anyhow::Result<()> {
    // The audit trail tells who did something by what.
    let connect: Connect<'_> =
        &|url| Ok(connect(url)?.with(HeaderName::from_static("zizq-via"), HeaderValue::from_static("top")));
    let client = connect(None)?;
    if flags.json {
        return once::json(&client, flags.once).await;
    }
    let app = app(flags, &client)?;
    let (events, receiver) = channel(EVENTS);
    if flags.once {
        let size = ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
        return once::frame(app, Work::new(client, events), receiver, size.unwrap_or(USUAL)).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("this is no terminal; --once prints one frame as text, --json a line per second");
    }
    on_terminal(connect, app, client, events, receiver).await
}

fn app(flags: &Flags, client: &Client) -> anyhow::Result<App> {
    let mut app = App::new(client.shown(), now(), TimeZone::system());
    app.curl = client.curl();
    app.ascii = flags.ascii;
    // https://no-color.org
    app.colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if let Some(name) = &flags.tab {
        app.tab = Tab::named(name).with_context(|| {
            let names: Vec<&str> = Tab::ALL.iter().map(|tab| tab.title()).collect();
            format!("--tab: `{name}` is none of {}", names.join(", "))
        })?;
    }
    Ok(app)
}

/// The wall clock, in milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}

async fn on_terminal(
    connect: Connect<'_>,
    mut app: App,
    client: Client,
    events: Sender<Event>,
    mut receiver: Receiver<Event>,
) -> anyhow::Result<()> {
    let mut screen = Screen::open(events.clone())?;
    let mut work = Work::new(client, events);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut drawn = None;
    loop {
        let now = now();
        app.tick(now);
        for effect in std::mem::take(&mut app.effects) {
            match effect {
                Effect::Quit => return Ok(()),
                effect => perform(effect, connect, &mut app, &mut screen, &mut work),
            }
        }
        // Between events only ages change, by the second, and the sign of what is waited for.
        if drawn != Some(now / 1_000) || app.is_waiting() {
            screen.draw(&mut app)?;
            drawn = Some(now / 1_000);
        }
        tokio::select! {
            event = receiver.recv() => {
                drawn = None;
                event.into_iter().for_each(|event| app.take(event));
            }
            _ = ticks.tick() => {}
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
        // What has come meanwhile is shown together.
        while let Ok(event) = receiver.try_recv() {
            app.take(event);
        }
    }
}

fn perform(effect: Effect, connect: Connect<'_>, app: &mut App, screen: &mut Screen, work: &mut Work) {
    let told = |result: anyhow::Result<()>| result.err().map(|error| Event::Told(format!("{error:#}")));
    let event = match effect {
        Effect::Ask(question) => {
            work.ask(question);
            None
        }
        Effect::Live(path) => {
            work.follow(path);
            None
        }
        Effect::Log { turn, id, attempt } => {
            work.follow_log(turn, &id, attempt);
            None
        }
        Effect::StopLog => {
            work.stop_log();
            None
        }
        Effect::Change { turn, calls, jobs_of, dry } => {
            work.change(turn, calls, jobs_of, dry);
            None
        }
        Effect::StopChange => {
            work.stop_change();
            None
        }
        Effect::Copy(text) => told(Screen::copy(&text).map_err(Into::into)),
        Effect::Edit(edit) => match screen.edit(&edit.before) {
            Ok(text) => Some(Event::Edited(edit, text)),
            Err(error) => told(Err(error)),
        },
        Effect::Page(text) => told(screen.page(&text)),
        Effect::Connect(url) => match connect(Some(&url)) {
            Ok(client) => {
                (app.server, app.curl) = (client.shown(), client.curl());
                work.set_client(client);
                None
            }
            Err(error) => told(Err(error)),
        },
        Effect::Suspend => told(screen.suspend()),
        Effect::Quit => Some(Event::End),
    };
    event.into_iter().for_each(|event| app.take(event));
}
