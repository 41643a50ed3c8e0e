//! LZ4 frames, as Kopia before 0.23 wrote them; later ones can no longer read them.
//!
//! Memory: see `blocks.rs`; where blocks reach into the one before, 64 KiB of that. Invariant: one
//! frame is the whole stream. Format: the LZ4 frame format 1.6 and the block format, lz4.org.

use std::io::{self, Read};

use super::blocks::{
    Blocks, NextBlock, Plain, invalid, read_or_end, read_stored, take, take_slice,
};

const MAGIC: u32 = 0x184d_2204;
/// How far a copy reaches back at most.
const HISTORY_BYTES: usize = 64 << 10;
/// Set in the length of a block that is stored as it is.
const AS_IT_IS: u32 = 1 << 31;

/// Opens a stream.
pub(super) fn open<'a>(stream: impl Read + Send + 'a) -> impl Read + Send + 'a {
    Blocks::new(Lz4 {
        stream,
        stored: Vec::new(),
        header: None,
    })
}

/// What the beginning of a frame says.
#[derive(Clone, Copy)]
struct Header {
    block_bytes: usize,
    linked: bool,
    block_checksum: bool,
    content_checksum: bool,
}

struct Lz4<R> {
    stream: R,
    stored: Vec<u8>,
    header: Option<Header>,
}

impl<R: Read> Lz4<R> {
    fn read_header(&mut self) -> io::Result<Header> {
        let [m0, m1, m2, m3, flags, sizes] = read_array(&mut self.stream)?;
        if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC {
            return Err(invalid("lz4: the stream does not begin as a frame"));
        }
        if flags >> 6 != 1 {
            return Err(invalid("lz4: the version of the frame is not known"));
        }
        let block_bytes = match sizes >> 4 & 7 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(invalid("lz4: the size of blocks is not known")),
        };
        if flags & 0x08 != 0 {
            read_array::<8>(&mut self.stream)?;
        }
        if flags & 0x01 != 0 {
            return Err(invalid("lz4: the frame wants a dictionary"));
        }
        read_array::<1>(&mut self.stream)?;
        Ok(Header {
            block_bytes,
            linked: flags & 0x20 == 0,
            block_checksum: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
        })
    }

    /// Reads what follows the last block; nothing may follow that.
    fn end(&mut self, header: Header) -> io::Result<()> {
        if header.content_checksum {
            read_array::<4>(&mut self.stream)?;
        }
        match read_or_end::<1>(&mut self.stream)? {
            None => Ok(()),
            // Ending here in silence would cut a content short.
            Some(_) => Err(invalid("lz4: bytes follow the frame")),
        }
    }
}

impl<R: Read> NextBlock for Lz4<R> {
    fn next_block(&mut self, plain: &mut Plain) -> io::Result<bool> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let header = self.read_header()?;
                *self.header.insert(header)
            }
        };
        let length = u32::from_le_bytes(read_array(&mut self.stream)?);
        if length == 0 {
            self.end(header)?;
            return Ok(false);
        }
        let bytes = (length & !AS_IT_IS) as usize;
        if bytes > header.block_bytes {
            return Err(invalid("lz4: a block is larger than it may be"));
        }
        read_stored(&mut self.stream, &mut self.stored, bytes)?;
        if header.block_checksum {
            read_array::<4>(&mut self.stream)?;
        }
        plain.begin(if header.linked { HISTORY_BYTES } else { 0 });
        match length & AS_IT_IS != 0 {
            true => plain.literal(&self.stored, header.block_bytes)?,
            false => decode(&self.stored, plain, header.block_bytes)?,
        }
        Ok(true)
    }
}

/// Decodes a block.
fn decode(mut stored: &[u8], plain: &mut Plain, block_bytes: usize) -> io::Result<()> {
    loop {
        let [token] = take(&mut stored)?;
        let literal = length(usize::from(token >> 4), &mut stored)?;
        plain.literal(take_slice(&mut stored, literal)?, block_bytes)?;
        if stored.is_empty() {
            return Ok(());
        }
        let offset = u16::from_le_bytes(take(&mut stored)?);
        let copied = length(usize::from(token & 15), &mut stored)?;
        plain.copy(usize::from(offset), copied.saturating_add(4), block_bytes)?;
    }
}

