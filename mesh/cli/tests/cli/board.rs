//! Boards to test with, and commands run to their end.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here may take, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of this test's own, removed with everything in it.
pub(crate) struct Place(pub(crate) PathBuf);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A data folder and, while it runs, its daemon.
pub(crate) struct Board {
    pub(crate) home: PathBuf,
    pub(crate) daemon: Option<Child>,
    log: PathBuf,
    _place: Place,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hedgerow-cli-{}-{unique}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It failed with this exit code and, on standard error, this code as JSON; gives the sentence.
    pub(crate) fn failure(&self, exit: i32, code: &str) -> String {
        assert_eq!(self.code, Some(exit), "{self:?}");
        // A daemon has logged before.
        let last = self.err.trim().lines().last().unwrap_or_default();
        let problem: Value = serde_json::from_str(last).unwrap();
        assert_eq!((&problem["code"], &problem["exit"]), (&code.into(), &exit.into()), "{self:?}");
        problem["message"].as_str().unwrap().to_owned()
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        Self { home: place.0.join("board"), daemon: None, log: place.0.join("log"), _place: place }
    }

    /// A board with a data folder that somebody else removes.
    pub(crate) fn at(home: PathBuf) -> Self {
        let mut board = Self::new();
        board.home = home;
        board
    }

    /// A running founder.
    pub(crate) fn founder() -> Self {
        let mut board = Self::new();
        board.json(&["init", "home"]);
        board.up("founder");
        board
    }

    /// A running board that joined through `founder`.
    pub(crate) fn guest(founder: &Self, name: &str) -> Self {
        let mut board = Self::new();
        board.joins(&founder.ticket());
        board.up(name);
        until("both see both up", || {
            [founder, &board].iter().all(|b| b.status().is_some_and(|status| status["up"] == 2))
        });
        board
    }

    pub(crate) fn ticket(&self) -> String {
        self.json(&["ticket", "new"])["ticket"].as_str().unwrap().to_owned()
    }

    pub(crate) fn joins(&self, ticket: &str) -> Ended {
        let ended = finish(self.command(&["join", "-", "-o", "json"]), ticket);
        ended.json();
        ended
    }

    /// A command on this board's folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = hedgerow();
        command.arg("--home").arg(&self.home).args(words);
        command
    }

    pub(crate) fn text(&self, words: &[&str]) -> Ended {
        finish(self.command(words), "")
    }

    pub(crate) fn ask(&self, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.args(["-o", "json"]);
        finish(command, "")
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        self.ask(words).json()
    }

    /// How the daemon is started, on a port that the system chooses.
    pub(crate) fn up_command(&self, name: &str) -> Command {
        let tcp = "/ip4/127.0.0.1/tcp/0";
        self.command(&["up", "--name", name, "--no-mdns", "--listen", tcp, "-o", "json"])
    }

    /// Starts the daemon and waits until it takes part.
    pub(crate) fn up(&mut self, name: &str) {
        let command = self.up_command(name);
        self.up_as(command);
    }

    /// The same, started with this command.
    pub(crate) fn up_as(&mut self, mut command: Command) {
        let log = fs::File::create(&self.log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        until("the daemon takes part", || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            let started = |status: Value| {
                status["view"] != "starting" && status["nodes"][0]["addresses"] != Value::Null
            };
            self.status().is_some_and(started) && !self.home.join("ticket").exists()
        });
        until("it has an address", || {
            let nodes = self.json(&["nodes"]);
            let me = nodes.as_array().unwrap().iter().find(|node| node["me"] == true).unwrap();
            !me["addresses"].as_array().unwrap().is_empty()
        });
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let ended = self.ask(&["status"]);
        (ended.code == Some(0)).then(|| ended.json())
    }

    pub(crate) fn id(&self) -> Value {
        self.status().unwrap()["node"].clone()
    }

    /// How this board sees the one with this id.
    pub(crate) fn sees(&self, id: &Value) -> Option<Value> {
        let status = self.status()?;
        let nodes = status["nodes"].as_array()?;
        nodes.iter().find(|node| node["node"] == *id).map(|node| node["state"].clone())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.daemon.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits until the daemon has ended and gives its exit code.
    pub(crate) fn ends(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let mut ended = None;
        until("the daemon ends", || {
            ended = daemon.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The binary, untouched by the environment of whoever runs the tests.
pub(crate) fn hedgerow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerow"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEDGEROW_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, within the patience.
pub(crate) fn finish(command: Command, input: &str) -> Ended {
    finish_within(command, input, PATIENCE)
}

/// Runs a command to its end, within that time.
pub(crate) fn finish_within(mut command: Command, input: &str, patience: Duration) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(patience) else {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("not within {patience:?}: {command:?}");
    };
    let output = output.unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks again and again until `condition` holds; panics when it takes too long.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every line fits the screen, but the one that joins a board.
pub(crate) fn fits(text: &str) {
    for line in text.lines().filter(|line| !line.starts_with("hedgerow join hedge1")) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

/// The processes that `parent` has started and that still live.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        // `id (name) state parent …`; a name may hold anything, even a bracket.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = rest.split(' ');
        fields.next() != Some("Z") && fields.next() == Some(parent.to_string().as_str())
    })
    .collect()
}

pub(crate) fn lives(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
