//! Unique keys: whether the jobs that have one keep a new job out.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::flow::{Unique, UniqueWhile};
use protocol::id::JobId;

use crate::engine::{Engine, Found};
use crate::job::Job;
use crate::job::tag::Tag;
use crate::store::record::Holder;

impl Engine {
    /// Returns the youngest job that keeps a new one out.
    pub(in crate::engine) fn keeper(&self, unique: &Unique) -> Option<JobId> {
        let keeps_out = |holder: &&Holder| match (holder.purge_at, unique.scope) {
            (Some(at), scope) => scope == UniqueWhile::Exists && at > self.clock.now(),
            (None, UniqueWhile::Queued) => self.leases.get(holder.id).is_none(),
            (None, UniqueWhile::Active | UniqueWhile::Exists) => true,
        };
        let holders = self.tags.holders(&Tag::Unique(unique.key.clone()));
        holders.iter().rev().find(keeps_out).map(|holder| holder.id)
    }

    /// Returns jobs that keep new ones out and are neither in flight nor new themselves.
    pub(in crate::engine) fn keepers_in_store<'a>(
        &self,
        jobs: impl Iterator<Item = &'a NewJob>,
    ) -> impl Iterator<Item = JobId> {
        let uniques = jobs.filter_map(|job| job.flow.as_ref()?.unique.as_ref());
        let keepers = uniques.filter_map(|unique| self.keeper(unique));
        keepers.filter(|id| self.leases.get(*id).is_none() && self.tags.fresh(*id).is_none())
    }

    /// Returns the job that keeps a new one out, and whether it is in flight.
    pub(in crate::engine) fn duplicate_of(&self, unique: &Unique, found: &Found) -> Option<(Arc<Job>, bool)> {
        let id = self.keeper(unique)?;
        if let Some(lease) = self.leases.get(id) {
            return Some((lease.job.clone(), true));
        }
        let fresh = self.tags.fresh(id).cloned();
        fresh.or_else(|| found.get(&id).cloned().map(Arc::new)).map(|job| (job, false))
    }
}
