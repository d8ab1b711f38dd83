use super::*;
use crate::proto::id::CellId;
use crate::proto::order::samples::order;
use crate::proto::promises::Preset;
use crate::proto::table::samples::row;
use crate::proto::turn::samples::{Surroundings, at};
use crate::proto::wire::Message;

const OP: OpId = OpId(1);

fn stop() -> SignedOrder {
    order(1, Action::Stop(Text::capped("kv")))
}

fn failover() -> Failover {
    Failover::new(Preset::LAN, 0, at(0))
}

/// The codes of the answers to the operator, and the numbers under which orders were sent on.
fn seen(surroundings: &mut Surroundings) -> (Vec<String>, Vec<u64>) {
    let (mut codes, mut sent) = (Vec::new(), Vec::new());
    for effect in surroundings.effects() {
        match effect {
            Effect::Reply { op: OP, reply: Reply::Error(error) } => codes.push(error.code),
            Effect::Send { message: Message::Submit(submit), .. } => sent.push(submit.seq),
            _ => {}
        }
    }
    (codes, sent)
}

fn answer(seq: u64, code: &str) -> Submitted {
    Submitted { seq, done: false, code: Text::capped(code), text: Text::default() }
}

/// The master has passed an order on: that board is to give up its third right.
fn pass_on_a_move(board: &mut Surroundings, failover: &mut Failover, by: NodeId) -> u64 {
    let service = Text::capped("kv");
    let signed = Box::new(order(1, Action::Move(service.clone())));
    let instance = Instance { service, ordinal: 0 };
    let passed = Passed { instance, epoch: Epoch(3), by, done: Done::Moved };
    let root = board.turn(0).me.belonging.root;
    let order = Box::new(signed.verify(&root, CellId::default()).unwrap());
    let stage = Stage::Passed(OnItsWay { passed, order, signed });
    failover.desk.open(&board.turn(0), Asker::Here(OP), stage)
}

#[test]
fn an_order_that_meets_no_master_in_time_is_answered_so() {
    let (mut board, mut failover) = (Surroundings::new(), failover());
    failover.on_order(&mut board.turn(0), &Office::default(), OP, stop());
    failover.desk.expire(&mut board.turn(7_999));
    assert_eq!(seen(&mut board), (vec![], vec![]));
    failover.desk.expire(&mut board.turn(8_000));
    assert_eq!(seen(&mut board), (vec!["no-master".to_owned()], vec![]));
}

#[test]
fn who_is_not_master_any_more_is_not_asked_again_at_once() {
    let (mut board, mut failover) = (Surroundings::new(), failover());
    let master = board.peer(1);
    let office = Office { master: Some(master), ..Office::default() };
    failover.on_order(&mut board.turn(0), &office, OP, stop());
    let (_, sent) = seen(&mut board);
    let [seq] = sent[..] else { panic!("sent {sent:?}") };
    failover.on_submitted(&mut board.turn(10), master, &answer(seq, NOT_MASTER));
    failover.pass_on(&mut board.turn(209), &office);
    assert_eq!(seen(&mut board), (vec![], vec![]));
    failover.pass_on(&mut board.turn(210), &office);
    assert_eq!(seen(&mut board), (vec![], vec![seq]));
}

#[test]
fn only_the_board_that_is_to_carry_an_order_out_can_refuse_it() {
    let (mut board, mut failover) = (Surroundings::new(), failover());
    let (by, other) = (board.peer(1), board.peer(2));
    let seq = pass_on_a_move(&mut board, &mut failover, by);
    failover.on_submitted(&mut board.turn(10), other, &answer(seq, "no-such-state"));
    assert_eq!(seen(&mut board), (vec![], vec![]));
    failover.on_submitted(&mut board.turn(20), by, &answer(seq, "no-such-state"));
    assert_eq!(seen(&mut board), (vec!["no-such-state".to_owned()], vec![]));
}

#[test]
fn what_another_board_carries_out_is_done_once_the_right_has_changed() {
    let (mut board, mut failover) = (Surroundings::new(), failover());
    let (by, to) = (board.peer(1), board.peer(2));
    pass_on_a_move(&mut board, &mut failover, by);
    let row = row("kv", by, Some(to));
    board.knows(1, vec![row.clone()]);
    failover.desk_follows_table(&mut board.turn(10));
    assert_eq!(board.effects(), [], "a newer table says nothing about it");
    let moved = Row { epoch: Epoch(4), previous: Epoch(3), released: true, active: to, ..row };
    board.knows(2, vec![moved]);
    failover.desk_follows_table(&mut board.turn(20));
    assert_eq!(board.effects(), [Effect::Reply { op: OP, reply: Reply::Done }]);
}

#[test]
fn what_another_change_was_faster_than_is_a_conflict() {
    let (mut board, mut failover) = (Surroundings::new(), failover());
    let (by, to) = (board.peer(1), board.peer(2));
    pass_on_a_move(&mut board, &mut failover, by);
    let taken_over = Row { epoch: Epoch(4), previous: Epoch(3), ..row("kv", to, Some(by)) };
    board.knows(1, vec![taken_over]);
    failover.desk_follows_table(&mut board.turn(10));
    assert_eq!(seen(&mut board), (vec!["conflict".to_owned()], vec![]));
}
