//! A plan as the text of a scenario file: what a failing random schedule becomes once it is small enough
//! to be read.
//!
//! What is written reads back as the same run, to the last byte of its trace.

use hedgerow::proto::spec::{Commit, OnIsolation};
use serde::Serialize;
use toml::{Table, Value};

use super::nanos;
use crate::expect::Expect;
use crate::faults::Timed;
use crate::plan::Plan;
use crate::service::Service;
use crate::shelf::States;
use crate::time::{MILLI, Nanos, PPM_MAX, SECOND};

/// The text of a scenario file that makes this plan.
pub fn text(plan: &Plan, about: &str) -> String {
    let mut table = table(plan);
    table.insert("about".to_owned(), about.into());
    let lists = ["service", "fault", "expect"];
    let mut text = String::new();
    for (key, value) in table.iter().filter(|(key, _)| !lists.contains(&key.as_str())) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    for list in lists {
        for entry in table.get(list).and_then(Value::as_array).into_iter().flatten() {
            text.push_str(&format!("\n[[{list}]]\n"));
            for (key, value) in entry.as_table().into_iter().flatten() {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
    }
    text
}

/// The same in one line, for [`super::parse_line`].
pub fn line(plan: &Plan) -> String {
    Value::Table(table(plan)).to_string()
}

fn table(plan: &Plan) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    put("nodes", i64::from(plan.boards).into());
    // Seeds of schedules are small numbers; a larger one would not read back.
    put("seed", i64::try_from(plan.seed).unwrap_or(i64::MAX).into());
    put("link", value(&plan.link));
    if plan.states != States::Bytes {
        put("states", value(&plan.states));
    }
    put("preset", plan.preset.name.into());
    if plan.loss_percent > 0 {
        put("loss", i64::from(plan.loss_percent).into());
    }
    if plan.ppm_max != PPM_MAX {
        put("clock-ppm", i64::from(plan.ppm_max).into());
    }
    put("horizon", duration(plan.horizon));
    if let Some(heal_at) = plan.heal_at {
        put("heal", duration(heal_at));
    }
    if let Some(settle) = plan.settle_within {
        put("settle", duration(settle));
    }
    let lists = [("late", &plan.late), ("strangers", &plan.strangers), ("relays", &plan.relays)];
    for (key, boards) in lists {
        if !boards.is_empty() {
            put(key, boards.iter().map(|board| i64::from(*board)).collect::<Vec<_>>().into());
        }
    }
    let mut list = |key: &str, entries: Vec<Table>| {
        let entries: Vec<Value> = entries.into_iter().map(Value::Table).collect();
        if !entries.is_empty() {
            table.insert(key.to_owned(), entries.into());
        }
    };
    list("service", plan.services.iter().map(service).collect());
    list("fault", plan.schedule.iter().map(fault).collect());
    let expects = plan.expects.iter().map(|(by, expect)| tagged("by", *by, expect));
    list("expect", expects.collect());
    table
}

/// An expectation as its scenario file has it, in one line.
pub fn entry_text(by: Nanos, expect: &Expect) -> String {
    Value::Table(tagged("by", by, expect)).to_string()
}

fn service(service: &Service) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    put("name", service.name.as_str().into());
    put("at", duration(service.at));
    if service.board > 0 {
        put("on", i64::from(service.board).into());
    }
    put("every", duration(service.every));
    if service.commit == Commit::Async {
        put("commit", "async".into());
    }
    if service.on_isolation == OnIsolation::KeepRunning {
        put("on-isolation", "keep-running".into());
    }
    if !service.stateful {
        put("state", false.into());
    }
    put("kilobytes", i64::try_from(service.bytes / 1024).unwrap_or(i64::MAX).into());
    table
}

fn fault(timed: &Timed) -> Table {
    let mut table = tagged("at", timed.at, &timed.fault);
    if let Some(cue) = &timed.cue {
        table.insert("when".to_owned(), cue.to_string().into());
        table.insert("plus".to_owned(), duration(cue.plus));
    }
    if let Some(lasts) = timed.lasts {
        table.insert("for".to_owned(), duration(lasts));
    }
    table
}

fn tagged(key: &str, at: Nanos, what: &impl Serialize) -> Table {
    let mut table = Table::new();
    table.insert(key.to_owned(), duration(at));
    if let Value::Table(fields) = value(what) {
        table.extend(fields);
    }
    table
}

fn value(what: &impl Serialize) -> Value {
    Value::try_from(what).expect("numbers, words and lists of them are TOML")
}

fn duration(time: Nanos) -> Value {
    in_words(time).into()
}

/// In the largest unit that loses nothing.
pub(super) fn in_words(time: Nanos) -> String {
    let units = [(SECOND, "s"), (MILLI, "ms"), (1000, "us"), (1, "ns")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| time.is_multiple_of(*unit)).unwrap_or((1, "ns"));
    let text = format!("{}{name}", time / unit);
    debug_assert_eq!(nanos(&text), Some(time), "within the longest horizon");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::campaign;
    use crate::faults::Fault;
    use crate::net::nat::{Filter, Mapping};
    use crate::swarm::{self, Schedule};

    #[test]
    fn what_is_written_is_the_same_run() {
        for seed in [1, 5, 12] {
            let mut plan = swarm::plan(seed, 4, Schedule::Swarm);
            plan.relays.insert(1);
            let nat = Fault::Nat {
                node: 2,
                mapping: Mapping::Symmetric,
                filter: Filter::Open,
                expires: 30 * SECOND,
            };
            plan.schedule.push(Timed { at: SECOND, cue: None, lasts: None, fault: nat });
            let trace = campaign::run(&plan, None).trace;
            let file = super::super::parse(Path::new("x.toml"), &text(&plan, "a seed")).unwrap();
            assert_eq!((&file.schedule, &file.relays), (&plan.schedule, &plan.relays));
            assert_eq!(campaign::run(&file, None).trace, trace);
            let line = line(&plan);
            assert!(!line.contains('\n'));
            let plan = super::super::parse_line(&line).unwrap();
            assert_eq!(campaign::run(&plan, None).trace, trace);
        }
    }
}
