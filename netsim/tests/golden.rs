//! Runs are the same in every build: the hashes in golden.txt hold in this one, too.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use hedgerow_netsim::golden;

#[test]
fn every_golden_run_comes_to_what_it_came_to_before() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden.txt");
    let changed = golden::changed(&file).unwrap();
    let advice = "if the core or the simulator was changed: cargo netsim golden --write";
    assert!(changed.is_empty(), "{changed:#?}\n{advice}");
}