/// Returns a length of which a token has four bits.
fn length(bits: usize, stored: &mut &[u8]) -> io::Result<usize> {
    let mut length = bits;
    if bits < 15 {
        return Ok(length);
    }
    loop {
        let [more] = take(stored)?;
        length = length.saturating_add(usize::from(more));
        if more < u8::MAX {
            return Ok(length);
        }
    }
}

fn read_array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with these flags and blocks of at most 64 KiB, and its end.
    fn frame(flags: u8, blocks: &[(&[u8], bool)]) -> Vec<u8> {
        let mut all = [&MAGIC.to_le_bytes()[..], &[0x40 | flags, 4 << 4]].concat();
        if flags & 0x08 != 0 {
            all.extend_from_slice(&[0; 8]);
        }
        all.push(0);
        for (block, as_it_is) in blocks {
            let bit = if *as_it_is { AS_IT_IS } else { 0 };
            all.extend_from_slice(&(block.len() as u32 | bit).to_le_bytes());
            all.extend_from_slice(block);
            if flags & 0x10 != 0 {
                all.extend_from_slice(&[0; 4]);
            }
        }
        all.extend_from_slice(&[0; 4]);
        if flags & 0x04 != 0 {
            all.extend_from_slice(&[0; 4]);
        }
        all
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        open(bytes).read_to_end(&mut all)?;
        Ok(all)
    }

    /// "ab", seven bytes of it again, and "c".
    const BLOCK: &[u8] = &[0x23, b'a', b'b', 2, 0, 0x10, b'c'];

    #[test]
    fn blocks_of_every_kind_of_frame() {
        for flags in [0x20, 0x20 | 0x10, 0x20 | 0x08 | 0x04, 0x20 | 0x1c] {
            let whole = frame(flags, &[(BLOCK, false), (b"as it is", true)]);
            assert_eq!(read(&whole).unwrap(), b"ababababacas it is", "{flags:#x}");
            for cut in 0..whole.len() {
                assert!(read(&whole[..cut]).is_err(), "{flags:#x} {cut}");
            }
            let more = [&whole[..], &[0]].concat();
            assert!(read(&more).is_err(), "{flags:#x}");
        }
        assert_eq!(read(&frame(0x20, &[])).unwrap(), b"");
    }

    #[test]
    fn lengths_that_go_on() {
        // 15 + 255 + 2 literals, then 15 + 255 + 0 + 4 bytes of the last one.
        let literal = [b'x'; 272];
        let block = [&[0xff, 255, 2][..], &literal, &[1, 0, 255, 0, 0]].concat();
        assert_eq!(read(&frame(0x20, &[(&block, false)])).unwrap(), [b'x'; 546]);
    }

    #[test]
    fn only_linked_blocks_reach_into_the_one_before() {
        let before: &[u8] = &[0x10, 2, 0, 0x10, b'd'];
        let before = &[&before[..1], b"!", &before[1..]].concat();
        let reaching = [before.as_slice(), &[]].concat();
        let blocks = [(&b"xy"[..], true), (&reaching[..], false)];
        assert_eq!(read(&frame(0, &blocks)).unwrap(), b"xy!y!y!d");
        assert!(read(&frame(0x20, &blocks)).is_err());
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        let whole = frame(0x20, &[(BLOCK, false)]);
        for (place, value) in [(0, 0), (4, 0), (4, 0x61), (5, 3 << 4)] {
            let mut wrong = whole.clone();
            wrong[place] = value;
            assert!(read(&wrong).is_err(), "{place} {value}");
        }
        let zero: &[u8] = &[0x10, b'a', 0, 0, 0];
        assert!(read(&frame(0x20, &[(zero, false)])).is_err());
        // One literal, then more copies than a block of 64 KiB has room for.
        let many = [&[0x1f, b'a', 1, 0][..], &[255; 300], &[0, 0]].concat();
        assert!(read(&frame(0x20, &[(&many, false)])).is_err());
    }
}
