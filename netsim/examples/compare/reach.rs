//! The bars that the design sets for membership, as far as this measures them.

use hedgerow_netsim::net::datagram::Carrier;
use hedgerow_netsim::time::{Nanos, SECOND};

use crate::{Contestant, Line};

/// A bar: its words, where it applies, and whether a line holds it.
struct Bar {
    words: &'static str,
    applies: fn(&Line) -> bool,
    holds: fn(&Line) -> bool,
}

const BARS: [Bar; 7] = [
    Bar {
        words: "one crash known to all: median within 2.5 s at up to 5 % loss",
        applies: |line| line.loss <= 5,
        holds: |line| within(line.result.known_by(50), 25),
    },
    Bar {
        words: "one crash known to all: p99 within 4.5 s at up to 5 % loss",
        applies: |line| line.loss <= 5,
        holds: |line| within(line.result.known_by(99), 45),
    },
    Bar {
        words: "one crash known to all: p99 within 10 s at 20 % loss",
        applies: |line| line.loss == 20,
        holds: |line| within(line.result.known_by(99), 100),
    },
    Bar {
        words: "nobody alive is held for dead",
        applies: |_| true,
        holds: |line| line.result.false_losses == 0,
    },
    Bar {
        words: "at most 200 payload bytes per board and second idle, at up to 5 % loss",
        applies: |line| line.loss <= 5,
        holds: |line| line.result.bytes_per_second() <= 200.0,
    },
    Bar {
        words: "at most 400 payload bytes per board and second idle, at 20 % loss",
        applies: |line| line.loss == 20,
        holds: |line| line.result.bytes_per_second() <= 400.0,
    },
    Bar {
        words: "at most 16 connected peers on a board that does not decide, idle",
        applies: |_| true,
        holds: |line| line.result.most_links <= 16,
    },
];

/// One line for each bar and each of our ways.
pub(crate) fn judge(lines: &[Line]) -> Vec<String> {
    let mut verdicts = Vec::new();
    for (carrier, name) in [(Carrier::Streams, "streams"), (Carrier::Datagrams, "datagrams")] {
        let ours: Vec<&Line> =
            lines.iter().filter(|line| line.contestant == Contestant::Ours(carrier)).collect();
        for bar in BARS {
            let measured: Vec<&&Line> = ours.iter().filter(|line| (bar.applies)(line)).collect();
            let missed: Vec<String> = measured
                .iter()
                .filter(|line| !(bar.holds)(line))
                .map(|line| format!("N={} at {} %", line.boards, line.loss))
                .collect();
            verdicts.extend((!measured.is_empty()).then(|| match missed.is_empty() {
                true => format!("held    {name:<9}  {}", bar.words),
                false => format!("missed  {name:<9}  {}: {}", bar.words, missed.join(", ")),
            }));
        }
        let hours: f64 = ours.iter().map(|line| line.result.node_hours()).sum();
        if !ours.is_empty() {
            verdicts.push(format!("        {name:<9}  {hours:.1} node-hours in all"));
        }
    }
    verdicts
}

fn within(known: Option<Nanos>, tenths: Nanos) -> bool {
    known.is_some_and(|at| at <= tenths * SECOND / 10)
}
