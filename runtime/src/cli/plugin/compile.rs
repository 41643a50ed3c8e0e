//! `careen plugin compile`: compiles plugins into the cache that runs take code from.
//!
//! A component that imports what no plugin gets is refused here too, after it was compiled. Memory:
//! see `plugin/compile.rs`; one component after the other.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Console;
use crate::cli::arguments::CompileArguments;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;
use crate::cli::wording::{bytes, duration};
use crate::plugin::parse_pinned_file;
use crate::plugin::precompile::{Precompiled, precompile};

/// What became of one component.
#[derive(Serialize)]
struct Row {
    file: String,
    blake3: String,
    /// File of the code.
    code: String,
    code_bytes: u64,
    /// None when the code was there.
    compile_seconds: Option<f64>,
    start_milliseconds: f64,
}

/// Compiles components.
pub(super) fn run(console: &Console, arguments: &CompileArguments) -> Result<Exit, CliError> {
    let files: Vec<String> = arguments
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    console.started("plugin compile", &files.join(" "));
    for (path, file) in arguments.files.iter().zip(files) {
        let source = parse_pinned_file(path.as_os_str())?;
        let options = super::options(console, source, &arguments.compile)?;
        let Precompiled {
            blake3,
            directory,
            file: code,
            code_bytes,
            compile_time,
            start_time,
        } = precompile(&options)?;
        let row = Row {
            file,
            blake3,
            code: directory.join(code).display().to_string(),
            code_bytes,
            compile_seconds: compile_time.map(|time| time.as_secs_f64()),
            start_milliseconds: start_time.as_secs_f64() * 1e3,
        };
        console.output.both(Kind::Row, "row", &row);
    }
    Ok(Exit::Done)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of code", self.file, bytes(self.code_bytes))?;
        match self.compile_seconds {
            Some(seconds) => {
                let time = duration(Duration::from_secs_f64(seconds));
                write!(f, ", compiled in {time}")?;
            }
            None => f.write_str(", compiled before")?,
        }
        let start = self.start_milliseconds;
        write!(
            f,
            "; the next start takes {start:.1} ms for it\n  {}",
            self.code
        )
    }
}
