//! What a node says of services when it is asked.

use std::collections::BTreeSet;

use super::Node;
use crate::proto::copies::Source;
use crate::proto::failover::active::{Assignment, Run};
use crate::proto::io::{InstanceView, Reply, ReplyError, ResolvedView};
use crate::proto::machine::Time;
use crate::proto::order::{Instance, Serving};
use crate::proto::placement::choose_standby;
use crate::proto::record::Name;
use crate::proto::spec::ServiceSpec;
use crate::proto::table::Row;

/// How the words about an exit begin that the service has no part in.
const COULD_NOT_START: &str = "it could not be started";
/// A commit that waits for longer than this is worth a word.
const COMMITS_WAIT_SECONDS: u64 = 1;

impl Node {
    /// Every instance in the newest table.
    pub(super) fn instances(&self, now: Time) -> Vec<InstanceView> {
        let rows = self.directory.newest().map(|newest| &newest.table.rows);
        rows.into_iter().flatten().map(|row| self.instance_view(now, row)).collect()
    }

    fn instance_view(&self, now: Time, row: &Row) -> InstanceView {
        let instance = row.instance();
        let serving = self.directory.serving(&instance).filter(|s| s.epoch == row.epoch);
        let here = self.failover.assignments().find(|(known, _)| **known == instance);
        let here = here.map(|(_, assignment)| assignment);
        let serves = serving.is_some_and(|serving| serving.runs);
        let runs_here = here.is_some_and(|assignment| assignment.run == Run::Running);
        let state = match (row.retiring, self.members.is_up(&row.active)) {
            (true, _) if row.removing => "removing",
            (true, true) if serves || runs_here => "stopping",
            (true, _) => "stopped",
            (false, false) => "down",
            (false, true) if serves || runs_here => "running",
            (false, true) => "starting",
        };
        // Of a board that is down they help nobody.
        let there = serving.filter(|_| state != "down");
        let endpoints = there.into_iter().flat_map(|serving| &serving.endpoints);
        InstanceView {
            instance: instance.to_string(),
            state,
            active: self.name_of(&row.active),
            standby: row.standby.as_ref().map(|standby| self.name_of(standby)),
            epoch: row.epoch.0,
            endpoints: endpoints.map(|e| format!("{}={}", e.name, e.address)).collect(),
            starts: here.map(|assignment| assignment.starts),
            lease_ms: here.map(|a| a.lease.until().since(now).as_millis() as u64),
            ready: self.is_ready(row),
            unable: row.able == Some(false),
            fill: row.fill.as_ref().filter(|_| state != "down").map(|fill| self.name_of(fill)),
            copy_age_ms: self
                .copies
                .source(&instance)
                .and_then(Source::confirmed_at)
                .map(|at| now.since(at).as_millis() as u64),
            spec: self.specs.get(&row.spec).map(ServiceSpec::digest),
            current: serving.is_some_and(|serving| serving.runs && serving.spec == row.spec),
            why: self.instance_why(now, row, state, here, serving),
        }
    }

    /// Whether the standby could carry on: it holds a state and what to run, and it is there.
    fn is_ready(&self, row: &Row) -> bool {
        row.ready
            && row.able != Some(false)
            && row.standby.is_some_and(|standby| self.members.is_up(&standby))
    }

    /// For how many seconds commits of an instance on this board have been waiting, if that is long.
    fn commits_wait(&self, now: Time, row: &Row) -> Option<u64> {
        let since = self.copies.source(&row.instance()).and_then(Source::commits_wait_since)?;
        Some(now.since(since).as_secs()).filter(|seconds| *seconds >= COMMITS_WAIT_SECONDS)
    }

    /// Why no further board can stand by for it, if none can; as far as this board knows.
    pub(super) fn nowhere(&self, row: &Row) -> Option<String> {
        let spec = self.specs.get(&row.spec)?;
        let table = &self.directory.newest()?.table;
        let master = self.authority.master().0.unwrap_or(row.active);
        let none = BTreeSet::new();
        let chosen = choose_standby(row, spec, &self.members, table, &master, &none);
        chosen.err().map(|full| full.reasons)
    }

    /// A standby that is drained or leaving while no other board can take its place, and why none can.
    fn stuck_standby(&self, row: &Row) -> Option<(String, String)> {
        let table = &self.directory.newest()?.table;
        let standby = row.standby.filter(|standby| table.makes_way(standby))?;
        Some((self.name_of(&standby), self.nowhere(row)?))
    }

