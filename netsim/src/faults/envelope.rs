//! Envelopes: what each kind of fault may break. Every rule is judged under every fault, and all of them hold, but for
//! the few that are named here: there the operator's word is false, or two boards are one for all that anybody can know.
//!
//! An envelope is open from the moment in which the fault begins, or the order is carried out, to the end of the run:
//! what was promised meanwhile is relied on later.

use super::Fault;

/// Two boards with one key and one journal keep their promises each for itself, and give one name to two states.
const TWO_ARE_ONE: &[&str] = &[
    "a-store-never-gives-a-wrong-byte",
    "acknowledged-commits-are-kept",
    "at-most-one-container",
    "confirmed-states-are-kept",
    "epochs-of-starts-rise",
    "grantors-keep-their-promises",
    "no-incarnation-is-used-twice",
    "one-vote-per-term",
    "own-vote-rule",
    "reigns-never-overlap",
    "tables-have-one-order",
    "what-is-chosen-is-kept",
];

/// Boards that were said to be gone for good are there, and go on with what they decide.
const GONE_ARE_THERE: &[&str] = &[
    "acknowledged-commits-are-kept",
    "acknowledged-states-are-durable",
    "at-most-one-container",
    "confirmed-states-are-kept",
    "epochs-of-starts-rise",
    "grantors-keep-their-promises",
    "own-vote-rule",
    "reigns-never-overlap",
];

impl Fault {
    /// The rules that it may break. For `recover-mesh` only if a board that is said to be gone is there then, or is back
    /// later and cannot hear of it.
    pub fn may_break(&self) -> &'static [&'static str] {
        match self {
            Self::ClonedIdentity { .. } => TWO_ARE_ONE,
            Self::RecoverMesh { .. } => GONE_ARE_THERE,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant;

    #[test]
    fn envelopes_name_rules_that_there_are_and_the_page_names_the_faults() {
        let page = include_str!("../../SCENARIOS.md");
        let faults = [
            Fault::ClonedIdentity { node: 0, onto: 1 },
            Fault::RecoverMesh { node: 0, dead: vec![1] },
        ];
        for fault in faults {
            assert!(fault.may_break().iter().all(|rule| invariant::means(rule).is_some()));
            assert!(fault.may_break().is_sorted() && !fault.may_break().is_empty());
            assert!(page.contains(&format!("| `{}` |", fault.name())), "{}", fault.name());
        }
        assert!(Fault::Crash { node: 0 }.may_break().is_empty());
    }
}
