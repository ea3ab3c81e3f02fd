//! Streams that are open and mostly wait.

use std::rc::Rc;

use anyhow::Result;
use tokio::task::JoinSet;

use super::args::{Idle, On};
use crate::load::check::Faults;
use crate::load::http::Stream;
use crate::load::take;
use crate::load::target::Target;
use crate::load::worker::{Plan, Shared};

/// Queues that idle streams wait for, apart from the one in use.
const OTHER_QUEUES: u32 = 100;

/// Streams on queues without jobs. Nobody reads their heartbeats, which costs us nothing and the server no more.
#[derive(Debug)]
pub(super) struct IdleStreams(Vec<Stream>);

impl IdleStreams {
    /// Opens them. Those on the same queue become workers among the others.
    pub(super) async fn open(
        target: &Target,
        flags: Idle,
        plan: Plan,
        shared: &Rc<Shared>,
        workers: &mut JoinSet<Result<()>>,
    ) -> Result<Self> {
        let mut streams = Vec::new();
        match flags.idle_on {
            On::Same if flags.idle > 0 => {
                let plan = Plan { ack_connections: 4, ..plan };
                take::start(target, &target.queue, (flags.idle, plan), shared, workers).await?;
            }
            On::Same | On::Other => {
                for i in 0..flags.idle {
                    let queues = format!("queue={}-idle-{}&", target.queue, i % OTHER_QUEUES);
                    streams.push(take::open(target, &queues, plan).await?);
                }
            }
        }
        Ok(Self(streams))
    }

    /// Checks that they are open and got no job.
    pub(super) fn check(&mut self, faults: &mut Faults) -> Result<()> {
        for stream in &mut self.0 {
            // Heartbeats, in whatever format, have no member names.
            if memchr::memmem::find(&stream.unread()?, b"payload").is_some() {
                faults.add("a stream got a job of a queue that it did not ask for".to_owned());
            }
        }
        Ok(())
    }
}
