//! What every view looks like, as text. `ZIZQ_WRITE_SNAPSHOTS=1` writes the files anew; the difference is then in git.

use std::fs;
use std::path::PathBuf;

use ratatui::style::Color;

use super::canned::{busy, closed, empty, id, refusing, viewed};
use super::{NOW, Screen, Server};
use crate::event::{ChangeNews, Event, LogNews, Problem};
use crate::place::Tab;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Compares a screen in all sizes with what it was. Returns the first difference.
fn compare(name: &str, screen: &mut Screen) -> Option<String> {
    let mut shown = String::new();
    for (columns, lines) in SIZES {
        let text = screen.text(columns, lines);
        shown.push_str(&format!("==== {columns} x {lines}\n{text}"));
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("ZIZQ_WRITE_SNAPSHOTS").is_some() {
        fs::create_dir_all(folder).unwrap();
        fs::write(path, shown).unwrap();
        return None;
    }
    let was = fs::read_to_string(&path).unwrap_or_default();
    if was == shown {
        return None;
    }
    let differs = was.lines().chain(std::iter::repeat("")).zip(shown.lines()).find(|(was, is)| was != is);
    let (was, is) = differs.unwrap_or(("more lines", ""));
    Some(format!("{name}:\n  was {was:?}\n  is  {is:?}"))
}

fn tab(server: Server, tab: Tab) -> Screen {
    let mut screen = Screen::of(server);
    let at = Tab::ALL.iter().position(|other| *other == tab).unwrap();
    screen.press(&(at + 1).to_string());
    screen
}

fn stale() -> Screen {
    let mut screen = Screen::of(busy);
    screen.now = NOW + 12_000;
    screen.app.take(Event::Lost(Problem::new(0, "Connection refused (os error 111)")));
    screen.settle();
    screen
}

fn log() -> Screen {
    let mut screen = tab(busy, Tab::Running);
    screen.press("<enter>");
    let turn = screen.app.log.as_ref().unwrap().turn;
    let mut news = vec![LogNews::Attempt(1), LogNews::Gap(4_096)];
    for n in 0..70 {
        let line = format!("frame {n} of 300 \u{1b}[32mdone\u{1b}[0m\tin 0.5 s 日本語");
        news.push(LogNews::Line { is_error: n % 7 == 3, line });
    }
    for news in news {
        screen.app.take(Event::Log { turn, news });
    }
    screen
}

/// A dialog about more jobs than are deleted by one key.
fn dialog() -> Screen {
    let mut screen = tab(busy, Tab::Dead);
    screen.press("ooD");
    let turn = screen.app.ask.as_ref().unwrap().turn;
    let found = serde_json::json!({"deleted": 1_200, "matched": 1_250, "until": id(99), "sample": busy("/jobs?status=dead").unwrap()["jobs"]});
    screen.app.take(Event::Change { turn, news: ChangeNews::Done(found) });
    screen.press("12<enter>");
    screen
}

fn with_keys(server: Server, of: Tab, keys: &str) -> Screen {
    let mut screen = tab(server, of);
    screen.press(keys);
    screen
}

fn screens() -> Vec<(String, Screen)> {
    let mut screens = Vec::new();
    for of in Tab::ALL {
        let title = of.title().to_lowercase();
        screens.push((title.clone(), tab(busy, of)));
        screens.push((format!("{title}-empty"), tab(empty, of)));
        screens.push((format!("{title}-refused"), tab(refusing, of)));
    }
    let ascii = || {
        let mut screen = tab(busy, Tab::Overview);
        screen.app.ascii = true;
        screen
    };
    let others = [
        ("connecting", Screen::new(busy)),
        ("closed", Screen::of(closed)),
        ("stale", stale()),
        ("viewer", with_keys(viewed, Tab::Jobs, "r")),
        ("ascii", ascii()),
        ("frozen", with_keys(busy, Tab::Queues, "<space>")),
        ("queue", with_keys(busy, Tab::Queues, "<enter>")),
        ("job", with_keys(busy, Tab::Jobs, "GG<enter>")),
        ("group", with_keys(busy, Tab::Dead, "<enter>")),
        ("log", log()),
        ("dialog", dialog()),
        ("disconnect", with_keys(busy, Tab::Workers, "D")),
        ("help", with_keys(busy, Tab::Jobs, "?")),
        ("prompt", with_keys(busy, Tab::Jobs, "/status:d<tab> queue:日本")),
        ("marked", with_keys(busy, Tab::Queues, "xx")),
    ];
    screens.extend(others.into_iter().map(|(name, screen)| (name.to_owned(), screen)));
    screens
}

#[test]
fn every_view_looks_as_it_did() {
    let differences: Vec<String> =
        screens().into_iter().filter_map(|(name, mut screen)| compare(&name, &mut screen)).collect();
    assert!(differences.is_empty(), "ZIZQ_WRITE_SNAPSHOTS=1 writes them anew\n{}", differences.join("\n"));
}

#[test]
fn no_view_uses_more_than_a_terminal_has() {
    for (name, mut screen) in screens() {
        for (columns, lines) in SIZES {
            for cell in &screen.buffer(columns, lines).content {
                assert!(!cell.symbol().chars().any(char::is_control), "{name}: {:?}", cell.symbol());
                for color in [cell.fg, cell.bg] {
                    assert!(!matches!(color, Color::Rgb(..) | Color::Indexed(_)), "{name}: {color}");
                }
            }
        }
        screen.app.colours = false;
        let buffer = screen.buffer(80, 24);
        assert!(
            buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset),
            "{name}"
        );
        screen.app.ascii = true;
        assert!(screen.text(80, 24).is_ascii(), "{name}");
    }
}

#[test]
fn every_view_fits_any_size() {
    for (_, mut screen) in screens() {
        for size in [(1, 1), (39, 9), (40, 10), (41, 11), (57, 13), (79, 50), (500, 100)] {
            screen.buffer(size.0, size.1);
        }
    }
}
