//! Calls that are carried out once, as the model sees them: the second call gets the answer of the first.

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use protocol::encode;
use protocol::enqueue::NewJob;
use protocol::media::Format;

use super::act::Act;
use super::ledger::Ledger;
use super::model::Model;
use super::model::enqueued;
use super::profile::{chance, one};
use super::world::World;
use crate::engine::command::jobs::Enqueued;
use crate::engine::command::once::{Once, Repeated};
use crate::engine::command::{Reject, Reply};
use crate::run::turn::Answer;
use crate::store::Snapshot;
use crate::store::view;

/// The most answers that are kept, and the most bytes that they take.
const MAX: usize = 8;
const MAX_BYTES: usize = 20_000;
/// The answer to a large bulk weighs more than this, in bytes.
const LARGE: usize = 2_000;
/// How long they are kept, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// An answer that is kept: its key, the fingerprint of its call, and its jobs in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    key: String,
    fingerprint: u128,
    text: String,
    at: u64,
    /// When it was given, by the clock that never steps; a store does not know this.
    since: u64,
}

impl Kept {
    fn as_stored(&self) -> Self {
        Self { since: 0, ..self.clone() }
    }
}

fn text(jobs: &[Enqueued]) -> String {
    let mut texts = Vec::new();
    for job in jobs {
        let mut text = Vec::new();
        encode::write_job(&mut text, Format::Json, &job.view(), None);
        texts.push(String::from_utf8_lossy(&text).into_owned());
    }
    texts.join(",")
}

/// Returns the answers in a store, in the order of their keys.
pub(super) fn stored(snapshot: &impl Snapshot) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for (key, record) in view::answers(snapshot)? {
        let Some(parts) = view::answer(snapshot, &key, record.parts)? else { bail!("{key} lacks a part") };
        let text = String::from_utf8(parts.concat())?;
        let kept =
            Kept { key: key.to_string(), fingerprint: record.fingerprint, text, at: record.at, since: 0 };
        ensure!(kept.text.len() == record.bytes, "{kept:?} is {record:?}");
        all.push(kept);
    }
    Ok(all)
}

impl Model {
    pub(super) fn once(&mut self, once: &Once, jobs: &[NewJob], answer: &Answer) -> Result<()> {
        let Some(kept) = self.answers.iter().find(|kept| kept.key == *once.key) else {
            self.enqueue(jobs, answer)?;
            if let Some(jobs) = enqueued(answer) {
                let (key, fingerprint, at) = (once.key.to_string(), once.fingerprint, self.now);
                self.answers.push(Kept { key, fingerprint, text: text(jobs), at, since: self.up });
            }
            return Ok(());
        };
        if kept.fingerprint != once.fingerprint {
            ensure!(matches!(answer, Err(Reject::KeyReused(_))), "it is another call, but: {answer:?}");
            return Ok(());
        }
        let Ok(Reply::Again(Repeated { jobs, .. })) = answer else { bail!("answered {answer:?}") };
        ensure!(jobs.concat() == kept.text.as_bytes(), "answered {answer:?} instead of {kept:?}");
        Ok(())
    }

    pub(super) fn forget_answers(&mut self) {
        let bytes = |all: &[Kept]| all.iter().map(|kept| kept.text.len()).sum::<usize>();
        let up = self.up;
        let is_old = |all: &[Kept]| all.first().is_some_and(|kept| kept.since + DAY_MS <= up);
        while self.answers.len() > MAX || is_old(&self.answers) {
            self.answers.remove(0);
        }
        // Large ones make room for large ones; the last may be asked for now.
        while let [others @ .., _] = &self.answers[..]
            && !others.is_empty()
            && bytes(&self.answers) > MAX_BYTES
        {
            let large = others.iter().position(|kept| kept.text.len() > LARGE);
            self.answers.remove(large.unwrap_or(0));
        }
    }

    /// Restores the order in which answers are forgotten after a restart: by their times.
    pub(super) fn restart_answers(&mut self) {
        self.answers.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
        // The wall clock is the only measure of the time when no process ran.
        let (now, up) = (self.now, self.up);
        self.answers.iter_mut().for_each(|kept| kept.since = (up + kept.at.min(now)).saturating_sub(now));
    }

    pub(super) fn compare_answers(&self, ledger: &Ledger) -> Result<()> {
        let mut expected: Vec<Kept> = self.answers.iter().map(Kept::as_stored).collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        ensure!(ledger.answers == expected, "kept should be {expected:?}, not {:?}", ledger.answers);
        Ok(())
    }

