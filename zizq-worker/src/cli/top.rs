//! `zizq-worker top`: the same as `zizq-server top`, on machines that have only the worker.

use std::process::ExitCode;

use reqwest::header::AUTHORIZATION;
use zizq_client::Client;

use super::CliError;
use crate::access::{AccessFlags, Written};

/// The server to show, and how.
#[derive(Debug, clap::Args)]
// The name that `zizq-server top` has for it.
#[command(mut_arg("server", |server| server.visible_alias("url")))]
pub struct Top {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    shown: zizq_top::Flags,
}

impl Top {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let connect = |url: Option<&str>| self.client(url);
        match zizq_top::run(&self.shown, &connect).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if error.is::<zizq_top::NoAnswer>() => Err(CliError::NoServer(format!("{error:#}"))),
            Err(error) => {
                Err(error.downcast().unwrap_or_else(|error| CliError::Failed(format!("{error:#}"))))
            }
        }
    }

    /// The server at this URL, or the one that the flags mean.
    fn client(&self, url: Option<&str>) -> anyhow::Result<Client> {
        let mut flags = self.access.clone();
        if let Some(url) = url {
            (flags.server, flags.server_file) = (Some(url.to_owned()), None);
        }
        let access = flags.access(Written::default()).map_err(CliError::Usage)?;
        if let Some(via) = access.proxy.on_the_way_to(&access.url) {
            return Err(CliError::Usage(format!("top reaches a server directly only, and not {via}")).into());
        }
        let client = Client::of_url(access.url.as_str(), || access.tls().map_err(anyhow::Error::msg))?;
        Ok(match access.token() {
            Some(token) => client.with(AUTHORIZATION, token.clone()),
            None => client,
        })
    }
}
