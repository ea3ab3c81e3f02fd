//! Who is let in, as the configuration says, and what it leaves open.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::access::AccessToken;
use tokio::time::sleep;

use crate::access::{Marker, Registry};
use crate::config::{At, Auth, Config};
use crate::engine::command::access::UseTokens;
use crate::http::tls::{Acceptors, Tls};
use crate::run::handle::{CallError, Handle};

/// How often the engine is told which access tokens were used.
const NOTE_USES: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

/// How callers are let in.
pub(crate) struct Admission {
    pub marker: Marker,
    pub admin: AdminToken,
}

impl Admission {
    /// Tells the registry how the server lets callers in. `exposed`: an address of it that others than this machine reach.
    ///
    /// # Errors
    /// When nobody has said who may call, and others than this machine could; when the admin token cannot be read.
    pub(crate) fn new(config: &Config, exposed: Option<&str>, access: Arc<Registry>) -> anyhow::Result<Self> {
        let marker = Marker::in_folder(&config.root_dir);
        let admin = AdminToken::of(config, access.clone());
        admin.read()?;
        access.set_mode(mode(config, &marker, exposed, &access)?);
        access.set_strangers(config.tls.as_ref().map_or(&[], Tls::strangers));
        Ok(Self { marker, admin })
    }
}

/// Whether callers are asked who they are; none: as soon as there has been an access token.
///
/// # Errors
/// When nobody has said so, and others than this machine could call.
fn mode(
    config: &Config,
    marker: &Marker,
    exposed: Option<&str>,
    access: &Registry,
) -> anyhow::Result<Option<bool>> {
    match config.callers.auth {
        Some(auth) => Ok(Some(auth == Auth::Required)),
        None if asks_for_others(config) || marker.is_there() => Ok(Some(true)),
        None => match exposed {
            None => Ok(None),
            Some(_) if access.asks() => Ok(Some(true)),
            Some(exposed) => Err(anyhow::anyhow!(open_to_all(exposed))),
        },
    }
}

/// Whether callers are known by something else than access tokens.
fn asks_for_others(config: &Config) -> bool {
    let has_certificates = config.tls.as_ref().is_some_and(|tls| tls.tls_client_ca.is_some());
    has_certificates || config.callers.proxy.believed().is_some()
}

/// Refuses to start before anything is made, if that is sure already.
///
/// # Errors
/// As [`Admission::new`].
pub(crate) fn foresee(config: &Config) -> anyhow::Result<()> {
    config.callers.proxy.check(config.callers.auth)?;
    let marker = Marker::in_folder(&config.root_dir);
    let may_ask = marker.is_there() || AdminToken::path(config).is_some() || asks_for_others(config);
    if config.callers.auth.is_some() || may_ask {
        return Ok(());
    }
    let of_listeners = config.listen.iter().filter(|listen| listen.trusts().is_none());
    let of_listeners = of_listeners.filter_map(|listen| match &listen.at {
        At::Port { host, .. } => Some(host),
        At::File(_) => None,
    });
    let is_elsewhere =
        |host: &&String| host.parse::<IpAddr>().is_ok_and(|ip| !ip.to_canonical().is_loopback());
    match std::iter::once(&config.host).chain(of_listeners).find(is_elsewhere) {
        Some(host) => Err(anyhow::anyhow!(open_to_all(host))),
        None => Ok(()),
    }
}

fn open_to_all(host: &str) -> String {
    format!(
        "{host} can be reached by others, and nothing would ask them who they are. Start the server with --auth required \
         and make access tokens with `zizq-server token create`, or with --tls-client-ca and certificates (`zizq-server cert \
         init` makes them), or with --auth-proxy-header behind a proxy that asks people who they are, or with --auth open if everybody who reaches it may do everything; a listener of --listen may \
         have a role instead"
    )
}

/// The token of an administrator that is given as a file.
#[derive(Debug, Clone)]
pub(crate) struct AdminToken {
    path: Option<PathBuf>,
    access: Arc<Registry>,
}

impl AdminToken {
    /// The least length of the token, in bytes.
    const LEAST: usize = 32;

    fn of(config: &Config, access: Arc<Registry>) -> Self {
        Self { path: Self::path(config), access }
    }

    /// The file, or the credential of that name (systemd.exec, `LoadCredential=`).
    fn path(config: &Config) -> Option<PathBuf> {
        let credential = || {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
            Some(Path::new(&folder).join("admin-token")).filter(|path| path.exists())
        };
        config.callers.admin_token_file.clone().or_else(credential)
    }

    pub(crate) fn is_given(&self) -> bool {
        self.path.is_some()
    }

    /// Reads the file. Returns whether there is one.
    pub(crate) fn read(&self) -> anyhow::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the admin token in {shown}"))?;
        let secret = text.trim();
        if secret.len() < Self::LEAST || secret.contains(|c: char| c.is_whitespace() || c.is_control()) {
            anyhow::bail!(
                "the admin token in {shown} must be one line of at least {} characters, without spaces",
                Self::LEAST
            );
        }
        if AccessToken::is_meant_by(secret)
            && let Err(error) = secret.parse::<AccessToken>()
        {
            anyhow::bail!("{shown}: {error}");
        }
        self.access.set_file(Some(secret));
        Ok(true)
    }
}

/// Says every day which certificates and access tokens end soon. Certificates were looked at when they were read.
pub(crate) async fn warn_of_expiry(tls: Option<Acceptors>, access: Arc<Registry>) {
    loop {
        for doubt in access.expiring() {
            tracing::warn!("{doubt}");
        }
        sleep(DAY).await;
        tls.iter().for_each(Acceptors::warn_of_expiry);
    }
}

/// Has the engine note on which days access tokens were used.
pub(crate) async fn note_uses(access: Arc<Registry>, engine: Handle) {
    loop {
        sleep(NOTE_USES).await;
        let uses = access.take_uses();
        if !uses.is_empty() && engine.ask(UseTokens(uses)).await == Err(CallError::Stopped) {
            return;
        }
    }
}
