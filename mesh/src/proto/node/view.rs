//! What a node says of itself and of the mesh when it is asked.

use super::{LastRefusal, Node, Phase, TWINS_SHOWN};
use crate::proto::id::NodeId;
use crate::proto::io::{MasterView, NodeView, Reply, ReplyError, StatusView, ViewState, WhyView};
use crate::proto::machine::Time;
use crate::proto::members::Member;
use crate::proto::table::Row;
use crate::proto::ticket::Revoked;
use crate::proto::wire::gossip::Standing;
use crate::proto::wire::hello::Refusal;

impl Node {
    pub(super) fn status(&self, now: Time) -> StatusView {
        let nodes = self.nodes(now);
        let count = |state| nodes.iter().filter(|node| node.state == state).count() as u32;
        let (view, view_why) = self.view();
        StatusView {
            node: self.me.id(),
            name: self.me.record().name.to_string(),
            mesh: self.me.belonging.mesh,
            mesh_name: self.mesh_name(),
            incarnation: self.me.record().incarnation.0,
            view,
            view_why,
            up: count("up"),
            suspect: count("suspect"),
            down: count("down"),
            left: count("left"),
            master: self.master_view(now),
            nodes,
        }
    }

    fn master_view(&self, now: Time) -> Option<MasterView> {
        let newest = self.directory.newest()?;
        let voters = &newest.table.voters;
        let voters_up = voters.iter().filter(|voter| self.members.is_up(voter)).count();
        let reigns = self.authority.reign(now).is_some();
        Some(MasterView {
            node: newest.master,
            name: self.name_of(&newest.master),
            term: newest.table.version.term.0,
            version: newest.table.version.number,
            voters: voters.iter().map(|voter| self.name_of(voter)).collect(),
            voters_up: voters_up as u32,
            reigns,
            why: self.master_why(&newest.master, voters, voters_up),
        })
    }

    fn master_why(&self, master: &NodeId, voters: &[NodeId], up: usize) -> String {
        let missing = voters.iter().filter(|voter| !self.members.is_up(voter));
        let (left, down): (Vec<&NodeId>, Vec<&NodeId>) =
            missing.partition(|voter| self.members.has_left(voter));
        let named = |nodes: &[&NodeId]| {
            let names: Vec<String> = nodes.iter().map(|node| self.name_of(node)).collect();
            names.join(", ")
        };
        let voters = voters.len();
        if self.is_refused_as_twin() {
            return "the others refuse this board: nothing is known of them".to_owned();
        }
        if up * 2 <= voters {
            let (until, gone) = match (&down[..], &left[..]) {
                ([], left) => (String::new(), format!("{} left", named(left))),
                ([one], []) => (
                    format!(" until {} returns", self.name_of(one)),
                    "If it is gone for good".to_owned(),
                ),
                (down, []) => (
                    format!(" until one of {} returns", named(down)),
                    "If they are gone for good".to_owned(),
                ),
                (down, left) => (
                    format!(" until {} returns", named(down)),
                    format!("{} left; if the other is gone for good, too", named(left)),
                ),
            };
            let dead: Vec<String> = down
                .iter()
                .chain(&left)
                .map(|node| format!("--dead {}", self.name_of(node)))
                .collect();
            return format!(
                "too few of the boards that decide are there: nothing can be changed{until}. {gone}: `hedgerow recover {} --force`",
                dead.join(" ")
            );
        }
        if !self.members.is_up(master) {
            return "the master is down; the others elect a new one".to_owned();
        }
        if up < voters && up * 2 <= voters + 1 {
            return format!(
                "{up} of the {voters} boards that decide are up: should one of these go, too, nothing can be changed any more. Another board takes the place of one that is gone, if there is one that is not drained"
            );
        }
        if voters == 1 {
            return "one board decides alone; with three boards any of them may die".to_owned();
        }
        String::new()
    }

    pub(super) fn nodes(&self, now: Time) -> Vec<NodeView> {
        self.members.iter().map(|(node, member)| self.node_view(now, node, member)).collect()
    }

    /// Everything about one service by its name, or about one member by its name or by the beginning of
    /// its id.
    pub(super) fn why(&self, now: Time, object: &str) -> Reply {
        // The name of a board that left may have been given to another one.
        let there =
            |member: &Member| member.standing != Standing::Left && *member.record.name == *object;
        let there = self.members.iter().any(|(_, member)| there(member));
        let named = |member: &Member| {
            let counts = !there || member.standing != Standing::Left;
            counts && *member.record.name == *object
        };
        // A name may well look like the beginning of somebody's id.
        let by_name = self.members.iter().any(|(_, member)| named(member));
        let found: Vec<(&NodeId, &Member)> = self
            .members
            .iter()
            .filter(|(node, member)| match by_name {
                true => named(member),
                false => node.to_string().starts_with(object),
            })
            .collect();
        let error =
            |code: &str, message| Reply::Error(ReplyError { code: String::from(code), message });
        let wanted = |row: &&Row| row.instance().to_string() == object;
        let rows = self.directory.newest().map(|newest| &newest.table.rows);
        if let Some(row) = rows.into_iter().flatten().find(wanted) {
            return Reply::Why(WhyView {
                object: format!("service {object}"),
                findings: self.instance_findings(now, row),
            });
        }
        match found[..] {
            [] => error(
                "not-found",
                format!(
                    "no service and no member is called `{object}`, and no member's id begins so; `hedgerow ps` and `hedgerow nodes` list them"
                ),
            ),
            [(node, member)] => Reply::Why(WhyView {
                object: format!("node {} ({node})", member.record.name),
                findings: self.findings(now, node, member),
            }),
            _ => error(
                "ambiguous",
                format!("{} members match `{object}`; give more of the id", found.len()),
            ),
        }
    }

