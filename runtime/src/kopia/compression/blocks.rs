//! Streams of compressed blocks, S2 and LZ4: what both have in common.
//!
//! A block is decoded as a whole, then given out. Copies reach back into what the block, or the one
//! before it, has given so far. Memory: one decoded block of at most [`BLOCK_BYTES_MAX`], the same
//! block as stored, and what may be reached before it; never more than the content has, since
//! blocks grow as they are decoded. Checksums of the streams are not compared: the content's tag
//! was. Invariant: nothing is read outside of what is there, whatever lengths and offsets say.

use std::io::{self, Read};

/// Largest decoded block: of both formats.
pub(super) const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Reads blocks one after the other.
pub(super) trait NextBlock {
    /// Appends the next block to `plain`, whose end it may reach back into; false at the end of
    /// the stream.
    fn next_block(&mut self, plain: &mut Plain) -> io::Result<bool>;
}

/// What blocks hold, as far as it is needed.
#[derive(Debug, Default)]
pub(super) struct Plain {
    bytes: Vec<u8>,
    /// Where the block begins.
    begin: usize,
}

impl Plain {
    /// Begins a block that reaches back at most `history_bytes`.
    pub(super) fn begin(&mut self, history_bytes: usize) {
        let unused = self.bytes.len().saturating_sub(history_bytes);
        self.bytes.drain(..unused);
        self.begin = self.bytes.len();
    }

    /// Returns the bytes of the block so far.
    pub(super) fn block_bytes(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Makes sure that the block stays within `block_bytes` when `bytes` are added.
    fn check(&self, bytes: usize, block_bytes: usize) -> io::Result<()> {
        match self.block_bytes().saturating_add(bytes) > block_bytes {
            true => Err(invalid("a block is larger than it may be")),
            false => Ok(()),
        }
    }

    /// Adds bytes as they are.
    pub(super) fn literal(&mut self, bytes: &[u8], block_bytes: usize) -> io::Result<()> {
        self.check(bytes.len(), block_bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Repeats `length` bytes from `offset` before the end; they may overlap what they make.
    pub(super) fn copy(
        &mut self,
        offset: usize,
        length: usize,
        block_bytes: usize,
    ) -> io::Result<()> {
        self.check(length, block_bytes)?;
        let start = self.bytes.len().checked_sub(offset);
        let start = start.filter(|_| offset > 0);
        let start = start.ok_or_else(|| invalid("a copy reaches back too far"))?;
        let mut left = length;
        while left > 0 {
            // What was copied last doubles what can be copied at once.
            let bytes = left.min(self.bytes.len() - start);
            self.bytes.extend_from_within(start..start + bytes);
            left -= bytes;
        }
        Ok(())
    }
}

/// A stream of blocks as a reader.
pub(super) struct Blocks<S> {
    source: S,
    plain: Plain,
    /// What was given out of the block.
    given: usize,
    ended: bool,
}

impl<S: NextBlock> Blocks<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            source,
            plain: Plain::default(),
            given: 0,
            ended: false,
        }
    }
}

impl<S: NextBlock> Read for Blocks<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let block = self.plain.bytes.get(self.plain.begin..);
            let left = block.and_then(|block| block.get(self.given..));
            let left = left.unwrap_or_default();
            if !left.is_empty() || self.ended || buffer.is_empty() {
                let bytes = left.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&left[..bytes]);
                self.given += bytes;
                return Ok(bytes);
            }
            self.given = 0;
            self.ended = !self.source.next_block(&mut self.plain)?;
            if self.ended {
                self.plain = Plain::default();
            }
        }
    }
}

/// Fills `stored` with `bytes` bytes of the stream; at most [`BLOCK_BYTES_MAX`] are allocated
/// before they are there.
pub(super) fn read_stored(
    stream: &mut impl Read,
    stored: &mut Vec<u8>,
    bytes: usize,
) -> io::Result<()> {
    stored.clear();
    let read = stream.by_ref().take(bytes as u64).read_to_end(stored)?;
    match read == bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads `N` bytes, or none where the stream ends.
pub(super) fn read_or_end<const N: usize>(stream: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let first = loop {
        match stream.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(bytes.get_mut(first..).unwrap_or_default())?;
    Ok(Some(bytes))
}

/// Takes the next `N` bytes of a stored block.
pub(super) fn take<const N: usize>(stored: &mut &[u8]) -> io::Result<[u8; N]> {
    let (bytes, rest) = stored
        .split_first_chunk()
        .ok_or_else(|| invalid("a block ends too early"))?;
    *stored = rest;
    Ok(*bytes)
}

/// Takes the next `bytes` bytes of a stored block.
pub(super) fn take_slice<'a>(stored: &mut &'a [u8], bytes: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = stored
        .split_at_checked(bytes)
        .ok_or_else(|| invalid("a block ends too early"))?;
    *stored = rest;
    Ok(taken)
}

#[cold]
pub(super) fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
