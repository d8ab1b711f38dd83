//! Services that this program hosts itself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Hosted, InstanceView, LOOK_AGAIN, Mesh, MeshError};
use crate::net::hosted::{COMMAND, STATE};
use crate::net::{Client, random_seed};
use crate::proto::bounded::{List, Text};
use crate::proto::io::{Command, Reply, ResolvedView};
use crate::proto::order::{Action, SignedOrder};
use crate::proto::record::Name;
use crate::proto::spec::{
    Commit, Limits, OnIsolation, Port, Replicate, Restart, ServiceSpec, Word,
};

use super::OperatorKey;

/// How long a service that was declared may take to turn up in the table.
const LISTED_MAX: Duration = Duration::from_secs(5);
/// How long an order waits for a mesh that has no master yet.
const MASTER_MAX: Duration = Duration::from_secs(30);

/// Declares a service; made by [`Mesh::service`].
#[derive(Debug)]
#[must_use = "nothing happens before host(…)"]
pub struct ServiceBuilder<'a> {
    mesh: &'a Mesh,
    name: String,
    replicate: Replicate,
    ports: Vec<Port>,
    labels: Vec<(Name, Name)>,
}

/// A service that this program can host, and a way to give orders about it.
#[derive(Clone, Debug)]
pub struct Service {
    client: Client,
    operator: Option<OperatorKey>,
    name: Name,
}

/// Where a service serves. `Display` writes its first port's `host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The name of the board that runs it.
    pub board: String,
    /// The right that it runs under: what claims a lower one is out of date.
    pub epoch: u64,
    /// `host:port` by the port's name.
    pub endpoints: BTreeMap<String, String>,
}

impl<'a> ServiceBuilder<'a> {
    pub(super) fn new(mesh: &'a Mesh, name: &str) -> Self {
        let replicate =
            Replicate { every_ms: 1000, commit: Commit::Standby, commit_timeout_ms: 5000 };
        let name = name.to_owned();
        Self { mesh, name, replicate, ports: Vec::new(), labels: Vec::new() }
    }

    /// Between two checkpoints: what may be lost with a board, unless it was committed. 1 s if not
    /// called; at least 10 ms.
    pub fn every(mut self, interval: Duration) -> Self {
        self.replicate.every_ms = millis(interval);
        self
    }

    /// How long [`commit`](super::Active::commit) waits for the standby; zero is for ever. 5 s if not
    /// called.
    pub fn commit_within(mut self, longest: Duration) -> Self {
        self.replicate.commit = Commit::Standby;
        self.replicate.commit_timeout_ms = millis(longest);
        self
    }

    /// [`commit`](super::Active::commit) waits for nobody: what happened since the last checkpoint may be
    /// lost.
    pub fn commit_at_once(mut self) -> Self {
        self.replicate.commit = Commit::Async;
        self
    }

