//! Requests about access tokens.

use protocol::access::{Grant, Role, TokenId};
use protocol::name::TokenName;

use crate::access::{Credential, Digest, Tokens};

/// Lists all access tokens.
#[derive(Debug)]
pub struct ListTokens;

/// Creates an access token.
#[derive(Debug)]
pub struct CreateToken(pub Box<NewToken>);

/// An access token to be created.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub id: TokenId,
    pub name: TokenName,
    pub role: Option<Role>,
    pub grants: Vec<Grant>,
    pub(crate) credential: Credential,
    pub created_by: String,
    pub expires_at: Option<u64>,
    /// What sessions are signed with, if there is no key yet.
    pub key: [u8; 32],
}

/// Replaces the secret of an access token.
#[derive(Debug)]
pub struct RotateToken {
    pub id: TokenId,
    pub(crate) digest: Digest,
    /// How long the old one still counts, in milliseconds.
    pub overlap_ms: u64,
}

/// Ends an access token.
#[derive(Debug)]
pub struct RevokeToken(pub TokenId);

/// Notes on which days access tokens were last used.
#[derive(Debug)]
pub struct UseTokens(pub Vec<(TokenId, u32)>);

/// The answer to a [`ListTokens`].
pub(crate) type AllTokens = Box<Tokens>;
