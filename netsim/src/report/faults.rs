//! What a fault looks like in the lanes, and in which words.

use crate::faults::Fault;
use crate::queue::BoardIndex;

fn list(boards: &[BoardIndex]) -> String {
    boards.iter().map(|board| format!("n{board}")).collect::<Vec<_>>().join(" ")
}

/// A fault in a few words.
pub(super) fn spoken(fault: &Fault) -> String {
    match fault {
        Fault::Partition { groups } => {
            let groups: Vec<String> = groups.iter().map(|group| list(group)).collect();
            format!("partition: {}", groups.join(" | "))
        }
        Fault::OneWayCut { from, to } => {
            format!("one-way cut: {} not heard by {}", list(from), list(to))
        }
        Fault::Delay { from, to, ms } => {
            format!("{ms} ms more from {} to {}", list(from), list(to))
        }
        Fault::Jitter { ms } => format!("jitter of {ms} ms"),
        Fault::Bandwidth { node, kbit } => format!("n{node} sends {kbit} kbit/s at most"),
        Fault::Flap { node, ms } => format!("the link of n{node} comes and goes each {ms} ms"),
        Fault::CrashLoop { node, ms } => format!("n{node} crashes {ms} ms after each start"),
        Fault::Stutter { node, ms } => format!("n{node} gets the processor each {ms} ms"),
        Fault::ClockJump { node, seconds } => {
            format!("the wall clock of n{node} jumps by {seconds:+} s")
        }
        Fault::Garbage { node, to } => format!("n{node} speaks nonsense to n{to}"),
        Fault::Oversize { node, to } => format!("n{node} sends too long a message to n{to}"),
        Fault::Truncated { node, to } => format!("n{node} sends half a message to n{to}"),
        Fault::Replay { node, to } => format!("n{node} repeats its last messages to n{to}"),
        Fault::Loss { percent } => format!("{percent} % of segments are lost"),
        Fault::ClockRate { node, ppm } => format!("clock of n{node} errs by {ppm} ppm"),
        Fault::Recover { service, node } => format!("operator: n{node} is to recover {service}"),
        Fault::RecoverMesh { node, dead } => {
            format!("operator: n{node} decides alone, {} are gone", list(dead))
        }
        Fault::Restore { service, back } => format!("operator: {service} back by {back} states"),
        other => match (other.service(), other.boards().as_slice()) {
            (Some(service), _) => format!("operator: {} {service}", other.name()),
            (None, boards) => format!("{} {}", other.name(), list(boards)),
        },
    }
}

/// The lanes that a fault covers: the board, the side of a partition, and what it is there.
pub(super) fn bands(
    fault: &Fault,
    boards: &[BoardIndex],
) -> Vec<(Option<BoardIndex>, String, String)> {
    match fault {
        Fault::Partition { groups } => {
            // A bridge is shown on the first of its sides.
            let side = |board: &BoardIndex| {
                groups.iter().position(|group| group.contains(board)).unwrap_or(groups.len())
            };
            let band = |board: &BoardIndex| {
                let mine = side(board);
                let with = boards.iter().copied().filter(|other| side(other) == mine);
                let with: Vec<BoardIndex> = with.collect();
                (Some(*board), format!("{mine} "), format!("partition: with {}", list(&with)))
            };
            boards.iter().map(band).collect()
        }
        Fault::OneWayCut { from, to } => {
            let deaf = to.iter().map(|board| {
                (Some(*board), "deaf ".to_owned(), format!("does not hear {}", list(from)))
            });
            let mute = from.iter().map(|board| {
                (Some(*board), "mute ".to_owned(), format!("is not heard by {}", list(to)))
            });
            mute.chain(deaf).collect()
        }
        Fault::ClockRate { node, ppm } => {
            vec![(Some(*node), String::new(), format!("clock {ppm:+} ppm"))]
        }
        other => match other.boards().as_slice() {
            [] => vec![(None, String::new(), spoken(other))],
            boards => boards
                .iter()
                .map(|board| (Some(*board), String::new(), other.name().to_owned()))
                .collect(),
        },
    }
}
