//! `careen plugin build`: runs a language's ordinary tools, compiles what came out into the cache,
//! and says what it is.
//!
//! A tool that is missing ends it with the command that installs it; nothing is downloaded here
//! (cargo fetches the one dependency of a Rust plugin as it always does). Whatever a tool prints
//! goes to standard error. Memory: the tools are children; the component is read once, in pieces.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::project::Project;
use super::templates::shown_by;
use super::tools;
use crate::cli::Console;
use crate::cli::arguments::{BuildArguments, CompileLimit, Language};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;
use crate::cli::wording;
use crate::clock::Stopwatch;
use crate::plugin::precompile::precompile;

/// How a component begins; a core module has another version.
const COMPONENT_MAGIC: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// One piece of the component.
const PIECE_BYTES: usize = 64 << 10;

/// What was built.
#[derive(Serialize)]
struct Built {
    component: PathBuf,
    bytes: u64,
    /// What follows `--plugin`, with the digest.
    pin: String,
    seconds: f64,
    /// Bytes of machine code; it lies in this user's plugin cache now.
    code_bytes: u64,
    /// The command that shows what it decides.
    shows: String,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (component, bytes) = (self.component.display(), self.bytes);
        writeln!(
            f,
            "built {component}: {bytes} bytes in {:.1} s",
            self.seconds
        )?;
        writeln!(f, "pin   {}", self.pin)?;
        writeln!(
            f,
            "code  {}, compiled ahead of its first use",
            wording::bytes(self.code_bytes)
        )?;
        write!(f, "use   {}", self.shows)
    }
}

/// Runs the command.
pub(super) fn run(console: &Console, arguments: &BuildArguments) -> Result<Exit, CliError> {
    let directory = &arguments.directory;
    console.started("plugin build", &directory.display().to_string());
    let project = Project::read(directory)?;
    let (strategy, language) = project.known().map_err(CliError::Usage)?;
    let started = Stopwatch::start();
    let component = directory.join(format!("{}.wasm", project.name));
    match language {
        Language::Rust => tools::cargo(directory, &project, &component)?,
        Language::Python => tools::componentize_py(directory, &project, &component)?,
        Language::Javascript => tools::componentize_qjs(directory, &project, &component)?,
    }
    let (bytes, digest) = digest(&component)?;
    // More memory than a run may have is needed for Python and JavaScript.
    let options = super::options(console, super::file(&component), &CompileLimit::default())?;
    let code_bytes = precompile(&options)?.code_bytes;
    let built = Built {
        pin: format!(
            "{}={}@blake3:{digest}",
            strategy.name(),
            component.display()
        ),
        bytes,
        seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        code_bytes,
        shows: shown_by(
            strategy,
            &directory.join("strategies.toml").display().to_string(),
        ),
        component,
    };
    console.output.both(Kind::Report, "plugin", &built);
    Ok(Exit::Done)
}

/// Returns size and BLAKE3 digest of a component; refuses what is none.
fn digest(path: &Path) -> Result<(u64, String), CliError> {
    let refuse = |reason: String| CliError::PluginProject {
        path: path.to_owned(),
        reason,
    };
    let cannot = |error: std::io::Error| refuse(error.to_string());
    let mut file = fs::File::open(path).map_err(cannot)?;
    let mut magic = [0; COMPONENT_MAGIC.len()];
    file.read_exact(&mut magic).map_err(cannot)?;
    if magic != COMPONENT_MAGIC {
        return Err(refuse("is not a WebAssembly component".into()));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&magic);
    let mut bytes = magic.len() as u64;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(cannot)? {
            0 => return Ok((bytes, hasher.finalize().to_string())),
            count => {
                hasher.update(&piece[..count]);
                bytes += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_component_has_a_pin() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wasm");
        let digest_of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            digest(&path)
        };
        let component = [&COMPONENT_MAGIC[..], b"more"].concat();
        let hash = blake3::hash(&component).to_string();
        assert_eq!(digest_of(&component).unwrap(), (12, hash));
        for bytes in [&b"\0asm\x01\0\0\0"[..], b"", b"\0asm"] {
            assert_eq!(digest_of(bytes).unwrap_err().code(), "plugin-project");
        }
    }
}
