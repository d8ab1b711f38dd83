//! Makes a manifest from content in memory: for workloads that live in this process, and for tests.
//!
//! Capturing a folder goes through the same chunking ([`body_of`] and `FileBody::push`), so one
//! content has one manifest wherever it comes from.

use super::{CkptId, Entry, FileBody, Kind, Layer, Manifest, ManifestError, ManifestHash, Meta};
use crate::chunk::{ChunkSink, chunk_bytes_for, is_zero};
use crate::hash::ChunkId;
use crate::manifest::SealedManifest;
use crate::path::RelPath;
use crate::store::StoreError;

/// Collects entries in any order; [`ManifestBuilder::seal`] sorts and checks them.
#[derive(Debug)]
pub struct ManifestBuilder {
    manifest: Manifest,
}

impl ManifestBuilder {
    /// An empty state captured on a machine with pages of `page_bytes`.
    pub fn new(ckpt: CkptId, layer: Layer, page_bytes: u32) -> Self {
        let root = Meta { mode: 0o755, ..Meta::default() };
        let manifest = Manifest {
            page_bytes,
            chunk_bytes: chunk_bytes_for(page_bytes),
            ancestor: None,
            ckpt,
            layer,
            root,
            entries: Vec::new(),
        };
        Self { manifest }
    }

    /// Names the state captured before this one.
    pub fn ancestor(mut self, ancestor: ManifestHash) -> Self {
        self.manifest.ancestor = Some(ancestor);
        self
    }

    /// Metadata of the folder itself; mode 755 of root unless told otherwise.
    pub fn root(mut self, meta: Meta) -> Self {
        self.manifest.root = meta;
        self
    }

    /// Adds a file and puts its chunks, as far as `sink` lacks them.
    pub fn file(
        &mut self,
        path: RelPath,
        meta: Meta,
        content: &[u8],
        sink: &mut dyn ChunkSink,
    ) -> Result<(), StoreError> {
        let body = body_of(content, self.manifest.chunk_bytes, sink)?;
        self.entry(path, meta, Kind::File(body));
        Ok(())
    }

    /// Adds anything else.
    pub fn entry(&mut self, path: RelPath, meta: Meta, kind: Kind) {
        self.manifest.entries.push(Entry { path, meta, kind });
    }

    /// Sorts, checks, encodes and hashes.
    pub fn seal(mut self) -> Result<SealedManifest, ManifestError> {
        self.manifest.entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.manifest.seal()
    }
}

/// Cuts `content` into chunks and puts them, as far as `sink` lacks them.
fn body_of(
    content: &[u8],
    chunk_bytes: u32,
    sink: &mut dyn ChunkSink,
) -> Result<FileBody, StoreError> {
    let mut body = FileBody { size: content.len() as u64, extents: Vec::new() };
    for bytes in content.chunks(chunk_bytes.max(1) as usize) {
        body.push(put_chunk(bytes, sink)?);
    }
    Ok(body)
}

/// Puts one chunk unless it is all zeros, which is `None`: a hole.
pub(crate) fn put_chunk(
    bytes: &[u8],
    sink: &mut dyn ChunkSink,
) -> Result<Option<ChunkId>, StoreError> {
    if is_zero(bytes) {
        return Ok(None);
    }
    let id = ChunkId::of(bytes);
    if !sink.holds(&id) {
        sink.put(id, bytes)?;
    }
    Ok(Some(id))
}
