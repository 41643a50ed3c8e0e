//! The bytes of a put: of known length, and able to start again.
//!
//! A retry or a digest needs a second pass, and an object store wants the length before the first
//! byte, so a plain reader will not do. Memory: [`PIECE_BYTES`] for a pass.

use std::io;

use md5::{Digest, Md5};

/// Size of the piece in which a source is read: large enough that calls cost little.
pub const PIECE_BYTES: usize = 64 << 10;

/// Where the bytes of a blob come from.
pub trait BlobSource: Send {
    /// Returns the number of bytes of the whole blob.
    fn len(&self) -> u64;

    /// Tells whether the blob has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes back to the first byte.
    fn rewind(&mut self) -> io::Result<()>;

    /// Reads the next bytes and returns how many; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// A source over bytes in memory: a `Vec<u8>`, a slice, an array.
#[derive(Debug)]
pub struct BytesSource<B> {
    bytes: B,
    position: usize,
}

impl<B: AsRef<[u8]>> BytesSource<B> {
    /// Makes a source of `bytes`.
    pub fn new(bytes: B) -> Self {
        Self { bytes, position: 0 }
    }
}

impl<B: AsRef<[u8]> + Send> BlobSource for BytesSource<B> {
    fn len(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.position = 0;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.as_ref().get(self.position..).unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

/// Reads a source from its first byte to its end, piece by piece; returns the number of bytes.
///
/// A source that gives more or fewer bytes than its length is an error, so that no blob is written
/// short.
pub fn copy_source(
    source: &mut dyn BlobSource,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    source.rewind()?;
    let length = source.len();
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(length.max(1)).unwrap_or(usize::MAX))];
    let mut copied = 0_u64;
    loop {
        let count = match source.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            break;
        }
        copied = copied.saturating_add(count as u64);
        if copied > length {
            break;
        }
        take(&piece[..count])?;
    }
    if copied == length {
        return Ok(length);
    }
    let kind = if copied < length {
        io::ErrorKind::UnexpectedEof
    } else {
        io::ErrorKind::InvalidData
    };
    Err(io::Error::new(
        kind,
        format!("the source promised {length} bytes and gave {copied}"),
    ))
}

/// Returns the MD5 of a source, in one pass, and rewinds it: for stores that want a digest with a
/// put.
pub fn md5_of(source: &mut dyn BlobSource) -> io::Result<[u8; 16]> {
    let mut hasher = Md5::new();
    copy_source(source, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    source.rewind()?;
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source whose length is a lie.
    struct Liar(BytesSource<Vec<u8>>, u64);

    impl BlobSource for Liar {
        fn len(&self) -> u64 {
            self.1
        }
        fn rewind(&mut self) -> io::Result<()> {
            self.0.rewind()
        }
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    #[test]
    fn md5_is_right_and_leaves_the_source_at_its_start() {
        // Goal: the digest of RFC 1321's examples, over more than one piece too, and a usable
        // source after it.
        let mut source = BytesSource::new(b"abc");
        let digest = md5_of(&mut source).unwrap();
        assert_eq!(hex::encode(digest), "900150983cd24fb0d6963f7d28e17f72");
        let mut bytes = [0; 8];
        assert_eq!(source.read(&mut bytes).unwrap(), 3);

        let long = vec![7_u8; 2 * PIECE_BYTES + 5];
        let whole: [u8; 16] = Md5::digest(&long).into();
        assert_eq!(md5_of(&mut BytesSource::new(&long)).unwrap(), whole);
        let nothing = md5_of(&mut BytesSource::new(Vec::new())).unwrap();
        assert_eq!(hex::encode(nothing), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn a_source_of_the_wrong_length_is_an_error() {
        for (promised, kind) in [
            (4, io::ErrorKind::UnexpectedEof),
            (2, io::ErrorKind::InvalidData),
        ] {
            let mut source = Liar(BytesSource::new(b"abc".to_vec()), promised);
            let error = copy_source(&mut source, |_| Ok(())).unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }
}
