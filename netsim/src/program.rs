//! Programs: real code that boards run where the world would otherwise keep the account of an ideal service.
//!
//! The world says what happens to a program and when; what the program does, it says to the world as a
//! [`Deed`]. Without [`Programs`] every service is an ideal one. The module `hosted`, behind the feature of
//! that name, runs implementations of `hedgerow::hosted::Hosted` behind this trait.

use std::time::Duration;

use hedgerow::proto::io::CommitOutcome;
use hedgerow::proto::machine::Time;
use hedgerow::proto::order::Instance;
use hedgerow::proto::spec::ServiceSpec;
use hedgerow::proto::table::CheckpointId;

use crate::observe::What;
use crate::queue::BoardIndex;
use crate::time::{Clock, Nanos};

/// Where something happens to a program, and when.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// On which board.
    pub board: BoardIndex,
    /// True time.
    pub now: Nanos,
    /// The board's clock.
    pub clock: Clock,
}

/// What a program begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nothing: it is the first.
    First,
    /// What lies in its folder on that board.
    Folder,
    /// A state in the store of that board.
    State(CheckpointId),
}

/// The right under which a program begins.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// Higher than all before it.
    pub epoch: u64,
    /// Until when it may act, by the clock of its board. It may be extended.
    pub until: Time,
    /// So long before that it is told to end.
    pub kill_bound: Duration,
}

/// What a program did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Act {
    /// When, true time.
    pub at: Nanos,
    /// On which board.
    pub board: BoardIndex,
    /// Which.
    pub instance: Instance,
    /// What.
    pub deed: Deed,
}

/// See [`Act`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// It asks for everything up to now to be kept. The number is unique among all programs of a world.
    Commits(u64),
    /// It has ended by itself.
    Ends(Result<(), String>),
}

/// All programs of one world. Of each instance at most one runs on a board.
pub trait Programs {
    /// Whether that service is a program.
    fn are_of(&self, instance: &Instance) -> bool;

    /// What an operator orders where this is one.
    fn declare(&self, spec: &mut ServiceSpec);

    /// One begins.
    ///
    /// # Errors
    /// It cannot be started, and why.
    fn begin(
        &mut self,
        spot: Spot,
        instance: &Instance,
        right: Right,
        origin: Origin,
    ) -> Result<(), String>;

    /// It may act until then.
    fn extend(&mut self, board: BoardIndex, instance: &Instance, until: Time);

    /// It is told to end, if it runs. Whether it does.
    fn fence(&mut self, spot: Spot, instance: &Instance) -> bool;

    /// It goes on, if it stood still.
    fn go_on(&mut self, board: BoardIndex, instance: &Instance);

    /// Its state is written into its folder, if it runs, and what lies there is captured under that name. It
    /// stands still from before then, if it `stays`.
    ///
    /// # Errors
    /// Nothing is captured, and why.
    fn checkpoint(
        &mut self,
        spot: Spot,
        instance: &Instance,
        id: CheckpointId,
        stays: bool,
    ) -> Result<(), String>;

    /// A commit was answered.
    fn answer(
        &mut self,
        board: BoardIndex,
        instance: &Instance,
        ticket: u64,
        outcome: CommitOutcome,
    );

    /// None of its instructions runs from here on. None if it did not run; else whether its last state was
    /// written into its folder just now.
    fn end(&mut self, spot: Spot, instance: &Instance) -> Option<bool>;

    /// Something happened on a board.
    fn see(&mut self, board: BoardIndex, what: &What<'_>);

    /// Lets all of them run from true time `now` to `to`, or until one does something. `clock` has the clocks
    /// of boards whose processes are not paused.
    fn run(
        &mut self,
        now: Nanos,
        to: Nanos,
        clock: &dyn Fn(BoardIndex) -> Option<Clock>,
    ) -> Option<Act>;

    /// Equal for equal runs.
    fn trace(&self) -> [u8; 32];
}
