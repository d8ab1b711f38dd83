//! What an operator does to boards and states by hand: `drain`, `undrain`, `checkpoint`, `restore` and
//! `recover`.

use std::str::FromStr;

use hedgerow::proto::bounded::List;
use hedgerow::proto::id::{Epoch, NodeId};
use hedgerow::proto::order::Action;
use hedgerow::proto::table::CheckpointId;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::names::ShortName;
use crate::schema::Done;
use crate::service::operator::order;
use crate::text;
use crate::which;

/// A checkpoint as `why SERVICE` lists it: `EPOCH.NUMBER`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State(CheckpointId);

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a state: write EPOCH.NUMBER as `hedgerow why` lists them");
        let (epoch, seq) = text.split_once('.').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self(CheckpointId { epoch: Epoch(number(epoch)?), seq: number(seq)? }))
    }
}

/// Lets a board host nothing and decide nothing any more, or again.
///
/// # Errors
/// There is no such board, this folder has no operator's key, or the master refuses.
pub(crate) async fn drain(context: &Context, object: &str, drained: bool) -> Outcome {
    let board = which::board(context, object).await?;
    order(context, Action::Drain { node: board.node, drained }).await?;
    let done = if drained { "drained" } else { "undrained" };
    let done = Done { done: done.to_owned(), object: board.name };
    context.show(&done, |done| {
        let sentence = match drained {
            true => format!(
                "{} is being drained: what runs there moves to standbys that are not drained, too, and nothing new is placed there. `{}` says when that is done.",
                done.object,
                context.command("status")
            ),
            false => format!("{} may host and decide again.", done.object),
        };
        text::wrap(&sentence, 2)
    })
}

/// Makes a checkpoint of a service now.
///
/// # Errors
/// There is no such service, this folder has no operator's key, or the master refuses.
pub(crate) async fn checkpoint(context: &Context, name: &ShortName) -> Outcome {
    order(context, Action::Checkpoint(name.to_name())).await?;
    let done = Done { done: "asked".to_owned(), object: name.to_string() };
    context.show(&done, |done| {
        let sentence = format!(
            "The board that runs {0} was asked for a checkpoint; `hedgerow why {0}` on that board lists the states that it keeps.",
            done.object,
        );
        text::wrap(&sentence, 2)
    })
}

/// Starts a service again from a state that its board keeps.
///
/// # Errors
/// As for [`checkpoint`]; or its board has no such state, which shows as a time-out.
pub(crate) async fn restore(context: &Context, name: &ShortName, at: State) -> Outcome {
    order(context, Action::Restore { service: name.to_name(), at: at.0 }).await?;
    let done = Done { done: "restored".to_owned(), object: name.to_string() };
    context.show(&done, |done| {
        let sentence = format!(
            "{0} starts again from state {1}.{2}. The newest state before that is kept: `hedgerow why {0}` on its board lists it.",
            done.object, at.0.epoch.0, at.0.seq,
        );
        text::wrap(&sentence, 2)
    })
}

/// Goes on although boards are gone for good: with one service on the board `from`, or with the whole
/// mesh on this board.
///
/// # Errors
/// As for [`checkpoint`]; or nothing needs to be recovered.
pub(crate) async fn recover(
    context: &Context,
    service: Option<&ShortName>,
    from: Option<&str>,
    dead: &[String],
    force: bool,
) -> Outcome {
    if !force {
        let message = "recovering may lose what only the boards that are gone knew, and two boards may run one service if they are not gone after all. If you are sure, repeat it with --force";
        return Err(Failure::new(Exit::Usage, "not-forced", message.to_owned()));
    }
    let (action, object) = match (service, from) {
        (Some(service), Some(from)) => {
            let from = which::board(context, from).await?.node;
            (Action::Recover { service: service.to_name(), from }, service.to_string())
        }
        (Some(service), None) => {
            let message = format!(
                "say with --from which board is to run {service}: `{}` on each board lists the states that it has",
                context.command(&format!("why {service}"))
            );
            return Err(Failure::new(Exit::Usage, "no-source", message));
        }
        (None, _) => {
            let mut gone: Vec<NodeId> = Vec::new();
            for board in dead {
                gone.push(which::board(context, board).await?.node);
            }
            (Action::RecoverMesh { dead: List::capped(gone) }, "the mesh".to_owned())
        }
    };
    order(context, action).await?;
    let done = Done { done: "recovered".to_owned(), object };
    context.show(&done, |done| {
        let sentence = format!(
            "{} is recovered by force. What goes on takes up to ten seconds to do so; `{}` shows it.",
            done.object,
            context.command("status")
        );
        text::wrap(&sentence, 2)
    })
}
