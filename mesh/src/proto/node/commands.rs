//! Commands: what the operator or the application wants of this node.

use super::{Node, Parts, Phase};
use crate::proto::id::OpId;
use crate::proto::io::{Command, Effect, Reply, ReplyError};
use crate::proto::journal::Record;
use crate::proto::machine::{Effects, Time};
use crate::proto::members::REVOCATIONS_MAX;
use crate::proto::ops::Purpose;
use crate::proto::order::{Action, Order, SignedOrder};
use crate::proto::signed::Signed;
use crate::proto::ticket::Revocation;

impl Node {
    pub(super) fn on_command(&mut self, now: Time, op: OpId, command: Command, out: &mut Effects) {
        let reply = match command {
            Command::Status => Reply::Status(self.status(now)),
            Command::Nodes => Reply::Nodes(self.nodes(now)),
            Command::Why(object) => self.why(now, &object),
            Command::Instances => Reply::Instances(self.instances(now)),
            Command::Resolve(service) => self.resolve(&service),
            Command::Order(order) if self.phase == Phase::Running => {
                if let Some(reply) = self.recover_mesh(now, &order, out) {
                    return out.push(Effect::Reply { op, reply });
                }
                let office = self.office(now);
                let (Parts { failover, .. }, mut turn) = self.turn(now, out);
                return failover.on_order(&mut turn, &office, op, *order);
            }
            Command::Revocations => Reply::Revocations(self.revocations()),
            Command::Leave { force } if self.phase == Phase::Running => {
                return self.begin_to_leave(now, op, force, out);
            }
            Command::HandOver if self.phase == Phase::Running => {
                let (parts, mut turn) = self.turn(now, out);
                parts.failover.resign_all(&mut turn);
                Reply::Done
            }
            Command::Publish { topic, body } if self.phase == Phase::Running => {
                let (parts, mut turn) = self.turn(now, out);
                parts.topics.publish(&mut turn, topic, body);
                Reply::Done
            }
            Command::Revoke(signed) if self.phase == Phase::Running => {
                return self.on_revoke(now, op, &signed, out);
            }
            Command::Leave { .. }
            | Command::HandOver
            | Command::Publish { .. }
            | Command::Revoke(_)
            | Command::Order(_) => error(
                "not-running",
                "this node does not take part at the moment; `hedgerow status` says why",
            ),
        };
        out.push(Effect::Reply { op, reply });
    }

    /// An order that is carried out here and now, or not at all: there is no master to ask.
    fn recover_mesh(&mut self, now: Time, order: &SignedOrder, out: &mut Effects) -> Option<Reply> {
        let Ok(Action::RecoverMesh { .. }) = order.order.peek().map(|order| order.action) else {
            return None;
        };
        let (Parts { authority, membership, .. }, mut turn) = self.turn(now, out);
        let (root, cell) = (turn.me.belonging.root, turn.me.config().cell);
        Some(match order.verify_fresh(&root, cell, turn.unix) {
            Ok(Order { action: Action::RecoverMesh { dead }, .. }) => {
                match authority.recover_by_force(&mut turn, &dead, &order.hash()) {
                    Ok(()) => {
                        membership.compare_with_all(&mut turn);
                        Reply::Done
                    }
                    Err(why) => error("not-recovered", why),
                }
            }
            Ok(_) => error("refused", "the order is damaged"),
            Err(why) => error("refused", &why.to_string()),
        })
    }

    fn on_revoke(&mut self, now: Time, op: OpId, signed: &Signed<Revocation>, out: &mut Effects) {
        if signed.by_root(&self.me.belonging.root).is_none() {
            let reply = error(
                "not-root",
                "this revocation is not signed by the mesh's root key; run `hedgerow ticket revoke` where the root key lies",
            );
            return out.push(Effect::Reply { op, reply });
        }
        let (Parts { membership, .. }, mut turn) = self.turn(now, out);
        membership.on_revoked(&mut turn, None, signed);
        let kept = signed.peek().is_ok_and(|said| self.members.is_revoked(&said.target));
        if !kept {
            let message = format!(
                "this board keeps {REVOCATIONS_MAX} revocations and can keep no more: found a new mesh"
            );
            return out.push(Effect::Reply { op, reply: error("too-many", &message) });
        }
        let record = Record::Revocation(Box::new(signed.clone()));
        self.ops.persist(record, Purpose::Revocation(op), out);
    }
}

pub(super) fn error(code: &str, message: &str) -> Reply {
    Reply::Error(ReplyError { code: code.to_owned(), message: message.to_owned() })
}
