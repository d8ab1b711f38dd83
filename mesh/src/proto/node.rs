//! The one machine: routes every input to the part that owns it.

use core::time::Duration;

use super::config::Config;
use super::io::Input;
use super::journal::Durable;
use super::machine::{Effects, Time, Timeout};

/// One node.
#[derive(Debug)]
pub struct Node {
    config: Config,
}

impl Node {
    /// A node that remembers `durable`. `seed` is fresh randomness for this life.
    pub fn recover(config: Config, _seed: [u8; 32], _durable: Durable, _now: Time) -> Self {
        Self { config }
    }

    /// Something happened. Effects are appended to `out`, to be carried out in order.
    pub fn handle_input(&mut self, _now: Time, _input: Input, _out: &mut Effects) {}

    /// Time has passed. A call before [`Node::poll_timeout`] is due does nothing.
    pub fn handle_timeout(&mut self, _now: Time, _out: &mut Effects) {}

    /// When to call [`Node::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Timeout> {
        let _ = (&self.config, Duration::ZERO);
        None
    }
}
