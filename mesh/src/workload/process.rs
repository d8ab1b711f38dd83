//! The seam between the agent and what runs, and its first adapter: a process with a state folder.
//!
//! A [`Runtime`] makes instances run; each is then driven through its [`Handle`], which is the same
//! for every adapter, because it speaks to a shim. That is also the promise of `start`: the handle,
//! or the shim without any agent, can kill the instance alone.
//!
//! The calls here are blocking with named bounds (spawning takes milliseconds, an answer
//! microseconds): from an async driver use a blocking worker for [`Runtime`], and drive
//! [`Handle::connection`] as its own page says. Fidelity of this adapter: the folder's content, never
//! memory. The quiesce hook and the copying of the folder are elsewhere.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::PollFlags;

use super::cgroup::Cgroup;
use super::client::{ClientError, Connection, after, ready_before};
use super::handle::{ANSWER_WAIT, Handle};
use super::instance::{Files, Instance, InstanceError};
use super::wire::{Containment, Exit};

/// Makes instances run on this board.
pub trait Runtime {
    /// What holds the processes of a service here. If it does not
    /// [hold descendants](Containment::holds_descendants), `why` says "descendants uncontained".
    ///
    /// # Errors
    /// If the shim's program cannot be run.
    fn probe(&self) -> Result<Containment, RuntimeError>;

    /// Makes a shim for this instance, which does not run yet.
    ///
    /// # Errors
    /// [`RuntimeError::AlreadyRunning`] if a shim of the same service and ordinal lives: adopt it.
    fn prepare(&self, instance: &Instance) -> Result<Handle, RuntimeError>;

    /// Makes a shim and starts the instance under a lease that ends at `until` (lease clock, ns).
    ///
    /// # Errors
    /// As `prepare`, and whatever the shim refuses: after a refusal nothing of it runs.
    fn start(&self, instance: &Instance, until: u64) -> Result<Handle, RuntimeError> {
        let mut handle = self.prepare(instance)?;
        handle.start(until)?;
        Ok(handle)
    }

    /// Finds what an earlier agent left: what runs goes on as it is, under the same process id.
    ///
    /// # Errors
    /// If the folder cannot be read. What is wrong with one instance does not hide the others.
    fn adopt(&self) -> Result<Vec<Found>, RuntimeError>;
}

/// What an agent finds in an instance's folder.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// Its shim lives; we are subscribed.
    Running(Box<Handle>),
    /// It ended and says how.
    Ended {
        /// Where.
        files: Files,
        /// What was to run.
        instance: Instance,
        /// How it ended.
        exit: Exit,
    },
    /// The shim was killed, or the board was reset: no word how it ended. What was contained is dead.
    Died {
        /// Where.
        files: Files,
        /// What was to run.
        instance: Instance,
    },
    /// A shim is there but does not answer, or its files make no sense.
    Unclear {
        /// Where.
        files: Files,
        /// What went wrong.
        error: RuntimeError,
    },
}

/// What can go wrong with a runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The instance is not fit to run.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The shim refused or does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It runs already.
    #[error("{service}.{ordinal} has a living shim in {dir}: adopt it or kill it first")]
    AlreadyRunning {
        /// The service.
        service: String,
        /// Which instance.
        ordinal: u16,
        /// Where.
        dir: PathBuf,
    },
    /// The shim could not be started.
    #[error("cannot start a shim with {program}: {what}")]
    Launch {
        /// The program.
        program: PathBuf,
        /// What it said.
        what: String,
    },
    /// Another program has the port.
    #[error(
        "its port {port} ({name}) is in use on this board already: end what uses it, or give the service another port in its file (without a number it gets a free one)"
    )]
    PortTaken {
        /// What the service file calls it.
        name: String,
        /// Which.
        port: u16,
    },
    /// A file could not be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs services as processes under shims.
#[derive(Clone, Debug)]
pub struct ProcessRuntime {
    program: PathBuf,
    folder: PathBuf,
}

impl ProcessRuntime {
    /// `program` runs the shims, see [`super::dispatch`]; `folder` holds a folder for each instance
    /// and belongs on tmpfs.
    ///
    /// # Errors
    /// If the folder can be neither found nor made.
    pub fn new(program: &Path, folder: &Path) -> Result<Self, RuntimeError> {
        make_folder(folder)?;
        Ok(Self { program: program.to_owned(), folder: folder.to_owned() })
    }

    /// The files of one instance.
    ///
    /// # Errors
    /// If the path is too long for sockets.
    pub fn files(&self, service: &str, ordinal: u16) -> Result<Files, RuntimeError> {
        Ok(Files::new(&self.folder.join(format!("{service}.{ordinal}")))?)
    }

