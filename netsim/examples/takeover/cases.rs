//! The faults: who is struck, how, and what must happen. In the order of the design's table.

use hedgerow_netsim::faults::{Fault, Timed};
use hedgerow_netsim::queue::BoardIndex;
use hedgerow_netsim::seed::Stream;
use hedgerow_netsim::time::{Nanos, SECOND};

use crate::ledger::{Ledger, Roles};

/// The name of the only service.
pub(crate) const SERVICE: &str = "kv";

/// One line of the design's table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How many there are.
    pub(crate) boards: BoardIndex,
    /// Only where the active is no voter: with the master it would leave one voter, who elects nobody.
    pub(crate) spares_voters: bool,
    pub(crate) begin: fn(&mut Scene) -> Act,
}

impl Case {
    /// Whether it can happen to a mesh with these roles.
    pub(crate) fn fits(&self, roles: &Roles) -> bool {
        !(self.spares_voters && roles.active_votes)
    }
}

/// What is known when a fault is about to begin.
pub(crate) struct Scene {
    pub(crate) now: Nanos,
    pub(crate) roles: Roles,
    pub(crate) boards: BoardIndex,
    /// T + t: silence of an active that lets its standby ask for a takeover.
    pub(crate) silence: Nanos,
    pub(crate) draw: Stream,
}

/// What is done, and what must come of it.
pub(crate) struct Act {
    pub(crate) schedule: Vec<Timed>,
    /// Times count from here.
    pub(crate) since: Nanos,
    pub(crate) goal: Goal,
    /// Once another standby is being filled, the active dies at a drawn moment of that.
    pub(crate) then_dies_filling: bool,
}

/// What must happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// The service begins on another board.
    TakenOver,
    /// The service begins on any board.
    Serves,
    /// Another board is master; the service does not pause.
    Reigns,
    /// Another board is a ready standby; the service does not pause.
    Protected,
    /// The service does not pause; its pause is the time.
    Untouched,
    /// The service begins on another board; its pause is the time.
    Moved,
}

impl Goal {
    /// How long that took; none: it did not happen until `end`.
    pub(crate) fn took(
        self,
        ledger: &Ledger,
        roles: Roles,
        since: Nanos,
        end: Nanos,
    ) -> Option<Nanos> {
        let after = |at: Nanos| at - since;
        let pause = || ledger.longest_pause(since, end);
        match self {
            Self::TakenOver => ledger.begins(since, Some(roles.active)).map(after),
            Self::Serves => ledger.begins(since, None).map(after),
            Self::Reigns => ledger.reigns(since, roles.master).map(after),
            Self::Protected => ledger.protected(since, roles.standby).map(after),
            Self::Untouched => Some(pause()),
            Self::Moved => ledger.begins(since, Some(roles.active)).map(|_| pause()),
        }
    }

    /// Whether the service may be down for a moment.
    pub(crate) fn may_pause(self) -> bool {
        matches!(self, Self::TakenOver | Self::Serves | Self::Moved)
    }
}

impl Scene {
    /// These faults begin now and do not end.
    fn lasting(&self, faults: impl IntoIterator<Item = Fault>, goal: Goal) -> Act {
        let timed = |fault| Timed { at: self.now, cue: None, lasts: None, fault };
        let schedule = faults.into_iter().map(timed).collect();
        Act { schedule, since: self.now, goal, then_dies_filling: false }
    }

    /// One fault that begins now and ends after three times T + t.
    fn passing(&self, fault: Fault, goal: Goal) -> Act {
        let mut act = self.lasting([fault], goal);
        act.schedule.iter_mut().for_each(|timed| timed.lasts = Some(3 * self.silence));
        act
    }

    /// Everybody but these.
    fn without(&self, these: &[BoardIndex]) -> Vec<BoardIndex> {
        (0..self.boards).filter(|board| !these.contains(board)).collect()
    }

    /// Active and standby hear everybody but each other.
    fn cut_pair(&self) -> Fault {
        let Roles { active, standby, .. } = self.roles;
        Fault::Partition { groups: vec![self.without(&[standby]), self.without(&[active])] }
    }
}

