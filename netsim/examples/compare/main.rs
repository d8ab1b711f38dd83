//! Hedgerow's membership beside foca's (SWIM), on the same links.
//!
//! ```text
//! cargo run --release -p hedgerow-netsim --example compare -- --quick
//! ```
//!
//! prints one table (and each line on stderr as soon as it is measured), which messages our bytes are,
//! and which of the bars that we set ourselves were held:
//!
//! ```text
//! system                N loss trials  median     p99     max never false/node-h    B/s msg/s links   CPU s
//! ours, streams        32   0%      6    3.26    3.63    3.63     0         0.00    119   8.3    12     2.0
//! foca lan, 40 B id    32   0%      6    8.48   11.26   11.26     0         0.00    218   2.1     -     0.1
//! ```
//!
//! foca runs by its own presets, unchanged. `lan` has the probe interval of ours, 1 s; `wan` probes
//! every 5 s and suspects for 30 s · log₁₀ N, which is what its makers advise across the internet.

mod ledger;
mod ours;
mod reach;
mod swim;
mod trial;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Parser;
use hedgerow_netsim::faults::LOSS_PERCENT_MAX;
use hedgerow_netsim::net::datagram::Carrier;
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::scenario::{self, BOARDS_MAX};
use hedgerow_netsim::time::{Nanos, SECOND};

use crate::ours::Mesh;
use crate::swim::{Cluster, LongName, Preset, ShortName};
use crate::trial::{System, Trial};

/// Runs Hedgerow and foca on the same simulated links and prints one table.
#[derive(Parser)]
struct Options {
    /// Sizes of meshes.
    #[arg(long, value_delimiter = ',', default_value = "32,128,512,1024")]
    nodes: Vec<BoardIndex>,
    /// Losses, per cent.
    #[arg(long, value_delimiter = ',', default_value = "0,5,20")]
    loss: Vec<u8>,
    /// Crashes of each cell; otherwise 60, 24, 8 and 6 from small to large meshes.
    #[arg(long)]
    trials: Option<usize>,
    /// A crash that is not known to all after that long counts as never known.
    #[arg(long, default_value = "300s", value_parser = horizon)]
    horizon: Nanos,
    /// Bytes are counted for that long; otherwise for one round of what a system does most rarely, about
    /// a minute.
    #[arg(long, value_parser = horizon)]
    idle: Option<Nanos>,
    /// Datagrams are lost in bursts of this mean length, such as 500ms; only systems on datagrams then.
    #[arg(long, value_parser = horizon)]
    bursts: Option<Nanos>,
    /// Only systems whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Six crashes in meshes of 32 and 128.
    #[arg(long)]
    quick: bool,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Ours(Carrier),
    /// With names of 40 bytes or of 8.
    Foca(Preset, usize),
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) contestant: Contestant,
    pub(crate) boards: BoardIndex,
    pub(crate) loss: u8,
    pub(crate) result: trial::Result,
}

const CONTESTANTS: [Contestant; 5] = [
    Contestant::Ours(Carrier::Streams),
    Contestant::Ours(Carrier::Datagrams),
    Contestant::Foca(Preset::Lan, 40),
    Contestant::Foca(Preset::Lan, 8),
    Contestant::Foca(Preset::Wan, 40),
];

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.quick {
        options.nodes = vec![32, 128];
        options.trials = Some(6);
    }
    if options.nodes.iter().any(|nodes| !(3..=BOARDS_MAX).contains(nodes)) {
        bail!("--nodes: meshes of 3 to {BOARDS_MAX} boards can be compared");
    }
    if options.loss.iter().any(|loss| *loss > LOSS_PERCENT_MAX) {
        bail!("--loss: up to {LOSS_PERCENT_MAX} per cent");
    }
    say(HEAD)?;
    let mut lines = Vec::new();
    for boards in &options.nodes {
        let mut of_this_size: Vec<Line> = Vec::new();
        for contestant in CONTESTANTS.into_iter().filter(|contestant| options.wants(*contestant)) {
            let lines = options.lines(contestant, *boards);
            // For the impatient: large meshes take minutes.
            lines.iter().for_each(|line| eprintln!("{}", line.text()));
            of_this_size.extend(lines);
        }
        // Everybody beside each other.
        of_this_size.sort_by_key(|line| line.loss);
        for line in &of_this_size {
            say(&line.text())?;
        }
        lines.extend(of_this_size);
    }
    say(NOTES)?;
    for line in lines.iter().filter(|line| matches!(line.contestant, Contestant::Ours(_))) {
        say(&line.kinds())?;
    }
    say("")?;
    for line in reach::judge(&lines) {
        say(&line)?;
    }
    Ok(())
}

