//! Journals of a mesh that has run before.
//!
//! A thousand boards that join one by one check each other's chains again and again, which takes a
//! quarter of an hour of processor time and measures nothing but that. Here everybody begins as after a
//! power cut of the whole mesh: each journal holds the board's own belonging and every other member, in
//! the life that it is about to begin, so that nobody has news for anybody.

use std::collections::BTreeMap;

use hedgerow::proto::bounded::List;
use hedgerow::proto::config::Belonging;
use hedgerow::proto::id::{Incarnation, NodeId};
use hedgerow::proto::journal::Durable;
use hedgerow::proto::myself::Myself;
use hedgerow::proto::record::Admission;
use hedgerow::proto::signed::Signed;
use hedgerow::proto::wire::gossip::Joined;

use super::World;
use crate::board;
use crate::queue::BoardIndex;
use crate::time;

/// Whom everybody knows.
const FOUNDER: BoardIndex = 0;

impl World {
    /// Fills the journals of all boards that are there from the beginning.
    pub(super) fn acquaint(&mut self) {
        let boards: Vec<BoardIndex> =
            (0..self.plan.boards).filter(|board| !self.plan.late.contains(board)).collect();
        let lives: Vec<Myself> = boards.iter().map(|board| self.earlier_life(*board)).collect();
        let everybody: BTreeMap<NodeId, Joined> =
            lives.iter().map(|life| (life.id(), life.joined())).collect();
        for (board, life) in boards.into_iter().zip(lives) {
            let mut members = everybody.clone();
            members.remove(&life.id());
            let durable = Durable {
                identity: Some(life.id()),
                admission: life.admission.clone(),
                belonging: Some(life.belonging),
                members,
                ..Durable::default()
            };
            self.board(board).is_member = true;
            if let Err(error) = self.board(board).disk.prefill(&durable) {
                self.find("journal-frames-fit", Some(board), error);
            }
        }
    }

    /// What a board says of itself when it comes to life with a journal that knows no incarnation.
    fn earlier_life(&self, index: BoardIndex) -> Myself {
        let (board, founder) =
            (&self.boards[usize::from(index)], &self.boards[usize::from(FOUNDER)]);
        let contacts = [(board::address(FOUNDER, 0), founder.id)];
        let contacts = if index == FOUNDER { &[][..] } else { &contacts[..] };
        let ticket = board::ticket(self.plan.seed, index, 0, false, contacts);
        let belonging = Belonging::by_ticket(&ticket, &board.id);
        let config = board.config(self.plan.timing, self.plan.preset, None);
        let mut life = Myself::new(config, belonging, None, Incarnation(0));
        life.set_addresses(List::capped([board::address(index, 0)]));
        if index != FOUNDER {
            let admission = Admission {
                node: board.id,
                ticket: life.belonging.credential.ticket.digest(),
                by: founder.id,
                at: time::wall(0),
            };
            let signed = Signed::seal(&admission, &founder.keypair);
            life.admission = Some(signed.expect("an admission is far below the limit"));
        }
        life
    }
}
