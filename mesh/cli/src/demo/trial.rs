//! `hedgerow trial`: placeholder.

use std::time::Duration;

use serde::Serialize;

use super::play::{Load, Play};
use crate::args::{MeshArgs, TrialKind};
use crate::exit::Outcome;

#[derive(Default, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) held: bool,
}
impl Summary {
    pub(super) fn seal(self, _: u64, _: TrialKind, _: &MeshArgs, _: Vec<String>) -> Self {
        self
    }
}
pub(super) fn load(_: TrialKind) -> Load {
    Load { connections: 8, every: Duration::from_millis(20) }
}
pub(super) async fn play(_: &mut Play, _: TrialKind, _: u32) -> Outcome<Summary> {
    Ok(Summary::default())
}
pub(super) fn for_people(_: &Summary) -> String {
    String::new()
}
