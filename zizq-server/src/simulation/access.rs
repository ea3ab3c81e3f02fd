//! Access tokens: whoever was let in by an answer is let in after a crash, and whoever was shut out stays out.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use protocol::access::{Grant, TokenId};
use protocol::name::TokenName;

use super::act::Act;
use super::ledger::Ledger;
use super::model::Model;
use super::profile::one;
use super::world::World;
use crate::access::{Digest, OldSecret, TokenRecord};
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
        let now = self.now;
        let expected = match act {
            TokenAct::Create(new) => {
                if self.tokens.all.values().any(|record| record.name == new.name) {
                    ensure!(matches!(answer, Err(Reject::Exists(_))), "the name is taken: {answer:?}");
                    return Ok(());
                }
                let NewToken { name, role, grants, digest, created_by, expires_at, .. } = new.clone();
                self.tokens.key = Some(KEY);
                let (old, used_on, created_at) = (None, 0, now);
                Some(TokenRecord {
                    name,
                    role,
                    grants,
                    digest,
                    old,
                    created_at,
                    created_by,
                    expires_at,
                    used_on,
                })
            }
            TokenAct::Rotate { id, digest, overlap_ms } => self.tokens.all.get(id).map(|record| {
                let old = OldSecret { digest: record.digest, until: now + overlap_ms };
                TokenRecord {
                    digest: *digest,
                    old: (*overlap_ms > 0).then_some(old),
                    ..TokenRecord::clone(record)
                }
            }),
            TokenAct::Revoke(id) => {
                let gone = self.tokens.all.remove(id).is_some();
                ensure!(gone == answer.is_ok(), "{answer:?}");
                return Ok(());
            }
            TokenAct::Use(id, day) => {
                if let Some(record) = self.tokens.all.get_mut(id) {
                    let record = Arc::make_mut(record);
                    record.used_on = record.used_on.max(*day);
                }
                return Ok(());
            }
            TokenAct::List => {
                let Ok(Reply::ListTokens(all)) = answer else { bail!("answered {answer:?}") };
                ensure!(**all == self.tokens, "the tokens should be {:?}, not {all:?}", self.tokens);
                return Ok(());
            }
        };
        let (TokenAct::Create(NewToken { id, .. }) | TokenAct::Rotate { id, .. }) = act else {
            return Ok(());
        };
        match (expected, answer) {
            (Some(expected), Ok(Reply::CreateToken(record) | Reply::RotateToken(record))) => {
                ensure!(**record == expected, "it should be {expected:?}, not {record:?}");
                self.tokens.all.insert(id.clone(), record.clone());
            }
            (None, Err(Reject::Missing(_))) => {}
            (expected, answer) => bail!("{expected:?} was answered {answer:?}"),
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
        Act::Token(match rng.u32(..10) {
            0..4 => TokenAct::Create(NewToken {
                id: TokenId::new(rng.u64(..1 << 40)),
                name: TokenName::new(one(rng, &["a", "b", "c"])).unwrap(),
                role: None,
                grants: vec!["read:q*".parse::<Grant>().unwrap()],
                digest,
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
        let expected: std::collections::BTreeSet<Digest> = all
            .values()
            .flat_map(|record| [Some(record.digest), record.old.map(|old| old.digest)])
            .flatten()
            .collect();
        ensure!(known == expected, "let in are {known:?}, not {expected:?}");
        Ok(())
    }
}
