//! A caller of the service that knows nothing but its name.
//!
//! It asks any living board where the service is, writes over several connections all the time and
//! reads over one more, and keeps account of what was acknowledged. A write that fails is made again, under the same key,
//! wherever the service is by then. In the end everything that was acknowledged is read back.
//!
//! - `call`: boards are asked, the service is called.
//! - `ledger`: the account.

pub(super) mod call;
pub(super) mod ledger;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::dice::Dice;
use crate::exit::{Failure, Outcome};
use call::{Connection, Guide};
use ledger::{Ack, Figures, Ledger};

/// Before another try.
const AGAIN: Duration = Duration::from_millis(10);
/// Connections that read back.
const READERS: usize = 8;
/// The connection of what is written at the beginning, to have something to copy.
const LOAD: usize = 999;
const LOAD_BYTES: usize = 4096;

/// How to call.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The service.
    pub(super) name: &'static str,
    /// Boards with these folders are asked where it is.
    pub(super) homes: Vec<PathBuf>,
    /// Where to keep account.
    pub(super) file: PathBuf,
    /// Connections that write at the same time.
    pub(super) connections: usize,
    /// Between two writes of one connection, if the answer comes sooner.
    pub(super) every: Duration,
    /// For one write.
    pub(super) patience: Duration,
    /// For one read.
    pub(super) read_patience: Duration,
}

/// The writers, while they write.
#[derive(Debug)]
pub(super) struct Caller {
    plan: Plan,
    guide: Arc<Guide>,
    ledger: Arc<Ledger>,
    // Dropping it ends them.
    writers: JoinSet<()>,
}

/// What became of everything that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    /// How many writes were acknowledged.
    pub(super) all: usize,
    /// Those that are not there.
    pub(super) lost: Vec<Ack>,
}

