//! The state folder of a service, and the mark beside it that says under which right it was begun.
//!
//! The mark is written after the folder is what it should be, and before the service runs: if it names
//! an epoch, whatever is in the folder belongs to that epoch, although this board may have crashed right
//! after. If it does not, the folder is a leftover, and is put in order again from the store. So a crash
//! at any step is mended by the next start.
//!
//! The mark also names the boot. A service that commits (3b.7) need not sync its files: after a power cut
//! its folder may be older than what was acknowledged, and the newest state in the store counts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hedgerow_replication::restore::{RestoreError, RestoreOptions, restore};

use super::shelf::{SHELF, Shelf, ShelfError, ckpt};
use crate::clock;
use crate::net::home::write_durably;
use crate::proto::id::Epoch;
use crate::proto::io::Begin;
use crate::proto::table::CheckpointId;

/// The mark's name in the service's folder.
const MARK: &str = ".hedgerow-epoch";
/// What the name of a folder ends in that a removed service left.
const FORMER: &str = "~former";
/// The note that the folder holds what was written in isolation.
const SPLIT: &str = ".hedgerow-split";
/// Nothing that is a mark is longer.
const MARK_BYTES_MAX: usize = 512;

/// What the mark says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// The right under which the state folder was begun.
    pub(crate) epoch: Epoch,
    /// The state folder, relative to the service's.
    pub(crate) state: String,
    /// During which boot of this board its service ran in it last; empty where that cannot be told.
    pub(crate) boot: String,
}

/// What became of a state folder before its service starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    /// It is as it should be, durably, and so is its mark.
    Ready,
    /// It was to be there already, and is not.
    Lost,
}

/// Why a state folder could not be put in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FolderError {
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The service file names another folder than the one that its state is in.
    #[error(
        "its state is in the folder `{old}`, and its service file now says `{new}`: change that back"
    )]
    Renamed {
        /// Where the state is.
        old: String,
        /// What the service file says.
        new: String,
    },
    /// The state is not in the store, or cannot be read.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The state could not be put in place.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Makes `service`/`state` be what `begin` says, for `epoch`. Blocks; call it on the store's thread.
pub(crate) fn begin(
    shelf: &mut Shelf,
    service: &Path,
    state: &str,
    epoch: Epoch,
    begin: Begin,
) -> Result<Begun, FolderError> {
    let folder = service.join(state);
    let mark = Mark::read(service)?;
    let begun = mark.as_ref().filter(|mark| mark.epoch == epoch);
    if let Some(mark) = begun.filter(|mark| mark.state != state) {
        return Err(FolderError::Renamed { old: mark.state.clone(), new: state.to_owned() });
    }
    keep_split(service, &folder, epoch)?;
    let lost_power = begun.is_some_and(Mark::lost_power);
    match (begin, begun.is_some(), folder.is_dir()) {
        (Begin::GoOn { after_power_cut: Some(id) } | Begin::From(id), true, true) if lost_power => {
            put_in_place(shelf, id, &folder)?;
        }
        (Begin::GoOn { .. }, true, true) if lost_power => {}
        (Begin::GoOn { .. } | Begin::From(_), true, true) => return Ok(Begun::Ready),
        (Begin::GoOn { .. }, _, _) | (Begin::From(_), true, false) => return Ok(Begun::Lost),
        (Begin::From(id), false, _) => {
            make(service, folder.parent().unwrap_or(service))?;
            put_in_place(shelf, id, &folder)?;
        }
        (Begin::Empty { anew: true }, false, true) if mark.is_some() => {
            // What a removed service of that name left: nothing that the new one should find, and
            // nothing to throw away unasked.
            set_aside(&folder, FORMER)?;
            make(service, &folder)?;
        }
        (Begin::Empty { .. }, _, _) => make(service, &folder)?,
    }
    Mark { epoch, state: state.to_owned(), boot: boot() }.write(service)?;
    Ok(Begun::Ready)
}

/// Replaces the folder, in one step, by a state from the store.
fn put_in_place(shelf: &mut Shelf, id: CheckpointId, folder: &Path) -> Result<(), FolderError> {
    let placed = restore_to(shelf, id, folder);
    if placed.as_ref().is_err_and(FolderError::is_loss) {
        shelf.condemn(id)?;
    }
    placed
}

