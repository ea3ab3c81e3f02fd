//! What a command is to those who do not carry it out: which commit mode counts, and whether a full disk refuses it.

use super::budget::BudgetCommand;
use super::command::Command;
use super::cron::CronCommand;

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Brings new jobs: its answer waits for the commit mode of enqueues, and a full disk refuses it.
    Enqueue,
    /// Changes what is stored: its answer waits for the commit mode of everything else.
    Change,
    /// Is about who is connected and holds what at present. A loss of power ends all of that anyway.
    Link,
    /// Changes nothing.
    Ask,
}

impl Command {
    /// The kind of this command. Whoever adds one decides here.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Enqueue(_)
            | Self::EnqueueBulk(_)
            | Self::EnqueueAndWait { .. }
            | Self::Fold(_)
            | Self::RunEntry { .. }
            | Self::Once { .. } => Kind::Enqueue,
            Self::Succeed(_)
            | Self::SucceedWith { .. }
            | Self::Fail { .. }
            | Self::Release(_)
            | Self::Change { .. }
            | Self::Pause { .. }
            | Self::ForgetQueue(_)
            | Self::Reset
            | Self::Stop => Kind::Change,
            Self::Budget(command) => command.kind(),
            Self::Cron(command) => command.kind(),
            Self::Open(_)
            | Self::Close(_)
            | Self::Rest(_)
            | Self::Finish(_)
            | Self::Drained(_)
            | Self::Beat(_)
            | Self::Heartbeat(_)
            | Self::Drain => Kind::Link,
            Self::OpenBatches(_)
            | Self::Attempt(_)
            | Self::Inspect(_)
            | Self::ListInFlight { .. }
            | Self::QueueIds(_)
            | Self::Count { .. }
            | Self::Wait { .. }
            | Self::Unwait { .. }
            | Self::Queues { .. }
            | Self::Workers => Kind::Ask,
        }
    }
}

impl BudgetCommand {
    const fn kind(&self) -> Kind {
        match self {
            Self::Create(..) | Self::Put(..) | Self::Patch(..) | Self::Delete(_) => Kind::Change,
            Self::List | Self::Get(_) => Kind::Ask,
        }
    }
}

impl CronCommand {
    const fn kind(&self) -> Kind {
        match self {
            Self::Put { .. }
            | Self::Patch { .. }
            | Self::Delete(_)
            | Self::DeleteAll
            | Self::Add(..)
            | Self::PutEntry(..)
            | Self::PauseEntry(..)
            | Self::DeleteEntry(..) => Kind::Change,
            Self::List | Self::Get(_) | Self::GetEntry(..) => Kind::Ask,
        }
    }
}
