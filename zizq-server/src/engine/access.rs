//! The access tokens: kept and changed here like everything that must not be lost; who checks them is [`crate::access`].

use std::sync::Arc;

use protocol::access::TokenId;

use super::Engine;
use super::command::Reject;
use super::command::access::{NewToken, RotateToken};
use crate::access::{Credential, OldSecret, TokenRecord, Tokens};
use crate::store::batch::Batch;

/// The most access tokens.
const MAX_TOKENS: usize = 10_000;

/// All access tokens.
///
/// - What is here is in the store, or in the batch of this turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct AccessTokens {
    tokens: Tokens,
    /// Whether somebody has to be told of a change that matters to callers.
    is_news: bool,
}

impl AccessTokens {
    pub(in crate::engine) const fn stored(tokens: Tokens) -> Self {
        Self { tokens, is_news: true }
    }

    /// Stores everything again, after everything was deleted.
    pub(in crate::engine) fn save(&self, batch: &mut Batch) {
        self.tokens.all.iter().for_each(|(id, record)| batch.put_token(id, record));
        self.tokens.key.iter().for_each(|key| batch.put_session_key(key));
    }
}

fn missing(id: &TokenId) -> Reject {
    Reject::Missing(format!("no access token has the id `{id}`"))
}

impl Engine {
    /// All access tokens.
    pub(in crate::engine) fn tokens(&self) -> Tokens {
        self.access.tokens.clone()
    }

    /// All access tokens, if they have changed since this was last asked.
    pub fn take_tokens(&mut self) -> Option<Tokens> {
        std::mem::take(&mut self.access.is_news).then(|| self.tokens())
    }

    pub(in crate::engine) fn create_token(&mut self, new: NewToken) -> Result<Arc<TokenRecord>, Reject> {
        let NewToken { id, name, role, grants, credential, created_by, expires_at, key } = new;
        let all = &self.access.tokens.all;
        let is_live = |record: &Arc<TokenRecord>| record.revoked_at().is_none();
        if all.values().filter(|record| is_live(record)).count() >= MAX_TOKENS {
            let error =
                format!("there are {MAX_TOKENS} access tokens already; revoke those that nobody needs");
            return Err(Reject::NotAllowed(error));
        }
        if let Some((id, _)) = all.iter().find(|(_, record)| is_live(record) && record.name == name) {
            let error =
                format!("there is an access token `{name}` already: {id}; rotate it, or choose another name");
            return Err(Reject::Exists(error));
        }
        if all.contains_key(&id) {
            return Err(Reject::Exists(format!("there is an access token with the id `{id}` already")));
        }
        if let Credential::Certificate { name, .. } = &credential
            && let Some((known, record)) = all.iter().find(|(_, record)| record.certificate() == Some(name))
        {
            if is_live(record) {
                let other = &record.name;
                let error = format!(
                    "the certificate `{name}` belongs to `{other}` already: {known}; revoke that first"
                );
                return Err(Reject::Exists(error));
            }
            let known = known.clone();
            self.access.tokens.all.remove(&known);
            self.batch.remove_token(&known);
        }
        if self.access.tokens.key.is_none() {
            self.batch.put_session_key(&key);
            self.access.tokens.key = Some(key);
        }
        let created_at = self.clock.now();
        let record =
            TokenRecord { name, role, grants, credential, created_at, created_by, expires_at, used_on: 0 };
        Ok(self.put_token(id, record))
    }

    /// Stores a token, and has everybody told.
    fn put_token(&mut self, id: TokenId, record: TokenRecord) -> Arc<TokenRecord> {
        self.batch.put_token(&id, &record);
        self.access.is_news = true;
        let record = Arc::new(record);
        self.access.tokens.all.insert(id, record.clone());
        record
    }

    pub(in crate::engine) fn rotate_token(
        &mut self,
        rotate: RotateToken,
    ) -> Result<Arc<TokenRecord>, Reject> {
        let RotateToken { id, digest, overlap_ms } = rotate;
        let record = self.access.tokens.all.get(&id).ok_or_else(|| missing(&id))?;
        let until = self.clock.now().saturating_add(overlap_ms);
        let Credential::Secret { digest: replaced, .. } = record.credential else {
            let error = format!(
                "{id} is known by its certificate, and has no secret to replace; renew the certificate"
            );
            return Err(Reject::NotAllowed(error));
        };
        let old = (overlap_ms > 0).then_some(OldSecret { digest: replaced, until });
        let credential = Credential::Secret { digest, old };
        let record = TokenRecord { credential, ..TokenRecord::clone(record) };
        Ok(self.put_token(id, record))
    }

    /// Ends an access token. Returns it as it was.
    pub(in crate::engine) fn revoke_token(&mut self, id: &TokenId) -> Result<Arc<TokenRecord>, Reject> {
        let all = &mut self.access.tokens.all;
        let record = all.get(id).filter(|record| record.revoked_at().is_none()).ok_or_else(|| missing(id))?;
        let before = record.clone();
        let mut record = TokenRecord::clone(record);
        if let Credential::Certificate { revoked_at, .. } = &mut record.credential {
            *revoked_at = Some(self.clock.now());
            record.grants.clear();
            self.put_token(id.clone(), record);
            return Ok(before);
        }
        all.remove(id);
        self.batch.remove_token(id);
        self.access.is_news = true;
        Ok(before)
    }

    /// Notes when tokens were used. Nobody is told: those who check them know.
    pub(in crate::engine) fn use_tokens(&mut self, uses: &[(TokenId, u32)]) {
        for (id, day) in uses {
            if let Some(record) = self.access.tokens.all.get_mut(id).filter(|record| record.used_on < *day) {
                Arc::make_mut(record).used_on = *day;
                self.batch.put_token(id, record);
            }
        }
    }
}
