//! The names of the states of one instance on one board, in place of a store. No disk of it ever fails.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::proto::table::CheckpointId;
use hedgerow_replication::store::StoreError;
use hedgerow_replication::transfer::TransferError;
use hedgerow_replication::{CkptId, ManifestHash};

use super::{Packed, Shelf};
use crate::seed::Stream;
use crate::service::{Found, Point};

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Names {
    listed: BTreeSet<CheckpointId>,
    points: BTreeMap<CheckpointId, Point>,
    receiving: Option<(CheckpointId, Point)>,
}

impl Names {
    fn put(&mut self, id: CheckpointId, point: Point) {
        self.listed.insert(id);
        self.points.insert(id, point);
    }
}

impl Shelf for Names {
    fn listed(&self) -> &BTreeSet<CheckpointId> {
        &self.listed
    }

    fn read(&self, id: CheckpointId) -> Found {
        let point = self.points.get(&id);
        point.map_or_else(|| Found::Nothing("it is not here".to_owned()), |p| Found::State(*p))
    }

    fn is_sound(&self, id: CheckpointId) -> bool {
        self.listed.contains(&id)
    }

    fn begin_capture(&mut self, _: CheckpointId, _: Point) {}

    fn capture(&mut self, id: CheckpointId, point: Point) -> Result<(), TransferError> {
        self.put(id, point);
        Ok(())
    }

    fn keep(&mut self, states: &[CheckpointId]) -> Result<(), TransferError> {
        self.listed.retain(|id| states.contains(id));
        self.points.retain(|id, _| states.contains(id));
        Ok(())
    }

    fn forget(&mut self) -> Result<(), TransferError> {
        self.keep(&[])
    }

    fn wants(&mut self) -> Vec<ManifestHash> {
        Vec::new()
    }

    fn pack(&mut self, id: CheckpointId, _: &[ManifestHash]) -> Result<Packed, TransferError> {
        let unknown = || {
            let ckpt = CkptId { epoch: id.epoch.0, seq: id.seq };
            StoreError::UnknownState { instance: "states".to_owned(), ckpt }
        };
        let point = self.points.get(&id).copied().ok_or_else(unknown)?;
        Ok(Packed::Names(id, point))
    }

    fn condemn(&mut self, id: CheckpointId) -> Result<Vec<CheckpointId>, TransferError> {
        Ok((!self.points.contains_key(&id)).then_some(id).into_iter().collect())
    }

    fn receive(&mut self, packed: &Packed, count: usize) -> Result<(), TransferError> {
        self.receiving = match packed {
            Packed::Names(id, point) if count > 0 => Some((*id, *point)),
            _ => None,
        };
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TransferError> {
        let received = self.receiving.take().ok_or(TransferError::Unfinished { missing: 1 });
        received.map(|(id, point)| self.put(id, point))
    }

    fn open(&mut self) -> Result<(), TransferError> {
        Ok(())
    }

    fn die_writing(&mut self, _: &mut Stream) {
        self.receiving = None;
    }
}
