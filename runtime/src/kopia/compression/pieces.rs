//! Decompression in pieces, with buffers that are used again: for those who open many contents.
//!
//! A zstd content that is short when decompressed is given in one piece, which is a quarter faster
//! than as a stream; everything else comes in pieces of [`PIECE_BYTES`]. Memory: `whole_bytes` for
//! short contents, as much again inside the decoder; for long ones as `compression.rs` says, and a
//! piece. Invariant: no more bytes are given than the index says that the content has.

use std::fmt;
use std::io::Read;

use ruzstd::decoding::FrameDecoder;

use super::{NONE, ZSTD_WINDOW_BYTES_MAX, decompress, decompress_object, verify_header};
use crate::kopia::FormatError;

/// Bytes of a piece.
pub const PIECE_BYTES: usize = 64 << 10;

/// Header IDs of zstd.
const ZSTD: u32 = 0x11;

/// Decompresses one content after the other.
pub struct Decompressor {
    whole_bytes: usize,
    zstd: FrameDecoder,
    whole: Vec<u8>,
    piece: Vec<u8>,
}

/// What a content is, as its index entry and its object ID say.
#[derive(Clone, Copy, Debug)]
pub struct Compressed {
    /// Header ID of the content's compression.
    pub header_id: u32,
    /// Bytes of the content when it is decompressed.
    pub plain_bytes: u64,
    /// Whether it holds an object that is compressed once more (`Z`).
    pub object: bool,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// Makes one that gives contents of up to `whole_bytes` in one piece.
    pub fn new(whole_bytes: usize) -> Self {
        let mut zstd = FrameDecoder::new();
        zstd.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        Self {
            whole_bytes,
            zstd,
            whole: Vec::new(),
            piece: Vec::new(),
        }
    }

    /// Gives the plaintext of a content that lies in memory; `what` names it.
    ///
    /// # Errors
    /// As [`decompress`], a damaged stream, more bytes than the index says; what `each` gives.
    pub fn open<E: From<FormatError>>(
        &mut self,
        compressed: Compressed,
        body: &[u8],
        what: &dyn fmt::Display,
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if compressed.object {
            return self.open_stream(compressed, body, what, each);
        }
        if compressed.header_id == NONE {
            return each(body);
        }
        let short = compressed.plain_bytes <= self.whole_bytes as u64;
        if compressed.header_id >> 8 != ZSTD || !short {
            return self.open_stream(compressed, body, what, each);
        }
        let mut frame = body;
        let plain_bytes = compressed.plain_bytes as usize;
        verify_header(compressed.header_id, &mut frame, &what.to_string())?;
        if self.whole.len() < plain_bytes {
            self.whole.resize(plain_bytes, 0);
        }
        let decoded = self.zstd.decode_all(frame, &mut self.whole[..plain_bytes]);
        let bytes = decoded.map_err(|e| malformed(what, format!("zstd: {e}")))?;
        each(&self.whole[..bytes])
    }

    /// Gives the plaintext of a content that is read.
    ///
    /// # Errors
    /// As [`Decompressor::open`].
    pub fn open_stream<E: From<FormatError>>(
        &mut self,
        compressed: Compressed,
        body: impl Read + Send,
        what: &dyn fmt::Display,
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = what.to_string();
        let content = decompress(compressed.header_id, body, &name)?;
        let mut content = content.take(compressed.plain_bytes.saturating_add(1));
        self.piece.resize(PIECE_BYTES, 0);
        if compressed.object {
            let object = decompress_object(&mut content, &name)?;
            pieces(object, &mut self.piece, what, each)?;
        } else {
            pieces(&mut content, &mut self.piece, what, each)?;
        }
        if content.limit() == 0 {
            let reason = format!(
                "more than the {} bytes of its index entry",
                compressed.plain_bytes
            );
            return Err(malformed(what, reason).into());
        }
        Ok(())
    }
}

fn pieces<E: From<FormatError>>(
    mut stream: impl Read,
    piece: &mut [u8],
    what: &dyn fmt::Display,
    each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let bytes = stream
            .read(piece)
            .map_err(|error| malformed(what, error.to_string()))?;
        if bytes == 0 {
            return Ok(());
        }
        each(&piece[..bytes])?;
    }
}

#[cold]
fn malformed(what: &dyn fmt::Display, reason: String) -> FormatError {
    FormatError::malformed(what.to_string(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kopia::index_builder::test_file;

    fn open(
        decompressor: &mut Decompressor,
        compressed: Compressed,
        body: &[u8],
    ) -> Result<Vec<u8>, FormatError> {
        let mut all = Vec::new();
        decompressor.open(compressed, body, &"content k1", &mut |piece| {
            all.extend_from_slice(piece);
            Ok::<(), FormatError>(())
        })?;
        Ok(all)
    }

    /// Kopia's own contents, whole and in pieces, as contents and as objects: all the same.
    #[test]
    fn whole_and_in_pieces() {
        for (header_id, name, plain_bytes) in [
            (0x1000, "gzip", 2500),
            (0x1100, "zstd", 2500),
            (0x1102, "zstd-better-compression", 36872),
            (0x1500, "deflate-default", 2500),
        ] {
            let body = test_file(&format!("content-{name}"));
            let compressed = Compressed {
                header_id,
                plain_bytes,
                object: false,
            };
            let mut large = Decompressor::new(1 << 20);
            let whole = open(&mut large, compressed, &body).unwrap();
            assert_eq!(whole.len() as u64, plain_bytes, "{name}");
            let streamed = open(&mut Decompressor::new(10), compressed, &body).unwrap();
            assert_eq!(streamed, whole, "{name}");
            let object = Compressed {
                header_id: NONE,
                plain_bytes: body.len() as u64,
                object: true,
            };
            assert_eq!(open(&mut large, object, &body).unwrap(), whole, "{name}");
            for (wrong, whole_bytes) in [(plain_bytes - 1, 1 << 20), (plain_bytes - 1, 10)] {
                let short = Compressed {
                    plain_bytes: wrong,
                    ..compressed
                };
                let mut decompressor = Decompressor::new(whole_bytes);
                let error = open(&mut decompressor, short, &body).unwrap_err();
                assert_eq!(error.code(), "malformed", "{name}");
            }
            let cut = open(&mut large, compressed, &body[..body.len() / 2]);
            assert!(cut.is_err(), "{name}");
            assert!(open(&mut large, compressed, &[]).is_err(), "{name}");
        }
        let plain = Compressed {
            header_id: NONE,
            plain_bytes: 3,
            object: false,
        };
        assert_eq!(
            open(&mut Decompressor::new(10), plain, b"abc").unwrap(),
            b"abc"
        );
    }
}
