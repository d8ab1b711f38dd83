//! Two boards on one LAN that know nothing of each other's addresses. mDNS skips loopback, so nowhere else
//! can it be seen to work.

use rustix::process::Signal;

use crate::board::{Board, until};
use crate::network::Lan;

#[test]
fn boards_on_one_lan_find_each_other_although_the_ticket_names_an_old_address() {
    let Some(lan) = Lan::new(2) else { return };
    let mut founder = Board::new();
    founder.json(&["init", "home"]);
    lan.up(&mut founder, 0, "founder", "wan");
    let ticket = founder.ticket();
    // Another port from now on: whoever has only the ticket would dial for ever.
    founder.signal(Signal::TERM);
    founder.ends();
    lan.up(&mut founder, 0, "founder", "wan");
    let mut guest = Board::new();
    guest.joins(&ticket);
    lan.up(&mut guest, 1, "guest", "wan");
    until("both see both", || {
        [&founder, &guest].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
    });
}