impl Caller {
    /// Keeps account, and does not write yet.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn new(plan: Plan) -> Outcome<Self> {
        let ledger = Ledger::new(plan.file.clone()).map_err(|error| account(&error))?;
        let guide = Arc::new(Guide::new(plan.name, plan.homes.clone()));
        Ok(Self { plan, guide, ledger: Arc::new(ledger), writers: JoinSet::new() })
    }

    /// Who asks the boards.
    pub(super) fn guide(&self) -> &Arc<Guide> {
        &self.guide
    }

    /// The account.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes so many values of 4 KiB, each of them different, to have something to copy. False if
    /// that takes too long.
    pub(super) async fn load(&mut self, values: u64, patience: Duration) -> bool {
        let mut work = JoinSet::new();
        for part in 0..READERS as u64 {
            let (guide, ledger, wait) =
                (self.guide.clone(), self.ledger.clone(), self.plan.patience);
            let counts = (1..=values).filter(move |count| count % READERS as u64 == part);
            work.spawn(async move {
                let mut connection = None;
                for count in counts {
                    while !write_one(&guide, &ledger, &mut connection, (LOAD, count), wait).await {
                        sleep(AGAIN).await;
                    }
                }
            });
        }
        timeout(patience, work.join_all()).await.is_ok()
    }

    /// Begins to write, all the time.
    pub(super) fn start(&mut self) {
        for number in 0..self.plan.connections {
            let (guide, ledger) = (self.guide.clone(), self.ledger.clone());
            self.writers.spawn(write_on(guide, ledger, number, self.plan.clone()));
        }
        let (guide, ledger) = (self.guide.clone(), self.ledger.clone());
        self.writers.spawn(read_on(guide, ledger, self.plan.read_patience));
    }

    /// What happened since then.
    pub(super) fn figures(&self, from_us: u64) -> Figures {
        self.ledger.figures(from_us)
    }

    /// Waits until each connection has had another acknowledgement; false if that takes too long.
    pub(super) async fn goes_on(&self, patience: Duration) -> bool {
        let (begun, from) = (Instant::now(), self.ledger.len());
        while begun.elapsed() < patience {
            let since = self.ledger.since(from);
            if (0..self.plan.connections).all(|it| since.iter().any(|ack| ack.connection == it)) {
                return true;
            }
            sleep(AGAIN).await;
        }
        false
    }

    /// Waits for the first acknowledgement under a later right than `epoch`.
    pub(super) async fn answered_after(&self, epoch: u64, patience: Duration) -> Option<Ack> {
        let begun = Instant::now();
        loop {
            let first = self.ledger.first_after(epoch);
            if first.is_some() || begun.elapsed() > patience {
                return first;
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits for the first answer under a later right than `epoch`; Unix microseconds.
    pub(super) async fn read_after(&self, epoch: u64, patience: Duration) -> Option<u64> {
        let begun = Instant::now();
        loop {
            let first = self.ledger.first_read_after(epoch);
            if first.is_some() || begun.elapsed() > patience {
                return first;
            }
            sleep(AGAIN).await;
        }
    }

    /// Reads these back.
    ///
    /// # Errors
    /// The service does not give them back in time.
    pub(super) async fn audit(&self, acks: Vec<Ack>, patience: Duration) -> Outcome<Audit> {
        let all = acks.len();
        let mut readers = JoinSet::new();
        for part in acks.chunks(all.div_ceil(READERS).max(1)) {
            let (guide, part, wait) = (self.guide.clone(), part.to_vec(), self.plan.patience);
            readers.spawn(async move { missing(&guide, part, wait).await });
        }
        let late = |_| Failure::failed("the service did not give back what was written in time");
        let parts = timeout(patience, readers.join_all()).await.map_err(late)?;
        let mut lost: Vec<Ack> = parts.into_iter().flatten().collect();
        lost.sort_by_key(|ack| ack.at_us);
        Ok(Audit { all, lost })
    }

    /// Ends the writers, and reads back everything that the account on the disk says.
    ///
    /// # Errors
    /// The service cannot be asked, or the account is not whole.
    pub(super) async fn finish(&mut self, patience: Duration) -> Outcome<Audit> {
        self.writers.shutdown().await;
        let empty = self.plan.file.with_extension("end");
        let fresh = Ledger::new(empty).map_err(|error| account(&error))?;
        let ledger = std::mem::replace(&mut self.ledger, Arc::new(fresh));
        let ledger = Arc::try_unwrap(ledger)
            .map_err(|_| Failure::failed("somebody still writes; this is a bug in the harness"))?;
        let acks = ledger.close().map_err(|error| account(&error))?;
        self.audit(acks, patience).await
    }
}

async fn write_on(guide: Arc<Guide>, ledger: Arc<Ledger>, number: usize, plan: Plan) {
    let (mut connection, mut count) = (None, 1);
    let mut tick = interval(plan.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        while !write_one(&guide, &ledger, &mut connection, (number, count), plan.patience).await {
            sleep(AGAIN).await;
        }
        count += 1;
    }
}

/// Reads all the time: an answer needs nobody but the board that runs the service.
async fn read_on(guide: Arc<Guide>, ledger: Arc<Ledger>, patience: Duration) {
    let mut connection: Option<Connection> = None;
    let mut tick = interval(AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if connection.is_none() {
            connection = guide.connect().await;
        }
        let answer = match &mut connection {
            Some(open) => open.call(Method::GET, &key_of(0, 1), Bytes::new(), patience).await,
            None => None,
        };
        match answer {
            Some(it) if matches!(it.status, StatusCode::OK | StatusCode::NOT_FOUND) => {
                ledger.was_read(it.epoch);
            }
            _ => {
                connection = None;
                guide.doubt().await;
            }
        }
    }
}

/// One write; false if it was not acknowledged.
async fn write_one(
    guide: &Guide,
    ledger: &Ledger,
    connection: &mut Option<Connection>,
    (number, count): (usize, u64),
    patience: Duration,
) -> bool {
    if connection.is_none() {
        *connection = guide.connect().await;
    }
    let Some(open) = connection else {
        // Where it was said to be nobody listens any more: somebody else may know better.
        guide.doubt().await;
        return false;
    };
    let (path, body) = (key_of(number, count), value_of(number, count));
    let answer = open.call(Method::PUT, &path, body, patience).await;
    match answer {
        Some(answer) if answer.status == StatusCode::NO_CONTENT => {
            ledger.acknowledged(number, count, answer.epoch);
            true
        }
        _ => {
            ledger.failed();
            *connection = None;
            guide.doubt().await;
            false
        }
    }
}

/// Those that are not there as they were written.
async fn missing(guide: &Guide, acks: Vec<Ack>, patience: Duration) -> Vec<Ack> {
    let mut connection: Option<Connection> = None;
    let mut missing = Vec::new();
    for ack in acks {
        let found = loop {
            if connection.is_none() {
                connection = guide.connect().await;
            }
            if let Some(open) = &mut connection {
                let path = key_of(ack.connection, ack.count);
                match open.call(Method::GET, &path, Bytes::new(), patience).await {
                    Some(answer) if answer.status == StatusCode::OK => break answer.body,
                    Some(answer) if answer.status == StatusCode::NOT_FOUND => break Bytes::new(),
                    _ => connection = None,
                }
            }
            guide.doubt().await;
            sleep(AGAIN).await;
        };
        if found != value_of(ack.connection, ack.count) {
            missing.push(ack);
        }
    }
    missing
}

fn key_of(number: usize, count: u64) -> String {
    format!("/k/caller-{number}-{count}")
}

fn value_of(number: usize, count: u64) -> Bytes {
    if number != LOAD {
        return format!("write {count} of connection {number}").into();
    }
    let mut dice = Dice::new(count);
    let numbers = std::iter::repeat_with(|| dice.next().to_le_bytes());
    numbers.flatten().take(LOAD_BYTES).collect()
}

fn account(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the caller cannot keep account: {error}"))
}
