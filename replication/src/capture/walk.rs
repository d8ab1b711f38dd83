//! What lies in a folder, and what each thing is. Symlinks are never followed.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{CaptureError, name};
use crate::manifest::{Meta, XATTR_BYTES_MAX, XATTRS_MAX, Xattr};
use crate::path::{Blob, RelPath};

/// Attributes that belong to a state: the user's own, file capabilities, access lists, and
/// overlayfs marks. Others (labels of the host's security modules) belong to the host.
const XATTR_PREFIXES: [&[u8]; 4] =
    [b"user.", b"security.capability", b"system.posix_acl_", b"trusted.overlay."];
const XATTR_LIST_BYTES_MAX: usize = 64 << 10;

pub(super) struct Found {
    pub(super) path: RelPath,
}

pub(super) struct Seen {
    pub(super) meta: Meta,
    pub(super) kind: Sort,
}

pub(super) enum Sort {
    /// `inode` is (device, number) if the file has more than one name.
    File {
        inode: Option<(u64, u64)>,
    },
    Folder,
    Symlink(Blob),
    Whiteout,
    Special,
}

/// Everything below `root`, ascending by path.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, CaptureError> {
    let mut all = Vec::new();
    let mut folders: Vec<Option<RelPath>> = vec![None];
    while let Some(folder) = folders.pop() {
        let place = folder.as_ref().map_or_else(|| root.to_owned(), |path| path.under(root));
        let listed = match fs::read_dir(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound && folder.is_some() => continue,
            other => other.map_err(name("list", &place))?,
        };
        for entry in listed {
            let entry = entry.map_err(name("list", &place))?;
            let path = match &folder {
                Some(folder) => folder.join(entry.file_name().as_bytes())?,
                None => RelPath::new(entry.file_name().as_bytes())?,
            };
            // From the folder itself, so a symlink to a folder is a symlink.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(Some(path.clone()));
            }
            all.push(Found { path });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// What lies at `place`; `None` if it has vanished.
pub(super) fn look(place: &Path) -> Result<Option<Seen>, CaptureError> {
    let stat = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(name("look at", place))?,
    };
    let sort = stat.file_type();
    let kind = if sort.is_file() {
        Sort::File { inode: (stat.nlink() > 1).then(|| (stat.dev(), stat.ino())) }
    } else if sort.is_dir() {
        Sort::Folder
    } else if sort.is_symlink() {
        let text = fs::read_link(place).map_err(name("read link", place))?;
        Sort::Symlink(Blob(text.into_os_string().into_vec()))
    } else if sort.is_char_device() && stat.rdev() == 0 {
        Sort::Whiteout
    } else {
        Sort::Special
    };
    Ok(Some(Seen { meta: meta_of(place, &stat)?, kind }))
}

pub(super) fn stat(place: &Path) -> Result<Metadata, CaptureError> {
    fs::symlink_metadata(place).map_err(name("look at", place))
}

pub(super) fn meta_of(place: &Path, stat: &Metadata) -> Result<Meta, CaptureError> {
    let seconds = stat.mtime().saturating_mul(1_000_000_000);
    Ok(Meta {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime_ns: seconds.saturating_add(stat.mtime_nsec()),
        xattrs: xattrs(place).map_err(name("read the attributes of", place))?,
    })
}

fn xattrs(place: &Path) -> io::Result<Vec<Xattr>> {
    let mut list = vec![0; XATTR_LIST_BYTES_MAX];
    let len = match rustix::fs::llistxattr(place, list.as_mut_slice()) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for attribute in list[..len].split(|&byte| byte == 0) {
        if !XATTR_PREFIXES.iter().any(|prefix| attribute.starts_with(prefix)) {
            continue;
        }
        if all.len() == XATTRS_MAX {
            return Err(io::Error::other("more than 32 extended attributes"));
        }
        let mut value = vec![0; XATTR_BYTES_MAX];
        match rustix::fs::lgetxattr(place, attribute, value.as_mut_slice()) {
            Ok(len) => value.truncate(len),
            // Removed in between.
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        all.push(Xattr { name: Blob(attribute.to_vec()), value: Blob(value) });
    }
    all.sort_by(|a, b| a.name.0.cmp(&b.name.0));
    Ok(all)
}