    /// A port that it serves, for [`Mesh::resolve`] and [`Active::port`](super::Active::port); 0 is any
    /// free one. At most 8.
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push(Port { name: Name::capped(name), port: number });
        self
    }

    /// Only on boards with that label; may be called again. Needed where not every board runs this
    /// program.
    pub fn only_where(mut self, key: &str, value: &str) -> Self {
        self.labels.push((Name::capped(key), Name::capped(value)));
        self
    }

    /// This program hosts the service from now on: the node runs it here whenever the mesh says so. `first`
    /// is checkpointed now; where a mesh has no state of the service yet, it begins with that. If the
    /// mesh does not know the service and this board has an operator's key, it is declared, and this
    /// waits, up to 35 s, until that is decided. Call it on every board, soon after each start.
    ///
    /// # Errors
    /// [`MeshError::Spec`], [`MeshError::Checkpoint`], or the order is refused; `no-master` and `no-room`
    /// may pass.
    pub async fn host<T: Hosted>(self, first: T) -> Result<Service, MeshError> {
        let mesh = self.mesh;
        let name = Name::try_from(&*self.name).map_err(|over| MeshError::Name {
            name: self.name.clone(),
            what: "a service's name",
            max: over.max,
        })?;
        let spec = self.spec(name.clone());
        spec.check()?;
        let (hosts, home) = (mesh.hosts.clone(), mesh.home.clone());
        let of = name.to_string();
        let registered = tokio::task::spawn_blocking(move || hosts.register(&of, &home, &first));
        registered
            .await
            .unwrap_or_else(|panic| Err(panic.into()))
            .map_err(MeshError::Checkpoint)?;
        let (client, operator) = (mesh.client.clone(), mesh.operator.clone());
        let service = Service { client, operator, name };
        if service.operator.is_some() {
            service.declare(spec).await?;
        }
        Ok(service)
    }

    fn spec(&self, name: Name) -> ServiceSpec {
        ServiceSpec {
            name,
            command: List::capped([Word::capped(COMMAND)]),
            state: Some(Text::capped(STATE)),
            on_isolation: OnIsolation::Fence,
            ports: List::capped(self.ports.iter().cloned()),
            replicate: self.replicate,
            classes: List::new(),
            labels: List::capped(self.labels.iter().cloned()),
            restart: Restart { max: 3, within_ms: 60_000 },
            limits: Limits::default(),
            env: List::new(),
        }
    }
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What this board knows of it; none if the mesh does not know it.
    ///
    /// # Errors
    /// [`MeshError::Gone`].
    pub async fn view(&self) -> Result<Option<InstanceView>, MeshError> {
        match self.client.ask(Command::Instances).await.map_err(|_| MeshError::Gone)? {
            Reply::Instances(all) => Ok(all.into_iter().find(|one| *one.instance == *self.name)),
            other => Err(MeshError::unexpected(&other)),
        }
    }

    /// Moves it to its standby, with everything up to now.
    ///
    /// # Errors
    /// [`MeshError::NoOperator`], or the order is refused.
    pub async fn hand_over(&self) -> Result<(), MeshError> {
        self.order(Action::Move(self.name.clone())).await
    }

    /// Stops it wherever it runs, and forgets it and its state. It is gone as soon as its board says that
    /// it has stopped, or its standby that this board has no right to run it any more.
    ///
    /// # Errors
    /// [`MeshError::NoOperator`], or the order is refused.
    pub async fn remove(&self) -> Result<(), MeshError> {
        self.order(Action::Remove { service: self.name.clone(), force: false }).await
    }

    async fn order(&self, action: Action) -> Result<(), MeshError> {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&random_seed()[..16]);
        self.give(self.signed(nonce, action)?).await
    }

    fn signed(&self, nonce: [u8; 16], action: Action) -> Result<SignedOrder, MeshError> {
        self.operator.as_ref().ok_or(MeshError::NoOperator)?.sign(nonce, action)
    }

    /// Waits for a master as long as there is none.
    async fn give(&self, order: SignedOrder) -> Result<(), MeshError> {
        let give = async {
            loop {
                let command = Command::Order(Box::new(order.clone()));
                match self.client.ask(command).await.map_err(|_| MeshError::Gone)? {
                    Reply::Done => return Ok(()),
                    Reply::Error(error) if may_pass(&error.code) => {
                        tokio::time::sleep(LOOK_AGAIN * 10).await;
                    }
                    other => return Err(MeshError::unexpected(&other)),
                }
            }
        };
        tokio::time::timeout(MASTER_MAX, give).await.unwrap_or_else(|_| {
            Err(MeshError::Refused {
                code: "no-master".to_owned(),
                message: format!(
                    "no master has answered within {} s: is a majority of the voters up?",
                    MASTER_MAX.as_secs()
                ),
            })
        })
    }

    /// Gives the order to run it, unless the mesh knows it.
    async fn declare(&self, spec: ServiceSpec) -> Result<(), MeshError> {
        // Boards that declare the same thing at the same time give the same order: it counts once.
        let mut nonce = [0; 16];
        let what = format!("{spec:?}");
        nonce.copy_from_slice(&blake3::hash(what.as_bytes()).as_bytes()[..16]);
        while self.view().await?.is_none() {
            self.give(self.signed(nonce, Action::Run(Box::new(spec.clone())))?).await?;
            let listed = async {
                while let Ok(None) = self.view().await {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let _ = tokio::time::timeout(LISTED_MAX, listed).await;
            // That order was carried out once, and the service was removed since.
            nonce.copy_from_slice(&random_seed()[..16]);
        }
        Ok(())
    }
}

impl Resolved {
    pub(super) fn new(view: ResolvedView) -> Self {
        Self { board: view.name, epoch: view.epoch, endpoints: view.endpoints }
    }

    /// `http://host:port` of its port `http`, or of its first one.
    pub fn url(&self) -> String {
        let port = self.endpoints.get("http").or(self.endpoints.values().next());
        format!("http://{}", port.map(String::as_str).unwrap_or_default())
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoints.values().next().map(String::as_str).unwrap_or_default())
    }
}

fn may_pass(code: &str) -> bool {
    matches!(code, "no-master" | "not-master" | "not-running" | "busy" | "conflict")
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
