//! What is stored of an access token.

use protocol::access::{CertificateName, Grant, Role, TokenId, TokenView};
use protocol::name::TokenName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::DAY_MS;

/// The SHA-256 of a secret. A token has 190 random bits, so there is nothing to guess, and no need to be slow.
///
/// Whoever could measure how far a look-up by digest comes would learn a part of a digest, and not of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }
}

/// A secret that was replaced, and still counts for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OldSecret {
    pub digest: Digest,
    /// In milliseconds since the Unix epoch.
    pub until: u64,
}

/// What an access token is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Credential {
    /// By what its owner knows.
    Secret { digest: Digest, old: Option<OldSecret> },
    /// By a certificate that one of the authorities of `--tls-client-ca` has signed. A revoked one is kept, in milliseconds
    /// since the Unix epoch: as one that nobody knows it would have the rights of strangers again.
    Certificate { name: CertificateName, revoked_at: Option<u64> },
}

/// An access token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub name: TokenName,
    pub role: Option<Role>,
    pub grants: Vec<Grant>,
    pub(crate) credential: Credential,
    /// In milliseconds since the Unix epoch.
    pub created_at: u64,
    pub created_by: String,
    pub expires_at: Option<u64>,
    /// The number of the day since the Unix epoch; 0: never.
    pub used_on: u32,
}

impl TokenRecord {
    /// The certificate that it is known by.
    pub(crate) fn certificate(&self) -> Option<&CertificateName> {
        match &self.credential {
            Credential::Certificate { name, .. } => Some(name),
            Credential::Secret { .. } => None,
        }
    }

    /// Since when its certificate is refused.
    pub(crate) fn revoked_at(&self) -> Option<u64> {
        match self.credential {
            Credential::Certificate { revoked_at, .. } => revoked_at,
            Credential::Secret { .. } => None,
        }
    }

    /// As it is shown.
    pub(crate) fn view(&self, id: &TokenId, now: u64) -> TokenView {
        let old = match self.credential {
            Credential::Secret { old, .. } => old,
            Credential::Certificate { .. } => None,
        };
        TokenView {
            id: id.clone(),
            name: self.name.clone(),
            role: self.role,
            grants: self.grants.clone(),
            certificate: self.certificate().cloned(),
            revoked_at: self.revoked_at(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            expires_at: self.expires_at,
            last_used_at: (self.used_on > 0).then(|| u64::from(self.used_on) * DAY_MS),
            old_secret_until: old.map(|old| old.until).filter(|until| *until > now),
            token: None,
        }
    }
}
