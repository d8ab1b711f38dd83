//! What a judge knows: what boards say when asked, and who truly believes to be master.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::id::NodeId;
use hedgerow::proto::io::StatusView;
use hedgerow::proto::table::Row;

use crate::queue::BoardIndex;
use crate::service::Point;
use crate::time::Nanos;

/// What a judge is told.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The answers of running boards to `Status`; none where a board did not answer.
    pub views: BTreeMap<BoardIndex, Option<StatusView>>,
    /// Boards whose ticket is no good.
    pub strangers: BTreeSet<BoardIndex>,
    /// Publications that each board has told its applications of.
    pub told: BTreeMap<BoardIndex, u64>,
    /// Identities that an operator has revoked: who came later never heard of them.
    pub revoked: BTreeSet<NodeId>,
    /// The identity of each board now.
    pub ids: Vec<NodeId>,
    /// Boards that were suspected or taken for dead while their process existed.
    pub blamed: Vec<Blame>,
    /// Everyone who believes to be master, as the world knows it.
    pub masters: Vec<Master>,
    /// Every service of the plan, as the world knows it.
    pub services: BTreeMap<String, ServiceEvidence>,
    /// Boards that are drained or leaving by the newest table that any running board has, in order.
    pub drained: Vec<NodeId>,
    /// True time, ns.
    pub now: Nanos,
}

/// A service, as the world knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceEvidence {
    /// Where a container of it runs, and under which right.
    pub runs: Vec<(BoardIndex, u64)>,
    /// Its row in the newest table that any running board has.
    pub row: Option<Row>,
    /// Boards that keep a state of it.
    pub kept_by: Vec<BoardIndex>,
    /// What became of it so far.
    pub record: ServiceRecord,
}

/// What became of a service so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceRecord {
    /// Rights under which it ran.
    pub epochs: BTreeSet<u64>,
    /// The longest time that it did not run since it began first, ns; not counting the present.
    pub longest_gap: Nanos,
    /// Since when it does not run, if it has ever run and does not now.
    pub down_since: Option<Nanos>,
    /// Commits that its client was told to be kept.
    pub commits: u64,
    /// How often it began from less than there was because an operator wanted that.
    pub set_back: u64,
    /// What an operator was answered: the codes of refusals, and `done`.
    pub answers: BTreeSet<String>,
    /// Beginnings for which an operator answers, that have not happened yet.
    pub forgiven: BTreeSet<(BoardIndex, Option<Point>)>,
}

impl ServiceRecord {
    /// It runs again.
    pub fn is_back(&mut self, now: Nanos) {
        if let Some(since) = self.down_since.take() {
            self.longest_gap = self.longest_gap.max(now - since);
        }
    }
}

/// A board that believes to be master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Master {
    /// Which.
    pub board: BoardIndex,
    /// Its identity.
    pub id: NodeId,
    /// Who decides by its table.
    pub voters: BTreeSet<NodeId>,
    /// No change of them is under way.
    pub settled: bool,
}

/// A board with an existing process was suspected, or taken for dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blame {
    /// Who said so.
    pub by: BoardIndex,
    /// Of whom.
    pub who: BoardIndex,
    /// Taken for dead, not only suspected.
    pub down: bool,
    /// It ran, unpaused, and packets passed between the two.
    pub falsely: bool,
}

impl Evidence {
    /// Running members in groups that no knowledge of each other's present identity connects.
    pub fn islands(&self) -> Vec<Vec<BoardIndex>> {
        self.islands_by(|a, b| !matches!(self.state(b, a), Ok("unknown" | "left") | Err(_)))
    }

    /// Running members in groups that nothing connects which one `knows` of another.
    pub(crate) fn islands_by(
        &self,
        knows: impl Fn(BoardIndex, BoardIndex) -> bool,
    ) -> Vec<Vec<BoardIndex>> {
        let mut islands: Vec<Vec<BoardIndex>> = Vec::new();
        for board in self.members() {
            let touches = |island: &Vec<BoardIndex>| {
                island.iter().any(|other| knows(board, *other) || knows(*other, board))
            };
            let (touched, mut apart): (Vec<_>, Vec<_>) = islands.into_iter().partition(touches);
            let mut island = touched.concat();
            island.push(board);
            apart.push(island);
            islands = apart;
        }
        islands
    }

