//! `instance.json`: everything a shim must know about the one instance it runs, and where its files are.
//!
//! The agent writes it before it starts the shim; the shim reads it once. It is parsed here into
//! values that are known to be in range, so nobody checks again. It holds no lease: deadlines come
//! over the socket only, so that a file that is left over can never start anything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a shim runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The service's name: 1 to [`NAME_BYTES_MAX`] of `a-z 0-9 - _ .`, starting with a letter or digit.
    pub service: String,
    /// Which of the service's instances this is, from 0.
    pub ordinal: u16,
    /// The right under which it runs; part of the lease file and of every commit.
    pub epoch: u64,
    /// The agent's name for what this says; kept for an agent that finds it, never looked at.
    #[serde(default)]
    pub spec: String,
    /// The text form of this board's node id.
    pub node: String,
    /// The program and its arguments. `${NAME}` stands for a variable of the service's environment.
    pub command: Vec<String>,
    /// Further environment variables. They may not begin with `HEDGEROW_` or `PORT_`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder it runs in, which holds its state. Absolute; must exist.
    pub folder: PathBuf,
    /// The kill bound D in milliseconds, 1 to [`KILL_BOUND_MS_MAX`].
    pub kill_bound_ms: u32,
    /// What happens when the lease runs out.
    #[serde(default)]
    pub mode: Mode,
    /// Bounds on what it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Its ports by name. All chosen: 0 is not allowed here, see [`super::process::free_ports`].
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Whether to use a PID namespace where the board allows one. Leave it on: off is for a service
    /// that must see the host's process ids, and gives up containment unless a cgroup is writable.
    #[serde(default = "yes")]
    pub isolate_pids: bool,
}

/// `on_isolation`: what happens when the lease runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Kill the service.
    #[default]
    Fence,
    /// Say `Isolated` and let it run. For stateless services.
    KeepRunning,
}

/// Bounds that a cgroup enforces where one with these controllers is writable. `Status` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory (`memory.max`).
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processes and threads (`pids.max`).
    #[serde(default)]
    pub pids: Option<u32>,
}

/// Why an instance was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The file could not be read or written.
    #[error("{path}: {source}; the agent writes this file before it starts a shim")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not an instance.
    #[error("{path} is not a valid instance ({source}); was it written by another version?")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where it stopped making sense.
        source: serde_json::Error,
    },
    /// A field is out of range.
    #[error("instance {service}: {field} {problem}")]
    Field {
        /// Whose instance.
        service: String,
        /// Which field.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A socket path would be longer than Unix allows.
    #[error("{0} is too long for a socket: use a folder of at most {DIR_BYTES_MAX} bytes")]
    PathTooLong(PathBuf),
}

impl Instance {
    /// Reads and checks `instance.json` of this folder.
    ///
    /// # Errors
    /// If it is missing, malformed or out of range.
    pub fn load(files: &Files) -> Result<Self, InstanceError> {
        let path = files.instance();
        let text =
            fs::read(&path).map_err(|source| InstanceError::Io { path: path.clone(), source })?;
        let instance: Self =
            serde_json::from_slice(&text).map_err(|source| InstanceError::Json { path, source })?;
        instance.check()?;
        Ok(instance)
    }

