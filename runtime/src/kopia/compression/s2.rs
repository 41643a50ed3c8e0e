//! S2 streams, as Kopia's `s2-*` write them: Snappy's framing and tags, blocks of up to 4 MiB, and
//! copies that repeat the last offset.
//!
//! A stream has no end mark: a reader that gets less than it expects has a stream that was cut.
//! No bytes at all are an empty stream. Memory: see `blocks.rs`. Invariant: a block gives as many
//! bytes as it says at its beginning. Format: `s2` of github.com/klauspost/compress.

use std::io::{self, Read};

use super::blocks::{
    BLOCK_BYTES_MAX, Blocks, NextBlock, Plain, invalid, read_or_end, read_stored, take, take_slice,
};

/// Most bytes that a block takes as stored: Snappy's bound for what does not shrink.
const STORED_BYTES_MAX: usize = 32 + BLOCK_BYTES_MAX + BLOCK_BYTES_MAX / 6;
/// What may stand at the beginning of a stream.
const IDENTIFIERS: [&[u8]; 2] = [b"S2sTwO", b"sNaPpY"];
/// Bytes of the checksum before the data of a block.
const CHECKSUM_BYTES: usize = 4;

/// Opens a stream.
pub(super) fn open<'a>(stream: impl Read + Send + 'a) -> impl Read + Send + 'a {
    Blocks::new(S2 {
        stream,
        stored: Vec::new(),
        identified: false,
    })
}

struct S2<R> {
    stream: R,
    stored: Vec<u8>,
    identified: bool,
}

