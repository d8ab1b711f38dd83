//! What must hold in every state, and what must be reachable.

use stateright::{Model, Property};

use super::rules::{Action, Bounds, Rules};
use super::state::{State, Worker};

/// The rules as stateright explores them, in states whose masters stand in a fixed order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mesh {
    pub(crate) rules: Rules,
}

impl Mesh {
    pub(crate) fn first(&self) -> State {
        let Bounds { master_crashes, worker_crashes, .. } = self.rules.bounds;
        State::first((master_crashes, worker_crashes))
    }
}

impl Model for Mesh {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        self.rules.candidates(actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.rules.after(state, action)?;
        let next = if next.masters == state.masters { next } else { next.canonical() };
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one master holds a lease", |_, s: &State| leases(s) <= 1),
            Property::always("at most one container runs", |_, s: &State| containers(s) <= 1),
            Property::always("an epoch is one board's", |_, s: &State| !s.epoch_shared),
            Property::always("a voter votes once in a term", |_, s: &State| !s.voted_twice),
            Property::sometimes("a master holds a lease", |_, s: &State| leases(s) == 1),
            Property::sometimes("a second master after a crash", |mesh: &Self, s: &State| {
                let crashed = s.crashes_left.0 < mesh.rules.bounds.master_crashes;
                crashed && s.reigns().any(|(m, reign)| m.now.term >= 2 && reign.lease > 0)
            }),
            Property::sometimes(
                "a deposed master knows nothing of its successor",
                |_, s: &State| leases(s) == 1 && s.reigns().any(|(_, reign)| reign.lease == 0),
            ),
            Property::sometimes("a new master finds a change half done", |_, s: &State| {
                s.reigns().any(|(m, _)| {
                    let found = s.sent[usize::from(m.now.term)].filter(|table| table.number == 0);
                    found.is_some_and(|table| s.rights[usize::from(table.epoch)].is_none())
                })
            }),
            Property::sometimes("a takeover, under a higher epoch", |_, s: &State| {
                s.workers[1].runs >= 2
            }),
            Property::sometimes("an active is fenced by its lease", |mesh: &Self, s: &State| {
                let fenced = |w: &Worker| w.began == w.row && w.runs == 0 && w.lease == 0;
                let none_crashed = s.crashes_left.1 == mesh.rules.bounds.worker_crashes;
                none_crashed && s.entitled(0) == Some(0) && fenced(&s.workers[0])
            }),
            Property::sometimes("an agent restarts within its lease", |_, s: &State| {
                s.workers.iter().any(|worker| worker.silent > 0 && worker.runs > 0)
            }),
            Property::sometimes("a successor waits for its own promise", |_, s: &State| {
                let waits = |w: &Worker| w.lease > 0 && w.promise > 0 && w.runs == 0 && w.row >= 2;
                s.entitled(1) == Some(1) && waits(&s.workers[1])
            }),
            Property::sometimes("an active gets a new right of its own", |_, s: &State| {
                s.workers[0].runs >= 2 && s.rights[1] == s.rights[2]
            }),
        ]
    }
}

fn leases(state: &State) -> usize {
    state.reigns().filter(|(_, reign)| reign.lease > 0).count()
}

fn containers(state: &State) -> usize {
    state.workers.iter().filter(|worker| worker.runs > 0).count()
}
