//! The terminal: taken over, and given back whatever happens.

use std::io::{self, Stdout, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::app::App;
use super::event::Event;
use super::frame;

/// How often the thread that reads keys looks whether somebody else is to have them.
const LOOK: Duration = Duration::from_millis(100);

/// Whether the terminal is ours, for the one who panics.
static TAKEN: AtomicBool = AtomicBool::new(false);

pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    keys: Arc<Keys>,
}

/// Who reads what is typed.
#[derive(Default)]
struct Keys {
    /// Another program does.
    lent: AtomicBool,
    /// Held while our thread does.
    reading: Mutex<()>,
}

impl Screen {
    /// Takes the terminal over, and sends what is typed.
    pub(super) fn open(events: Sender<Event>) -> anyhow::Result<Self> {
        let panics = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back().ok();
            panics(panic);
            // A task that panics would else leave the others drawing.
            std::process::exit(101);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        take_over()?;
        let keys = Arc::new(Keys::default());
        let own = keys.clone();
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            loop {
                if own.lent.load(Ordering::Acquire) {
                    std::thread::sleep(LOOK);
                    continue;
                }
                let held = own.reading.lock().unwrap_or_else(PoisonError::into_inner);
                let read =
                    event::poll(LOOK).and_then(|some| if some { event::read().map(Some) } else { Ok(None) });
                drop(held);
                let event = match read {
                    Ok(None) => continue,
                    Ok(Some(event)) => Event::Input(event),
                    Err(_) => Event::End,
                };
                let is_end = matches!(event, Event::End);
                if events.blocking_send(event).is_err() || is_end {
                    return;
                }
            }
        })?;
        Ok(Self { terminal, keys })
    }

    pub(super) fn draw(&mut self, app: &mut App) -> io::Result<()> {
        self.terminal.draw(|screen| frame::draw(app, screen)).map(drop)
    }

    /// Stops this program until the shell continues it.
    pub(super) fn suspend(&mut self) -> anyhow::Result<()> {
        give_back()?;
        kill_process(getpid(), Signal::TSTP)?;
        take_over()?;
        Ok(self.terminal.clear()?)
    }

    /// Lends the terminal to another program.
    fn lend<T>(&mut self, run: impl FnOnce() -> io::Result<T>) -> anyhow::Result<T> {
        self.keys.lent.store(true, Ordering::Release);
        drop(self.keys.reading.lock().unwrap_or_else(PoisonError::into_inner));
        give_back()?;
        let result = run();
        take_over()?;
        self.keys.lent.store(false, Ordering::Release);
        self.terminal.clear()?;
        Ok(result?)
    }

    /// Lets a person edit an object. Returns the text, if it was changed.
    pub(super) fn edit(&mut self, object: &Value) -> anyhow::Result<Option<String>> {
        let before = format!("{object:#}\n");
        let mut file = tempfile::Builder::new().prefix("zizq-").suffix(".json").tempfile()?;
        file.write_all(before.as_bytes())?;
        let path = file.path().to_owned();
        self.lend(|| run(&["VISUAL", "EDITOR"], "vi", &path))?;
        // Editors may replace the file.
        let after = std::fs::read_to_string(&path)?;
        Ok((after.trim() != before.trim()).then_some(after))
    }

    /// Shows a text in a pager.
    pub(super) fn page(&mut self, text: &str) -> anyhow::Result<()> {
        let mut file = tempfile::Builder::new().prefix("zizq-").suffix(".log").tempfile()?;
        file.write_all(text.as_bytes())?;
        let path = file.path().to_owned();
        self.lend(|| run(&["PAGER"], "less", &path))
    }

    /// Gives a text to the clipboard, as far as the terminal does that (OSC 52).
    pub(super) fn copy(text: &str) -> io::Result<()> {
        let mut stdout = io::stdout();
        write!(stdout, "\x1b]52;c;{}\x07", BASE64_STANDARD.encode(text))?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back().ok();
    }
}

/// Runs the program that one of these variables names, with its arguments, on a file.
fn run(variables: &[&str], usual: &str, path: &std::path::Path) -> io::Result<()> {
    let named =
        variables.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.trim().is_empty());
    let named = named.unwrap_or_else(|| usual.to_owned());
    // As a shell would read it: `code --wait`.
    let status = Command::new("sh").arg("-c").arg(format!("{named} \"$1\"")).arg("sh").arg(path).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("`{named}` ended with {status}"))) }
}

fn take_over() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::Relaxed);
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste)
}

fn give_back() -> io::Result<()> {
    if TAKEN.swap(false, Ordering::Relaxed) {
        execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen, Show)?;
        disable_raw_mode()?;
    }
    Ok(())
}
