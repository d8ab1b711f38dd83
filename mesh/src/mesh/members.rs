//! Who is there: a snapshot that is kept up to date.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::net::{Client, Observed};
use crate::proto::id::NodeId;
use crate::proto::io::{Command, Event, NodeView, Reply};

/// However little happens, a snapshot is never older than that: addresses change without an event.
const OLDEST: Duration = Duration::from_secs(5);

/// Every member that a board knows, in the order of their names. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members(Arc<[Member]>);

/// One member, as one board sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Its id: its public key.
    pub id: NodeId,
    /// Its name. Nothing keeps two boards from having the same.
    pub name: String,
    /// Whether it is there.
    pub standing: Standing,
    /// Whether this is the board that was asked.
    pub me: bool,
    /// Which version of Hedgerow it runs.
    pub version: String,
    /// Where it says it can be reached, as multiaddrs.
    pub addresses: Vec<String>,
}

/// Whether a member is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It answers.
    Up,
    /// Somebody has lost contact with it; seconds later it is up again, or down.
    Suspect,
    /// It is held for dead. It comes back by itself.
    Down,
    /// It left on purpose.
    Left,
}

impl Members {
    /// How many are up.
    pub fn up(&self) -> usize {
        self.iter().filter(|member| member.standing == Standing::Up).count()
    }

    /// The one with that name, if there is one.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.iter().find(|member| member.name == name)
    }

    fn of(views: Vec<NodeView>) -> Self {
        let mut all: Vec<Member> = views.into_iter().map(Member::of).collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Self(all.into())
    }
}

impl Member {
    fn of(view: NodeView) -> Self {
        Self {
            id: view.node,
            name: view.name,
            standing: match view.state {
                "up" => Standing::Up,
                "suspect" => Standing::Suspect,
                "left" => Standing::Left,
                _ => Standing::Down,
            },
            me: view.me,
            version: view.version,
            addresses: view.addresses,
        }
    }
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.0
    }
}

/// Keeps a snapshot until the node stops.
pub(super) fn keep(client: Client) -> (watch::Receiver<Members>, JoinHandle<()>) {
    let (sender, members) = watch::channel(Members(Arc::new([])));
    let task = tokio::spawn(async move {
        let mut events = client.events();
        while let Ok(Reply::Nodes(views)) = client.ask(Command::Nodes).await {
            let fresh = Members::of(views);
            sender.send_if_modified(|known| {
                let changed = *known != fresh;
                *known = fresh;
                changed
            });
            let change = async {
                while let Some(observed) = events.next().await {
                    if is_news(&observed) {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(OLDEST, change).await;
        }
    });
    (members, task)
}

fn is_news(observed: &Observed) -> bool {
    match observed {
        Observed::Lagged(_) => true,
        Observed::Event(stamped) => matches!(
            stamped.event,
            Event::Started { .. }
                | Event::Admitted { .. }
                | Event::MemberUp { .. }
                | Event::Suspected { .. }
                | Event::Refuted { .. }
                | Event::MemberDown { .. }
                | Event::MemberLeft { .. }
                | Event::Left
        ),
    }
}
