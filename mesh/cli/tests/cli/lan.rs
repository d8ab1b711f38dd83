//! Two boards on one LAN that know nothing of each other's addresses: two network namespaces and a cable
//! between them. mDNS skips loopback, so nowhere else can it be seen to work.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::board::{Board, until};
use crate::machine::skip;

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
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two networks with a cable between them; none, said loudly, where that cannot be had.
fn cabled() -> Option<[Network; 2]> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root may make networks; nothing was tested");
        return None;
    }
    let (Some(a), Some(b)) = (Network::new(), Network::new()) else {
        skip("`unshare` or `nsenter` is not installed");
        return None;
    };
    // Until the holder has its namespace it is still in this one's: the cable must not be laid here.
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let apart = |network: &Network| {
        let link = std::fs::read_link(format!("/proc/{}/ns/net", network.0.id()));
        link.is_ok_and(|link| link != own)
    };
    until("both networks are there", || apart(&a) && apart(&b));
    let cable = format!("link add cable type veth peer name cable netns {}", b.0.id());
    let laid = a.ip(&cable)
        && a.ip("addr add 192.0.2.1/24 dev cable")
        && b.ip("addr add 192.0.2.2/24 dev cable")
        && [&a, &b].iter().all(|n| n.ip("link set lo up") && n.ip("link set cable up"));
    if !laid {
        skip("`ip` is not installed, or this kernel has no virtual cables");
        return None;
    }
    Some([a, b])
}

fn up(board: &mut Board, network: &Network, name: &str) {
    let daemon = board.command(&["up", "--name", name, "--listen", "/ip4/0.0.0.0/tcp/0"]);
    let mut command = network.enter();
    command.arg(daemon.get_program()).args(daemon.get_args()).args(["-o", "json"]);
    board.up_as(command);
}

#[test]
fn boards_on_one_lan_find_each_other_although_the_ticket_names_an_old_address() {
    let Some([here, there]) = cabled() else { return };
    let mut founder = Board::new();
    founder.json(&["init", "home"]);
    up(&mut founder, &here, "founder");
    let ticket = founder.ticket();
    // Another port from now on: whoever has only the ticket would dial for ever.
    founder.signal(Signal::TERM);
    founder.ends();
    up(&mut founder, &here, "founder");
    let mut guest = Board::new();
    guest.joins(&ticket);
    up(&mut guest, &there, "guest");
    until("both see both", || {
        [&founder, &guest].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
    });
}
