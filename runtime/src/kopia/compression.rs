//! Decompression of contents, as streams.
//!
//! A compressed content begins with the header ID of its algorithm, four bytes, and the index entry
//! names the same ID; both must agree. What Careen decompresses is metadata (directories, indirect
//! objects, manifests): data contents move as ciphertext. Memory: gzip and deflate about 50 KB.
//! Zstandard keeps its window, but never more than the output, rounded up to a power of two; while
//! the buffer grows the old one lives beside it. S2 and LZ4 keep a block, stored and decoded, of at
//! most 4 MiB and never more than the content. Invariant: output has no limit of its own, so
//! callers stop one byte after the original length that they expect. Mirrors Kopia's
//! `compressor_*.go` and `compression_ids.go`.

mod blocks;
mod lz4;
mod pieces;
mod s2;

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::kopia::FormatError;

pub use pieces::{Compressed, Decompressor, PIECE_BYTES};

/// The header ID of contents that are not compressed.
pub const NONE: u32 = 0;
/// The header ID of `zstd-fastest`, Kopia's choice for directories.
pub const ZSTD_FASTEST: u32 = 0x1101;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 4;
/// Largest zstd window: that of Kopia's `zstd-best-compression`. A frame that wants more is refused
/// before anything is allocated.
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 32 << 20;

/// A decompressed stream.
pub type Decompressed<'a> = Box<dyn Read + Send + 'a>;

/// Returns Kopia's name of a header ID; `None` for one that no Kopia ever wrote.
pub fn name(header_id: u32) -> Option<&'static str> {
    Some(match header_id {
        NONE => "none",
        0x1000 => "gzip",
        0x1001 => "gzip-best-speed",
        0x1002 => "gzip-best-compression",
        0x1100 => "zstd",
        0x1101 => "zstd-fastest",
        0x1102 => "zstd-better-compression",
        0x1103 => "zstd-best-compression",
        0x1200 => "s2-default",
        0x1201 => "s2-better",
        0x1202 => "s2-parallel-4",
        0x1203 => "s2-parallel-8",
        0x1300 => "pgzip",
        0x1301 => "pgzip-best-speed",
        0x1302 => "pgzip-best-compression",
        0x1400 => "lz4",
        0x1500 => "deflate-default",
        0x1501 => "deflate-best-speed",
        0x1502 => "deflate-best-compression",
        _ => return None,
    })
}

/// Compresses a content as `zstd-fastest`, header and all. For those who make repositories; other
/// contents move as they are. Memory: the result, twice, and the compressor's window, 128 KiB.
pub fn to_zstd_fastest(plain: &[u8]) -> Vec<u8> {
    let frame = compress_to_vec(plain, CompressionLevel::Fastest);
    [&ZSTD_FASTEST.to_be_bytes()[..], &frame].concat()
}

/// Opens a decrypted content whose index entry says `header_id`; `what` names the content.
///
/// Errors that show only while reading come as `io::Error`; they mean a damaged content.
///
/// # Errors
/// A header that says otherwise, an algorithm that is not supported, a stream that does not begin
/// as one.
pub fn decompress<'a>(
    header_id: u32,
    mut body: impl Read + Send + 'a,
    what: &str,
) -> Result<Decompressed<'a>, FormatError> {
    if header_id == NONE {
        return Ok(Box::new(body));
    }
    verify_header(header_id, &mut body, what)?;
    decompress_stream(header_id, body, what)
}

/// Opens an object whose ID carries `Z`: the header itself says how it is compressed.
///
/// # Errors
/// As [`decompress`]; a header of zero.
pub fn decompress_object<'a>(
    mut body: impl Read + Send + 'a,
    what: &str,
) -> Result<Decompressed<'a>, FormatError> {
    let header_id = read_header(&mut body, what)?;
    if header_id == NONE {
        return Err(FormatError::malformed(what, "the compression header is 0"));
    }
    decompress_stream(header_id, body, what)
}

/// Reads the four bytes of the header and checks that they say `header_id`.
///
/// # Errors
/// Another ID, or less than four bytes.
pub fn verify_header(header_id: u32, body: &mut impl Read, what: &str) -> Result<(), FormatError> {
    let found = read_header(body, what)?;
    if found == header_id {
        return Ok(());
    }
    let reason = format!("the compression header is {found:#x}, the index says {header_id:#x}");
    Err(FormatError::malformed(what, reason))
}

fn read_header(body: &mut impl Read, what: &str) -> Result<u32, FormatError> {
    let mut header = [0; HEADER_BYTES];
    body.read_exact(&mut header)
        .map_err(|e| FormatError::malformed(what, format!("the compression header: {e}")))?;
    Ok(u32::from_be_bytes(header))
}

/// Opens what follows the header.
fn decompress_stream<'a>(
    header_id: u32,
    stream: impl Read + Send + 'a,
    what: &str,
) -> Result<Decompressed<'a>, FormatError> {
    let known = name(header_id).map(|_| header_id >> 8);
    match known {
        Some(0x10 | 0x13) => Ok(Box::new(MultiGzDecoder::new(stream))),
        Some(0x11) => Ok(Box::new(Zstd::open(stream, what)?)),
        Some(0x12) => Ok(Box::new(s2::open(stream))),
        Some(0x14) => Ok(Box::new(lz4::open(stream))),
        Some(0x15) => Ok(Box::new(DeflateDecoder::new(stream))),
        _ => Err(FormatError::malformed(
            what,
            format!("no Kopia that is known compresses with {header_id:#x}"),
        )),
    }
}

/// A zstd stream: one frame, and an error when anything follows it.
struct Zstd<R: Read> {
    frame: StreamingDecoder<R, FrameDecoder>,
}

