//! Without a screen: one frame as text, or a line of JSON per second.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use http::Method;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};
use unicode_width::UnicodeWidthStr;

use super::NoAnswer;
use super::app::App;
use super::event::{Call, Effect, Event, Problem};
use super::frame;
use super::stream::Stream;
use super::work::Work;
use zizq_client::Client;

/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the view has all that it shows, and prints it.
pub(super) async fn frame(
    mut app: App,
    mut work: Work,
    mut events: Receiver<Event>,
    (columns, lines): (u16, u16),
) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut waited = 0_usize;
    loop {
        app.tick(super::now());
        for effect in std::mem::take(&mut app.effects) {
            match effect {
                Effect::Ask(question) => {
                    waited += 1;
                    work.ask(question);
                }
                Effect::Live(path) => work.follow(path),
                _ => {}
            }
        }
        if app.live.stats().is_some() && waited == 0 {
            break;
        }
        let event = match timeout_at(until, events.recv()).await {
            Ok(Some(event)) => event,
            _ => return Err(NoAnswer("the server has not answered in time".to_owned()).into()),
        };
        match &event {
            Event::Answer { .. } => waited = waited.saturating_sub(1),
            Event::Lost(problem) => return Err(fatal(&app.server, problem)),
            _ => {}
        }
        app.take(event);
    }
    let mut terminal = Terminal::new(TestBackend::new(columns, lines))?;
    terminal.draw(|screen| frame::draw(&mut app, screen))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", text(terminal.backend().buffer()).trim_end())?;
    Ok(stdout.flush()?)
}

/// What a screen shows, as lines of text.
pub(super) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width.max(1))) {
        let (mut line, mut hidden) = (String::new(), 0);
        for cell in row {
            // What stands behind a wide character is hidden by it.
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            hidden = cell.symbol().width().saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Why nothing can be shown.
fn fatal(server: &str, Problem { status, says }: &Problem) -> anyhow::Error {
    let says = format!("{server}: {says}");
    if *status == 0 { NoAnswer(says).into() } else { anyhow::anyhow!(says) }
}

/// Prints what the live view says, a line per message; only one, if so wanted.
pub(super) async fn json(client: &Client, once: bool) -> anyhow::Result<()> {
    let path = "/live?topics=totals,queues&order=ready&desc=true&limit=1000";
    let fatal = |problem: Problem| fatal(&client.shown(), &problem);
    let stream = Stream::open(client, &Call::new(Method::GET, path, None), "").await.map_err(fatal)?;
    let Ok(mut stream) = stream else { bail!("{} does not answer as a zizq-server", client.shown()) };
    let mut known = super::live::Live::default();
    while let Some((_, news, _)) = stream.next().await.map_err(fatal)? {
        let now = news.get("now").cloned().unwrap_or_default();
        known.take(news, 0);
        let line = serde_json::json!({"now": now, "stats": known.stats(), "queues": known.queues()});
        let mut stdout = std::io::stdout();
        // Who reads no further has seen enough.
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() || once {
            return Ok(());
        }
    }
    bail!("{} has ended the connection", client.shown())
}
