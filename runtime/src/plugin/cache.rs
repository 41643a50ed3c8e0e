//! Compiled plugins on disk, so that a start costs milliseconds and no compiler.
//!
//! Machine code is loaded from here, so whoever can write here can run code as this user. The
//! directory is made with 0700 and refused when somebody else owns it or may write it; the same
//! holds for each file. An entry is two files: `KEY.cwasm`, and `KEY.blake3` with a digest over key
//! and code, checked before every load. The digest finds damage: single flipped bits in code make
//! wasmtime crash the host. It is not a signature, and a secret key beside it would not make it
//! one: who can write the entry as this user can read that key as well. Against all others the
//! owner and the rights protect. The key is part of the digest, so an entry copied to another's
//! name is refused.
//!
//! Names: `KEY` is a digest of the component, of everything in the engine that decides over
//! compatibility, and of this program's version. Files are written under another name and renamed;
//! none is ever changed. Beside the directory of the user there may be one that was filled ahead of
//! time, as in a container's image: root may own it, and it is only read. Without a usable
//! directory each start compiles into a nameless temporary file. Memory: 64 KiB while hashing.
//! Disk: [`ENTRIES_MAX`] entries, each at most the compiler's code limit.

use std::fs::{DirBuilder, File};
use std::hash::Hasher;
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, PermissionsExt};
use rustix::fs::MemfdFlags;

use super::engine;
use super::error::Failure;
use crate::clock::{Clock, SystemClock};

/// Compiled plugins that are kept: a few strategies in a few versions. The oldest goes first.
const ENTRIES_MAX: usize = 16;

/// Age after which an unfinished file belongs to nobody: far above any deadline of the compiler.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 3600);

/// Names looked at when tidying; a directory with more is not ours alone, and the rest waits.
const TIDY_NAMES_MAX: usize = 1_000;

/// Names a directory with code that was compiled ahead of time, for everybody.
const AHEAD_VARIABLE: &str = "CAREEN_COMPILED_PLUGINS";

/// The cache directory.
pub(super) struct Cache {
    directory: Dir,
}

/// Names an entry.
#[derive(Clone, Copy)]
pub(super) struct Key([u8; 32]);

/// Returns `careen` below `$XDG_CACHE_HOME`, else below `~/.cache`; `None` without a home.
pub fn default_cache_directory() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("careen"))
}

impl Key {
    /// Returns the key of the component with `digest`, compiled for `engine` by this version.
    pub(super) fn new(engine: &wasmtime::Engine, digest: &[u8; 32]) -> Self {
        let mut hasher = KeyHasher(blake3::Hasher::new_derive_key(
            "careen compiled plugin, key",
        ));
        hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.write(digest);
        engine::hash_compatibility(engine, &mut hasher);
        Self(*hasher.0.finalize().as_bytes())
    }

    /// Returns the name of the file with the code.
    pub(super) fn code_name(self) -> String {
        self.file_name("cwasm")
    }

    fn file_name(self, extension: &str) -> String {
        format!("{}.{extension}", hex::encode(self.0))
    }

    /// Returns the digest over this key and the whole of `code`.
    fn seal(self, code: &mut File) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_derive_key("careen compiled plugin, code");
        hasher.update(&self.0);
        code.rewind()?;
        hasher.update_reader(&mut *code)?;
        code.rewind()?;
        Ok(hasher.finalize())
    }
}

