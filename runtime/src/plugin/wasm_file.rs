//! A plugin's bytes: the one built in, or a file with an optional pin.
//!
//! The file is read twice at most, in small pieces: once for its digest, and once more for the
//! compiler when nothing is in the cache. The digest is taken again on the second pass, so what is
//! compiled is what was pinned. Memory: one buffer of 64 KiB, whatever the size of the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::Failure;
use super::limits::WASM_BYTES_MAX;

/// One piece of the file.
const BUFFER_BYTES: usize = 64 << 10;

/// The default strategy, as `.ci/build-plugins.sh` builds it from `plugins/splitting-short-packs`.
const SPLITTING_SHORT_PACKS: &[u8] =
    include_bytes!("../../../plugins/built/splitting-short-packs.wasm");

/// The default retention strategy, built from `plugins/retention-kopia`.
const RETENTION_KOPIA: &[u8] = include_bytes!("../../../plugins/built/retention-kopia.wasm");

/// The default scheduling strategy, built from `plugins/scheduling-kopia`.
const SCHEDULING_KOPIA: &[u8] = include_bytes!("../../../plugins/built/scheduling-kopia.wasm");

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// The default splitting strategy, which is part of the program.
    Builtin,
    /// The default retention strategy, which is part of the program.
    BuiltinRetention,
    /// The default scheduling strategy, which is part of the program.
    BuiltinScheduling,
    /// A component on disk.
    File {
        /// The file.
        path: PathBuf,
        /// Its digest, when the user pins it.
        blake3: Option<[u8; 32]>,
    },
}

impl PluginSource {
    /// Returns the plugin's name: the file's, without its extension.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Builtin => "splitting-short-packs".into(),
            Self::BuiltinRetention => "retention-kopia".into(),
            Self::BuiltinScheduling => "scheduling-kopia".into(),
            Self::File { path, .. } => path
                .file_stem()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Returns the BLAKE3 digest of the component, after comparing it with the pin.
    pub(super) fn digest(&self) -> Result<[u8; 32], Failure> {
        let found = *self.copy_to(&mut io::sink())?.as_bytes();
        match self {
            Self::File {
                blake3: Some(wanted),
                ..
            } if *wanted != found => Err(Failure::DigestMismatch {
                wanted: hex::encode(wanted),
                found: hex::encode(found),
            }),
            _ => Ok(found),
        }
    }

    /// Copies the component into `writer` and returns the digest of what was copied.
    ///
    /// Stops reading when writing fails, without an error: the reader at the other end has its own.
    pub(super) fn copy_to(&self, writer: &mut dyn io::Write) -> Result<blake3::Hash, Failure> {
        let mut reader: Box<dyn Read> = match self {
            Self::Builtin => Box::new(SPLITTING_SHORT_PACKS),
            Self::BuiltinRetention => Box::new(RETENTION_KOPIA),
            Self::BuiltinScheduling => Box::new(SCHEDULING_KOPIA),
            Self::File { path, .. } => Box::new(open(path)?),
        };
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = WASM_BYTES_MAX;
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(Failure::io("read the file"))?;
            if count == 0 {
                break;
            }
            left = left.checked_sub(count as u64).ok_or(Failure::TooLarge {
                bytes_max: WASM_BYTES_MAX,
            })?;
            let piece = &buffer[..count];
            hasher.update(piece);
            if writer.write_all(piece).is_err() {
                break;
            }
        }
        Ok(hasher.finalize())
    }
}

/// Opens a regular file. Opening a pipe would wait for ever.
fn open(path: &Path) -> Result<File, Failure> {
    let metadata = std::fs::metadata(path).map_err(Failure::io("open the file"))?;
    if !metadata.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(Failure::io("open the file")(error));
    }
    File::open(path).map_err(Failure::io("open the file"))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// The text file beside the component is what people copy pins from. `.ci/build-plugins.sh
    /// --update` runs this test to write its first line.
    #[test]
    fn the_builtins_have_the_digests_written_beside_them() {
        for (source, wasm) in [
            (PluginSource::Builtin, SPLITTING_SHORT_PACKS),
            (PluginSource::BuiltinRetention, RETENTION_KOPIA),
            (PluginSource::BuiltinScheduling, SCHEDULING_KOPIA),
        ] {
            let path = format!(
                "{}/../plugins/built/{}.digests",
                env!("CARGO_MANIFEST_DIR"),
                source.name()
            );
            let mut text = std::fs::read_to_string(&path).unwrap();
            let blake3 = format!("blake3 {}", blake3::hash(wasm));
            if std::env::var_os("CAREEN_WRITE_DIGESTS").is_some() {
                text = format!("{blake3}\n{text}");
                std::fs::write(&path, &text).unwrap();
            }
            let sha256 = format!("sha256 {}", hex::encode(Sha256::digest(wasm)));
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines[..2], [blake3, sha256]);
            let digest = hex::encode(source.digest().unwrap());
            assert_eq!(digest, lines[0]["blake3 ".len()..]);
        }
    }

    #[test]
    fn a_pin_must_match() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.wasm");
        std::fs::write(&path, b"some bytes").unwrap();
        let digest = *blake3::hash(b"some bytes").as_bytes();
        let source = |blake3| PluginSource::File {
            path: path.clone(),
            blake3,
        };
        assert_eq!(source(None).name(), "mine");
        assert_eq!(source(None).digest().unwrap(), digest);
        assert_eq!(source(Some(digest)).digest().unwrap(), digest);
        let failure = source(Some([7; 32])).digest().unwrap_err();
        assert_eq!(failure.code(), "plugin-digest-mismatch");
        assert!(failure.to_string().contains(&"07".repeat(32)), "{failure}");
    }

    #[test]
    fn missing_irregular_and_huge_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let digest = |path: &Path| {
            let source = PluginSource::File {
                path: path.into(),
                blake3: None,
            };
            source.digest().unwrap_err().code()
        };
        assert_eq!(digest(&directory.path().join("none")), "plugin-io");
        assert_eq!(digest(directory.path()), "plugin-io");
        assert_eq!(digest(Path::new("/dev/zero")), "plugin-io");
        let huge = directory.path().join("huge");
        File::create(&huge)
            .unwrap()
            .set_len(WASM_BYTES_MAX + 1)
            .unwrap();
        assert_eq!(digest(&huge), "plugin-too-large");
    }
}
