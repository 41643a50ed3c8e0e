//! Compares index sets that should be equivalent: for every content, the best entry of each of
//! them.
//!
//! The sets are loaded with a source number each; one merge then shows them side by side. It proves
//! that nothing is lost before superseded blobs are deleted, and finds what a poorer set hides.
//! Memory: one record for each of at most 256 sources.

use super::RepositoryError;
use super::index_load::Loaded;
use super::winners::beats;

/// One content in all sets: the best entry of every source that has any, by ascending source.
pub struct Group<'a> {
    loaded: &'a Loaded,
    sources: &'a [u8],
    records: &'a [u8],
}

impl Group<'_> {
    /// Returns the number of the target.
    pub fn target(&self) -> u8 {
        self.loaded.layout.target(self.records)
    }

    /// Returns the key of the content.
    pub fn key(&self) -> &[u8] {
        self.loaded.layout.key(self.records)
    }

    /// Returns the sources that have the content, with their best record.
    pub fn each(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let bytes = self.loaded.layout.record_bytes();
        self.sources
            .iter()
            .copied()
            .zip(self.records.chunks_exact(bytes))
    }

    /// Returns the best record of a source.
    pub fn of(&self, source: u8) -> Option<&[u8]> {
        self.each()
            .find(|(other, _)| *other == source)
            .map(|(_, record)| record)
    }

    /// Returns the best record of all sources.
    pub fn best(&self) -> Result<&[u8], RepositoryError> {
        let mut best: Option<&[u8]> = None;
        for (_, record) in self.each() {
            best = match best {
                Some(best) if !self.beats(record, best)? => Some(best),
                _ => Some(record),
            };
        }
        best.ok_or(RepositoryError::Interrupted)
    }

    /// Returns whether a reader who finds `found` misses `wanted`.
    pub fn misses(&self, found: Option<&[u8]>, wanted: &[u8]) -> Result<bool, RepositoryError> {
        found.map_or(Ok(true), |found| self.beats(wanted, found))
    }

    fn beats(&self, a: &[u8], b: &[u8]) -> Result<bool, RepositoryError> {
        beats(self.loaded.layout, &self.loaded.packs, a, b)
    }
}

/// Calls `visit` for every content of every target.
pub fn compare_sets(
    loaded: &Loaded,
    visit: &mut dyn FnMut(&Group<'_>) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let layout = loaded.layout;
    let mut merge = loaded.records.merge()?;
    let (mut sources, mut records): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    while let Some(record) = merge.next()? {
        let bytes = layout.record_bytes();
        if !records.is_empty() && layout.group(&records) != layout.group(record) {
            visit(&Group {
                loaded,
                sources: &sources,
                records: &records,
            })?;
            sources.clear();
            records.clear();
        }
        if sources.last() == Some(&layout.source(record)) {
            let at = records.len() - bytes;
            if beats(layout, &loaded.packs, record, &records[at..])? {
                records.truncate(at);
                records.extend_from_slice(record);
            }
        } else {
            sources.push(layout.source(record));
            records.extend_from_slice(record);
        }
    }
    if records.is_empty() {
        return Ok(());
    }
    visit(&Group {
        loaded,
        sources: &sources,
        records: &records,
    })
}
