//! `zizq-server top`: the server on a terminal. It uses the calls of the API and nothing else.
//!
//! `app` holds what is known and shown; events change it (`event`), and it says in effects what is to be done: calls
//! (`work`), or something with the terminal. The views are functions of it, one file each.

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
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, HeaderName};
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};

use self::app::App;
use self::event::{Effect, Event};
use self::place::Tab;
use self::terminal::Screen;
use self::work::Work;
use crate::client::{Client, Trust};
use crate::config::{DEFAULT_PORT, Top};
use crate::{clock, control};

/// How many events may wait for the screen.
const EVENTS: usize = 1_024;
/// How often the screen looks at the clock.
const TICK: Duration = Duration::from_millis(250);
/// The size of a frame where no terminal has one.
const USUAL: (u16, u16) = (120, 40);

/// Shows a server until it is told to end.
///
/// # Errors
/// One sentence for people.
pub fn run(top: &Top) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(show(top));
    // A call that is still waited for must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn show(top: &Top) -> anyhow::Result<()> {
    let client = client(top, top.url.as_deref())?;
    if top.json {
        return once::json(&client, top.once).await;
    }
    let app = app(top, &client)?;
    let (events, receiver) = channel(EVENTS);
    if top.once {
        let size = ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
        return once::frame(app, Work::new(client, events), receiver, size.unwrap_or(USUAL)).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("this is no terminal; --once prints one frame as text, --json a line per second");
    }
    on_terminal(top, app, client, events, receiver).await
}

fn app(top: &Top, client: &Client) -> anyhow::Result<App> {
    let mut app = App::new(client.shown(), clock::now().wall, TimeZone::system());
    app.curl = client.curl();
    app.ascii = top.ascii;
    // https://no-color.org
    app.colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if let Some(name) = &top.tab {
        app.tab = Tab::named(name).with_context(|| {
            let names: Vec<&str> = Tab::ALL.iter().map(|tab| tab.title()).collect();
            format!("--tab: `{name}` is none of {}", names.join(", "))
        })?;
    }
    Ok(app)
}

/// The server that is meant: at its URL, or over its control socket.
fn client(top: &Top, url: Option<&str>) -> anyhow::Result<Client> {
    let token = match &top.token_file {
        Some(path) => Some(first_line(path)?),
        None => std::env::var("ZIZQ_TOKEN").ok().filter(|token| !token.is_empty()),
    };
    let usual = format!("http://127.0.0.1:{DEFAULT_PORT}");
    let url = url.or_else(|| token.as_ref().map(|_| usual.as_str()));
    let client = match url {
        Some(url) => {
            let trust = top.server_ca.as_deref().map_or(Trust::System, Trust::File);
            Client::of_url(url, trust).with_context(|| format!("cannot call `{}`", without_password(url)))?
        }
        None => {
            let socket = control::path(top.server.control_socket.as_deref(), &top.server.root_dir);
            if let Some(why) = control::too_long(&socket) {
                bail!(why);
            }
            if !socket.exists() {
                bail!(
                    "there is no control socket {}: is the server running, and is its folder the one that --root-dir or \
                     ZIZQ_ROOT_DIR names? --url http://HOST:{DEFAULT_PORT} reaches one elsewhere",
                    socket.display()
                );
            }
            Client::of_socket(&socket)
        }
    };
    // The audit trail tells who did something by what.
    let client = client.with(HeaderName::from_static("zizq-via"), "top")?;
    match token {
        Some(token) => client.with(AUTHORIZATION, &format!("Bearer {token}")),
        None => Ok(client),
    }
}

fn without_password(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, at)| format!("***@{at}"))
}

fn first_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        bail!("{} has no access token in its first line", path.display());
    }
    Ok(line.to_owned())
}

async fn on_terminal(
    top: &Top,
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
        let now = clock::now().wall;
        app.tick(now);
        for effect in std::mem::take(&mut app.effects) {
            match effect {
                Effect::Quit => return Ok(()),
                effect => perform(effect, top, &mut app, &mut screen, &mut work),
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

fn perform(effect: Effect, top: &Top, app: &mut App, screen: &mut Screen, work: &mut Work) {
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
        Effect::Connect(url) => match client(top, Some(&url)) {
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
