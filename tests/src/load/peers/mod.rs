//! Other queues beside ours: the same jobs, the same workers, their protocols.

mod dialect;
mod wire;

use std::rc::Rc;

use anyhow::Result;

use super::args::Ack;
use super::template::Template;
use super::worker::{Plan, Shared};
pub(super) use dialect::Dialect;
use dialect::Taken;
pub(super) use wire::Wire;

/// Enqueues jobs, as many as wanted in one write.
#[derive(Debug)]
pub(super) struct Producer {
    wire: Wire,
    dialect: Dialect,
    queue: String,
    payload_bytes: usize,
    template: Template,
}

impl Producer {
    pub(super) async fn open(
        mut wire: Wire,
        dialect: Dialect,
        queue: &str,
        payload_bytes: usize,
        jobs: u32,
    ) -> Result<Self> {
        dialect.choose(&mut wire, queue).await?;
        let template = dialect.puts(queue, payload_bytes, jobs);
        Ok(Self { wire, dialect, queue: queue.to_owned(), payload_bytes, template })
    }

    pub(super) async fn send(&mut self, first: u32, jobs: u32) -> Result<()> {
        if self.template.jobs() != jobs as usize {
            self.template = self.dialect.puts(&self.queue, self.payload_bytes, jobs);
        }
        self.wire.write(self.template.stamp(first)).await?;
        self.dialect.put_answers(&mut self.wire, jobs as usize).await
    }
}

/// A worker: it asks for several jobs at once, and for one patiently when there was none.
pub(super) async fn work(
    mut wire: Wire,
    dialect: Dialect,
    queue: String,
    plan: Plan,
    shared: Rc<Shared>,
) -> Result<()> {
    dialect.choose(&mut wire, &queue).await?;
    let own = format!("{queue}-{:08x}", fastrand::u32(..));
    let mut worker = Worker { wire, dialect, queue, own, plan, shared };
    let mut taken = Vec::new();
    loop {
        // After few jobs there may be few again: asking in vain costs the server something.
        let asks = (2 * taken.len()).clamp(1, plan.prefetch as usize);
        taken = worker.turn(taken, asks).await?;
    }
}

struct Worker {
    wire: Wire,
    dialect: Dialect,
    queue: String,
    /// Where Redis keeps what we have taken.
    own: String,
    plan: Plan,
    shared: Rc<Shared>,
}

impl Worker {
    /// Acks what was taken and takes more.
    async fn turn(&mut self, taken: Vec<Taken>, asks: usize) -> Result<Vec<Taken>> {
        let mut out = Vec::new();
        for job in &taken {
            self.dialect.ack(&mut out, &self.own, job);
            if self.plan.ack == Ack::Single {
                self.wire.write(&out).await?;
                self.acked(1).await?;
                out.clear();
            }
        }
        for _ in 0..asks {
            self.dialect.take(&mut out, &self.queue, &self.own, false);
        }
        self.wire.write(&out).await?;
        if self.plan.ack == Ack::Bulk {
            self.acked(taken.len()).await?;
        }
        let mut more = Vec::with_capacity(asks);
        for _ in 0..asks {
            more.extend(self.taken().await?);
        }
        if more.is_empty() {
            out.clear();
            self.dialect.take(&mut out, &self.queue, &self.own, true);
            self.wire.write(&out).await?;
            more.extend(self.taken().await?);
        }
        Ok(more)
    }

    async fn acked(&mut self, jobs: usize) -> Result<()> {
        for _ in 0..jobs {
            self.dialect.acked(&mut self.wire).await?;
        }
        self.shared.answered(jobs);
        Ok(())
    }

    async fn taken(&mut self) -> Result<Option<Taken>> {
        let taken = self.dialect.taken(&mut self.wire).await?;
        if let Some(job) = &taken {
            self.shared.arrive(job.n);
        }
        Ok(taken)
    }
}
