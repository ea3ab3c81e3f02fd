//! Access tokens: whoever was let in by an answer is let in after a crash, and whoever was shut out stays out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use protocol::access::{CertificateName, Grant, TokenId};
use protocol::name::TokenName;

use super::act::Act;
use super::ledger::Ledger;
use super::model::Model;
use super::profile::one;
use super::world::World;
use crate::access::{Credential, Digest, OldSecret, TokenRecord};
use crate::engine::command::access::{
    CreateToken, ListTokens, NewToken, RevokeToken, RotateToken, UseTokens,
};
use crate::engine::command::{Command, Reject, Reply};
use crate::run::turn::Answer;

/// What sessions are signed with, whoever brings a key.
const KEY: [u8; 32] = [7; 32];

/// A change to access tokens.
#[derive(Debug, Clone)]
pub(super) enum TokenAct {
    Create(NewToken),
    Rotate { id: TokenId, digest: Digest, overlap_ms: u64 },
    Revoke(TokenId),
    Use(TokenId, u32),
    List,
}

impl TokenAct {
    pub(super) fn command(self) -> Command {
        match self {
            Self::Create(new) => CreateToken(new.into()).into(),
            Self::Rotate { id, digest, overlap_ms } => RotateToken { id, digest, overlap_ms }.into(),
            Self::Revoke(id) => RevokeToken(id).into(),
            Self::Use(id, day) => UseTokens(vec![(id, day)]).into(),
            Self::List => ListTokens.into(),
        }
    }
}

impl Model {
    /// Carries out a change of access tokens and checks its answer.
    pub(super) fn token(&mut self, act: &TokenAct, answer: &Answer) -> Result<()> {
        match act {
            TokenAct::Create(new) => return self.create(new, answer),
            TokenAct::Rotate { id, digest, overlap_ms } => {
                return self.rotate(id, *digest, *overlap_ms, answer);
            }
            TokenAct::Revoke(id) => return self.revoke(id, answer),
            TokenAct::Use(id, day) => {
                if let Some(record) = self.tokens.all.get_mut(id) {
                    let record = Arc::make_mut(record);
                    record.used_on = record.used_on.max(*day);
                }
            }
            TokenAct::List => {
                let Ok(Reply::ListTokens(all)) = answer else { bail!("answered {answer:?}") };
                ensure!(**all == self.tokens, "the tokens should be {:?}, not {all:?}", self.tokens);
            }
        }
        Ok(())
    }

    fn create(&mut self, new: &NewToken, answer: &Answer) -> Result<()> {
        let certificate = match &new.credential {
            Credential::Certificate { name, .. } => Some(name),
            Credential::Secret { .. } => None,
        };
        let is_same = |record: &TokenRecord| certificate.is_some() && record.certificate() == certificate;
        let is_taken = |record: &TokenRecord| {
            record.revoked_at().is_none() && (record.name == new.name || is_same(record))
        };
        if self.tokens.all.values().any(|record| is_taken(record)) {
            ensure!(matches!(answer, Err(Reject::Exists(_))), "the name is taken: {answer:?}");
            return Ok(());
        }
        self.tokens.all.retain(|_, record| !is_same(record));
        self.tokens.key = Some(KEY);
        let NewToken { id, name, role, grants, credential, created_by, expires_at, key: _ } = new.clone();
        let (used_on, created_at) = (0, self.now);
        let made =
            TokenRecord { name, role, grants, credential, created_at, created_by, expires_at, used_on };
        self.made(&id, made, answer)
    }

    fn rotate(&mut self, id: &TokenId, digest: Digest, overlap_ms: u64, answer: &Answer) -> Result<()> {
        let Some(record) = self.tokens.all.get(id) else {
            ensure!(matches!(answer, Err(Reject::Missing(_))), "there is none: {answer:?}");
            return Ok(());
        };
        let Credential::Secret { digest: replaced, .. } = record.credential else {
            ensure!(matches!(answer, Err(Reject::NotAllowed(_))), "it has no secret: {answer:?}");
            return Ok(());
        };
        let old = OldSecret { digest: replaced, until: self.now + overlap_ms };
        let credential = Credential::Secret { digest, old: (overlap_ms > 0).then_some(old) };
        let made = TokenRecord { credential, ..TokenRecord::clone(record) };
        self.made(id, made, answer)
    }