    pub(super) fn revocations(&self) -> Vec<String> {
        self.members.revocations().map(|(target, _)| target.to_string()).collect()
    }

    fn mesh_name(&self) -> String {
        let ticket = self.me.belonging.credential.ticket.peek();
        ticket.map_or_else(|_| String::new(), |body| body.mesh_name.to_string())
    }

    fn view(&self) -> (ViewState, String) {
        let (silent, of) = self.membership.silent();
        let others_up = self.members.up().count().saturating_sub(1);
        let refused = self.refusal_to_show().map(|last| {
            let (name, advice) = (self.name_of(&last.node), last.reason.advice());
            match last.by_me {
                false => format!("{name} refused this node: {advice}"),
                true => format!("{name} is not let in here: {advice}"),
            }
        });
        match &self.phase {
            Phase::Fresh | Phase::Starting => {
                (ViewState::Starting, "waiting for the disk".to_owned())
            }
            Phase::Halted(why) => (ViewState::Halted, format!("{why}; restart this node")),
            Phase::Leaving | Phase::Left => {
                (ViewState::Left, "this node left; join again with `hedgerow join TICKET`".to_owned())
            }
            Phase::Running if !self.let_in => (
                ViewState::Joining,
                refused.unwrap_or_else(|| {
                    "no board named in the ticket answers yet; check that one of them is up and that its addresses can be reached from here".to_owned()
                }),
            ),
            Phase::Running if self.is_refused_as_twin() => {
                (ViewState::Isolated, refused.unwrap_or_default())
            }
            Phase::Running if self.members.len() <= 1 => (
                ViewState::Alone,
                "no other board has joined; make a ticket with `hedgerow ticket new` and run `hedgerow join TICKET` on another board".to_owned(),
            ),
            Phase::Running if self.membership.is_isolated() => (
                ViewState::Isolated,
                format!("{silent} of the {of} watched members are silent: the fault may be on this side, so nobody is held for dead"),
            ),
            Phase::Running if others_up == 0 => (
                ViewState::Alone,
                "every other member is down or left; `hedgerow why NODE` says what is known of each. If they run and have other addresses now, a new ticket leads back to them: `hedgerow ticket new` there, `hedgerow join TICKET` here".to_owned(),
            ),
            Phase::Running => (ViewState::Whole, refused.unwrap_or_default()),
        }
    }

    /// Whether members refuse this board since another one has its key.
    fn is_refused_as_twin(&self) -> bool {
        self.refusal_to_show().is_some_and(|last| last.reason == Refusal::Twins && !last.by_me)
    }

    /// The last refusal, unless it is over by now.
    fn refusal_to_show(&self) -> Option<LastRefusal> {
        let is_over = |last: &LastRefusal| {
            last.reason == Refusal::Twins && self.called_at >= last.at + TWINS_SHOWN
        };
        self.last_refusal.filter(|last| !is_over(last))
    }

    fn node_view(&self, now: Time, node: &NodeId, member: &Member) -> NodeView {
        let me = *node == self.me.id();
        let watch = self.membership.watch(node);
        let suspect = self.membership.suspicions().get(node).is_some();
        let state = match member.standing {
            Standing::Up if suspect => "suspect",
            Standing::Up => "up",
            Standing::Down => "down",
            Standing::Left => "left",
        };
        // To a board that is held for dead a connection is open only until that is noticed there, too.
        let linked = self.links.is_usable(node) && member.standing != Standing::Down;
        let path = match (me, linked) {
            (true, _) => "self",
            (false, true) => "linked",
            (false, false) => "-",
        };
        NodeView {
            node: *node,
            name: member.record.name.to_string(),
            me,
            state,
            class: member.record.board.class,
            incarnation: member.incarnation().0,
            version: member.record.board.version.to_string(),
            path,
            seen_ms: watch.and_then(|w| w.heard).map(|heard| now.since(heard).as_millis() as u64),
            rtt_us: watch.and_then(|w| w.rtt).map(|rtt| rtt.as_micros() as u64),
            addresses: member.record.addresses.iter().map(ToString::to_string).collect(),
            why: match (state, me) {
                ("up", _) if self.directory.newest().is_some_and(|n| n.table.is_leaving(node)) => {
                    "leaving: what runs or stands by there moves first".to_owned()
                }
                ("up", _) if self.directory.newest().is_some_and(|n| n.table.is_drained(node)) => {
                    self.drained(node)
                }
                ("up", _) if !member.record.board.durable => {
                    "its data folder does not outlive a reboot (tmpfs): it decides nothing and keeps no state".to_owned()
                }
                ("up", true) => {
                    self.stalls.advice(&self.me.config().preset, now).unwrap_or_default()
                }
                ("up", false) => String::new(),
                _ => self.reason(now, node, member),
            },
        }
    }