    /// Checks it and writes it as `instance.json`, whole or not at all.
    ///
    /// # Errors
    /// If it is out of range or the folder cannot be written.
    pub fn save(&self, files: &Files) -> Result<(), InstanceError> {
        self.check()?;
        let path = files.instance();
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| InstanceError::Json { path: path.clone(), source })?;
        replace(&path, &json).map_err(|source| InstanceError::Io { path, source })
    }

    /// The kill bound D in nanoseconds.
    pub fn kill_bound_ns(&self) -> u64 {
        u64::from(self.kill_bound_ms) * 1_000_000
    }

    /// The environment of the service: nothing of the agent's but [`PASSED_ON`].
    ///
    /// `HEDGEROW_SERVICE`, `_ORDINAL`, `_EPOCH`, `_NODE`, `_LEASE_FILE`, `_CONTROL`, and
    /// `PORT_<NAME>` in capitals with `-` as `_`.
    pub fn environment(&self, files: &Files) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = PASSED_ON
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        all.extend(self.env.clone());
        for (name, port) in &self.ports {
            let name = name.to_ascii_uppercase().replace('-', "_");
            all.insert(format!("PORT_{name}"), port.to_string());
        }
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        for (name, value) in [
            ("SERVICE", self.service.clone()),
            ("ORDINAL", self.ordinal.to_string()),
            ("EPOCH", self.epoch.to_string()),
            ("NODE", self.node.clone()),
            ("LEASE_FILE", path(files.lease())),
            ("CONTROL", path(files.control())),
        ] {
            all.insert(format!("HEDGEROW_{name}"), value);
        }
        all
    }

    /// The command with every `${NAME}` replaced from `environment`.
    ///
    /// # Errors
    /// If it names a variable that is not there: a typing mistake is better met here than by the
    /// service.
    pub fn argv(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, InstanceError> {
        let argv: Vec<String> = self
            .command
            .iter()
            .map(|word| self.expand(word, environment))
            .collect::<Result<_, _>>()?;
        if argv.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
            return Err(self.wrong("command", format!("expands to over {COMMAND_BYTES_MAX} bytes")));
        }
        Ok(argv)
    }

    fn expand(
        &self,
        word: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<String, InstanceError> {
        let mut out = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((before, tail)) = rest.split_once("${") {
            let Some((name, after)) = tail.split_once('}') else { break };
            let Some(value) = environment.get(name) else {
                return Err(self.wrong("command", format!("names ${{{name}}}, which is not set")));
            };
            out.push_str(before);
            out.push_str(value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn check(&self) -> Result<(), InstanceError> {
        if !name_is_plain(&self.service) {
            return Err(
                self.wrong("service", format!("must be 1 to {NAME_BYTES_MAX} of a-z 0-9 - _ ."))
            );
        }
        if self.command.first().is_none_or(String::is_empty) {
            return Err(self.wrong("command", "is empty; name a program".to_owned()));
        }
        let bytes: usize = self.command.iter().map(String::len).sum::<usize>()
            + self.env.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > COMMAND_BYTES_MAX {
            return Err(self.wrong("command", format!("and env exceed {COMMAND_BYTES_MAX} bytes")));
        }
        let reserved = |key: &str| key.starts_with("HEDGEROW_") || key.starts_with("PORT_");
        if let Some(key) =
            self.env.keys().find(|key| reserved(key) || key.contains('=') || key.is_empty())
        {
            return Err(self.wrong("env", format!("may not set {key:?}: the name is reserved")));
        }
        let strings = self.command.iter().chain(self.env.keys()).chain(self.env.values());
        if strings.into_iter().any(|text| text.contains('\0')) {
            return Err(self.wrong("command", "or env contains a NUL byte".to_owned()));
        }
        if !self.folder.is_absolute() {
            return Err(self.wrong("folder", "must be an absolute path".to_owned()));
        }
        if !(1..=KILL_BOUND_MS_MAX).contains(&self.kill_bound_ms) {
            return Err(self.wrong("kill_bound_ms", format!("must be 1 to {KILL_BOUND_MS_MAX}")));
        }
        if self.ports.len() > PORTS_MAX || !self.ports.keys().all(|name| name_is_plain(name)) {
            return Err(self.wrong("ports", format!("must be at most {PORTS_MAX}, plainly named")));
        }
        if self.ports.values().any(|port| *port == 0) {
            return Err(self.wrong("ports", "must be chosen: 0 is replaced before this".to_owned()));
        }
        Ok(())
    }

    fn wrong(&self, field: &'static str, problem: String) -> InstanceError {
        InstanceError::Field { service: self.service.clone(), field, problem }
    }
}

/// Where the files of one instance are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(PathBuf);

impl Files {
    /// Name of the instance file.
    pub const INSTANCE: &str = "instance.json";

    /// The files of the folder `dir`.
    ///
    /// # Errors
    /// If its socket paths would be too long.
    pub fn new(dir: &Path) -> Result<Self, InstanceError> {
        let dir = std::path::absolute(dir)
            .map_err(|source| InstanceError::Io { path: dir.to_owned(), source })?;
        if dir.as_os_str().len() > DIR_BYTES_MAX {
            return Err(InstanceError::PathTooLong(dir));
        }
        Ok(Self(dir))
    }

    /// The folder itself, mode 0700.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// What to run; written by the agent.
    pub fn instance(&self) -> PathBuf {
        self.0.join(Self::INSTANCE)
    }

    /// How it ended, see [`super::wire::Exit`]; written by the shim, removed by the next one.
    pub fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// The shim's socket for agents.
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// The shim's socket for the service (`HEDGEROW_CONTROL`).
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// The lease file (`HEDGEROW_LEASE_FILE`).
    pub fn lease(&self) -> PathBuf {
        self.0.join("lease")
    }

    /// Locked by the living shim: one shim per folder.
    pub fn lock(&self) -> PathBuf {
        self.0.join("shim.lock")
    }

    /// The service's output. Older output is in `service.log.1` and so on.
    pub fn log(&self) -> PathBuf {
        self.0.join("service.log")
    }

    /// What the shim itself has to complain about; a few lines per run.
    pub fn complaints(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// The path of the instance's cgroup, while it has one.
    pub fn cgroup(&self) -> PathBuf {
        self.0.join("cgroup")
    }
}

/// Replaces `path` by `bytes`: a reader sees the old file or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::rename(fresh, path)
}

fn name_is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte))
}

