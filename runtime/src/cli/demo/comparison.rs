//! What the demo's work costs Kopia: measured where there is one, else quoted with date and
//! machine.
//!
//! A measurement runs `kopia maintenance run` in quick mode on a copy made of hard links, with an
//! empty cache and its own config, so that nothing of the user's Kopia is touched. Only sizes that
//! were measured are quoted: nothing is interpolated. Memory: ours none; Kopia's is estimated
//! first, and a machine that has less is spared.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::child::{self, Outcome};
use super::report::Cost;
use crate::cli::arguments::{BACKUPS, BackupShape};
use crate::cli::error::CliError;
use crate::cli::wording::{bytes, count};

/// Kopia's memory for an index entry, in bytes, and for an index blob: upper ends of what was
/// measured.
const ENTRY_BYTES: u64 = 400;
const INDEX_BLOB_BYTES: u64 = 16 * 1024;

/// The work that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Size {
    /// Entries in all index blobs.
    pub(in crate::cli) entries: u64,
    /// Index blobs.
    pub(in crate::cli) index_blobs: u64,
}

/// What Kopia took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct KopiaCost {
    /// Kopia's version.
    pub(in crate::cli) version: String,
    /// Wall time in seconds.
    pub(in crate::cli) seconds: f64,
    /// Most resident memory, in bytes.
    pub(in crate::cli) peak_memory_bytes: u64,
    /// Where the numbers come from.
    pub(in crate::cli) source: String,
}

impl KopiaCost {
    /// Returns it without its source.
    pub(in crate::cli) fn cost(&self) -> Cost {
        Cost {
            seconds: self.seconds,
            peak_memory_bytes: self.peak_memory_bytes,
        }
    }
}

struct Quote {
    size: Size,
    seconds: f64,
    peak_memory_bytes: u64,
    source: &'static str,
}

const EPYC: &str = "quoted: measured 2026-11-23, 2 vCPU AMD EPYC (Zen 4), 23 GiB, ext4, no limit";
const GIB: u64 = 1 << 30;

/// Measured sizes; Kopia 0.23.1, one run each, source cached, its own cache empty.
const QUOTES: [Quote; 3] = [
    Quote {
        size: Size {
            entries: 5_000_000,
            index_blobs: 1_000,
        },
        seconds: 36.0,
        peak_memory_bytes: 16 * GIB / 10,
        source: EPYC,
    },
    Quote {
        size: Size {
            entries: 20_000_000,
            index_blobs: 2_438,
        },
        seconds: 175.0,
        peak_memory_bytes: 6 * GIB,
        source: EPYC,
    },
    Quote {
        size: Size {
            entries: 646_210,
            index_blobs: 64_621,
        },
        seconds: 43.0,
        peak_memory_bytes: 7 * GIB / 10,
        source: EPYC,
    },
];

/// A full cycle on [`BACKUPS`], the fastest of six runs, which had the smallest peak too.
const FULL_SECONDS: f64 = 10.8;
const FULL_PEAK_BYTES: u64 = 147 << 20;
const FULL_XEON: &str = "quoted: measured 2026-11-26, 2 vCPU Intel Xeon, 23 GiB, ext4, no limit";

/// Kopia's memory for a content in a full cycle, in bytes: the upper end of what was measured.
const FULL_CONTENT_BYTES: u64 = 1_000;

/// Returns what was measured for exactly `size`.
pub(in crate::cli) fn quote(size: Size) -> Option<KopiaCost> {
    let quote = QUOTES.iter().find(|quote| quote.size == size)?;
    Some(KopiaCost {
        version: "0.23.1".into(),
        seconds: quote.seconds,
        peak_memory_bytes: quote.peak_memory_bytes,
        source: quote.source.into(),
    })
}

/// Returns what a full cycle took on the backups that are made where nothing is said of them; no
/// other size was measured.
pub(in crate::cli) fn quote_full(shape: &BackupShape) -> Option<KopiaCost> {
    (*shape == BACKUPS).then(|| KopiaCost {
        version: "0.23.1".into(),
        seconds: FULL_SECONDS,
        peak_memory_bytes: FULL_PEAK_BYTES,
        source: FULL_XEON.into(),
    })
}

/// Returns a sentence on the measured size that is nearest in index blobs, for a size that was
/// not measured.
pub(in crate::cli) fn nearest(size: Size) -> Option<String> {
    let distance = |quote: &&Quote| quote.size.index_blobs.abs_diff(size.index_blobs);
    let quote = QUOTES.iter().min_by_key(distance)?;
    let (entries, blobs) = (quote.size.entries, quote.size.index_blobs);
    Some(format!(
        "Kopia 0.23.1 took {:.0} s and {} for {} entries in {} index blobs ({}). See for yourself: \
         careen demo --entries {entries} --index-blobs {blobs}",
        quote.seconds,
        bytes(quote.peak_memory_bytes),
        count(entries),
        count(blobs),
        quote.source
    ))
}

/// Finds a Kopia: the first of `CAREEN_KOPIA` (split at `:` or `,`) that is there, else the one on
/// `PATH`.
pub(in crate::cli) fn find(listed: Option<&OsStr>, path: Option<&OsStr>) -> Option<PathBuf> {
    if let Some(listed) = listed.and_then(OsStr::to_str) {
        let names = listed.split([':', ',']).filter(|name| !name.is_empty());
        return names.map(PathBuf::from).find(|file| file.is_file());
    }
    std::env::split_paths(path?)
        .map(|folder| folder.join("kopia"))
        .find(|file| file.is_file())
}