    /// What keeps commits waiting.
    fn waits_for(&self, row: &Row) -> String {
        let Some(standby) = row.standby else { return "it has no standby".to_owned() };
        let name = self.name_of(&standby);
        if !self.members.is_up(&standby) {
            return format!("its standby {name} is not there");
        }
        let refuses = self.holdings.unable_since(&row.instance(), &standby);
        let nowhere = row.fill.is_none().then(|| self.nowhere(row)).flatten();
        match (refuses, nowhere) {
            (None, _) => format!("its standby {name} does not confirm it"),
            (Some(_), None) => {
                format!("the disk of its standby {name} is full or fails; another board is filled")
            }
            (Some(_), Some(reasons)) => format!(
                "the disk of its standby {name} is full or fails, and no other board has room for it ({reasons}): make room on {name}, add a board, or `hedgerow undrain` one"
            ),
        }
    }

    /// Where the state of a stopped service is on one board only.
    fn lone_copy(&self, row: &Row) -> String {
        let stateful = self.specs.get(&row.spec).is_none_or(|spec| spec.state.is_some());
        let held = row.ready && row.standby.is_some_and(|standby| self.members.is_up(&standby));
        match held || !stateful {
            true => String::new(),
            false => format!("; no board but {} holds its state now", self.name_of(&row.active)),
        }
    }

    /// Whether enough of the boards that decide are there.
    fn can_decide(&self) -> bool {
        let voters = self.directory.newest().map(|newest| &newest.table.voters);
        voters.is_none_or(|voters| {
            voters.iter().filter(|voter| self.members.is_up(voter)).count() * 2 > voters.len()
        })
    }

    /// Whether it runs here although its lease is over.
    fn is_isolated(&self, now: Time, here: Option<&Assignment>) -> bool {
        here.is_some_and(|here| here.run == Run::Running && here.lease.until() <= now)
    }

    fn starts_again(&self, row: &Row, exit: &str) -> String {
        let told = format!("{exit}; it is started again, less and less often");
        match exit.starts_with(COULD_NOT_START) {
            true => told,
            false => format!(
                "{told}; `hedgerow logs {}` on {} shows what it said",
                row.service,
                self.name_of(&row.active)
            ),
        }
    }

    fn instance_why(
        &self,
        now: Time,
        row: &Row,
        state: &str,
        here: Option<&Assignment>,
        serving: Option<&Serving>,
    ) -> String {
        // Its board tells everyone; about another specification it says nothing that helps now.
        let told = serving.filter(|serving| serving.spec == row.spec && !serving.why.is_empty());
        let ended = told.map(|serving| serving.why.to_string());
        match (state, ended) {
            ("removing", _) => {
                let active = self.name_of(&row.active);
                format!(
                    "waiting for {active} to say that it has stopped; `hedgerow rm --force` if that board and its standby are gone for good"
                )
            }
            ("stopping", _) => "its board is told to stop it".to_owned(),
            ("stopped", _) => format!(
                "stopped by an operator; run its service file again to start it{}",
                self.lone_copy(row)
            ),
            ("down", _) if !self.can_decide() => format!(
                "its board {} is down, and too few of the boards that decide are there to let another one carry on: `hedgerow status`",
                self.name_of(&row.active)
            ),
            ("down", _) if self.is_ready(row) => format!(
                "its board {} is down; its standby takes over once every promise to that board has run out",
                self.name_of(&row.active)
            ),
            ("down", _) if row.able == Some(false) => format!(
                "its board {} is down and its standby could not start it, as what it runs is not there: it goes on when that board returns, when another board that could start it was given its state, or when the standby has what `hedgerow why {}` there says",
                self.name_of(&row.active),
                row.service
            ),
            ("down", _) => format!(
                "its board {} is down and no other that is there may carry on; it goes on when that board returns",
                self.name_of(&row.active)
            ),
            _ if row.lost => format!(
                "what it ran on is lost on {}; its standby takes over, if it has one",
                self.name_of(&row.active)
            ),
            ("starting", Some(exit)) => self.starts_again(row, &exit),
            ("starting", None) => "waiting for its board to start it".to_owned(),
            ("running", _) if let Some(seconds) = self.commits_wait(now, row) => format!(
                "what it wants to be safe has been waiting for another board for {seconds} s: {}",
                self.waits_for(row)
            ),
            ("running", _) if self.is_isolated(now, here) => {
                "isolated: neither its standby nor a master answers; it goes on because its file says keep-running".to_owned()
            }
            _ if row.standby.is_none() => match self.nowhere(row) {
                Some(reasons) => format!(
                    "unprotected: no other board has room to stand by ({reasons}); add a board, or stop another service"
                ),
                None => "unprotected: it has no standby yet".to_owned(),
            },
            _ if row.fill.is_some() => "its standby is being replaced".to_owned(),
            _ if row.able == Some(false) && row.standby.is_some() => {
                let standby = row.standby.map(|standby| self.name_of(&standby)).unwrap_or_default();
                format!(
                    "{standby} holds its state but could not start it: `hedgerow why {}` there says what is missing",
                    row.service
                )
            }
            _ if row.ready && !self.is_ready(row) => {
                "unprotected: its standby is not there; another one takes its place if it stays away".to_owned()
            }
            _ if let Some((standby, reasons)) = self.stuck_standby(row) => format!(
                "its standby {standby} is to make way, and no other board has room for it ({reasons}): add a board, `hedgerow undrain` one, or stop another service"
            ),
            _ if !row.ready => "its standby is being filled".to_owned(),
            _ => String::new(),
        }
    }

