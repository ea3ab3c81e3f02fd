//! Who is at the other end of a connection.

use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use subtle::ConstantTimeEq;

use super::Access;

/// What is known of the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Party {
    /// Who it is for sure, whatever its requests say.
    certain: Option<Access>,
    /// Whether its connection is encrypted.
    pub is_tls: bool,
    /// What it last showed, so that the same need not be looked up again.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    header: HeaderValue,
    /// Of the registry at that time.
    generation: u64,
    access: Access,
}

impl Party {
    /// A connection whose other end is known.
    pub(crate) fn certain(access: Access) -> Self {
        Self { certain: Some(access), is_tls: false, seen: Mutex::default() }
    }

    /// A connection over TLS.
    pub(crate) fn over_tls() -> Self {
        Self { is_tls: true, ..Self::default() }
    }

    pub(crate) const fn is_certainly(&self) -> Option<&Access> {
        self.certain.as_ref()
    }

    /// What the same header gave before.
    pub(super) fn recall(&self, header: &HeaderValue, generation: u64) -> Option<Access> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.as_ref().filter(|seen| seen.generation == generation)?;
        // Behind a proxy, several callers may share a connection.
        let same: bool = seen.header.as_bytes().ct_eq(header.as_bytes()).into();
        same.then(|| seen.access.clone())
    }

    pub(super) fn remember(&self, header: &HeaderValue, generation: u64, access: &Access) {
        let seen = Seen { header: header.clone(), generation, access: access.clone() };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}
