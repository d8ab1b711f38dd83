//! A mesh as an application meets it: one [`Mesh`] for each board that the application runs on.
//!
//! [`Mesh::builder`] starts a node in this process, on the tokio runtime that is current, and gives it a
//! data folder. Everything else hangs on the handle: who is there ([`Mesh::members`]), what happens
//! ([`Mesh::events`]), messages to all ([`Mesh::topic`]), services that this program hosts itself and
//! that carry on elsewhere when this board dies ([`Mesh::service`]), and where a service is
//! ([`Mesh::resolve`]). [`Mesh::memory`] makes several boards in one process, to test with.
//!
//! **Drop and shutdown differ.** A mesh that is dropped has crashed: its services are not polled any
//! more, nothing is told to anybody, and the others find out as they would after a power cut. After
//! [`Mesh::shutdown`] its services run on their standbys.

mod builder;
mod error;
mod events;
mod founding;
mod members;
mod memory;
mod service;
mod topic;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use crate::hosted::{
    Active, BoxFuture, Checkpoint, CommitError, Fault, Hosted, Lease, Restored, StateError,
};
pub use crate::net::{Observed, Stamped};
pub use crate::proto::io::{Event, InstanceView};
pub use crate::proto::ticket::Ticket;
pub use builder::{Builder, LeasePreset};
pub use error::MeshError;
pub use events::Events;
pub use founding::OperatorKey;
pub use members::{Member, Members, Standing};
pub use memory::Meshes;
pub use service::{Resolved, Service, ServiceBuilder};
pub use topic::{Heard, PublishError, Subscriber, Topic};

use crate::net::hosted::Hosts;
use crate::net::{Client, Node};
use crate::proto::id::NodeId;
use crate::proto::io::{Command, Reply, ViewState};
use crate::proto::record::Name;

/// How long a shutdown waits for standbys to take over.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// How long it waits then for services that have no standby to end by themselves.
const STOP_MAX: Duration = Duration::from_secs(6);
/// Between two looks at what has changed, where nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One board of a mesh, in this process. See the [module](self).
#[derive(Debug)]
pub struct Mesh {
    node: Option<Node>,
    client: Client,
    id: NodeId,
    name: String,
    home: PathBuf,
    operator: Option<OperatorKey>,
    hosts: Hosts,
    members: watch::Receiver<Members>,
    keeps_members: JoinHandle<()>,
}

impl Mesh {
    /// How to start a board in this process.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `n` boards of one mesh in this process, for tests: over memory instead of a network, with data
    /// folders that are removed at the end. Board 0 founds the mesh, the others join it; returns when
    /// each sees all of them. 1 ≤ n ≤ 64. The code is what runs on real boards, and so are its times: a
    /// crash is noticed after some seconds.
    ///
    /// # Errors
    /// The temporary folder cannot be written, or the boards do not meet within a minute.
    pub async fn memory(n: usize) -> Result<Meshes, MeshError> {
        Meshes::start(n).await
    }

    /// This board's id: its public key. The same after a restart.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// This board's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who is there, as this board sees it, itself included. Costs a reference count; is brought up to
    /// date within moments of what [`Mesh::events`] tells.
    pub fn members(&self) -> Members {
        self.members.borrow().clone()
    }

    /// Waits until `condition` holds for [`Mesh::members`]. Has no time limit of its own.
    ///
    /// # Errors
    /// [`MeshError::Gone`]: this node has stopped.
    pub async fn until(
        &self,
        mut condition: impl FnMut(&Members) -> bool,
    ) -> Result<Members, MeshError> {
        let mut members = self.members.clone();
        let found = members.wait_for(|members| condition(members)).await;
        found.map(|members| members.clone()).map_err(|_| MeshError::Gone)
    }

    /// What happens from now on: a stream, bounded. Whoever is 1,024 events late misses the oldest and is
    /// told how many. Messages on topics are not among them.
    pub fn events(&self) -> Events {
        Events::new(self.client.events())
    }

