//! Boards on a LAN of their own: each in a network namespace, with a cable to one switch. A cable can be
//! pulled.

use std::process::{Child, Command, Stdio};

use crate::board::{Board, until};
use crate::machine::skip;

/// A switch with cables to so many networks.
pub(crate) struct Lan {
    switch: Network,
    places: Vec<Network>,
}

/// A network of its own; it vanishes with the process that holds it.
struct Network(Child);

impl Network {
    fn new() -> Option<Self> {
        let mut holder = Command::new("unshare");
        // Ends with this process, whatever becomes of it.
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        holder.spawn().ok().map(Self)
    }

    fn enter(&self) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &self.0.id().to_string(), "-n"]);
        enter
    }

    /// Carries out a line of `ip` in there.
    fn ip(&self, line: &str) -> bool {
        let done = self.enter().arg("ip").args(line.split(' ')).output();
        done.is_ok_and(|output| output.status.success())
    }

    /// Until the holder has its namespace it is still in this one's: no cable must be laid here.
    fn is_apart(&self) -> bool {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let link = std::fs::read_link(format!("/proc/{}/ns/net", self.0.id()));
        link.is_ok_and(|link| link != own)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lan {
    /// None, said loudly, where that cannot be had.
    pub(crate) fn new(places: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may make networks; nothing was tested");
            return None;
        }
        let mut networks: Vec<Network> = (0..=places).filter_map(|_| Network::new()).collect();
        if networks.len() <= places {
            skip("`unshare` or `nsenter` is not installed");
            return None;
        }
        until("the networks are there", || networks.iter().all(Network::is_apart));
        let switch = networks.pop()?;
        let lan = Self { switch, places: networks };
        let switched =
            lan.switch.ip("link add hub type bridge") && lan.switch.ip("link set hub up");
        if !switched || !(0..places).all(|place| lan.lay(place)) {
            skip("`ip` is not installed, or this kernel has no virtual cables");
            return None;
        }
        Some(lan)
    }

    fn lay(&self, place: usize) -> bool {
        let there = &self.places[place];
        let cable =
            format!("link add wire{place} type veth peer name cable netns {}", there.0.id());
        self.switch.ip(&cable)
            && self.switch.ip(&format!("link set wire{place} master hub"))
            && self.plug(place, true)
            && there.ip(&format!("addr add 192.0.2.{}/24 dev cable", place + 1))
            && ["lo", "cable"].iter().all(|link| there.ip(&format!("link set {link} up")))
    }

    /// Pulls the cable of a place at the switch, or plugs it in again.
    pub(crate) fn plug(&self, place: usize, plugged: bool) -> bool {
        let how = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set wire{place} {how}"))
    }

    /// Starts a board's daemon at a place.
    pub(crate) fn up(&self, board: &mut Board, place: usize, name: &str, preset: &str) {
        let listen = "/ip4/0.0.0.0/tcp/0";
        let daemon = board.command(&["up", "--name", name, "--preset", preset, "--listen", listen]);
        let mut command = self.places[place].enter();
        command.arg(daemon.get_program()).args(daemon.get_args()).args(["-o", "json"]);
        board.up_as(command);
    }
}