    fn run(
        &self,
        args: &[&str],
        dir: Option<&Path>,
        wait: Duration,
    ) -> Result<String, RuntimeError> {
        let failed = |what: String| RuntimeError::Launch { program: self.program.clone(), what };
        let failed_io = |error: io::Error| failed(error.to_string());
        let mut child = Command::new(&self.program)
            .args(args)
            .args(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed_io)?;
        let (mut said, mut complained) = (String::new(), String::new());
        if let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) {
            // At its end, or when it complains, it ends.
            if !ready_before(&out, PollFlags::IN, after(wait)).map_err(failed_io)? {
                let _ = child.kill();
                complained = format!("no answer within {wait:?}; ");
            }
            out.read_to_string(&mut said).map_err(failed_io)?;
            err.read_to_string(&mut complained).map_err(failed_io)?;
        }
        let status = child.wait().map_err(failed_io)?;
        if status.success() {
            Ok(said)
        } else {
            Err(failed(format!("{}{status}", with_end(complained))))
        }
    }

    fn look_at(files: Files) -> Found {
        let instance = match Instance::load(&files) {
            Ok(instance) => instance,
            Err(error) => return Found::Unclear { files, error: error.into() },
        };
        match Handle::open(files.clone()) {
            Ok(handle) => return Found::Running(Box::new(handle)),
            // It may have left between our knock and its answer: then it has written how.
            Err(ClientError::NobodyThere { .. } | ClientError::HungUp { .. }) => {}
            Err(error) => return Found::Unclear { files, error: error.into() },
        }
        match Exit::load(&files) {
            Some(exit) => Found::Ended { files, instance, exit },
            None => {
                sweep_cgroup(&files);
                Found::Died { files, instance }
            }
        }
    }
}

impl Runtime for ProcessRuntime {
    fn probe(&self) -> Result<Containment, RuntimeError> {
        let said = self.run(&["shim", "--probe"], None, LAUNCH_WAIT)?;
        serde_json::from_str(&said).map_err(|error| RuntimeError::Launch {
            program: self.program.clone(),
            what: format!("its probe is not understood: {error}"),
        })
    }

    fn prepare(&self, instance: &Instance) -> Result<Handle, RuntimeError> {
        let files = self.files(&instance.service, instance.ordinal)?;
        make_folder(files.dir())?;
        match Connection::open(&files, ANSWER_WAIT) {
            Err(ClientError::NobodyThere { .. } | ClientError::HungUp { .. }) => {}
            Ok(_) | Err(_) => {
                return Err(RuntimeError::AlreadyRunning {
                    service: instance.service.clone(),
                    ordinal: instance.ordinal,
                    dir: files.dir().to_owned(),
                });
            }
        }
        sweep_cgroup(&files);
        instance.save(&files)?;
        self.run(&["shim", "--dir"], Some(files.dir()), LAUNCH_WAIT)?;
        Ok(Handle::open(files)?)
    }

    fn adopt(&self) -> Result<Vec<Found>, RuntimeError> {
        let failed = |source| RuntimeError::Io { path: self.folder.clone(), source };
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let dir = entry.map_err(failed)?.path();
            if dir.join(Files::INSTANCE).exists() && dirs.len() < INSTANCES_MAX {
                dirs.push(dir);
            }
        }
        dirs.sort();
        dirs.iter().map(|dir| Ok(Self::look_at(Files::new(dir)?))).collect()
    }
}

/// `count` ports that no TCP socket of this board uses, all different.
///
/// They are bound to port 0 and released again, so until the service binds one somebody else may:
/// then the service fails to start and is started anew with other ports. Handing over bound
/// sockets would close that window, for services that can take them.
///
/// # Errors
/// If the board is out of ports or file descriptors.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All held until the last is chosen, or the same one might come twice.
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Whether something on this board serves there already, on the loopback interface or on all: whoever is sent
/// to the service might reach that one.
pub fn is_taken(port: u16) -> bool {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn make_folder(path: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::Io { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

/// Kills and removes the cgroup that a killed shim left behind.
fn sweep_cgroup(files: &Files) {
    let Ok(path) = fs::read_to_string(files.cgroup()) else { return };
    let path = PathBuf::from(path);
    // Ours by its name, whatever became of the file.
    let is_ours =
        path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"hedgerow-"));
    if is_ours && !Cgroup::left_at(path).kill_and_remove(SWEEP_WAIT) {
        // Something in it does not die: the next agent tries again.
        return;
    }
    let _ = fs::remove_file(files.cgroup());
}

fn with_end(complaint: String) -> String {
    let complaint = complaint.trim();
    if complaint.is_empty() { String::new() } else { format!("{complaint}; ") }
}

/// How long a shim may take to be there, on a board whose card stalls.
pub const LAUNCH_WAIT: Duration = Duration::from_secs(10);
/// How long what an old shim left may take to die.
pub const SWEEP_WAIT: Duration = Duration::from_secs(1);
/// Most instances on one board.
pub const INSTANCES_MAX: usize = 1_024;