impl<R: Read> Zstd<R> {
    fn open(stream: R, what: &str) -> Result<Self, FormatError> {
        StreamingDecoder::new_with_max_window_size(stream, ZSTD_WINDOW_BYTES_MAX)
            .map(|frame| Self { frame })
            .map_err(|e| FormatError::malformed(what, format!("zstd: {e}")))
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.frame.read(buffer)?;
        if bytes == 0 && self.frame.get_mut().read(&mut [0])? != 0 {
            // Kopia writes one frame. Ending here in silence would cut a content short.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "zstd: bytes follow the frame",
            ));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::kopia::index_builder::test_file;

    /// Decrypted contents of a repository made with every compressor, with length and SHA-256 of
    /// what is inside.
    #[test]
    fn kopias_contents() {
        for (id, length, sha256) in [
            (
                0x1000,
                2500,
                "0f8a6cf64c4e7244751b5eac8e296a82b9be8b9604f8cd9be4a68304ef6b5ec3",
            ),
            (
                0x1002,
                1500,
                "38d57617fcbe08e0a1c702b328f0eae72130173bad6d4322af81f4ef7648835c",
            ),
            (
                0x1100,
                2500,
                "b110c4975ccd7629cd764aad95e99f24add20fa1c165ea72a04823bfb6695985",
            ),
            (
                0x1101,
                1500,
                "2d6e7c2ee03bded2029a522b0505c0003981ca734177920da782d15a8abc9df6",
            ),
            (
                0x1102,
                36872,
                "ab5bcd4f05aef54d1fcc14f5355b35fab723c6415aec49bd4eac1fc41ac78f87",
            ),
            (
                0x1103,
                2500,
                "dd92f84030917545a4feeb1409bc0b5da06f27ceb0c66720d697df2ab801ba93",
            ),
            (
                0x1301,
                1500,
                "07cdaa0d86ed16648531a81a957e00a9fb21eece9f3df1110c6c3668d5edd6bf",
            ),
            (
                0x1500,
                2500,
                "ba2c432264545b518f0d05e301e636d50190f04bb4f9d5efa3d7d576f50e6c40",
            ),
        ] {
            let body = test_file(&format!("content-{}", name(id).unwrap()));
            let mut out = Vec::new();
            let mut stream = decompress(id, &body[..], "c").unwrap();
            stream.read_to_end(&mut out).unwrap();
            assert_eq!(out.len(), length);
            assert_eq!(hex::encode(Sha256::digest(&out)), sha256, "{id:#x}");
            let mut again = Vec::new();
            let mut object = decompress_object(&body[..], "c").unwrap();
            object.read_to_end(&mut again).unwrap();
            assert_eq!(again, out);
            // A cut stream is an error, not a shorter content.
            let cut = &body[..body.len() / 2];
            let read = decompress(id, cut, "c").map(|mut s| s.read_to_end(&mut Vec::new()));
            assert!(!matches!(read, Ok(Ok(_))), "{id:#x}");
        }
    }

    #[test]
    fn what_we_compress_opens_again() {
        for plain in [&b""[..], b"a", &[7; 300_000]] {
            let (stored, mut out) = (to_zstd_fastest(plain), Vec::new());
            let mut stream = decompress(ZSTD_FASTEST, &stored[..], "c").unwrap();
            stream.read_to_end(&mut out).unwrap();
            assert_eq!(out, plain);
        }
    }

    #[test]
    fn what_is_not_supported_says_so() {
        let text = |id, body: &[u8]| match decompress(id, body, "content k1") {
            Ok(_) => panic!("{id:#x} opened"),
            Err(error) => error.to_string(),
        };
        let s2 = test_file("content-s2-parallel-8");
        assert_eq!(
            text(0x1004, &[0, 0, 0x10, 4]),
            "content k1: no Kopia that is known compresses with 0x1004"
        );
        assert_eq!(
            text(0x1000, &s2),
            "content k1: the compression header is 0x1203, the index says 0x1000"
        );
        assert!(text(0x1000, &[0, 0]).starts_with("content k1: the compression header"));
        assert!(decompress_object(&[0, 0, 0, 0][..], "c").is_err());
    }

    #[test]
    fn zero_means_as_it_is() {
        let mut out = Vec::new();
        let mut stream = decompress(NONE, &b"plain"[..], "c").unwrap();
        stream.read_to_end(&mut out).unwrap();
        assert_eq!(out, b"plain");
    }

    #[test]
    fn gzip_members_follow_each_other() {
        let mut body = vec![0, 0, 0x10, 0];
        for part in ["one ", "two"] {
            let mut gzip = flate2::write::GzEncoder::new(&mut body, flate2::Compression::default());
            gzip.write_all(part.as_bytes()).unwrap();
            gzip.finish().unwrap();
        }
        let mut out = String::new();
        let mut stream = decompress(0x1000, &body[..], "c").unwrap();
        stream.read_to_string(&mut out).unwrap();
        assert_eq!(out, "one two");
    }

    #[test]
    fn a_zstd_frame_is_the_whole_stream_and_its_window_is_limited() {
        let mut body = test_file("content-zstd");
        body.push(0);
        let mut stream = decompress(0x1100, &body[..], "c").unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).is_err());
        // Magic number, descriptor without content size, window descriptor for 64 MiB.
        let wide = [
            0,
            0,
            0x11,
            0,
            0x28,
            0xB5,
            0x2F,
            0xFD,
            0x00,
            16 << 3,
            1,
            0,
            0,
        ];
        let error = decompress(0x1100, &wide[..], "c").err().unwrap();
        assert!(error.to_string().contains("window"), "{error}");
    }
}