    /// How far a board is that is to host and decide nothing.
    fn drained(&self, node: &NodeId) -> String {
        let table = self.directory.newest().map(|newest| &newest.table);
        let names = |row: &Row| {
            // A stopped service stays where it is: there is nothing of it to move.
            !row.retiring && (row.active == *node || [row.standby, row.fill].contains(&Some(*node)))
        };
        let left = table.map_or(0, |table| table.rows.iter().filter(|row| names(row)).count());
        let decides = table.is_some_and(|table| table.voters.contains(node));
        let others = self.members.up().map(|(other, _)| other);
        let makes_way = |other: &NodeId| table.is_some_and(|table| table.makes_way(other));
        let nobody = others.into_iter().all(makes_way);
        match (left, decides) {
            (1.., _) if nobody => format!(
                "being drained, but every board that is up is: what it runs stays ({left}) until one is undrained or comes"
            ),
            (0, false) => {
                "drained: it hosts and decides nothing until `hedgerow undrain`".to_owned()
            }
            (0, true) => {
                "drained of services; it decides still, as no other board has taken its place yet"
                    .to_owned()
            }
            (left, _) => {
                let still = match left {
                    1 => "one service runs or stands by there still".to_owned(),
                    left => format!("{left} services run or stand by there still"),
                };
                let rows = table.into_iter().flat_map(|table| &table.rows);
                // One whose standby stays there moves to that first.
                let moves = |row: &Row| {
                    row.able != Some(false) && row.standby.is_some_and(|it| !makes_way(&it))
                };
                let rows = rows.filter(|row| names(row) && row.fill.is_none() && !moves(row));
                let stuck: Vec<(String, String)> = rows
                    .filter_map(|row| Some((row.instance().to_string(), self.nowhere(row)?)))
                    .collect();
                match stuck.first() {
                    None => format!("being drained: {still}"),
                    Some((service, reasons)) => format!(
                        "being drained: {still}, and no other board has room for {service} ({reasons}): add a board, `hedgerow undrain` one, or stop another service"
                    ),
                }
            }
        }
    }

    /// Why a member is not simply up.
    fn reason(&self, now: Time, node: &NodeId, member: &Member) -> String {
        let ago = now.since(member.since).as_secs();
        match (member.standing, self.membership.suspicions().get(node)) {
            (Standing::Up, Some(suspicion)) => {
                let by: Vec<String> = suspicion.by.iter().map(|by| self.name_of(by)).collect();
                format!("no answer to {}", by.join(", "))
            }
            (Standing::Up, None) => String::new(),
            (Standing::Down, _) => format!("no answer; held for dead {ago} s ago"),
            (Standing::Left, _) if self.members.is_revoked(&Revoked::Node(*node)) => {
                "revoked by the operator".to_owned()
            }
            (Standing::Left, _) => format!("left {ago} s ago"),
        }
    }

    fn findings(&self, now: Time, node: &NodeId, member: &Member) -> Vec<String> {
        let mut findings = Vec::new();
        let view = self.node_view(now, node, member);
        findings.push(match view.why.is_empty() {
            true => format!("{} for {} s", view.state, now.since(member.since).as_secs()),
            false => format!("{}: {}", view.state, view.why),
        });
        if view.me {
            findings
                .push(format!("it is the node that answers; {:?}", self.view().0).to_lowercase());
        }
        if let Some(watch) = self.membership.watch(node) {
            findings.push(match (watch.heard, watch.rtt) {
                (Some(heard), Some(rtt)) => format!(
                    "this node watches it: heard {} ms ago, round trip {} µs",
                    now.since(heard).as_millis(),
                    rtt.as_micros()
                ),
                _ => "this node watches it and has never had an answer".to_owned(),
            });
        } else if !view.me {
            findings.push("this node does not watch it; others do".to_owned());
        }
        if let Some(link) = self.links.get(node) {
            let at = link.address.as_ref().map_or("?", |address| address);
            if view.path == "linked" {
                findings.push(format!("connected at {at}"));
            } else if self.links.is_usable(node) {
                findings.push(format!("its connection at {at} is open still, and silent"));
            } else if let Some(error) = &link.last_error {
                findings.push(format!("not connected; the last attempt ended: {error}"));
            }
        }
        findings.push(format!("incarnation {}, id {node}", member.incarnation().0));
        findings.push(match view.addresses.is_empty() {
            true => "it has told no address".to_owned(),
            false => format!("says it can be reached at {}", view.addresses.join(", ")),
        });
        findings
    }

    pub(super) fn name_of(&self, node: &NodeId) -> String {
        self.members.get(node).map_or_else(|| node.short(), |m| m.record.name.to_string())
    }
}