    pub(crate) fn nobody(&self, is_blamed: impl Fn(&Blame) -> bool) -> Result<(), String> {
        match self.blamed.iter().find(|blame| is_blamed(blame)) {
            None => Ok(()),
            Some(Blame { by, who, down: true, .. }) => Err(format!("n{by} took n{who} for dead")),
            Some(Blame { by, who, .. }) => Err(format!("n{by} suspected n{who}")),
        }
    }

    /// The one that reigns.
    ///
    /// # Errors
    /// Nobody does, or several do.
    pub fn master(&self) -> Result<&Master, String> {
        match self.masters.as_slice() {
            [master] => Ok(master),
            [] => Err("nobody reigns".to_owned()),
            [a, b, ..] => Err(format!("n{} and n{} both reign", a.board, b.board)),
        }
    }

    pub(crate) fn one_master(&self) -> Result<(), String> {
        let master = self.master()?;
        for by in self.members() {
            let named = self.view(by)?.master.as_ref().map(|master| master.node);
            if named != Some(master.id) {
                let named = named.map_or_else(|| "nobody".to_owned(), |id| id.short());
                return Err(format!("n{by} names {named} as master, which is n{}", master.board));
            }
        }
        Ok(())
    }

    pub(crate) fn voters(&self, nodes: &[BoardIndex]) -> Result<(), String> {
        let master = self.master()?;
        let wanted: BTreeSet<NodeId> =
            nodes.iter().map(|board| self.ids[usize::from(*board)]).collect();
        if master.settled && master.voters == wanted {
            return Ok(());
        }
        let number = |id| self.ids.iter().position(|known| known == id);
        let are: Vec<Option<usize>> = master.voters.iter().map(number).collect();
        Err(format!("the voters of n{} are {are:?}, settled: {}", master.board, master.settled))
    }

    pub(crate) fn service(&self, name: &str) -> Result<&ServiceEvidence, String> {
        self.services.get(name).ok_or_else(|| format!("there is no service {name}"))
    }

    pub(crate) fn runs_on(&self, name: &str, node: BoardIndex) -> Result<(), String> {
        let service = self.service(name)?;
        let row = service.row.as_ref().ok_or("no table has a row for it")?;
        match service.runs.as_slice() {
            [(board, epoch)] if *board == node && *epoch == row.epoch.0 => Ok(()),
            runs => Err(format!("(board, epoch) it runs: {runs:?}; its right is {}", row.epoch.0)),
        }
    }

    pub(crate) fn runs_nowhere(&self, name: &str) -> Result<(), String> {
        match self.service(name)?.runs.first() {
            None => Ok(()),
            Some((board, _)) => Err(format!("it runs on n{board}")),
        }
    }

    pub(crate) fn roles(
        &self,
        name: &str,
        active: BoardIndex,
        standby: Option<BoardIndex>,
        ready: bool,
    ) -> Result<(), String> {
        let row = self.service(name)?.row.as_ref().ok_or("no table has a row for it")?;
        let id = |board: BoardIndex| self.ids[usize::from(board)];
        let is = row.active == id(active) && row.standby == standby.map(id) && row.ready == ready;
        let number = |node: &NodeId| self.ids.iter().position(|id| id == node);
        let (is_active, is_standby) = (number(&row.active), row.standby.as_ref().map(number));
        let (fill, ready) = (row.fill.as_ref().map(number), row.ready);
        if is {
            return Ok(());
        }
        Err(format!("active {is_active:?}, standby {is_standby:?}, fill {fill:?}, ready {ready}"))
    }

    /// The longest time that a service was down, the present included.
    pub(crate) fn longest_gap(&self, name: &str) -> Result<Nanos, String> {
        let record = &self.service(name)?.record;
        let present = record.down_since.map_or(0, |since| self.now - since);
        Ok(record.longest_gap.max(present))
    }

