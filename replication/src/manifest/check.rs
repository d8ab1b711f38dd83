//! What a manifest must satisfy before anything of it is used.
//!
//! The checks are about safety (where would restoring it write, how much would it allocate), not
//! about whether the state makes sense to its service.

use std::collections::BTreeSet;

use super::{Kind, Manifest, ManifestError, Meta, XATTR_BYTES_MAX, XATTRS_MAX};
use crate::chunk::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use crate::path::{NAME_BYTES_MAX, PATH_BYTES_MAX, RelPath};

/// Longest file: what a signed 64-bit offset can address.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

pub(super) fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let sizes = CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX;
    let fits = |bytes: u32| bytes.is_power_of_two() && sizes.contains(&bytes);
    let header = |why| Err(ManifestError::Header { why });
    if !fits(manifest.page_bytes) || !fits(manifest.chunk_bytes) {
        return header("page and chunk size must be powers of two from 4 to 64 KiB");
    }
    if manifest.chunk_bytes < manifest.page_bytes {
        return header("a chunk is shorter than a page");
    }
    if manifest.entries.len() > super::ENTRIES_MAX {
        return header("too many entries");
    }
    if let Some(why) = meta_flaw(&manifest.root) {
        return header(why);
    }
    let mut seen = Seen::default();
    let mut last: Option<&RelPath> = None;
    for entry in &manifest.entries {
        let refuse = |why| Err(ManifestError::Entry { path: entry.path.clone(), why });
        if last.is_some_and(|last| *last >= entry.path) {
            return refuse("is not in ascending order");
        }
        last = Some(&entry.path);
        if entry.path.parent().is_some_and(|parent| !seen.folders.contains(&parent)) {
            return refuse("lies below something that is not a folder of this manifest");
        }
        if let Some(why) =
            meta_flaw(&entry.meta).or_else(|| kind_flaw(&entry.kind, manifest, &seen))
        {
            return refuse(why);
        }
        match entry.kind {
            Kind::Folder => _ = seen.folders.insert(entry.path.clone()),
            Kind::File(_) => _ = seen.files.insert(&entry.path),
            Kind::Symlink(_) | Kind::HardLink(_) | Kind::Whiteout => {}
        }
    }
    Ok(())
}

/// What earlier entries were.
#[derive(Default)]
struct Seen<'a> {
    folders: BTreeSet<RelPath>,
    files: BTreeSet<&'a RelPath>,
}

fn kind_flaw(kind: &Kind, manifest: &Manifest, seen: &Seen<'_>) -> Option<&'static str> {
    match kind {
        Kind::File(body) if body.size > FILE_BYTES_MAX => Some("is longer than 2^63 bytes"),
        Kind::File(body) if !body.is_canonical() => Some("has extents that should be one"),
        Kind::File(body) if !body.is_whole(manifest.chunk_bytes) => {
            Some("has more or fewer chunks than its size needs")
        }
        Kind::Symlink(text) if text.0.is_empty() || text.0.len() > PATH_BYTES_MAX => {
            Some("is a symlink whose text is empty or too long")
        }
        Kind::Symlink(text) if text.0.contains(&0) => Some("is a symlink whose text holds a NUL"),
        Kind::HardLink(target) if !seen.files.contains(target) => {
            Some("is a hard link to something that is not an earlier file")
        }
        Kind::File(_) | Kind::Folder | Kind::Symlink(_) | Kind::HardLink(_) | Kind::Whiteout => {
            None
        }
    }
}

fn meta_flaw(meta: &Meta) -> Option<&'static str> {
    if meta.mode > 0o7777 {
        return Some("has mode bits beyond 7777");
    }
    if meta.xattrs.len() > XATTRS_MAX {
        return Some("has too many extended attributes");
    }
    if !meta.xattrs.is_sorted_by(|a, b| a.name.0 < b.name.0) {
        return Some("has extended attributes out of order");
    }
    meta.xattrs.iter().find_map(|xattr| {
        let name = &xattr.name.0;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Some("has an extended attribute with a bad name");
        }
        (xattr.value.0.len() > XATTR_BYTES_MAX).then_some("has an extended attribute too long")
    })
}
