//! Writes a state into a new folder and syncs it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::{RestoreError, RestoreOptions, name};
use crate::chunk::ChunkSource;
use crate::manifest::{Entry, FileBody, Kind, Meta, SealedManifest};

pub(super) fn apply(
    state: &SealedManifest,
    chunks: &dyn ChunkSource,
    root: &Path,
    options: RestoreOptions,
) -> Result<(), RestoreError> {
    let mut folder = fs::DirBuilder::new();
    folder.mode(0o700);
    folder.create(root).map_err(name("create", root))?;
    for entry in &state.entries {
        let place = entry.path.under(root);
        match &entry.kind {
            Kind::Folder => folder.create(&place).map_err(name("create", &place))?,
            Kind::File(body) => {
                let file = write_file(entry, body, state.chunk_bytes, chunks, &place)?;
                set_meta(&entry.meta, &place, options)?;
                file.sync_all().map_err(name("sync", &place))?;
            }
            Kind::HardLink(target) => {
                fs::hard_link(target.under(root), &place).map_err(name("link", &place))?;
            }
            Kind::Symlink(_) | Kind::Whiteout => {}
        }
    }
    // Last, when nothing is written through a path any more.
    for entry in &state.entries {
        write_special(entry, root, options)?;
    }
    // Innermost first: making a folder read-only, or setting its time, is the last thing done to it.
    for entry in state.entries.iter().rev().filter(|entry| entry.kind == Kind::Folder) {
        finish_folder(&entry.meta, &entry.path.under(root), options)?;
    }
    finish_folder(&state.root, root, options)
}

/// Sets a folder's metadata and makes it and its names durable.
fn finish_folder(meta: &Meta, place: &Path, options: RestoreOptions) -> Result<(), RestoreError> {
    // Opened before the mode may forbid it.
    let folder = File::open(place).map_err(name("open", place))?;
    set_meta(meta, place, options)?;
    folder.sync_all().map_err(name("sync", place))
}

fn write_special(entry: &Entry, root: &Path, options: RestoreOptions) -> Result<(), RestoreError> {
    let place = entry.path.under(root);
    match &entry.kind {
        Kind::Symlink(text) => {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&text.0), &place)
                .map_err(name("create", &place))?;
        }
        Kind::Whiteout => {
            rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(|error| name("create", &place)(error.into()))?;
        }
        Kind::File(_) | Kind::Folder | Kind::HardLink(_) => return Ok(()),
    }
    set_meta(&entry.meta, &place, options)
}

fn write_file(
    entry: &Entry,
    body: &FileBody,
    chunk_bytes: u32,
    chunks: &dyn ChunkSource,
    place: &Path,
) -> Result<File, RestoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(place)
        .map_err(name("create", place))?;
    file.set_len(body.size).map_err(name("size", place))?;
    for at in body.chunks(chunk_bytes) {
        let path = || entry.path.clone();
        let bytes = chunks
            .read_chunk(&at.id)
            .map_err(|source| RestoreError::Content { path: path(), source: Box::new(source) })?;
        if bytes.len() as u64 != u64::from(at.len) {
            return Err(RestoreError::ChunkLength { path: path() });
        }
        let offset = at.index * u64::from(chunk_bytes);
        file.write_all_at(&bytes, offset).map_err(name("write", place))?;
    }
    Ok(file)
}

fn set_meta(meta: &Meta, place: &Path, options: RestoreOptions) -> Result<(), RestoreError> {
    let now = fs::symlink_metadata(place).map_err(name("look at", place))?;
    let owner = (meta.uid, meta.gid);
    if !options.ignore_owners && (now.uid(), now.gid()) != owner {
        std::os::unix::fs::lchown(place, Some(meta.uid), Some(meta.gid))
            .map_err(name("change the owner of", place))?;
    }
    if !now.is_symlink() {
        // After the owner: changing that clears setuid, and file capabilities.
        fs::set_permissions(place, fs::Permissions::from_mode(meta.mode))
            .map_err(name("change the mode of", place))?;
    }
    for xattr in &meta.xattrs {
        let (key, value) = (xattr.name.0.as_slice(), &xattr.value.0);
        rustix::fs::lsetxattr(place, key, value, XattrFlags::empty())
            .map_err(|error| name("set an attribute of", place)(error.into()))?;
    }
    let time = Timespec {
        tv_sec: meta.mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: meta.mtime_ns.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| name("set the time of", place)(error.into()))
}
