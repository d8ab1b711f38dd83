//! The command line: what can be typed, and nothing of what it does.
//!
//! Every text here is read by people in a terminal of 80 columns. Values are parsed into the types
//! that the rest works with, so that a wrong one is told before anything has happened.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::exit::{self, Exit, Failure, Outcome};
use crate::names::{Label, Lifetime, PresetName, ShortName};
use crate::upkeep::State;

/// Where `--help` lists the options that every command has.
const GLOBAL: &str = "Options of every command";

/// Keeps services on small edge computers alive without a central server.
///
/// First five minutes: `hedgerow init home --up` on one board, `hedgerow ticket new` beside it, the
/// line that it prints on every other board, then `hedgerow status`. Without a board at hand:
/// `hedgerow demo`.
#[derive(Parser, Debug)]
#[command(name = "hedgerow", version, max_term_width = 80, after_help = exit::table())]
pub(crate) struct Args {
    /// The data folder: one per board.
    ///
    /// Without it: /var/lib/hedgerow for root, else hedgerow in $XDG_DATA_HOME or ~/.local/share.
    #[arg(long, global = true, help_heading = GLOBAL, env = "HEDGEROW_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// How to print: for people, or for programs.
    #[arg(short, long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Log more; twice for every message. HEDGEROW_LOG says it finer.
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    /// Sentences and tables of 80 columns.
    Text,
    /// JSON; `events` prints one value on each line.
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show a whole mesh at work on this computer, with real processes.
    Demo(DemoArgs),
    /// Measure on real processes on this computer.
    #[command(hide = true)]
    Trial(TrialArgs),
    /// Found a mesh: make its root key and its first board.
    Init {
        /// What to call the mesh.
        #[arg(value_name = "NAME")]
        mesh: ShortName,
        /// Start the board at once, as `up` does.
        #[arg(long)]
        up: bool,
        #[command(flatten)]
        flags: UpArgs,
    },
    /// Join a mesh with a ticket.
    Join {
        /// The ticket, from `hedge1` to its last character, or `-` to read a line with it from standard input,
        /// so that it stays out of the list of processes.
        #[arg(value_name = "TICKET")]
        ticket: String,
        /// Start the board at once, as `up` does.
        #[arg(long)]
        up: bool,
        #[command(flatten)]
        flags: UpArgs,
    },
    /// Run this board in the foreground until it is stopped or leaves.
    Up(UpArgs),
    /// Show the mesh as this board sees it.
    Status,
    /// List every member with its id, version and addresses.
    Nodes,
    /// Say everything that is known about one board or one service.
    Why {
        /// A service's name, a board's name, or the beginning of a board's id.
        object: String,
    },
    /// Show what has happened.
    Events {
        /// Go on as new things happen.
        #[arg(short, long)]
        follow: bool,
    },
    /// Run a service, or change a running one to what its file says now.
    Run {
        /// The service file (TOML), or `-` to read it from standard input.
        file: PathBuf,
    },
    /// Stop a service; it keeps its place and its state.
    Stop {
        /// The service.
        name: ShortName,
    },
    /// Stop a service and forget it.
    Rm {
        /// The service.
        name: ShortName,
        /// Without waiting until it is known to have stopped: its boards are gone for good.
        #[arg(long)]
        force: bool,
    },
    /// Move a service to its standby, with nothing lost.
    Failover {
        /// The service.
        name: ShortName,
    },
    /// Make a checkpoint of a service now.
    Checkpoint {
        /// The service.
        name: ShortName,
    },
    /// Start a service again from a state that its board keeps.
    Restore {
        /// The service.
        name: ShortName,
        /// The state: EPOCH.NUMBER, as `why NAME` lists them.
        #[arg(long, value_name = "STATE")]
        at: State,
    },
    /// Let a board host and decide nothing any more, before it is switched off.
    Drain {
        /// The board's name, or the beginning of its id.
        board: String,
    },
    /// Let a drained board host and decide again.
    Undrain {
        /// The board's name, or the beginning of its id.
        board: String,
    },
    /// Go on although boards are gone for good: with a service, or with the whole mesh.
    Recover {
        /// The service; without one, the mesh: this board decides alone until others join it.
        service: Option<ShortName>,
        /// The board that is to run the service, from the newest state that it has.
        #[arg(long, value_name = "BOARD")]
        from: Option<String>,
        /// A board that is gone for good; for the mesh, once for each of them.
        #[arg(long, value_name = "BOARD")]
        dead: Vec<String>,
        /// You know that those boards will not come back.
        #[arg(long)]
        force: bool,
    },
    /// List what runs, and where.
    Ps,
    /// Print where a service can be reached: host:port and nothing else.
    Resolve {
        /// The service.
        name: ShortName,
        /// Which of its ports, if it has several.
        #[arg(long, value_name = "PORT")]
        port: Option<String>,
    },
    /// Show the output of a service that runs on this board.
    Logs {
        /// The service.
        name: ShortName,
    },
    /// Make, list and revoke tickets.
    #[command(subcommand)]
    Ticket(TicketCommand),
    /// A small key-value store over HTTP, to be run as a service.
    #[command(hide = true)]
    Kv {
        /// The folder of its state.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where to listen on 127.0.0.1.
        #[arg(long)]
        port: u16,
        /// When a write is acknowledged: `async` once it is on this disk, `standby` once another
        /// board holds it too.
        #[arg(long, value_enum, default_value_t = CommitArg::Async)]
        commit: CommitArg,
    },
    /// Leave the mesh on purpose; the board stops.
    ///
    /// Services that run here go to their standbys first, other boards stand by and decide in its place, and
    /// only then it goes. Refused if the mesh needs this board: mostly before anything has moved, after two
    /// minutes at the latest. Ctrl-C ends this command and not what it has begun.
    Leave {
        /// At once, although services may be interrupted or lost, and the other boards may be able to decide
        /// nothing any more.
        #[arg(long)]
        force: bool,
    },
    /// Show the version of this program and of the running board.
    Version,
}

