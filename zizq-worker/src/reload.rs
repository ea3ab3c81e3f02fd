//! Reloads the configuration file, and the files of token and certificate, on SIGHUP.

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::config::Config;
use crate::event::Event;
use crate::flags::Flags;
use crate::notify;

/// Reloads at each signal. A wrong configuration is logged and changes nothing.
pub(crate) async fn run(mut hangup: Signal, flags: Flags, client: Client, events: mpsc::Sender<Event>) {
    while hangup.recv().await.is_some() {
        if flags.config.is_none() {
            // Without a file, the signal has its usual meaning: the terminal is gone.
            tracing::info!("received SIGHUP");
            if events.send(Event::AskedToEnd).await.is_err() {
                break;
            }
            continue;
        }
        notify::is_reloading();
        client.read_files_again();
        match Config::read(&flags) {
            Ok(config) => {
                for doubt in &config.doubts {
                    tracing::warn!("{doubt}");
                }
                if events.send(Event::Reload(Box::new(config))).await.is_err() {
                    break;
                }
            }
            Err(e) => tracing::error!("the new configuration is invalid, keeping the old one: {e}"),
        }
        notify::has_reloaded();
    }
}
