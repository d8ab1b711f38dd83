//! What checkpoints hold. The world moves states about by their names; what is in them lies here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hedgerow::hosted::Restored;
use hedgerow::proto::order::Instance;
use hedgerow::proto::table::CheckpointId;

use crate::queue::BoardIndex;
use crate::service::ServiceEvent;

/// See the module.
#[derive(Default)]
pub(super) struct States {
    /// What lies in the folder of a service on a board.
    folders: BTreeMap<(BoardIndex, Instance), Arc<Restored>>,
    /// What is being captured and is not durable.
    begun: BTreeMap<(BoardIndex, Instance), (CheckpointId, Arc<Restored>)>,
    /// What is durable on some board, and on which.
    kept: BTreeMap<(Instance, CheckpointId), (Arc<Restored>, BTreeSet<BoardIndex>)>,
    /// What no board keeps any more, but may still be on its way to one.
    fading: VecDeque<(Instance, CheckpointId)>,
}

/// So many states that no board keeps are remembered.
const FADING_MAX: usize = 64;

impl States {
    pub(super) fn in_folder(
        &self,
        board: BoardIndex,
        instance: &Instance,
    ) -> Option<Arc<Restored>> {
        self.folders.get(&(board, instance.clone())).cloned()
    }

    pub(super) fn kept(&self, instance: &Instance, id: CheckpointId) -> Option<Arc<Restored>> {
        self.kept.get(&(instance.clone(), id)).map(|(state, _)| state.clone())
    }

    /// Its folder holds that from now on.
    pub(super) fn write(&mut self, board: BoardIndex, instance: &Instance, state: Arc<Restored>) {
        self.folders.insert((board, instance.clone()), state);
    }

    /// What is in its folder is captured under that name.
    pub(super) fn capture(&mut self, board: BoardIndex, instance: &Instance, id: CheckpointId) {
        let key = (board, instance.clone());
        if let Some(state) = self.folders.get(&key).cloned() {
            self.begun.insert(key, (id, state));
        }
    }

    pub(super) fn see(&mut self, board: BoardIndex, event: &ServiceEvent) {
        match event {
            ServiceEvent::Kept { instance, id, .. } => {
                let captured = (board, instance.clone());
                if self.begun.get(&captured).is_some_and(|(begun, _)| begun == id)
                    && let Some((_, state)) = self.begun.remove(&captured)
                {
                    let kept = (state, BTreeSet::new());
                    self.kept.insert((instance.clone(), *id), kept);
                }
                if let Some((_, boards)) = self.kept.get_mut(&(instance.clone(), *id)) {
                    boards.insert(board);
                }
            }
            ServiceEvent::Dropped { instance, id } => self.drop_one(board, (instance.clone(), *id)),
            ServiceEvent::StateLost => self.lose(board),
            _ => {}
        }
    }

    /// Everything on that board is gone.
    pub(super) fn lose(&mut self, board: BoardIndex) {
        let on_it = |(_, (_, boards)): &(_, &(_, BTreeSet<BoardIndex>))| boards.contains(&board);
        let lost: Vec<_> = self.kept.iter().filter(on_it).map(|(key, _)| key.clone()).collect();
        for key in lost {
            self.drop_one(board, key);
        }
        self.folders.retain(|(on, _), _| *on != board);
        self.begun.retain(|(on, _), _| *on != board);
    }

    fn drop_one(&mut self, board: BoardIndex, key: (Instance, CheckpointId)) {
        let Some((_, boards)) = self.kept.get_mut(&key) else { return };
        boards.remove(&board);
        if !boards.is_empty() {
            return;
        }
        self.fading.push_back(key);
        if self.fading.len() > FADING_MAX
            && let Some(oldest) = self.fading.pop_front()
            && self.kept.get(&oldest).is_some_and(|(_, boards)| boards.is_empty())
        {
            self.kept.remove(&oldest);
        }
    }
}
