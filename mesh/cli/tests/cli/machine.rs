//! What some faults need of the machine: a small disk, a clock that is wrong. Where that cannot be had
//! the test says so loudly; what can be installed must be had in CI (`CI=true`).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::board::{Board, Place};

/// A file system of its own in a mount namespace of its own. It vanishes with the process that holds
/// it, and that ends with this one.
pub(crate) struct SmallDisk {
    holder: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    mount: PathBuf,
    _place: Place,
}

/// Says that something was not tested, and why.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "in CI this must work: {why}");
    eprintln!("SKIPPED: {why}; nothing was tested");
}

impl SmallDisk {
    /// A disk of so many KiB; none, said loudly, where this user may not mount one.
    pub(crate) fn new(kib: u32) -> Option<Self> {
        let place = Place::new();
        // Lines on standard input are carried out in there; its end is the end.
        let script = format!(
            "mount -t tmpfs -o size={kib}k,mode=700 none {0} && echo mounted || exit 1
             while read -r line; do sh -c \"$line\" && echo done || echo failed; done",
            place.0.display()
        );
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "sh", "-c", &script]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut holder) = unshare.spawn() else {
            skip("`unshare` is not installed");
            return None;
        };
        let orders = holder.stdin.take();
        let mut answers = BufReader::new(holder.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        // From here its files are reached through its root.
        let inside = place.0.strip_prefix("/").unwrap();
        let mount = Path::new("/proc").join(holder.id().to_string()).join("root").join(inside);
        let disk = Self { holder, orders, answers, mount, _place: place };
        if line.trim() != "mounted" || fs::read_dir(&disk.mount).is_err() {
            // A container that forbids it is nothing that a set-up script could mend.
            eprintln!("SKIPPED: mounting is not allowed here, not even in a namespace of its own");
            return None;
        }
        Some(disk)
    }

    /// A board whose data folder is on this disk.
    pub(crate) fn board(&self) -> Board {
        Board::at(self.mount.join("board"))
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        let full = [4096, 1].map(|bytes| {
            let block = vec![7; bytes];
            (0..1 << 20).find_map(|_| file.write_all(&block).err()).map(|error| error.kind())
        });
        assert_eq!(full, [Some(std::io::ErrorKind::StorageFull); 2]);
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// From now on it cannot be written to, or again.
    pub(crate) fn read_only(&mut self, yes: bool) {
        let how = if yes { "ro" } else { "rw" };
        let mount = self._place.0.display();
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "mount -o remount,{how} {mount}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done");
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.holder.wait();
    }
}

/// The library that lies to one process about the time; none, said loudly, where it is not installed.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|e| e.path());
    let folders = multiarch.chain(["/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    let found = folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists());
    if found.is_none() {
        skip("libfaketime is not installed (Debian: apt-get install libfaketime)");
    }
    found
}

/// Lets a command live in the first days of 1970, as a board without a battery for its clock does.
/// Durations stay true.
pub(crate) fn in_1970(command: &mut Command, library: &Path) {
    command.env("LD_PRELOAD", library).env("FAKETIME", "@1970-01-02 00:00:00");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC");
}
