//! An independent reader of Kopia repositories, in Python: the judge where there is no real Kopia.
//!
//! `checker/kopia-check.py` was written from the format's description and shares no line with
//! Careen. It is slow and holds everything in memory: for small repositories. It needs the modules
//! of `checker/requirements.txt`; `CAREEN_CHECKER_PYTHON` names an interpreter that has them, else
//! `python3` is tried.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::contents::ContentRow;

const IMPORTS: &str = "import cryptography, zstandard, blake3, lz4.frame, numpy";

/// An interpreter that can run the reader.
#[derive(Clone, Debug)]
pub struct Checker {
    python: OsString,
}

/// What `verify` found: every winning entry was read, decrypted, decompressed and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Contents decoded and hashed, tombstones included.
    pub contents: u64,
    /// Contents that the snapshots use.
    pub in_use: u64,
    /// Contents that are used but in no index.
    pub missing: u64,
    /// Contents that are used but only as tombstones.
    pub in_use_but_deleted: u64,
}

impl Checker {
    /// Returns the reader of this machine; says once when there is none.
    ///
    /// An interpreter named by `CAREEN_CHECKER_PYTHON` that lacks the modules panics: a judge that
    /// was asked for must not be lost in silence.
    pub fn find() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Checker>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let named = env::var_os("CAREEN_CHECKER_PYTHON").filter(|name| !name.is_empty());
            let python = named.clone().unwrap_or_else(|| "python3".into());
            let works = imports_work(&python);
            let named = named.is_some();
            assert!(
                works || !named,
                "CAREEN_CHECKER_PYTHON lacks modules of requirements.txt"
            );
            if !works {
                crate::say_once(
                    "no independent reader here: python3 lacks modules of \
                     tests/checker/requirements.txt (or set CAREEN_CHECKER_PYTHON)",
                );
            }
            works.then_some(Self { python })
        });
        found.as_ref()
    }

    /// Runs a command of the reader on the repository in `data`; the error carries all that it
    /// said.
    pub fn run(&self, data: &Path, password: &str, arguments: &[&str]) -> Result<String, String> {
        let script = crate::workspace_root().join("tests/checker/kopia-check.py");
        let mut command = Command::new(&self.python);
        command
            .arg(script)
            .arg(data)
            .args(arguments)
            .env("KOPIA_PASSWORD", password)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&ended.stdout), text(&ended.stderr));
        if ended.status.success() {
            Ok(stdout)
        } else {
            Err(format!(
                "kopia-check {}: {stdout}{stderr}",
                arguments.join(" ")
            ))
        }
    }

    /// Decodes and hashes every content and walks all snapshots.
    pub fn verify(&self, data: &Path, password: &str) -> Result<Verified, String> {
        let said = self.run(data, password, &["verify"])?;
        verified(&said).ok_or_else(|| format!("kopia-check verify: not understood: {said}"))
    }

    /// Lists all winning entries above the watermark, tombstones too, sorted by ID.
    pub fn contents(&self, data: &Path, password: &str) -> Result<Vec<ContentRow>, String> {
        let said = self.run(data, password, &["contents", "--deleted"])?;
        let rows = said.lines().map(row).collect::<Option<Vec<_>>>();
        let mut rows =
            rows.ok_or_else(|| format!("kopia-check contents: not understood: {said}"))?;
        rows.sort();
        Ok(rows)
    }

    /// Returns the parameters and the schedule of maintenance.
    pub fn maintenance(&self, data: &Path, password: &str) -> Result<Value, String> {
        let said = self.run(data, password, &["maintenance"])?;
        serde_json::from_str(&said).map_err(|error| format!("kopia-check maintenance: {error}"))
    }
}

fn imports_work(python: &OsStr) -> bool {
    let asked = Command::new(python).args(["-c", IMPORTS]).output();
    asked.is_ok_and(|ended| ended.status.success())
}

/// Reads `ok N contents decoded and hashed; N in use; N missing; N in use but deleted`.
fn verified(said: &str) -> Option<Verified> {
    let line = said.lines().find_map(|line| line.strip_prefix("ok "))?;
    let counts = line.split("; ").map(|part| {
        let number = part.split_whitespace().next()?;
        number.parse::<u64>().ok()
    });
    let [contents, in_use, missing, in_use_but_deleted] = counts.collect::<Option<Vec<_>>>()?[..]
    else {
        return None;
    };
    Some(Verified {
        contents,
        in_use,
        missing,
        in_use_but_deleted,
    })
}

/// Reads `id pack offset packedLength length time deleted format compression key`.
fn row(line: &str) -> Option<ContentRow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        id,
        pack,
        offset,
        packed_length,
        length,
        time,
        deleted,
        _,
        compression,
        _,
    ] = words[..]
    else {
        return None;
    };
    Some(ContentRow {
        id: id.to_owned(),
        deleted: matches!(deleted, "True" | "1"),
        time_seconds: time.parse().ok()?,
        length: length.parse().ok()?,
        packed_length: packed_length.parse().ok()?,
        pack: pack.to_owned(),
        offset: offset.parse().ok()?,
        compression: compression.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_read() {
        let said =
            "ok 54 contents decoded and hashed; 34 in use; 1 missing; 2 in use but deleted\n";
        let expected = Verified {
            contents: 54,
            in_use: 34,
            missing: 1,
            in_use_but_deleted: 2,
        };
        assert_eq!(verified(said), Some(expected));
        assert_eq!(verified("ok 54 contents"), None);
    }

    #[test]
    fn rows_are_read_or_refused() {
        let read = row("k01 q02-s1 32 300 567 1786316400 True 2 4353 0").unwrap();
        assert!(read.deleted && read.offset == 32 && read.compression == 4353);
        assert_eq!((read.length, read.packed_length), (567, 300));
        assert_eq!(row("k01 q02-s1 32"), None);
    }
}
