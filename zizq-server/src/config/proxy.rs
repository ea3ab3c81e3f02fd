//! `--auth-proxy-*`: a proxy in front of the server that asks people who they are.

use std::sync::Arc;

use clap::Args;
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};

use super::Auth;
use crate::access::{Assignment, Network, Proxy};

/// A proxy that is believed.
#[derive(Debug, Clone, Args)]
pub struct ProxyFlags {
    /// Believe the proxy in front of the server that the person in this header calls, such as `X-Forwarded-User` or `Remote-User`.
    /// The proxy must take the header out of what comes from outside
    #[arg(
        long,
        env = "ZIZQ_AUTH_PROXY_HEADER",
        value_name = "HEADER",
        value_parser = header,
        requires_all = ["auth_proxy_from", "auth_proxy_role"]
    )]
    auth_proxy_header: Option<HeaderName>,
    /// The header in which the proxy lists the groups of the person, with commas or bars, such as `X-Forwarded-Groups`
    #[arg(
        long,
        env = "ZIZQ_AUTH_PROXY_GROUPS_HEADER",
        value_name = "HEADER",
        value_parser = header,
        requires = "auth_proxy_header"
    )]
    auth_proxy_groups_header: Option<HeaderName>,
    /// Where the proxy calls from: an address or a network, such as `10.0.0.7` or `fd00::/64`; may be repeated, or a
    /// comma-separated list. From elsewhere its headers count for nothing
    #[arg(
        long,
        env = "ZIZQ_AUTH_PROXY_FROM",
        value_name = "CIDR",
        value_delimiter = ',',
        requires = "auth_proxy_header"
    )]
    auth_proxy_from: Vec<Network>,
    /// What the people may do whom the proxy lets in: `alice=admin`, `group:ops=operator`, `bob=operator:mails*` (in these queues),
    /// and `*=viewer` for all others; may be repeated, or a comma-separated list. What names a person goes before what names a
    /// group, and that before `*`
    #[arg(
        long,
        env = "ZIZQ_AUTH_PROXY_ROLE",
        value_name = "WHOM=ROLE",
        value_delimiter = ',',
        requires = "auth_proxy_header"
    )]
    auth_proxy_role: Vec<Assignment>,
}

impl ProxyFlags {
    /// The proxy, if there is one.
    #[must_use]
    pub fn believed(&self) -> Option<Arc<Proxy>> {
        let proxy = Proxy {
            user: self.auth_proxy_header.clone()?,
            groups: self.auth_proxy_groups_header.clone(),
            from: self.auth_proxy_from.clone(),
            roles: self.auth_proxy_role.clone(),
        };
        Some(Arc::new(proxy))
    }

    /// Refuses flags that contradict each other.
    ///
    /// # Errors
    /// A sentence for the person who starts the server.
    pub fn check(&self, auth: Option<Auth>) -> anyhow::Result<()> {
        let Some(proxy) = self.believed() else { return Ok(()) };
        if auth == Some(Auth::Open) {
            anyhow::bail!(
                "--auth open lets everybody do everything, so --auth-proxy-header would change nothing: leave one of them out"
            );
        }
        if proxy.groups.as_ref() == Some(&proxy.user) {
            anyhow::bail!(
                "--auth-proxy-header and --auth-proxy-groups-header name the same header, {}: one is for the person, one for groups",
                proxy.user
            );
        }
        Ok(())
    }
}

/// Parses the name of a header that means nothing else.
fn header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| format!("`{text}` is not the name of a header, such as X-Forwarded-User"))?;
    if [AUTHORIZATION, COOKIE, HOST, ORIGIN].contains(&name) {
        return Err(format!("`{text}` means something else; use a header such as X-Forwarded-User"));
    }
    Ok(name)
}
