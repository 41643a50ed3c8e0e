//! `careen verify --contents`: reads contents and proves that they are what their IDs say.
//!
//! In the order of packs, in large ranged reads, two threads at work: the tag of each content is
//! verified, it is decompressed, and the keyed hash of what comes out is compared with the content
//! ID.
//!
//! A sample is the same in every run: contents whose ID, a hash, is among the lowest of that share,
//! so a larger sample contains a smaller one. Memory: the plan's phases "load and sort", "merge and
//! encode" and "verify contents". Mirrors Kopia's `content verify --full`, which makes a GET for
//! each content.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use crate::kopia::FormatError;
use crate::kopia::content_id::ContentId;
use crate::kopia::hashing::HashFunction;
use crate::memory::WORKERS;
use crate::repository::active_index::{ActiveIndex, with_fresh_listings};
use crate::repository::content_requests::{
    Body, ContentRequests, ContentSource, Requested, SortedRequests, TakeContents,
};
use crate::repository::content_table::ContentTable;
use crate::repository::faults::Faults;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::Findings;

/// Which contents are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContentOptions {
    /// How many of all, in percent.
    pub percent: f64,
    /// Whether deleted contents are read as well; Kopia may need to undelete them.
    pub deleted: bool,
}

/// What was read and what was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContentsReport {
    /// Contents that there are, deleted ones only if they were asked for.
    pub contents: u64,
    /// Share of them that was to be read, in percent.
    pub percent: f64,
    /// Those that were to be read.
    pub chosen: u64,
    /// Their bytes as stored.
    pub chosen_bytes: u64,
    /// Those whose hash is their ID.
    pub hashed: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub found: Findings,
}

/// Reads contents and checks each.
///
/// # Errors
/// An index that cannot be loaded, and what keeps us from looking; never what is found.
pub fn verify_contents(
    repository: &Repository,
    workspace: &Workspace,
    options: &ContentOptions,
) -> Result<ContentsReport, RepositoryError> {
    let (table, gaps) = with_fresh_listings(|| {
        let active = ActiveIndex::find(repository, workspace)?;
        let gaps = active.check_nothing_vanished().err();
        Ok((ContentTable::load(repository, workspace, &active)?, gaps))
    })?;
    let mut report = ContentsReport {
        percent: options.percent,
        ..ContentsReport::default()
    };
    let requests = choose(workspace, &table, options, &mut report)?;
    let hash = &repository.crypto.hash;
    let mut workers: [ContentHasher<'_>; WORKERS] =
        std::array::from_fn(|_| ContentHasher { hash, hashed: 0 });
    let faults = Faults::default();
    let source = ContentSource {
        packs: &table.packs,
        formats: &table.formats,
    };
    let (total, noting) = (Some(report.chosen), Some(&faults));
    workspace.step("read contents", "contents", total, || {
        requests.read(repository, workspace, source, None, noting, &mut workers)
    })?;
    for worker in &workers {
        report.hashed += worker.hashed;
    }
    let noted = faults.into_noted();
    report.found = noted.damaged;
    report.found.add_gaps(gaps)?;
    report.found.append(noted.packs);
    Ok(report)
}

/// Sorts the contents that are to be read by their places.
fn choose(
    workspace: &Workspace,
    table: &ContentTable,
    options: &ContentOptions,
    report: &mut ContentsReport,
) -> Result<SortedRequests, RepositoryError> {
    let mut requests = ContentRequests::for_all(workspace, table.layout.key_bytes);
    let mut records = table.stream()?.drop_behind();
    while let Some(record) = records.next()? {
        let (key, fields) = (table.key(record), table.fields(record));
        if fields.deleted && !options.deleted {
            continue;
        }
        report.contents += 1;
        if is_chosen(key, options.percent) {
            report.chosen += 1;
            report.chosen_bytes += u64::from(fields.packed_length);
            requests.push(key, &fields, 0, 0)?;
        }
    }
    let window_bytes = workspace.memory.verify_read_bytes();
    Ok(requests.finish()?.in_windows(window_bytes))
}

/// Returns whether the content with `key` is in a sample of `percent`.
fn is_chosen(key: &[u8], percent: f64) -> bool {
    // Behind the prefix comes a hash, so every range of it has its share of the contents.
    let number = key.get(1..5).and_then(|hash| hash.first_chunk());
    let number = u32::from_be_bytes(number.copied().unwrap_or_default());
    f64::from(number) < percent / 100.0 * 2f64.powi(32)
}

/// Checks contents, on one thread.
struct ContentHasher<'a> {
    hash: &'a HashFunction,
    hashed: u64,
}

impl TakeContents for ContentHasher<'_> {
    fn take(&mut self, content: &Requested<'_>, body: Body<'_, '_>) -> Result<(), RepositoryError> {
        let mut hasher = self.hash.hasher();
        body.pieces(false, &mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        let digest = hasher.finish();
        if digest[..] != *ContentId::from_key(content.key)?.hash() {
            let digest = digest.to_hex();
            let reason = format!("the hash of what it holds is {digest}, not its ID");
            return Err(FormatError::malformed(content.to_string(), reason).into());
        }
        self.hashed += 1;
        Ok(())
    }
}

impl fmt::Display for ContentsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = ByteSize(self.chosen_bytes);
        writeln!(
            f,
            "contents: {} of {} read, {bytes}",
            self.chosen, self.contents
        )?;
        if self.percent < 100.0 {
            let percent = self.percent;
            writeln!(
                f,
                "note: a sample of {percent} %, by content ID: the same contents in every run"
            )?;
        }
        self.found.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_sample_contains_a_smaller_one_and_has_its_share() {
        let keys: Vec<[u8; 17]> = (0..10_000u32)
            .map(|number| {
                let hash = number.wrapping_mul(2_654_435_761).to_be_bytes();
                let mut key = [7; 17];
                key[1..5].copy_from_slice(&hash);
                key
            })
            .collect();
        let chosen = |percent| keys.iter().map(move |key| is_chosen(key, percent));
        let mut before = vec![false; keys.len()];
        for percent in [0.1, 1.0, 10.0, 50.0, 100.0] {
            let now: Vec<bool> = chosen(percent).collect();
            assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
            let share = now.iter().filter(|chosen| **chosen).count() as f64 / 100.0;
            assert!((share - percent).abs() <= percent / 20.0 + 0.05, "{share}");
            before = now;
        }
        assert!(before.iter().all(|chosen| *chosen));
        assert!(is_chosen(&[0xff; 17], 100.0), "the last one too");
    }
}