/// Returns how much memory a full cycle of Kopia may need, in bytes.
pub(in crate::cli) fn estimated_bytes_full(contents: u64) -> u64 {
    (1 << 30) + contents * FULL_CONTENT_BYTES
}

/// Returns how much memory Kopia may need for `size`, in bytes.
pub(in crate::cli) fn estimated_bytes(size: Size) -> u64 {
    (256 << 20) + size.entries * ENTRY_BYTES + size.index_blobs * INDEX_BLOB_BYTES
}

/// Returns the memory that the machine could give, in bytes; `None` where it does not tell.
pub(in crate::cli) fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Copies the repository at `from` to `to`, which is new, by hard links; by bytes where links fail.
pub(in crate::cli) fn copy_by_links(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_by_links(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// A Kopia with a config and a cache of its own.
pub(in crate::cli) struct Kopia<'a> {
    /// The program.
    pub(in crate::cli) program: &'a Path,
    /// A new directory for config, cache and logs.
    pub(in crate::cli) home: &'a Path,
    /// The repository's password.
    pub(in crate::cli) password: &'a OsStr,
}

impl Kopia<'_> {
    /// Does on the copy at `repository` what the demo did, and says what it took.
    pub(in crate::cli) fn measure(
        &self,
        repository: &Path,
        work: &[&str],
    ) -> Result<KopiaCost, CliError> {
        fs::create_dir_all(self.home).map_err(|error| CliError::DemoRun {
            command: "kopia".into(),
            reason: error.to_string(),
        })?;
        let version = self.version()?;
        let path = repository.as_os_str();
        let owner = ["--override-username=default", "--override-hostname=default"].map(OsStr::new);
        let connect = ["repository", "connect", "filesystem", "--path"].map(OsStr::new);
        self.run(&[&connect[..], &[path], &owner[..]].concat())?;
        let work: Vec<&OsStr> = work.iter().map(OsStr::new).collect();
        let outcome = self.run(&work)?;
        Ok(KopiaCost {
            version,
            seconds: (outcome.duration.as_secs_f64() * 100.0).round() / 100.0,
            peak_memory_bytes: outcome.peak_memory_bytes,
            source: "measured now, on a copy, without a limit".into(),
        })
    }

    fn run(&self, arguments: &[&OsStr]) -> Result<Outcome, CliError> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .arg("--config-file")
            .arg(self.home.join("repository.config"))
            .arg("--log-dir")
            .arg(self.home.join("logs"))
            .env("KOPIA_PASSWORD", self.password)
            .env("KOPIA_CACHE_DIRECTORY", self.home.join("cache"))
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_PERSIST_CREDENTIALS_ON_CONNECT", "false");
        let words: Vec<_> = arguments
            .iter()
            .take(2)
            .map(|word| word.to_string_lossy())
            .collect();
        let failed = |reason: String| CliError::DemoRun {
            command: format!("{} {}", self.program.display(), words.join(" ")),
            reason,
        };
        let outcome = child::run(&mut command, &mut |_| ()).map_err(|e| failed(e.to_string()))?;
        if !outcome.status.success() {
            let last = outcome.standard_error.lines().last().unwrap_or_default();
            return Err(failed(format!("{}: {last}", outcome.status)));
        }
        Ok(outcome)
    }

    fn version(&self) -> Result<String, CliError> {
        let output = Command::new(self.program).arg("--version").output();
        let output = output.map_err(|error| CliError::DemoRun {
            command: format!("{} --version", self.program.display()),
            reason: error.to_string(),
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .split_whitespace()
            .next()
            .unwrap_or("of unknown version")
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measured_sizes_are_quoted() {
        let size = Size {
            entries: 5_000_000,
            index_blobs: 1_000,
        };
        let quoted = quote(size).unwrap();
        assert!(quoted.source.contains("2026-11-23") && quoted.source.contains("EPYC"));
        assert_eq!(
            quote(Size {
                entries: 5_000_001,
                ..size
            }),
            None
        );
        assert!(estimated_bytes(size) > quoted.peak_memory_bytes);
        let other = Size {
            entries: 2_000_000,
            ..size
        };
        let said = nearest(other).unwrap();
        assert!(
            said.contains("36 s and 1.6 GiB for 5,000,000 entries"),
            "{said}"
        );
    }

    #[test]
    fn a_listed_kopia_wins_over_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kopia");
        fs::write(&file, "").unwrap();
        let path = directory.path().as_os_str();
        assert_eq!(find(None, Some(path)), Some(file.clone()));
        assert_eq!(find(None, None), None);
        let listed = format!("/nonexistent,{}", file.display());
        assert_eq!(find(Some(listed.as_ref()), None), Some(file));
        assert_eq!(find(Some("/nonexistent".as_ref()), Some(path)), None);
    }

    #[test]
    fn a_copy_has_every_file() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        fs::create_dir_all(from.join("x/n0_")).unwrap();
        fs::write(from.join(".shards"), "{}").unwrap();
        fs::write(from.join("x/n0_/1.f"), "1").unwrap();
        copy_by_links(&from, &to).unwrap();
        assert_eq!(fs::read(to.join(".shards")).unwrap(), b"{}");
        assert_eq!(fs::read(to.join("x/n0_/1.f")).unwrap(), b"1");
    }
}
