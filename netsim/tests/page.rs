//! The page on writing scenarios is true: its examples run, and it names all that a file may say.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use hedgerow_netsim::plan::Plan;
use hedgerow_netsim::scenario;
use hedgerow_netsim::world::run;

const PAGE: &str = include_str!("../SCENARIOS.md");
const HEAD: &str = "about = \"x\"\nnodes = 3\nhorizon = \"40s\"\n";

fn examples() -> Vec<Plan> {
    let blocks = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|text| scenario::parse(Path::new("SCENARIOS.md"), text).unwrap()).collect()
}

#[test]
fn its_examples_come_to_what_they_expect() {
    let examples = examples();
    assert_eq!(examples.len(), 3);
    for plan in examples {
        let outcome = run(&plan, None);
        assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    }
}

#[test]
fn it_names_every_fault_and_every_expectation() {
    for (table, tag) in [("fault", "at = \"1s\"\ndo"), ("expect", "by = \"1s\"\nthat")] {
        let text = format!("{HEAD}[[{table}]]\n{tag} = \"nothing\"\n");
        let error = scenario::parse(Path::new("x.toml"), &text).unwrap_err().what;
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(known.len() > 15, "{error}");
        for name in known {
            assert!(PAGE.contains(&format!("`{name}`")), "{name} is not on the page");
        }
    }
}