/// How to run a board.
#[derive(clap::Args, Clone, Default, Debug)]
#[command(after_help = "A flag beats its environment variable, that one beats hedgerow.toml in \
                        the data folder, and that one the default.\n")]
pub(crate) struct UpArgs {
    /// What to call this board [default: the host name].
    #[arg(long, env = "HEDGEROW_NAME")]
    pub(crate) name: Option<ShortName>,
    /// Where to listen, a multiaddr; may be given several times
    /// [default: port 4711 on every IPv4 address, QUIC and TCP].
    #[arg(long, env = "HEDGEROW_LISTEN", value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// What to tell others instead of the listening addresses, for instance behind a forwarded port.
    #[arg(long, env = "HEDGEROW_ANNOUNCE", value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) announce: Vec<String>,
    /// Do not look for other boards on the LAN.
    #[arg(
        long,
        env = "HEDGEROW_NO_MDNS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_name = "BOOL"
    )]
    pub(crate) no_mdns: Option<bool>,
    /// A label for placement; may be given several times.
    #[arg(
        long = "label",
        env = "HEDGEROW_LABELS",
        value_delimiter = ',',
        value_name = "KEY=VALUE"
    )]
    pub(crate) labels: Vec<Label>,
    /// How long leases last: `lan` on fast wired paths, `sd` for boards on SD cards, `wan`
    /// everywhere else [default: wan].
    #[arg(long, env = "HEDGEROW_PRESET")]
    pub(crate) preset: Option<PresetName>,
    /// Record everything that happens to this board's core into this new file, for `netsim replay FILE`. It
    /// will hold the board's private key: treat it as such.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<std::path::PathBuf>,
    /// End together with this process, which must be the one that started this board.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<u32>,
}

impl UpArgs {
    /// Looks whether somebody typed a flag that would have no effect: they are about a board that is
    /// started now. What the environment says will count once it is.
    ///
    /// # Errors
    /// One was typed without `--up`.
    pub(crate) fn only_with(&self, up: bool) -> Outcome {
        let typed = |given: bool, variable: &str| given && std::env::var_os(variable).is_none();
        let flags = [
            ("--name", typed(self.name.is_some(), "HEDGEROW_NAME")),
            ("--listen", typed(!self.listen.is_empty(), "HEDGEROW_LISTEN")),
            ("--announce", typed(!self.announce.is_empty(), "HEDGEROW_ANNOUNCE")),
            ("--no-mdns", typed(self.no_mdns.is_some(), "HEDGEROW_NO_MDNS")),
            ("--label", typed(!self.labels.is_empty(), "HEDGEROW_LABELS")),
            ("--preset", typed(self.preset.is_some(), "HEDGEROW_PRESET")),
            ("--record", self.record.is_some()),
        ];
        match flags.iter().find(|(_, typed)| *typed && !up) {
            None => Ok(()),
            Some((flag, _)) => {
                let message = format!(
                    "{flag} is about a board that is started: add --up, or give it to `hedgerow up` \
                     later, or write it into hedgerow.toml in the data folder"
                );
                Err(Failure::new(Exit::Usage, "without-up", message))
            }
        }
    }
}

