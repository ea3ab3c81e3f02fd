//! Reads the configuration again on SIGHUP.

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use crate::args::Flags;
use crate::config::Config;
use crate::event::Event;
use crate::notify;

/// Reads it whenever the signal comes. What is wrong is logged, and changes nothing.
pub(crate) async fn run(mut hangup: Signal, flags: Flags, events: mpsc::Sender<Event>) {
    while hangup.recv().await.is_some() {
        if flags.config.is_none() {
            // Without a file to read again the signal says what it says to everybody: the terminal is gone.
            tracing::info!("hung up");
            if events.send(Event::HungUp).await.is_err() {
                break;
            }
            continue;
        }
        notify::is_reloading();
        match Config::read(&flags) {
            Ok(config) => {
                for doubt in &config.doubts {
                    tracing::warn!("{doubt}");
                }
                if events.send(Event::Reload(Box::new(config))).await.is_err() {
                    break;
                }
            }
            Err(e) => tracing::error!("the configuration is wrong and stays as it was: {e}"),
        }
        notify::has_reloaded();
    }
}
