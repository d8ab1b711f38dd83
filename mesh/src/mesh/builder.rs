//! How to start a board in this process.

use std::path::PathBuf;
use std::time::Duration;

use super::founding::{OperatorKey, found};
use super::{Mesh, MeshError};
use crate::net::hosted::{Hosts, Overrun};
use crate::net::{Home, Node, Settings};
use crate::proto::bounded::List;
use crate::proto::config::MembershipTiming;
use crate::proto::promises::Preset;
use crate::proto::record::{LABELS_MAX, NAME_BYTES_MAX, Name};
use crate::proto::ticket::Ticket;

/// Before another look whether a node that was here a moment ago has let go of its folder.
const FOLDER_STEP: Duration = Duration::from_millis(50);

/// Starts a [`Mesh`]; made by [`Mesh::builder`]. `name` and `data_dir` are needed always, `ticket` or
/// `found` at the first start only.
#[derive(Debug, Default)]
#[must_use = "nothing happens before start()"]
pub struct Builder {
    pub(super) name: String,
    data_dir: Option<PathBuf>,
    ticket: Option<Ticket>,
    found: Option<String>,
    pub(super) operator: Option<OperatorKey>,
    listen: Vec<String>,
    announce: Vec<String>,
    mdns: bool,
    labels: Vec<(String, String)>,
    preset: Option<Preset>,
    shim: PathBuf,
    may_overrun: bool,
    wait_for_folder: Duration,
}

/// How long a silent board is waited for before its services run elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeasePreset {
    /// Leases of 1.5 s, a kill bound of 0.2 s: wired LANs, boards that never stall for 0.5 s.
    Lan,
    /// 3 s and 0.3 s: boards on SD cards.
    Sd,
    /// 5 s and 0.5 s: everything else. The default.
    Wan,
}

impl Builder {
    /// What operators call this board; 1 to 63 bytes.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// This board's own folder: its key, its journal, its services' state. Made if it is not there,
    /// private to this user, for one node at a time. If it is lost, the board is a new one.
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// The ticket to join a mesh with, as `hedgerow ticket new` or [`Mesh::invite`] makes it. Ignored once
    /// the board belongs to a mesh.
    pub fn ticket(mut self, ticket: Ticket) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// Founds a mesh of that name with this board, as `hedgerow init` does: makes the root key and the
    /// operator's in the data folder. Ignored if this was done there before.
    pub fn found(mut self, mesh_name: &str) -> Self {
        self.found = Some(mesh_name.to_owned());
        self
    }

    /// The key that services are declared with. Without one this board hosts what others declare.
    pub fn operator_key(mut self, key: OperatorKey) -> Self {
        self.operator = Some(key);
        self
    }

    /// A multiaddr to listen on; may be called again for more. Without any: every interface, a free port,
    /// over QUIC and TCP.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen.push(address.to_owned());
        self
    }

    /// A multiaddr that others should use instead of those that it listens on; may be called again.
    pub fn announce(mut self, address: &str) -> Self {
        self.announce.push(address.to_owned());
        self
    }

    /// Whether to look for boards of the same mesh on the LAN by mDNS. Off if not called.
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// A label, for [`ServiceBuilder::only_where`](super::ServiceBuilder::only_where); at most 8, of at
    /// most 63 bytes each. The rest is dropped.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// How long leases last. Boards of one mesh may differ.
    pub fn leases(mut self, preset: LeasePreset) -> Self {
        self.preset = Some(match preset {
            LeasePreset::Lan => Preset::LAN,
            LeasePreset::Sd => Preset::SD,
            LeasePreset::Wan => Preset::WAN,
        });
        self
    }

    /// A program that runs services as processes, see [`workload::dispatch`](crate::workload::dispatch).
    /// Without it this board runs what this program hosts, and nothing else.
    pub fn shim(mut self, program: impl Into<PathBuf>) -> Self {
        self.shim = program.into();
        self
    }

    /// Lets this program live although a service that it hosts runs beyond its lease. Then **two boards may
    /// run it at once**, for as long as one step of its `run` blocks. Without this the program is
    /// aborted at that moment: nothing else stops code that does not yield.
    pub fn danger_keep_program_past_lease(mut self) -> Self {
        self.may_overrun = true;
        self
    }

    /// For a node that was in this process a moment ago.
    pub(super) fn wait_for_folder(mut self, longest: Duration) -> Self {
        self.wait_for_folder = longest;
        self
    }

    /// Starts the board on the tokio runtime that is current; it needs time, I/O and more than one thread.
    /// Returns when the board takes part, before it has met anybody: see [`Mesh::until`].
    ///
    /// # Errors
    /// [`MeshError::NoDataDir`], [`MeshError::Name`], [`MeshError::BelongsAlready`], or the folder, the
    /// ticket or an address cannot be used; each has its own sentence.
    pub async fn start(mut self) -> Result<Mesh, MeshError> {
        let data_dir = self.data_dir.take().ok_or(MeshError::NoDataDir)?;
        let what = "a board's name";
        let name = match Name::try_from(&*self.name) {
            Ok(name) if !name.is_empty() => name,
            _ => return Err(MeshError::Name { name: self.name, what, max: NAME_BYTES_MAX }),
        };
        let home = Home::open(data_dir)?;
        if let Some(mesh_name) = self.found.take() {
            let founded = found(&home, &mesh_name)?;
            self.ticket = self.ticket.or(founded);
            self.operator = Some(self.operator.map_or_else(|| OperatorKey::read(home.path()), Ok)?);
        }
        let overrun = if self.may_overrun { Overrun::GoOn } else { Overrun::Abort };
        let settings = Settings {
            record: None,
            home: home.path().to_owned(),
            name,
            listen: std::mem::take(&mut self.listen),
            announce: std::mem::take(&mut self.announce),
            mdns: self.mdns,
            labels: List::<_, LABELS_MAX>::capped(
                self.labels.iter().map(|(k, v)| (Name::capped(k), Name::capped(v))),
            ),
            ticket: self.ticket.take(),
            membership: MembershipTiming::default(),
            preset: self.preset.unwrap_or(Preset::WAN),
            shim: std::mem::take(&mut self.shim),
        };
        let (node, hosts) = self.start_node(settings, overrun).await?;
        Mesh::start(node, self, home.path().to_owned(), hosts).await
    }

    async fn start_node(
        &self,
        mut settings: Settings,
        overrun: Overrun,
    ) -> Result<(Node, Hosts), MeshError> {
        if settings.listen.is_empty() {
            settings.listen =
                ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"].map(Into::into).into();
        }
        let deadline = tokio::time::Instant::now() + self.wait_for_folder;
        loop {
            let hosts = Hosts::new(overrun);
            match Node::start_hosting(settings.clone(), hosts.clone()).await {
                Ok(node) => return Ok((node, hosts)),
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(FOLDER_STEP).await,
            }
        }
    }
}