    /// Running boards whose ticket is good.
    pub fn members(&self) -> impl Iterator<Item = BoardIndex> + '_ {
        self.views.keys().copied().filter(|board| !self.strangers.contains(board))
    }

    pub(crate) fn view(&self, board: BoardIndex) -> Result<&StatusView, String> {
        match self.views.get(&board) {
            Some(Some(view)) => Ok(view),
            Some(None) => Err(format!("n{board} did not answer `Status`")),
            None => Err(format!("n{board} is not running")),
        }
    }

    fn state(&self, of: BoardIndex, by: BoardIndex) -> Result<&'static str, String> {
        let id = self.ids[usize::from(of)];
        let line = self.view(by)?.nodes.iter().find(|line| line.node == id);
        Ok(line.map_or("unknown", |line| line.state))
    }

    pub(crate) fn all_up(&self) -> Result<(), String> {
        let members: Vec<BoardIndex> = self.members().collect();
        self.up_between(&members, &members)
    }

    fn up_between(&self, observers: &[BoardIndex], of: &[BoardIndex]) -> Result<(), String> {
        for by in observers {
            for of in of {
                let state = self.state(*of, *by)?;
                if state != "up" {
                    return Err(format!("n{by} has n{of} as {state}, not up"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn each(&self, wanted: &str, of: &[BoardIndex]) -> Result<(), String> {
        for by in self.members().filter(|by| !of.contains(by)) {
            for of in of {
                let state = self.state(*of, by)?;
                if state != wanted {
                    return Err(format!("n{by} has n{of} as {state}, not {wanted}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn up_among(&self, nodes: &[BoardIndex]) -> Result<(), String> {
        self.up_between(nodes, nodes)?;
        for by in nodes {
            for of in (0..self.ids.len() as BoardIndex).filter(|of| !nodes.contains(of)) {
                if self.state(of, *by)? == "up" {
                    return Err(format!("n{by} has n{of} as up"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn unknown(&self, node: BoardIndex) -> Result<(), String> {
        for by in self.members().filter(|by| *by != node) {
            let state = self.state(node, by)?;
            if state != "unknown" {
                return Err(format!("n{by} has n{node} as {state}, not unknown"));
            }
        }
        Ok(())
    }

    /// Whether each of these has told its applications of so many publications.
    pub(crate) fn have_told(&self, nodes: &[BoardIndex], at_least: u64) -> Result<(), String> {
        let told = |node: &BoardIndex| self.told.get(node).copied().unwrap_or_default();
        let few = nodes.iter().find(|node| told(node) < at_least);
        few.map_or(Ok(()), |node| Err(format!("n{node} has told of {}", told(node))))
    }

    pub(crate) fn same_view(&self) -> Result<(), String> {
        let mut first: Option<(BoardIndex, View<'_>)> = None;
        for board in self.members() {
            let lines = self.view(board)?.nodes.iter();
            let view: View<'_> = lines
                .filter(|line| !self.revoked.contains(&line.node))
                .map(|line| (line.node, (line.state, line.incarnation)))
                .collect();
            match &first {
                None => first = Some((board, view)),
                Some((other, expected)) if *expected != view => {
                    return Err(difference((*other, expected), (board, &view)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// State and incarnation of everyone.
type View<'a> = BTreeMap<NodeId, (&'a str, u64)>;

fn difference((a, of_a): (BoardIndex, &View<'_>), (b, of_b): (BoardIndex, &View<'_>)) -> String {
    let nodes: BTreeSet<&NodeId> = of_a.keys().chain(of_b.keys()).collect();
    let about = nodes.into_iter().find(|node| of_a.get(*node) != of_b.get(*node));
    match about {
        Some(node) => format!(
            "n{a} and n{b} disagree about {}: {:?} and {:?}",
            node.short(),
            of_a.get(node),
            of_b.get(node)
        ),
        None => format!("n{a} and n{b} disagree"),
    }
}
