//! What a script plays with: the boards, who listens to them, who calls the service, what is told.

use std::collections::BTreeSet;
use std::time::Duration;

use super::caller::ledger::Ack;
use super::caller::{Audit, Caller, Plan};
use super::dice::Dice;
use super::ears::Ears;
use super::report::Timeline;
use super::service::NAME;
use super::stage::Stage;
use crate::args::{CommitArg, MeshArgs};
use crate::exit::Outcome;

/// A mesh on this computer and everything around it.
#[derive(Debug)]
pub(super) struct Play {
    // Dropped before the boards: fields are dropped in their order.
    /// Who calls the service.
    pub(super) caller: Caller,
    /// What the boards say.
    pub(super) ears: Ears,
    /// The boards.
    pub(super) stage: Stage,
    /// What is told and measured.
    pub(super) timeline: Timeline,
    /// When the service acknowledges.
    pub(super) commit: CommitArg,
    /// Between two copies of its state, as in its file.
    pub(super) every: String,
    /// Makes the choices.
    pub(super) dice: Dice,
    /// Boards that were killed, ever.
    pub(super) killed: Vec<usize>,
    /// Acknowledged writes that are known to be lost: connection and count.
    pub(super) lost: BTreeSet<(usize, u64)>,
}

/// How the service is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Connections that write at the same time.
    pub(super) connections: usize,
    /// Between two writes of one of them.
    pub(super) every: Duration,
}

impl Play {
    /// Boards that do not run yet; `aloud` tells people what happens.
    ///
    /// # Errors
    /// The folder of the boards cannot be made.
    pub(super) fn new(args: &MeshArgs, seed: u64, load: Load, aloud: bool) -> Outcome<Self> {
        let stage = Stage::new(args, seed)?;
        let timeline = Timeline::new(aloud, args.nodes, seed, args.commit.name());
        let caller = Caller::new(Plan {
            name: NAME,
            homes: stage.homes(),
            file: stage.folder().join("acknowledged.log"),
            connections: load.connections,
            every: load.every,
            patience: stage.bounds.request(),
            read_patience: stage.bounds.question(),
        })?;
        let ears = Ears::new(&stage.homes(), NAME);
        Ok(Self {
            caller,
            ears,
            stage,
            timeline,
            commit: args.commit,
            every: args.every.clone(),
            dice: Dice::new(seed),
            killed: Vec::new(),
            lost: BTreeSet::new(),
        })
    }

    /// Reads back what was acknowledged from the `from`th acknowledgement on, but for what is known to
    /// be lost; what is lost is known from then on.
    ///
    /// # Errors
    /// The service does not give it back in time.
    pub(super) async fn audit(
        &mut self,
        from: usize,
        wanted: impl Fn(&Ack) -> bool,
    ) -> Outcome<Audit> {
        let mut acks = self.caller.ledger().since(from);
        acks.retain(|ack| wanted(ack) && !self.lost.contains(&(ack.connection, ack.count)));
        let audit = self.caller.audit(acks, self.stage.bounds.fill()).await?;
        self.lost.extend(audit.lost.iter().map(|ack| (ack.connection, ack.count)));
        Ok(audit)
    }

    /// Ends every process, removes the folder, and gives what is to be told, with the folder if it was
    /// kept.
    pub(super) fn end(mut self, keep: bool) -> (Timeline, Option<String>) {
        if keep {
            self.stage.keep();
        }
        let kept = keep.then(|| self.stage.folder().display().to_string());
        let Self { caller, ears, stage, timeline, .. } = self;
        drop((caller, ears));
        drop(stage);
        (timeline, kept)
    }
}
