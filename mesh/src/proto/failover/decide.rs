//! What becomes of an operator's order, by the table that is chosen now.

use std::collections::BTreeSet;

use super::Office;
use super::orders::{Done, Passed};
use super::search::Search;
use crate::proto::authority::changes::What;
use crate::proto::id::{Epoch, NodeId};
use crate::proto::order::{Action, Instance};
use crate::proto::placement::{choose_active, choose_standby};
use crate::proto::record::Name;
use crate::proto::spec::ServiceSpec;
use crate::proto::specs::SpecHash;
use crate::proto::table::{CheckpointId, DRAINED_MAX, Row, Table, Version};
use crate::proto::turn::Turn;

/// What is to be changed, or why it cannot be.
pub(super) type Decided = Result<What, (&'static str, String)>;

fn chosen(turn: &Turn<'_>) -> Table {
    turn.directory.newest().map(|newest| newest.table.clone()).unwrap_or_default()
}

/// None while the board that is to begin it is being looked for.
pub(super) fn decide_run(
    turn: &mut Turn<'_>,
    office: &Office,
    spec: &ServiceSpec,
    hash: SpecHash,
    search: &mut Search,
) -> Result<Option<What>, (&'static str, String)> {
    let instance = Instance { service: spec.name.clone(), ordinal: 0 };
    let (table, me) = (chosen(turn), turn.me.id());
    if let Some(row) = table.row(&instance) {
        if row.removing {
            let text = format!(
                "the former `{}` is being removed still; try again when `hedgerow ps` does not show it any more",
                spec.name
            );
            return Err(("being-removed", text));
        }
        let before = turn.specs.get(&row.spec);
        if before.is_some_and(|before| before.state.is_some() != spec.state.is_some()) {
            let text = format!(
                "`{0}` runs {1} state now: that cannot be changed while it exists. Remove it first (`hedgerow rm {0}`)",
                spec.name,
                if spec.state.is_some() { "without" } else { "with" }
            );
            return Err(("state-changed", text));
        }
        // The same once more changes nothing: what runs is not restarted for it.
        let spec_hash = if before == Some(spec) { row.spec } else { hash };
        // What is run from now on the standby may have.
        let able = row.able.filter(|_| spec_hash == row.spec);
        let row = Row { spec: spec_hash, able, retiring: false, ..row.clone() };
        return Ok(Some(What::Row { made_for: Some(row.revision), instance, row: Some(row) }));
    }
    let found = search.look(turn, |turn, not_there| {
        let silent = office.suspected.union(not_there).copied().collect();
        choose_active(&instance, spec, turn.members, &table, &me, &silent)
    });
    let Some(active) = found.map_err(|no_room| ("no-room", no_room.to_string()))? else {
        return Ok(None);
    };
    let silent: BTreeSet<NodeId> =
        office.suspected.union(&search.not_there(turn)).copied().collect();
    let mut row = first_row(&spec.name, active, hash, table.version);
    row.standby = choose_standby(&row, spec, turn.members, &table, &me, &silent).ok();
    row.ready = row.standby.is_some() && spec.state.is_none();
    Ok(Some(What::Row { instance, made_for: None, row: Some(row) }))
}

pub(super) fn decide_row(
    turn: &Turn<'_>,
    service: &Name,
    change: impl Fn(Row) -> Option<Row>,
) -> Decided {
    let instance = Instance { service: service.clone(), ordinal: 0 };
    let Some(row) = chosen(turn).row(&instance).cloned() else {
        let text = format!("no service is called `{service}`; `hedgerow ps` lists them");
        return Err(("not-found", text));
    };
    Ok(What::Row { made_for: Some(row.revision), instance, row: change(row) })
}

/// Whether another board than the master carries an order out.
pub(super) fn is_passed(action: &Action) -> bool {
    match action {
        Action::Move(_)
        | Action::Checkpoint(_)
        | Action::Restore { .. }
        | Action::Recover { .. } => true,
        Action::Run(_)
        | Action::Stop(_)
        | Action::Remove { .. }
        | Action::RecoverMesh { .. }
        | Action::Drain { .. } => false,
    }
}

/// The service that an order is about, if it is about one.
pub(super) fn service_of(action: &Action) -> Option<&Name> {
    match action {
        Action::Move(service)
        | Action::Checkpoint(service)
        | Action::Restore { service, .. }
        | Action::Recover { service, .. }
        | Action::Stop(service) => Some(service),
        Action::Remove { service, .. } => Some(service),
        Action::Run(spec) => Some(&spec.name),
        Action::Drain { .. } | Action::RecoverMesh { .. } => None,
    }
}

/// Which board carries an order out, and when it is done; or why it cannot be.
pub(super) fn who_carries_out(
    turn: &Turn<'_>,
    action: &Action,
) -> Result<Passed, (&'static str, String)> {
    let Some(service) = service_of(action) else {
        return Err(("refused", "no board carries that out".to_owned()));
    };
    let table = chosen(turn);
    let instance = Instance { service: service.clone(), ordinal: 0 };
    let Some(row) = table.row(&instance) else {
        let text = format!("no service is called `{service}`; `hedgerow ps` lists them");
        return Err(("not-found", text));
    };
    if row.retiring {
        let text = format!("`{service}` is stopped; run its service file again first");
        return Err(("stopped", text));
    }
    let serving = turn.directory.serving(&instance).filter(|s| s.epoch == row.epoch && s.runs);
    let runs = serving.is_some() && turn.members.is_up(&row.active);
    if matches!(action, Action::Recover { .. }) && runs {
        let active = turn.name_of(&row.active);
        let text = format!(
            "`{service}` runs on {active}: nothing has to be recovered. To start it from an older state: `hedgerow restore`; to let another board run it: `hedgerow failover`"
        );
        return Err(("not-needed", text));
    }
    if matches!(action, Action::Checkpoint(_)) && !runs {
        let text = format!("`{service}` does not run at the moment; `hedgerow ps` says why");
        return Err(("not-serving", text));
    }
    let ready = row.standby.is_some() && row.ready && row.fill.is_none();
    if matches!(action, Action::Move(_)) && !ready {
        let text = format!(
            "no standby of `{service}` is ready to carry on; wait until `hedgerow ps` shows one"
        );
        return Err(("not-ready", text));
    }
    if let Some(standby) = row.standby.filter(|_| row.able == Some(false))
        && matches!(action, Action::Move(_))
    {
        let standby = turn.name_of(&standby);
        let text = format!(
            "{standby} stands by for `{service}` but could not start it, so it stays where it is; `hedgerow why {service}` on {standby} says what is missing there"
        );
        return Err(("standby-unable", text));
    }
    let (by, done) = match action {
        Action::Recover { from, .. } => (*from, Done::Recovered),
        Action::Restore { at, .. } => (row.active, Done::Restored(*at)),
        _ => (row.active, Done::Moved),
    };
    Ok(Passed { instance, epoch: row.epoch, by, done })
}

pub(super) fn decide_drain(turn: &Turn<'_>, node: NodeId, drained: bool) -> Decided {
    let table = chosen(turn);
    if turn.members.get(&node).is_none() {
        let text = format!("no board has the id {node}; `hedgerow nodes` lists them");
        return Err(("not-found", text));
    }
    if !drained && table.is_leaving(&node) {
        let text = format!(
            "{} is leaving the mesh, by its own operator's word; that cannot be called off from here",
            turn.name_of(&node)
        );
        return Err(("leaving", text));
    }
    if drained && table.drained.len() >= DRAINED_MAX {
        let text = "too many boards are drained; `hedgerow undrain` some of them first";
        return Err(("too-many", text.to_owned()));
    }
    Ok(What::Drain { node, drained })
}

/// The first row of an instance. Its epoch is above that of any earlier instance of this name, since
/// versions of the table only rise.
fn first_row(service: &Name, active: NodeId, spec: SpecHash, version: Version) -> Row {
    Row {
        generation: version.generation,
        service: service.clone(),
        ordinal: 0,
        epoch: Epoch(version.generation.first_epoch().0 + version.number + 1),
        previous: Epoch(0),
        revision: 0,
        active,
        standby: None,
        ready: false,
        able: None,
        fill: None,
        released: false,
        lost: false,
        retiring: false,
        removing: false,
        base: CheckpointId::default(),
        spec,
    }
}
