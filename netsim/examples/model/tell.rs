//! A path, for people.

use super::laws::Mesh;
use super::rules::{Action, Rules};
use super::state::State;

const MASTERS: [&str; 3] = ["m1", "m2", "m3"];
const WORKERS: [&str; 2] = ["a", "b"];

/// Finds the steps behind states whose masters were put in order: the boards keep their names here.
pub(crate) fn steps(mesh: &Mesh, states: &[State]) -> Vec<String> {
    let mut at = mesh.first();
    let mut told = Vec::new();
    for wanted in states.iter().skip(1) {
        let mut actions = Vec::new();
        mesh.rules.candidates(&mut actions);
        let step = actions.into_iter().find_map(|action| {
            let next = mesh.rules.after(&at, action)?;
            (next.canonical() == wanted.canonical()).then_some((action, next))
        });
        let Some((action, next)) = step else {
            told.push("… and then something that cannot be told with names".to_owned());
            return told;
        };
        told.push(format!("{}{}", sentence(&mesh.rules, &next, action), end(&next)));
        at = next;
    }
    told
}

fn sentence(rules: &Rules, next: &State, action: Action) -> String {
    let term = |master: usize| next.masters[master].now.term;
    let (m, w) = (|at: usize| MASTERS[at], |at: usize| WORKERS[at]);
    let durably = if rules.bounds.delays { "" } else { ", durably" };
    match action {
        Action::Tick => "a tick passes".to_owned(),
        Action::Stand(one, term) => format!("{} stands in term {term}", m(one)),
        Action::Persist(one) => format!("{}: its vote is durable, and leaves", m(one)),
        Action::Vote(one, voter) => {
            format!("{} votes for {} in term {}{durably}", m(voter), m(one), term(one))
        }
        Action::Win(one) => format!("{} has a majority: master of term {}", m(one), term(one)),
        Action::Beat(one, voter) => format!("{} promises {} a lease", m(voter), m(one)),
        Action::Answer(one) => format!("{}: an answer to its heartbeat has arrived", m(one)),
        Action::Copy(term, one) => format!("{}: the table of term {term} is durable", m(one)),
        Action::Commit(one) => {
            let table = next.sent[usize::from(term(one))].unwrap_or_default();
            let active = w(usize::from(table.active));
            format!("{} announces: epoch {} is {active}'s", m(one), table.epoch)
        }
        Action::StepDown(one) => format!("{} steps down", m(one)),
        Action::CrashMaster(one) => format!("{} crashes and restarts", m(one)),
        Action::RenewPair(one) => {
            format!("{} promises {} a lease, as its standby", w(1 - one), w(one))
        }
        Action::RenewMaster(one, master) => {
            format!("{} promises {} a lease, as master", m(master), w(one))
        }
        Action::Grant(one) => format!("{}: the grant has arrived", w(one)),
        Action::Start(one) => {
            format!("{} starts the service under epoch {}", w(one), next.workers[one].runs)
        }
        Action::Ask(one) => {
            format!("{} asks to take over from epoch {}", w(one), next.workers[one].asked)
        }
        Action::Take(one, master) => format!("{} votes for a takeover by {}", m(master), w(one)),
        Action::Again(one, master) => {
            format!("{} agrees that {} begins anew, under a new epoch", m(master), w(one))
        }
        Action::Learn(one, epoch) => format!("{} learns whose epoch {epoch} is", w(one)),
        Action::CrashAgent(one, row) => {
            format!("{}: the agent crashes and restarts, and knows epoch {row}", w(one))
        }
        Action::CrashWorker(one, row) => {
            format!("{}: the board crashes and restarts, and knows epoch {row}", w(one))
        }
        Action::Usurp(one) => format!("{} has heard nothing for long, and starts", w(one)),
    }
}

/// Who holds what, after a step.
fn end(state: &State) -> String {
    let reigns = MASTERS.iter().zip(&state.masters).filter_map(|(name, master)| {
        let lease = master.reign().map(|reign| reign.lease).filter(|lease| *lease > 0)?;
        Some(format!("{name} reigns for {lease}"))
    });
    let runs = WORKERS.iter().zip(&state.workers).filter(|(_, worker)| worker.runs > 0);
    let runs = runs.map(|(name, worker)| format!("{name} runs for {}", worker.lease));
    let all: Vec<String> = reigns.chain(runs).collect();
    if all.is_empty() { String::new() } else { format!("   [{}]", all.join(", ")) }
}
