//! The tables of `status` and `nodes`, 80 columns.

use crate::schema::{Instance, Node, Status};
use crate::text::{Table, WIDTH, ago, wrap};

/// Where the lines of the workloads begin.
const WORKLOADS_INDENT: usize = 11;

/// The header, a sentence where something is to be said, and one line for each member.
pub(super) fn status(status: &Status) -> String {
    let view = if status.view == "whole" { "whole mesh" } else { &status.view };
    let master = status.master.as_ref().map_or("no master yet".to_owned(), |master| {
        format!("master {} (term {})", master.name, master.term)
    });
    let head =
        [format!("{}   {}", status.mesh_name, counts(status)), master, format!("view: {view}")];
    let mut text = head.join("    ");
    if text.chars().count() > WIDTH {
        text = wrap(&text, 2);
    }
    text.push('\n');
    if let Some(master) = status.master.as_ref().filter(|master| !master.why.is_empty()) {
        text.push_str(&wrap(&master.why, 2));
        text.push('\n');
    }
    if !status.view_why.is_empty() {
        text.push_str(&wrap(&status.view_why, 2));
        text.push('\n');
    }
    let mut table = Table::new(&[
        ("NODE", 20),
        ("STATE", 8),
        ("CLASS", 6),
        ("PATH", 8),
        ("RTT", 8),
        ("SEEN", 5),
        ("WHY", 0),
    ]);
    let is_master = |node: &Node| status.master.as_ref().is_some_and(|m| m.node == node.node);
    for node in sorted(&status.nodes) {
        table.row(vec![
            format!("{}{}{}", node.name, mark(node.me, " *"), mark(is_master(node), " M")),
            node.state.clone(),
            format!("{:?}", node.class),
            node.path.clone(),
            node.rtt_us.map_or("-".to_owned(), round_trip),
            match (node.me, node.seen_ms) {
                (true, _) => "now".to_owned(),
                (false, Some(ms)) => ago(ms),
                (false, None) => "-".to_owned(),
            },
            node.why.clone(),
        ]);
    }
    text + &table.render() + &workloads(&status.workloads)
}

/// One line for each instance.
fn workloads(instances: &[Instance]) -> String {
    instances.iter().enumerate().fold(String::new(), |mut text, (row, instance)| {
        let heading = if row == 0 { "WORKLOADS" } else { "" };
        let standby = instance.standby.as_deref().unwrap_or("none");
        let copy = match instance.copy() {
            copy if copy.is_empty() => copy,
            copy => format!(" ({copy})"),
        };
        let line = format!(
            "{} {}, active {}, standby {standby}{copy}, epoch {}",
            instance.instance, instance.state, instance.active, instance.epoch
        );
        let line = wrap(&line, WORKLOADS_INDENT);
        text.push_str(&format!("{heading:<WORKLOADS_INDENT$}{line}\n"));
        text
    })
}

/// One line for each member, with what it takes to name and to reach it.
pub(super) fn nodes(nodes: &[Node]) -> String {
    let mut table = Table::new(&[
        ("NODE", 20),
        ("ID", 10),
        ("STATE", 8),
        ("CLASS", 6),
        ("VERSION", 10),
        ("ADDRESSES", 0),
    ]);
    for node in sorted(nodes) {
        table.row(vec![
            format!("{}{}", node.name, mark(node.me, " *")),
            node.node.short(),
            node.state.clone(),
            format!("{:?}", node.class),
            node.version.clone(),
            node.addresses.join("\n"),
        ]);
    }
    table.render()
}

fn mark(shown: bool, mark: &'static str) -> &'static str {
    if shown { mark } else { "" }
}

fn counts(status: &Status) -> String {
    let by_state = [
        (status.up, "up"),
        (status.suspect, "suspect"),
        (status.down, "down"),
        (status.left, "left"),
    ];
    let parts: Vec<String> = by_state
        .iter()
        .filter(|(count, state)| *count > 0 || *state == "up")
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let all = status.nodes.len();
    format!("{all} node{}: {}", if all == 1 { "" } else { "s" }, parts.join(", "))
}

fn sorted(nodes: &[Node]) -> Vec<&Node> {
    let mut nodes: Vec<&Node> = nodes.iter().collect();
    nodes.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
    nodes
}

fn round_trip(us: u64) -> String {
    match us {
        0..=99_999 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}ms", us / 1000),
    }
}