    /// Where a service serves.
    pub(super) fn resolve(&self, service: &Name) -> Reply {
        let error =
            |code: &str, message| Reply::Error(ReplyError { code: code.to_owned(), message });
        let instance = Instance { service: service.clone(), ordinal: 0 };
        let row = self.directory.newest().and_then(|newest| newest.table.row(&instance));
        let Some(row) = row else {
            let message = format!("no service is called `{service}`; `hedgerow ps` lists them");
            return error("not-found", message);
        };
        let serving = self.directory.serving(&instance);
        // What a board that is held for dead said last helps nobody.
        let serves = |s: &&Serving| s.epoch >= row.epoch && s.runs && self.members.is_up(&s.node);
        match serving.filter(serves) {
            Some(serving) if serving.endpoints.is_empty() => {
                error("no-ports", format!("`{service}` runs, and its service file names no port"))
            }
            Some(serving) => Reply::Resolved(ResolvedView {
                service: service.to_string(),
                epoch: serving.epoch.0,
                node: serving.node,
                name: self.name_of(&serving.node),
                endpoints: serving
                    .endpoints
                    .iter()
                    .map(|e| (e.name.to_string(), e.address.to_string()))
                    .collect(),
            }),
            None => error(
                "not-serving",
                format!("`{service}` does not serve at the moment; `hedgerow ps` says why"),
            ),
        }
    }

    /// What is known here of an instance, the most important first.
    pub(super) fn instance_findings(&self, now: Time, row: &Row) -> Vec<String> {
        let view = self.instance_view(now, row);
        let instance = row.instance();
        let mut findings = vec![match view.why.is_empty() {
            true => format!("{} on {}", view.state, view.active),
            false => format!("{} on {}: {}", view.state, view.active, view.why),
        }];
        findings.extend(standby_finding(row, &view));
        if let Some(age) = view.copy_age_ms {
            findings.push(format!("the newest state that another board confirmed is {age} ms old"));
        }
        if let Some((_, here)) = self.failover.assignments().find(|(known, _)| **known == instance)
        {
            findings.push(match view.lease_ms {
                Some(0) | None => "it holds no lease at the moment, so it must not run".to_owned(),
                Some(left) => format!("it holds a lease for another {left} ms"),
            });
            if let Some(exit) = &here.last_exit {
                let times = if here.starts == 1 { "once" } else { "again and again" };
                let count = here.starts;
                findings
                    .push(format!("started {times} under this epoch ({count}); last time {exit}"));
            }
            if here.is_released() {
                findings.push(
                    "this board gave it up in favour of its standby and tells the master so"
                        .to_owned(),
                );
            }
        }
        if let Some((to, until)) = self.failover.promise(&instance).filter(|(_, at)| *at > now) {
            let (left, to) = (until.since(now).as_millis(), self.name_of(&to));
            findings.push(format!(
                "this board has promised {to} that nobody else runs it for {left} ms"
            ));
        }
        if let Some(why) = self.failover.unable(&instance) {
            findings.push(format!("this board stands by for it, but could not start it: {why}"));
        }
        let pinned: Vec<_> = self.holdings.pinned(&instance).collect();
        let held = self.holdings.own(&instance).map(|id| {
            let note = if pinned.contains(&id) { " (kept)" } else { "" };
            format!("{}.{}{note}", id.epoch.0, id.seq)
        });
        let held: Vec<String> = held.collect();
        if !held.is_empty() {
            findings.push(format!("states in this board's store: {}", held.join(", ")));
        }
        findings.push(format!("epoch {}, revision {} of its row", row.epoch.0, row.revision));
        findings
    }
}

/// What its standby could do for an instance.
fn standby_finding(row: &Row, view: &InstanceView) -> Option<String> {
    let standby = view.standby.as_ref().filter(|_| !row.retiring)?;
    Some(match (row.ready, &view.fill) {
        (true, _) if row.able == Some(false) && view.state == "down" => {
            format!("{standby} holds its state, but cannot start it")
        }
        (true, _) if row.able == Some(false) => {
            format!("{standby} holds its state, but could not start it if {} died", view.active)
        }
        (true, _) if !view.ready => {
            format!("{standby} holds a state of it, but is not there to carry on")
        }
        (true, None) if view.state == "running" => {
            format!("{standby} holds its state and carries on if {} dies", view.active)
        }
        (true, None) => format!("{standby} holds its state"),
        (true, Some(fill)) => {
            format!("{standby} holds its state; {fill} is being filled to take its place")
        }
        (false, _) => {
            format!("{standby} is to stand by, and does not hold a usable state yet")
        }
    })
}
