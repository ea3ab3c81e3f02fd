//! The configuration file as it is written: its keys and the types of their values.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use protocol::name::{JobType, QueueName};
use protocol::unit;
use reqwest::Url;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

use crate::cgroup::Place;
use crate::logging::{LogFormat, LogLevel};
use crate::outcome::Action;
use crate::route::{Inherit, PayloadTo, Tracing};
use crate::screen::Live;
use crate::values::address;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) server: Option<String>,
    #[serde(default, deserialize_with = "path")]
    pub(super) server_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) server_ca: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) client_cert: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) client_key: Option<PathBuf>,
    pub(super) proxy: Option<String>,
    pub(super) pass_credentials: Option<bool>,
    pub(super) worker_id: Option<String>,
    pub(super) concurrency: Option<NonZeroU16>,
    pub(super) total_concurrency: Option<NonZeroU16>,
    pub(super) lease: Option<Span>,
    pub(super) timeout: Option<Span>,
    pub(super) trace: Option<Tracing>,
    pub(super) shutdown_timeout: Option<Span>,
    pub(super) linger: Option<Span>,
    pub(super) grace: Option<Span>,
    #[serde(default, deserialize_with = "path")]
    pub(super) spool: Option<PathBuf>,
    pub(super) cgroup: Option<Cgroup>,
    #[serde(default, deserialize_with = "listen")]
    pub(super) listen: Option<SocketAddr>,
    pub(super) max_jobs: Option<NonZeroU64>,
    pub(super) max_idle: Option<Span>,
    pub(super) server_timeout: Option<Span>,
    pub(super) live: Option<Live>,
    pub(super) label: Option<String>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_format: Option<LogFormat>,
    #[serde(default)]
    pub(super) route: Vec<Spanned<RouteTable>>,
}

impl File {
    /// Whether it contains a password or a secret.
    pub(super) fn holds_a_secret(&self) -> bool {
        let password = |text: &String| Url::parse(text).is_ok_and(|url| url.password().is_some());
        let key = |route: &RouteTable| {
            route.secrets.as_ref().is_some_and(|list| list.0.iter().any(|text| text.starts_with("whsec_")))
        };
        self.server.as_ref().is_some_and(password) || self.route.iter().any(|route| key(route.get_ref()))
    }
}

/// A `[[route]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTable {
    /// Its file and line.
    #[serde(skip)]
    pub(super) place: Option<String>,
    #[serde(default, deserialize_with = "label")]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) queue: OneOrMore<QueueName>,
    #[serde(default, rename = "type")]
    pub(super) job_type: OneOrMore<JobType>,
    pub(super) concurrency: Option<NonZeroU16>,
    pub(super) timeout: Option<Span>,
    pub(super) trace: Option<Tracing>,
    #[serde(default)]
    pub(super) outcome: BTreeMap<String, Action>,

    pub(super) run: Option<RunLine>,
    pub(super) linger: Option<Span>,
    pub(super) grace: Option<Span>,
    pub(super) payload: Option<PayloadTo>,
    #[serde(default, deserialize_with = "path")]
    pub(super) cwd: Option<PathBuf>,
    pub(super) inherit_env: Option<InheritEnv>,
    pub(super) env: Option<BTreeMap<String, String>>,
    pub(super) user: Option<String>,
    pub(super) limits: Option<LimitsTable>,

    pub(super) url: Option<String>,
    pub(super) method: Option<String>,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) body: Option<String>,
    pub(super) cloud_events: Option<bool>,
    pub(super) secrets: Option<OneOrMore<String>>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) first_byte_timeout: Option<Span>,
    pub(super) max_connections_per_host: Option<NonZeroU16>,
    pub(super) private_addresses: Option<bool>,
    #[serde(default, deserialize_with = "path")]
    pub(super) ca: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) cert: Option<PathBuf>,
    #[serde(default, deserialize_with = "path")]
    pub(super) key: Option<PathBuf>,
}

/// `limits` of a route.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) memory: Option<Size>,
    pub(super) cpu_time: Option<Span>,
    pub(super) processes: Option<NonZeroU64>,
    pub(super) files: Option<NonZeroU64>,
    pub(super) nice: Option<i32>,
}

/// A duration such as `1m 30s`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

/// A size such as `512MB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

/// `cgroup`: `auto`, or a folder.
#[derive(Debug)]
pub(super) struct Cgroup(pub(super) Place);

/// `run`: a shell line, or a list.
#[derive(Debug)]
pub(super) enum RunLine {
    Shell(String),
    Program(Vec<String>),
}

/// `inherit_env`: true, false, or a list of names.
#[derive(Debug)]
pub(super) struct InheritEnv(pub(super) Inherit);

/// A string, or a list of strings.
#[derive(Debug, Clone)]
pub(super) struct OneOrMore<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a duration such as \"30s\"", |text| unit::duration(text).map(Self))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a size such as \"512MB\"", |text| unit::size(text).map(Self))
    }
}

impl<'de> Deserialize<'de> for Cgroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "\"auto\" or a folder", |text| text.parse().map(Self))
    }
}

/// A path. An empty one would mean the current folder.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    text(deserializer, "a path", |text| match text.is_empty() {
        true => Err("the path is empty; leave the key out for the default".to_owned()),
        false => Ok(Some(text.into())),
    })
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    text(deserializer, "an address such as \"127.0.0.1:7891\"", |text| address(text).map(Some))
}

/// A name for messages.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "a name", |text| match text.trim().is_empty() || text.contains(char::is_control) {
        true => Err("a name must be one visible line; leave the key out for the default".to_owned()),
        false => Ok(Some(text.to_owned())),
    })
}

/// Reads a value that is written as a string.
fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    what: &'static str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Text<F, T>(&'static str, F, PhantomData<T>);
    impl<F: FnOnce(&str) -> Result<T, String>, T> Visitor<'_> for Text<F, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(what, read, PhantomData))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| OneOrMore(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = seq.next_element()? {
                    list.push(one);
                }
                Ok(OneOrMore(list))
            }
        }
        deserializer.deserialize_any(List(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RunLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Line;
        impl<'de> Visitor<'de> for Line {
            type Value = RunLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shell line or a list of arguments")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RunLine, E> {
                Ok(RunLine::Shell(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RunLine, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = seq.next_element()? {
                    list.push(one);
                }
                Ok(RunLine::Program(list))
            }
        }
        deserializer.deserialize_any(Line)
    }
}

impl<'de> Deserialize<'de> for InheritEnv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = InheritEnv;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a list of names")
            }

            fn visit_bool<E: Error>(self, all: bool) -> Result<InheritEnv, E> {
                Ok(InheritEnv(if all { Inherit::All } else { Inherit::None }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InheritEnv, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(InheritEnv(Inherit::Only(names)))
            }
        }
        deserializer.deserialize_any(Names)
    }
}
