//! The certificate of a connection, as far as it says who calls. That one of our authorities has signed it was checked before.

use std::sync::Arc;

use protocol::access::CertificateName;
use protocol::certificate::Facts;
use smol_str::SmolStr;

/// A certificate that was checked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The names of its owner, the most exact first.
    names: Arc<[CertificateName]>,
    /// The end of its validity, in milliseconds since the Unix epoch.
    pub until: u64,
}

impl Certificate {
    /// Reads a certificate; none if it cannot be read.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let facts = Facts::of(der)?;
        let until = u64::try_from(facts.not_after).unwrap_or_default().saturating_mul(1_000);
        Some(Self { names: CertificateName::all_of(&facts).into(), until })
    }

    pub(super) fn names(&self) -> &[CertificateName] {
        &self.names
    }

    /// Its first name, for people.
    pub(super) fn shown(&self) -> SmolStr {
        self.names.first().map_or_else(|| "without a name".into(), |name| name.as_str().into())
    }
}