impl Options {
    fn wants(&self, contestant: Contestant) -> bool {
        let is_wanted = |only: &String| contestant.name().contains(only.as_str());
        let on_streams = contestant == Contestant::Ours(Carrier::Streams);
        self.only.as_ref().is_none_or(is_wanted) && !(on_streams && self.bursts.is_some())
    }

    /// As many meshes as it takes, each through all losses.
    fn lines(&self, contestant: Contestant, boards: BoardIndex) -> Vec<Line> {
        let (crashes, usual) = match boards {
            ..=64 => (1, 60),
            65..=256 => (4, 24),
            257..=512 => (8, 8),
            _ => (6, 6),
        };
        let wanted = self.trials.unwrap_or(usual).max(1);
        let crashes = crashes.min(wanted);
        let mut results = vec![trial::Result::default(); self.loss.len()];
        for mesh in 0..wanted.div_ceil(crashes) as u64 {
            let seed = self.seed * 1000 + mesh;
            let losses = self.loss.clone();
            let (idle, horizon) = (self.idle, self.horizon);
            let trial = Trial { seed, boards, losses, crashes, idle, horizon };
            let one = trial.run(|| contestant.form(seed, boards, self.bursts));
            results.iter_mut().zip(&one).for_each(|(all, one)| all.add(one));
        }
        let line = |(loss, result)| Line { contestant, boards, loss, result };
        self.loss.iter().copied().zip(results).map(line).collect()
    }
}

impl Contestant {
    fn name(self) -> String {
        match self {
            Self::Ours(Carrier::Streams) => "ours, streams".to_owned(),
            Self::Ours(Carrier::Datagrams) => "ours, datagrams".to_owned(),
            Self::Foca(Preset::Lan, bytes) => format!("foca lan, {bytes} B id"),
            Self::Foca(Preset::Wan, bytes) => format!("foca wan, {bytes} B id"),
        }
    }

    fn form(self, seed: u64, boards: BoardIndex, bursts: Option<Nanos>) -> Box<dyn System> {
        match self {
            Self::Ours(carrier) => Box::new(Mesh::new(seed, boards, carrier, bursts)),
            Self::Foca(preset, 8) => {
                Box::new(Cluster::<ShortName>::new(seed, boards, preset, bursts))
            }
            Self::Foca(preset, _) => {
                Box::new(Cluster::<LongName>::new(seed, boards, preset, bursts))
            }
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let result = &self.result;
        let seconds = |at: Option<Nanos>| {
            at.map_or_else(|| "never".to_owned(), |at| format!("{:.2}", at as f64 / SECOND as f64))
        };
        format!(
            "{:<18} {:>4} {:>3}% {:>6} {:>7} {:>7} {:>7} {:>5} {:>12.2} {:>6.0} {:>5.1} {:>5} {:>7.1}",
            self.contestant.name(),
            self.boards,
            self.loss,
            result.known.len(),
            seconds(result.known_by(50)),
            seconds(result.known_by(99)),
            seconds(result.known_by(100)),
            result.never(),
            result.false_per_hour(),
            result.bytes_per_second(),
            result.messages_per_second(),
            match result.most_links {
                0 => "-".to_owned(),
                most => most.to_string(),
            },
            result.cpu.as_secs_f64(),
        )
    }
}

impl Line {
    /// Which messages the bytes are.
    fn kinds(&self) -> String {
        let kinds = self.result.bytes_by_kind().into_iter().take(KINDS_MAX);
        let kinds: Vec<String> = kinds.map(|(kind, each)| format!("{kind} {each:.0}")).collect();
        let name = self.contestant.name();
        format!("B/s of {name}, N={} at {} %: {}", self.boards, self.loss, kinds.join(", "))
    }
}

/// Smaller ones add up to little.
const KINDS_MAX: usize = 7;

fn horizon(text: &str) -> Result<Nanos> {
    scenario::nanos(text).with_context(|| format!("{text}: give a number and a unit, such as 300s"))
}

/// A closed pipe is an end like any other.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

const HEAD: &str = "system                N loss trials  median     p99     max never \
                    false/node-h    B/s msg/s links   CPU s";
const NOTES: &str = "
Times in seconds from the power cut of one board until the last running one holds it for dead.
false/node-h: lives (incarnations, identities) of running boards that somebody held for dead.
B/s, msg/s: sent per board and second while nothing happens; payload only, no headers of UDP, QUIC or TLS.
links: the most peers that a board was connected with meanwhile; boards that decide aside, whose limits are others.
CPU: of the whole cell; at the first loss with forming, ours with codec, signatures and trace hash.
";
