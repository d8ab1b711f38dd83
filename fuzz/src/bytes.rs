//! Arbitrary bytes, read as numbers and pieces. Past their end everything is zero or empty, so that
//! every input means something.

/// What is left of an input.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One of `count`, which must not be 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// At most `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// A piece that says its own length first.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = self.short();
        self.take(len.into())
    }

    fn array<const LEN: usize>(&mut self) -> [u8; LEN] {
        let mut array = [0; LEN];
        let head = self.take(LEN);
        array[..head.len()].copy_from_slice(head);
        array
    }
}

/// Appends `piece` as [`Bytes::piece`] reads it.
pub(crate) fn put_piece(to: &mut Vec<u8>, piece: &[u8]) {
    let len = u16::try_from(piece.len()).expect("seeds are small");
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(piece);
}