impl<R: Read> NextBlock for S2<R> {
    fn next_block(&mut self, plain: &mut Plain) -> io::Result<bool> {
        while let Some([kind, length @ ..]) = read_or_end::<4>(&mut self.stream)? {
            let bytes = length.iter().rev();
            let bytes = bytes.fold(0, |bytes, byte| bytes << 8 | usize::from(*byte));
            let skipped = matches!(kind, 0x80..=0xfe);
            if !self.identified && kind != 0xff {
                return Err(invalid("s2: the stream does not begin with its identifier"));
            }
            if skipped {
                let mut left = self.stream.by_ref().take(bytes as u64);
                if io::copy(&mut left, &mut io::sink())? != bytes as u64 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if bytes > STORED_BYTES_MAX + CHECKSUM_BYTES {
                return Err(invalid("s2: a block is larger than it may be"));
            }
            read_stored(&mut self.stream, &mut self.stored, bytes)?;
            let mut stored = self.stored.as_slice();
            match kind {
                0xff if IDENTIFIERS.contains(&stored) => self.identified = true,
                0xff => return Err(invalid("s2: the identifier is another's")),
                0x00 => {
                    take::<CHECKSUM_BYTES>(&mut stored)?;
                    plain.begin(0);
                    decode(stored, plain)?;
                    return Ok(true);
                }
                0x01 => {
                    take::<CHECKSUM_BYTES>(&mut stored)?;
                    plain.begin(0);
                    plain.literal(stored, BLOCK_BYTES_MAX)?;
                    return Ok(true);
                }
                _ => return Err(invalid("s2: a chunk of a kind that is not known")),
            }
        }
        Ok(false)
    }
}

/// Decodes a block.
fn decode(mut stored: &[u8], plain: &mut Plain) -> io::Result<()> {
    let block_bytes = uvarint(&mut stored)?;
    if block_bytes > BLOCK_BYTES_MAX {
        return Err(invalid("s2: a block is larger than it may be"));
    }
    let mut offset = 0;
    while let Some((&tag, rest)) = stored.split_first() {
        stored = rest;
        let high = usize::from(tag >> 2);
        let length = match tag & 3 {
            0 => {
                let length = literal_length(high, &mut stored)?;
                plain.literal(take_slice(&mut stored, length)?, block_bytes)?;
                continue;
            }
            1 => {
                let [low] = take(&mut stored)?;
                let length = high & 7;
                match usize::from(tag & 0xe0) << 3 | usize::from(low) {
                    0 => 4 + repeat_length(length, &mut stored)?,
                    other => {
                        offset = other;
                        4 + length
                    }
                }
            }
            2 => {
                offset = usize::from(u16::from_le_bytes(take(&mut stored)?));
                1 + high
            }
            _ => {
                offset = u32::from_le_bytes(take(&mut stored)?) as usize;
                1 + high
            }
        };
        plain.copy(offset, length, block_bytes)?;
    }
    match plain.block_bytes() == block_bytes {
        true => Ok(()),
        false => Err(invalid("s2: a block has not the bytes that it says")),
    }
}

/// Returns how many bytes follow as they are.
fn literal_length(high: usize, stored: &mut &[u8]) -> io::Result<usize> {
    Ok(1 + match high {
        60 => number::<1>(stored)?,
        61 => number::<2>(stored)?,
        62 => number::<3>(stored)?,
        63 => number::<4>(stored)?,
        short => short,
    })
}

/// Returns how many bytes more than four the last offset gives.
fn repeat_length(code: usize, stored: &mut &[u8]) -> io::Result<usize> {
    Ok(match code {
        5 => 4 + number::<1>(stored)?,
        6 => (1 << 8) + number::<2>(stored)?,
        7 => (1 << 16) + number::<3>(stored)?,
        short => short,
    })
}

/// Takes a number of `N` bytes, the lowest first; `N` is at most 4.
fn number<const N: usize>(stored: &mut &[u8]) -> io::Result<usize> {
    let bytes: [u8; N] = take(stored)?;
    let bytes = bytes.iter().rev();
    Ok(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// Takes a number of seven bits a byte, the lowest first, of at most 32 bits.
fn uvarint(stored: &mut &[u8]) -> io::Result<usize> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = take(stored)?;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(invalid("s2: the length of a block is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(chunks: &[(u8, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (kind, body) in chunks {
            all.push(*kind);
            all.extend_from_slice(&(body.len() as u32).to_le_bytes()[..3]);
            all.extend_from_slice(body);
        }
        all
    }

    /// A stream of one compressed block.
    fn block(body: &[u8]) -> Vec<u8> {
        let body = [&[0; 4], body].concat();
        stream(&[(0xff, b"S2sTwO"), (0, &body)])
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        open(bytes).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn every_kind_of_tag() {
        // "ab", a copy of each width, and the last offset again in each length.
        let body = [
            &[0][..],
            &[1 << 2, b'a', b'b'],
            &[1, 2],
            &[2 << 2 | 2, 2, 0],
            &[63 << 2 | 3, 1, 0, 0, 0],
            &[1, 0],
            &[5 << 2 | 1, 0, 0],
            &[6 << 2 | 1, 0, 0, 0],
        ];
        let mut body = body.concat();
        let bytes = 2 + 4 + 3 + 64 + 4 + 8 + 260_u16;
        body.splice(..1, [bytes as u8 | 0x80, (bytes >> 7) as u8]);
        let plain = read(&block(&body)).unwrap();
        assert_eq!(plain.len(), usize::from(bytes));
        assert_eq!(&plain[..9], b"ababababa");
        assert!(plain[9..].iter().all(|byte| *byte == b'a'));
        // The longest form: 65,536 + 4 and what three bytes say.
        let long = 1 + 65_540 + 3_u32;
        let length = [
            long as u8 | 0x80,
            (long >> 7) as u8 | 0x80,
            (long >> 14) as u8,
        ];
        let body = [&length[..], &[0, b'x', 1, 1], &[7 << 2 | 1, 0, 3, 0, 0]].concat();
        // The copy before it gives four.
        assert!(read(&block(&body)).is_err());
        let long = long + 4;
        let length = [
            long as u8 | 0x80,
            (long >> 7) as u8 | 0x80,
            (long >> 14) as u8,
        ];
        let body = [&length[..], &[0, b'x', 1, 1], &[7 << 2 | 1, 0, 3, 0, 0]].concat();
        assert_eq!(read(&block(&body)).unwrap(), vec![b'x'; long as usize]);
    }

    #[test]
    fn frames_and_what_is_skipped() {
        let stored = [&[0; 4][..], b"plain"].concat();
        let chunks: &[(u8, &[u8])] = &[
            (0xff, b"S2sTwO"),
            (0xfe, &[0; 300]),
            (1, &stored),
            (0x99, b"an index"),
            (0xff, b"sNaPpY"),
            (1, &stored),
        ];
        let whole = stream(chunks);
        assert_eq!(read(&whole).unwrap(), b"plainplain");
        assert_eq!(read(b"").unwrap(), b"");
        for cut in 1..10 {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(read(&stream(&chunks[2..])).is_err(), "no identifier");
        for kind in [2, 0x7f] {
            let chunks = [(0xff, &b"S2sTwO"[..]), (kind, &[0; 9])];
            assert!(read(&stream(&chunks)).is_err(), "{kind}");
        }
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        for (body, why) in [
            (&[4, 1, 0][..], "the last offset before there is one"),
            (&[5, 0, b'a', 1, 2], "before the beginning"),
            (&[5, 0, b'a', 2, 0, 0], "an offset of zero"),
            (&[4, 0, b'a', 1, 1], "more than it says"),
            (&[6, 0, b'a', 1, 1], "less than it says"),
            (&[3, 2 << 2, b'a', b'b'], "a literal that is cut"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 1], "a length of its own"),
            (&[0xff, 0xff, 0xff, 0x7f], "larger than any block"),
            (&[], "no length"),
        ] {
            assert!(read(&block(body)).is_err(), "{why}");
        }
    }
}