fn restore_to(shelf: &mut Shelf, id: CheckpointId, folder: &Path) -> Result<(), FolderError> {
    // Its files are about to be other ones.
    shelf.previous = None;
    let store = shelf.store()?;
    let state = store.manifest(SHELF, ckpt(id)).map_err(ShelfError::from)?;
    // Without the privilege to give files away, everything belongs to the one user there is.
    let options = RestoreOptions { ignore_owners: !rustix::process::geteuid().is_root() };
    match restore(&state, &store.chunks(SHELF), folder, options) {
        Err(error @ RestoreError::OldStays { .. }) => {
            tracing::warn!(%error, "the state was put in place");
            Ok(())
        }
        other => Ok(other?),
    }
}

impl FolderError {
    /// Whether the state cannot be read any more.
    fn is_loss(&self) -> bool {
        match self {
            Self::Shelf(ShelfError::Store(error)) => error.is_loss(),
            Self::Restore(RestoreError::Content { source, .. }) => source.is_loss(),
            _ => false,
        }
    }
}

/// Notes that what lies in the state folder was written under `epoch` without a lease. It is set aside
/// before the service is begun under another right: until then it may run still.
pub(crate) fn note_split(service: &Path, epoch: Epoch) -> io::Result<()> {
    write_durably(&service.join(SPLIT), format!("{}\n", epoch.0).as_bytes())
}

/// Sets aside what was written without a lease, if that is noted and another right begins.
fn keep_split(service: &Path, folder: &Path, epoch: Epoch) -> Result<(), FolderError> {
    let note = service.join(SPLIT);
    let failed = |source| FolderError::Io { path: note.clone(), source };
    let Ok(text) = fs::read_to_string(&note) else { return Ok(()) };
    let of = text.trim();
    if of == epoch.0.to_string() {
        return Ok(());
    }
    if folder.is_dir() {
        set_aside(folder, &format!("~split-{of}"))?;
    }
    fs::remove_file(&note).map_err(failed)
}

/// Gives a folder another name, in the place of one that was set aside under that name before.
fn set_aside(folder: &Path, suffix: &str) -> Result<(), FolderError> {
    let mut aside = folder.as_os_str().to_owned();
    aside.push(suffix);
    let aside = PathBuf::from(aside);
    let failed = |source| FolderError::Io { path: aside.clone(), source };
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    tracing::warn!(aside = %aside.display(), "what lay in a state folder was set aside");
    fs::rename(folder, &aside).map_err(failed)
}

/// Makes `folder`, somewhere in `service`, and its name durable.
fn make(service: &Path, folder: &Path) -> Result<(), FolderError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let top = service.parent().and_then(Path::parent).unwrap_or(service);
    for path in folder.ancestors().skip(1).take_while(|path| path.starts_with(top)) {
        File::open(path).and_then(|path| path.sync_all()).map_err(failed(path))?;
    }
    Ok(())
}

/// Which boot of this board this is.
fn boot() -> String {
    clock::boot_id().unwrap_or_default()
}

impl Mark {
    /// Whether the board lost power since the folder was put in order last.
    pub(crate) fn lost_power(&self) -> bool {
        self.boot != boot()
    }

    /// Reads the mark in a service's folder; one that makes no sense is none.
    pub(crate) fn read(service: &Path) -> Result<Option<Self>, FolderError> {
        let path = service.join(MARK);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Io { path, source }),
        };
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= MARK_BYTES_MAX);
        let mark = text.and_then(|text| {
            let (epoch, state) = text.strip_prefix("epoch ")?.split_once(" of ")?;
            let (state, boot) = state.strip_suffix('\n')?.rsplit_once(" in boot ")?;
            let (state, boot) =
                (Some(state).filter(|s| !s.is_empty())?.to_owned(), boot.to_owned());
            Some(Self { epoch: Epoch(epoch.parse().ok()?), state, boot })
        });
        if mark.is_none() {
            tracing::error!(path = %path.display(), "this mark makes no sense: is the disk failing?");
        }
        Ok(mark)
    }

    fn write(&self, service: &Path) -> Result<(), FolderError> {
        let path = service.join(MARK);
        let Self { epoch, state, boot } = self;
        let text = format!("epoch {} of {state} in boot {boot}\n", epoch.0);
        write_durably(&path, text.as_bytes()).map_err(|source| FolderError::Io { path, source })
    }
}