    /// A topic by name, at most 128 bytes, by convention `telemetry:BOARD:METRIC`. All boards should use
    /// it with types that serde takes for the same.
    ///
    /// # Errors
    /// [`MeshError::Name`]: the name is empty or too long.
    pub fn topic<T>(&self, name: &str) -> Result<Topic<T>, MeshError> {
        Topic::new(self.client.clone(), name)
    }

    /// A service of that name: up to 63 lower-case letters, digits, `-`, `_` and `.`. Nothing happens
    /// before [`ServiceBuilder::host`].
    pub fn service(&self, name: &str) -> ServiceBuilder<'_> {
        ServiceBuilder::new(self, name)
    }

    /// Every service in the mesh, as this board knows them.
    ///
    /// # Errors
    /// [`MeshError::Gone`]: this node has stopped.
    pub async fn services(&self) -> Result<Vec<InstanceView>, MeshError> {
        match self.ask(Command::Instances).await? {
            Reply::Instances(all) => Ok(all),
            other => Err(MeshError::unexpected(&other)),
        }
    }

    /// Where a service serves right now. Follows takeovers; ask again when a connection breaks.
    ///
    /// # Errors
    /// [`MeshError::Refused`], code `not-found` or `not-serving`: try again in a moment. A service without
    /// a named port never serves.
    pub async fn resolve(&self, service: &str) -> Result<Resolved, MeshError> {
        match self.ask(Command::Resolve(Name::capped(service))).await? {
            Reply::Resolved(view) => Ok(Resolved::new(view)),
            other => Err(MeshError::unexpected(&other)),
        }
    }

    /// Stops this board in good order: services go to their standbys, for up to 10 s, those without one
    /// are asked to end and their last state is kept here; then the others see the connection close. To
    /// leave the mesh for good is an operator's business.
    pub async fn shutdown(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        if !self.client.hand_over(HAND_OVER_MAX).await {
            tracing::warn!("not every service has gone to its standby in time");
        }
        self.hosts.close();
        let ended = self.wait(|mesh| mesh.hosts.running().is_empty());
        let _in_time = tokio::time::timeout(STOP_MAX, ended).await;
        if let Some(node) = self.node.take()
            && let Err(error) = node.shutdown().await
        {
            tracing::warn!(%error, "this node had stopped before");
        }
    }

    /// Waits until this node stops by itself. It does so when its disk fails or it is revoked.
    pub async fn stopped(&mut self) -> MeshError {
        match &mut self.node {
            Some(node) => match node.stopped().await {
                Ok(()) => MeshError::Gone,
                Err(error) => MeshError::Stopped(error),
            },
            None => MeshError::Gone,
        }
    }

    /// What a kill is to a process.
    fn crash(&mut self) {
        self.keeps_members.abort();
        self.node = None;
    }

    async fn wait(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn ask(&self, command: Command) -> impl Future<Output = Result<Reply, MeshError>> + use<> {
        let client = self.client.clone();
        async move { client.ask(command).await.map_err(|_| MeshError::Gone) }
    }

    /// Waits until the node takes part.
    async fn has_begun(&self) -> Result<(), MeshError> {
        loop {
            match self.ask(Command::Status).await? {
                Reply::Status(status) if status.view != ViewState::Starting => return Ok(()),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn start(
        node: Node,
        builder: Builder,
        home: PathBuf,
        hosts: Hosts,
    ) -> Result<Self, MeshError> {
        let client = node.client();
        let (members, keeps_members) = members::keep(client.clone());
        let mesh = Self {
            id: node.id(),
            node: Some(node),
            client,
            name: builder.name,
            home,
            operator: builder.operator,
            hosts,
            members,
            keeps_members,
        };
        mesh.has_begun().await?;
        mesh.until(|members| members.iter().any(|member| member.me)).await?;
        Ok(mesh)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Several threads use it at once.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Mesh>();
    shared::<Arc<dyn Hosted>>();
};
