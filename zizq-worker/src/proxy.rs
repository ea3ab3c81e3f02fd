//! The proxy for calls to the server, and its mention in error messages.

use std::str::FromStr;
use std::sync::OnceLock;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, Url};

use crate::address::{http_url, shown};

/// How calls reach the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` decide; always directly to this machine itself.
    #[default]
    Environment,
    /// Directly.
    None,
    /// Through this one.
    At(Url),
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            url => http_url(url, "none, or http://HOST:PORT").map(Self::At),
        }
    }
}

/// The proxy, for error messages: it is easily forgotten.
static VIA: OnceLock<String> = OnceLock::new();

/// An addition to error messages if calls to the server go through a proxy.
pub(crate) fn via() -> &'static str {
    VIA.get().map_or("", String::as_str)
}

impl Proxy {
    /// Configures a client for this proxy, and adds it to error messages.
    pub(crate) fn apply(&self, builder: ClientBuilder, server: &Url) -> reqwest::Result<ClientBuilder> {
        if let Some(via) = self.on_the_way_to(server) {
            VIA.get_or_init(|| format!(" ({via})"));
        }
        Ok(match self {
            Self::Environment if is_local(server) => builder.no_proxy(),
            Self::Environment => builder,
            Self::None => builder.no_proxy(),
            Self::At(url) => builder.no_proxy().proxy(reqwest::Proxy::all(url.clone())?),
        })
    }

    /// As [`Self::words`], with the variables of this process.
    pub(crate) fn on_the_way_to(&self, server: &Url) -> Option<String> {
        self.words(server, |name| std::env::var(name).ok())
    }

    /// The proxy on the way to the server, and the setting that names it.
    fn words(&self, server: &Url, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        match self {
            Self::None => None,
            Self::At(url) => Some(format!("through the proxy {} from --proxy", shown(url))),
            Self::Environment if is_local(server) => None,
            Self::Environment => {
                let first = |names: [&'static str; 2]| {
                    names.into_iter().find_map(|name| Some((name, variable(name)?)))
                };
                let own = match server.scheme() {
                    "https" => ["HTTPS_PROXY", "https_proxy"],
                    _ => ["HTTP_PROXY", "http_proxy"],
                };
                let set = first(own).filter(|(_, value)| !value.is_empty());
                let (name, value) = set.or_else(|| first(["ALL_PROXY", "all_proxy"]))?;
                let no = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
                let proxy =
                    Matcher::builder().all(value).no(no).build().intercept(&server.as_str().parse().ok()?)?;
                Some(format!(
                    "through the proxy {} from {name}; --proxy none bypasses it",
                    Url::parse(&proxy.uri().to_string())
                        .map_or_else(|_| String::new(), |url| shown(&url).to_string())
                ))
            }
        }
    }
}

/// Whether a URL is on this machine, which is reached without a proxy.
pub(crate) fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts() {
        for (url, local) in [
            ("http://127.0.0.1:7890", true),
            ("http://[::1]:7890", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).unwrap()), local, "{url}");
        }
    }

    #[test]
    fn a_proxy_on_the_way_to_the_server_is_named_with_the_variable_that_names_it() {
        let far = "http://queue.example:7890";
        let proxy = "http://me:secret@proxy.example:3128";
        for (server, set, words) in [
            (far, &[][..], None),
            (far, &[("HTTP_PROXY", proxy)], Some("http://proxy.example:3128/ from HTTP_PROXY")),
            (far, &[("http_proxy", proxy)], Some("http://proxy.example:3128/ from http_proxy")),
            (far, &[("HTTPS_PROXY", proxy)], None),
            (far, &[("ALL_PROXY", proxy)], Some("http://proxy.example:3128/ from ALL_PROXY")),
            (far, &[("HTTP_PROXY", ""), ("ALL_PROXY", proxy)], Some("from ALL_PROXY")),
            (
                "https://queue.example",
                &[("HTTPS_PROXY", proxy), ("HTTP_PROXY", "http://x")],
                Some("from HTTPS_PROXY"),
            ),
            ("https://queue.example", &[("HTTP_PROXY", proxy)], None),
            (far, &[("HTTP_PROXY", proxy), ("NO_PROXY", "queue.example")], None),
            (far, &[("HTTP_PROXY", proxy), ("NO_PROXY", ".example")], None),
            (far, &[("HTTP_PROXY", proxy), ("NO_PROXY", "other")], Some("from HTTP_PROXY")),
            ("http://127.0.0.1:7890", &[("HTTP_PROXY", proxy)], None),
            ("http://localhost:7890", &[("ALL_PROXY", proxy)], None),
            ("http://[::1]:7890", &[("ALL_PROXY", proxy)], None),
        ] {
            let variable =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let said = Proxy::Environment.words(&Url::parse(server).unwrap(), variable);
            assert_eq!(said.is_some(), words.is_some(), "{server} {set:?}: {said:?}");
            let said = said.unwrap_or_default();
            assert!(
                said.contains(words.unwrap_or_default()) && !said.contains("secret"),
                "{server} {set:?}: {said}"
            );
        }
    }

    #[test]
    fn a_proxy_is_none_or_a_url() {
        assert_eq!("none".parse(), Ok(Proxy::None));
        assert!(matches!("http://proxy:3128".parse(), Ok(Proxy::At(_))));
        for bad in ["", "off", "None", "proxy:3128", "socks5://proxy", "http://"] {
            let error = bad.parse::<Proxy>().unwrap_err();
            assert!(error.contains("none, or http://HOST:PORT"), "{bad}: {error}");
        }
    }
}