impl Cache {
    /// Opens the directory, makes it when it is missing, and refuses it when others may write it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let directory = Dir::open_ambient_dir(path, ambient_authority())?;
        only_ours(&directory.dir_metadata()?)?;
        Ok(Self { directory })
    }

    /// Opens the directory that was filled ahead of time, if there is one that can be trusted.
    pub(super) fn ahead_of_time() -> Option<Self> {
        let path = std::env::var_os(AHEAD_VARIABLE).filter(|path| !path.is_empty())?;
        let open = || {
            let directory = Dir::open_ambient_dir(Path::new(&path), ambient_authority())?;
            only_ours(&directory.dir_metadata()?)?;
            io::Result::Ok(Self { directory })
        };
        open()
            .inspect_err(|error| {
                let path = Path::new(&path).display();
                tracing::warn!(%error, %path, "the compiled plugins there are not used");
            })
            .ok()
    }

    /// Returns the code of `key`, if it is there and undamaged.
    pub(super) fn find(&self, key: Key) -> Option<File> {
        match self.read(key) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "cached code is not used, compiling the plugin again");
                None
            }
        }
    }

    fn read(&self, key: Key) -> io::Result<File> {
        let open = |extension| {
            let file = self.directory.open(key.file_name(extension))?;
            only_ours(&file.metadata()?)?;
            io::Result::Ok(file.into_std())
        };
        let mut code = open("cwasm")?;
        let mut seal = [0; blake3::OUT_LEN];
        open("blake3")?.read_exact(&mut seal)?;
        // `blake3::Hash` compares in constant time; it does not matter here.
        if key.seal(&mut code)? != seal {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the code does not have the digest that it was written with",
            ));
        }
        Ok(code)
    }

    /// Lets `compile` write the code of `key` and keeps it. A directory that cannot be written
    /// keeps nothing; the code is good nevertheless.
    pub(super) fn insert(
        &self,
        key: Key,
        compile: impl FnOnce(&File) -> Result<(), Failure>,
    ) -> Result<File, Failure> {
        let not_kept = |error: io::Error| tracing::warn!(%error, "compiled plugin is not kept");
        let (mut code, name) = match self.unfinished() {
            Ok(unfinished) => unfinished,
            Err(error) => {
                not_kept(error);
                return compile_for_once(compile);
            }
        };
        let compiled = compile(&code);
        let kept = compiled.is_ok() && self.keep(key, &mut code, &name).map_err(not_kept).is_ok();
        if kept {
            self.tidy();
        } else {
            // If this fails as well, a later run tidies.
            let _ = self.directory.remove_file(&name);
        }
        compiled.map(|()| code)
    }

    fn keep(&self, key: Key, code: &mut File, unfinished: &str) -> io::Result<()> {
        let seal = key.seal(code)?;
        let (mut file, unfinished_seal) = self.unfinished()?;
        io::Write::write_all(&mut file, seal.as_bytes())?;
        // Between the two renames the old digest does not fit the new code: both are the same
        // unless the old code is damaged, and then it is compiled again.
        let into = |from: &str, extension| {
            self.directory
                .rename(from, &self.directory, key.file_name(extension))
        };
        into(unfinished, "cwasm")?;
        into(&unfinished_seal, "blake3")
    }

    /// Returns a new file for this user alone, and its name.
    fn unfinished(&self) -> io::Result<(File, String)> {
        let name = random_name()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = self.directory.open_with(&name, &options)?;
        Ok((file.into_std(), name))
    }

    /// Removes the oldest entries and forgotten unfinished files. Failing is harmless: the next run
    /// tries.
    fn tidy(&self) {
        let Ok(names) = self.directory.entries() else {
            return;
        };
        let mut entries = Vec::new();
        for entry in names.flatten().take(TIDY_NAMES_MAX) {
            let (Some(name), Ok(metadata)) = (
                entry.file_name().to_str().map(String::from),
                entry.metadata(),
            ) else {
                continue;
            };
            let modified = metadata
                .modified()
                .map_or(SystemTime::UNIX_EPOCH, |time| time.into_std());
            if let Some(stem) = name.strip_suffix(".cwasm") {
                entries.push((modified, stem.to_owned()));
            } else if name.ends_with(UNFINISHED) && is_old(modified) {
                let _ = self.directory.remove_file(&name);
            }
        }
        entries.sort_unstable();
        let surplus = entries.len().saturating_sub(ENTRIES_MAX);
        for (_, stem) in entries.drain(..surplus) {
            let _ = self.directory.remove_file(format!("{stem}.cwasm"));
            let _ = self.directory.remove_file(format!("{stem}.blake3"));
        }
    }
}

/// Lets `compile` write code that is for this run only.
pub(super) fn compile_for_once(
    compile: impl FnOnce(&File) -> Result<(), Failure>,
) -> Result<File, Failure> {
    let code = nameless_file()?;
    compile(&code)?;
    Ok(code)
}

/// Returns a file without a name.
///
/// In the directory for temporary files; where that cannot be written, in memory, where it costs
/// the size of the code.
fn nameless_file() -> Result<File, Failure> {
    let on_disk = || {
        let directory = Dir::open_ambient_dir(std::env::temp_dir(), ambient_authority())?;
        let name = format!("careen-{}", random_name()?);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = directory.open_with(&name, &options)?;
        directory.remove_file(&name)?;
        io::Result::Ok(file.into_std())
    };
    on_disk()
        .or_else(|_| Ok(rustix::fs::memfd_create("careen-plugin", MemfdFlags::CLOEXEC)?.into()))
        .map_err(Failure::io("create a temporary file"))
}

/// End of an unfinished file's name.
const UNFINISHED: &str = ".unfinished";

fn random_name() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{}{UNFINISHED}", hex::encode(random)))
}

fn is_old(modified: SystemTime) -> bool {
    SystemClock.now().since(modified.into()) > UNFINISHED_AGE
}

/// Refuses what somebody else owns or may write. Root may own it: root could do anything to this
/// process anyway, and owns the files of an image that runs as any user.
fn only_ours(metadata: &Metadata) -> io::Result<()> {
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    let ours = [rustix::process::geteuid().as_raw(), 0];
    if !ours.contains(&metadata.uid()) {
        return refuse("somebody else owns it");
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return refuse("others may write it");
    }
    Ok(())
}

/// Feeds what is hashed into BLAKE3: the standard hashers give 64 bits, too few for a name.
struct KeyHasher(blake3::Hasher);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("32 bytes"))
    }
}