    /// Checks answers after a crash within a turn: an answer is kept if and only if its jobs came.
    pub(super) fn adopt_answers(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let is_known = |key: &str| self.answers.iter().any(|kept| kept.key == key);
        for act in acts {
            let Act::Once(once, jobs) = act else { continue };
            if is_known(&once.key) {
                continue;
            }
            let came = jobs.iter().any(|job| ledger.jobs.values().any(|other| other.payload == job.payload));
            let is_kept = ledger.answers.iter().any(|kept| kept.key == *once.key);
            ensure!(!came || is_kept, "{act} came, and its answer did not");
        }
        let new = ledger.answers.iter().filter(|kept| !is_known(&kept.key)).cloned().collect::<Vec<_>>();
        for kept in &new {
            let asked = acts.iter().any(|act| matches!(act, Act::Once(once, _) if *once.key == kept.key));
            ensure!(asked, "no act asked for {kept:?}");
        }
        self.answers.retain(|kept| ledger.answers.contains(&kept.as_stored()));
        self.answers.extend(new);
        Ok(())
    }
}

impl World {
    pub(super) fn once_act(&mut self, rng: &mut Rng) -> Act {
        let jobs: Vec<NewJob> = (0..rng.usize(..4)).map(|_| self.new_job(rng)).collect();
        let again = self.onces.get(rng.usize(..self.onces.len().max(1))).cloned();
        let once = match again {
            Some(once) if chance(rng, 50) => once,
            Some(once) if chance(rng, 15) => Once { fingerprint: rng.u128(..), ..once },
            _ => {
                self.serial += 1;
                let key = format!("{} {}", one(rng, &["once", "call"]), self.serial);
                Once { key: key.into(), fingerprint: rng.u128(..) }
            }
        };
        self.onces.push(once.clone());
        if self.onces.len() > 12 {
            self.onces.remove(0);
        }
        Act::Once(once, jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::scenarios::quiet;
    use crate::store::Store;

    fn call(world: &mut World, key: &str, jobs: usize) {
        let jobs = (0..jobs).map(|_| world.plain_job()).collect();
        let once = Once { key: key.into(), fingerprint: key.bytes().map(u128::from).sum() };
        world.pass(1);
        world.turn(vec![Act::Once(once, jobs)]).unwrap();
    }

    /// Returns the keys of what is stored, and how many bytes that is.
    fn kept(world: &World) -> (String, usize) {
        let all = stored(&world.core.store().snapshot()).unwrap();
        (all.iter().map(|kept| &*kept.key).collect(), all.iter().map(|kept| kept.text.len()).sum())
    }

    #[test]
    fn large_answers_make_room_for_large_ones_oldest_first() {
        let mut world = quiet();
        call(&mut world, "a", 1);
        let (_, job) = kept(&world);
        // Three of them fit, and no fourth.
        let large = 6_000 / job;
        for (key, left) in [("b", "ab"), ("c", "abc"), ("d", "abcd"), ("e", "acde"), ("f", "adef")] {
            call(&mut world, key, large);
            assert_eq!(kept(&world).0, left);
        }
        world.crash_now().unwrap();
        call(&mut world, "g", large);
        assert_eq!(kept(&world).0, "aefg", "the order is also known after a restart");
        let jobs = world.model.jobs.len();
        call(&mut world, "a", 1);
        assert_eq!((&*kept(&world).0, world.model.jobs.len()), ("aefg", jobs), "it is still known");
        call(&mut world, "b", large);
        assert_eq!((&*kept(&world).0, world.model.jobs.len()), ("abfg", jobs + large), "it was forgotten");
        call(&mut world, "h", large);
        assert_eq!(kept(&world).0, "abgh", "what was carried out again is young");

        // Alone it weighs more than all may together: it is kept as long as it is the last.
        call(&mut world, "i", 4 * large);
        let (keys, bytes) = kept(&world);
        assert!(keys == "i" && bytes > MAX_BYTES, "{keys}: {bytes}");
        world.crash_now().unwrap();
        assert_eq!(kept(&world).0, "i");
        for (key, left) in ["j", "k", "l", "m", "n", "o", "p", "q", "r"].into_iter().zip(1..) {
            call(&mut world, key, 1);
            let (keys, bytes) = kept(&world);
            assert!(
                keys.len() == left.min(MAX) && keys.ends_with(key) && bytes <= MAX_BYTES,
                "{keys}: {bytes}"
            );
        }
        assert_eq!(kept(&world).0, "klmnopqr");
    }
}
