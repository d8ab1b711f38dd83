//! What this board is: facts read once, at the start.

use std::fs;

use rustix::fs::statfs;

use super::home::Home;
use crate::proto::bounded::{List, Text};
use crate::proto::record::{Board, Class, Fidelity, Name};
use crate::proto::wire::{WIRE_VERSION, WIRE_VERSION_MIN};

/// Linux's magic number of tmpfs and ramfs: what is written there does not survive a power cut.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Reads the facts. What cannot be read is left at its default, the most modest value.
pub(crate) fn read(home: &Home) -> Board {
    let memory_bytes = memory_bytes();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    Board {
        host: Name::capped(rustix::system::uname().nodename().to_str().unwrap_or_default()),
        macs: macs(),
        arch: Text::capped(std::env::consts::ARCH),
        page_bytes: u32::try_from(rustix::param::page_size()).unwrap_or_default(),
        boot_id: boot_id(),
        version: Text::capped(env!("CARGO_PKG_VERSION")),
        wire: (WIRE_VERSION_MIN, WIRE_VERSION),
        memory_bytes,
        cores,
        class: Class::of(memory_bytes, cores),
        durable: is_durable(home),
        runtimes: List::capped([(Name::capped("process"), Fidelity::AppState)]),
    }
}

fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn boot_id() -> [u8; 16] {
    let text = crate::clock::boot_id().unwrap_or_default().replace('-', "");
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap_or_default();
    bytes.try_into().unwrap_or_default()
}

fn macs() -> List<[u8; 6], 4> {
    let mut cards: Vec<[u8; 6]> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|card| fs::read_to_string(card.path().join("address")).ok())
        .filter_map(|text| {
            let hex = text.trim().replace(':', "");
            data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
        })
        .filter(|mac| *mac != [0; 6])
        .collect();
    cards.sort_unstable();
    List::capped(cards)
}

fn is_durable(home: &Home) -> bool {
    // An overlay is as durable as the file system that its upper layer lies on.
    let folder = overlay_upper(home).unwrap_or_else(|| home.path().to_owned());
    let kind = statfs(&folder).map(|fs| fs.f_type as u64).unwrap_or_default();
    kind != TMPFS_MAGIC && kind != RAMFS_MAGIC
}

/// The upper layer of the overlay that `home` lies on, if it does.
fn overlay_upper(home: &Home) -> Option<std::path::PathBuf> {
    let path = fs::canonicalize(home.path()).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.len() > 3 && path.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len())?;
    if mount[2] != "overlay" {
        return None;
    }
    mount[3].split(',').find_map(|option| option.strip_prefix("upperdir=")).map(Into::into)
}
