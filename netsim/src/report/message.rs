//! A message in a few words.

use hedgerow::proto::wire::Message;
use hedgerow::proto::wire::copies::{Offer, Stored};
use hedgerow::proto::wire::failover::Claimed;

use crate::timeline::Words;

/// Its name and what of it matters in a picture.
pub(super) fn text(words: &Words, message: &Message) -> String {
    let yes = |granted: bool| if granted { "yes" } else { "no" };
    let more = match message {
        Message::PreVote(vote) => format!("(would you vote for me?) term {}", vote.term.0),
        Message::PreVoteOk(ok) => format!("{}, term {}", yes(ok.granted), ok.term.0),
        Message::Vote(vote) => format!("(vote for me) term {}", vote.term.0),
        Message::VoteOk(ok) => format!("{}, term {}", yes(ok.granted), ok.term.0),
        Message::App(app) => {
            let table = app.table.as_ref().map(|table| {
                let version = table.version;
                format!(", table {}/{}", version.term.0, version.number)
            });
            let table = table.unwrap_or_default();
            format!("(heartbeat) term {}, {} ms{table}", app.term.0, app.lease_ms)
        }
        Message::AppOk(ok) => {
            let (term, number) = (ok.durable.term.0, ok.durable.number);
            let lease = if ok.sent == 0 { ", no lease" } else { "" };
            format!("term {}, has table {term}/{number}{lease}", ok.term.0)
        }
        Message::Renew(renew) => format!("{} epoch {}", renew.instance, renew.epoch.0),
        Message::Grant(grant) => {
            format!("{} epoch {}, {} ms", grant.instance, grant.epoch.0, grant.lease_ms)
        }
        Message::Claim(claim) => {
            let what = match claim.claim {
                Claimed::Release { to, .. } => format!("release to {}", words.who(&to)),
                Claimed::Take { from } => format!("take, from {}/{}", from.epoch.0, from.seq),
                other => format!("{other:?}"),
            };
            format!("{} epoch {}: {what}", claim.instance, claim.epoch.0)
        }
        Message::Offer(Offer { instance, id }) | Message::Stored(Stored { instance, id }) => {
            format!("{instance} state {}/{}", id.epoch.0, id.seq)
        }
        Message::Ask(ask) => format!("is {} alive?", words.who(&ask.subject)),
        Message::Answer(answer) => format!("about {}", words.who(&answer.subject)),
        _ => return message.name().to_owned(),
    };
    format!("{} {more}", message.name())
}