/// What to do with tickets.
#[derive(Subcommand, Debug)]
pub(crate) enum TicketCommand {
    /// Make a ticket and print the line that joins another board.
    New {
        /// What the holder may become.
        #[arg(long, value_enum, default_value_t = RoleArg::Member)]
        role: RoleArg,
        /// How long it lets boards in: 30m, 24h, 7d, or never.
        #[arg(long, default_value = "7d", value_name = "TIME")]
        expires: Lifetime,
    },
    /// List the tickets that were made in this data folder.
    Ls,
    /// Revoke a ticket, or throw a board out for good.
    Revoke {
        /// The ticket's id or its beginning as `ticket ls` shows it, or the whole ticket.
        #[arg(value_name = "TICKET", required_unless_present = "node")]
        ticket: Option<String>,
        /// A board instead of a ticket: its name or the beginning of its id.
        #[arg(long, value_name = "NODE", conflicts_with = "ticket")]
        node: Option<String>,
    },
}

/// What the holder of a ticket may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    /// A board.
    Member,
    /// A board, or a key that may give commands.
    Operator,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum CommitArg {
    /// Once it is on the disk of the board that runs the service.
    Async,
    /// Once the standby holds it too.
    Standby,
}

impl CommitArg {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Standby => "standby",
        }
    }
}

/// Which mesh to show or to try.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MeshArgs {
    /// How many boards.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=20))]
    pub(crate) nodes: u16,
    /// How long leases last; `sd` on a slow or busy computer.
    #[arg(long, value_enum, default_value_t = PresetName::Lan)]
    pub(crate) preset: PresetName,
    /// Between two copies of the service's state: 500ms, 1s, ...
    #[arg(long, default_value = "1s", value_name = "TIME")]
    pub(crate) every: String,
    /// When the service acknowledges a write: once its own disk has it, or the standby's too.
    #[arg(long, value_enum, default_value_t = CommitArg::Standby)]
    pub(crate) commit: CommitArg,
    /// Makes every choice [default: random].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Keep the boards' folders with their logs.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What to show.
#[derive(clap::Args, Debug)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
}

/// What to try, again and again.
#[derive(clap::Args, Debug)]
pub(crate) struct TrialArgs {
    /// What.
    #[arg(value_enum)]
    pub(crate) kind: TrialKind,
    /// How often.
    #[arg(long, alias = "kills", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
}

/// What can be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TrialKind {
    /// The board that runs the service dies: until the first answer from elsewhere.
    Takeover,
    /// The same at random instants while it is written to: what is lost.
    Commit,
    /// A planned move: for how long nobody answers.
    Move,
    /// Processes are paused and go on: do two services ever answer?
    Pause,
    /// Agents are killed and started again: is anything lost?
    Restarts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_help_fits_the_screen() {
        let mut command = Args::command();
        command.clone().debug_assert();
        // Subcommands inherit the width only now.
        command.build();
        check(&mut command);
    }

    fn check(command: &mut clap::Command) {
        for line in command.render_long_help().to_string().lines() {
            assert!(line.chars().count() <= crate::text::WIDTH, "{line}");
        }
        command.get_subcommands_mut().for_each(check);
    }

    #[test]
    fn the_mdns_switch_can_be_turned_both_ways() {
        let parse = |words: &[&str]| match Args::try_parse_from(words).unwrap().command {
            Command::Up(up) => up.no_mdns,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["hedgerow", "up"]), None);
        assert_eq!(parse(&["hedgerow", "up", "--no-mdns"]), Some(true));
        assert_eq!(parse(&["hedgerow", "up", "--no-mdns=false"]), Some(false));
    }
}