/// See the module.
pub(crate) const CASES: [Case; 14] = [
    case("active crashes", active_crashes),
    case("standby crashes: another is ready", standby_crashes),
    case("master crashes: another reigns", master_crashes),
    Case { spares_voters: true, ..case("active and master crash together", both_crash) },
    case("active cut from standby: another is ready", cut_pair),
    case("pair cut from all masters: pause", cut_masters),
    case("three-way split: from the first heal", split_three),
    case("active sends and cannot hear", deaf),
    case("active and standby die: from one's return", pair_dies),
    case("active dies while a standby fills", dies_filling),
    Case { boards: 2, ..case("two boards: the one without the voter dies", active_crashes) },
    case("process paused", paused),
    case("board suspended", suspended),
    case("planned move: pause", moved),
];

/// One of five boards.
const fn case(name: &'static str, begin: fn(&mut Scene) -> Act) -> Case {
    Case { name, boards: 5, spares_voters: false, begin }
}

fn active_crashes(scene: &mut Scene) -> Act {
    scene.lasting([Fault::PowerCut { node: scene.roles.active }], Goal::TakenOver)
}

fn standby_crashes(scene: &mut Scene) -> Act {
    scene.lasting([Fault::PowerCut { node: scene.roles.standby }], Goal::Protected)
}

fn master_crashes(scene: &mut Scene) -> Act {
    scene.lasting([Fault::PowerCut { node: scene.roles.master }], Goal::Reigns)
}

fn both_crash(scene: &mut Scene) -> Act {
    let nodes = vec![scene.roles.active, scene.roles.master];
    scene.lasting([Fault::Blackout { nodes }], Goal::TakenOver)
}

fn cut_pair(scene: &mut Scene) -> Act {
    scene.lasting([scene.cut_pair()], Goal::Protected)
}

fn cut_masters(scene: &mut Scene) -> Act {
    let pair = vec![scene.roles.active, scene.roles.standby];
    scene.lasting([Fault::Partition { groups: vec![pair] }], Goal::Untouched)
}

/// Two of the three parts find together first, which two is drawn; the third stays alone.
fn split_three(scene: &mut Scene) -> Act {
    let Roles { active, standby, .. } = scene.roles;
    let apart = Fault::Partition { groups: vec![vec![active], vec![standby]] };
    let alone = match scene.draw.below(3) {
        0 => vec![active],
        1 => vec![standby],
        _ => scene.without(&[active, standby]),
    };
    let mut act = scene.lasting([apart, Fault::Partition { groups: vec![alone] }], Goal::Serves);
    let lasts = scene.draw.between(2 * scene.silence, 3 * scene.silence);
    act.schedule[0].lasts = Some(lasts);
    act.since = scene.now + lasts;
    act
}

fn deaf(scene: &mut Scene) -> Act {
    let active = scene.roles.active;
    let from = scene.without(&[active]);
    scene.lasting([Fault::OneWayCut { from, to: vec![active] }], Goal::TakenOver)
}

/// Which of them returns, and when, is drawn.
fn pair_dies(scene: &mut Scene) -> Act {
    let Roles { active, standby, .. } = scene.roles;
    let cut = |node| Fault::PowerCut { node };
    let mut act = scene.lasting([cut(active), cut(standby)], Goal::Serves);
    let lasts = scene.draw.between(5 * SECOND, 15 * SECOND);
    act.schedule[scene.draw.below(2) as usize].lasts = Some(lasts);
    act.since = scene.now + lasts;
    act
}

/// The former standby lives, and the active does not hear it.
fn dies_filling(scene: &mut Scene) -> Act {
    let act = scene.lasting([scene.cut_pair()], Goal::TakenOver);
    Act { then_dies_filling: true, ..act }
}

fn paused(scene: &mut Scene) -> Act {
    scene.passing(Fault::Pause { node: scene.roles.active }, Goal::TakenOver)
}

fn suspended(scene: &mut Scene) -> Act {
    scene.passing(Fault::Suspend { node: scene.roles.active }, Goal::TakenOver)
}

fn moved(scene: &mut Scene) -> Act {
    scene.lasting([Fault::Move { service: SERVICE.to_owned() }], Goal::Moved)
}
