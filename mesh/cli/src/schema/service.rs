//! The part of the schema that is about services.

use std::collections::BTreeMap;

use hedgerow::proto::id::{Digest16, NodeId};
use hedgerow::proto::io::{InstanceView, ResolvedView};
use serde::{Deserialize, Serialize};

use crate::text;

/// One instance of a service; `GET /v1/instances` and `hedgerow ps` give a list of them,
/// `hedgerow run` the one that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its name.
    pub(crate) instance: String,
    /// `running`, `starting`, `down`, `stopping`, `stopped` or `removing`.
    pub(crate) state: String,
    /// The name of the board that runs it.
    pub(crate) active: String,
    /// The name of the board that carries on; null: it is unprotected.
    pub(crate) standby: Option<String>,
    /// The right that it runs under.
    pub(crate) epoch: u64,
    /// `name=host:port`.
    pub(crate) endpoints: Vec<String>,
    /// How often it was started in this epoch; known on its board only.
    pub(crate) starts: Option<u64>,
    /// Milliseconds that its lease lasts still; known on its board only.
    pub(crate) lease_ms: Option<u64>,
    /// Whether the standby holds a state that it can carry on from.
    pub(crate) ready: bool,
    /// The name of the board that is being filled to become the standby.
    pub(crate) fill: Option<String>,
    /// How old the newest state is that another board holds, milliseconds; known on its board only.
    pub(crate) copy_age_ms: Option<u64>,
    /// Names what its specification says; null where that is not known.
    #[serde(default)]
    pub(crate) spec: Option<Digest16>,
    /// Whether what runs is what its specification says now.
    #[serde(default)]
    pub(crate) current: bool,
    /// Whether the standby said that it could not start it.
    #[serde(default)]
    pub(crate) unable: bool,
    /// Why it is not simply running and protected, and what to do next.
    pub(crate) why: String,
}

/// `GET /v1/resolve/{service}`, `hedgerow resolve`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Resolved {
    /// The service.
    pub(crate) service: String,
    /// The right that it runs under.
    pub(crate) epoch: u64,
    /// The board that serves it.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Port name → `host:port`.
    pub(crate) endpoints: BTreeMap<String, String>,
}

/// `hedgerow failover`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// `moved`.
    pub(crate) done: String,
    /// The service.
    pub(crate) object: String,
    /// The name of the board that has the right to run it now, if that is known here already.
    pub(crate) to: Option<String>,
}

/// `hedgerow logs`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Logs {
    /// The instance.
    pub(crate) instance: String,
    /// The newest of its log files.
    pub(crate) file: String,
    /// What it wrote, oldest first: time of day, `out` or `err`, and the line.
    pub(crate) lines: Vec<String>,
}

impl Instance {
    /// Whether the standby could carry on, and how old its state is: `ready, 0.4 s old`. Empty without a standby.
    pub(crate) fn copy(&self) -> String {
        if self.standby.is_none() {
            return String::new();
        }
        let ready = match (self.ready, self.unable) {
            (true, _) => "ready",
            (false, true) => "cannot start it",
            (false, false) => "not ready",
        };
        let age = self.copy_age_ms.map(|ms| format!(", {} old", text::age(ms)));
        let next = self.fill.as_ref().map(|next| format!(", {next} is filling"));
        format!("{ready}{}{}", age.unwrap_or_default(), next.unwrap_or_default())
    }
}

impl From<InstanceView> for Instance {
    fn from(view: InstanceView) -> Self {
        Self {
            instance: view.instance,
            state: view.state.to_owned(),
            active: view.active,
            standby: view.standby,
            epoch: view.epoch,
            endpoints: view.endpoints,
            starts: view.starts,
            lease_ms: view.lease_ms,
            ready: view.ready,
            unable: view.unable,
            fill: view.fill,
            copy_age_ms: view.copy_age_ms,
            spec: view.spec,
            current: view.current,
            why: view.why,
        }
    }
}

impl From<ResolvedView> for Resolved {
    fn from(view: ResolvedView) -> Self {
        Self {
            service: view.service,
            epoch: view.epoch,
            node: view.node,
            name: view.name,
            endpoints: view.endpoints,
        }
    }
}