fn yes() -> bool {
    true
}

/// Longest name of a service or a port.
pub const NAME_BYTES_MAX: usize = 64;
/// Largest kill bound: a minute.
pub const KILL_BOUND_MS_MAX: u32 = 60_000;
/// Most ports of one instance.
pub const PORTS_MAX: usize = 16;
/// Most bytes of command and environment together.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;
/// Longest instance folder: Unix socket paths have 108 bytes, `/control.sock` and a NUL take 14.
pub const DIR_BYTES_MAX: usize = 94;
/// What the service inherits of the shim's environment.
pub const PASSED_ON: [&str; 5] = ["HOME", "LANG", "PATH", "TZ", "USER"];

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Instance {
        Instance {
            service: "sensor-api".to_owned(),
            ordinal: 1,
            epoch: 7,
            node: "node".to_owned(),
            command: vec!["./run".to_owned(), "--port=${PORT_HTTP_ALT}".to_owned()],
            env: BTreeMap::new(),
            folder: PathBuf::from("/tmp"),
            kill_bound_ms: 200,
            mode: Mode::Fence,
            limits: Limits::default(),
            ports: BTreeMap::from([("http-alt".to_owned(), 8080)]),
            spec: String::new(),
            isolate_pids: true,
        }
    }

    #[test]
    fn a_service_learns_who_it_is_and_its_ports() {
        let instance = plain();
        let environment = instance.environment(&Files::new(Path::new("/run/x")).unwrap());
        assert_eq!(environment["HEDGEROW_EPOCH"], "7");
        assert_eq!(environment["HEDGEROW_CONTROL"], "/run/x/control.sock");
        assert_eq!(instance.argv(&environment).unwrap(), ["./run", "--port=8080"]);
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_in_the_error() {
        let mut instance = plain();
        instance.command.push("${PORT_HTTPS}".to_owned());
        let environment = instance.environment(&Files::new(Path::new("/run/x")).unwrap());
        let error = instance.argv(&environment).unwrap_err().to_string();
        assert!(error.contains("${PORT_HTTPS}"), "{error}");
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let refuse = |change: fn(&mut Instance)| {
            let mut instance = plain();
            change(&mut instance);
            assert!(instance.check().is_err(), "{instance:?}");
        };
        assert!(plain().check().is_ok());
        refuse(|it| it.service = "../etc".to_owned());
        refuse(|it| it.service = "x".repeat(NAME_BYTES_MAX + 1));
        refuse(|it| it.command.clear());
        refuse(|it| it.kill_bound_ms = 0);
        refuse(|it| it.folder = PathBuf::from("state"));
        refuse(|it| it.ports = BTreeMap::from([("http".to_owned(), 0)]));
        refuse(|it| it.env = BTreeMap::from([("HEDGEROW_EPOCH".to_owned(), "9".to_owned())]));
        refuse(|it| it.command.push("a\0b".to_owned()));
        assert!(Files::new(Path::new(&format!("/{}", "d".repeat(DIR_BYTES_MAX)))).is_err());
    }
}