    fn made(&mut self, id: &TokenId, expected: TokenRecord, answer: &Answer) -> Result<()> {
        let Ok(Reply::CreateToken(record) | Reply::RotateToken(record)) = answer else {
            bail!("{expected:?} was answered {answer:?}");
        };
        ensure!(**record == expected, "it should be {expected:?}, not {record:?}");
        self.tokens.all.insert(id.clone(), record.clone());
        Ok(())
    }

    fn revoke(&mut self, id: &TokenId, answer: &Answer) -> Result<()> {
        let record = self.tokens.all.get(id).filter(|record| record.revoked_at().is_none()).cloned();
        let Some(record) = record else {
            ensure!(matches!(answer, Err(Reject::Missing(_))), "there is none: {answer:?}");
            return Ok(());
        };
        let Ok(Reply::RevokeToken(before)) = answer else { bail!("answered {answer:?}") };
        ensure!(*before == record, "it was {record:?}, not {before:?}");
        self.tokens.all.remove(id);
        if let Some(name) = record.certificate() {
            // It must stay out, and not become one that nobody knows.
            let credential = Credential::Certificate { name: name.clone(), revoked_at: Some(self.now) };
            let record = TokenRecord { credential, grants: Vec::new(), ..TokenRecord::clone(&record) };
            self.tokens.all.insert(id.clone(), record.into());
        }
        Ok(())
    }

    /// Takes in, after a crash within a turn, which of the changes were made.
    pub(super) fn adopt_tokens(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let changes = acts.iter().any(|act| matches!(act, Act::Token(_)));
        ensure!(changes || ledger.tokens == self.tokens, "nobody has changed {:?}", self.tokens);
        self.tokens = ledger.tokens.clone();
        Ok(())
    }
}

impl World {
    pub(super) fn token_act(&mut self, rng: &mut Rng) -> Act {
        let id = TokenId::new(rng.u64(..4));
        let digest = Digest::of(&rng.u64(..).to_string());
        let secret = Credential::Secret { digest, old: None };
        let certificate =
            |name: &str| Credential::Certificate { name: name.parse().unwrap(), revoked_at: None };
        Act::Token(match rng.u32(..10) {
            0..4 => TokenAct::Create(NewToken {
                id: TokenId::new(rng.u64(..1 << 40)),
                name: TokenName::new(one(rng, &["a", "b", "c"])).unwrap(),
                role: None,
                grants: vec!["read:q*".parse::<Grant>().unwrap()],
                credential: match rng.u32(..4) {
                    0 => certificate("CN=a"),
                    1 => certificate("CN=b"),
                    _ => secret,
                },
                created_by: "simulation".to_owned(),
                expires_at: one(rng, &[None, Some(self.wall + 1_000)]),
                key: KEY,
            }),
            4 | 5 => {
                TokenAct::Rotate { id: self.known_token(id, rng), digest, overlap_ms: one(rng, &[0, 60_000]) }
            }
            6 | 7 => TokenAct::Revoke(self.known_token(id, rng)),
            8 => TokenAct::Use(self.known_token(id, rng), rng.u32(1..30_000)),
            _ => TokenAct::List,
        })
    }

    /// One of the tokens that there are, mostly.
    fn known_token(&self, other: TokenId, rng: &mut Rng) -> TokenId {
        let all: Vec<&TokenId> = self.model.tokens.all.keys().collect();
        if all.is_empty() || rng.u32(..10) == 0 { other } else { one(rng, &all).clone() }
    }

    /// Checks that those who let callers in know of every change as soon as it is answered.
    pub(super) fn check_published(&self) -> Result<()> {
        let (known, all) = (self.core.access().digests(), &self.model.tokens.all);
        let digests = |record: &Arc<TokenRecord>| match record.credential {
            Credential::Secret { digest, old } => [Some(digest), old.map(|old| old.digest)],
            Credential::Certificate { .. } => [None, None],
        };
        let expected: BTreeSet<Digest> = all.values().flat_map(digests).flatten().collect();
        ensure!(known == expected, "let in are {known:?}, not {expected:?}");
        let known = self.core.access().certificates();
        let of_record =
            |record: &Arc<TokenRecord>| Some((record.certificate()?.clone(), record.revoked_at().is_some()));
        let expected: BTreeMap<CertificateName, bool> = all.values().filter_map(of_record).collect();
        ensure!(known == expected, "known and revoked are {known:?}, not {expected:?}");
        Ok(())
    }
}
