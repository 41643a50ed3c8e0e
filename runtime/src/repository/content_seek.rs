//! Looks up contents in a table, in the order of their keys: galloping, so that few look-ups read
//! little and many become one pass.
//!
//! Keys must ascend. From where the last look-up ended the table is read on in windows that grow as
//! long as they are of use; a key that lies far ahead is found by doubling steps and a binary
//! search, a few bytes each. Memory: one window of at most [`WINDOW_BYTES_MAX`]. Invariant: the
//! same answers as a look-up from the start.

use super::RepositoryError;
use super::content_table::ContentTable;
use super::record::RECORD_BYTES_MAX;

/// First window behind a jump, in bytes: a page.
const WINDOW_BYTES_MIN: usize = 4 * 1024;

/// Largest window, in bytes.
const WINDOW_BYTES_MAX: usize = 64 * 1024;

/// A look-up in progress.
pub(super) struct ContentSeeker<'t> {
    table: &'t ContentTable,
    /// Rows `first..first + rows` of the table.
    window: Vec<u8>,
    first: u64,
    rows: u64,
    /// Row of the window that was found last, or the first that was not smaller.
    at: u64,
    window_bytes: usize,
}

impl<'t> ContentSeeker<'t> {
    /// Stands before the first content of `table`.
    pub(super) fn new(table: &'t ContentTable) -> Self {
        Self {
            table,
            window: Vec::new(),
            first: 0,
            rows: 0,
            at: 0,
            window_bytes: WINDOW_BYTES_MIN,
        }
    }

    /// Returns number and record of the content with `key`, `None` when there is none. Keys must
    /// not descend from call to call.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<Option<(u64, &[u8])>, RepositoryError> {
        let layout = self.table.layout;
        let last = self.rows.checked_sub(1).map(|row| self.record(row));
        if last.is_none_or(|record| layout.key(record) < key) {
            self.advance(key)?;
        }
        let (mut first, mut end) = (self.at, self.rows);
        while first < end {
            let middle = first + (end - first) / 2;
            if layout.key(self.record(middle)) < key {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        self.at = first;
        let found = first < self.rows && layout.key(self.record(first)) == key;
        Ok(found.then(|| (self.first + first, self.record(first))))
    }

    fn record(&self, row: u64) -> &[u8] {
        let bytes = self.table.layout.record_bytes();
        let at = row as usize * bytes;
        self.window.get(at..at + bytes).unwrap_or_default()
    }

    /// Reads the window in which `key` would be; all of the present one is smaller.
    fn advance(&mut self, key: &[u8]) -> Result<(), RepositoryError> {
        let next = self.first + self.rows;
        self.read_window(next)?;
        if self.reaches(key) {
            self.window_bytes = (self.window_bytes * 2).min(WINDOW_BYTES_MAX);
            return Ok(());
        }
        self.window_bytes = WINDOW_BYTES_MIN;
        // Double the distance until the key is passed; it then lies in the last step.
        let (mut low, mut step) = (self.first + self.rows, self.rows);
        let mut high = loop {
            let probe = low.saturating_add(step);
            if probe >= self.table.contents() {
                break self.table.contents();
            }
            if self.is_before(probe, key)? {
                low = probe + 1;
                step = step.saturating_mul(2);
            } else {
                break probe;
            }
        };
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_before(middle, key)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.read_window(low)
    }

    /// Returns whether nothing behind the window can be `key`.
    fn reaches(&self, key: &[u8]) -> bool {
        let Some(last) = self.rows.checked_sub(1) else {
            return true; // the end of the table
        };
        self.first + self.rows == self.table.contents()
            || self.table.layout.key(self.record(last)) >= key
    }

    fn is_before(&self, row: u64, key: &[u8]) -> Result<bool, RepositoryError> {
        let mut record = [0; RECORD_BYTES_MAX];
        let record = &mut record[..self.table.layout.record_bytes()];
        self.table.read_rows(row, record)?;
        Ok(self.table.layout.key(record) < key)
    }

    fn read_window(&mut self, first: u64) -> Result<(), RepositoryError> {
        let bytes = self.table.layout.record_bytes();
        let most = (self.window_bytes / bytes).max(1) as u64;
        self.rows = most.min(self.table.contents().saturating_sub(first));
        self.window.resize(self.rows as usize * bytes, 0);
        self.table.read_rows(first, &mut self.window)?;
        (self.first, self.at) = (first, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pack_world::{NOW, Shape, World};
    use super::*;
    use crate::kopia::content_id::ContentId;

    /// A table of `count` contents, prefixed ones among them; their keys, ascending.
    fn table(count: u32) -> (World, ContentTable, Vec<Vec<u8>>) {
        let world = World::new(Shape::default());
        let contents: Vec<_> = (0..count)
            .map(|number| {
                let prefix = (number % 5 == 0).then_some(b'k');
                (prefix, number.to_be_bytes().to_vec())
            })
            .collect();
        world.write(&contents, NOW.seconds() - 1_000, false);
        let (_, table) = world.table().unwrap();
        let keys = contents.iter().map(|(prefix, plain)| {
            let hash = world.repository.crypto.hash.hash(plain);
            ContentId::from_hash(*prefix, &hash).unwrap().key().to_vec()
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        (world, table, keys)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Goal: whatever ascending keys are asked for, near and far, there and not: the same rows
        /// as a look-up in memory gives.
        #[test]
        fn answers_are_those_of_a_look_up_in_memory(
            count in prop_oneof![0_u32..3, 3_u32..3_000],
            steps in prop::collection::vec(
                (prop_oneof![1_usize..4, 1_usize..900], any::<bool>()),
                0..200,
            ),
        ) {
            let (_world, table, keys) = table(count);
            let mut seeker = ContentSeeker::new(&table);
            let mut at = 0;
            for (step, absent) in steps {
                at += step;
                let mut key = keys.get(at).cloned().unwrap_or_else(|| vec![0xff; 17]);
                if absent {
                    key.push(0); // right behind the key
                }
                let found = seeker.seek(&key).unwrap();
                let found = found.map(|(row, record)| (row, table.key(record).to_vec()));
                let told = keys.binary_search(&key).ok();
                prop_assert_eq!(found, told.map(|row| (row as u64, key)));
            }
        }
    }
}
