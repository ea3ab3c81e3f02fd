//! Who is at the other end of a connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

use super::proxy::{Proxy, Vouching};
use super::{Access, Certificate, Denied};

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// The metrics.
    Metrics,
    /// The calls of programs.
    Api,
    /// The pages, and the calls that they make for people.
    Ui,
}

impl Only {
    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Api => "api",
            Self::Ui => "ui",
        }
    }
}

/// What is known of the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Party {
    /// Who it is for sure, whatever its requests say.
    certain: Option<Access>,
    /// Who it is if its requests show nothing.
    trusted: Option<Access>,
    /// What it has shown when it connected.
    certificate: Option<Certificate>,
    /// What its headers say of people.
    vouching: Option<Vouching>,
    /// Whether its connection is encrypted.
    pub is_tls: bool,
    /// What the listener serves that it reached; none: everything.
    pub only: Option<Only>,
    /// What it last showed, so that the same need not be looked up again.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    /// None: nothing but the connection.
    header: Option<HeaderValue>,
    /// Of the registry at that time.
    generation: u64,
    access: Access,
}

impl Party {
    /// A connection whose other end is known.
    pub(crate) fn certain(access: Access) -> Self {
        Self { certain: Some(access), ..Self::default() }
    }

    /// A connection by a listener that trusts whoever reaches it so far, and serves only this.
    #[must_use]
    pub(crate) fn by_listener(self, trusted: Option<Access>, only: Option<Only>) -> Self {
        Self { trusted, only, ..self }
    }

    /// A connection by a listener that believes this proxy, from this address.
    #[must_use]
    pub(crate) fn behind(self, proxy: Option<Arc<Proxy>>, far: Option<IpAddr>) -> Self {
        Self { vouching: proxy.map(|proxy| Vouching::of(proxy, far)), ..self }
    }

    /// A connection over TLS, and the certificate of its other end.
    #[must_use]
    pub(crate) fn over_tls(self, certificate: Option<Certificate>) -> Self {
        Self { is_tls: true, certificate, ..self }
    }

    pub(crate) const fn is_certainly(&self) -> Option<&Access> {
        self.certain.as_ref()
    }

    /// Whether the request is made for a person, as a proxy says that is believed.
    pub(crate) fn vouches(&self, headers: &HeaderMap) -> bool {
        self.vouching.as_ref().is_some_and(|vouching| vouching.counts(headers))
    }

    /// Whom a proxy makes the request for. Whoever shows a certificate is that, and no proxy.
    ///
    /// # Errors
    /// [`Denied`] if the header is not the proxy's, or does not say who it is.
    pub(super) fn person(&self, headers: &HeaderMap) -> Result<Option<Access>, Denied> {
        let vouching = self.vouching.as_ref().filter(|_| self.certificate.is_none());
        vouching.map_or(Ok(None), |vouching| vouching.person(headers))
    }

    pub(super) const fn trusted(&self) -> Option<&Access> {
        self.trusted.as_ref()
    }

    pub(super) const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// What the same header gave before.
    pub(super) fn recall(&self, header: Option<&HeaderValue>, generation: u64) -> Option<Access> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.as_ref().filter(|seen| seen.generation == generation)?;
        // Behind a proxy, several callers may share a connection.
        let same = match (&seen.header, header) {
            (Some(seen), Some(header)) => seen.as_bytes().ct_eq(header.as_bytes()).into(),
            (None, None) => true,
            _ => false,
        };
        same.then(|| seen.access.clone())
    }

    pub(super) fn remember(&self, header: Option<&HeaderValue>, generation: u64, access: &Access) {
        let seen = Seen { header: header.cloned(), generation, access: access.clone() };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}
